"""Drawn pictures: what a diffusion model draws, what is kept of it, blanked pictures, and synthesis that survives a kill."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from pipeline.core import paths
from pipeline.core.files import digest_file, digest_tree, read_json
from pipeline.core.params import check
from pipeline.corpus.choosing import choose_rows
from pipeline.features.embedding import embed_images
from pipeline.features.encoders import ClipParams
from pipeline.features.stores import read
from pipeline.features.tagging import tag_images
from pipeline.foundation import autoencoder
from pipeline.foundation.diffusion import Recipe, build_unet, tokenizer_of
from pipeline.images import Source, locate, open_image
from pipeline.synthetic import drawing
from pipeline.synthetic.drawing import Generator, SynthesisParams, picture_seed, synthesize
from pipeline.synthetic.refinement import drawn_captions
from tests.artefacts import StubDetector, write_corpus

CPU = torch.device("cpu")
CAPTIONS = ["a red car on the street", "two dogs on the sand", "a large brown horse in a field", "the moon over the snow", "birds"]


class Killed(BaseException):
    """Stands for a kill: no code of ours may catch it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_clip_folder: Path) -> Path:
    """An untrained StableDiffusionPipeline of 64 x 64 pixels, as the shipped one is made."""
    folder = tmp_path_factory.mktemp("foundation") / "diffusion"
    torch.manual_seed(0)
    tokenizer = tokenizer_of(tiny_clip_folder)
    encoder = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ))
    vae = autoencoder.build(autoencoder.Recipe(channels=(4, 4, 8, 8), latent_channels=4))
    unet = build_unet(Recipe(channels=(16, 16), heads=2), 4, 16)
    scheduler = DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing",
                                            steps_offset=1, lambda_min_clipped=-5.1)
    whole = StableDiffusionPipeline(vae, encoder, tokenizer, unet, scheduler, None, None, requires_safety_checker=False)
    whole.save_pretrained(folder)
    return folder


def params(**changes: object) -> SynthesisParams:
    given = {"corpora": ("scenes",), "clips": ("tiny",), "generator": "diffusion", "steps": 2, "batch": 5}
    return SynthesisParams(**{**given, **changes})


def load(folder: Path, **changes: object) -> Generator:
    return Generator(folder, params(**changes), CPU)


