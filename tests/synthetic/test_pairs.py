"""Captions and their pictures as training reads them: which captions have one, its features and objects, and what belongs to which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.core import paths
from pipeline.core.artefacts import seal
from pipeline.core.files import digest_file
from pipeline.core.paths import ImageSet
from pipeline.features.data import Pairs
from pipeline.features.stores import Origin, write_store
from pipeline.features.tagging import Detection
from pipeline.inputs import Training
from pipeline.synthetic.pairs import drawn_captions, pictured_captions, pseudo_features
from pipeline.systems import System, make_method
from tests.artefacts import (
    CLIP,
    CLIP_DIGEST,
    DETECTOR,
    LABELS,
    PAIR_STORES,
    edit_table,
    seal_again,
    write_corpus,
    write_pair_store,
    write_pairs,
)

CPU = torch.device("cpu")
ROWS = [1, 4, 5, 9]
FOUND = [["cat", "dog"], [], ["sun"], ["dog", "cat", "sun", "tree"]]  # the surest first
DRAWN = ImageSet("scenes", drawn=True)
SWITCHES = [(False, False), (True, False), (False, True), (True, True)]


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


def training(refined: bool = False, projected: bool = False, limit: int = 10, tags: bool = True, kind: str = "synthetic") -> Training:
    """Of a SynTIC system, whose switches choose what is read; kind: of pictures, drawn or real."""
    train = {"optimize": refined, "project": projected, "objects": tags, "detector": DETECTOR, "limit": limit}
    system = System("syntic", CLIP, "scenes", f"foundation/{CLIP}", f"{CLIP}/{kind}", f"{CLIP}/tagged", f"{CLIP}/text", "small",
                    "small", "pictures", train=train, caption={"temperature": {"scenes": 0.1}})
    return Training(system, make_method("syntic", system))


def load(refined: bool = False, projected: bool = False, **choices: object) -> Pairs:
    pairs = training(refined, projected, **choices).load(CPU).pairs
    assert pairs is not None
    return pairs


def test_each_caption_finds_its_own_picture_and_the_others_find_none(drawn):
    pairs = load()
    assert pairs.picture_of.tolist() == [-1, 0, -1, -1, 1, 2, -1, -1, -1, 3, -1, -1]
    assert drawn_captions("scenes") == ROWS
    # half precision rounds each number below 1 by at most 2 ** -12
    np.testing.assert_allclose(pairs.pictures.features.numpy(), drawn, atol=2**-12)


def test_each_picture_comes_with_its_own_objects(drawn):
    objects = load().pictures.objects
    assert [[LABELS[i] for i in row if i >= 0] for row in objects.ids.tolist()] == FOUND
    assert torch.equal(objects.labels, torch.eye(8)[:4])
    assert load(limit=2).pictures.objects.ids.tolist() == [[0, 1], [-1, -1], [3, -1], [1, 0]]


def test_objects_are_not_read_where_no_method_asks(drawn):
    (DRAWN.tagged(CLIP, DETECTOR) / "objects.parquet").unlink()
    assert load(tags=False).pictures.objects is None


@pytest.mark.parametrize(("switches", "name"), list(zip(SWITCHES, PAIR_STORES, strict=True)))
def test_the_switches_choose_the_pseudo_features(drawn, unit_rows, switches, name):
    for number, other in enumerate(PAIR_STORES):
        write_pair_store("scenes", other, unit_rows(4, 8, 50 + number))
    assert pseudo_features(CLIP, "scenes", *switches) == paths.synthetic_features(CLIP, "scenes") / name
    np.testing.assert_allclose(load(*switches).pictures.features.numpy(), unit_rows(4, 8, 50 + PAIR_STORES.index(name)), atol=2**-12)


@pytest.mark.parametrize("switches", SWITCHES)
def test_only_a_change_of_what_is_read_trains_again(drawn, unit_rows, switches):
    for name in PAIR_STORES:
        write_pair_store("scenes", name, unit_rows(4, 8, 0))
    before = training(*switches).digest()
    for number, name in enumerate(PAIR_STORES):
        write_pair_store("scenes", name, unit_rows(4, 8, 1))
        changed = training(*switches).digest()
        assert (changed != before) == (SWITCHES[number] == switches)
        before = changed


def test_a_caption_keeps_its_picture_where_the_corpus_is_put_in_another_order(drawn):
    order = [*range(1, 12), 0]
    edit_table(paths.corpus_table("scenes"), pq.read_table(paths.corpus_table("scenes")).take(order))
    assert drawn_captions("scenes") == [order.index(row) for row in ROWS]
    assert load().picture_of.tolist() == [0, -1, -1, 1, 2, -1, -1, -1, 3, -1, -1, -1]


def test_pairs_of_another_corpus_are_refused(drawn, user_error):
    write_corpus("other", [f"caption {row}" for row in range(12)])
    paths.corpus_table("other").replace(paths.corpus_table("scenes"))
    seal_again(paths.corpus("scenes"))
    assert "was made from another corpus" in user_error(load)


def test_pairs_of_a_corpus_that_shrank_are_refused(drawn, user_error):
    write_corpus("scenes", [f"caption {row}" for row in range(8)])
    assert "was made from another corpus" in user_error(load)


def test_pairs_of_a_corpus_with_other_sentences_under_the_same_numbers_are_refused(drawn, user_error):
    write_corpus("scenes", [f"another caption {row}" for row in range(12)])
    assert "was made from another corpus" in user_error(load)


@pytest.mark.parametrize(("refined", "projected"), SWITCHES)
def test_pseudo_features_of_other_pictures_are_refused(drawn, unit_rows, user_error, refined, projected):
    for name in PAIR_STORES:
        write_pair_store("scenes", name, unit_rows(4, 8, 0))
    load(refined, projected)
    edit_table(DRAWN.table, pq.read_table(DRAWN.table).slice(0, 3))
    assert "was made from another table" in user_error(load, refined, projected)


def test_objects_of_other_pictures_are_refused(drawn, unit_rows, user_error):
    edit_table(DRAWN.table, pq.read_table(DRAWN.table).slice(0, 3))
    write_pair_store("scenes", "drawn", unit_rows(3, 8, 0))
    assert "was made from other images" in user_error(load)
    load(tags=False)


def test_objects_in_another_clips_space_than_the_pictures_features_are_refused(drawn, unit_rows, user_error):
    write_pair_store("scenes", "drawn", unit_rows(4, 8, 0), clip_digest="e" * 64)
    assert "another CLIP" in user_error(load)


def test_missing_pictures_are_named(user_error):
    write_corpus("scenes", ["a caption"])
    assert f"{DRAWN.table} is missing" in user_error(load)
    assert f"{DRAWN.table} is missing" in user_error(drawn_captions, "scenes")


@pytest.fixture
def pictured(unit_rows) -> np.ndarray:
    """Twelve captions of three images, of which the data set has pictures of the second and third beside two of no caption."""
    features = unit_rows(4, 8, 6)
    write_corpus("scenes", [f"caption {row}" for row in range(12)])
    pictures = ImageSet("scenes")
    ids = ["2", "v1", "1", "v2"]
    pq.write_table(pa.table({"image_id": ids, "path": [f"{key}.png" for key in ids], "split": ["train", "val", "train", "test"]}),
                   pictures.table)
    seal(paths.corpus("scenes"))
    write_store(pictures.features(CLIP), features, Origin(CLIP, CLIP_DIGEST, 8, "none", digest_file(pictures.table), "float32"))
    seal(pictures.features(CLIP))
    return features


def paired() -> Training:
    return training(tags=False, kind="image")


def test_all_captions_of_an_image_find_its_real_picture(pictured):
    assert pictured_captions("scenes") == [-1] * 5 + [2] * 5 + [0] * 2
    pairs = paired().load(CPU).pairs
    assert pairs.picture_of.tolist() == pictured_captions("scenes")
    np.testing.assert_allclose(pairs.pictures.features.numpy(), pictured, atol=2**-12)


def test_a_data_set_without_pictures_of_its_captions_says_what_to_set(pictured, user_error):
    pictures = ImageSet("scenes")
    edit_table(pictures.table, pq.read_table(pictures.table).take([1, 3]))
    assert "set extract.scenes.paired to true" in user_error(pictured_captions, "scenes")


def test_captions_of_no_image_find_no_picture(pictured):
    table = pq.read_table(paths.corpus_table("scenes"))
    unknown = table.set_column(1, "image_id", pa.array([None] * 7 + ["1"] * 5, pa.string()))
    edit_table(paths.corpus_table("scenes"), unknown)
    assert pictured_captions("scenes") == [-1] * 7 + [2] * 5


def test_features_of_other_real_pictures_are_refused(pictured, user_error):
    pictures = ImageSet("scenes")
    edit_table(pictures.table, pq.read_table(pictures.table).take([0, 2, 1, 3]))
    assert "was made from another table" in user_error(paired().load, CPU)
