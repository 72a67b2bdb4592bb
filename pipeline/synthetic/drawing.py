"""Synthetic pictures: a diffusion model draws what captions say.

Cost: `steps` passes of the UNet, twice with guidance, for every caption: the dearest stage of all. What it draws is an image data set
like any other, which other stages embed and tag, so that another CLIP, detector or threshold draws nothing again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from transformers import CLIPTextModel
from transformers.utils import logging as transformers_logging

from ..core import paths
from ..core.artefacts import whole_if_sealed
from ..core.device import Precision, precisely, resolved
from ..core.errors import UserError, loading
from ..core.files import digest_file, digest_model, digest_of, write_json
from ..core.params import Count, Seed, StrictParams
from ..core.resume import Work, finished_folder, resumable
from ..core.tables import read_table
from ..corpus.choosing import choose_rows
from ..images import write_pictures

_SHARD = 256
_PARTS = {"vae": AutoencoderKL, "unet": UNet2DConditionModel, "text_encoder": CLIPTextModel}


@dataclass(frozen=True)
class SynthesisParams(StrictParams):
    """`synthesis` in params.yaml.

    corpora: whose captions are drawn. clips: in whose spaces the pictures' features are refined and projected.
    generator: a folder of `data/foundation` in diffusers' layout.
    captions: how many captions of the corpus are drawn (SynTIC: all; null says all). seed: of the pictures. steps: of the sampler
    (SynTIC: 20). guidance: scale of classifier-free guidance (7.5 is Stable Diffusion's). size: pixels, null for the model's own
    (SynTIC: 512). batch: pictures drawn at once. attempts: how often a picture that the safety checker blanks is drawn, each time with
    another seed. precision: see `Precision`; noise and latents stay float32 on a CPU. Pictures drawn in another precision differ a little.
    """

    corpora: tuple[str, ...]
    clips: tuple[str, ...]
    generator: str
    captions: Annotated[int, Field(ge=2, le=10**9)] | None = None
    seed: Seed = 0
    steps: Count = 20
    guidance: Annotated[float, Field(ge=1, le=1e3, allow_inf_nan=False)] = 7.5
    size: Annotated[int, Field(ge=8, le=2**13, multiple_of=8)] | None = None
    batch: Count = 64
    attempts: Count = 3
    precision: Precision = "auto"


class Generator:
    """A frozen text-to-image model. `precision`: that its convolutions and products are computed in."""

    def __init__(self, folder: Path, params: SynthesisParams, device: torch.device) -> None:
        """Load a `StableDiffusionPipeline` from a folder; `UserError` when it is missing or damaged."""
        self.folder, self.params, self.device = folder, params, device
        if not (folder / "model_index.json").exists():
            raise UserError(f"{folder} holds no diffusion model (no model_index.json): restore it with `git checkout`, or bring "
                            "one with `unpaired model add diffusion`")
        whole_if_sealed(folder)
        self.precision = resolved(params.precision, device)
        weights = getattr(torch, self.precision) if device.type == "cuda" else torch.float32
        diffusers_logging.disable_progress_bar()
        transformers_logging.disable_progress_bar()
        advice = "restore it with `git checkout`, or save a StableDiffusionPipeline there with `save_pretrained`"
        with loading(folder, "diffusion model", advice):
            parts = {name: _load_part(cls, folder / name, weights) for name, cls in _PARTS.items()}
            self.model: Any = StableDiffusionPipeline.from_pretrained(folder, dtype=weights, use_safetensors=True, local_files_only=True,
                                                                      low_cpu_mem_usage=False, **parts)
            known, embedded = len(self.model.tokenizer), self.model.text_encoder.config.vocab_size
            if known != embedded:
                raise ValueError(f"its tokenizer has {known} tokens, its text encoder {embedded}")
            self.model.to(device)
            self.model.vae.to(memory_format=torch.channels_last)
            if device.type == "cuda":  # a CPU takes a tenth longer for the UNet's small maps in this order
                self.model.unet.to(memory_format=torch.channels_last)
            self.model.set_progress_bar_config(disable=True)
            trial = self._drawn(["a"], [0], steps=1, size=64, output_type="np")  # it fails where sizes do not fit
            if not np.isfinite(trial.images).all():
                raise ValueError("it draws what is no number")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its weights and configuration, in hex."""
        return digest_model(self.folder)

    @torch.inference_mode()
    def _drawn(self, captions: Sequence[str], seeds: Sequence[int], steps: int, size: int | None, output_type: str = "pil") -> Any:
        # noise and latents stay float32 on a CPU; on CUDA the weights themselves are of the precision
        with precisely(self.precision, self.device) if self.device.type == "cpu" else nullcontext():
            return self.model(list(captions), num_inference_steps=steps, guidance_scale=self.params.guidance, height=size, width=size,
                              generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds], output_type=output_type)

    @torch.inference_mode()
    def draw(self, captions: Sequence[str], seeds: Sequence[int]) -> tuple[list[Image.Image], list[bool]]:
        """One picture per caption, and whether the safety checker blanked it. A picture depends on its caption and seed."""
        images: list[Image.Image] = []
        blanked: list[bool] = []
        for start in range(0, len(captions), self.params.batch):
            part = slice(start, start + self.params.batch)
            drawn = self._drawn(captions[part], seeds[part], self.params.steps, self.params.size)
            images += drawn.images
            blanked += drawn.nsfw_content_detected or [False] * len(drawn.images)
        return images, blanked


