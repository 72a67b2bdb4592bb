"""Key frames of videos in a CLIP's space: in the order of time, beside their mean, whatever is killed, and a broken video is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core import paths
from pipeline.core.files import digest_file, digest_tree
from pipeline.features import frames, stores
from pipeline.features.embedding import embed_images
from pipeline.features.encoders import Clip
from pipeline.features.frames import FrameParams, embed_frames, embed_means, seed_of
from pipeline.features.regions import prepare
from pipeline.features.stores import half, read, read_seeds, unit
from pipeline.images import open_image
from pipeline.videos import is_video, key_frames
from tests.films import film, write_films

PARAMS = FrameParams(count=5)
STORE, MEANS = Path("data/features/tiny/frames/films"), Path("data/features/tiny/image/films")
HALF = 2**-10  # stores keep half precision


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.chdir(tmp_path)
    return write_films("films")


def by_hand(clip: Clip, file: Path) -> np.ndarray:
    """(F, D), a frame at a time."""
    shown = key_frames(file, 5) if is_video(file) else [open_image(file)] * 5
    return np.concatenate([clip.encode_pixels([clip.pixels(frame)]) for frame in shown])


def test_a_store_holds_each_videos_key_frames_in_the_order_of_time(files: list[Path], tiny_clip: Clip) -> None:
    embed_frames("tiny", tiny_clip, "films", PARAMS)
    store = read(STORE)
    expected = np.stack([by_hand(tiny_clip, file) for file in files])
    assert store.features.shape == expected.shape == (5, 5, 8)
    np.testing.assert_allclose(store.features, half(expected), atol=HALF)
    np.testing.assert_allclose(store.norms, np.linalg.norm(expected, axis=-1), rtol=1e-5)
    assert (np.abs(np.diff(store.features[:2].astype(np.float32), axis=1)).max(-1) > 4 * HALF).all()  # another order would be seen
    assert np.array_equal(store.features[2], store.features[2][[0] * 5])  # a picture stands still
    assert (store.origin.clip_digest, store.origin.source_digest) == (tiny_clip.digest, digest_file(paths.image_table("films")))


def test_the_seed_of_a_video_follows_from_all_its_key_frames_and_their_order(files: list[Path], tiny_clip: Clip) -> None:
    embed_frames("tiny", tiny_clip, "films", PARAMS)
    seeds = read_seeds(STORE).tolist()
    shown = [key_frames(file, 5) if is_video(file) else [open_image(file)] * 5 for file in files]
    assert seeds == [seed_of([prepare(tiny_clip, frame).seed for frame in its]) for its in shown]
    assert seeds[4] == seeds[0]
    assert len(set(seeds)) == 4
    assert min(seeds) >= 0
    assert seed_of([1, 2]) != seed_of([2, 1])


def test_the_image_store_holds_the_mean_of_a_videos_key_frames(files: list[Path], tiny_clip: Clip) -> None:
    embed_frames("tiny", tiny_clip, "films", PARAMS)
    means = [unit(by_hand(tiny_clip, file)).mean(0) for file in files]
    np.testing.assert_allclose(read(MEANS).features, unit(np.stack(means)), atol=HALF)
    assert read(MEANS).origin.source_digest == digest_file(paths.image_table("films"))


def test_a_judge_sees_the_same_means(files: list[Path], tiny_clip: Clip) -> None:
    embed_frames("tiny", tiny_clip, "films", PARAMS)
    embed_means("judge", tiny_clip, "films", PARAMS)
    judged = read(paths.image_features("judge", "films"))
    np.testing.assert_allclose(judged.features, read(MEANS).features, atol=HALF)
    assert judged.origin.source_digest == digest_file(paths.image_table("films"))
    assert not paths.frames("judge", "films").exists()


def dying(monkeypatch: pytest.MonkeyPatch, name: str, at: int) -> Callable[[], int]:
    """Makes a function of the module die in a call; gives how many there were."""
    calls: list[int] = []
    real = getattr(frames, name)

    def die(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(frames, name, die)
    return lambda: len(calls)


@pytest.mark.parametrize(("embed", "name", "at", "calls"), [(embed_frames, "_encode", 2, 4), (embed_frames, "write_store", 1, 2),
                                                            (embed_means, "_encode", 3, 4)])
def test_frames_killed_and_resumed_are_the_same_bytes(files: list[Path], tiny_clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                      embed: Any, name: str, at: int, calls: int) -> None:
    monkeypatch.setattr(stores, "SHARD_ROWS", 2)
    shutil.copytree(tmp_path, other := tmp_path.with_name(f"{tmp_path.name}-other"))
    embed("tiny", tiny_clip, "films", PARAMS)
    monkeypatch.chdir(other)
    counted = dying(monkeypatch, name, at)
    with pytest.raises(KeyboardInterrupt):
        embed("tiny", tiny_clip, "films", PARAMS)
    assert not MEANS.exists()
    embed("tiny", tiny_clip, "films", PARAMS)
    assert counted() == calls  # finished shards are not made again
    for store in (STORE, MEANS):
        assert store.exists() == (tmp_path / store).exists()
        assert not store.exists() or digest_tree(store) == digest_tree(tmp_path / store)


@pytest.mark.parametrize("embed", [embed_frames, embed_means])
@pytest.mark.parametrize("damage", ["cut", "text", "missing"])
def test_a_broken_video_is_named_in_one_line(files: list[Path], tiny_clip: Clip, user_error, embed: Any, damage: str) -> None:
    content = files[1].read_bytes()
    files[1].unlink()
    if damage != "missing":
        files[1].write_bytes(content[: len(content) // 2] if damage == "cut" else b"no video")
    assert "b.mp4" in user_error(embed, "tiny", tiny_clip, "films", PARAMS)
    assert not STORE.exists()
    assert not MEANS.exists()


def test_videos_among_pictures_are_refused_with_the_place_where_they_belong(files: list[Path], tiny_clip: Clip, user_error) -> None:
    message = user_error(embed_images, "tiny", tiny_clip, "films")
    assert "a.mp4" in message
    assert "name films in embed.frames.datasets" in message
    assert not MEANS.exists()


def test_a_video_exchanged_between_kill_and_resumed_run_is_looked_at_again(files: list[Path], tiny_clip: Clip,
                                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "SHARD_ROWS", 2)
    with monkeypatch.context() as patch:
        dying(patch, "_encode", 2)
        with pytest.raises(KeyboardInterrupt):
            embed_frames("tiny", tiny_clip, "films", PARAMS)
    film(files[0], 9, seed=8)
    embed_frames("tiny", tiny_clip, "films", PARAMS)
    np.testing.assert_allclose(read(STORE).features[0], half(by_hand(tiny_clip, files[0])), atol=HALF)
