"""Texts as the web has them beside pictures: what crawlers gather when they ask for names of things, as SS1M was (Feng et al., CVPR 2019,
arXiv:1811.10787).

A page is sampled from (pool, seed, index) alone, as scenes are; its random stream meets that of no scene, question and film.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .captions import NOUNS, describe_naming, phrase, pick, plural, salient
from .scenes import POOLS, Scene, Thing, sample_scene
from .sprites import CLASSES

WEB = "web"
LOOK = "scenes"  # style of the pictures, and of the words for what they show
_ASIDE = 0.3  # of the pages say nothing of what is seen
_ABOUT = (
    "{} stock photo", "{} | Stock Photo", "{} - Royalty Free Image", "{} vector illustration", "{} clipart", "{} photo | Download Free",
    "Buy {} - free shipping", "{} for sale, best price", "{} isolated on background",
)
_FILES = ("IMG_{number}.jpg {text}", "DSC0{number}.JPG - {text}", "{text} {number}.png")
_OTHERWISE = (
    "how to draw a {one}", "{one} coloring page for kids", "buy {one} T-shirt | free shipping", "{one} logo design template",
    "Seamless pattern with {several}, vector illustration", "best {one} wallpaper HD download", "{several} - Top 10 list",
    "{one} phone case SALE", "{one} quotes and sayings", "learn English: {several}", "{one} sticker set", "IMG_{number}.jpg {one}",
)
_CASES: tuple[Callable[[str], str], ...] = (str.capitalize, str.capitalize, str.title, str.upper, str)


def web_stream(pool: str, seed: int, index: int) -> np.random.Generator:
    """The random stream of one page."""
    return np.random.default_rng([0, POOLS.index(pool), seed, index, 3])


def sample_page(rng: np.random.Generator) -> tuple[str, str]:
    """The class whose name finds a page, and the text beside its picture, which three times of ten says nothing of what is seen."""
    scene = sample_scene(LOOK, rng)
    if rng.random() < _ASIDE or not scene.things:
        name = pick(CLASSES, rng)
        noun = pick(NOUNS[LOOK][name], rng)
        return name, pick(_OTHERWISE, rng).format(one=noun, several=plural(noun), number=_number(rng))
    text, names = alt_texts(scene, rng, 1)[0]
    return pick(names, rng), text


def alt_texts(scene: Scene, rng: np.random.Generator, count: int = 5) -> list[tuple[str, tuple[str, ...]]]:
    """`count` texts that say what a scene shows, at most about 25 words, each with the classes of the things that it names: a third
    are sentences, the others names of files, shops' and agencies' words, hashtags; capitals as they come."""
    return [_alt_text(scene, rng) for _ in range(count)]


def _alt_text(scene: Scene, rng: np.random.Generator) -> tuple[str, tuple[str, ...]]:
    draw = rng.random()
    if draw < 0.35:
        sentence, names = describe_naming(scene, rng, 1)[0]
        return _cased(f"{sentence}.", rng), names
    things = salient(scene.things, LOOK, rng)[:2]
    names = tuple(dict.fromkeys(thing.name for thing in things))
    if draw < 0.5:
        return " ".join(f"#{word}" for word in (*_tags(things), scene.background)), names
    words = " and ".join(_bare(phrase(thing, LOOK, rng)) for thing in things) or scene.background
    if draw < 0.65:
        return pick(_FILES, rng).format(text=pick((words, words.replace(" ", "-")), rng), number=_number(rng)), names
    return pick(_ABOUT, rng).format(_cased(words if rng.random() < 0.5 else f"{words}, {scene.background}", rng)), names


def _tags(things: Sequence[Thing]) -> list[str]:
    return list(dict.fromkeys(word for thing in things for word in (thing.colour, thing.name)))


def _bare(said: str) -> str:
    """Without its article."""
    return said.split(" ", 1)[1]


def _cased(text: str, rng: np.random.Generator) -> str:
    return pick(_CASES, rng)(text)


def _number(rng: np.random.Generator) -> int:
    return int(rng.integers(1000, 10_000))
