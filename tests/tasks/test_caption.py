"""What a system's own CLIP makes of its captions, beside the judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.core import paths
from pipeline.features.encoders import Clip
from pipeline.metrics.judge import EvaluationParams
from pipeline.systems import Setting
from pipeline.tasks.caption import Scorer, read_references, scored_with
from tests.artefacts import CLIP
from tests.tiny_systems import CPU, PARAMS, make_project, shades

SETTING = Setting("scenes", "scenes", "val")
TEXTS = ["a red dog", "a blue car", "", "a brown boat"]  # of the last four pictures


@pytest.fixture
def project(tmp_path: Path, tiny_clip_folder: Path, tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(tmp_path, tiny_clip_folder, tiny_clip)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def own(texts: list[str], clip: str = CLIP) -> dict[str, np.ndarray]:
    _, rows = read_references(SETTING)
    return Scorer(EvaluationParams("judge"), PARAMS, CPU)._own(texts, SETTING, rows, clip)


def test_the_systems_own_clip_gives_two_and_a_half_times_the_cosine(project: Path, tiny_clip: Clip) -> None:
    images, texts = tiny_clip.encode_images(shades()[8:]), tiny_clip.encode_texts(TEXTS)
    cosines = [float(image @ text / np.linalg.norm(image) / np.linalg.norm(text)) for image, text in zip(images, texts, strict=True)]
    np.testing.assert_allclose(own(TEXTS)["OwnCLIPScore"], 2.5 * np.maximum(cosines, 0), atol=3e-3)  # stores are in half precision


def test_pictures_that_this_clip_has_not_embedded_have_no_such_score(project: Path) -> None:
    assert own(TEXTS, "another") == {}


def test_scores_depend_on_what_they_are_made_with(project: Path) -> None:
    params = {**PARAMS, "evaluation": {"judge": "judge", "language_model": "lm"}}
    files = scored_with(SETTING, ["scenes"], CLIP, params)
    assert {paths.foundation("lm"), paths.foundation(CLIP), paths.image_features(CLIP, "scenes"), paths.references_table("scenes"),
            paths.corpus_table("scenes")} == set(files)
