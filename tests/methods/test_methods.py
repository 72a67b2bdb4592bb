"""What each method shows the decoder, against naive twins."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.core.params import check
from pipeline.language.condition import Condition
from pipeline.language.decoding import Decoding
from pipeline.methods import METHODS, find_method
from pipeline.methods.base import Method, VectorMapper
from pipeline.needs import KINDS
from pipeline.needs.base import Inputs, Need
from pipeline.needs.images import Images, PseudoFeatures
from pipeline.needs.pairs import Pairs
from pipeline.needs.regions import Regions
from pipeline.needs.tags import Objects
from pipeline.needs.text import Neighbours, Sentences, Text
from pipeline.needs.text_tower import TextTower

TRAINED = {"capdec": {"noise_variance": 0.016}, "decap": {}, "knight": {"k": 3}}


def make(name: str, train: dict | None = None, caption: dict | None = None) -> Method:
    cls = find_method(name)
    return cls(check(cls.TrainParams, train or {}, f"{name}.train"), check(cls.CaptionParams, caption or {}, f"{name}.caption"))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images(unit_rows) -> Inputs:
    return Inputs({Images: torch.from_numpy(unit_rows(5, 8, 99))})


ROWS = torch.tensor([3, 0, 39, 17])


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_its_paper_and_what_it_is_supervised_by(name):
    cls = find_method(name)
    assert cls.__dict__["paper"].strip()
    assert cls.__dict__["supervision"] in ("text", "synthetic", "few-pairs", "paired")
    assert cls.has_decoder or "caption" in cls.__dict__


# what training reads, what captioning reads of pictures, and what it looks up
NEEDS: dict[str, tuple[set[type[Need[Any]]], ...]] = {
    "raw": (set(), {Images}, set()), "clipre": (set(), {Images}, {Text}), "capdec": ({Text}, {Images}, set()),
    "close": ({Text}, {Images}, set()),
    "decap": ({Text}, {Images}, {Text}), "knight": ({Text, Neighbours}, {Images}, {Text}), "clipcap": ({Images}, {Images}, set()),
    "maccap": ({Text}, {Images, Regions, TextTower}, set()),
    "magic": ({Text}, {Images, TextTower}, set()),
    "self-supervised": ({Images, TextTower}, {Images}, set()),
    "syntic": ({PseudoFeatures, Objects}, {Images, Objects}, {Text}),
    "zerocap": ({Text}, {Images, TextTower}, set()),
}


def kinds_of(needs: Sequence[Need[Any]]) -> set[type[Need[Any]]]:
    return {type(part) for need in needs for part in need.parts}


@pytest.mark.parametrize("name", NEEDS)
def test_a_method_needs_what_its_paper_uses_and_no_more(name):
    method = make(name)
    found = (kinds_of(method.learns_from) if method.trains else set(), kinds_of(method.looks_at), kinds_of(method.looks_up))
    assert found == NEEDS[name]


@pytest.mark.parametrize("name", METHODS)
def test_there_are_features_for_what_a_method_needs(name):
    method = make(name)
    assert method.supervision != "text" or not any(isinstance(need, Pairs) for need in method.learns_from)
    slots = ((method.learns_from, 2), (method.looks_at, 1), (method.looks_up, 1))  # a system names two kinds to learn from, else one
    for needs, named in slots:
        read = [set(part.kinds) for need in needs for part in need.parts]
        assert any(all(kinds & set(pair[:named]) for kinds in read) for pair in itertools.product(KINDS, KINDS))


@pytest.mark.parametrize(("wrong", "right"), [("knigth", "knight"), ("de-cap", "decap"), ("clip-re", "clipre")])
def test_a_misspelt_method_is_answered_with_the_nearest_one(user_error, wrong, right):
    message = user_error(find_method, wrong)
    assert f"there is no method {wrong!r}; did you mean {right!r}?" in message
    assert all(name in message for name in METHODS)


@pytest.mark.parametrize("name", TRAINED)
def test_training_conditions_have_the_promised_shape_and_unit_length(make_corpus, name):
    method = make(name, TRAINED[name])
    condition = method.training_condition(make_corpus(), ROWS, generator())
    assert condition.vectors.shape == (4, method.prefix_length, 8)
    assert condition.vectors.dtype == torch.float32
    assert condition.mask.shape == (4, method.prefix_length)
    assert condition.mask.all()
    # features are kept in half precision: their length is 1 within its rounding
    torch.testing.assert_close(condition.vectors.norm(dim=-1), torch.ones(4, method.prefix_length), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", [*TRAINED, "raw"])
def test_inference_conditions_have_the_promised_shape_and_unit_length(make_corpus, images, name):
    method = make(name, TRAINED.get(name))
    condition = method.inference_condition(images, make_corpus())
    assert condition.vectors.shape == (5, method.prefix_length, 8)
    assert condition.mask.all()
    torch.testing.assert_close(condition.vectors.norm(dim=-1), torch.ones(5, method.prefix_length), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("name", "train"), [("capdec", {"noise_variance": 0.016}), ("decap", {}), ("knight", {"k": 3}),
                                             ("knight", {"k": 3, "noise_std": 0.5})])
def test_randomness_comes_from_the_generator_alone(make_corpus, name, train):
    method, corpus = make(name, train), make_corpus()

    def vectors(seed: int) -> Tensor:
        torch.manual_seed(torch.seed())
        return method.training_condition(corpus, ROWS, generator(seed)).vectors

    assert torch.equal(vectors(1), vectors(1))
    noisy = name == "capdec" or "noise_std" in train
    assert torch.equal(vectors(1), vectors(2)) != noisy


def test_a_method_that_is_not_trained_says_so(make_corpus, images):
    for name in ("raw", "clipre"):
        assert not find_method(name).trains
        with pytest.raises(NotImplementedError, match="is not trained"):
            make(name).training_condition(make_corpus(), ROWS, generator())
    with pytest.raises(NotImplementedError, match="without a decoder"):
        make("clipre").inference_condition(images, make_corpus())


@pytest.mark.parametrize("name", ["capdec", "decap", "raw"])
def test_a_method_captions_by_decoding_its_condition(make_corpus, make_decoder, images, name):
    method, corpus, decoder, decoding = make(name), make_corpus(), make_decoder(), Decoding(beams=2, max_new_tokens=6)
    captions = method.caption(images, corpus, decoder, decoding)
    assert captions == decoder.generate(method.inference_condition(images, corpus), decoding)
    assert len(set(captions)) > 1


@pytest.mark.parametrize("shape", ["linear", "mlp"])
def test_each_vector_becomes_one_embedding_whatever_stands_beside_it(shape):
    torch.manual_seed(0)
    mapper = make("decap").mapper(8, 16, shape)
    assert isinstance(mapper, VectorMapper)
    vectors, mask = torch.randn(3, 4, 8), torch.tensor([[True, True, False, True]] * 3)
    prefix, kept = mapper(Condition(vectors, mask))
    assert prefix.shape == (3, 4, 16)
    assert torch.equal(kept, mask)
    torch.testing.assert_close(prefix[1, 2], mapper(Condition.full(vectors[1:2, 2:3]))[0][0, 0])
    assert (shape == "linear") == (sum(parameter.ndim == 2 for parameter in mapper.parameters()) == 1)


def test_capdec_trains_on_the_caption_under_noise_brought_back_to_unit_length(make_corpus):
    corpus = make_corpus()
    found = make("capdec", {"noise_variance": 0.1}).training_condition(corpus, ROWS, generator(4)).vectors[:, 0]
    noise = torch.randn(4, 8, generator=generator(4)) * math.sqrt(0.1)
    for i, row in enumerate(ROWS.tolist()):
        noisy = corpus.of(Text).features[row].float() + noise[i]
        torch.testing.assert_close(found[i], noisy / noisy.norm())


@pytest.mark.parametrize("variance", [1e-4, 4e-4])
def test_capdecs_noise_has_the_variance_that_was_asked(make_corpus, variance):
    corpus = make_corpus(rows=400, width=256, neighbours=1)
    rows = torch.arange(400)
    unit = torch.nn.functional.normalize(corpus.of(Text).features.float(), dim=-1)
    found = make("capdec", {"noise_variance": variance}).training_condition(corpus, rows, generator()).vectors[:, 0]
    along = (found * unit).sum(-1, keepdim=True)
    # 255 dimensions are at right angles to the feature; tan^2 undoes the normalisation up to terms of the order of the variance
    tangent = ((found - along * unit) / along).square().sum(-1) / 255
    # 400 x 255 draws: the estimate's standard deviation is 0.44 %
    assert tangent.mean().item() == pytest.approx(variance, rel=0.02)


def test_capdec_without_noise_trains_on_the_caption_itself(make_corpus):
    corpus = make_corpus()
    found = make("capdec", {"noise_variance": 0.0}).training_condition(corpus, ROWS, generator()).vectors[:, 0]
    torch.testing.assert_close(found, corpus.of(Text).features[ROWS].float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["capdec", "raw"])
def test_capdec_and_the_floor_get_the_image_as_it_is(make_corpus, images, name):
    assert torch.equal(make(name).inference_condition(images, make_corpus()).vectors[:, 0], images.of(Images))


def test_decap_trains_on_the_captions_own_feature(make_corpus):
    corpus = make_corpus()
    found = make("decap").training_condition(corpus, ROWS, generator()).vectors
    assert torch.equal(found[:, 0], corpus.of(Text).features[ROWS].float())


@pytest.mark.parametrize("temperature", [0.01, 0.1])
def test_decap_sees_the_image_as_a_mixture_of_captions(make_corpus, images, temperature):
    corpus = make_corpus()
    found = make("decap", caption={"temperature": temperature}).inference_condition(images, corpus).vectors[:, 0]
    features = corpus.of(Text).features.double()
    for i, image in enumerate(images.of(Images).double()):
        weights = torch.exp(features @ image / temperature)
        mixture = (weights[:, None] * features).sum(0)
        # float32 similarities, enlarged by 1 / 0.01
        torch.testing.assert_close(found[i].double(), mixture / mixture.norm(), atol=1e-4, rtol=0)


def naive_nearest(corpus: Sentences, query: Tensor, k: int, without: int | None = None) -> list[int]:
    similarity = [float(feature.double() @ query.double()) for feature in corpus.features]
    rows = sorted((row for row in range(len(similarity)) if row != without), key=lambda row: -similarity[row])
    return rows[:k]


@pytest.mark.parametrize("k", [1, 3, 6])
def test_knight_trains_on_the_nearest_other_captions_and_never_on_the_caption_itself(make_corpus, k):
    corpus = make_corpus()
    rows = torch.arange(40)
    found = make("knight", {"k": k}).training_condition(corpus, rows, generator()).vectors
    for row in rows.tolist():
        expected = naive_nearest(corpus.of(Text), corpus.of(Text).features[row], k, without=row)
        assert torch.equal(found[row], corpus.of(Text).features[expected].float())
        assert not (found[row] == corpus.of(Text).features[row].float()).all(-1).any()


@pytest.mark.parametrize("k", [1, 3, 8])
def test_knight_sees_the_captions_nearest_to_the_image(make_corpus, images, k):
    corpus = make_corpus()
    found = make("knight", {"k": k}).inference_condition(images, corpus).vectors
    for i, image in enumerate(images.of(Images)):
        assert torch.equal(found[i], corpus.of(Text).features[naive_nearest(corpus.of(Text), image, k)].float())


def test_knight_with_no_neighbours_maps_nothing(make_corpus, images):
    corpus, method = make_corpus(), make("knight", {"k": 0, "normalized": False})
    assert method.prefix_length == 1
    assert torch.equal(method.training_condition(corpus, ROWS, generator()).vectors[:, 0], corpus.of(Text).features[ROWS].float())
    assert torch.equal(method.inference_condition(images, corpus).vectors[:, 0], images.of(Images))


def test_knight_on_lengths_as_encoded_multiplies_each_neighbour_by_its_own(make_corpus, images):
    corpus, method = make_corpus(), make("knight", {"k": 2, "normalized": False})
    for condition, queries, own in ((method.training_condition(corpus, ROWS, generator()), corpus.of(Text).features[ROWS], ROWS.tolist()),
                                    (method.inference_condition(images, corpus), images.of(Images), [None] * 5)):
        for i, row in enumerate(own):
            for j, near in enumerate(naive_nearest(corpus.of(Text), queries[i], 2, without=row)):
                torch.testing.assert_close(condition.vectors[i, j], corpus.of(Text).features[near].float() * corpus.of(Text).norms[near])


def test_knights_noise_has_the_spread_that_was_asked_and_is_for_training_alone(make_corpus, images):
    corpus = make_corpus(rows=300, width=64)
    rows = torch.arange(300)
    plain, noisy = make("knight", {"k": 4}), make("knight", {"k": 4, "noise_std": 0.5})
    noise = noisy.training_condition(corpus, rows, generator()).vectors - plain.training_condition(corpus, rows, generator()).vectors
    # 76,800 draws: standard deviation 0.26 %
    assert noise.std().item() == pytest.approx(0.5, rel=0.02)
    small = make_corpus()
    assert torch.equal(noisy.inference_condition(images, small).vectors, plain.inference_condition(images, small).vectors)


def test_knight_asking_for_more_neighbours_than_the_index_holds_says_what_to_raise(make_corpus, user_error):
    message = user_error(make("knight", {"k": 7}).training_condition, make_corpus(neighbours=6), ROWS, generator())
    assert "k is 7, but the index holds 6" in message
    assert "index.neighbours" in message
    assert make("knight", {"k": 6}).training_condition(make_corpus(neighbours=6), ROWS, generator()).vectors.shape[1] == 6


def test_a_negative_number_of_neighbours_is_refused(user_error):
    assert "knight.train.k is -1" in user_error(make, "knight", {"k": -1})


def test_a_parameter_of_another_method_is_refused(user_error):
    assert "decap.train.noise_variance is not a parameter" in user_error(make, "decap", {"noise_variance": 0.1})


def test_clipre_gives_the_caption_nearest_to_the_image(make_corpus, images):
    corpus = make_corpus()
    expected = [corpus.of(Text).texts[naive_nearest(corpus.of(Text), image, 1)[0]] for image in images.of(Images)]
    assert make("clipre").caption(images, corpus, None, Decoding()) == expected
    assert len(set(expected)) > 1
