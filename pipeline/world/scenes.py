"""Scenes of the micro-world: what stands where, and the drawing of it.

A scene is sampled from (style, pool, seed, index) alone, so any scene can be drawn again on its own, in any order, on any machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from .sprites import CLASSES, COLOURS, FIXED, RGB, SPRITES, draw_sprite, shade

IMAGE_SIZE = 64
_CANVAS = 128  # drawn at twice the size, then box-reduced
POOLS = ("foundation", "corpus", "unlabelled", "val", "test")
STYLES = ("scenes", "album", "snapshots")
_PRINTS = ("album", "snapshots")  # faded, inked and framed
SIZES = (("small", 0.26), ("medium", 0.36), ("large", 0.48))


@dataclass(frozen=True)
class Background:
    """Upper and lower colour, whether it is indoors, and the things that belong there (80 % of what is drawn)."""

    above: RGB
    below: RGB
    indoor: bool
    prior: tuple[str, ...]


BACKGROUNDS: dict[str, Background] = {
    "beach": Background((150, 210, 245), (235, 215, 160), False,
                        ("man", "woman", "dog", "umbrella", "ball", "boat", "kite", "sun", "cloud", "chair", "bird")),
    "street": Background((190, 205, 220), (120, 120, 125), False,
                         ("car", "bus", "bike", "man", "woman", "house", "tree", "dog", "cat", "cloud")),
    "snow": Background((200, 215, 230), (245, 248, 252), False,
                       ("house", "tree", "man", "woman", "dog", "train", "moon", "sun", "bird")),
    "room": Background((225, 205, 180), (150, 105, 75), True,
                       ("table", "chair", "cup", "cake", "apple", "cat", "dog", "flower", "ball", "man", "woman")),
    "night": Background((25, 30, 70), (40, 60, 55), False,
                        ("moon", "house", "tree", "car", "cat", "train", "cloud", "plane")),
    "field": Background((165, 215, 250), (125, 190, 90), False,
                        ("horse", "tree", "flower", "kite", "sun", "cloud", "bird", "house", "dog", "man", "woman")),
    "sea": Background((170, 220, 245), (40, 110, 180), False,
                      ("boat", "fish", "bird", "sun", "cloud", "plane")),
    "forest": Background((110, 160, 120), (75, 100, 55), False,
                         ("tree", "bird", "horse", "flower", "man", "woman", "house", "bike", "apple")),
    "desert": Background((250, 220, 170), (225, 165, 95), False,
                         ("horse", "sun", "car", "man", "woman", "plane", "bird", "bike")),
    "station": Background((205, 200, 210), (95, 90, 105), False,
                          ("train", "man", "woman", "bus", "chair", "bike", "bird", "cup")),
}
_NAMES = tuple(BACKGROUNDS)
# How often each style visits each background: the other two know other places than the scenes do.
_FREQUENCY = {
    "scenes": np.array([1, 1, 1, 1, 1, 1, 1, 1, 0.3, 0.3]),
    "album": np.array([1, 0.6, 0.6, 1, 0.3, 0.6, 0.6, 0.3, 1, 1]),
    "snapshots": np.array([1.2, 1.6, 1, 0.6, 0.3, 1.4, 0.3, 0.8, 0.4, 0.6]),
}
_PEOPLE = {"snapshots": 0.3}  # of the things, beside those that a background has anyway


@dataclass(frozen=True)
class Thing:
    """One drawn object; x, y is the middle of its foot, height in fractions of the picture."""

    name: str
    colour: str
    size: str
    x: float
    y: float
    height: float
    flipped: bool

    @property
    def sky(self) -> bool:
        return SPRITES[self.name].sky

    @property
    def width(self) -> float:
        return self.height * SPRITES[self.name].aspect

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) in fractions of the picture, clipped to it."""
        left, right, top = self.x - self.width / 2, self.x + self.width / 2, self.y - self.height
        return max(left, 0.0), max(top, 0.0), min(right, 1.0), min(self.y, 1.0)

    @property
    def area(self) -> float:
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


@dataclass(frozen=True)
class Scene:
    """A picture before it is drawn: things ordered from far to near."""

    style: str
    background: str
    horizon: float
    texture_seed: int
    things: tuple[Thing, ...]


def generator(style: str, pool: str, seed: int, index: int) -> np.random.Generator:
    """The random stream of one scene; streams of different pools, styles and indices never meet."""
    return np.random.default_rng([STYLES.index(style), POOLS.index(pool), seed, index])


def sample_scene(style: str, rng: np.random.Generator) -> Scene:
    """Draw the plan of one scene: a background and one to three things with little overlap."""
    frequency = _FREQUENCY[style]
    background = _NAMES[rng.choice(len(_NAMES), p=frequency / frequency.sum())]
    place = BACKGROUNDS[background]
    horizon = float(rng.uniform(0.42, 0.6))
    wanted = int(rng.choice([1, 2, 3], p=[0.2, 0.45, 0.35]))
    things: list[Thing] = []
    for _ in range(30):
        if len(things) == wanted:
            break
        thing = _sample_thing(style, place, horizon, rng)
        if thing is not None and all(_overlap(thing, other) < 0.15 for other in things):
            things.append(thing)
    things.sort(key=lambda t: (not t.sky, t.y))
    return Scene(style, background, horizon, int(rng.integers(2**31)), tuple(things))


