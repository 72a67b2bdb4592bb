"""The CLIP beside what it saw: methods that read sentences while they caption get the weights that saw the pictures, loaded once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.captioning import caption_settings
from pipeline.core import paths
from pipeline.core.files import read_json
from pipeline.features import encoders
from pipeline.features.encoders import Clip
from pipeline.features.stores import unit
from pipeline.language.decoders import Decoder
from pipeline.language.decoding import Decoding
from pipeline.methods import METHODS
from pipeline.methods.base import Method
from pipeline.needs import text_tower
from pipeline.needs.base import Inputs, PictureNeed
from pipeline.needs.images import Images
from pipeline.needs.text_tower import TextTower
from pipeline.photographs import caption_files
from pipeline.systems import find_system
from pipeline.training import train_system
from tests.artefacts import CLIP
from tests.tiny_systems import CPU, TEXT_ONLY, make_project, params, shades, write_params

ANSWERS = ["a red dog", "a brown boat", "the moon over the snow", "birds", "a cup of tea", "two dogs on the sand"]
ALL = params({"systems.picks": {**TEXT_ONLY, "method": "picks", "recipe": "none"}})
LEAST = 2**-9  # two answers nearer to each other than what a store's half precision rounds


class Picks(Method):
    """Of `ANSWERS` the one that the CLIP finds nearest to a picture."""

    paper = "none: a method of this test"
    supervision = "text"
    trains = False
    has_decoder = False

    @property
    def looks_at(self) -> tuple[PictureNeed[Any], ...]:
        return Images(), TextTower()

    def caption(self, seen: Inputs, support: Inputs, decoder: Decoder | None, decoding: Decoding) -> list[str]:
        clip = seen.of(TextTower).clip
        assert clip is not None
        answers_AD = torch.from_numpy(unit(clip.encode_texts(ANSWERS)))
        return [ANSWERS[best] for best in (seen.of(Images).float() @ answers_AD.T).argmax(1).tolist()]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_clip_folder: Path, tiny_clip: Clip) -> Path:
    """A project with the model of such a system, which is its card alone."""
    folder = tmp_path_factory.mktemp("tower")
    make_project(folder, tiny_clip_folder, tiny_clip)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(METHODS, "picks", f"{__name__}:Picks")
        write_params(ALL)
        train_system("picks", find_system("picks", ALL), ALL, CPU)
    return folder


@pytest.fixture(autouse=True)
def _inside(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the project as the current folder, to change; no CLIP is loaded yet."""
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("UNPAIRED_DEVICE", "cpu")
    monkeypatch.setitem(METHODS, "picks", f"{__name__}:Picks")
    text_tower._loaded.cache_clear()


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The CLIPs that are loaded in what follows."""
    names: list[str] = []
    real = Clip.__init__

    def init(clip: Clip, folder: Path, *arguments: Any) -> None:
        names.append(folder.name)
        real(clip, folder, *arguments)

    monkeypatch.setattr(encoders.Clip, "__init__", init)
    return names


def caption() -> list[str]:
    caption_settings("picks", find_system("picks", ALL), ALL, CPU)
    return [entry["caption"] for entry in read_json(paths.captions("picks") / "in-domain.json")]


def nearest(clip: Clip, number: int) -> set[str]:
    """The answers nearest to a picture of the setting, as near as can be told; both sides are encoded anew."""
    picture, answers = unit(clip.encode_images([shades()[number]]))[0], unit(clip.encode_texts(ANSWERS))
    similarity = np.array([float(answer @ picture) for answer in answers])
    return {ANSWERS[i] for i in range(len(ANSWERS)) if similarity[i] >= similarity.max() - LEAST}


def other_weights() -> None:
    """The CLIP in the project has another text tower from here on."""
    file = paths.foundation(CLIP) / "open_clip_model.safetensors"
    weights = load_file(file)
    save_file({**weights, "text_projection": -weights["text_projection"]}, file)


def test_a_method_reads_sentences_with_the_clip_that_saw_the_pictures(tiny_clip):
    said = caption()
    assert len(said) == 8
    assert all(text in nearest(tiny_clip, number) for number, text in enumerate(said))


def test_the_clip_is_loaded_once_for_all_batches_and_only_where_captions_are_made(loaded):
    caption()
    assert loaded == [CLIP]  # of three batches
    text_tower._loaded.cache_clear()
    caption()  # nothing has changed
    assert loaded == [CLIP]


def test_a_clip_of_other_weights_than_saw_the_pictures_is_refused(loaded, user_error):
    other_weights()
    message = user_error(caption)
    assert f"another CLIP {CLIP} than" in message
    assert str(paths.image_features(CLIP, "scenes")) in message
    assert not loaded


def test_pictures_in_memory_are_captioned_with_the_clip_that_looks_at_them_and_no_second_one(loaded, capsys, tiny_clip):
    assert caption_files([paths.raw("scenes") / f"{number}.png" for number in (1, 6)], "picks", None, True, False)
    said = [json.loads(line)["caption"] for line in capsys.readouterr().out.splitlines()]
    assert all(text in nearest(tiny_clip, number) for number, text in zip((1, 6), said, strict=True))
    assert loaded == [CLIP]
