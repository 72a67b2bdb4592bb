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
from pipeline.core.errors import UserError
from pipeline.core.files import read_json
from pipeline.core.params import check, load
from pipeline.features.encoders import Clip, load_clip
from pipeline.features.images import list_images, open_image
from pipeline.features.indexing import load_corpus
from pipeline.features.retrieval import search
from pipeline.features.stores import unit
from pipeline.methods.base import Corpus, Images, Objects, ObjectTags
from pipeline.synthetic.pairs import label_encoder, objects_of
from pipeline.systems import find_system

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
    corpus = load_corpus(system.clip, support or system.corpus, device, clip.digest)
    captioner = Captioner.load(system_name, system, params, clip.digest, device)
    tags = captioner.method.objects
    detector = _detector(captioner, params) if tags else None
    size = captioner.decoding.batch if detector is None else min(captioner.decoding.batch, detector.params.batch)
    for batch in _batches(files, size):
        opened: list[tuple[Path, Tensor, Image.Image | None]] = []
        for file in batch:
            try:
                picture = open_image(file)
                opened.append((file, clip.pixels(picture), picture if detector else None))
            except UserError as error:
                whole = False
                print(f"error: {error}", file=sys.stderr)
        if not opened:
            continue
        features = unit(clip.encode_pixels([pixels for _, pixels, _ in opened]))
        seen = detector.detect([picture for _, _, picture in opened if picture is not None]) if detector else []
        objects = _objects(detector, seen, tags, clip) if detector and tags else None
        captions = captioner.caption(Images(torch.from_numpy(features), objects), corpus, "caption")
        reasons = _explain(features, captions, clip, corpus) if explain else [{}] * len(captions)
        if explain and detector:
            reasons = [{**reason, "objects": [asdict(d) for d in found]} for reason, found in zip(reasons, seen, strict=True)]
        for (file, _, _), caption, reason in zip(opened, captions, reasons, strict=True):
            _print(file, caption, reason, as_json)
    return whole


def _expand(images: Sequence[Path]) -> tuple[list[Path], bool]:
    """Files of all arguments; an empty folder is reported, not fatal, as long as anything else is there."""
    files: list[Path] = []
    whole = True
    for path in images:
        try:
            files += list_images(path)
        except UserError as error:
            whole = False
            print(f"error: {error}", file=sys.stderr)
    return files, whole


def _detector(captioner: Captioner, params: dict[str, Any]) -> Detector:
    """The detector that the captioner learnt to read; another one is a `UserError`."""
    from pipeline.features.tagging import DetectorParams, load_detector

    detector = load_detector(check(DetectorParams, params.get("detector"), "detector"), captioner.device)
    if detector.digest != captioner.detector_digest:
        raise UserError(f"{detector.folder} is another detector than the system was trained with: run `dvc repro`")
    return detector


def _objects(detector: Detector, seen: Sequence[Sequence[Detection]], tags: ObjectTags, clip: Clip) -> Objects:
    """Distinct objects of each picture, the surest first, as text features."""
    labels = detector.labels
    ranked = [list(dict.fromkeys(labels.index(d.label) for d in found)) for found in seen]
    return objects_of(ranked, tags.limit, label_encoder(clip, tags.prompt)(labels))


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
    print(f"{name}: {caption}", flush=True)
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
    limits = read_json(provenance).get("limits") if provenance.exists() else None
    if limits:
        print(f"note: {limits}", file=sys.stderr)


def _batches(files: list[Path], size: int) -> Iterator[list[Path]]:
    for start in range(0, len(files), size):
        yield files[start : start + size]

