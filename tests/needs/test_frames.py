"""Videos in memory are what stores hold of them, also in one batch with pictures."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.core import paths
from pipeline.features.embedding import origin_of
from pipeline.features.encoders import Clip
from pipeline.features.frames import FrameParams, embed_frames
from pipeline.features.stores import read
from pipeline.needs.base import Parts, VideoMaker
from pipeline.needs.frames import Frames
from pipeline.needs.images import ImageMaker, Images
from pipeline.needs.regions import Regions
from pipeline.videos import open_frames
from tests.artefacts import edit_table
from tests.films import write_films

PARAMS = {"frames": {"count": 5}, "regions": {"count": 4}}
HALF = 2**-10  # stores keep half precision


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_clip: Clip) -> list[Path]:
    """Four videos and a picture, embedded."""
    monkeypatch.chdir(tmp_path)
    found = write_films("films")
    embed_frames("tiny", tiny_clip, "films", FrameParams(5))
    return found


def in_memory(need: Frames | Images, clip: Clip, files: list[Path]) -> Parts | Tensor:
    maker = need.maker(clip, PARAMS)
    assert isinstance(maker, VideoMaker)
    opened = [open_frames(file, 5) for file in files]
    made, said = maker.make([maker.prepare(frame) for frames in opened for frame in frames])
    assert len(said) == sum(map(len, opened))
    found: Parts | Tensor = maker.join(made, [len(frames) for frames in opened])
    return found


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [2], [1], [2, 0]])
def test_frames_in_memory_are_those_of_the_store(files: list[Path], tiny_clip: Clip, rows: list[int]) -> None:
    """Alone and in a batch, pictures and videos mixed."""
    found, stored = in_memory(Frames(), tiny_clip, [files[row] for row in rows]), Frames().load("tiny", "films")[rows]
    assert isinstance(found, Parts)
    assert found.features.shape == (len(rows), 5, 8)
    torch.testing.assert_close(found.features, stored.features.float(), atol=HALF, rtol=0)
    assert torch.equal(found.seeds, stored.seeds)


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [2], [1], [2, 0]])
def test_the_feature_of_a_video_in_memory_is_the_mean_of_the_store(files: list[Path], tiny_clip: Clip, rows: list[int]) -> None:
    found, stored = in_memory(Images(), tiny_clip, [files[row] for row in rows]), Images().load("tiny", "films")[rows]
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found, stored.float(), atol=HALF, rtol=0)


def test_frames_are_joined_by_their_videos(tiny_clip: Clip) -> None:
    frames = normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    maker = ImageMaker(tiny_clip)
    expected = [normalize(part.mean(0), dim=0) for part in (frames[:3], frames[3:4], frames[4:])]
    joined = maker.join(frames, [3, 1, 2])
    torch.testing.assert_close(joined, torch.stack(expected))
    assert torch.equal(joined[1], frames[3])  # pictures stay as they are, to the bit, whatever stands beside them
    assert torch.equal(maker.join(frames, [1] * 6), frames)


def test_what_is_made_of_single_pictures_is_not_made_of_videos(tiny_clip: Clip) -> None:
    assert not isinstance(Regions().maker(tiny_clip, PARAMS), VideoMaker)


def test_frames_of_another_table_are_refused(files: list[Path], tiny_clip: Clip, user_error) -> None:
    assert read(paths.frames("tiny", "films")).origin == origin_of("tiny", tiny_clip, paths.image_table("films"))
    edit_table(paths.image_table("films"), pa.table({"image_id": ["a"], "path": ["a.mp4"], "split": ["test"]}))
    assert str(paths.frames("tiny", "films")) in user_error(Frames().load, "tiny", "films")
