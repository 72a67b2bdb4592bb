"""Feature stores: unit rows of one CLIP space in Zarr v3, written shard by shard and read whole.

Layout: `features` (N, D) or (N, F, D) float16 unit rows, `norms` (N,) or (N, F) float32 lengths before
normalisation. Attributes say which model made them and from what; they hold no times and no host names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

from ..core import paths
from ..core.artefacts import again, repair, whole
from ..core.errors import UserError
from ..core.files import digest_model, read_json
from ..core.resume import Work

SCHEMA = 1
SHARD_ROWS = 8192


@dataclass(frozen=True)
class Origin:
    """Where features come from: two stores may be compared only if clip_digest and width agree."""

    clip: str  # name in params.yaml
    clip_digest: str  # of weights, configuration and vocabulary
    width: int
    preprocessing: str
    source_digest: str  # of the table whose rows these are
    precision: str  # that the encoder computed in
    truncated: int = 0  # rows whose text was longer than the tower's context


@dataclass(frozen=True)
class FeatureStore:
    """A store in memory. features: unit rows, float16. norms: lengths before normalisation, float32."""

    features: NDArray[np.float16]
    norms: NDArray[np.float32]
    origin: Origin
    path: Path

    def require(self, clip_digest: str | None = None, source_digest: str | None = None) -> FeatureStore:
        """Itself, if it was made by this CLIP from this table; else a `UserError` that says which stage to run."""
        if clip_digest is not None and clip_digest != self.origin.clip_digest:
            raise UserError(f"{self.path} was made with another CLIP ({self.origin.clip}, {self.origin.clip_digest[:12]}; "
                            f"expected {clip_digest[:12]}): {refit(self.origin.clip, self.path)}")
        if source_digest is not None and source_digest != self.origin.source_digest:
            raise UserError(f"{self.path} was made from another table: {again(self.path)}")
        return self


def refit(clip: str, path: Path) -> str:
    """What to do where artefacts of a CLIP do not fit: those that were made with other weights than it has now are made again, or if
    there are none, `path`."""
    now = digest_model(paths.foundation(clip))
    about = {file.parent: read_json(file).get("attributes", {}).get("clip_digest", now)
             for file in sorted((paths.DATA / "features" / clip).rglob("zarr.json"))}
    return again(*([folder for folder, digest in about.items() if digest != now] or [path]))


def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Rows divided by their lengths, in float32 (float16 lengths lose digits); a row of zeros stays one."""
    rows = rows.astype(np.float32)
    result: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
    return result


def half(raw: NDArray[np.float32]) -> NDArray[np.float16]:
    """Raw features as a store keeps them: unit rows in float16."""
    return unit(raw).astype(np.float16)


def write_shards(work: Work, shape: tuple[int, ...], origin: Origin, label: str,
                 encode: Callable[[int, int], tuple[NDArray[np.float32], int]]) -> None:
    """Fill a store of `shape` in `work.output`, skipping the shards in the ledger.

    encode(start, stop) gives the raw float32 features of these rows and how many of them were truncated.
    """
    rows = shape[0]
    root = create(work.output, shape)
    for start, stop in work.shards(rows, SHARD_ROWS, label, "rows"):
        raw, truncated = encode(start, stop)
        fill(work.output, start, raw)
        work.record(str(start), truncated, chunk_files(work.output, start))
    describe(root, replace(origin, truncated=sum(work.done.values())))


def write_seeded_shards(work: Work, shape: tuple[int, ...], origin: Origin, label: str, noun: str,
                        encode: Callable[[int, int], tuple[NDArray[np.float32], Sequence[int]]]) -> None:
    """The same with `seeds` (N,) int64 beside the features: encode gives raw features and the seeds of these rows."""
    root = create(work.output, shape)
    create_array(work.output / "seeds", shape[:1], "int64", -1)
    for start, stop in work.shards(shape[0], SHARD_ROWS, label, noun):
        raw, seeds = encode(start, stop)
        fill(work.output, start, raw)
        zarr.open_array(work.output / "seeds", mode="r+", zarr_format=3)[start:stop] = np.array(seeds, np.int64)
        work.record(str(start), len(seeds), chunk_files(work.output, start))
    describe(root, origin)


