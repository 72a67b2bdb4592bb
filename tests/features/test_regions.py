"""Regions of images: against a naive aggregation, boxes on pictures of any shape, and a store that does not depend on kills or batches."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import zarr
from PIL import Image

from pipeline.core import paths
from pipeline.core.artefacts import seal
from pipeline.core.code import ROOT
from pipeline.core.files import digest_tree
from pipeline.features import regions, stores
from pipeline.features.encoders import Clip, ClipParams
from pipeline.features.patches import image_tokens
from pipeline.features.regions import RegionParams, aggregate, box_of, boxes, embed_regions, find, prepare
from pipeline.features.stores import half, read

SUM_ORDER = 1e-5
PARAMS = RegionParams(count=4)
STORE = Path("data/features/tiny/regions/scenes")


def naive(tokens: list[list[float]], attention: list[list[float]], count: int, softmax: bool) -> list[list[float]]:
    """One image's regions, by loops over numbers."""
    def unit(row: list[float]) -> list[float]:
        length = math.sqrt(sum(value * value for value in row))
        return [value / length for value in row]

    tokens = [unit(row) for row in tokens]
    chosen = sorted(range(len(tokens)), key=lambda token: -attention[0][token])[:count]
    found = []
    for token in chosen:
        weights = attention[token]
        if softmax:
            weights = [math.exp(weight) for weight in weights]
            weights = [weight / sum(weights) for weight in weights]
        found.append(unit([sum(w * row[d] for w, row in zip(weights, tokens, strict=True)) for d in range(len(tokens[0]))]))
    return found


@pytest.mark.parametrize("weights", ["raw", "softmax"])
def test_a_region_is_what_an_attended_patch_attends_to(weights: str) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens, attention = torch.randn(3, 7, 5, generator=generator), torch.randn(3, 7, 7, generator=generator).mul(3).softmax(-1)
    found = aggregate(tokens, attention, RegionParams(4, weights))  # type: ignore[arg-type]
    expected = [naive(*image, 4, weights == "softmax") for image in zip(tokens.tolist(), attention.tolist(), strict=True)]
    torch.testing.assert_close(found.features, torch.tensor(expected), atol=SUM_ORDER, rtol=0)
    assert found.tokens == 7
    torch.testing.assert_close(found.attention, attention[:, 0].sort(descending=True).values[:, :4])


def test_the_released_codes_second_softmax_makes_regions_more_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens, attention = torch.randn(1, 9, 16, generator=generator), torch.randn(1, 9, 9, generator=generator).mul(4).softmax(-1)
    raw, softmax = (aggregate(tokens, attention, RegionParams(9, weights)).features[0] for weights in ("raw", "softmax"))
    assert (softmax @ softmax.T).mean() > (raw @ raw.T).mean() + 0.2


def test_more_regions_than_a_clip_has_tokens_say_what_to_lower(tiny_clip: Clip, user_error) -> None:
    picture = prepare(tiny_clip, Image.new("RGB", (8, 8)))
    assert len(find(tiny_clip, [picture], RegionParams(17)).features[0]) == 17
    assert "regions.count is 18" in user_error(find, tiny_clip, [picture], RegionParams(18))


def test_a_resnets_regions_come_of_its_attention_pool() -> None:
    """The shipped judge: the mean position, then two by two."""
    judge = Clip(ROOT / "data/foundation/judge", ClipParams(), torch.device("cpu"))
    picture = prepare(judge, Image.effect_noise((96, 64), 80).convert("RGB"))
    tokens = image_tokens(judge, [picture.pixels])
    found = find(judge, [picture], RegionParams(3, "raw"))
    expected = naive(tokens.tokens[0].tolist(), tokens.attention[0].tolist(), 3, softmax=False)
    torch.testing.assert_close(found.features[0], torch.tensor(expected), atol=SUM_ORDER, rtol=0)
    assert {tuple(each["box"]) for each in boxes(judge, found, [picture])[0]} <= {
        (16, 0, 80, 64), (16, 0, 48, 32), (48, 0, 80, 32), (16, 32, 48, 64), (48, 32, 80, 64)}


