"""From image features to captions: one captioner for the stage, the command line and whatever comes later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline import decoders
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.files import digest_file, finished_folder, read_json, write_json
from pipeline.core.params import check
from pipeline.core.progress import track
from pipeline.core.tables import read_table
from pipeline.decoders import Decoder, Decoding
from pipeline.features.encoders import load_clip
from pipeline.features.indexing import load_corpus
from pipeline.features.stores import read
from pipeline.methods.base import Corpus, Images, Method, ObjectTags
from pipeline.synthetic.pairs import label_encoder, read_objects
from pipeline.systems import Setting, System, make_method, model_folder, settings_of


class Captioner:
    """A method and its decoder, ready to caption."""

    def __init__(self, method: Method, decoder: Decoder | None, decoding: Decoding, device: torch.device,
                 detector_digest: str | None = None) -> None:
        """detector_digest: of the detector whose objects the decoder learnt, if any."""
        self.method, self.decoder, self.decoding, self.device = method, decoder, decoding, device
        self.detector_digest = detector_digest

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
        front = method.front(read_json(folder / "decoder.json")["clip_width"])
        return Captioner(method, decoders.load(folder, device, front), decoding, device, trained.get("detector_digest"))

    def caption(self, images: Images, support: Corpus, label: str = "caption") -> list[str]:
        """One caption per picture, in order."""
        captions: list[str] = []
        total, size = len(images.features), self.decoding.batch
        for start in track(range(0, total, size), label, total, "images", size=size):
            captions += self._caption_batch(images[start : start + size].to(self.device), support)
        return captions

    @torch.inference_mode()
    def _caption_batch(self, images: Images, support: Corpus) -> list[str]:
        if self.decoder is None:
            return self.method.caption(images, support)
        return self.decoder.generate(self.method.inference_condition(images, support), self.decoding)


def caption_settings(name: str, system: System, params: dict[str, Any], device: torch.device) -> None:
    """Write `data/captions/<system>/<setting>.json` (COCO results format) for every setting that applies to the system."""
    with finished_folder(paths.captions(name)) as folder:
        tags = make_method(name, system).objects
        encode = label_encoder(load_clip(system.clip, params, device), tags.prompt) if tags else None
        for setting_name, setting in settings_of(system, params).items():
            image_ids, images, clip_digest = load_images(system.clip, setting, tags, encode)
            support = load_corpus(system.clip, setting.support, device, clip_digest)
            captioner = Captioner.load(name, system, params, clip_digest, device)
            if tags:
                require_detector(name, setting, captioner.detector_digest)
            captions = captioner.caption(images, support, f"{name}, {setting_name}")
            write_json(folder / f"{setting_name}.json",
                       [{"image_id": i, "caption": c} for i, c in zip(image_ids, captions, strict=True)])


def require_detector(name: str, setting: Setting, digest: str | None) -> None:
    """`UserError` if a setting's objects come from another detector than the one whose objects a system learnt to read."""
    folder = paths.tags(setting.test)
    if read_json(folder / "tags.json")["detector_digest"] != digest:
        raise UserError(f"{folder} was made with another detector than {name} was trained with: run `dvc repro`")


def load_images(clip: str, setting: Setting, tags: ObjectTags | None = None,
                encode: Callable[[Sequence[str]], Tensor] | None = None) -> tuple[list[str], Images, str]:
    """Ids, unit features and (with `tags` and the text encoder) objects of a setting's images, and the digest of the CLIP."""
    store = read(paths.image_features(clip, setting.test)).require(source_digest=digest_file(paths.images_table(setting.test)))
    table = read_table(paths.images_table(setting.test), ["image_id", "split"])
    rows = [row for row, split in enumerate(table["split"]) if split == setting.split]
    if not rows:
        raise UserError(f"{paths.images_table(setting.test)} has no images in split {setting.split!r}: correct `settings` in params.yaml")
    ids = [table["image_id"][row] for row in rows]
    objects = None
    if tags and encode:
        folder = paths.tags(setting.test)
        if read_json(folder / "tags.json")["source_digest"] != store.origin.source_digest:
            raise UserError(f"{folder} was made from other images than {paths.images_table(setting.test)}: run `dvc repro`")
        objects = read_objects(folder, ids, tags.limit, torch.device("cpu"), encode)
    return ids, Images(torch.from_numpy(store.features[rows]), objects), store.origin.clip_digest