def write_store(path: Path, raw: NDArray[np.float32], origin: Origin) -> None:
    """Write a store of raw float32 features in one go, for what is small or computed at once."""
    zarr.open_group(path, mode="w", zarr_format=3)  # nothing of what lay there is kept
    root = create(path, raw.shape)
    fill(path, 0, raw)
    describe(root, origin)


def read_origin(path: Path) -> Origin:
    """Where a store's features come from, without reading them. A missing store, or another schema, is a `UserError`."""
    if not (path / "zarr.json").exists():
        raise UserError(f"{path} is missing: run `dvc repro`")
    whole(path)
    try:
        attributes: dict[str, Any] = dict(zarr.open_group(path, mode="r", zarr_format=3).attrs)
        if attributes.pop("schema", None) != SCHEMA:
            raise UserError(f"{path} has another schema than {SCHEMA}: {again(path)}")
        return Origin(**attributes)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}): {repair(path)}") from None


def read(path: Path) -> FeatureStore:
    """Load a whole store. A missing store or chunk, or another schema, is a `UserError`."""
    origin = read_origin(path)
    try:
        features, norms = (np.asarray(zarr.open_array(path / name, mode="r", zarr_format=3)[...]) for name in ("features", "norms"))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}): {repair(path)}") from None
    if np.isnan(norms).any() or np.isnan(features).any():
        raise UserError(f"{path} lacks chunks: {repair(path)}")
    return FeatureStore(features, norms, origin, path)


def read_seeds(path: Path) -> NDArray[np.int64]:
    """The seeds (N,) of a store that was read."""
    return np.asarray(zarr.open_array(path / "seeds", mode="r", zarr_format=3)[...])


def forget_description(folder: Path) -> None:
    """Remove what describes the arrays below a folder, so that they can be created anew around the chunks that are there."""
    for file in folder.rglob("zarr.json"):
        file.unlink()


def create_array(folder: Path, shape: tuple[int, ...], dtype: str, missing: float) -> zarr.Array:
    """An array of shards, around those that may lie there. missing: what is read where a chunk is missing."""
    return zarr.create_array(
        folder, zarr_format=3, shape=shape, dtype=dtype, chunks=(min(SHARD_ROWS, max(shape[0], 1)), *shape[1:]), fill_value=missing,
        # features are noise to a compressor: only the norms shrink; the checksum finds flipped bits
        serializer=BytesCodec(), compressors=[ZstdCodec(level=1), Crc32cCodec()], config={"write_empty_chunks": True},
    )


def create(folder: Path, shape: tuple[int, ...]) -> zarr.Group:
    """An empty store around the chunks that may lie there."""
    forget_description(folder)
    create_array(folder / "features", shape, "float16", float("nan"))
    create_array(folder / "norms", shape[:-1], "float32", float("nan"))
    return zarr.open_group(folder, mode="a", zarr_format=3)


def fill(folder: Path, start: int, raw: NDArray[np.float32]) -> None:
    """Write raw features into the rows from `start` on."""
    for name, rows in (("features", half(raw)), ("norms", np.linalg.norm(raw, axis=-1))):
        zarr.open_array(folder / name, mode="r+", zarr_format=3)[start : start + len(raw)] = rows


def describe(root: zarr.Group, origin: Origin) -> None:
    """Say where a store's features come from: the last thing that is written to it."""
    root.attrs.update({"schema": SCHEMA, **asdict(origin)})


def chunk_files(folder: Path, start: int) -> list[Path]:
    """The files of the chunks that begin at this row, in every array below `folder`."""
    places = [array / str(start // SHARD_ROWS) for array in folder.rglob("c")]
    return sorted(path for place in places for path in (place, *place.rglob("*")) if path.is_file())
