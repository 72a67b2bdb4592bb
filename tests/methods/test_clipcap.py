"""ClipCap against naive twins: what it is trained on, and how a feature becomes a prefix."""

from __future__ import annotations

import pytest
import torch

from pipeline.core.params import check
from pipeline.language.condition import Condition
from pipeline.methods.clipcap import ClipCap, MlpMapping, TransformerMapping
from pipeline.needs.base import Inputs
from pipeline.needs.images import Images
from pipeline.needs.pairs import Paired, Pairs

ROWS = torch.tensor([3, 0, 39, 17])


def make(**train: object) -> ClipCap:
    return ClipCap(check(ClipCap.TrainParams, train, "clipcap.train"), check(ClipCap.CaptionParams, {}, "clipcap.caption"))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_it_is_trained_on_the_feature_of_each_captions_own_picture(unit_rows):
    pictures = torch.from_numpy(unit_rows(8, 8, 5))
    picture_of = torch.arange(40) // 5  # five captions a picture
    corpus = Inputs({Pairs: Paired(picture_of, Inputs({Images: pictures}))})
    condition = make().training_condition(corpus, ROWS, generator())
    assert condition.mask.tolist() == [[True]] * 4
    for i, row in enumerate(ROWS.tolist()):
        assert torch.equal(condition.vectors[i, 0], pictures[row // 5])


def test_it_captions_from_the_feature_of_the_picture_itself(unit_rows):
    pictures = torch.from_numpy(unit_rows(5, 8, 9))
    assert torch.equal(make().inference_condition(Inputs({Images: pictures}), Inputs({})).vectors[:, 0], pictures)


def test_the_mlp_makes_a_prefix_of_one_feature():
    torch.manual_seed(0)
    mapping = MlpMapping(8, 6, prefix=4)
    vectors = torch.randn(3, 1, 8)
    prefix, mask = mapping(Condition.full(vectors))
    first, _, last = mapping.layers
    assert first.out_features == 4 * 6 // 2
    for i in range(3):
        hidden = torch.tanh(first.weight @ vectors[i, 0] + first.bias)
        torch.testing.assert_close(prefix[i].flatten(), last.weight @ hidden + last.bias, atol=1e-5, rtol=0)
    assert mask.tolist() == [[True] * 4] * 3


def test_the_transformer_reads_the_feature_with_its_constants_and_hands_on_what_becomes_of_these():
    torch.manual_seed(0)
    mapping = TransformerMapping(8, 16, prefix=3, layers=2, heads=2).eval()
    vectors = torch.randn(2, 1, 8)
    prefix, mask = mapping(Condition.full(vectors))
    assert (prefix.shape, mask.shape) == ((2, 3, 16), (2, 3))
    spread = (mapping.spread.weight @ vectors[0, 0] + mapping.spread.bias).reshape(3, 16)
    whole = torch.cat([spread, mapping.constants])[None]
    for layer in mapping.transformer.layers:  # pre-norm: x + attention(norm(x)), then x + feed-forward(norm(x))
        normed = layer.norm1(whole)
        whole = whole + layer.self_attn(normed, normed, normed, need_weights=False)[0]
        whole = whole + layer.linear2(torch.relu(layer.linear1(layer.norm2(whole))))
    torch.testing.assert_close(prefix[0], whole[0, 3:], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("mapping", "prefix"), [("mlp", 10), ("transformer", 40)])
def test_the_prefix_is_as_long_as_was_asked(mapping, prefix):
    method = make(mapping=mapping, prefix=prefix, layers=1)
    found, _ = method.mapper(8, 16, "linear")(Condition.full(torch.randn(2, 1, 8)))
    assert found.shape == (2, method.prefix_length, 16)
    assert method.prefix_length == prefix


def test_heads_that_do_not_divide_the_width_are_refused(user_error):
    assert "must divide" in user_error(make(mapping="transformer", heads=3).mapper, 8, 16, "mlp")


@pytest.mark.parametrize("wrong", [{"prefix": 0}, {"heads": 0}, {"mapping": "rnn"}, {"normalized": True}])
def test_wrong_parameters_are_named(user_error, wrong):
    assert next(iter(wrong)) in user_error(make, **wrong)
