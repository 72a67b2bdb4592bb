"""Captions of the micro-world: five people describing one scene, each leaving things out.

`scenes` is plain description. `album` is what people write under their own photographs, with other words for the same things.
`snapshots` has the words of `scenes` and other habits, as Flickr30k beside COCO: how often each word is used, what is mentioned, and how
long a sentence is. These differences are what the cross-domain settings measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from .scenes import BACKGROUNDS, Scene, Thing
from .sprites import COLOURS

T = TypeVar("T")
NOUNS: dict[str, dict[str, tuple[str, ...]]] = {
    "scenes": {
        "cat": ("cat", "cat", "kitten"), "dog": ("dog", "dog", "puppy"), "horse": ("horse", "horse", "pony"),
        "man": ("man", "man", "guy", "person"), "woman": ("woman", "woman", "lady", "person"), "car": ("car",),
        "bus": ("bus",), "train": ("train",), "bike": ("bike", "bicycle"), "boat": ("boat", "boat", "sailboat"),
        "house": ("house", "house", "building"), "tree": ("tree",), "flower": ("flower",), "ball": ("ball",),
        "chair": ("chair",), "table": ("table",), "cup": ("cup", "cup", "mug"), "apple": ("apple",),
        "cake": ("cake",), "umbrella": ("umbrella", "umbrella", "parasol"), "fish": ("fish",), "bird": ("bird",),
        "kite": ("kite",), "plane": ("plane", "plane", "airplane"), "cloud": ("cloud",), "sun": ("sun",),
        "moon": ("moon", "moon", "crescent moon"),
    },
    "album": {
        "cat": ("kitty", "cat"), "dog": ("pup", "dog"), "horse": ("stallion", "horse"), "man": ("uncle", "grandpa", "brother"),
        "woman": ("aunt", "grandma", "sister"), "car": ("automobile", "car"), "bus": ("coach", "bus"),
        "train": ("locomotive", "train"), "bike": ("bicycle",), "boat": ("yacht", "boat"), "house": ("cottage", "home"),
        "tree": ("tree", "old tree"), "flower": ("blossom", "flower"), "ball": ("toy ball", "ball"),
        "chair": ("seat", "chair"), "table": ("desk", "table"), "cup": ("mug", "teacup"), "apple": ("apple",),
        "cake": ("birthday cake", "cake"), "umbrella": ("parasol", "umbrella"), "fish": ("fish",),
        "bird": ("little bird", "bird"), "kite": ("paper kite", "kite"), "plane": ("aircraft", "plane"),
        "cloud": ("cloud",), "sun": ("sunshine", "sun"), "moon": ("moon",),
    },
    # no word that the other two lack: their data sets list the words of all
    "snapshots": {
        "cat": ("kitten", "cat"), "dog": ("puppy", "dog", "dog"), "horse": ("pony", "horse"), "man": ("guy", "guy", "man", "person"),
        "woman": ("lady", "lady", "woman", "person"), "car": ("car",), "bus": ("bus",), "train": ("train",), "bike": ("bicycle", "bike"),
        "boat": ("sailboat", "boat"), "house": ("building", "building", "house"), "tree": ("tree",), "flower": ("flower",),
        "ball": ("ball",), "chair": ("chair",), "table": ("table",), "cup": ("mug", "cup"), "apple": ("apple",), "cake": ("cake",),
        "umbrella": ("parasol", "umbrella"), "fish": ("fish",), "bird": ("bird",), "kite": ("kite",), "plane": ("airplane", "plane"),
        "cloud": ("cloud",), "sun": ("sun",), "moon": ("crescent moon", "moon"),
    },
}
COLOUR_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "scenes": {},
    "album": {
        "red": ("crimson", "red"), "orange": ("orange",), "yellow": ("golden", "yellow"), "green": ("emerald", "green"),
        "blue": ("navy", "blue"), "purple": ("violet", "purple"), "pink": ("rosy", "pink"), "brown": ("chestnut", "brown"),
        "black": ("dark", "black"), "white": ("ivory", "white"), "grey": ("silver", "grey"),
    },
    "snapshots": {},
}
SIZE_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "scenes": {"small": ("small", "little"), "large": ("large", "big")},
    "album": {"small": ("tiny",), "large": ("huge", "great")},
    "snapshots": {"small": ("little", "little", "small"), "large": ("big", "big", "large")},
}
# (phrases after something on the ground, phrases after something in the sky)
PLACES: dict[str, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "scenes": {
        "beach": (("on the beach", "on a sandy beach", "on the sand"), ("over the beach", "in the sky above the sand")),
        "street": (("on the street", "on the road", "in the city"), ("over the street", "in the sky above the road")),
        "snow": (("in the snow", "on the snowy ground"), ("over the snow", "in the winter sky")),
        "room": (("in a room", "inside a room", "indoors"), ("in a room",)),
        "night": (("at night", "in the dark"), ("in the night sky", "in the dark sky")),
        "field": (("in a field", "on the grass", "in a green meadow"), ("over a field", "in the sky above the grass")),
        "sea": (("on the sea", "in the water", "in the ocean"), ("over the sea", "in the sky above the water")),
        "forest": (("in the forest", "in the woods"), ("over the forest", "in the sky above the woods")),
        "desert": (("in the desert", "on the dry ground"), ("over the desert", "in the desert sky")),
        "station": (("at a station", "near the tracks"), ("over a station", "in the sky above the tracks")),
    },
    "album": {
        "beach": (("at the seaside", "on our beach holiday"), ("above the seaside",)),
        "street": (("downtown", "in our street"), ("above downtown",)),
        "snow": (("on our winter trip", "in the white winter"), ("above the winter hills",)),
        "room": (("in our living room", "at home"), ("at home",)),
        "night": (("late in the evening", "after sunset"), ("up in the evening sky",)),
        "field": (("in the countryside", "on the farm"), ("above the farm",)),
        "sea": (("out on the ocean", "on our sailing trip"), ("above the waves",)),
        "forest": (("deep in the woods", "on our forest walk"), ("above the tree tops",)),
        "desert": (("on our desert tour", "among the dunes"), ("above the dunes",)),
        "station": (("at the railway station", "on the platform"), ("above the platform",)),
    },
    "snapshots": {
        "beach": (("on the sand", "on the sand", "on a sandy beach", "outside on the beach"),
                  ("in the sky above the sand", "over the sand")),
        "street": (("in the city", "in the city", "on the road", "outside on the street"), ("in the sky above the road", "over the city")),
        "snow": (("on the snowy ground", "outside in the snow"), ("in the winter sky", "over the snowy ground")),
        "room": (("indoors", "inside", "inside a room"), ("inside",)),
        "night": (("in the dark", "outside at night"), ("in the dark sky", "in the night sky")),
        "field": (("on the grass", "on the grass", "in a green meadow", "outside in a field"),
                  ("in the sky above the grass", "over the grass")),
        "sea": (("in the ocean", "in the water"), ("in the sky above the water", "over the ocean")),
        "forest": (("in the woods", "outside in the woods", "in the forest"), ("in the sky above the woods", "over the woods")),
        "desert": (("on the dry ground", "in the desert"), ("in the desert sky", "over the dry ground")),
        "station": (("near the tracks", "at a station"), ("in the sky above the tracks", "over the tracks")),
    },
}
# Parts of places in which a noun names no thing.
NO_THINGS = ("at home", "tree tops")
_PLAIN_VERBS = {
    "animal": ("standing", "resting", "waiting", "looking around"), "person": ("standing", "walking", "smiling", "waiting"),
    "vehicle": ("parked", "driving", "moving"), "sky": ("floating", "high up"), "thing": ("sitting", "lying", "standing"),
}
_VERBS = {
    "scenes": _PLAIN_VERBS, "album": _PLAIN_VERBS,
    "snapshots": {
        "animal": ("running", "playing", "is running", "is standing", "looking around"),
        "person": ("is walking", "walking", "is smiling", "is standing", "standing", "is playing", "is waiting", "looking around"),
        "vehicle": ("parked", "is parked", "is moving", "driving"), "sky": ("floating", "high up", "is floating"),
        "thing": ("sitting", "is sitting", "is standing", "lying"),
    },
}
KINDS = {
    "cat": "animal", "dog": "animal", "horse": "animal", "bird": "sky", "fish": "animal", "man": "person", "woman": "person",
    "car": "vehicle", "bus": "vehicle", "train": "vehicle", "bike": "vehicle", "boat": "vehicle",
}
_OPENERS = {
    "scenes": ("", "", "", "", "there is ", "a picture of ", "a view of ", "an image of "),
    "album": ("this is ", "holiday snap : ", "remember ", "we saw ", "my favourite shot of ", "here comes ", "memories of "),
    "snapshots": ("",),
}
_ENDINGS = {"scenes": ("",), "album": ("", "", " that summer", " last year", " , what a day", " , so lovely"), "snapshots": ("",)}
_CLOTHES = {"scenes": ("in {}",), "album": ("in {}",), "snapshots": ("in {}", "in {} clothes")}
_PLURALS = {"person": "people", "man": "men", "woman": "women", "lady": "ladies", "puppy": "puppies", "pony": "ponies", "fish": "fish",
            "bus": "buses", "kitty": "kitties", "coach": "coaches", "sunshine": "sunshine", "aircraft": "aircraft"}
_NUMBERS = {2: "two", 3: "three"}


@dataclass(frozen=True)
class _Habits:
    """How likely a style says what. named: one, two or three things. verb: what a thing alone does; doing: what the first of several
    does; place: where all is. people: how much likelier people are named than things of their size."""

    named: tuple[float, float, float] = (0.2, 0.5, 0.3)
    colour: float = 0.55
    size: float = 0.25
    verb: float = 0.3
    doing: float = 0.0
    place: float = 0.75
    people: float = 1.0


_HABITS = {"scenes": _Habits(), "album": _Habits(),
           "snapshots": _Habits(named=(0.05, 0.4, 0.55), colour=0.65, size=0.3, verb=0.9, doing=0.8, place=0.9, people=3.0)}


def describe(scene: Scene, rng: np.random.Generator, count: int = 5) -> list[str]:
    """`count` captions of one scene, lower case, at most about 30 words, each naming one to three of its things."""
    return [text for text, _ in describe_naming(scene, rng, count)]


def describe_naming(scene: Scene, rng: np.random.Generator, count: int = 5) -> list[tuple[str, tuple[str, ...]]]:
    """The captions of `describe`, each with the classes of the things that it names; "person" stands for man and woman alike."""
    return [_caption(scene, rng) for _ in range(count)]


def synonyms() -> dict[str, list[str]]:
    """The words of either style for each class, the class first."""
    return {name: list(dict.fromkeys((name, *(word for nouns in NOUNS.values() for word in nouns[name])))) for name in NOUNS["scenes"]}


def colour_words() -> dict[str, list[str]]:
    """The words of either style for each colour, the colour first."""
    return {name: list(dict.fromkeys((name, *(word for words in COLOUR_WORDS.values() for word in words.get(name, ())))))
            for name in COLOURS}


def _caption(scene: Scene, rng: np.random.Generator) -> tuple[str, tuple[str, ...]]:
    style, habits = scene.style, _HABITS[scene.style]
    chosen = salient(scene.things, style, rng)
    names = tuple(dict.fromkeys(thing.name for thing in chosen))
    ground, sky = PLACES[style][scene.background]
    place = pick(sky if all(t.sky for t in chosen) else ground, rng) if chosen else pick(ground, rng)
    if not chosen:
        body = "an empty view"
    elif len(chosen) > 1 and len({t.name for t in chosen}) == 1:
        body = _counted(chosen, style, rng) + _doing(chosen[0], style, rng).replace(" is ", " are ")
    elif len(chosen) == 1:
        body = phrase(chosen[0], style, rng)
        if rng.random() < habits.verb:
            body += _verb(chosen[0], style, rng)
    else:
        first, second, *rest = chosen
        one, relation, other = phrase(first, style, rng), _relation(first, second, rng), phrase(second, style, rng)
        body = f"{one}{_doing(first, style, rng) if relation != 'and' else ''} {relation} {other}"
        if rest:
            body += f" and {phrase(rest[0], style, rng)}"
    if rng.random() < (habits.place if chosen else 1.0):
        if style == "scenes" and rng.random() < 0.1:
            return f"{place} {body}", names
        body = f"{body} {place}"
    opener = pick(_OPENERS[style], rng)
    if body.startswith(("two ", "three ", "some ")):
        opener = {"there is ": "there are ", "this is ": "these are ", "here comes ": "here come "}.get(opener, opener)
    return opener + body + pick(_ENDINGS[style], rng), names


def salient(things: Sequence[Thing], style: str, rng: np.random.Generator) -> list[Thing]:
    """Large things are named more often and earlier; one to three of them."""
    if not things:
        return []
    habits = _HABITS[style]
    wanted = min(int(rng.choice([1, 2, 3], p=habits.named)), len(things))
    weights = np.array([t.area for t in things]) ** 0.7
    weights *= [habits.people if KINDS.get(t.name) == "person" else 1.0 for t in things]
    order = rng.choice(len(things), size=wanted, replace=False, p=weights / weights.sum())
    return [things[i] for i in order]


def phrase(thing: Thing, style: str, rng: np.random.Generator) -> str:
    """What one person calls a thing, its article and perhaps colour and size with it."""
    noun = pick(NOUNS[style][thing.name], rng)
    words = [noun]
    clothes = ""
    if rng.random() < _HABITS[style].colour:
        colour = pick(COLOUR_WORDS[style].get(thing.colour, (thing.colour,)), rng)
        if KINDS.get(thing.name) == "person":
            clothes = " " + pick(_CLOTHES[style], rng).format(colour)
        else:
            words.insert(0, colour)
    if thing.size in SIZE_WORDS[style] and rng.random() < _HABITS[style].size:
        words.insert(0, pick(SIZE_WORDS[style][thing.size], rng))
    if noun in ("sun", "moon", "sunshine") and len(words) == 1:
        return f"the {noun}"
    if noun == "sunshine":
        return " ".join(words)
    if style == "album" and rng.random() < 0.35:
        return "our " + " ".join(words) + clothes
    return ("an " if words[0][0] in "aeiou" else "a ") + " ".join(words) + clothes


def _doing(thing: Thing, style: str, rng: np.random.Generator) -> str:
    """What the first of several things does, where its style says such."""
    doing = _HABITS[style].doing
    return _verb(thing, style, rng) if doing and rng.random() < doing else ""


def _verb(thing: Thing, style: str, rng: np.random.Generator) -> str:
    return " " + pick(_VERBS[style][KINDS.get(thing.name, "sky" if thing.sky else "thing")], rng)


def _counted(things: Sequence[Thing], style: str, rng: np.random.Generator) -> str:
    several = plural(pick(NOUNS[style][things[0].name], rng))
    number = _NUMBERS[len(things)] if rng.random() < 0.8 else "some"
    return f"{number} {several}"


def plural(noun: str) -> str:
    """Of a noun, with the words before it."""
    head, _, last = noun.rpartition(" ")
    several = _PLURALS.get(last) or last + ("es" if last.endswith(("s", "ch", "sh")) else "s")
    return f"{head} {several}".strip()


def _relation(first: Thing, second: Thing, rng: np.random.Generator) -> str:
    """A true relation between the two, often a vague one."""
    draw = rng.random()
    if draw < 0.3:
        return "and"
    if draw < 0.5:
        return pick(("near", "next to", "beside", "with"), rng)
    if first.sky != second.sky:
        return "above" if first.sky else "under"
    if abs(first.x - second.x) > 0.18:
        return "to the left of" if first.x < second.x else "to the right of"
    return "behind" if first.y < second.y else "in front of"


def pick(options: Sequence[T], rng: np.random.Generator) -> T:
    """One of them, each as likely."""
    return options[int(rng.integers(len(options)))]


assert all(place in PLACES[style] for style in PLACES for place in BACKGROUNDS)
