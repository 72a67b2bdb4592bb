"""What methods get: parts of it, on a device, the models behind it, and the search over sentences."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.core import paths
from pipeline.core.files import digest_model
from pipeline.features import retrieval
from pipeline.features.retrieval import search
from pipeline.needs import text
from pipeline.needs.base import Inputs, Models
from pipeline.needs.images import Images
from pipeline.needs.tags import Found, Objects, found
from pipeline.needs.text import Text

LABELS = torch.eye(4)


@pytest.fixture
def seen(unit_rows) -> Inputs:
    """Three pictures as a store keeps them, with two, no and one object."""
    return Inputs({Images: torch.from_numpy(unit_rows(3, 8, 0)).half(), Objects: Found(LABELS, torch.tensor([[2, 0], [-1, -1], [3, -1]]))})


@pytest.mark.parametrize("rows", [slice(1, 3), [2, 0], torch.tensor([1]), torch.tensor([True, False, True])])
def test_a_part_of_the_pictures_keeps_each_with_its_objects(seen, rows):
    part = seen[rows]
    assert torch.equal(part.of(Images), seen.of(Images)[rows])
    assert torch.equal(part.of(Objects).ids, seen.of(Objects).ids[rows])
    assert torch.equal(part.of(Objects).labels, LABELS)
    assert len(part) == len(part.of(Images)) == len(part.of(Objects))


def test_all_that_was_read_goes_to_a_device_together(seen, make_corpus):
    meta = torch.device("meta")
    moved, sentences = seen.to(meta), make_corpus().to(meta).of(Text)
    tensors = (moved.of(Images), moved.of(Objects).labels, moved.of(Objects).ids, sentences.features, sentences.norms)
    assert all(each.device == meta for each in tensors)


def test_thirty_objects_are_cut_to_the_limit_the_surest_kept():
    assert found([list(range(30)), [7]], 10, torch.eye(30)).ids.tolist() == [list(range(10)), [7, *[-1] * 9]]


def test_pictures_without_any_object_have_one_empty_place():
    assert found([[], []], 10, torch.eye(3)).ids.tolist() == [[-1], [-1]]
    assert found([], 10, torch.eye(3)).ids.shape == (0, 1)


def models(folder: str, **digests: str) -> Models:
    return Models({name.replace("_", " "): digest for name, digest in digests.items()}, (Path(folder),))


def test_artefacts_that_share_no_model_or_the_same_one_belong_together():
    whole = Models.together([models("a", CLIP_micro="1"), models("b", CLIP_micro="1", detector_d="2"), models("c", detector_e="3")])
    assert whole.digests == {"CLIP micro": "1", "detector d": "2", "detector e": "3"}
    assert whole.made == (Path("a"), Path("b"), Path("c"))


def test_artefacts_of_two_models_of_one_name_are_refused_with_both_and_what_to_make_again(tmp_path, monkeypatch, user_error):
    monkeypatch.chdir(tmp_path)
    paths.foundation("d").mkdir(parents=True)
    (paths.foundation("d") / "model.safetensors").write_bytes(b"weights")
    now = digest_model(paths.foundation("d"))
    outs = {f"tag@{name}": {"outs": [{"path": f"data/tags/d/{name}"}]} for name in ("one", "two")}
    Path("dvc.lock").write_text(json.dumps({"stages": outs}))
    parts = [models("data/tags/d/one", detector_d="0" * 64), models("data/other"), models("data/tags/d/two", detector_d=now)]
    message = user_error(Models.together, parts)
    assert message.startswith("data/tags/d/two was made with another detector d than data/tags/d/one: ")
    assert "--single-item tag@one`" in message


def test_a_corpus_is_searched_as_its_features_are(make_corpus, unit_rows):
    corpus, queries = make_corpus(rows=60).of(Text), unit_rows(9, 8, 7)
    _, rows = search(corpus.index, queries, 5)
    expected = np.argsort(-(queries @ corpus.features.float().numpy().T), axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(rows, expected)


def test_an_index_is_built_once_and_only_for_who_searches(make_corpus, monkeypatch):
    corpus, built = make_corpus().of(Text), []
    real = retrieval.Index
    monkeypatch.setattr(text, "Index", lambda features: built.append(len(features)) or real(features))
    assert built == []
    assert corpus.index is corpus.index
    assert built == [40]
