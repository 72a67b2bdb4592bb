"""A kind of input that nobody reads today is its class, a word in the table of kinds, and a stage that writes its stores."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL.Image import Image
from torch import Tensor

from pipeline import systems
from pipeline.captioning import caption_settings
from pipeline.core import paths
from pipeline.core.artefacts import seal
from pipeline.core.files import digest_file, digest_model, digest_tree, read_json, write_json
from pipeline.features.encoders import Clip
from pipeline.features.stores import Origin, read, unit, write_store
from pipeline.images import locate, open_image
from pipeline.language.condition import Condition
from pipeline.methods import METHODS
from pipeline.methods.base import Method
from pipeline.needs import KINDS
from pipeline.needs.base import Inputs, Models, Need, PictureNeed
from pipeline.needs.pairs import Pairs
from pipeline.photographs import caption_files
from pipeline.systems import find_system, make_method
from pipeline.training import train_system
from tests.artefacts import CLIP, CLIP_DIGEST, edit_json
from tests.tiny_systems import CPU, TEXT_ONLY, make_project, params, write_params

PALETTE = paths.foundation("palette")  # stands for a frozen model that sees colours


def colours_of(pictures: Sequence[Image]) -> np.ndarray:
    """(M, 4): mean red, green and blue, and the brightest that they could be."""
    return np.array([[*np.asarray(picture).mean((0, 1)), 255] for picture in pictures], dtype=np.float32)


@dataclass(frozen=True)
class Colours(PictureNeed[Tensor]):
    """The mean colour of a picture, as unit rows (M, 4)."""

    kinds = ("colour",)

    def folders(self, clip: str, dataset: str) -> list[Path]:
        return [paths.DATA / "features" / clip / "colour" / dataset]

    def models(self, clip: str, dataset: str) -> Models:
        folder, = self.folders(clip, dataset)
        return Models({"palette palette": read_json(folder / "colour.json")["palette_digest"]}, (folder,))

    def load(self, clip: str, dataset: str) -> Tensor:
        return torch.from_numpy(read(*self.folders(clip, dataset)).require(source_digest=digest_file(self.table(dataset))).features)

    def maker(self, clip: Clip, params: dict[str, Any]) -> ColourMaker:
        return ColourMaker()


class ColourMaker:
    """Mean colours of pictures in memory."""

    batch = 2

    def __init__(self) -> None:
        self.models = Models({"palette palette": digest_model(PALETTE)}, (PALETTE,))

    def prepare(self, picture: Image) -> np.ndarray:
        return colours_of([picture])[0]

    def make(self, prepared: Sequence[np.ndarray]) -> tuple[Tensor, list[dict[str, Any]]]:
        return torch.from_numpy(unit(np.stack(prepared))), [{"red": float(colour[0])} for colour in prepared]


class FromColours(Method):
    paper = "none: a method of this test"
    supervision = "synthetic"

    @property
    def learns_from(self) -> tuple[Need[Any], ...]:
        return (Pairs((Colours(),)),)

    @property
    def looks_at(self) -> tuple[PictureNeed[Any], ...]:
        return (Colours(),)

    def training_condition(self, corpus: Inputs, rows: Tensor, generator: torch.Generator) -> Condition:
        return Condition.full(corpus.of(Pairs)[rows].of(Colours).float()[:, None])

    def inference_condition(self, seen: Inputs, support: Inputs) -> Condition:
        return Condition.full(seen.of(Colours).float()[:, None])


def write_colours(dataset: str) -> None:
    """What a stage would do."""
    table, (folder,) = paths.image_table(dataset), Colours().folders(CLIP, dataset)
    pictures = [open_image(locate(paths.raw(dataset), path)) for path in pq.read_table(table)["path"].to_pylist()]
    write_store(folder, colours_of(pictures), Origin(CLIP, CLIP_DIGEST, 4, "mean colour", digest_file(table), "float32"))
    write_json(folder / "colour.json", {"palette_digest": digest_model(PALETTE)})
    seal(folder)


CHOICES = {**TEXT_ONLY, "method": "colours", "corpus": "scenes-drawn", "learns_from": f"{CLIP}/colour", "learns_with": f"{CLIP}/colour",
           "looks_at": f"{CLIP}/colour"}
ALL = params({"systems.colours": CHOICES})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_clip_folder: Path, tiny_clip: Clip) -> Path:
    """A project with a colour for each of its pictures."""
    folder = tmp_path_factory.mktemp("colours")
    make_project(folder, tiny_clip_folder, tiny_clip)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        PALETTE.mkdir()
        (PALETTE / "weights").write_bytes(b"red, green, blue")
        for dataset in ("scenes", "scenes-drawn"):
            write_colours(dataset)
        write_params(ALL)
    return folder


@pytest.fixture(autouse=True)
def _inside(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the project as the current folder, to change; the method and the kind are known by name."""
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("UNPAIRED_DEVICE", "cpu")
    monkeypatch.setitem(METHODS, "colours", f"{__name__}:FromColours")
    monkeypatch.setattr(systems, "KINDS", (*KINDS, "colour"))


