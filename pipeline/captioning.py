"""From pictures to captions: see, look up, caption; the same for stages, sweeps and the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch

from .core import paths
from .core.artefacts import again, whole
from .core.code import code_digest
from .core.device import precisely, resolved
from .core.errors import UserError
from .core.files import digest_of, digest_tree, read_json, write_json
from .core.params import check, entries
from .core.resume import Ledger, kept_ledgers
from .core.tables import read_table
from .language import decoders
from .language.decoding import Decoding
from .methods.base import Candidate, Method
from .needs.base import Inputs, Models, models_of, read
from .systems import Setting, System, clip_of, looked_at, make_method, settings_of

T = TypeVar("T")


class Captioner:
    """A system that captions. Its model, and the sentences that it looks up, are loaded once, and not before they are needed.

    folder: of its model, where that is not the system's own. step: with the weights that its recipe kept of this one.
    """

    def __init__(self, name: str, system: System, device: torch.device, folder: Path | None = None, step: int | None = None) -> None:
        """Raises `UserError` for a wrong parameter, and where the model is missing or of other parameters."""
        self.name, self.system, self.device = name, system, device
        self.method = make_method(name, system)
        self.folder = folder or paths.model(name)
        about: dict[str, Any] = {"models": {}}
        if folder is None or self.method.has_decoder:
            if not (self.folder / "system.json").exists():
                raise UserError(f"{self.folder} is missing: run `dvc repro`")
            about = read_json(whole(self.folder / "system.json"))
        if folder is None and (about["method"], about["train"]) != (system.method, system.train):
            raise UserError(f"{self.folder} was trained with other parameters than params.yaml holds for {name}: {again(self.folder)}")
        if "models" not in about:
            raise UserError(f"{self.folder} was made by an earlier version: {again(self.folder)}")
        self._models = [Models(about["models"], (self.folder,))]
        self.weights = self.folder if step is None else paths.model_of_step(self.folder, step)
        if step is not None and not self.weights.is_dir():
            kept = sorted(int(path.name) for path in self.weights.parent.glob("*"))
            raise UserError(f"params.yaml: {name} has no weights of step {step}, but of {', '.join(map(str, kept)) or 'none'}: name one of "
                            "them, or set keep_steps in its recipe")
        self._decoder: decoders.Decoder | None = None
        self._supports: dict[str, Inputs] = {}

    def fingerprint(self, setting: Setting, decoding: Decoding) -> str:
        """Of all that decides a setting's captions."""
        return digest_of([
            asdict(self.system), digest_tree(self.weights), code_digest(__name__, type(self.method).__module__), self.device.type,
            torch.get_num_threads(), asdict(setting), asdict(decoding), resolved(decoding.precision, self.device),
            digest_of_inputs(self.system, self.method, setting),
        ])[:16]

    def caption_setting(self, setting: Setting, decoding: Decoding, ledger: Ledger, label: str) -> dict[str, str]:
        """One caption per picture of a setting, by image id in the table's order; the batches in the ledger are not made again."""
        file = paths.image_table(setting.test)
        table = read_table(file, ["image_id", "split"])
        rows = [row for row, split in enumerate(table["split"]) if split == setting.split]
        if not rows:
            raise UserError(f"{file} has no images in split {setting.split!r}: correct `settings` in params.yaml")
        needs = looked_at(self.method, setting)
        self.require(models_of(needs, self.system.clip, setting.test))
        seen = read(needs, self.system.clip, setting.test)[rows]
        for start, stop in ledger.shards(len(rows), decoding.batch, label, "images"):
            ledger.record(str(start), self.caption(seen[start:stop], self.support(setting.support), decoding))
        captions = [caption for start in range(0, len(rows), decoding.batch) for caption in ledger.done[str(start)]]
        return dict(zip((table["image_id"][row] for row in rows), captions, strict=True))

    def caption(self, seen: Inputs, support: Inputs, decoding: Decoding) -> list[str]:
        """One caption per picture, in order; all of them at once."""
        return self._ask(self.method.caption, seen, support, decoding)

    def candidates(self, seen: Inputs, support: Inputs, decoding: Decoding) -> list[list[Candidate]]:
        """The same with what each caption is chosen from, it first."""
        return self._ask(self.method.candidates, seen, support, decoding)

    def answer(self, seen: Inputs, support: Inputs, questions: Sequence[str], decoding: Decoding, blind: bool = False) -> list[str]:
        """One answer to each picture's question. blind: as if there were no picture. `UserError` for a method without a language model."""
        if not self.method.has_decoder:
            raise UserError(f"params.yaml: {self.name} has no language model, so it cannot answer: name another system")

        def answer(seen: Inputs, support: Inputs, decoder: decoders.Decoder | None, decoding: Decoding) -> list[str]:
            assert decoder is not None
            return self.method.answer(seen, support, questions, decoder, decoding, blind)

        return self._ask(answer, seen, support, decoding)

    @torch.no_grad()  # and no inference mode, in which a method could take no gradient
    def _ask(self, method: Callable[[Inputs, Inputs, decoders.Decoder | None, Decoding], list[T]], seen: Inputs, support: Inputs,
             decoding: Decoding) -> list[T]:
        if self._decoder is None and self.method.has_decoder:
            self._decoder = decoders.load(self.weights, self.device, self.method.mapper)
        with precisely(resolved(decoding.precision, self.device), self.device):
            return method(seen.to(self.device), support, self._decoder, decoding)

    def support(self, corpus: str) -> Inputs:
        """The sentences to look up. Raises `UserError` where they are of another CLIP than the model, or than what saw the pictures."""
        if corpus not in self._supports:
            needs, clip = self.method.looks_up, clip_of(self.system.looks_up)
            self.require(models_of(needs, clip, corpus))
            self._supports[corpus] = read(needs, clip, corpus).to(self.device)
        return self._supports[corpus]

    def require(self, models: Models) -> None:
        """`UserError` unless what is read, or looked with, was made with the models that the system was trained with, and all else too."""
        Models.together([*self._models, models])
        self._models.append(models)


def caption_settings(name: str, system: System, params: dict[str, Any], device: torch.device) -> None:
    """Write `data/captions/<system>/<setting>.json` (COCO results format) for every setting that applies to the system.

    Each setting has a ledger of its batches, so that a kill loses at most one of them. Ledgers are kept: a setting whose model, pictures,
    support, parameters and code are those of an earlier run is not captioned again.
    """
    captioner = Captioner(name, system, device)
    with kept_ledgers(paths.captions(name)) as ledgers:
        for setting_name, setting in settings_of(system, captioner.method, params).items():
            decoding = decoding_of(setting, params)
            ledger = ledgers.open(captioner.fingerprint(setting, decoding))
            captions = captioner.caption_setting(setting, decoding, ledger, f"{name}, {setting_name}")
            write_json(ledgers.folder / f"{setting_name}.json", [{"image_id": i, "caption": c} for i, c in captions.items()])


def digest_of_inputs(system: System, method: Method, setting: Setting) -> list[Any]:
    """Of everything that a system reads of a setting."""
    seen = [need.digest(system.clip, setting.test) for need in looked_at(method, setting)]
    return [seen, [need.digest(clip_of(system.looks_up), setting.support) for need in method.looks_up]]


def decoding_of(setting: Setting, params: dict[str, Any]) -> Decoding:
    """`captioning` with the setting's own values."""
    check(Decoding, setting.captioning, f"settings, tested on {setting.test}: captioning")
    return check(Decoding, {**entries(params, "captioning"), **setting.captioning}, "captioning")
