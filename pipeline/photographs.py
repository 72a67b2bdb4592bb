"""`unpaired caption`: pictures from anywhere, captioned in batches; a broken one never stops the rest."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.captioning import Captioner
from pipeline.core import paths
from pipeline.core.device import choose_device
from pipeline.core.errors import UserError, printable
from pipeline.core.files import read_object
from pipeline.core.params import check, load, section
from pipeline.features.data import Corpus, Seen
from pipeline.features.encoders import Clip, load_clip
from pipeline.features.retrieval import search
from pipeline.features.stores import unit
from pipeline.features.tags import TagParams
from pipeline.images import list_images, open_image
from pipeline.inputs import Captioning, ImageFeatures, Sentences, Tags
from pipeline.language.decoding import Decoding
from pipeline.methods.base import Method
from pipeline.systems import System, find_system

if TYPE_CHECKING:
    from pipeline.features.tagging import Detection, Detector

_NEAREST = 5


def caption_files(images: Sequence[Path], system_name: str, support: str | None, as_json: bool, explain: bool) -> bool:
    """Print one caption per picture as soon as its batch is done; True if every picture could be read."""
    params = load()
    system = find_system(system_name, params)
    files, whole = _expand(images)
    device = choose_device()
    clip = load_clip(system.clip, params, device)
    _say_limits(system.clip)
    captioner = Captioner.load(system_name, system, clip.digest, device)
    eyes = Eyes(system, captioner.method, clip, params, device)
    if eyes.detector and eyes.detector.digest != captioner.detector_digest:
        raise UserError(f"{eyes.detector.folder} is another detector than the system was trained with: run `dvc repro`")
    inputs, looked_up = Captioning(system, captioner.method), support or system.corpus
    corpus = inputs.support(looked_up, device, clip.digest)
    nearest = Sentences(system.clip, frozenset({"text"})).load(looked_up, device, clip.digest) if explain else corpus
    decoding = check(Decoding, params.get("captioning"), "captioning")
    size = decoding.batch if eyes.detector is None else min(decoding.batch, eyes.detector.params.batch)
    for batch in _batches(files, size):
        opened = []
        for file in batch:
            try:
                opened.append((file, eyes.prepare(open_image(file))))
            except UserError as error:
                whole = False
                print(f"error: {printable(str(error))}", file=sys.stderr)
        if not opened:
            continue
        seen, found = eyes.see([prepared for _, prepared in opened])
        captions = captioner.caption(seen, corpus, decoding)
        reasons = _explain(seen.features.numpy(), captions, clip, nearest) if explain else [{}] * len(captions)
        if explain and eyes.detector:
            reasons = [{**reason, "objects": [asdict(d) for d in each]} for reason, each in zip(reasons, found, strict=True)]
        for (file, _), caption, reason in zip(opened, captions, reasons, strict=True):
            _print(file, caption, reason, as_json)
    return whole


class Eyes:
    """Sees pictures in memory as the stores hold them: a CLIP, and a detector where the method asks for tags."""

    def __init__(self, system: System, method: Method, clip: Clip, params: dict[str, Any], device: torch.device) -> None:
        self.clip = clip
        self.detector: Detector | None = None
        if method.tags:
            from pipeline.features.tagging import load_detector

            self.detector = load_detector(method.tags[0], params, device)
            self._tags = Tags(system.clip, *method.tags)
            self._prompt = section(TagParams, params, "tag").prompt

    def prepare(self, picture: Image.Image) -> tuple[Tensor, Image.Image | None]:
        """What is kept of a picture until its batch is full: little, unless a detector is to look at it."""
        return self.clip.pixels(picture), picture if self.detector else None

    def see(self, prepared: Sequence[tuple[Tensor, Image.Image | None]]) -> tuple[Seen, list[list[Detection]]]:
        """What the method gets of prepared pictures, and all that was detected in each."""
        features = ImageFeatures.see(self.clip, [pixels for pixels, _ in prepared])
        if self.detector is None:
            return Seen(features), [[] for _ in prepared]
        found = self.detector.detect([picture for _, picture in prepared if picture is not None])
        return Seen(features, self._tags.see(self.clip, self.detector.labels, self._prompt, found)), found


def _expand(images: Sequence[Path]) -> tuple[list[Path], bool]:
    """Files of all arguments; an empty folder is reported, not fatal, as long as anything else is there."""
    files: list[Path] = []
    whole = True
    for path in images:
        try:
            pictures, others = list_images(path)
            files += pictures
            for other in others:
                whole = whole and not other.is_symlink()
                why = "leads nowhere" if other.is_symlink() else "not a kind of picture that is read"
                print(f"left out: {printable(str(other))} ({why})", file=sys.stderr)
        except UserError as error:
            whole = False
            print(f"error: {printable(str(error))}", file=sys.stderr)
    return files, whole


def _explain(features: np.ndarray, captions: list[str], clip: Clip, corpus: Corpus) -> list[dict[str, Any]]:
    """Nearest distinct corpus captions with their similarity, and the caption's own similarity to the picture."""
    similarity, rows = search(corpus.index, features, 10 * _NEAREST)
    own = (features * unit(clip.encode_texts(captions))).sum(1)
    reasons = []
    for values, ids, value in zip(similarity.tolist(), rows.tolist(), own.tolist(), strict=True):
        nearest: dict[str, float] = {}
        for score, row in zip(values, ids, strict=True):
            nearest.setdefault(corpus.texts[row], round(score, 4))
        reasons.append({"clip_similarity": round(value, 4), "nearest": [
            {"caption": text, "similarity": score} for text, score in list(nearest.items())[:_NEAREST]]})
    return reasons


def _print(file: Path, caption: str, reason: dict[str, Any], as_json: bool) -> None:
    name = os.fsencode(file).decode(errors="replace")
    if as_json:
        print(json.dumps({"image": name, "caption": caption, **reason}, ensure_ascii=False), flush=True)
        return
    print(f"{printable(name)}: {caption}", flush=True)
    if reason:
        print(f"  CLIP similarity of this caption: {reason['clip_similarity']:.3f}")
        for near in reason["nearest"]:
            print(f"  {near['similarity']:.3f}  {near['caption']}")
        for seen in reason.get("objects", []):
            print(f"  object: {seen['label']} ({seen['score']:.2f})")
        if reason.get("objects") == []:
            print("  object: none found")


def _say_limits(clip: str) -> None:
    """One line from the model's provenance on what it knows; the shipped CLIP knows drawn scenes only."""
    provenance = paths.foundation(clip) / "provenance.json"
    limits = read_object(provenance).get("limits") if provenance.exists() else None
    if limits:
        print(f"note: {printable(str(limits))}", file=sys.stderr)


def _batches(files: list[Path], size: int) -> Iterator[list[Path]]:
    for start in range(0, len(files), size):
        yield files[start : start + size]

