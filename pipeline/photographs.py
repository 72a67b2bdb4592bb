"""`unpaired caption` and `unpaired answer`: pictures and videos from anywhere, captioned in batches, where a broken one never stops the
rest; or asked about."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from . import images, videos
from .answering import answering_decoding
from .answers import answering_of
from .captioning import Captioner
from .core import paths
from .core.device import choose_device
from .core.errors import UserError, printable
from .core.files import UNWANTED, read_object
from .core.params import check, load, section
from .features.encoders import Clip, load_clip
from .features.frames import FrameParams
from .features.retrieval import search
from .features.stores import unit
from .images import list_images, open_image
from .language.decoding import Decoding
from .methods.base import Candidate, Method
from .needs.base import Inputs, Need, PictureNeed, VideoMaker
from .needs.frames import Frames
from .needs.images import Images
from .needs.text import Sentences, Text
from .portable import inside
from .systems import Setting, System, find_system, settings_of
from .videos import is_video, open_frames

_NEAREST = 5


Show = Callable[[Path, str, dict[str, Any]], None]
"""What is done with a picture's file, its caption, and the reasons for it."""


def caption_files(arguments: Sequence[Path], system_name: str, support: str | None, as_json: bool, explain: bool,
                  show: Show | None = None, captioner: Path | None = None) -> bool:
    """Print one caption per picture or video as soon as its batch is done; True if every one could be read. show: gets them too.

    captioner: the folder of one that `unpaired fit` made, in place of the current folder's system.
    """
    def at_home() -> AbstractContextManager[None]:
        return inside(captioner) if captioner else nullcontext()

    with at_home():
        params = load()
        find_system(system_name, params)
    files, whole = _expand(arguments)
    films = any(map(is_video, files))
    with at_home():
        seer = Seer(system_name, support, params, [Images(), *([Frames()] if films else [])] if explain else [],
                    paths.model(system_name).absolute() if captioner else None)
        nearest = seer.sentences() if explain else None
    for batch in _batches(files, max(1, seer.batch // (seer.eyes.frames if films else 1))):
        opened = []
        for file in batch:
            try:
                opened.append((file, seer.eyes.open(file)))
            except UserError as error:
                whole = False
                print(f"error: {printable(str(error))}", file=sys.stderr)
        if not opened:
            continue
        seen, reasons = seer.eyes.see([prepared for _, prepared in opened])
        if nearest:
            candidates = seer.captioner.candidates(seen, seer.support, seer.decoding)
            captions = [each[0].text for each in candidates]
            reasons = [{**reason, **_chosen_from(each)} for reason, each in zip(reasons, candidates, strict=True)]
            reasons = _explain(seen.of(Images).numpy(), captions, seer.clip, nearest, reasons)
            if films:
                shown = seen.of(Frames).features
                reasons = [{**reason, "frames": _nearest_to_frames(frames.numpy(), nearest)} if is_video(file) else reason
                           for (file, _), frames, reason in zip(opened, shown, reasons, strict=True)]
        else:
            captions, reasons = seer.captioner.caption(seen, seer.support, seer.decoding), [{}] * len(opened)
        for (file, _), caption, reason in zip(opened, captions, reasons, strict=True):
            _print(file, caption, reason, as_json)
            if show:
                show(file, caption, reason)
    return whole


class Seer:
    """A system of the current folder with all that it captions pictures by."""

    def __init__(self, system_name: str, support: str | None, params: dict[str, Any], explained: Sequence[PictureNeed[Any]] = (),
                 model: Path | None = None) -> None:
        """explained: what is made of pictures beside what the system looks at. model: its folder, absolute, if the current folder is left
        before the first caption. Raises `UserError` for what is missing or does not fit."""
        system, self._portable = find_system(system_name, params), model is not None
        device = choose_device()
        self.clip = load_clip(system.clip, params, device)
        _say_limits(system.clip)
        self.captioner = Captioner(system_name, system, device, model)
        self.eyes = Eyes(self.captioner, (*self.captioner.method.looks_at, *explained), self.clip, params)
        self.looked_up = support or _support(system, self.captioner.method, params)
        self.support = self.captioner.support(self.looked_up)
        self.decoding = check(Decoding, params.get("captioning"), "captioning")

    @property
    def batch(self) -> int:
        """Most pictures at once."""
        return min(self.decoding.batch, self.eyes.batch)

    def sentences(self) -> Sentences:
        """Those that are looked up, with their features, whether or not the system asks for them. `UserError` where it holds none."""
        if self._portable and not self.captioner.method.looks_up:
            raise UserError("this captioner looks no sentences up, and holds none to explain captions by: leave --explain and --page out")
        self.captioner.require(Text().models(self.clip.folder.name, self.looked_up))
        return Text().load(self.clip.folder.name, self.looked_up).to(self.captioner.device)


def answer_file(picture: Path, question: str, system_name: str, support: str | None) -> None:
    """Print a system's answer to a question about a picture. Raises `UserError` for a picture that cannot be read."""
    params = load()
    system = find_system(system_name, params)
    wanted = answering_of(system_name, system, params)
    asked = " ".join(question.split())
    if not asked or UNWANTED.search(asked):
        raise UserError("the question is empty or holds what is no text: ask something, such as \"what colour is the car?\"")
    device = choose_device()
    clip = load_clip(system.clip, params, device)
    _say_limits(system.clip)
    captioner = Captioner(system_name, system, device)
    eyes = Eyes(captioner, captioner.method.looks_at, clip, params)
    setting = next(iter(wanted.settings.values()), Setting(system.corpus, system.corpus))
    seen, _ = eyes.see([eyes.open(picture)])
    answer, = captioner.answer(seen, captioner.support(support or setting.support), [asked],
                               answering_decoding(system_name, wanted, setting, params))
    print(answer)


class Eyes:
    """Makes of pictures and videos in memory what stores hold of others."""

    def __init__(self, captioner: Captioner, needs: Sequence[PictureNeed[Any]], clip: Clip, params: dict[str, Any]) -> None:
        """Raises `UserError` where a model is another one than the system was trained with."""
        self._name, self._params = captioner.name, params
        self._makers = {type(need): need.maker(clip, params) for need in needs}
        for maker in self._makers.values():
            captioner.require(maker.models)
        self.batch = min(maker.batch for maker in self._makers.values())

    @cached_property
    def frames(self) -> int:
        """Key frames of a video."""
        return section(FrameParams, self._params, "frames").count

    def open(self, file: Path) -> list[list[Any]]:
        """What is kept of a picture, or of each key frame of a video, until its batch is full. Raises `UserError` for a broken one, and for
        a video where the system looks at single pictures."""
        if is_video(file) and (single := [kind.__name__ for kind, maker in self._makers.items() if not isinstance(maker, VideoMaker)]):
            raise UserError(f"{file} is a video, but {self._name} is given {' and '.join(single)}, which are made of single pictures: name "
                            "a system that looks at whole pictures, or at frames")
        pictures = open_frames(file, self.frames) if is_video(file) else [open_image(file)]
        return [self.prepare(picture) for picture in pictures]

    def prepare(self, picture: Image) -> list[Any]:
        """What is kept of an RGB picture in memory."""
        return [maker.prepare(picture) for maker in self._makers.values()]

    def see(self, opened: Sequence[list[list[Any]]]) -> tuple[Inputs, list[dict[str, Any]]]:
        """What the method gets of opened pictures and videos, and what there is to say of each."""
        values: dict[type[Need[Any]], Any] = {}
        said = [dict[str, Any]() for _ in opened]
        counts = [len(frames) for frames in opened]
        prepared = [frame for frames in opened for frame in frames]
        for (kind, maker), parts in zip(self._makers.items(), zip(*prepared, strict=True), strict=True):
            values[kind], more = maker.make(parts)
            if isinstance(maker, VideoMaker):
                values[kind] = maker.join(values[kind], counts)
            firsts = np.cumsum([0, *counts[:-1]]).tolist()
            said = [{**before, **more[first]} for before, first in zip(said, firsts, strict=True)]
        return Inputs(values), said


def _support(system: System, method: Method, params: dict[str, Any]) -> str:
    """Where nothing is said: the sentences that the system looks up in the first of its settings, or its own."""
    return next((setting.support for setting in settings_of(system, method, params).values()), system.corpus)


def _expand(arguments: Sequence[Path]) -> tuple[list[Path], bool]:
    """Files of all arguments; an empty folder is reported, not fatal, as long as anything else is there."""
    files: list[Path] = []
    whole = True
    for path in arguments:
        try:
            pictures, others = list_images(path, images.SUFFIXES | videos.SUFFIXES)
            files += pictures
            for other in others:
                whole = whole and not other.is_symlink()
                why = "leads nowhere" if other.is_symlink() else "not a kind of picture that is read"
                print(f"left out: {printable(str(other))} ({why})", file=sys.stderr)
        except UserError as error:
            whole = False
            print(f"error: {printable(str(error))}", file=sys.stderr)
    return files, whole


def _explain(features: np.ndarray, captions: list[str], clip: Clip, corpus: Sentences, said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Nearest distinct corpus captions with their similarity, the caption's own similarity to the picture, and what was `said` of it."""
    similarity, rows = search(corpus.index, features, 10 * _NEAREST)
    own = (features * unit(clip.encode_texts(captions))).sum(1)
    reasons = []
    for values, ids, value, seen in zip(similarity.tolist(), rows.tolist(), own.tolist(), said, strict=True):
        nearest: dict[str, float] = {}
        for score, row in zip(values, ids, strict=True):
            nearest.setdefault(corpus.texts[row], round(score, 4))
        reasons.append({"clip_similarity": round(value, 4), "nearest": [
            {"caption": text, "similarity": score} for text, score in list(nearest.items())[:_NEAREST]], **seen})
    return reasons


def _nearest_to_frames(features: np.ndarray, corpus: Sentences) -> list[dict[str, Any]]:
    """Of each key frame the nearest corpus caption."""
    similarity, rows = search(corpus.index, features, 1)
    return [{"caption": corpus.texts[row], "similarity": round(score, 4)}
            for score, row in zip(similarity[:, 0].tolist(), rows[:, 0].tolist(), strict=True)]


def _chosen_from(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """The candidates, best first, where there was a choice."""
    scored = [{"caption": each.text, "score": round(each.score, 4)} for each in candidates if each.score is not None]
    return {"candidates": scored} if len(scored) > 1 else {}


def readable(file: Path) -> str:
    """A file's name, whatever bytes it has."""
    return os.fsencode(file).decode(errors="replace")


def _print(file: Path, caption: str, reason: dict[str, Any], as_json: bool) -> None:
    name = readable(file)
    if as_json:
        print(json.dumps({"image": name, "caption": caption, **reason}, ensure_ascii=False), flush=True)
        return
    print(f"{printable(name)}: {caption}", flush=True)
    if reason:
        print(f"  CLIP similarity of this caption: {reason['clip_similarity']:.3f}")
        for near in reason["nearest"]:
            print(f"  {near['similarity']:.3f}  {near['caption']}")
        for number, near in enumerate(reason.get("frames", []), 1):
            print(f"  key frame {number}: {near['similarity']:.3f}  {near['caption']}")
        for each in reason.get("candidates", []):
            print(f"  candidate: {each['score']:.3f}  {each['caption']}")
        for region in reason.get("regions", []):
            print(f"  region: {', '.join(map(str, region['box']))} (attention {region['attention']:.3f})")
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