def _sample_thing(style: str, place: Background, horizon: float, rng: np.random.Generator) -> Thing | None:
    name = str(rng.choice(place.prior)) if rng.random() < 0.8 else CLASSES[rng.integers(len(CLASSES))]
    if style in _PEOPLE and rng.random() < _PEOPLE[style]:
        name = str(rng.choice(("man", "woman")))
    sprite = SPRITES[name]
    if sprite.sky and place.indoor:
        return None
    size, base = SIZES[rng.integers(len(SIZES))]
    height = base * sprite.scale * float(rng.uniform(0.92, 1.08))
    height = min(height, 0.85 / sprite.aspect, 0.78)
    half = height * sprite.aspect / 2
    x = float(rng.uniform(half * 0.9, 1 - half * 0.9))
    low, high = (height + 0.02, max(horizon, height + 0.04)) if sprite.sky else (horizon + 0.1, 0.97)
    y = float(rng.uniform(low, high))
    return Thing(name, str(rng.choice(sprite.colours)), size, x, max(y, height), height, bool(rng.random() < 0.5))


def _overlap(a: Thing, b: Thing) -> float:
    """Intersection over the smaller box."""
    al, at, ar, ab = a.box
    bl, bt, br, bb = b.box
    intersection = max(0.0, min(ar, br) - max(al, bl)) * max(0.0, min(ab, bb) - max(at, bt))
    return intersection / min(a.area, b.area)


def render(scene: Scene) -> Image.Image:
    """Draw a scene: RGB, 64 x 64."""
    return canvas(scene).reduce(_CANVAS // IMAGE_SIZE)


def canvas(scene: Scene) -> Image.Image:
    """Draw a scene before it is reduced: RGB, 128 x 128. Album and snapshots are faded, inked and framed like old prints."""
    rng = np.random.default_rng(scene.texture_seed)
    printed = scene.style in _PRINTS
    place = BACKGROUNDS[scene.background]
    tone = float(rng.uniform(0.9, 1.05))
    image = Image.new("RGB", (_CANVAS, _CANVAS), _tint(shade(place.above, min(tone, 1.0)), printed))
    draw = ImageDraw.Draw(image)
    line = int(scene.horizon * _CANVAS)
    draw.rectangle((0, line, _CANVAS, _CANVAS), fill=_tint(shade(place.below, tone), printed))
    _texture(draw, scene.background, line, rng, printed)
    for thing in scene.things:
        colour = COLOURS[thing.colour]
        palette = {"main": colour, "dark": shade(colour, 0.72), "light": shade(colour, 1.5), **FIXED}
        palette = {key: _tint(value, printed) for key, value in palette.items()}
        left, right = (thing.x - thing.width / 2) * _CANVAS, (thing.x + thing.width / 2) * _CANVAS
        box = (left, (thing.y - thing.height) * _CANVAS, right, thing.y * _CANVAS)
        draw_sprite(draw, thing.name, box, palette, thing.flipped, (60, 45, 40) if printed else None)
    if printed:
        draw.rectangle((0, 0, _CANVAS - 1, _CANVAS - 1), outline=(252, 248, 238), width=6)
    return image


def _tint(colour: RGB, printed: bool) -> RGB:
    """Fade towards warm paper: what tells a print from a fresh scene."""
    if not printed:
        return colour
    return tuple(int(0.72 * c + 0.28 * paper) for c, paper in zip(colour, (225, 195, 150), strict=True))  # type: ignore[return-value]


def _texture(draw: ImageDraw.ImageDraw, background: str, line: int, rng: np.random.Generator, printed: bool) -> None:
    """A few strokes that tell one ground from another."""
    ground = BACKGROUNDS[background].below
    dark, light = _tint(shade(ground, 0.85), printed), _tint(shade(ground, 1.35), printed)
    xs, ys = rng.integers(0, _CANVAS, 14), rng.integers(line + 3, _CANVAS, 14)
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        if background == "sea":
            draw.arc((x, y, x + 14, y + 6), 180, 360, fill=light, width=2)
        elif background in ("beach", "snow", "desert"):
            draw.ellipse((x, y, x + 3, y + 2), fill=dark)
        else:
            draw.line((x, y, x, y - 4), fill=dark, width=2)
    if background == "street":
        middle = (line + _CANVAS) // 2
        for x in range(int(xs[0]) % 24 - 24, _CANVAS, 24):
            draw.rectangle((x, middle, x + 12, middle + 3), fill=_tint((235, 235, 220), printed))
    elif background == "station":
        for y in (line + 6, line + 12):
            draw.line((0, y, _CANVAS, y), fill=_tint((200, 190, 170), printed), width=2)
    elif background == "night":
        for x, y in zip(xs.tolist(), rng.integers(2, line - 2, 14).tolist(), strict=True):
            draw.point((x, y), fill=(250, 250, 210))
            draw.point((x + 1, y), fill=(250, 250, 210))
    elif background == "forest":
        for x in xs.tolist()[:9]:
            draw.rectangle((x, line - 34, x + 5, line), fill=_tint((70, 60, 45), printed))
    elif background == "room":
        x = int(xs[0]) % 80 + 10
        draw.rectangle((x, 10, x + 26, 34), fill=_tint((190, 225, 245), printed), outline=_tint((120, 80, 45), printed), width=3)
    elif background == "desert":
        x = int(xs[0]) % 80
        draw.polygon((x, line, x + 30, line - 18, x + 60, line), fill=_tint((215, 150, 90), printed))


def to_record(scene: Scene) -> dict[str, Any]:
    """What a scene holds, as JSON: the truth that detectors are measured against. Boxes are (left, top, right, bottom), 0 to 1."""
    things = [{"name": t.name, "colour": t.colour, "size": t.size, "box": [round(v, 4) for v in t.box]} for t in scene.things]
    return {"background": scene.background, "things": things}
