"""SynTIC: attention to detected objects against a naive twin, its switches, and a system of it trained and captioning."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML
from torch import Tensor

from pipeline import paths, sweeps, tagging, training
from pipeline.captioning import caption_settings, load_images
from pipeline.decoders import Decoder, DecoderParams, Decoding, build, load, pad
from pipeline.embedding import embed_images, embed_text
from pipeline.encoders import Clip, ClipParams
from pipeline.files import digest_file, digest_tree, read_json, write_json
from pipeline.indexing import IndexParams, index_corpus
from pipeline.methods import find_method
from pipeline.methods.base import Condition, Corpus, Images, Method, Objects, Pairs
from pipeline.methods.syntic import ObjectAttention
from pipeline.pairs import choose_rows, objects_of, pair_features
from pipeline.params import check
from pipeline.photographs import caption_files
from pipeline.refinement import ProjectionParams, RefinementParams, project_pairs, refine_pairs
from pipeline.stores import read
from pipeline.sweeps import SweepParams
from pipeline.systems import Setting, System
from pipeline.tagging import write_tag_set, write_tags
from pipeline.training import Plan, train_system, training_corpus
from tests.artefacts import LABELS, PAIR_STORES, StubDetector, write_corpus, write_pair_store, write_pairs

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
def images(unit_rows, labels) -> Images:
    return Images(torch.from_numpy(unit_rows(5, 8, 99)), objects_of(WHO_SEES, 10, labels))


@pytest.fixture
def corpus(make_corpus, unit_rows, labels) -> Corpus:
    """Forty captions; the rows 0, 3, 5, 7 and 11 have a picture, in this order."""
    pair_of = torch.full((40,), -1)
    pair_of[[0, 3, 5, 7, 11]] = torch.arange(5)
    return replace(make_corpus(), pairs=Pairs(pair_of, torch.from_numpy(unit_rows(5, 8, 5)).half(), objects_of(WHO_SEES, 10, labels)))


def condition_of(features: Tensor, objects: Objects) -> Condition:
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
    found = attention(condition_of(images.features, images.objects))
    assert found.vectors.shape == (5, 2, 8)
    assert torch.equal(found.vectors[:, 0], images.features)
    for row, seen in enumerate(WHO_SEES):
        if seen:
            expected = naive_attention(attention, images.features[row], [labels[number] for number in seen])
            torch.testing.assert_close(found.vectors[row, 1].double(), expected, atol=SUM_ORDER, rtol=0)


def test_a_picture_without_objects_has_a_zero_and_masked_auxiliary_feature(attention, images):
    found = attention(condition_of(images.features, images.objects))
    assert found.mask.tolist() == [[True, bool(seen)] for seen in WHO_SEES]
    assert not found.vectors[[1, 3], 1].any()
    assert torch.isfinite(found.vectors).all()


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [1, 3], [1]])
def test_gradients_stay_finite_beside_pictures_without_objects_and_alone_among_them(attention, images, rows):
    features = images.features[rows].requires_grad_()
    attention(condition_of(features, images.objects[rows])).vectors.square().sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in (features, *attention.parameters()))
    taught = any(WHO_SEES[row] for row in rows)
    assert (attention.attention.in_proj_weight.grad.abs().sum() > 0) == taught


@pytest.mark.parametrize("grad", [True, False])
def test_a_pictures_auxiliary_feature_does_not_depend_on_the_pictures_beside_it(attention, images, grad):
    attention.eval()
    given = condition_of(images.features, images.objects)
    with torch.set_grad_enabled(grad):
        together = attention(given)
        for row in range(5):
            alone = attention(Condition(given.vectors[row : row + 1], given.mask[row : row + 1]))
            torch.testing.assert_close(alone.vectors, together.vectors[row : row + 1], atol=SUM_ORDER, rtol=0)


def test_heads_that_do_not_divide_the_width_are_named(user_error):
    assert "heads 3 must divide the CLIP width 8" in user_error(make({"heads": 3}).front, 8)


def test_training_sees_each_captions_own_picture_then_its_objects(corpus, labels):
    condition = make().training_condition(corpus, ROWS, torch.Generator())
    assert condition.vectors.shape == (3, 5, 8)
    assert condition.vectors.dtype == torch.float32
    for place, pair in enumerate((1, 0, 3)):
        seen = WHO_SEES[pair]
        assert torch.equal(condition.vectors[place, 0], corpus.pairs.features[pair].float())
        assert torch.equal(condition.vectors[place, 1 : 1 + len(seen)], labels[seen])
        assert condition.mask[place].tolist() == [True] * (1 + len(seen)) + [False] * (4 - len(seen))


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_inference_sees_the_image_as_a_mixture_of_captions_then_its_objects(corpus, images, labels, temperature):
    method = make(caption={"temperature": {"scenes": temperature, "album": 9.0}})
    condition = method.inference_condition(images, corpus)
    features = corpus.features.double()
    for row, seen in enumerate(WHO_SEES):
        weights = torch.exp(features @ images.features[row].double() / temperature)
        mixture = (weights[:, None] * features).sum(0)
        torch.testing.assert_close(condition.vectors[row, 0].double(), mixture / mixture.norm(), atol=SUM_ORDER, rtol=0)
        assert torch.equal(condition.vectors[row, 1 : 1 + len(seen)], labels[seen])
        assert condition.mask[row].sum() == 1 + len(seen)


def test_without_projection_inference_sees_the_image_as_it_is_and_needs_no_temperature(corpus, images):
    method = make({"project": False}, {"temperature": {}})
    assert torch.equal(method.inference_condition(images, corpus).vectors[:, 0], images.features)


def test_without_objects_there_is_one_vector_and_nothing_to_train_before_the_decoder(corpus, images):
    method = make({"objects": False})
    assert method.prefix_length == 1
    assert method.front(8) is None
    assert method.objects is None
    bare = replace(corpus, pairs=replace(corpus.pairs, objects=None))
    trained, captioned = method.training_condition(bare, ROWS, torch.Generator()), method.inference_condition(Images(images.features), bare)
    for condition in (trained, captioned):
        assert condition.vectors.shape[1] == 1
        assert condition.mask.all()


def test_with_objects_there_are_two_vectors_however_many_objects_there_are(corpus, images):
    method = make({"heads": 2, "prompt": "a {}!", "limit": 3})
    found = method.front(8)(method.inference_condition(images, corpus))
    assert method.prefix_length == found.vectors.shape[1] == 2
    assert (method.objects.prompt, method.objects.limit) == ("a {}!", 3)


def test_a_support_set_without_a_temperature_is_named(corpus, images, user_error):
    message = user_error(make().inference_condition, images, replace(corpus, name="album"))
    assert "no value for the support album" in message


def test_a_corpus_without_pairs_is_named(make_corpus, user_error):
    assert "scenes has none" in user_error(make().training_condition, make_corpus(), ROWS, torch.Generator())


def test_pictures_that_nobody_looked_at_for_objects_are_refused(corpus, images, user_error):
    assert "nothing was detected" in user_error(make().inference_condition, Images(images.features), corpus)


@pytest.mark.parametrize("prompt", ["a photo", "{} and {}", "{x}", "a {}}"])
def test_a_prompt_without_one_place_for_the_objects_name_is_refused(user_error, prompt):
    assert "prompt must hold one {}" in user_error(make, {"prompt": prompt})


@pytest.mark.parametrize("name", ["limit", "heads"])
def test_parameters_out_of_range_are_refused(user_error, name):
    assert "limit and heads must be 1 or more" in user_error(make, {name: 0})


def test_a_temperature_of_zero_is_refused(user_error):
    assert "temperatures must be above 0" in user_error(make, {}, {"temperature": {"scenes": 0.0}})


def built(clip_folder: Path, mapper: str = "mlp") -> Decoder:
    torch.manual_seed(0)
    params = DecoderParams(layers=1, heads=2, width=16, max_tokens=12, mapper=mapper)
    decoder = build(params, clip_folder, 8, 2, make({"heads": 2}).front(8))
    for parameter in decoder.front.parameters():
        torch.nn.init.normal_(parameter, std=2.0)
    return decoder.eval()


@pytest.mark.parametrize("mapper", ["mlp", "linear"])
def test_a_saved_decoder_with_attention_gives_the_same_captions_and_loss(tiny_clip_folder, corpus, images, tmp_path, mapper):
    decoder, given = built(tiny_clip_folder, mapper), make().inference_condition(images, corpus)
    decoder.save(tmp_path, mapper)
    again = load(tmp_path, CPU, make({"heads": 2}).front(8))
    decoding = Decoding(beams=2, max_new_tokens=6)
    assert again.generate(given, decoding) == decoder.generate(given, decoding)
    ids = pad([[decoder.tokenizer.start, 5, 6, decoder.tokenizer.end]] * 5)
    assert torch.equal(again.loss(given, ids), decoder.loss(given, ids))
    # and the attention is part of it
    assert not torch.allclose(decoder.loss(Condition(given.vectors, given.mask & (torch.arange(5) < 1)), ids), decoder.loss(given, ids))


def test_training_reaches_the_attention_through_the_decoder(tiny_clip_folder, corpus):
    decoder = built(tiny_clip_folder)
    decoder.loss(make().training_condition(corpus, torch.tensor([0, 3]), torch.Generator()), pad([[1, 5, 6], [1, 7, 2]])).backward()
    assert all(parameter.grad.abs().sum() > 0 for name, parameter in decoder.front.named_parameters() if name.endswith("weight"))


def test_a_decoder_whose_attention_is_damaged_or_missing_is_named(tiny_clip_folder, tmp_path, user_error):
    built(tiny_clip_folder).save(tmp_path, "mlp")
    file = tmp_path / "front.safetensors"
    file.write_bytes(file.read_bytes()[:60])
    assert str(tmp_path) in user_error(load, tmp_path, CPU, make({"heads": 2}).front(8))
    file.unlink()
    assert str(tmp_path) in user_error(load, tmp_path, CPU, make({"heads": 2}).front(8))


TRAIN = {"heads": 2, "prompt": "a photo of a {}", "limit": 3}
SYSTEM = System("syntic", "tiny", "scenes", "small", "small", train=TRAIN, caption=TEMPERATURE)
SETTING = {"test": "scenes", "support": "scenes"}
PARAMS: dict[str, Any] = {
    "clips": {"tiny": {"batch": 16}}, "decoders": {"small": {"layers": 1, "heads": 2, "width": 16, "max_tokens": 12}},
    "recipes": {"small": {"steps": 4, "batch": 4, "evaluate_every": 2}}, "captioning": {"beams": 2, "max_new_tokens": 6},
    "settings": {"in-domain": SETTING}, "detector": {"model": "stub"},
    "systems": {"synthetic": {"syntic": {"method": "syntic", "clip": "tiny", "corpus": "scenes", "decoder": "small", "recipe": "small",
                                         "train": TRAIN, "caption": TEMPERATURE}}},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_clip_folder: Path, tiny_clip: Clip) -> Iterator[Path]:
    """A project with everything that a SynTIC system is trained on and captions, made by the stages' own code."""
    folder = tmp_path_factory.mktemp("syntic")
    rng = np.random.default_rng(0)
    with contextlib.chdir(folder):
        shutil.copytree(tiny_clip_folder, paths.foundation("tiny"))
        write_corpus("scenes", [f"a {colour} {thing}" for colour in ("red", "blue", "brown") for thing in ("dog", "car", "boat", "horse")],
                     heldout=[3, 7])
        embed_text("tiny", tiny_clip, "scenes")
        index_corpus("tiny", "scenes", IndexParams(3))
        shades = [Image.new("RGB", (64, 64), (20 * number,) * 3) for number in range(12)]
        write_pairs("scenes", list(range(10)), rng.normal(size=(10, 8)).astype(np.float32), StubDetector().detect(shades[:10]),
                    tiny_clip.digest)
        refine_pairs("tiny", "scenes", RefinementParams(steps=2, learning_rate=0.1, batch=4), CPU)
        project_pairs("tiny", "scenes", ProjectionParams({"scenes": 0.1}), CPU)
        paths.raw("scenes").mkdir(parents=True)
        for number, image in enumerate(shades):
            image.save(paths.raw("scenes") / f"{number}.png")
        pq.write_table(pa.table({"image_id": [f"i{n}" for n in range(12)], "path": [f"{n}.png" for n in range(12)],
                                 "split": ["test"] * 8 + ["val"] * 4}), paths.images_table("scenes"))
        pq.write_table(pa.table({"image_id": [f"i{n}" for n in range(12)], "text": ["a red dog"] * 12,
                                 "split": ["test"] * 8 + ["val"] * 4}), paths.references_table("scenes"))
        embed_images("tiny", tiny_clip, "scenes")
        paths.tags("scenes").mkdir(parents=True)
        write_tags(folder / "shard.parquet", [f"i{n}" for n in range(12)], StubDetector().detect(shades))
        write_tag_set(paths.tags("scenes"), [folder / "shard.parquet"], StubDetector(), 12,
                      digest_file(paths.images_table("scenes")))
        with Path("params.yaml").open("w") as file:
            YAML(typ="safe", pure=True).dump(PARAMS, file)
        train_system("syntic", SYSTEM, PARAMS, CPU)
    return folder


