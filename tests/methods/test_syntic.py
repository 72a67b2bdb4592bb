"""SynTIC: attention to detected objects against a naive twin, and its switches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.core.artefacts import seal
from pipeline.core.params import check
from pipeline.language.condition import Condition
from pipeline.language.decoders import Decoder, DecoderParams, build, load, pad
from pipeline.language.decoding import Decoding
from pipeline.methods import find_method
from pipeline.methods.base import Method, VectorMapper
from pipeline.methods.syntic import ObjectAttention
from pipeline.needs.base import Inputs
from pipeline.needs.images import Images, PseudoFeatures
from pipeline.needs.pairs import Paired, Pairs
from pipeline.needs.tags import Found, Objects, found
from pipeline.needs.text import Sentences, Text

CPU = torch.device("cpu")
SUM_ORDER = 1e-5
TEMPERATURE = {"temperature": {"scenes": 0.1}}
WHO_SEES = [[0], [], [2, 1], [], [4, 0, 3, 1]]  # classes seen in each of five pictures
ROWS = torch.tensor([3, 0, 7])


def make(train: dict | None = None, caption: dict | None = None) -> Method:
    cls = find_method("syntic")
    return cls(check(cls.TrainParams, train or {}, "syntic.train"), check(cls.CaptionParams, caption or TEMPERATURE, "syntic.caption"))


@pytest.fixture
def labels(unit_rows) -> Tensor:
    return torch.from_numpy(unit_rows(6, 8, 7))


@pytest.fixture
def images(unit_rows, labels) -> Inputs:
    return Inputs({Images: torch.from_numpy(unit_rows(5, 8, 99)), Objects: found(WHO_SEES, 10, labels)})


@pytest.fixture
def corpus(make_corpus, unit_rows, labels) -> Inputs:
    """Forty captions; the rows 0, 3, 5, 7 and 11 have a picture, in this order."""
    picture_of = torch.full((40,), -1)
    picture_of[[0, 3, 5, 7, 11]] = torch.arange(5)
    pictures = Inputs({PseudoFeatures: torch.from_numpy(unit_rows(5, 8, 5)).half(), Objects: found(WHO_SEES, 10, labels)})
    return Inputs({Text: make_corpus().of(Text), Pairs: Paired(picture_of, pictures)})


def condition_of(features: Tensor, objects: Found) -> Condition:
    """The image feature, then a place for each object, those without one filled with what must not matter."""
    there = objects.ids >= 0
    tags = torch.where(there[..., None], objects.labels[objects.ids.clamp(min=0)], torch.full((), 3.0))
    return Condition(torch.cat([features[:, None], tags], dim=1), torch.cat([torch.ones(len(features), 1, dtype=torch.bool), there], dim=1))


@pytest.fixture
def attention() -> ObjectAttention:
    torch.manual_seed(0)
    module = ObjectAttention(8, 2)
    torch.nn.init.normal_(module.attention.in_proj_bias)
    torch.nn.init.normal_(module.attention.out_proj.bias)
    return module


def naive_attention(module: ObjectAttention, image: Tensor, objects: list[Tensor]) -> Tensor:
    """Eq. 5 of one picture, head by head: the softmax of query . key / sqrt(width of a head) over the objects weighs their values."""
    inner = module.attention
    query_weight, key_weight, value_weight = inner.in_proj_weight.double().chunk(3)
    query_bias, key_bias, value_bias = inner.in_proj_bias.double().chunk(3)
    size = len(image) // inner.num_heads
    heads = []
    for head in range(inner.num_heads):
        rows = slice(head * size, (head + 1) * size)
        query = query_weight[rows] @ image.double() + query_bias[rows]
        keys = [key_weight[rows] @ one.double() + key_bias[rows] for one in objects]
        values = [value_weight[rows] @ one.double() + value_bias[rows] for one in objects]
        weights = [torch.exp(query @ key / size**0.5) for key in keys]
        heads.append(sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights))
    return inner.out_proj.weight.double() @ torch.cat(heads) + inner.out_proj.bias.double()


@torch.no_grad()
def test_the_auxiliary_feature_equals_attention_over_the_objects_written_out_by_head(attention, images, labels):
    found = attention(condition_of(images.of(Images), images.of(Objects)))
    assert found.vectors.shape == (5, 2, 8)
    assert torch.equal(found.vectors[:, 0], images.of(Images))
    for row, seen in enumerate(WHO_SEES):
        if seen:
            expected = naive_attention(attention, images.of(Images)[row], [labels[number] for number in seen])
            torch.testing.assert_close(found.vectors[row, 1].double(), expected, atol=SUM_ORDER, rtol=0)


def test_a_picture_without_objects_has_a_zero_and_masked_auxiliary_feature(attention, images):
    found = attention(condition_of(images.of(Images), images.of(Objects)))
    assert found.mask.tolist() == [[True, bool(seen)] for seen in WHO_SEES]
    assert not found.vectors[[1, 3], 1].any()
    assert torch.isfinite(found.vectors).all()


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [1, 3], [1]])
def test_gradients_stay_finite_beside_pictures_without_objects_and_alone_among_them(attention, images, rows):
    features = images.of(Images)[rows].requires_grad_()
    attention(condition_of(features, images.of(Objects)[rows])).vectors.square().sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in (features, *attention.parameters()))
    taught = any(WHO_SEES[row] for row in rows)
    assert (attention.attention.in_proj_weight.grad.abs().sum() > 0) == taught


@pytest.mark.parametrize("grad", [True, False])
def test_a_pictures_auxiliary_feature_does_not_depend_on_the_pictures_beside_it(attention, images, grad):
    attention.eval()
    given = condition_of(images.of(Images), images.of(Objects))
    with torch.set_grad_enabled(grad):
        together = attention(given)
        for row in range(5):
            alone = attention(Condition(given.vectors[row : row + 1], given.mask[row : row + 1]))
            torch.testing.assert_close(alone.vectors, together.vectors[row : row + 1], atol=SUM_ORDER, rtol=0)


def test_heads_that_do_not_divide_the_width_are_named(user_error):
    assert "heads 3 must divide the CLIP width 8" in user_error(make({"heads": 3}).mapper, 8, 16, "mlp")


def test_training_sees_each_captions_own_picture_then_its_objects(corpus, labels):
    condition = make().training_condition(corpus, ROWS, torch.Generator())
    assert condition.vectors.shape == (3, 5, 8)
    assert condition.vectors.dtype == torch.float32
    for place, pair in enumerate((1, 0, 3)):
        seen = WHO_SEES[pair]
        assert torch.equal(condition.vectors[place, 0], corpus.of(Pairs).pictures.of(PseudoFeatures)[pair].float())
        assert torch.equal(condition.vectors[place, 1 : 1 + len(seen)], labels[seen])
        assert condition.mask[place].tolist() == [True] * (1 + len(seen)) + [False] * (4 - len(seen))


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_inference_sees_the_image_as_a_mixture_of_captions_then_its_objects(corpus, images, labels, temperature):
    method = make(caption={"temperature": {"scenes": temperature, "album": 9.0}})
    condition = method.inference_condition(images, corpus)
    features = corpus.of(Text).features.double()
    for row, seen in enumerate(WHO_SEES):
        weights = torch.exp(features @ images.of(Images)[row].double() / temperature)
        mixture = (weights[:, None] * features).sum(0)
        torch.testing.assert_close(condition.vectors[row, 0].double(), mixture / mixture.norm(), atol=SUM_ORDER, rtol=0)
        assert torch.equal(condition.vectors[row, 1 : 1 + len(seen)], labels[seen])
        assert condition.mask[row].sum() == 1 + len(seen)


def test_without_projection_inference_sees_the_image_as_it_is_and_needs_no_temperature(corpus, images):
    method = make({"project": False}, {"temperature": {}})
    assert torch.equal(method.inference_condition(images, corpus).vectors[:, 0], images.of(Images))


def test_without_objects_there_is_one_vector_and_nothing_to_train_before_the_decoder(corpus, images):
    method = make({"objects": False})
    assert method.prefix_length == 1
    assert isinstance(method.mapper(8, 16, "mlp"), VectorMapper)
    paired = corpus.of(Pairs)
    bare = Inputs({Pairs: Paired(paired.picture_of, Inputs({PseudoFeatures: paired.pictures.of(PseudoFeatures)}))})
    trained = method.training_condition(bare, ROWS, torch.Generator())
    captioned = method.inference_condition(Inputs({Images: images.of(Images)}), corpus)
    for condition in (trained, captioned):
        assert condition.vectors.shape[1] == 1
        assert condition.mask.all()


def test_with_objects_there_are_two_vectors_however_many_objects_there_are(corpus, images):
    method = make({"heads": 2, "detector": "other", "limit": 3})
    prefix, mask = method.mapper(8, 16, "mlp")(method.inference_condition(images, corpus))
    assert prefix.shape == (5, 2, 16)
    assert mask.tolist() == [[True, bool(seen)] for seen in WHO_SEES]
    assert method.prefix_length == 2
    assert method.looks_at[1] == Objects("other", 3)


FOUND = Objects("detector", 10)


@pytest.mark.parametrize(("train", "trained_on", "looked_at", "looked_up"), [
    ({}, (PseudoFeatures(True, True), FOUND), (Images(), FOUND), (Text(),)),
    ({"objects": False}, (PseudoFeatures(True, True),), (Images(),), (Text(),)),
    ({"project": False}, (PseudoFeatures(True, False), FOUND), (Images(), FOUND), ()),
    ({"objects": False, "project": False}, (PseudoFeatures(True, False),), (Images(),), ()),
])
def test_a_part_that_is_switched_off_needs_nothing(train, trained_on, looked_at, looked_up):
    method = make(train)
    assert (method.learns_from, method.looks_at, method.looks_up) == ((Pairs(trained_on),), looked_at, looked_up)


@pytest.mark.parametrize("switches", [(False, False), (True, False), (False, True), (True, True)])
def test_the_switches_say_how_far_pseudo_features_are_refined(switches):
    optimize, project = switches
    assert make({"optimize": optimize, "project": project}).learns_from[0].parts[0] == PseudoFeatures(*switches)


def test_a_support_set_without_a_temperature_is_named(corpus, images, user_error):
    sentences = corpus.of(Text)
    support = Inputs({Text: Sentences("album", sentences.texts, sentences.features, sentences.norms)})
    assert "no value for the support album" in user_error(make().inference_condition, images, support)


@pytest.mark.parametrize("name", ["limit", "heads"])
def test_parameters_out_of_range_are_refused(user_error, name):
    assert f"{name} is 0" in user_error(make, {name: 0})


def test_a_temperature_of_zero_is_refused(user_error):
    assert "temperature.scenes is 0.0" in user_error(make, {}, {"temperature": {"scenes": 0.0}})


def attention_of(decoder: Decoder) -> ObjectAttention:
    attention, _ = decoder.mapper
    return attention


def built(clip_folder: Path, mapper: str = "mlp") -> Decoder:
    torch.manual_seed(0)
    params = DecoderParams(layers=1, heads=2, width=16, max_tokens=12, mapper=mapper)
    decoder = build(params, clip_folder, 8, 2, make({"heads": 2}).mapper)
    for parameter in attention_of(decoder).parameters():
        torch.nn.init.normal_(parameter, std=2.0)
    return decoder.eval()


@pytest.mark.parametrize("mapper", ["mlp", "linear"])
def test_a_saved_decoder_with_attention_gives_the_same_captions_and_loss(tiny_clip_folder, corpus, images, tmp_path, mapper):
    decoder, given = built(tiny_clip_folder, mapper), make().inference_condition(images, corpus)
    decoder.save(tmp_path, 8, mapper)
    seal(tmp_path)
    again = load(tmp_path, CPU, make({"heads": 2}).mapper)
    decoding = Decoding(beams=2, max_new_tokens=6)
    assert again.generate(given, decoding) == decoder.generate(given, decoding)
    ids = pad([[decoder.tokenizer.start, 5, 6, decoder.tokenizer.end]] * 5)
    assert torch.equal(again.loss(given, ids), decoder.loss(given, ids))
    # and the attention is part of it
    assert not torch.allclose(decoder.loss(Condition(given.vectors, given.mask & (torch.arange(5) < 1)), ids), decoder.loss(given, ids))


def test_training_reaches_the_attention_through_the_decoder(tiny_clip_folder, corpus):
    decoder = built(tiny_clip_folder)
    decoder.loss(make().training_condition(corpus, torch.tensor([0, 3]), torch.Generator()), pad([[1, 5, 6], [1, 7, 2]])).backward()
    assert all(parameter.grad.abs().sum() > 0 for name, parameter in attention_of(decoder).named_parameters() if name.endswith("weight"))


def test_a_decoder_whose_attention_is_damaged_or_missing_is_named(tiny_clip_folder, tmp_path, user_error):
    (tmp_path / "without").mkdir()
    torch.manual_seed(0)
    build(DecoderParams(layers=1, heads=2, width=16), tiny_clip_folder, 8, 2, make({"objects": False}).mapper).save(tmp_path / "without", 8,
                                                                                                                    "mlp")
    seal(tmp_path / "without")
    assert str(tmp_path / "without") in user_error(load, tmp_path / "without", CPU, make({"heads": 2}).mapper)
    (tmp_path / "with").mkdir()
    built(tiny_clip_folder).save(tmp_path / "with", 8, "mlp")
    file = tmp_path / "with" / "mapper.safetensors"
    file.write_bytes(file.read_bytes()[:60])
    seal(tmp_path / "with")
    assert str(tmp_path / "with") in user_error(load, tmp_path / "with", CPU, make({"heads": 2}).mapper)
    file.unlink()
    seal(tmp_path / "with")
    assert str(tmp_path / "with") in user_error(load, tmp_path / "with", CPU, make({"heads": 2}).mapper)
