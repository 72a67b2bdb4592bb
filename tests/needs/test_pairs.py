"""Captions and their pictures as training reads them: which captions have one, its features and objects, and what belongs to which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.core import paths
from pipeline.core.artefacts import seal
from pipeline.core.files import digest_file
from pipeline.features.stores import Origin, write_store
from pipeline.features.tagging import Detection
from pipeline.needs.base import PictureNeed, read
from pipeline.needs.images import Images, PseudoFeatures
from pipeline.needs.pairs import Paired, Pairs
from pipeline.needs.tags import Objects
from tests.artefacts import (
    CLIP,
    CLIP_DIGEST,
    DETECTOR,
    LABELS,
    PAIR_STORES,
    edit_table,
    write_corpus,
    write_found,
    write_pair_store,
    write_pairs,
)

ROWS = [1, 4, 5, 9]
FOUND = [["cat", "dog"], [], ["sun"], ["dog", "cat", "sun", "tree"]]  # the surest first
DRAWN = paths.drawn("scenes")
TABLE = paths.image_table(DRAWN)
REAL = paths.image_table("scenes")
SWITCHES = list(PAIR_STORES.values())


@pytest.fixture(autouse=True)
def _in_a_fresh_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def detections(found: Sequence[Sequence[str]]) -> list[list[Detection]]:
    return [[Detection(label, 0.9 - 0.1 * place, (0.0, 0.0, 1.0, 1.0)) for place, label in enumerate(each)] for each in found]


@pytest.fixture
def drawn(unit_rows) -> np.ndarray:
    """A corpus of twelve captions, four of them drawn; the pseudo-features as they were written."""
    features = unit_rows(4, 8, 3)
    write_corpus("scenes", [f"caption {row}" for row in range(12)], heldout=[4])
    write_pairs("scenes", ROWS, features, detections(FOUND))
    return features


def pairs(refined: bool = False, projected: bool = False, limit: int = 10, tags: bool = True) -> Pairs:
    """As SynTIC's switches choose them."""
    of: tuple[PictureNeed[Any], ...] = (PseudoFeatures(refined, projected), *((Objects(DETECTOR, limit),) if tags else ()))
    return Pairs(of)


def load(*switches: bool, **choices: Any) -> Paired:
    return read((pairs(*switches, **choices),), CLIP, DRAWN).of(Pairs)


def test_each_caption_finds_its_own_picture_and_the_others_find_none(drawn):
    pairs = load()
    assert pairs.picture_of.tolist() == [-1, 0, -1, -1, 1, 2, -1, -1, -1, 3, -1, -1]
    # half precision rounds each number below 1 by at most 2 ** -12
    np.testing.assert_allclose(pairs.pictures.of(PseudoFeatures).numpy(), drawn, atol=2**-12)


def test_what_is_known_of_captions_pictures_comes_in_the_captions_order(drawn):
    known = load()[torch.tensor([9, 1, 5])]
    np.testing.assert_allclose(known.of(PseudoFeatures).numpy(), drawn[[3, 0, 2]], atol=2**-12)
    assert [[LABELS[i] for i in row if i >= 0] for row in known.of(Objects).ids.tolist()] == [FOUND[3], FOUND[0], FOUND[2]]


def test_each_picture_comes_with_its_own_objects(drawn):
    objects = load().pictures.of(Objects)
    assert [[LABELS[i] for i in row if i >= 0] for row in objects.ids.tolist()] == FOUND
    assert torch.equal(objects.labels, torch.eye(8)[:4])
    assert load(limit=2).pictures.of(Objects).ids.tolist() == [[0, 1], [-1, -1], [3, -1], [1, 0]]


def test_objects_are_not_read_where_no_method_asks(drawn):
    (paths.tagged(CLIP, DETECTOR, DRAWN) / "objects.parquet").unlink()
    assert len(load(tags=False).pictures) == 4


@pytest.mark.parametrize(("name", "switches"), PAIR_STORES.items())
def test_the_switches_choose_the_pseudo_features(drawn, unit_rows, name, switches):
    for number, other in enumerate(PAIR_STORES):
        write_pair_store("scenes", other, unit_rows(4, 8, 50 + number))
    found = load(*switches, tags=False).pictures.of(PseudoFeatures).numpy()
    np.testing.assert_allclose(found, unit_rows(4, 8, 50 + list(PAIR_STORES).index(name)), atol=2**-12)