@pytest.fixture
def inside(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project as the current folder, to change."""
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("UNPAIRED_DEVICE", "cpu")
    return tmp_path / "project"


@pytest.mark.parametrize(("optimize", "projected"), [(False, False), (True, False), (False, True), (True, True)])
def test_the_switches_choose_what_a_system_is_trained_on(inside, optimize, projected):
    system = replace(SYSTEM, train={**SYSTEM.train, "optimize": optimize, "project": projected})
    corpus = training_corpus(Plan.of("syntic", system, PARAMS), PARAMS, CPU)
    assert np.array_equal(corpus.pairs.features.numpy(), read(pair_features("tiny", "scenes", optimize, projected)).features)
    stores = [read(pair_features("tiny", "scenes", *switches)).features for switches in ((0, 0), (1, 0), (0, 1), (1, 1))]
    assert not any(np.array_equal(one, other) for number, one in enumerate(stores) for other in stores[:number])


def test_a_system_is_trained_on_the_captions_that_have_pictures_alone(inside, monkeypatch):
    seen: set[int] = set()
    cls = find_method("syntic")
    real: Callable[..., Condition] = cls.training_condition

    def watch(method: Method, corpus: Corpus, rows: Tensor, generator: torch.Generator) -> Condition:
        seen.update(rows.tolist())
        return real(method, corpus, rows, generator)

    monkeypatch.setattr(cls, "training_condition", watch)
    train_system("syntic", SYSTEM, PARAMS, CPU)
    assert seen == set(range(10))  # of twelve


def test_a_text_only_system_may_be_trained_on_as_many_captions_as_are_drawn_and_on_the_same_ones(inside, monkeypatch):
    seen: set[int] = set()
    cls = find_method("decap")
    real: Callable[..., Condition] = cls.training_condition

    def watch(method: Method, corpus: Corpus, rows: Tensor, generator: torch.Generator) -> Condition:
        seen.update(rows.tolist())
        return real(method, corpus, rows, generator)

    monkeypatch.setattr(cls, "training_condition", watch)
    params = {**PARAMS, "recipes": {"small": {**PARAMS["recipes"]["small"], "captions": 8}}}
    train_system("decap", replace(SYSTEM, method="decap", train={}, caption={}), params, CPU)
    splits = pq.read_table(paths.corpus_table("scenes"))["split"].to_pylist()
    assert seen == set(choose_rows(splits, 8).tolist())
    assert len(seen) == 8


def test_the_same_system_trained_twice_has_the_same_bytes(inside):
    before = digest_tree(paths.model("syntic"))
    shutil.rmtree(paths.model("syntic"))
    train_system("syntic", SYSTEM, PARAMS, CPU)
    assert digest_tree(paths.model("syntic")) == before


def test_a_trained_system_captions_every_picture_of_a_setting(inside):
    caption_settings("syntic", SYSTEM, PARAMS, CPU)
    captions = read_json(paths.captions("syntic") / "in-domain.json")
    assert [entry["image_id"] for entry in captions] == [f"i{n}" for n in range(8)]
    assert all(isinstance(entry["caption"], str) for entry in captions)


def test_pictures_are_shown_to_the_decoder_alike_in_batches_of_any_size(inside, monkeypatch):
    conditions: dict[int, list[Condition]] = {3: [], 256: []}

    def generate(decoder: Decoder, given: Condition, decoding: Decoding) -> list[str]:
        conditions[decoding.batch].append(given)
        return ["a caption"] * len(given.vectors)

    monkeypatch.setattr(Decoder, "generate", generate)
    for batch in conditions:
        caption_settings("syntic", SYSTEM, {**PARAMS, "captioning": {"batch": batch}}, CPU)
    assert [len(given.vectors) for given in conditions[3]] == [3, 3, 2]
    torch.testing.assert_close(torch.cat([given.vectors for given in conditions[3]]), conditions[256][0].vectors)
    assert torch.equal(torch.cat([given.mask for given in conditions[3]]), conditions[256][0].mask)


def test_images_come_with_the_objects_that_were_detected_in_them(inside):
    tags = make(SYSTEM.train).objects
    ids, images, _ = load_images("tiny", Setting("scenes", "scenes"), tags, lambda labels: torch.eye(len(labels)))
    assert ids == [f"i{n}" for n in range(8)]
    named = [[LABELS[i] for i in row if i >= 0] for row in images.objects.ids.tolist()]
    assert named == [[], [], *[["cat", "sun"]] * 3, *[["dog", "sun"]] * 3]  # brightness 0, 20, 40 and so on
    assert load_images("tiny", Setting("scenes", "scenes"))[1].objects is None


def test_tags_of_another_detector_than_the_one_in_training_are_refused(inside, user_error):
    file = paths.tags("scenes") / "tags.json"
    write_json(file, {**read_json(file), "detector_digest": "0" * 64})
    assert "another detector" in user_error(caption_settings, "syntic", SYSTEM, PARAMS, CPU)


def test_tags_of_other_images_are_refused(inside, user_error):
    file = paths.tags("scenes") / "tags.json"
    write_json(file, {**read_json(file), "source_digest": "0" * 64})
    assert "other images" in user_error(caption_settings, "syntic", SYSTEM, PARAMS, CPU)


def test_a_model_that_does_not_say_whose_objects_it_learnt_is_refused(inside, user_error):
    file = paths.model("syntic") / "system.json"
    write_json(file, {key: value for key, value in read_json(file).items() if key != "detector_digest"})
    assert "another detector" in user_error(caption_settings, "syntic", SYSTEM, PARAMS, CPU)


def trained_rows(captions: int | None) -> list[int]:
    recipe = {**PARAMS["recipes"]["small"], "captions": captions}
    plan = Plan.of("syntic", SYSTEM, {**PARAMS, "recipes": {"small": recipe}})
    splits = pq.read_table(paths.corpus_table("scenes"))["split"].to_pylist()
    return training._trained_rows(plan, training_corpus(plan, PARAMS, CPU), splits).tolist()


def test_of_the_pairs_those_of_the_recipes_captions_are_trained_on(inside):
    splits = pq.read_table(paths.corpus_table("scenes"))["split"].to_pylist()
    assert trained_rows(None) == list(range(10))
    assert trained_rows(6) == [row for row in choose_rows(splits, 6).tolist() if row < 10]  # rows 10 and 11 have no picture


def test_a_recipe_of_more_captions_than_were_drawn_is_refused(inside, user_error):
    assert "synthesis.captions is 10" in user_error(trained_rows, 11)


@pytest.mark.parametrize("changed", [paths.references_table("scenes"), paths.images_table("scenes")])
def test_a_sweeps_row_is_stale_when_its_test_data_change(inside, changed):
    sweep = SweepParams(("syntic",), ("in-domain",))
    (variant,) = sweeps._variants(sweep, PARAMS)
    before = sweeps._fingerprint(variant, "in-domain", sweep, PARAMS, "judge")
    table = pq.read_table(changed)
    pq.write_table(table.slice(1), changed)
    embed_images("tiny", Clip(paths.foundation("tiny"), ClipParams(), CPU), "scenes")
    assert sweeps._fingerprint(variant, "in-domain", sweep, PARAMS, "judge") != before


@pytest.mark.parametrize(("train", "stale"), [({}, True), ({"objects": False}, False)])
def test_a_sweeps_row_is_stale_when_what_was_detected_changes_for_systems_that_read_it(inside, train, stale):
    sweep = SweepParams(("syntic",), ("in-domain",), {f"train.{key}": [value] for key, value in train.items()})
    (variant,) = sweeps._variants(sweep, PARAMS)
    before = sweeps._fingerprint(variant, "in-domain", sweep, PARAMS, "judge")
    file = paths.tags("scenes") / "tags.json"
    write_json(file, {**read_json(file), "threshold": 0.123})
    assert (sweeps._fingerprint(variant, "in-domain", sweep, PARAMS, "judge") != before) == stale


@pytest.mark.parametrize("train", [{}, {"optimize": False}, {"project": False}, {"optimize": False, "project": False}])
def test_pseudo_features_of_another_clip_than_the_corpus_are_refused(inside, user_error, train):
    system = replace(SYSTEM, train={**SYSTEM.train, **train})
    for name in PAIR_STORES:
        write_pair_store("scenes", name, np.eye(10, 8, dtype=np.float32), clip_digest="0" * 64)
    assert "another CLIP" in user_error(train_system, "syntic", system, PARAMS, CPU)


def caption_a_picture(explain: bool = True) -> bool:
    return caption_files([paths.raw("scenes") / "1.png", paths.raw("scenes") / "6.png"], "syntic", None, True, explain)


def test_explain_shows_the_objects_of_a_photograph(inside, monkeypatch, capsys):
    monkeypatch.setattr(tagging, "load_detector", lambda params, device: StubDetector())
    assert caption_a_picture()
    dark, bright = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert dark["objects"] == []
    assert [found["label"] for found in bright["objects"]] == ["dog", "sun"]


def test_the_decoder_gets_of_a_photograph_what_it_gets_of_the_same_picture_in_a_setting(inside, monkeypatch):
    seen: list[Condition] = []

    def generate(decoder: Decoder, given: Condition, decoding: Decoding) -> list[str]:
        seen.append(given)
        return ["a caption"] * len(given.vectors)

    monkeypatch.setattr(Decoder, "generate", generate)
    monkeypatch.setattr(tagging, "load_detector", lambda params, device: StubDetector())
    caption_settings("syntic", SYSTEM, PARAMS, CPU)
    caption_a_picture(explain=False)
    setting, photographs = seen
    # the store's features are rounded to half precision, and differences grow by 1 / temperature in the projection
    torch.testing.assert_close(photographs.vectors, setting.vectors[[1, 6]], atol=5e-3, rtol=0)
    assert torch.equal(photographs.mask, setting.mask[[1, 6]])
    assert photographs.mask.tolist() == [[True, False, False], [True, True, True]]


def test_a_photograph_is_not_captioned_with_another_detector_than_the_one_in_training(inside, monkeypatch, user_error):
    other = StubDetector()
    other.digest = "0" * 64
    monkeypatch.setattr(tagging, "load_detector", lambda params, device: other)
    assert "another detector" in user_error(caption_a_picture)
