"""Where a data set's pictures lie, and which of them cannot be used."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence, Set
from functools import lru_cache
from pathlib import Path

from ..core.errors import UserError
from ..core.files import file_inside, inside
from ..core.progress import track
from ..images import Source, in_shard, locate, open_image, prepared_ahead
from ..videos import is_video
from .parameters import ExtractParams
from .records import REFERENCE_SPLITS, Image

_BATCH, _NAMED = 256, 20


def located(raw: Path, params: ExtractParams, images: Sequence[Image]) -> list[Image]:
    """The same images with paths relative to the raw folder, whether or not a file is there.

    Raises `UserError` for a path that leaves its folder, and for a file that is of two splits.
    """
    found = []
    split_of: dict[str, str] = {}
    # One look per folder: to resolve each of 100,000 names takes many seconds.
    resolve = lru_cache(maxsize=None)(inside)
    try:
        folder = resolve(raw, params.images)
    except UserError as error:
        raise UserError(f"extract: images: {error}") from None
    for image in images:
        try:
            file_inside(folder, image.name, resolve)
        except UserError as error:
            raise UserError(f"{params.source}: image {image.image_id}: {error}") from None
        path = posixpath.normpath(posixpath.join(params.images, image.name))
        if split_of.setdefault(path, image.split) != image.split:
            raise UserError(f"{params.source}: {path} is {image.split} as image {image.image_id}, and {split_of[path]} "
                            "before: give each file one split")
        found.append(Image(image.image_id, path, image.split))
    return found


def faults(raw: Path, params: ExtractParams, images: Sequence[Image]) -> dict[str, str]:
    """Why a located picture cannot be used, by image id, for those that are missing or cannot be opened; videos are not tried.

    Raises one `UserError` for all of them unless `params.bad_images` is "skip".
    """
    missing = {image.image_id: f"{raw / image.name} is missing" for image in images
               if not in_shard(image.name) and not os.path.isfile(raw / image.name)}
    if missing and params.bad_images == "error":
        raise UserError(f"{next(iter(missing.values()))}, and {len(missing)} of the {len(images)} images of {params.source} in all: put "
                        "them there, correct images, or set bad_images to 'skip' to leave them out")
    tried = [image for image in images if image.image_id not in missing and not is_video(image.name)]
    broken = _broken(raw, params, tried)
    if broken and params.bad_images == "error":
        named = "; ".join(list(broken.values())[:_NAMED]) + (f"; and {len(broken) - _NAMED} more" if len(broken) > _NAMED else "")
        raise UserError(f"{params.source}: {len(broken)} of its {len(images)} pictures cannot be read: {named}: replace them, or set "
                        "bad_images to 'skip' to leave them out")
    return missing | broken


def _broken(raw: Path, params: ExtractParams, images: Sequence[Image]) -> dict[str, str]:
    """What opening each picture says of it, where it says anything."""

    def fault(source: Source) -> str | None:
        try:
            open_image(source)
        except UserError as error:
            return str(error)
        return None

    found: dict[str, str] = {}
    sources: list[Source] = []
    there: list[Image] = []
    for image in images:
        try:
            sources.append(locate(raw, image.name) if in_shard(image.name) else raw / image.name)
            there.append(image)
        except UserError as error:  # a part of a tar file that is broken or does not hold it
            found[image.image_id] = str(error)
    batches = track(prepared_ahead(sources, _BATCH, fault), f"open the pictures of {params.source}", len(sources), "pictures", size=_BATCH)
    opened = zip(there, (reason for batch in batches for reason in batch), strict=True)
    return found | {image.image_id: reason for image, reason in opened if reason is not None}


def without_captions(images: Sequence[Image], described: Set[str | None], params: ExtractParams) -> dict[str, str]:
    """Why a val or test picture cannot be used, by image id, for those that no caption describes: one `UserError`, unless
    `params.bad_images` is "skip"."""
    found = {image.image_id: f"{image.split} image {image.image_id} has no sentences, or only bad ones" for image in images
             if image.split in REFERENCE_SPLITS and image.image_id not in described}
    if found and params.bad_images == "error":
        raise UserError(f"{params.source}: {next(iter(found.values()))}: add some, remove the image, or set bad_images to 'skip' to leave "
                        "such images out")
    return found
