"""From image features to captions: one captioner for the stage, the command line and whatever comes later."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pipeline.core import paths
from pipeline.core.artefacts import again, whole
from pipeline.core.code import code_digest
from pipeline.core.device import precisely, resolved
from pipeline.core.errors import UserError
from pipeline.core.files import digest_of, digest_tree, read_json, write_json
from pipeline.core.params import check, entries
from pipeline.core.resume import Ledger, kept_ledgers
from pipeline.features.data import Corpus, Seen
from pipeline.features.stores import refit
from pipeline.inputs import Captioning
from pipeline.language import decoders
from pipeline.language.decoders import Decoder
from pipeline.language.decoding import Decoding
from pipeline.methods.base import Method
from pipeline.systems import Setting, System, make_method, settings_of


class Captioner:
    """A method and its decoder, ready to caption. detector_digest: of the detector whose objects the decoder learnt, if any."""

    def __init__(self, method: Method, decoder: Decoder | None, device: torch.device, detector_digest: str | None = None) -> None:
        self.method, self.decoder, self.device = method, decoder, device
        self.detector_digest = detector_digest

    @staticmethod
    def load(name: str, system: System, clip_digest: str, device: torch.device) -> Captioner:
        """The captioner of a trained system; `UserError` when its model is missing or was trained in another CLIP space."""
        folder = paths.model(name)
        trained = read_json(whole(folder / "system.json"))
        if trained["clip_digest"] not in (clip_digest, None):
            raise UserError(f"{folder} was trained with another CLIP than the image features were made with: {refit(system.clip, folder)}")
        if (trained["method"], trained["train"]) != (system.method, system.train):
            raise UserError(f"{folder} was trained with other parameters than params.yaml holds for {name}: {again(folder)}")
        return Captioner.of(folder, make_method(name, system), device)

    @staticmethod
    def of(folder: Path, method: Method, device: torch.device) -> Captioner:
        """The captioner of a method with the model in a folder, whatever its name."""
        if not method.has_decoder:
            return Captioner(method, None, device)
        detector_digest = read_json(whole(folder / "system.json")).get("detector_digest")
        return Captioner(method, decoders.load(folder, device, method.mapper), device, detector_digest)

    @torch.no_grad()  # and no inference mode, in which a method could take no gradient
    def caption(self, seen: Seen, support: Corpus, decoding: Decoding) -> list[str]:
        """One caption per picture, in order; all of them at once."""
        with precisely(resolved(decoding.precision, self.device), self.device):
            return self.method.caption(seen.to(self.device), support, self.decoder, decoding)


def caption_settings(name: str, system: System, params: dict[str, Any], device: torch.device) -> None:
    """Write `data/captions/<system>/<setting>.json` (COCO results format) for every setting that applies to the system.

    Each setting has a ledger of its batches, so that a kill loses at most one of them. Ledgers are kept: a setting whose model, pictures,
    support, parameters and code are those of an earlier run is not captioned again.
    """
    method = make_method(name, system)
    work = _SettingsWork(name, system, method, device)
    with kept_ledgers(paths.captions(name)) as ledgers:
        for setting_name, setting in settings_of(system, method, params).items():
            decoding = decoding_of(setting, params)
            ledger = ledgers.open(work.fingerprint(setting, decoding))
            ids, captions = work.caption(setting, decoding, ledger, f"{name}, {setting_name}")
            write_json(ledgers.folder / f"{setting_name}.json", [{"image_id": i, "caption": c} for i, c in zip(ids, captions, strict=True)])


class _SettingsWork:
    """What the settings of one system share: models and sentences are loaded once, and not before something is missing."""

    def __init__(self, name: str, system: System, method: Method, device: torch.device) -> None:
        self.name, self.system, self.method, self.device = name, system, method, device
        self.inputs = Captioning(system, method)
        self._captioner: Captioner | None = None
        self._supports: dict[str, Corpus] = {}
        self._identity = [asdict(system), digest_tree(_model(name)), code_digest(__name__, type(method).__module__), device.type,
                          torch.get_num_threads()]

    def fingerprint(self, setting: Setting, decoding: Decoding) -> str:
        """Of all that decides a setting's captions."""
        return digest_of([*self._identity, asdict(setting), asdict(decoding), resolved(decoding.precision, self.device),
                          self.inputs.digest(setting)])[:16]

    def caption(self, setting: Setting, decoding: Decoding, ledger: Ledger, label: str) -> tuple[list[str], list[str]]:
        """Image ids and captions, the batches in the ledger not made again."""
        ids, seen, clip_digest = self.inputs.seen(setting)
        for start, stop in ledger.shards(len(seen), decoding.batch, label, "images"):
            if self._captioner is None:
                self._captioner = Captioner.load(self.name, self.system, clip_digest, self.device)
            self.inputs.require_detector(self.name, setting, self._captioner.detector_digest)
            if setting.support not in self._supports:
                self._supports[setting.support] = self.inputs.support(setting.support, self.device, clip_digest)
            ledger.record(str(start), self._captioner.caption(seen[start:stop], self._supports[setting.support], decoding))
        return ids, [caption for start in range(0, len(seen), decoding.batch) for caption in ledger.done[str(start)]]


def decoding_of(setting: Setting, params: dict[str, Any]) -> Decoding:
    """`captioning` with the setting's own values."""
    check(Decoding, setting.captioning, f"settings, tested on {setting.test}: captioning")
    return check(Decoding, {**entries(params, "captioning"), **setting.captioning}, "captioning")


def _model(name: str) -> Path:
    folder = paths.model(name)
    if not (folder / "system.json").exists():
        raise UserError(f"{folder} is missing: run `dvc repro`")
    return folder