def pixels(generator: Generator, captions: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
    images, blanked = generator.draw(captions, seeds)
    assert blanked == [False] * len(images)
    return np.stack([np.asarray(image) for image in images]).astype(int)


def test_a_caption_becomes_a_picture_of_the_models_own_size(folder):
    images, _ = load(folder).draw(CAPTIONS, range(5))
    assert [(image.mode, image.size) for image in images] == [("RGB", (64, 64))] * 5
    assert min(np.asarray(image).std() for image in images) > 1


def test_another_size_may_be_asked(folder):
    assert load(folder, size=32).draw(CAPTIONS[:1], [0])[0][0].size == (32, 32)


def test_the_same_caption_and_seed_give_the_same_picture_twice(folder):
    generator = load(folder)
    np.testing.assert_array_equal(pixels(generator, CAPTIONS, range(5)), pixels(generator, CAPTIONS, range(5)))
    np.testing.assert_array_equal(pixels(load(folder), CAPTIONS, range(5)), pixels(generator, CAPTIONS, range(5)))


def test_another_caption_or_seed_gives_another_picture(folder):
    generator = load(folder)
    car, again, dogs = pixels(generator, [CAPTIONS[0], CAPTIONS[0], CAPTIONS[1]], [1, 2, 1])
    assert np.abs(car - again).max() > 1
    assert np.abs(car - dogs).max() > 1


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_picture_does_not_depend_on_the_pictures_drawn_beside_it(folder, batch):
    together = pixels(load(folder), CAPTIONS, range(5))
    apart = pixels(load(folder, batch=batch), CAPTIONS[::-1], [4, 3, 2, 1, 0])[::-1]
    # sums of another batch add in another order, and may round to the next grey level
    np.testing.assert_allclose(apart, together, atol=1)


def test_bfloat16_changes_a_picture_far_less_than_another_seed_does(folder):
    short = pixels(load(folder, precision="bfloat16"), CAPTIONS, range(5))
    exact, other = pixels(load(folder), CAPTIONS, range(5)), pixels(load(folder), CAPTIONS, range(5, 10))
    assert not np.array_equal(short, exact)
    assert np.abs(short - exact).mean() < 0.1 * np.abs(other - exact).mean()


def test_guidance_and_steps_change_the_picture(folder):
    plain = pixels(load(folder), CAPTIONS[:1], [0])
    for changes in ({"guidance": 1.0}, {"steps": 3}):
        assert np.abs(pixels(load(folder, **changes), CAPTIONS[:1], [0]) - plain).max() > 1


def test_each_caption_and_each_attempt_has_a_seed_of_its_own_that_torch_takes():
    seeds = {picture_seed(seed, key, attempt) for seed in (0, 1) for key in ("a", "b", "1", "11") for attempt in range(3)}
    assert len(seeds) == 24
    assert all(torch.Generator().manual_seed(seed).initial_seed() == seed for seed in seeds)
    assert picture_seed(0, "a", 0) == picture_seed(0, "a", 0)


@pytest.fixture
def damaged(folder, tmp_path) -> Path:
    """A copy of the model, to damage."""
    shutil.copytree(folder, tmp_path / "diffusion")
    return tmp_path / "diffusion"


def test_a_folder_without_a_diffusion_model_is_named(tmp_path, user_error):
    assert f"{tmp_path} holds no diffusion model" in user_error(load, tmp_path)


WEIGHTS = ("unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors")


@pytest.mark.parametrize("name", [*WEIGHTS, "unet/config.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer.json", "tokenizer"])
def test_a_model_that_lacks_a_part_is_named(damaged, user_error, name):
    shutil.rmtree(damaged / name) if name == "tokenizer" else (damaged / name).unlink()
    assert str(damaged) in user_error(load, damaged)


@pytest.mark.parametrize("name", [*WEIGHTS, "model_index.json", "vae/config.json", "tokenizer/tokenizer.json"])
def test_a_model_with_a_cut_file_is_named(damaged, user_error, name):
    content = (damaged / name).read_bytes()
    (damaged / name).write_bytes(content[: len(content) // 2])
    assert str(damaged) in user_error(load, damaged)


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_lack_a_tensor_are_named_and_never_replaced_by_random_ones(damaged, user_error, name):
    weights = load_file(damaged / name)
    del weights[min(weights)]
    save_file(weights, damaged / name, metadata={"format": "pt"})
    assert str(damaged) in user_error(load, damaged)


@pytest.mark.parametrize(("lacks", "told"), [
    ("unet", {}), ("vae", {}), ("text_encoder", {}), ("tokenizer", {}), ("scheduler", {}),
    ("scheduler", {"scheduler": ["nobody/none", "Scheduler"]}),
    ("safety_checker", {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}),
])
def test_no_generator_asks_the_network_for_what_it_names_or_lacks(damaged, asked, user_error, lacks, told):
    index = read_json(damaged / "model_index.json")
    (damaged / "model_index.json").write_text(json.dumps({**index, "_name_or_path": "nobody/none", **told}))
    shutil.rmtree(damaged / lacks, ignore_errors=True)
    assert str(damaged) in user_error(load, damaged)
    assert not asked


def test_a_generator_that_says_where_it_was_found_asks_nothing_there(damaged, asked):
    origin = {"_name_or_path": "nobody/none", "name_or_path": "nobody/none"}
    for name in ("unet/config.json", "vae/config.json", "text_encoder/config.json", "tokenizer/tokenizer_config.json"):
        (damaged / name).write_text(json.dumps({**read_json(damaged / name), **origin}))
    load(damaged).draw(CAPTIONS[:1], [0])
    assert not asked


@pytest.mark.parametrize("changes", [{"steps": 0}, {"batch": 0}, {"attempts": 0}, {"captions": 1}, {"guidance": 0.5},
                                     {"seed": -1}])
def test_values_out_of_range_are_refused(user_error, changes):
    given = {"corpora": ["scenes"], "clips": ["tiny"], "generator": "diffusion", **changes}
    assert next(iter(changes)) in user_error(check, SynthesisParams, given, "synthesis")


class StubGenerator:
    """Draws a plain picture whose red is the number in the caption and whose green follows from the seed.

    blank: pictures that the safety checker takes away, as (number in the caption, attempt).
    """

    digest, device, precision = "g" * 64, CPU, "float32"

    def __init__(self, blank: Sequence[tuple[int, int]] = (), killed_at: int | None = None, **changes: object) -> None:
        self.params, self.blank, self.killed_at = params(**changes), set(blank), killed_at
        self.drawn: list[list[int]] = []

    def draw(self, captions: Sequence[str], seeds: Sequence[int]) -> tuple[list[Image.Image], list[bool]]:
        if len(self.drawn) == self.killed_at:
            raise Killed
        self.drawn.append([int(caption.split()[1]) for caption in captions])
        drawn = list(zip(self.drawn[-1], seeds, strict=True))
        blanked = [(number, self.attempt_of(number, seed)) in self.blank for number, seed in drawn]
        images = [Image.new("RGB", (8, 8), (number * 10, seed % 200 + 50, 100)) for number, seed in drawn]
        return [Image.new("RGB", (8, 8)) if blank else image for image, blank in zip(images, blanked, strict=True)], blanked

    def attempt_of(self, number: int, seed: int) -> int:
        """Which attempt at a caption's picture a seed belongs to."""
        return [picture_seed(self.params.seed, f"scenes-{number}", attempt) for attempt in range(4)].index(seed)


class StubClip:
    """Takes the mean colour of a picture for its features."""

    digest, width, preprocessing, precision, device, params = "c" * 64, 3, "mean colour", "float32", CPU, ClipParams()

    def encode_files(self, files: Sequence[Source]) -> np.ndarray:
        return np.array([np.asarray(open_image(file)).mean((0, 1)) for file in files], dtype=np.float32).reshape(len(files), 3)


DRAWN = paths.drawn("scenes")
TABLE, OUT = paths.image_table(DRAWN), paths.raw(DRAWN)


@pytest.fixture
def corpus(tmp_path, monkeypatch) -> list[str]:
    """Twenty-three captions, drawn in shards of five."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(drawing, "_SHARD", 5)
    texts = [f"caption {row} of many" for row in range(23)]
    write_corpus("scenes", texts, heldout=[4, 5])
    return texts


def draw(generator: StubGenerator) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "load_generator", lambda params, device: generator)
        synthesize("scenes", generator.params, CPU)


def colour(row: int, attempt: int = 0) -> tuple[int, int, int]:
    return row * 10, picture_seed(0, f"scenes-{row}", attempt) % 200 + 50, 100


def drawn_colours() -> list[tuple[int, ...]]:
    """Of every picture in the table, each of which must be plain."""
    found = [np.asarray(open_image(locate(OUT, path))) for path in pq.read_table(TABLE)["path"].to_pylist()]
    assert all((picture == picture[0, 0]).all() for picture in found)
    return [tuple(picture[0, 0].tolist()) for picture in found]


def test_every_caption_has_its_picture_and_a_row_with_its_text_and_split(corpus):
    generator = StubGenerator()
    draw(generator)
    assert [number for numbers in generator.drawn for number in numbers] == list(range(23))
    table = pq.read_table(TABLE).to_pydict()
    assert list(table) == ["image_id", "path", "split", "text", "attempts", "origin"]
    assert table["image_id"] == [f"scenes-{row}" for row in range(23)]
    assert table["text"] == corpus
    assert table["split"] == ["heldout" if row in (4, 5) else "train" for row in range(23)]
    assert table["attempts"] == [1] * 23
    assert drawn_colours() == [colour(row) for row in range(23)]
    assert read_json(paths.corpus(DRAWN) / "report.json") == {
        "asked": 23, "drawn": 23, "drawn_again": 0, "blanked_for_good": [], "captions_in_corpus": 23,
        "corpus_digest": digest_file(paths.corpus_table("scenes")),
    }


def test_the_drawn_data_set_has_every_caption_of_the_corpus_with_the_name_of_its_picture_where_one_was_drawn(corpus):
    draw(StubGenerator(captions=10, blank=[(0, attempt) for attempt in range(3)]))
    table, source = (pq.read_table(paths.corpus_table(dataset)).to_pydict() for dataset in (DRAWN, "scenes"))
    assert list(table) == ["caption_id", "image_id", "text", "split"]
    assert all(table[column] == source[column] for column in ("caption_id", "text", "split"))
    drawn = pq.read_table(TABLE)["image_id"].to_pylist()
    assert [key for key in table["image_id"] if key is not None] == drawn
    assert table["image_id"] == [key if key in drawn else None for key in table["caption_id"]]


def test_pictures_lie_in_webdataset_shards_beside_their_captions(corpus):
    draw(StubGenerator())
    assert sorted(file.name for file in OUT.iterdir()) == [
        *(f"pictures-{n:06d}.tar" for n in range(5)), "unpaired-manifest.json"]
    for number in range(5):
        rows = range(5 * number, min(5 * number + 5, 23))
        with tarfile.open(OUT / f"pictures-{number:06d}.tar") as file:
            assert file.getnames() == [f"{row:09d}.{suffix}" for row in rows for suffix in ("png", "txt")]
            assert [file.extractfile(f"{row:09d}.txt").read().decode() for row in rows] == [corpus[row] for row in rows]


def test_drawn_pictures_are_embedded_and_tagged_like_any_data_sets_in_the_order_of_their_table(corpus):
    draw(StubGenerator(blank=[(7, attempt) for attempt in range(3)]))
    kept = [row for row in range(23) if row != 7]
    embed_images("tiny", StubClip(), DRAWN)
    store = read(paths.image_features("tiny", DRAWN)).require(StubClip.digest, digest_file(TABLE))
    raw = np.array([colour(row) for row in kept], dtype=np.float32)
    np.testing.assert_allclose(store.norms, np.linalg.norm(raw, axis=1), rtol=1e-6)
    # half precision rounds each number below 1 by at most 2 ** -12
    np.testing.assert_allclose(store.features, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=2**-12 * 1.01)
    tag_images("stub", StubDetector(), DRAWN)
    tags = pq.read_table(paths.tags("stub", DRAWN) / "tags.parquet").to_pylist()
    seen = StubDetector().detect([Image.new("RGB", (8, 8), colour(row)) for row in kept])
    expected = [(f"scenes-{row}", d.label) for row, found in zip(kept, seen, strict=True) for d in found]
    assert [(row["id"], row["label"]) for row in tags] == expected
    assert read_json(paths.tags("stub", DRAWN) / "tags.json")["images"] == 22


def test_as_many_captions_are_drawn_as_asked_and_training_finds_whose_pictures_they_are(corpus):
    draw(StubGenerator(captions=10))
    rows = choose_rows(["heldout" if row in (4, 5) else "train" for row in range(23)], 10).tolist()
    assert drawn_captions("scenes") == rows
    assert drawn_colours() == [colour(row) for row in rows]
    report = read_json(paths.corpus(DRAWN) / "report.json")
    assert (report["asked"], report["drawn"], report["captions_in_corpus"]) == (10, 10, 23)


def test_a_blanked_picture_is_drawn_again_with_another_seed_and_counted(corpus):
    generator = StubGenerator(blank=[(3, 0), (11, 0), (11, 1)])
    draw(generator)
    assert generator.drawn == [[0, 1, 2, 3, 4], [3], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14], [11], [11], [15, 16, 17, 18, 19], [20, 21, 22]]
    assert pq.read_table(TABLE)["attempts"].to_pylist() == [{3: 2, 11: 3}.get(row, 1) for row in range(23)]
    assert drawn_colours() == [colour(row, {3: 1, 11: 2}.get(row, 0)) for row in range(23)]
    report = read_json(paths.corpus(DRAWN) / "report.json")
    assert (report["drawn"], report["drawn_again"], report["blanked_for_good"]) == (23, 2, [])


# 15 to 19 are a whole shard
@pytest.mark.parametrize("rows", [(3, 11), (0, 22), range(15, 20)])
def test_what_is_blanked_for_good_is_left_out_of_the_table_and_the_shards_and_named(corpus, rows):
    draw(StubGenerator(blank=[(row, attempt) for row in rows for attempt in range(2)], attempts=2))
    kept = [row for row in range(23) if row not in rows]
    table = pq.read_table(TABLE).to_pydict()
    assert table["image_id"] == [f"scenes-{row}" for row in kept]
    assert table["text"] == [corpus[row] for row in kept]
    assert drawn_captions("scenes") == kept
    assert drawn_colours() == [colour(row) for row in kept]
    for tar in OUT.glob("*.tar"):
        with tarfile.open(tar) as file:
            assert not set(file.getnames()) & {f"{row:09d}.{suffix}" for row in rows for suffix in ("png", "txt")}
    report = read_json(paths.corpus(DRAWN) / "report.json")
    assert (report["asked"], report["drawn"], report["drawn_again"]) == (23, len(kept), len(rows))
    assert report["blanked_for_good"] == sorted(f"scenes-{row}" for row in rows)


def test_a_corpus_of_which_every_picture_is_blanked_is_named(corpus, user_error):
    message = user_error(draw, StubGenerator(blank=[(row, attempt) for row in range(23) for attempt in range(3)]))
    assert "every synthetic picture of scenes was blanked" in message
    assert not OUT.exists()
    assert not paths.corpus(DRAWN).exists()


@pytest.mark.parametrize("killed_at", [1, 2, 3])
def test_an_interrupted_synthesis_draws_only_what_is_missing_and_ends_in_the_same_bytes(corpus, killed_at):
    blank = [(3, 0), (7, 0), (7, 1), (7, 2)]
    whole = StubGenerator(blank)
    draw(whole)
    expected = digest_tree(OUT)
    OUT.rename("aside")
    shutil.rmtree(paths.WORK)
    first = StubGenerator(blank, killed_at)
    with pytest.raises(Killed):
        draw(first)
    assert not OUT.exists()
    second = StubGenerator(blank)
    draw(second)
    # killed in the second attempt at the first shard, before the second shard, and in the second attempt at it
    assert second.drawn == whole.drawn[{1: 0, 2: 2, 3: 2}[killed_at] :]
    assert digest_tree(OUT) == expected


def test_a_kill_between_two_shards_loses_neither(corpus, monkeypatch):
    draw(StubGenerator())
    expected = digest_tree(OUT)
    OUT.rename("aside")
    shutil.rmtree(paths.WORK)
    real = drawing.Work.record

    def record(work: drawing.Work, shard: str, *what: object) -> None:
        if shard == "10":
            raise Killed
        real(work, shard, *what)

    with monkeypatch.context() as patch:
        patch.setattr(drawing.Work, "record", record)
        with pytest.raises(Killed):
            draw(StubGenerator())
    second = StubGenerator()
    draw(second)
    assert [numbers[0] for numbers in second.drawn] == [10, 15, 20]
    assert digest_tree(OUT) == expected


@pytest.mark.parametrize("changes", [{"seed": 1}, {"steps": 3}, {"guidance": 2.0}, {"captions": 22}, {"batch": 4}, {"size": 16}])
def test_pictures_of_other_parameters_are_not_continued(corpus, changes):
    with pytest.raises(Killed):
        draw(StubGenerator(killed_at=2))
    other = StubGenerator(**changes)
    draw(other)
    assert sum(map(len, other.drawn)) == changes.get("captions", 23)


@pytest.mark.parametrize(("attribute", "value"), [("precision", "bfloat16"), ("digest", "0" * 64)])
def test_pictures_of_another_precision_or_model_are_not_continued(corpus, attribute, value):
    with pytest.raises(Killed):
        draw(StubGenerator(killed_at=2))
    other = StubGenerator()
    setattr(other, attribute, value)
    draw(other)
    assert sum(map(len, other.drawn)) == 23


@pytest.mark.parametrize("changes", [{"corpora": ("scenes", "album")}, {"clips": ("tiny", "other")}])
def test_another_corpus_or_clip_beside_these_draws_nothing_again(corpus, changes):
    with pytest.raises(Killed):
        draw(StubGenerator(killed_at=2))
    other = StubGenerator(**changes)
    draw(other)
    assert [numbers[0] for numbers in other.drawn] == [10, 15, 20]
