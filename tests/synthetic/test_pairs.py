"""Synthetic pairs and object tags as training reads them: which captions are drawn, and what belongs to which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from pipeline.core import paths
from pipeline.features.tagging import Detection
from pipeline.methods.base import Pairs
from pipeline.synthetic.pairs import choose_rows, label_encoder, load_pairs, objects_of, pair_features, read_objects
from tests.artefacts import LABELS, PAIR_STORES, write_corpus, write_pair_store, write_pairs

CPU = torch.device("cpu")
ROWS = [1, 4, 5, 9]
FOUND = [[("cat", 0.7), ("dog", 0.9), ("cat", 0.95), ("cat", 0.6)], [], [("sun", 0.5)],
         [("tree", 0.3), ("dog", 0.6), ("cat", 0.4), ("sun", 0.35)]]


@pytest.fixture(autouse=True)
def _in_a_fresh_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def splits(train: int, heldout: int, seed: int = 0) -> list[str]:
    return np.random.default_rng(seed).permutation(["train"] * train + ["heldout"] * heldout).tolist()


@pytest.mark.parametrize(("count", "heldout"), [(100, 5), (40, 2), (30, 1), (2, 1)])
def test_one_in_twenty_of_the_captions_drawn_is_held_out(count, heldout):
    names = splits(180, 20)
    rows = choose_rows(names, count)
    assert [names[row] for row in rows].count("heldout") == heldout
    assert len(rows) == count


def test_the_captions_drawn_are_distinct_rows_of_the_corpus_in_its_order():
    rows = choose_rows(splits(180, 20), 150)
    assert (np.diff(rows) > 0).all()
    assert rows[0] >= 0
    assert rows[-1] < 200


def test_the_choice_is_random_yet_the_same_every_time():
    names = splits(180, 20)
    np.testing.assert_array_equal(choose_rows(names, 50), choose_rows(names, 50))
    # the first rows of the corpus would be the captions of its first pictures
    assert np.median(choose_rows(names, 50)) > 60
    assert choose_rows(splits(181, 20), 50).tolist() != choose_rows(names, 50).tolist()


@pytest.mark.parametrize("count", [None, 200, 5000])
def test_all_captions_are_drawn_where_no_fewer_are_asked_for(count):
    np.testing.assert_array_equal(choose_rows(splits(180, 20), count), np.arange(200))


@pytest.mark.parametrize(("train", "heldout", "count"), [(30, 0, 20), (180, 20, 199), (30, 30, 50)])
def test_as_many_captions_are_drawn_as_asked_however_few_are_of_one_kind(train, heldout, count):
    assert len(choose_rows(splits(train, heldout), count)) == count


def encode(labels: Sequence[str]) -> Tensor:
    """A unit feature per class, in the order that was asked."""
    return torch.eye(8)[[LABELS.index(label) for label in labels]]


def detections(found: Sequence[Sequence[tuple[str, float]]]) -> list[list[Detection]]:
    return [[Detection(label, score, (0.0, 0.0, 1.0, 1.0)) for label, score in of_picture] for of_picture in found]


@pytest.fixture
def drawn(unit_rows) -> np.ndarray:
    """A corpus of twelve captions, four of them drawn; the pseudo-features as they were written."""
    features = unit_rows(4, 8, 3)
    write_corpus("scenes", [f"caption {row}" for row in range(12)], heldout=[4])
    write_pairs("scenes", ROWS, features, detections(FOUND))
    return features


def load(captions: int = 12, refined: bool = False, projected: bool = False, limit: int = 10, tags: bool = True) -> Pairs:
    return load_pairs("tiny", "scenes", captions, refined, projected, limit, CPU, encode if tags else None)


def test_each_caption_finds_its_own_picture_and_the_others_find_none(drawn):
    pairs = load()
    assert pairs.pair_of.tolist() == [-1, 0, -1, -1, 1, 2, -1, -1, -1, 3, -1, -1]
    # half precision rounds each number below 1 by at most 2 ** -12
    np.testing.assert_allclose(pairs.features.numpy(), drawn, atol=2**-12)


SWITCHES = [(False, False), (True, False), (False, True), (True, True)]


@pytest.mark.parametrize(("switches", "name"), list(zip(SWITCHES, PAIR_STORES, strict=True)))
def test_the_switches_choose_the_pseudo_features(drawn, unit_rows, switches, name):
    refined, projected = switches
    for number, other in enumerate(PAIR_STORES):
        write_pair_store("scenes", other, unit_rows(4, 8, 50 + number))
    expected = paths.synthetic("scenes") / name
    assert pair_features("tiny", "scenes", refined, projected).resolve() == expected.resolve()
    np.testing.assert_allclose(load(refined=refined, projected=projected).features.numpy(), unit_rows(4, 8, 50 + PAIR_STORES.index(name)),
                               atol=2**-12)


def test_a_pictures_objects_are_distinct_and_the_surest_come_first(drawn):
    objects = load().objects
    # of three cats the surest counts
    assert [[LABELS[i] for i in row if i >= 0] for row in objects.ids.tolist()] == [
        ["cat", "dog"], [], ["sun"], ["dog", "cat", "sun", "tree"]]
    assert torch.equal(objects.labels, torch.eye(8)[:4])


def test_no_more_objects_are_read_than_asked(drawn):
    assert load(limit=2).objects.ids.tolist() == [[0, 1], [-1, -1], [3, -1], [1, 0]]


def test_objects_are_not_read_where_no_method_asks(drawn):
    (paths.synthetic("scenes") / "tags.parquet").unlink()
    assert load(tags=False).objects is None


def test_objects_are_found_by_the_pictures_name_not_by_its_place(drawn):
    ids = ["scenes-9", "unknown", "scenes-1"]
    objects = read_objects(paths.synthetic("scenes"), ids, 10, CPU, encode)
    assert objects.ids.tolist() == [[1, 0, 3, 2], [-1] * 4, [0, 1, -1, -1]]


def test_pairs_of_another_corpus_are_refused(drawn, user_error):
    write_corpus("other", [f"caption {row}" for row in range(12)])
    paths.corpus_table("other").replace(paths.corpus_table("scenes"))
    assert "was made from another corpus" in user_error(load)


def test_pairs_of_a_corpus_in_another_order_are_refused(drawn, user_error):
    table = pq.read_table(paths.corpus_table("scenes"))
    pq.write_table(table.take([*range(1, 12), 0]), paths.corpus_table("scenes"))
    assert "was made from another corpus" in user_error(load)


def test_pairs_of_a_corpus_that_shrank_are_refused(drawn, user_error):
    write_corpus("scenes", [f"caption {row}" for row in range(8)])
    assert "was made from another corpus" in user_error(load, captions=8)


def test_pairs_of_a_corpus_with_other_sentences_under_the_same_numbers_are_refused(drawn, user_error):
    write_corpus("scenes", [f"another caption {row}" for row in range(12)])
    assert "was made from another corpus" in user_error(load)


@pytest.mark.parametrize(("refined", "projected"), SWITCHES)
def test_pseudo_features_of_other_pairs_are_refused(drawn, unit_rows, user_error, refined, projected):
    for name in PAIR_STORES:
        write_pair_store("scenes", name, unit_rows(4, 8, 0))
    load(refined=refined, projected=projected)
    pairs = paths.synthetic("scenes") / "pairs.parquet"
    table = pq.read_table(pairs)
    pq.write_table(table.slice(0, 3), pairs)
    assert "was made from another table" in user_error(load, refined=refined, projected=projected)


def test_missing_pairs_are_named(user_error):
    write_corpus("scenes", ["a caption"])
    assert "pairs.parquet is missing" in user_error(load, captions=1)


def test_thirty_objects_are_cut_to_the_limit_the_surest_kept():
    objects = objects_of([list(range(30)), [7]], 10, torch.eye(30))
    assert objects.ids.tolist() == [list(range(10)), [7, *[-1] * 9]]


def test_pictures_without_any_object_have_one_empty_place():
    assert objects_of([[], []], 10, torch.eye(3)).ids.tolist() == [[-1], [-1]]
    assert objects_of([], 10, torch.eye(3)).ids.shape == (0, 1)


def test_a_class_is_told_as_the_unit_text_feature_of_its_sentence(tiny_clip):
    found = label_encoder(tiny_clip, "a photo of a {}")(["car", "dog"])
    for label, feature in zip(("car", "dog"), found, strict=True):
        raw = torch.from_numpy(tiny_clip.encode_texts([f"a photo of a {label}"])[0])
        torch.testing.assert_close(feature, raw / raw.norm(), atol=1e-5, rtol=0)
    assert not torch.allclose(found[0], found[1])
