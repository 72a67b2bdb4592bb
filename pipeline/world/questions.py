"""Questions about the micro-world's scenes, each with the answers of ten people, who do not always agree.

Of kind, colour, number, place and yes/no; only such as have one right answer in the scene. They speak the words of the scene's style.
Questions come from a random stream of their own, so that a scene with questions is the scene without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .captions import COLOUR_WORDS, NOUNS, PLACES, plural
from .scenes import BACKGROUNDS, POOLS, STYLES, Scene, Thing
from .sprites import SPRITES

PEOPLE = 10
# What a question asks, its first words ("question type" in VQA), and what kind of answer it gets ("answer type").
ANSWER_TYPES = ("yes/no", "number", "other")
_GROUPS = {
    "animal": ("cat", "dog", "horse", "bird", "fish"), "vehicle": ("car", "bus", "train", "bike", "boat", "plane"),
    "food": ("apple", "cake"), "furniture": ("table", "chair"),
}
_PEOPLE = ("man", "woman")
_LEADING = ("on", "in", "at", "inside", "near", "among", "out", "outside", "deep", "the", "a", "our", "late")  # before the name of a place
# Colours that are taken for one another.
_NEAR = {"red": "orange", "orange": "red", "yellow": "orange", "green": "blue", "blue": "purple", "purple": "blue", "pink": "red",
         "brown": "black", "black": "grey", "white": "grey", "grey": "white"}
# How sure people are of the answer; who is not gives the nearest other one.
_SURE = {"yes/no": 0.95, "number": 0.92, "colour": 0.87, "kind": 0.85, "place": 0.85}


@dataclass(frozen=True)
class Question:
    """asks: `kind`, `colour`, `number`, `place` or `yes/no`. type: its first words, by which VQA groups questions. answer: the right one.
    answers: of ten people, most of them the right one, perhaps in other words."""

    text: str
    asks: str
    type: str
    answer: str
    answers: tuple[str, ...]

    @property
    def answer_type(self) -> str:
        """As VQA has it: one of `ANSWER_TYPES`."""
        return self.asks if self.asks in ANSWER_TYPES else "other"


def question_stream(style: str, pool: str, seed: int, index: int) -> np.random.Generator:
    """The random stream of one scene's questions; it meets that of no scene."""
    return np.random.default_rng([STYLES.index(style), POOLS.index(pool), seed, index, 1])


def ask(scene: Scene, rng: np.random.Generator, count: int) -> list[Question]:
    """At most `count` questions about a scene, no two of them the same; one of each kind first, as far as there is one to ask."""
    possible = [maker(scene, rng) for maker in (_yes_no, _colour, _kind, _number, _place)]
    order = [kind for kind in rng.permutation(len(possible)).tolist() if possible[kind]]
    found: dict[str, Question] = {}
    while len(found) < count and order:
        for kind in list(order):
            questions = possible[kind]
            question = questions.pop(int(rng.integers(len(questions))))
            found.setdefault(question.text, question)
            if not questions:
                order.remove(kind)
            if len(found) == count:
                break
    return list(found.values())


