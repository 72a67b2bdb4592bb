"""What the micro-world's things look like: each class is a list of shapes in a unit square.

A shape is (kind, colour key, coordinates). Coordinates run from 0 to 1, x to the right and y down; the ground touches y = 1.
Colour keys: `main` (the object's colour), `dark` and `light` (shades of it), or a fixed name of `FIXED`.
"""

from __future__ import annotations

from typing import NamedTuple

from PIL import ImageDraw

RGB = tuple[int, int, int]
Shape = tuple[str, str, tuple[float, ...]]

COLOURS: dict[str, RGB] = {
    "red": (214, 40, 40),
    "orange": (240, 130, 30),
    "yellow": (245, 210, 50),
    "green": (60, 160, 70),
    "blue": (45, 95, 205),
    "purple": (130, 60, 170),
    "pink": (240, 140, 180),
    "brown": (125, 80, 45),
    "black": (35, 35, 40),
    "white": (240, 240, 240),
    "grey": (135, 135, 145),
}
FIXED: dict[str, RGB] = {
    "skin": (235, 190, 155),
    "wood": (120, 80, 45),
    "leaf": (50, 130, 60),
    "glass": (175, 215, 235),
    "tyre": (30, 30, 35),
    "cream": (250, 240, 215),
    "eye": (20, 20, 20),
    "window": (250, 225, 130),
    "metal": (160, 160, 170),
}


class Sprite(NamedTuple):
    """One class of thing: its colours, width over height, height relative to other classes, where it lives, and its shapes."""

    colours: tuple[str, ...]
    aspect: float
    scale: float
    sky: bool
    shapes: tuple[Shape, ...]


_PETS = ("black", "white", "brown", "orange", "grey")
_PAINT = ("red", "blue", "yellow", "green", "white", "black", "purple")
_CLOTHES = ("red", "blue", "green", "yellow", "purple", "pink", "black", "white", "orange")