def train(changes: dict[str, Any] | None = None) -> None:
    train_system("colours", find_system("colours", ALL), params({"systems.colours": CHOICES, **(changes or {})}), CPU)


def caption() -> None:
    caption_settings("colours", find_system("colours", ALL), ALL, CPU)


def conditions(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What the method is given of pictures to caption in what follows."""
    shown: list[Tensor] = []
    real = FromColours.inference_condition

    def watch(method: FromColours, seen: Inputs, support: Inputs) -> Condition:
        shown.append(seen.of(Colours))
        return real(method, seen, support)

    monkeypatch.setattr(FromColours, "inference_condition", watch)
    return shown


def test_a_system_is_trained_on_the_new_kind_and_captions_a_setting_by_it(monkeypatch):
    train()
    assert read_json(paths.model("colours") / "system.json")["models"] == {"palette palette": digest_model(PALETTE)}
    shown = conditions(monkeypatch)
    caption()
    captions = read_json(paths.captions("colours") / "in-domain.json")
    assert [entry["image_id"] for entry in captions] == [f"i{number}" for number in range(8)]
    assert torch.equal(torch.cat(shown), Colours().load(CLIP, "scenes")[:8])


def test_another_content_of_the_new_kind_trains_again():
    train()
    before = digest_tree(paths.model("colours"))
    table, (folder,) = paths.image_table("scenes-drawn"), Colours().folders(CLIP, "scenes-drawn")
    write_store(folder, np.eye(10, 4, dtype=np.float32) + 1, Origin(CLIP, CLIP_DIGEST, 4, "mean colour", digest_file(table), "float32"))
    write_json(folder / "colour.json", {"palette_digest": digest_model(PALETTE)})
    seal(folder)
    train()
    assert digest_tree(paths.model("colours")) != before


def test_what_another_model_saw_than_in_training_is_refused(user_error):
    train()
    (folder,) = Colours().folders(CLIP, "scenes")
    edit_json(folder / "colour.json", palette_digest="0" * 64)
    assert f"{folder} was made with another palette palette than {paths.model('colours')}" in user_error(caption)


def look(*pictures: int) -> bool:
    return caption_files([paths.raw("scenes") / f"{number}.png" for number in pictures], "colours", None, True, False)


def test_the_command_line_makes_the_new_kind_of_pictures_in_memory(monkeypatch, capsys):
    train()
    caption()
    of_setting = [entry["caption"] for entry in read_json(paths.captions("colours") / "in-domain.json")]
    shown = conditions(monkeypatch)
    assert look(1, 6, 7)
    assert [len(batch) for batch in shown] == [2, 1]  # the maker's batch
    # a store keeps half precision
    torch.testing.assert_close(torch.cat(shown), Colours().load(CLIP, "scenes")[[1, 6, 7]].float(), atol=2**-11, rtol=0)
    said = [json.loads(line)["caption"] for line in capsys.readouterr().out.splitlines()]
    assert said == [of_setting[number] for number in (1, 6, 7)]


def test_the_command_line_looks_with_no_other_model_than_the_one_in_training(user_error):
    train()
    (PALETTE / "weights").write_bytes(b"cyan, magenta, yellow")
    assert "another palette palette" in user_error(look, 1)


def test_a_recipe_of_more_captions_than_were_drawn_is_refused_whatever_is_learnt_of_the_drawn_ones(user_error):
    assert "synthesis.captions is 10" in user_error(train, {"recipes.small.captions": 11})


def test_a_slot_of_another_kind_is_refused_by_the_name_of_the_new_one(user_error):
    system = find_system("colours", params({"systems.colours": {**CHOICES, "looks_at": f"{CLIP}/image"}}))
    message = user_error(make_method, "colours", system)
    assert "holds no Colours: name colour there" in message
