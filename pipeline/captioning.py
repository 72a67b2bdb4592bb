"""From image features to captions: one captioner for the stage, the command line and whatever comes later."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import decoders, paths
from pipeline.decoders import Decoder, Decoding
from pipeline.errors import UserError
from pipeline.files import digest_file, finished_folder, read_json, write_json
from pipeline.indexing import load_corpus
from pipeline.methods.base import Corpus, Method
from pipeline.params import check
from pipeline.progress import track
from pipeline.stores import read
from pipeline.systems import Setting, System, make_method, model_folder, settings_of
from pipeline.tables import read_table


class Captioner:
    """A method and its decoder, ready to caption."""

    def __init__(self, method: Method, decoder: Decoder | None, decoding: Decoding, device: torch.device) -> None:
        self.method, self.decoder, self.decoding, self.device = method, decoder, decoding, device

    @staticmethod
    def load(name: str, system: System, params: dict[str, Any], clip_digest: str, device: torch.device) -> Captioner:
        """The captioner of a trained system; `UserError` when its model is missing or was trained in another CLIP space."""
        method = make_method(name, system)
        decoding = check(Decoding, params.get("captioning"), "captioning")
        if not method.decodes:
            return Captioner(method, None, decoding, device)
        folder = model_folder(name, system)
        trained = read_json(folder / "system.json")
        if trained["clip_digest"] != clip_digest:
            raise UserError(f"{folder} was trained with another CLIP than the image features were made with: run `dvc repro`")
        if system.reads is None and (trained["method"], trained["train"]) != (system.method, system.train):
            raise UserError(f"{folder} was trained with other parameters than params.yaml holds for {name}: run `dvc repro`")
        return Captioner(method, decoders.load(folder, device), decoding, device)

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
    with finished_folder(paths.captions(name)) as folder:
        for setting_name, setting in settings_of(system, params).items():
            image_ids, features, clip_digest = split_features(system.clip, setting)
            support = load_corpus(system.clip, setting.support, device, clip_digest)
            captioner = Captioner.load(name, system, params, clip_digest, device)
            captions = captioner.caption(features, support, f"{name}, {setting_name}")
            write_json(folder / f"{setting_name}.json",
                       [{"image_id": i, "caption": c} for i, c in zip(image_ids, captions, strict=True)])


def split_features(clip: str, setting: Setting) -> tuple[list[str], NDArray[np.float16], str]:
    """Ids and unit features of a setting's images, and the digest of the CLIP that made them."""
    store = read(paths.image_features(clip, setting.test)).require(source_digest=digest_file(paths.images_table(setting.test)))
    table = read_table(paths.images_table(setting.test), ["image_id", "split"])
    rows = [row for row, split in enumerate(table["split"]) if split == setting.split]
    if not rows:
        raise UserError(f"{paths.images_table(setting.test)} has no images in split {setting.split!r}: correct `settings` in params.yaml")
    return [table["image_id"][row] for row in rows], store.features[rows], store.origin.clip_digest

