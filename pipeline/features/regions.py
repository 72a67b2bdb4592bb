"""Regions of images: for the most attended patches, what each of them attends to, as MacCap aggregates them (Qiu et al., AAAI 2024).

Layout of a store: `features` (N, R, D) float16 unit rows, `norms` (N, R) float32, `seeds` (N,) int64. Patch tokens are not kept: they would
take T / R times the room.

Legend: N images, B of them in memory, T tokens (the pooling one, then patches row by row), R regions, D CLIP width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import normalize

from ..core import paths
from ..core.errors import UserError
from ..core.params import Size, StrictParams
from ..core.resume import resumable
from ..images import Source, open_image, prepared_ahead, source_stamp
from .embedding import machine, origin_of, picture_files
from .encoders import Clip
from .patches import image_tokens
from .stores import write_seeded_shards


@dataclass(frozen=True)
class RegionParams(StrictParams):
    """`regions` in params.yaml. count: R, the patches that the class token attends to most, itself among them (released code: 10).

    weights: of the tokens in a region. `raw`: the attention of its patch. `softmax`: the softmax of that, as in the released code; since
    attention lies between 0 and 1 it is almost uniform, no weight more than e times another, and regions differ little.
    """

    count: Size = 10
    weights: Literal["raw", "softmax"] = "softmax"


class Prepared(NamedTuple):
    """What is kept of a picture: pixels (3, H, W) as the CLIP takes them, the seed of its noise, and its size, width first."""

    pixels: Tensor
    seed: int
    size: tuple[int, int]


class Regions(NamedTuple):
    """features: (B, R, D) float32 unit rows. chosen: (B, R) where each stands among the tokens. attention: (B, R) of the class token.
    tokens: T."""

    features: Tensor
    chosen: Tensor
    attention: Tensor
    tokens: int


def prepare(clip: Clip, picture: Image) -> Prepared:
    """An RGB picture for `find`. Its seed follows from its pixels alone, wherever it lies and whatever it is captioned with."""
    digest = hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).digest()
    return Prepared(clip.pixels(picture), int.from_bytes(digest[:8], "big") >> 1, picture.size)


def find(clip: Clip, prepared: Sequence[Prepared], params: RegionParams) -> Regions:
    """Regions of pictures, all encoded at once, on the CPU. Raises `UserError` where the image tower has no such tokens, or too few."""
    found = image_tokens(clip, [each.pixels for each in prepared])
    if params.count > found.tokens.shape[1]:
        raise UserError(f"params.yaml: regions.count is {params.count}, but {clip.folder} sees an image in {found.tokens.shape[1]} tokens: "
                        "lower it")
    features, chosen, attention, tokens = aggregate(found.tokens, found.attention, params)
    return Regions(features.cpu(), chosen.cpu(), attention.cpu(), tokens)


def aggregate(tokens_BTD: Tensor, attention_BTT: Tensor, params: RegionParams) -> Regions:
    """The released code's aggregation: for each of the tokens that the first one attends to most, unit tokens weighted by its own
    attention, and the sum normalised."""
    attention_BR, chosen_BR = attention_BTT[:, 0].topk(params.count)
    weights_BRT = attention_BTT.gather(1, chosen_BR[..., None].expand(-1, -1, attention_BTT.shape[2]))
    if params.weights == "softmax":
        weights_BRT = weights_BRT.softmax(dim=-1)
    return Regions(normalize(weights_BRT @ normalize(tokens_BTD, dim=-1), dim=-1), chosen_BR, attention_BR, tokens_BTD.shape[1])


def boxes(clip: Clip, found: Regions, prepared: Sequence[Prepared]) -> list[list[dict[str, Any]]]:
    """Of each picture its regions, most attended first: `box` in its pixels and `attention`."""
    return [[{"box": list(box_of(clip, token, found.tokens, each.size)), "attention": round(share, 4)}
             for token, share in zip(tokens, shares, strict=True)]
            for each, tokens, shares in zip(prepared, found.chosen.tolist(), found.attention.tolist(), strict=True)]


def box_of(clip: Clip, token: int, tokens: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixels, of a picture of this size, of one of its tokens; the first one is all that the CLIP sees."""
    visual = clip.model.visual
    about, (width, height) = visual.preprocess_cfg, size
    high, wide = (about["size"],) * 2 if isinstance(about["size"], int) else about["size"]
    if about["resize_mode"] == "squash":
        left, top, across, down = 0.0, 0.0, float(width), float(height)
    else:  # the middle is cut out, or what is missing is filled up
        scale = (max if about["resize_mode"] == "shortest" else min)(wide / width, high / height)
        across, down = wide / scale, high / scale
        left, top = (width - across) / 2, (height - down) / 2
    rows, columns = (1, 1) if token == 0 else _grid(tokens - 1, high / wide)
    row, column = divmod(max(token - 1, 0), columns)
    edges = left + across * column / columns, top + down * row / rows, left + across * (column + 1) / columns, top + down * (row + 1) / rows
    return tuple(min(max(round(edge), 0), most) for edge, most in zip(edges, (width, height) * 2, strict=True))  # type: ignore[return-value]


def _grid(patches: int, ratio: float) -> tuple[int, int]:
    """Rows and columns of patches, for pictures of this height over width."""
    rows = round((patches * ratio) ** 0.5)
    return rows, patches // rows


def embed_regions(clip_name: str, clip: Clip, dataset: str, params: RegionParams) -> None:
    """Write the store of a data set's pictures: one row per row of its image table, in that order."""
    files, table = picture_files(dataset), paths.image_table(dataset)
    origin, batch = origin_of(clip_name, clip, table), clip.params.batch
    with resumable(paths.regions(clip_name, dataset), __name__, origin=asdict(origin), batch=batch, regions=asdict(params),
                   files=[source_stamp(file) for file in files], **machine(clip)) as work:
        write_seeded_shards(work, (len(files), params.count, clip.width), origin, f"embed regions of {dataset} with {clip_name}", "images",
                            lambda start, stop: _encode(clip, files[start:stop], params))


def _encode(clip: Clip, files: Sequence[Source], params: RegionParams) -> tuple[NDArray[np.float32], list[int]]:
    features, seeds = [], []
    for prepared in prepared_ahead(files, clip.params.batch, lambda file: prepare(clip, open_image(file))):
        features.append(find(clip, prepared, params).features.numpy())
        seeds += [each.seed for each in prepared]
    return np.concatenate(features), seeds