def _load_part(cls: Any, folder: Path, precision: torch.dtype) -> Any:
    """One model of the pipeline; raises ValueError where the libraries would put random weights in a missing one's place."""
    options = {} if cls is CLIPTextModel else {"low_cpu_mem_usage": False}  # else diffusers asks for another library
    part, about = cls.from_pretrained(folder, dtype=precision, use_safetensors=True, local_files_only=True, output_loading_info=True,
                                      **options)
    if about["missing_keys"]:
        raise ValueError(f"the weights in {folder.name} lack {min(about['missing_keys'])}")
    return part


def picture_seed(seed: int, caption_id: str, attempt: int) -> int:
    """The seed of one caption's picture, whatever batch or worker draws it."""
    return int(digest_of([seed, caption_id, attempt])[:15], 16)


def load_generator(params: SynthesisParams, device: torch.device) -> Generator:
    """The diffusion model that `synthesis` names."""
    return Generator(paths.foundation(params.generator), params, device)


def synthesize(corpus: str, params: SynthesisParams, device: torch.device) -> None:
    """Draw a corpus's captions into a data set like any other, `<corpus>-drawn`: WebDataset shards and tables.

    Its corpus.parquet holds all captions of the corpus, with an image_id, the caption's own id, where a picture was drawn. Its
    images.parquet: image_id, path, split, text, attempts, origin. Raises `UserError` if every picture was blanked.
    """
    table, dataset = paths.corpus_table(corpus), paths.drawn(corpus)
    columns = read_table(table, ["caption_id", "text", "split"])
    rows = choose_rows(columns["split"], params.captions)
    chosen = {key: value for key, value in asdict(params).items() if key not in ("corpora", "clips")}
    generator = load_generator(params, device)
    origin = {**chosen, "generator": generator.digest, "precision": generator.precision}
    identity = {**origin, "corpus": digest_file(table), "device": device.type, "threads": torch.get_num_threads()}
    with resumable(paths.raw(dataset), __name__, **identity) as work:
        for start, stop in work.shards(len(rows), _SHARD, f"draw {corpus}", "images"):
            part = rows[start:stop]
            ids, texts = [columns["caption_id"][row] for row in part], [columns["text"][row] for row in part]
            images, attempts = _drawn(generator, ids, texts)
            kept = {f"{row:09d}": (image, text) for row, image, text in zip(part, images, texts, strict=True) if image is not None}
            write_pictures(work.output / _shard_name(start), {key: image for key, (image, _) in kept.items()},
                           {key: text for key, (_, text) in kept.items()})
            work.record(str(start), [attempts, [int(key) for key in kept]], [work.output / _shard_name(start)])
        with finished_folder(paths.corpus(dataset)) as folder:  # before the pictures, whose scratch goes once they are published
            _write_tables(folder, work, corpus, rows, columns, digest_of(origin)[:16])


def _shard_name(start: int) -> str:
    return f"pictures-{start // _SHARD:06d}.tar"


def _drawn(generator: Generator, ids: Sequence[str], texts: Sequence[str]) -> tuple[list[Image.Image | None], list[int]]:
    """A picture per caption, None where every attempt was blanked, and the number of attempts."""
    images: list[Image.Image | None] = [None] * len(ids)
    attempts = [0] * len(ids)
    for attempt in range(generator.params.attempts):
        missing = [i for i, image in enumerate(images) if image is None]
        seeds = [picture_seed(generator.params.seed, ids[i], attempt) for i in missing]
        drawn, blanked = generator.draw([texts[i] for i in missing], seeds) if missing else ([], [])
        for i, image, blank in zip(missing, drawn, blanked, strict=True):
            attempts[i] += 1
            images[i] = None if blank else image
    return images, attempts


def _write_tables(folder: Path, work: Work, corpus: str, rows: NDArray[np.int64], columns: dict[str, list[Any]], origin: str) -> None:
    """The tables and the report, from what the ledger says of each shard. origin: digest of the generator and its parameters."""
    kept, attempts = [], []
    for start in range(0, len(rows), _SHARD):
        tried, whole = work.done[str(start)]
        attempts += tried
        number = dict(zip(rows[start : start + _SHARD].tolist(), tried, strict=True))
        kept += [(row, f"{_shard_name(start)}!{row:09d}.png", number[row]) for row in whole]
    if not kept:
        raise UserError(f"every synthetic picture of {corpus} was blanked by the safety checker: change synthesis.seed or the captions")
    ids, texts, splits = columns["caption_id"], columns["text"], columns["split"]
    pq.write_table(pa.table({
        "image_id": [ids[row] for row, _, _ in kept], "path": [path for _, path, _ in kept],
        "split": [splits[row] for row, _, _ in kept], "text": [texts[row] for row, _, _ in kept],
        "attempts": [number for _, _, number in kept],
        "origin": [origin] * len(kept),  # so that features of other pictures of the same captions are known for what they are
    }), folder / "images.parquet")
    there = {row for row, _, _ in kept}
    pictures = pa.array([key if row in there else None for row, key in enumerate(ids)], pa.string())
    pq.write_table(pa.table({"caption_id": ids, "image_id": pictures, "text": texts, "split": splits}), folder / "corpus.parquet")
    write_json(folder / "report.json", {
        "asked": len(rows), "drawn": len(kept), "drawn_again": sum(number > 1 for number in attempts),
        "blanked_for_good": sorted(ids[row] for row in rows.tolist() if row not in there),
        "captions_in_corpus": len(texts), "corpus_digest": digest_file(paths.corpus_table(corpus)),
    })