@pytest.mark.parametrize("switches", SWITCHES)
def test_only_a_change_of_what_is_read_trains_again(drawn, unit_rows, switches):
    for name in PAIR_STORES:
        write_pair_store("scenes", name, unit_rows(4, 8, 0))
    before = pairs(*switches, tags=False).digest(CLIP, DRAWN)
    for number, name in enumerate(PAIR_STORES):
        write_pair_store("scenes", name, unit_rows(4, 8, 1))
        changed = pairs(*switches, tags=False).digest(CLIP, DRAWN)
        assert (changed != before) == (SWITCHES[number] == switches)
        before = changed


def test_a_change_of_captions_or_of_what_was_found_trains_again(drawn):
    before = pairs().digest(CLIP, DRAWN)
    write_found(DRAWN, detections(FOUND[::-1]))
    found = pairs().digest(CLIP, DRAWN)
    table = pq.read_table(paths.corpus_table(DRAWN))
    edit_table(paths.corpus_table(DRAWN), table.set_column(2, "text", pa.array(["another caption"] * 12)))
    assert len({str(each) for each in (before, found, pairs().digest(CLIP, DRAWN))}) == 3


def test_a_caption_keeps_its_picture_where_the_captions_are_put_in_another_order(drawn):
    order = [*range(1, 12), 0]
    edit_table(paths.corpus_table(DRAWN), pq.read_table(paths.corpus_table(DRAWN)).take(order))
    assert load().picture_of.tolist() == [0, -1, -1, 1, 2, -1, -1, -1, 3, -1, -1, -1]


@pytest.mark.parametrize(("refined", "projected"), SWITCHES)
def test_pseudo_features_of_other_pictures_are_refused(drawn, unit_rows, user_error, refined, projected):
    for name in PAIR_STORES:
        write_pair_store("scenes", name, unit_rows(4, 8, 0))
    load(refined, projected, tags=False)
    edit_table(TABLE, pq.read_table(TABLE).slice(0, 3))
    assert "was made from another table" in user_error(load, refined, projected, tags=False)


def test_objects_of_other_pictures_are_refused(drawn, unit_rows, user_error):
    edit_table(TABLE, pq.read_table(TABLE).slice(0, 3))
    write_pair_store("scenes", "drawn", unit_rows(3, 8, 0))
    assert "was made from other images" in user_error(load)
    load(tags=False)


def test_objects_in_another_clips_space_than_the_pictures_features_are_refused(drawn, unit_rows, user_error):
    write_pair_store("scenes", "drawn", unit_rows(4, 8, 0), clip_digest="e" * 64)
    assert f"another CLIP {CLIP} than" in user_error(load)


def test_missing_pictures_are_named(drawn, user_error):
    TABLE.unlink()
    assert f"{TABLE} is missing" in user_error(load)


@pytest.fixture
def pictured(unit_rows) -> np.ndarray:
    """Twelve captions of three images, of which the data set has pictures of the second and third beside two of no caption."""
    features = unit_rows(4, 8, 6)
    write_corpus("scenes", [f"caption {row}" for row in range(12)])
    ids = ["2", "v1", "1", "v2"]
    pq.write_table(pa.table({"image_id": ids, "path": [f"{key}.png" for key in ids], "split": ["train", "val", "train", "test"]}), REAL)
    seal(paths.corpus("scenes"))
    write_store(paths.image_features(CLIP, "scenes"), features, Origin(CLIP, CLIP_DIGEST, 8, "none", digest_file(REAL), "float32"))
    seal(paths.image_features(CLIP, "scenes"))
    return features


def paired() -> Paired:
    return read((Pairs((Images(),)),), CLIP, "scenes").of(Pairs)


def test_all_captions_of_an_image_find_its_real_picture(pictured):
    assert paired().picture_of.tolist() == [-1] * 5 + [2] * 5 + [0] * 2
    np.testing.assert_allclose(paired().pictures.of(Images).numpy(), pictured, atol=2**-12)


def test_a_data_set_without_pictures_of_its_captions_says_what_to_set(pictured, user_error):
    edit_table(REAL, pq.read_table(REAL).take([1, 3]))
    assert "set extract.scenes.paired to true" in user_error(paired)


def test_captions_of_no_image_find_no_picture(pictured):
    table = pq.read_table(paths.corpus_table("scenes"))
    unknown = table.set_column(1, "image_id", pa.array([None] * 7 + ["1"] * 5, pa.string()))
    edit_table(paths.corpus_table("scenes"), unknown)
    assert paired().picture_of.tolist() == [-1] * 7 + [2] * 5


def test_features_of_other_real_pictures_are_refused(pictured, user_error):
    edit_table(REAL, pq.read_table(REAL).take([0, 2, 1, 3]))
    assert "was made from another table" in user_error(paired)
