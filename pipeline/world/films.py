"""Films of the micro-world: a scene in which one or two things move, as frames, a record and captions that say the motion.

A film is sampled from (style, pool, seed, index) alone, as scenes are; its random stream meets that of no scene and no question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from .captions import KINDS, PLACES, describe_naming, phrase, pick
from .scenes import IMAGE_SIZE, POOLS, STYLES, Scene, Thing, canvas, sample_scene, to_record

RATE = 8  # frames a second
FILM_SIZE = 2 * IMAGE_SIZE  # a scene before it is reduced, since video halves the resolution of colours
_SHORTEST, _LONGEST = 8, 24  # frames of a film
_LIGHT = ("ball", "apple", "cup", "umbrella", "flower")  # they fall, or are thrown up, though they live on the ground
_GOING = {
    "animal": ("walks", "runs", "moves"), "person": ("walks", "goes", "moves"), "vehicle": ("drives", "moves", "goes"),
    "sky": ("flies", "moves"), "thing": ("slides", "moves"), "ball": ("rolls", "moves"),
}
_WORDS = {
    "up": ("rises", "goes up", "moves up"), "down": ("falls", "comes down", "moves down"),
    "closer": ("comes closer", "comes nearer", "approaches"), "away": ("goes away", "moves away"),
    "appears": ("appears", "shows up"), "disappears": ("disappears", "vanishes"),
    "behind": ("passes behind", "goes behind", "moves behind"),
}
_NAMES = {"left": "moves to the left", "right": "moves to the right"} | {kind: words[0] for kind, words in _WORDS.items()}
_OPENERS = ("", "", "", "", "in this clip ", "we see how ")


@dataclass(frozen=True)
class Motion:
    """One thing's way. kinds: what it is called, such as ("behind", "left"). begin, end: the thing at both ends of the film; between them
    all moves evenly. shown: from when to when it is there, as fractions of the film. past: behind which of the scene's things it goes."""

    kinds: tuple[str, ...]
    begin: Thing
    end: Thing
    shown: tuple[float, float] = (0.0, 1.0)
    past: int | None = None


@dataclass(frozen=True)
class Film:
    """A scene, the ways of those of its things that move, by their numbers, and how many frames it has."""

    scene: Scene
    motions: dict[int, Motion]
    frames: int

    def at(self, moment: float) -> Scene:
        """What there is to see, from 0 (the first frame) to 1 (the last)."""
        things = []
        for number, thing in enumerate(self.scene.things):
            motion = self.motions.get(number)
            if motion is None:
                things.append(thing)
            elif motion.shown[0] <= moment <= motion.shown[1]:
                x, y, height = (float(np.interp(moment, (0, 1), (getattr(motion.begin, name), getattr(motion.end, name))))
                                for name in ("x", "y", "height"))
                things.append(replace(motion.begin, x=x, y=y, height=height))
        return replace(self.scene, things=tuple(sorted(things, key=lambda thing: (not thing.sky, thing.y))))


def film_stream(style: str, pool: str, seed: int, index: int) -> np.random.Generator:
    """The random stream of one film."""
    return np.random.default_rng([STYLES.index(style), POOLS.index(pool), seed, index, 2])


def sample_film(style: str, rng: np.random.Generator) -> Film:
    """A scene with something in it, of which one thing moves, or two."""
    scene = sample_scene(style, rng)
    while not scene.things:
        scene = sample_scene(style, rng)
    weights = np.array([thing.area for thing in scene.things]) ** 0.7
    count = 1 + int(len(scene.things) > 1 and rng.random() < 0.25)
    movers = rng.choice(len(scene.things), size=count, replace=False, p=weights / weights.sum()).tolist()
    motions = {number: _motion(scene, number, movers, rng) for number in movers}
    return Film(scene, motions, int(rng.integers(_SHORTEST, _LONGEST + 1)))


def frames(film: Film) -> list[Image.Image]:
    """RGB, 128 x 128."""
    return [canvas(film.at(number / (film.frames - 1))) for number in range(film.frames)]


def describe_film(film: Film, rng: np.random.Generator, count: int = 5) -> list[str]:
    """`count` captions, most of which say what moves and how."""
    return [text for text, _ in describe_film_naming(film, rng, count)]


def describe_film_naming(film: Film, rng: np.random.Generator, count: int = 5) -> list[tuple[str, tuple[str, ...]]]:
    """The captions of `describe_film`, each with the classes of the things that it names."""
    return [_caption(film, rng) for _ in range(count)]


def motion_words() -> list[list[str]]:
    """What may be said of each motion, first the phrase that it is recorded by."""
    verbs = dict.fromkeys(("moves", *(verb for its in _GOING.values() for verb in its)))
    return [*([f"{verb} to the {side}" for verb in verbs] for side in ("left", "right")), *map(list, _WORDS.values())]


