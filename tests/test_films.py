"""Films at the command line: captioned among pictures, explained by their key frames, and refused where single pictures are looked at."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pipeline.core import paths
from pipeline.features import tagging
from pipeline.features.encoders import Clip
from pipeline.features.frames import FrameParams, embed_frames
from pipeline.features.stores import unit
from pipeline.language.condition import Condition
from pipeline.methods import find_method
from pipeline.methods.base import Method
from pipeline.needs.base import Inputs, Parts, PictureNeed
from pipeline.needs.frames import Frames
from pipeline.needs.images import Images
from pipeline.photographs import caption_files
from pipeline.report.explained import explained_page
from pipeline.systems import find_system
from pipeline.training import train_system
from pipeline.videos import key_frames
from tests.artefacts import CLIP, StubDetector
from tests.films import FILES, film, write_films
from tests.tiny_systems import CPU, TEXT_ONLY, make_project, params, write_params

EACH = {**TEXT_ONLY, "method": "knight", "looks_at": f"{CLIP}/frames", "train": {"k": 3}, "caption": {"frames": "each"}}
MACCAP = {**TEXT_ONLY, "method": "maccap", "looks_at": f"{CLIP}/regions", "train": {"rows": 3, "queries": 3, "heads": 2, "feedforward": 16}}
CHANGES = {"frames": {"count": 3}, "regions": {"count": 4}, "systems.knight": EACH, "systems.maccap": MACCAP}
ALL = params(CHANGES)
TRAINED = ("knight", "decap", "clipre", "maccap", "syntic")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_clip_folder: Path, tiny_clip: Clip) -> Path:
    """A project with pictures and videos, in which systems that look at frames, at their mean, at regions and at objects are trained."""
    folder = tmp_path_factory.mktemp("films")
    make_project(folder, tiny_clip_folder, tiny_clip)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_params(ALL)
        write_films("films")
        embed_frames(CLIP, tiny_clip, "films", FrameParams(3))
        for name in TRAINED:
            train_system(name, find_system(name, ALL), ALL, CPU)
    return folder


@pytest.fixture
def folder(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures, a video, a broken one and what is neither, in a copy of the project that is the current folder."""
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("UNPAIRED_DEVICE", "cpu")
    monkeypatch.setattr(tagging, "load_detector", lambda name, params, device: StubDetector())
    found = Path("mixed")
    found.mkdir()
    Image.new("RGB", (64, 64), "green").save(found / "a.png")
    film(found / "b.mp4", 9, seed=4)
    (found / "c.mov").write_bytes((found / "b.mp4").read_bytes()[:400])
    Image.new("RGB", (300, 40), "red").save(found / "d.jpg")
    return found


def said(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What was printed as JSON, by the file's name, and the errors."""
    out, err = capsys.readouterr()
    return ({Path(entry["image"]).name: entry for entry in map(json.loads, out.splitlines())},
            [line for line in err.splitlines() if line.startswith("error:")])


@pytest.mark.parametrize("name", ["knight", "decap", "clipre"])
def test_a_folder_is_captioned_with_its_videos_and_a_broken_one_is_named(folder: Path, capsys, name: str) -> None:
    assert not caption_files([folder], name, None, True, False)
    captions, errors = said(capsys)
    assert list(captions) == ["a.png", "b.mp4", "d.jpg"]
    assert all(set(entry) == {"image", "caption"} and isinstance(entry["caption"], str) for entry in captions.values())
    assert len(errors) == 1
    assert "c.mov" in errors[0]
    (folder / "c.mov").unlink()
    assert caption_files([folder], name, None, True, False)


@pytest.mark.parametrize(("name", "kind"), [("knight", Frames), ("decap", Images)])
def test_a_system_is_given_of_a_video_what_it_gets_in_a_setting_whatever_stands_beside_it(folder: Path, monkeypatch, name: str,
                                                                                      kind: type[PictureNeed[Any]]) -> None:
    method, shown = find_method(ALL["systems"][name]["method"]), []
    real = method.inference_condition

    def watch(self: Method, seen: Inputs, support: Inputs) -> Condition:
        shown.append(seen.of(kind))
        return real(self, seen, support)

    monkeypatch.setattr(method, "inference_condition", watch)
    write_params(params({**CHANGES, "captioning.batch": 9}))  # three at once, of three frames each
    assert caption_files([folder / "a.png", *(paths.raw("films") / file for file in FILES), folder / "d.jpg"], name, None, True, False)
    assert [len(batch) for batch in shown] == [3, 3, 1]
    stored = kind().load(CLIP, "films")
    if isinstance(stored, Parts):
        assert torch.equal(torch.cat([batch.seeds for batch in shown])[1:6], stored.seeds)
        stored, shown = stored.features, [batch.features for batch in shown]
    torch.testing.assert_close(torch.cat(shown)[1:6], stored.float(), atol=2**-10, rtol=0)  # stores keep half precision


def test_explain_shows_the_nearest_caption_of_each_key_frame_of_a_video_alone(folder: Path, capsys, tiny_clip: Clip) -> None:
    assert not caption_files([folder], "decap", None, True, True)
    captions, _ = said(capsys)
    assert [name for name, entry in captions.items() if "frames" in entry] == ["b.mp4"]
    frames = captions["b.mp4"]["frames"]
    assert len(frames) == 3
    texts = [f"a {colour} {thing}" for colour in ("red", "blue", "brown") for thing in ("dog", "car", "boat", "horse")]
    features_ND = unit(tiny_clip.encode_texts(texts))
    for frame, near in zip(key_frames(folder / "b.mp4", 3), frames, strict=True):
        similarity_N = features_ND @ unit(tiny_clip.encode_pixels([tiny_clip.pixels(frame)]))[0]
        assert near["similarity"] == pytest.approx(float(similarity_N.max()), abs=2e-3)
        assert similarity_N[texts.index(near["caption"])] == pytest.approx(float(similarity_N.max()), abs=2e-3)
    assert not caption_files([folder], "decap", None, False, True)
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("  key frame ")] == [
        f"  key frame {number}: {near['similarity']:.3f}  {near['caption']}" for number, near in enumerate(frames, 1)]


@pytest.mark.parametrize(("name", "looked_at"), [("maccap", "Regions"), ("syntic", "Objects")])
@pytest.mark.parametrize("explain", [False, True])
def test_a_system_that_looks_at_single_pictures_refuses_a_video_and_captions_the_rest(folder: Path, capsys, name: str, looked_at: str,
                                                                                    explain: bool) -> None:
    (folder / "c.mov").unlink()
    assert not caption_files([folder], name, None, True, explain)
    captions, errors = said(capsys)
    assert list(captions) == ["a.png", "d.jpg"]
    assert len(errors) == 1
    assert f"b.mp4 is a video, but {name} is given {looked_at}" in errors[0]


def test_the_page_shows_a_video_as_a_strip_of_its_key_frames(folder: Path) -> None:
    with explained_page(Path("page.html"), "knight") as show:
        assert not caption_files([folder], "knight", None, False, True, show)
    page = Path("page.html").read_text()
    assert page.count("<article") == 3
    strip, = (part for part in page.split("<article")[1:] if 'class="picture film"' in part)
    assert "b.mp4" in strip
    assert "nearest to each key frame" in strip
    assert page.count("nearest to each key frame") == 1
