"""From image features to captions: one captioner for the stage, the command line and whatever comes later."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import decoders, paths
from pipeline.decoders import Decoding
from pipeline.embedding import read_table
from pipeline.errors import UserError
from pipeline.files import finished_folder, read_json, write_json
from pipeline.indexing import load_corpus
from pipeline.methods.base import Corpus
from pipeline.params import check
from pipeline.progress import track
from pipeline.stores import read
from pipeline.systems import Setting, System, make_method, model_folder, settings_of


class Captioner:
    """A system ready to caption. Raises `UserError` when its model was trained in another CLIP space than `clip_digest`."""

    def __init__(self, name: str, system: System, decoding: Decoding, clip_digest: str, device: torch.device) -> None:
        self.method = make_method(system)
        self.decoding = decoding
        self.device = device
        self.decoder = None
        if self.method.decodes:
            folder = model_folder(name, system)
            trained_on = read_json(folder / "system.json")["clip_digest"]
            if trained_on != clip_digest:
                raise UserError(f"{folder} was trained with another CLIP than the image features were made with: run `dvc repro`")
            self.decoder = decoders.load(folder, device)

    def caption(self, images_BD: NDArray[np.floating[Any]], support: Corpus, label: str = "caption") -> list[str]:
        """One caption per unit image feature, in order."""
        captions: list[str] = []
        batches = torch.from_numpy(np.asarray(images_BD, dtype=np.float32)).split(self.decoding.batch)
        for batch in track(batches, label, len(images_BD), "images", size=self.decoding.batch):
            captions += self._caption_batch(batch.to(self.device), support)
        return captions

    @torch.inference_mode()
    def _caption_batch(self, images_BD: Tensor, support: Corpus) -> list[str]:
        if self.decoder is None:
            return self.method.caption(images_BD, support)
        return self.decoder.generate(self.method.inference_condition(images_BD, support), self.decoding)


def caption_settings(name: str, system: System, params: dict[str, Any], device: torch.device) -> None:
    """Write `data/captions/<system>/<setting>.json` (COCO results format) for every setting that applies to the system."""
    decoding = check(Decoding, params.get("captioning"), "captioning")
    with finished_folder(paths.captions(name)) as folder:
        for setting_name, setting in settings_of(system, params).items():
            image_ids, features, clip_digest = split_features(system.clip, setting)
            support = load_corpus(system.clip, setting.support, device, clip_digest)
            captioner = Captioner(name, system, decoding, clip_digest, device)
            captions = captioner.caption(features, support, f"{name}, {setting_name}")
            write_json(folder / f"{setting_name}.json",
                       [{"image_id": i, "caption": c} for i, c in zip(image_ids, captions, strict=True)])


def split_features(clip: str, setting: Setting) -> tuple[list[str], NDArray[np.float16], str]:
    """Ids and unit features of a setting's images, and the digest of the CLIP that made them."""
    store = read(paths.image_features(clip, setting.test))
    table = read_table(paths.images_table(setting.test), ["image_id", "split"])
    if len(table["split"]) != len(store.features):
        raise UserError(f"{store.path} does not fit {paths.images_table(setting.test)}: run `dvc repro`")
    rows = [row for row, split in enumerate(table["split"]) if split == setting.split]
    if not rows:
        raise UserError(f"{paths.images_table(setting.test)} has no images in split {setting.split!r}: correct `settings` in params.yaml")
    return [table["image_id"][row] for row in rows], store.features[rows], store.origin.clip_digest