def film_record(film: Film) -> dict[str, Any]:
    """What a film holds, as JSON: its scene, of each thing the motions that it makes, and where it is at the beginning and at the end."""
    record = to_record(film.scene)
    for number, (about, thing) in enumerate(zip(record["things"], film.scene.things, strict=True)):
        motion = film.motions.get(number)
        begin, end = (motion.begin, motion.end) if motion else (thing, thing)
        about |= {"motions": [_NAMES[kind] for kind in motion.kinds] if motion else [], "box": _rounded(begin), "last_box": _rounded(end)}
        if motion and motion.shown != (0.0, 1.0):
            about["shown"] = list(motion.shown)
    return {**record, "frames": film.frames}


def _rounded(thing: Thing) -> list[float]:
    return [round(edge, 4) for edge in thing.box]


def _motion(scene: Scene, number: int, movers: Sequence[int], rng: np.random.Generator) -> Motion:
    """One of the motions that a thing of a scene can make."""
    thing = scene.things[number]
    hiding = [other for other, it in enumerate(scene.things) if other not in movers and not it.sky and it.height > 0.8 * thing.height]
    possible = ["left", "right", "appears", "disappears"]
    if thing.sky or thing.name in _LIGHT:
        possible += ["up", "down"]
    if KINDS.get(thing.name) in ("animal", "person", "vehicle"):
        possible += ["closer", "away"]
    if hiding and not thing.sky:
        possible += ["behind", "behind"]
    kind = pick(possible, rng)
    far, near = float(rng.uniform(0.05, 0.3)), float(rng.uniform(0.7, 0.95))
    if kind in ("left", "right"):
        return _turned(Motion((kind,), *_placed(thing, kind, x=(near, far))))
    if kind in ("up", "down"):
        low = replace(thing, height=min(thing.height, 0.4))
        return Motion((kind,), *_placed(low, kind, y=(near, max(low.height + 0.02, far + 0.15))))
    if kind in ("closer", "away"):
        large = min(1.5 * thing.height, 0.85, 0.9 / (thing.width / thing.height))
        return Motion((kind,), *_placed(thing, kind, y=(scene.horizon + 0.08, 0.96), height=(0.4 * large, large)))
    if kind == "behind":
        past = int(rng.choice(hiding))
        other, side = scene.things[past], pick(("left", "right"), rng)
        ends = min(other.x + 0.45, 0.95), max(other.x - 0.45, 0.05)
        placed = replace(thing, y=max(other.y - 0.03, scene.horizon + 0.03))
        return _turned(Motion((kind, side), *_placed(placed, side, x=ends), past=past))
    moment = round(float(rng.uniform(0.35, 0.65)), 4)
    return Motion((kind,), thing, thing, (moment, 1.0) if kind == "appears" else (0.0, moment))


def _placed(thing: Thing, kind: str, **ways: tuple[float, float]) -> tuple[Thing, Thing]:
    """A thing at both ends of what it does between these values, which are those of `left`, `up` and `closer`."""
    x, y, height = (ways.get(name, (getattr(thing, name),) * 2) for name in ("x", "y", "height"))
    begin, end = (replace(thing, x=x[i], y=y[i], height=height[i]) for i in (0, 1))
    return (end, begin) if kind in ("right", "down", "away") else (begin, end)


def _turned(motion: Motion) -> Motion:
    """Things look where they go; as drawn they look to the left."""
    flipped = motion.end.x > motion.begin.x
    return replace(motion, begin=replace(motion.begin, flipped=flipped), end=replace(motion.end, flipped=flipped))


def _caption(film: Film, rng: np.random.Generator) -> tuple[str, tuple[str, ...]]:
    scene = film.scene
    if rng.random() < 0.15:
        return describe_naming(scene, rng, 1)[0]
    first, *others = rng.permutation(list(film.motions)).tolist()
    named = [first]
    body = _moving(film, first, rng)
    if (past := film.motions[first].past) is not None and " behind " in body:
        named.append(past)
    elif others and rng.random() < 0.5:
        named += others
        body += f" and {_moving(film, others[0], rng)}"
    elif len(scene.things) > 1 and rng.random() < 0.35:
        named.append(pick([number for number in range(len(scene.things)) if number != first], rng))
        body += f" {pick(('near', 'with'), rng)} {phrase(scene.things[named[-1]], scene.style, rng)}"
    if rng.random() < 0.6:
        ground, sky = PLACES[scene.style][scene.background]
        body += f" {pick(sky if all(scene.things[number].sky for number in named) else ground, rng)}"
    return pick(_OPENERS, rng) + body, tuple(dict.fromkeys(scene.things[number].name for number in named))


def _moving(film: Film, number: int, rng: np.random.Generator) -> str:
    """A thing and one of its motions, and what it passes."""
    motion, thing = film.motions[number], film.scene.things[number]
    kind = motion.kinds[0] if rng.random() < 0.8 else motion.kinds[-1]
    if kind in ("left", "right"):
        going = _GOING.get(thing.name) or _GOING[KINDS.get(thing.name, "sky" if thing.sky else "thing")]
        says = f"{pick(going, rng)} to the {kind}"
    else:
        says = pick(_WORDS[kind], rng)
    if kind == "behind" and motion.past is not None:
        says += f" {phrase(film.scene.things[motion.past], film.scene.style, rng)}"
    return f"{phrase(thing, film.scene.style, rng)} {says}"