SPRITES: dict[str, Sprite] = {
    "cat": Sprite(_PETS, 1.0, 0.8, False, (
        ("polygon", "dark", (0.80, 0.60, 0.92, 0.15, 1.0, 0.20, 0.92, 0.66)),
        ("ellipse", "main", (0.25, 0.42, 0.95, 0.98)),
        ("polygon", "main", (0.05, 0.42, 0.09, 0.02, 0.28, 0.22)),
        ("polygon", "main", (0.30, 0.22, 0.49, 0.02, 0.53, 0.42)),
        ("ellipse", "main", (0.02, 0.15, 0.56, 0.66)),
        ("ellipse", "window", (0.12, 0.30, 0.24, 0.44)),
        ("ellipse", "window", (0.34, 0.30, 0.46, 0.44)),
    )),
    "dog": Sprite(_PETS, 1.25, 0.85, False, (
        ("rect", "dark", (0.28, 0.62, 0.38, 1.0)),
        ("rect", "dark", (0.74, 0.62, 0.84, 1.0)),
        ("rect", "main", (0.26, 0.36, 0.86, 0.72)),
        ("polygon", "main", (0.84, 0.40, 1.0, 0.08, 0.92, 0.50)),
        ("ellipse", "main", (0.04, 0.08, 0.44, 0.52)),
        ("rect", "main", (0.0, 0.30, 0.2, 0.48)),
        ("ellipse", "dark", (0.30, 0.10, 0.46, 0.56)),
        ("ellipse", "eye", (0.14, 0.20, 0.22, 0.30)),
    )),
    "horse": Sprite(("brown", "black", "white", "grey"), 1.3, 1.25, False, (
        ("rect", "dark", (0.30, 0.60, 0.37, 1.0)),
        ("rect", "dark", (0.42, 0.60, 0.49, 1.0)),
        ("rect", "dark", (0.70, 0.60, 0.77, 1.0)),
        ("rect", "dark", (0.82, 0.60, 0.89, 1.0)),
        ("ellipse", "main", (0.25, 0.35, 0.95, 0.75)),
        ("polygon", "main", (0.22, 0.10, 0.36, 0.12, 0.50, 0.50, 0.30, 0.56)),
        ("polygon", "main", (0.02, 0.26, 0.22, 0.04, 0.36, 0.14, 0.10, 0.36)),
        ("polygon", "eye", (0.30, 0.04, 0.40, 0.12, 0.50, 0.40, 0.42, 0.38)),
        ("polygon", "eye", (0.92, 0.42, 1.0, 0.52, 0.97, 0.82)),
    )),
    "man": Sprite(_CLOTHES, 0.45, 1.2, False, (
        ("rect", "eye", (0.28, 0.62, 0.47, 1.0)),
        ("rect", "eye", (0.53, 0.62, 0.72, 1.0)),
        ("rect", "main", (0.20, 0.26, 0.80, 0.66)),
        ("rect", "main", (0.02, 0.28, 0.20, 0.58)),
        ("rect", "main", (0.80, 0.28, 0.98, 0.58)),
        ("ellipse", "skin", (0.26, 0.03, 0.74, 0.27)),
        ("pie", "wood", (0.26, 0.0, 0.74, 0.24, 180, 360)),
    )),
    "woman": Sprite(_CLOTHES, 0.5, 1.15, False, (
        ("rect", "skin", (0.34, 0.80, 0.46, 1.0)),
        ("rect", "skin", (0.54, 0.80, 0.66, 1.0)),
        ("ellipse", "window", (0.18, 0.0, 0.82, 0.42)),
        ("polygon", "main", (0.34, 0.28, 0.66, 0.28, 1.0, 0.86, 0.0, 0.86)),
        ("ellipse", "skin", (0.29, 0.05, 0.71, 0.28)),
    )),
    "car": Sprite(_PAINT, 1.9, 0.75, False, (
        ("polygon", "main", (0.20, 0.48, 0.34, 0.06, 0.70, 0.06, 0.84, 0.48)),
        ("polygon", "glass", (0.28, 0.46, 0.37, 0.14, 0.50, 0.14, 0.50, 0.46)),
        ("polygon", "glass", (0.54, 0.46, 0.54, 0.14, 0.67, 0.14, 0.76, 0.46)),
        ("rect", "main", (0.0, 0.44, 1.0, 0.82)),
        ("ellipse", "tyre", (0.12, 0.60, 0.34, 1.0)),
        ("ellipse", "tyre", (0.66, 0.60, 0.88, 1.0)),
    )),
    "bus": Sprite(_PAINT, 1.7, 1.15, False, (
        ("rect", "main", (0.0, 0.02, 1.0, 0.88)),
        ("rect", "glass", (0.06, 0.14, 0.26, 0.46)),
        ("rect", "glass", (0.30, 0.14, 0.50, 0.46)),
        ("rect", "glass", (0.54, 0.14, 0.74, 0.46)),
        ("rect", "glass", (0.80, 0.14, 0.94, 0.80)),
        ("ellipse", "tyre", (0.12, 0.72, 0.30, 1.0)),
        ("ellipse", "tyre", (0.58, 0.72, 0.76, 1.0)),
    )),
    "train": Sprite(("red", "green", "blue", "black"), 2.2, 0.95, False, (
        ("rect", "main", (0.02, 0.40, 0.44, 0.84)),
        ("rect", "dark", (0.10, 0.06, 0.20, 0.42)),
        ("rect", "main", (0.30, 0.12, 0.48, 0.84)),
        ("rect", "glass", (0.34, 0.20, 0.44, 0.42)),
        ("rect", "dark", (0.54, 0.22, 1.0, 0.84)),
        ("rect", "window", (0.60, 0.32, 0.72, 0.56)),
        ("rect", "window", (0.80, 0.32, 0.92, 0.56)),
        ("ellipse", "tyre", (0.06, 0.70, 0.20, 1.0)),
        ("ellipse", "tyre", (0.28, 0.70, 0.42, 1.0)),
        ("ellipse", "tyre", (0.58, 0.70, 0.72, 1.0)),
        ("ellipse", "tyre", (0.82, 0.70, 0.96, 1.0)),
    )),
    "bike": Sprite(("red", "blue", "green", "black", "yellow"), 1.5, 0.85, False, (
        ("ring", "tyre", (0.0, 0.36, 0.42, 1.0)),
        ("ring", "tyre", (0.58, 0.36, 1.0, 1.0)),
        ("line", "main", (0.21, 0.68, 0.36, 0.24, 0.68, 0.24, 0.79, 0.68)),
        ("line", "main", (0.21, 0.68, 0.50, 0.70, 0.68, 0.24)),
        ("line", "main", (0.36, 0.24, 0.50, 0.70)),
        ("line", "tyre", (0.28, 0.14, 0.42, 0.14)),
        ("line", "tyre", (0.68, 0.24, 0.66, 0.06, 0.78, 0.06)),
    )),
    "boat": Sprite(("red", "blue", "white", "brown", "green"), 1.3, 1.1, False, (
        ("line", "wood", (0.50, 0.02, 0.50, 0.70)),
        ("polygon", "cream", (0.54, 0.04, 0.54, 0.60, 0.94, 0.60)),
        ("polygon", "cream", (0.46, 0.14, 0.46, 0.60, 0.14, 0.60)),
        ("polygon", "main", (0.0, 0.66, 1.0, 0.66, 0.84, 1.0, 0.16, 1.0)),
    )),
    "house": Sprite(("red", "white", "yellow", "blue", "brown", "pink"), 1.0, 1.5, False, (
        ("rect", "main", (0.10, 0.42, 0.90, 1.0)),
        ("polygon", "wood", (0.0, 0.44, 0.50, 0.02, 1.0, 0.44)),
        ("rect", "dark", (0.42, 0.64, 0.60, 1.0)),
        ("rect", "window", (0.18, 0.54, 0.34, 0.72)),
        ("rect", "window", (0.68, 0.54, 0.84, 0.72)),
    )),
    "tree": Sprite(("green", "orange", "yellow", "brown"), 0.7, 1.5, False, (
        ("rect", "wood", (0.42, 0.55, 0.58, 1.0)),
        ("ellipse", "main", (0.0, 0.22, 0.62, 0.68)),
        ("ellipse", "main", (0.38, 0.22, 1.0, 0.68)),
        ("ellipse", "main", (0.16, 0.0, 0.84, 0.50)),
        ("ellipse", "dark", (0.30, 0.34, 0.50, 0.50)),
    )),
    "flower": Sprite(("red", "yellow", "pink", "purple", "white", "blue"), 0.6, 0.7, False, (
        ("rect", "leaf", (0.45, 0.45, 0.55, 1.0)),
        ("ellipse", "leaf", (0.05, 0.68, 0.48, 0.86)),
        ("ellipse", "main", (0.0, 0.16, 0.44, 0.44)),
        ("ellipse", "main", (0.56, 0.16, 1.0, 0.44)),
        ("ellipse", "main", (0.28, 0.0, 0.72, 0.28)),
        ("ellipse", "main", (0.28, 0.32, 0.72, 0.60)),
        ("ellipse", "window", (0.34, 0.20, 0.66, 0.40)),
    )),
    "ball": Sprite(("red", "blue", "yellow", "green", "orange", "purple", "pink", "white"), 1.0, 0.55, False, (
        ("ellipse", "main", (0.0, 0.0, 1.0, 1.0)),
        ("pie", "light", (0.0, 0.0, 1.0, 1.0, 150, 210)),
        ("pie", "light", (0.0, 0.0, 1.0, 1.0, 330, 390)),
    )),
    "chair": Sprite(("brown", "red", "blue", "white", "green"), 0.7, 0.9, False, (
        ("rect", "main", (0.04, 0.0, 0.20, 1.0)),
        ("rect", "light", (0.20, 0.06, 0.34, 0.50)),
        ("rect", "main", (0.04, 0.50, 0.96, 0.64)),
        ("rect", "dark", (0.80, 0.62, 0.94, 1.0)),
    )),
    "table": Sprite(("brown", "white", "grey", "black"), 1.7, 0.75, False, (
        ("rect", "dark", (0.10, 0.20, 0.20, 1.0)),
        ("rect", "dark", (0.80, 0.20, 0.90, 1.0)),
        ("rect", "main", (0.0, 0.06, 1.0, 0.30)),
    )),
    "cup": Sprite(("red", "blue", "white", "yellow", "green", "pink"), 1.05, 0.55, False, (
        ("ring", "main", (0.54, 0.20, 1.0, 0.76)),
        ("polygon", "main", (0.02, 0.06, 0.76, 0.06, 0.66, 1.0, 0.12, 1.0)),
        ("ellipse", "wood", (0.04, 0.0, 0.74, 0.20)),
    )),
    "apple": Sprite(("red", "green", "yellow"), 0.95, 0.5, False, (
        ("ellipse", "main", (0.0, 0.20, 0.62, 1.0)),
        ("ellipse", "main", (0.38, 0.20, 1.0, 1.0)),
        ("rect", "wood", (0.46, 0.04, 0.54, 0.34)),
        ("ellipse", "leaf", (0.54, 0.0, 0.92, 0.20)),
    )),
    "cake": Sprite(("pink", "white", "brown", "yellow"), 1.1, 0.8, False, (
        ("rect", "window", (0.46, 0.0, 0.54, 0.26)),
        ("rect", "main", (0.20, 0.24, 0.80, 0.56)),
        ("rect", "light", (0.20, 0.24, 0.80, 0.34)),
        ("rect", "main", (0.04, 0.54, 0.96, 0.92)),
        ("rect", "light", (0.04, 0.54, 0.96, 0.64)),
        ("rect", "metal", (0.0, 0.92, 1.0, 1.0)),
    )),
    "umbrella": Sprite(("red", "blue", "yellow", "green", "purple", "pink", "black"), 1.0, 1.1, False, (
        ("rect", "tyre", (0.47, 0.40, 0.53, 1.0)),
        ("pie", "main", (0.0, 0.02, 1.0, 0.98, 180, 360)),
        ("pie", "light", (0.32, 0.02, 0.68, 0.98, 180, 360)),
    )),
    "fish": Sprite(("orange", "blue", "yellow", "red", "grey"), 1.6, 0.6, False, (
        ("polygon", "dark", (0.68, 0.50, 1.0, 0.08, 1.0, 0.92)),
        ("ellipse", "main", (0.0, 0.10, 0.80, 0.90)),
        ("polygon", "dark", (0.34, 0.14, 0.60, 0.0, 0.56, 0.20)),
        ("ellipse", "cream", (0.10, 0.28, 0.24, 0.52)),
        ("ellipse", "eye", (0.14, 0.34, 0.21, 0.48)),
    )),
    "bird": Sprite(("red", "blue", "black", "white", "yellow", "brown"), 1.3, 0.65, True, (
        ("polygon", "dark", (0.68, 0.56, 1.0, 0.40, 0.96, 0.78)),
        ("ellipse", "main", (0.18, 0.34, 0.80, 0.92)),
        ("ellipse", "main", (0.06, 0.16, 0.42, 0.60)),
        ("polygon", "dark", (0.36, 0.52, 0.84, 0.0, 0.68, 0.62)),
        ("polygon", "window", (0.10, 0.32, 0.10, 0.50, 0.0, 0.46)),
        ("ellipse", "eye", (0.16, 0.26, 0.23, 0.37)),
    )),
    "kite": Sprite(("red", "yellow", "green", "blue", "pink", "purple", "orange"), 0.75, 1.0, True, (
        ("line", "tyre", (0.50, 0.66, 0.66, 0.78, 0.42, 0.88, 0.58, 1.0)),
        ("polygon", "main", (0.50, 0.0, 1.0, 0.30, 0.50, 0.74, 0.0, 0.30)),
        ("polygon", "light", (0.50, 0.0, 1.0, 0.30, 0.50, 0.30)),
        ("polygon", "light", (0.50, 0.30, 0.50, 0.74, 0.0, 0.30)),
    )),
    "plane": Sprite(("white", "grey", "red", "blue"), 2.0, 0.75, True, (
        ("polygon", "dark", (0.76, 0.42, 0.90, 0.0, 1.0, 0.0, 0.95, 0.46)),
        ("ellipse", "main", (0.0, 0.34, 1.0, 0.72)),
        ("polygon", "dark", (0.36, 0.54, 0.60, 0.54, 0.80, 1.0, 0.66, 1.0)),
        ("rect", "glass", (0.10, 0.42, 0.22, 0.54)),
    )),
    "cloud": Sprite(("white", "grey"), 1.8, 0.8, True, (
        ("ellipse", "main", (0.0, 0.36, 0.46, 0.96)),
        ("ellipse", "main", (0.18, 0.02, 0.66, 0.86)),
        ("ellipse", "main", (0.50, 0.24, 1.0, 0.96)),
    )),
    "sun": Sprite(("yellow", "orange", "red"), 1.0, 0.85, True, (
        ("polygon", "main", (0.5, 0.0, 0.62, 0.22, 0.85, 0.15, 0.78, 0.38, 1.0, 0.5, 0.78, 0.62, 0.85, 0.85,
                             0.62, 0.78, 0.5, 1.0, 0.38, 0.78, 0.15, 0.85, 0.22, 0.62, 0.0, 0.5, 0.22, 0.38,
                             0.15, 0.15, 0.38, 0.22)),
        ("ellipse", "light", (0.26, 0.26, 0.74, 0.74)),
    )),
    "moon": Sprite(("yellow", "white"), 0.75, 0.8, True, (
        ("polygon", "main", (0.95, 0.02, 0.55, 0.05, 0.20, 0.25, 0.04, 0.5, 0.20, 0.75, 0.55, 0.95, 0.95, 0.98,
                             0.66, 0.80, 0.52, 0.5, 0.66, 0.20)),
    )),
}
CLASSES: tuple[str, ...] = tuple(SPRITES)


