"""CLOSE against naive twins and against CapDec, and which captions it reads where an image has several."""

from __future__ import annotations

from collections import Counter

import pyarrow.parquet as pq
import pytest
import torch

from pipeline.captioning import caption_settings
from pipeline.core import paths
from pipeline.core.files import read_json
from pipeline.core.params import check
from pipeline.language.condition import Condition
from pipeline.methods.capdec import CapDec, CapDecParams
from pipeline.methods.close import Close, LinearTokens
from pipeline.needs.base import Inputs
from pipeline.needs.images import Images
from pipeline.needs.siblings import Siblings
from pipeline.needs.text import Text
from pipeline.systems import find_system
from pipeline.training import train_system
from tests.artefacts import CLIP, edit_table, write_corpus
from tests.tiny_systems import CPU, TEXT_ONLY, make_project, params, write_params

ROWS = torch.tensor([3, 0, 39, 17])


def make(**train: object) -> Close:
    return Close(check(Close.TrainParams, train, "close.train"), check(Close.CaptionParams, {}, "close.caption"))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def in_a_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_with_one_caption_an_image_it_is_trained_as_capdec_is(make_corpus):
    corpus = make_corpus()
    of_capdec = CapDec(CapDecParams(noise_variance=0.12**2), CapDec.CaptionParams())
    found = make(noise_std=0.12).training_condition(corpus, ROWS, generator(4))
    torch.testing.assert_close(found.vectors, of_capdec.training_condition(corpus, ROWS, generator(4)).vectors)
    assert not torch.equal(found.vectors, make(noise_std=0.04).training_condition(corpus, ROWS, generator(4)).vectors)


def test_it_captions_from_the_image_feature_as_it_is(unit_rows):
    pictures = torch.from_numpy(unit_rows(5, 8, 9))
    assert torch.equal(make().inference_condition(Inputs({Images: pictures}), Inputs({})).vectors[:, 0], pictures)


def test_one_linear_layer_makes_the_prefix():
    torch.manual_seed(0)
    method, vectors = make(prefix=3), torch.randn(2, 1, 8)
    mapping = method.mapper(8, 6, "mlp")
    assert isinstance(mapping, LinearTokens)
    prefix, mask = mapping(Condition.full(vectors))
    for i in range(2):
        torch.testing.assert_close(prefix[i].flatten(), mapping.linear.weight @ vectors[i, 0] + mapping.linear.bias)
    assert mask.tolist() == [[True] * 3] * 2
    assert method.prefix_length == 3


def test_with_several_it_reads_any_other_caption_of_the_image_and_never_the_one_it_says(in_a_project, make_corpus):
    write_corpus("scenes", [f"caption {row}" for row in range(40)])
    corpus = Inputs({Text: make_corpus().of(Text), Siblings: Siblings().load(CLIP, "scenes")})
    method, features = make(several=True, noise_std=0), corpus.of(Text).features
    read: dict[int, Counter[int]] = {row: Counter() for row in ROWS.tolist()}
    for seed in range(400):
        vectors = method.training_condition(corpus, ROWS, generator(seed)).vectors[:, 0]
        for row, vector in zip(ROWS.tolist(), vectors, strict=True):
            read[row][int((features.float() @ vector).argmax())] += 1
    for row, counts in read.items():
        assert counts.keys() == {row // 5 * 5 + place for place in range(5)} - {row}
        assert min(counts.values()) > 60  # 100 expected of each, standard deviation 9


def test_captions_of_one_image_are_found_wherever_they_stand_and_one_alone_is_its_own(in_a_project):
    write_corpus("scenes", [f"caption {row}" for row in range(6)])
    table = pq.read_table(paths.corpus_table("scenes"))
    ids = ["b", None, "a", "b", None, "c"]
    edit_table(paths.corpus_table("scenes"), table.set_column(table.schema.get_field_index("image_id"), "image_id", [ids]))
    groups = Siblings().load(CLIP, "scenes")
    assert groups.draw(torch.arange(6), generator()).tolist() == [3, 1, 2, 0, 4, 5]


def test_several_without_two_captions_of_one_image_says_what_to_change(in_a_project, user_error):
    write_corpus("scenes", ["a dog"])
    message = user_error(Siblings().load, CLIP, "scenes")
    assert str(paths.corpus_table("scenes")) in message
    assert "train.several" in message


def test_a_system_of_several_captions_is_trained_and_captions(in_a_project, tmp_path, tiny_clip_folder, tiny_clip):
    make_project(tmp_path, tiny_clip_folder, tiny_clip)
    values = params({"systems.close": {**TEXT_ONLY, "method": "close", "train": {"several": True}}})
    write_params(values)
    train_system("close", find_system("close", values), values, CPU)
    caption_settings("close", find_system("close", values), values, CPU)
    assert len(read_json(paths.captions("close") / "in-domain.json")) == 8


@pytest.mark.parametrize("wrong", [{"prefix": 0}, {"noise_std": -1}, {"noise_variance": 0.1}])
def test_wrong_parameters_are_named(user_error, wrong):
    assert next(iter(wrong)) in user_error(make, **wrong)