def _yes_no(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """As many of what is there as of what is not, so that neither answer is the likelier one; what is not there would belong there."""
    found = []
    shown = {thing.name for thing in scene.things}
    missing = [name for name in BACKGROUNDS[scene.background].prior if name not in shown]
    for thing in _alone(scene):
        for name, answers in ((thing.name, ("yes", "no")), (str(rng.choice(missing)), ("no", "yes"))):
            found.append(_question(f"is there {article(_noun(scene, name, rng))}?", "yes/no", "is there a", answers[:1], answers[1:], rng))
        if len(colours := SPRITES[thing.name].colours) > 1:
            noun, right = _noun(scene, thing.name, rng), bool(rng.random() < 0.5)
            colour = thing.colour if right else str(rng.choice([other for other in colours if other != thing.colour]))
            text = f"is the {noun} in {colour}?" if thing.name in _PEOPLE else f"is the {noun} {colour}?"
            answers = ("yes", "no") if right else ("no", "yes")
            found.append(_question(text, "yes/no", "is the", answers[:1], answers[1:], rng))
    return found


def _colour(scene: Scene, rng: np.random.Generator) -> list[Question]:
    found = []
    for thing in _alone(scene):
        if len(SPRITES[thing.name].colours) > 1:
            noun = _noun(scene, thing.name, rng)
            words, near = (_colours(scene.style, colour) for colour in (thing.colour, _NEAR[thing.colour]))
            text = f"what colour is the {noun} wearing?" if thing.name in _PEOPLE else f"what colour is the {noun}?"
            found.append(_question(text, "colour", "what colour is the", words, near, rng))
    return found


def _kind(scene: Scene, rng: np.random.Generator) -> list[Question]:
    found = []
    for group, names in _GROUPS.items():
        its = [thing for thing in scene.things if thing.name in names]
        if len(its) == 1:
            text, kind = ((f"what {group} is this?", f"what {group}") if group in ("animal", "furniture")
                          else (f"what kind of {group} is this?", "what kind of"))
            found.append(_question(text, "kind", kind, *_named(scene, its[0].name, names, rng), rng))
    by_x = sorted(scene.things, key=lambda thing: thing.x)
    if len(by_x) > 1:
        for side, thing, other in (("left", by_x[0], by_x[1]), ("right", by_x[-1], by_x[-2])):
            if abs(thing.x - other.x) > 0.18:
                words = _named(scene, thing.name, [other.name], rng)
                found.append(_question(f"what is on the {side}?", "kind", "what is on the", *words, rng))
    return found


def _number(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Of what there are several of; of single things now and then, or "1" would be the answer to everything."""
    counts = {plural(_noun(scene, name, rng)): sum(thing.name == name for thing in scene.things)
              for name in dict.fromkeys(thing.name for thing in scene.things)}
    if people := sum(thing.name in _PEOPLE for thing in scene.things):
        counts["people"] = people
    if animals := sum(thing.name in _GROUPS["animal"] for thing in scene.things):
        counts["animals"] = animals
    counts = {what: count for what, count in counts.items() if count > 1 or rng.random() < 0.2} | {"things": len(scene.things)}
    return [_question(f"how many {what} are there?", "number", "how many", (str(count),),
                      (str(count + 1 if rng.random() < 0.5 else count - 1),), rng) for what, count in counts.items()]


def _place(scene: Scene, rng: np.random.Generator) -> list[Question]:
    words = _places(scene.style, scene.background)
    others = [name for name in PLACES[scene.style] if name != scene.background]
    near = _places(scene.style, str(rng.choice(others)))
    return [_question(text, "place", kind, words, near, rng) for text, kind in (("where is this?", "where is"),
                                                                               ("what place is this?", "what place"))]


def _question(text: str, asks: str, kind: str, words: Sequence[str], near: Sequence[str], rng: np.random.Generator) -> Question:
    """words: for the right answer, the first of which it is. near: for the answer of who is not sure."""
    sure = rng.random(PEOPLE) < _SURE[asks]
    picks = rng.random(PEOPLE)
    answers = []
    for certain, pick in zip(sure.tolist(), picks.tolist(), strict=True):
        options = words if certain else near
        # two of three people say it in the first word
        answers.append(options[0] if pick < 2 / 3 or len(options) == 1 else options[1 + int((pick - 2 / 3) * 3 * (len(options) - 1))])
    return Question(text, asks, kind, words[0], tuple(answers))


def _alone(scene: Scene) -> list[Thing]:
    """Things that are the only one of their class, so that "the car" is one."""
    names = [thing.name for thing in scene.things]
    return [thing for thing in scene.things if names.count(thing.name) == 1]


def _noun(scene: Scene, name: str, rng: np.random.Generator) -> str:
    """A word of the style for a class; "person" is left to numbers, since it stands for two classes."""
    options = [noun for noun in NOUNS[scene.style][name] if noun != "person"]
    return options[int(rng.integers(len(options)))]


def _named(scene: Scene, name: str, others: Sequence[str], rng: np.random.Generator) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words for a class, and for another of these that it might be taken for."""
    another = str(rng.choice([other for other in others if other != name] or [name]))
    words, near = (tuple(dict.fromkeys(noun for noun in NOUNS[scene.style][each] if noun != "person")) for each in (name, another))
    return words, near


def _colours(style: str, colour: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(COLOUR_WORDS[style].get(colour, (colour,))[::-1]))  # the plain word first


def _places(style: str, background: str) -> tuple[str, ...]:
    """Names of a place, without the word that leads to it: "on the beach" is "beach"."""
    phrases, _ = PLACES[style][background]
    bare = []
    for phrase in phrases:
        words = phrase.split()
        while len(words) > 1 and words[0] in _LEADING:
            words.pop(0)
        bare.append(" ".join(words))
    return tuple(dict.fromkeys(bare))


def article(noun: str) -> str:
    """A noun behind "a" or "an"; a mass noun alone."""
    return noun if noun == "sunshine" else f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