def shade(colour: RGB, factor: float) -> RGB:
    """Mix with black (factor < 1) or white (factor > 1); channels stay in 0-255."""
    if factor <= 1:
        return tuple(int(c * factor) for c in colour)  # type: ignore[return-value]
    return tuple(int(c + (255 - c) * (factor - 1)) for c in colour)  # type: ignore[return-value]


def draw_sprite(draw: ImageDraw.ImageDraw, name: str, box: tuple[float, float, float, float], palette: dict[str, RGB],
                flipped: bool, ink: RGB | None) -> None:
    """Draw one thing into `box` = (left, top, right, bottom) in pixels.

    palette: colours of `main`, `dark`, `light` and of every name in `FIXED`. ink: outline colour, or None for none.
    """
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    stroke = max(2, round(height * 0.07))
    for kind, key, values in SPRITES[name].shapes:
        fill = palette[key]
        coords = values[:4] if kind == "pie" else values
        points = [
            (left + (1 - x if flipped else x) * width, top + y * height)
            for x, y in zip(coords[0::2], coords[1::2], strict=True)
        ]
        if kind == "polygon":
            draw.polygon(points, fill=fill, outline=ink)
        elif kind == "line":
            draw.line(points, fill=fill, width=stroke)
        else:
            (x0, y0), (x1, y1) = points
            rect = (min(x0, x1), y0, max(x0, x1), y1)
            if kind == "rect":
                draw.rectangle(rect, fill=fill, outline=ink)
            elif kind == "ellipse":
                draw.ellipse(rect, fill=fill, outline=ink)
            elif kind == "ring":
                draw.ellipse(rect, outline=fill, width=stroke)
            else:
                draw.pieslice(rect, values[4], values[5], fill=fill, outline=ink)