@pytest.mark.parametrize(("mode", "size", "first", "whole"), [
    ("shortest", (400, 200), (100, 0, 150, 50), (100, 0, 300, 200)), ("shortest", (200, 400), (0, 100, 50, 150), (0, 100, 200, 300)),
    ("squash", (400, 200), (0, 0, 100, 50), (0, 0, 400, 200)), ("longest", (400, 200), (0, 0, 100, 0), (0, 0, 400, 200)),
])
def test_boxes_lie_where_the_clip_looks(tiny_clip: Clip, monkeypatch, mode: str, size, first, whole) -> None:
    """Four by four patches; what was filled up around a picture is no part of it."""
    monkeypatch.setitem(tiny_clip.model.visual.preprocess_cfg, "resize_mode", mode)
    assert box_of(tiny_clip, 1, 17, size) == first
    assert box_of(tiny_clip, 0, 17, size) == whole
    assert box_of(tiny_clip, 16, 17, size)[2:] == (whole[2], whole[3] if mode != "longest" else 200)


def test_the_box_of_a_patch_holds_what_changes_it(tiny_clip: Clip) -> None:
    found = find(tiny_clip, [prepared := prepare(tiny_clip, Image.new("RGB", (128, 96)))], RegionParams(17))
    its, = boxes(tiny_clip, found, [prepared])
    assert {tuple(each["box"]) for each in its} == {tuple(box_of(tiny_clip, token, 17, (128, 96))) for token in range(17)}
    assert [each["attention"] for each in its] == sorted((each["attention"] for each in its), reverse=True)


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Image.Image]:
    """Five pictures of a data set, the last as the first."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    found = [Image.fromarray(rng.integers(0, 255, (40 + 9 * i, 64, 3), dtype=np.uint8)) for i in range(4)]
    found.append(found[0])
    paths.raw("scenes").mkdir(parents=True)
    for number, picture in enumerate(found):
        picture.save(paths.raw("scenes") / f"{number}.png")
    paths.corpus("scenes").mkdir(parents=True)
    pq.write_table(pa.table({"image_id": list("abcde"), "path": [f"{number}.png" for number in range(5)]}), paths.image_table("scenes"))
    seal(paths.corpus("scenes"))
    return found


def test_a_store_holds_the_regions_of_the_tables_pictures_and_what_their_noise_follows_from(pictures, tiny_clip: Clip) -> None:
    embed_regions("tiny", tiny_clip, "scenes", PARAMS)
    prepared = [prepare(tiny_clip, picture) for picture in pictures]
    expected = torch.cat([find(tiny_clip, prepared[start : start + 3], PARAMS).features for start in (0, 3)])
    store = read(STORE)
    assert np.array_equal(store.features, half(expected.numpy()))
    assert store.origin.clip_digest == tiny_clip.digest
    seeds = np.asarray(zarr.open_array(STORE / "seeds", mode="r")[...]).tolist()
    assert seeds == [each.seed for each in prepared]
    assert len(set(seeds)) == 4
    assert seeds[0] == seeds[4]


def test_regions_killed_and_resumed_are_the_same_bytes(pictures, tiny_clip: Clip, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(stores, "SHARD_ROWS", 2)
    shutil.copytree(tmp_path, other := tmp_path.with_name(f"{tmp_path.name}-other"))
    embed_regions("tiny", tiny_clip, "scenes", PARAMS)
    calls: list[int] = []

    def dying(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return find(*arguments)

    monkeypatch.chdir(other)
    monkeypatch.setattr(regions, "find", dying)
    with pytest.raises(KeyboardInterrupt):
        embed_regions("tiny", tiny_clip, "scenes", PARAMS)
    assert not STORE.exists()
    embed_regions("tiny", tiny_clip, "scenes", PARAMS)
    assert len(calls) == 4  # of three shards the first is not made again
    assert digest_tree(STORE) == digest_tree(tmp_path / STORE)
