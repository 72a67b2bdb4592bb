"""Systems, settings and how they are scored, as params.yaml holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .core.errors import UserError
from .core.names import checked
from .core.params import Seed, StrictParams, check, entries, load, pick, section, suggest
from .methods import find_method
from .methods.base import Method
from .needs import KINDS
from .needs.base import Need, PictureNeed

SLOTS = ("learns_from", "learns_with", "looks_at", "looks_up")


@dataclass(frozen=True)
class System(StrictParams):
    """A method with its choices: one entry of `systems`.

    method: a name of `unpaired methods`. clip, decoder, recipe: names of entries in `clips`, `decoders`, `recipes`.
    corpus: the data set whose sentences it is trained on. suite: the group of settings it is tested in. seed: of initial weights, batch
    order and noise.
    starts_from: the folder below data/ that its weights begin as: another system's (`models/decap`), or for a decoder from scratch the
    CLIP whose vocabulary it speaks (`foundation/micro`).
    learns_from, learns_with, looks_at, looks_up: CLIP and kind of the features (`micro/text`) that training reads, the first and the
    second, that it gets of pictures, and that it finds neighbours in; DVC makes dependencies of these paths. An unused one repeats another.
    train: the method's parameters that change its training. caption: those that change its captioning only.
    """

    method: str
    clip: str
    corpus: str
    starts_from: str
    learns_from: str
    learns_with: str
    looks_at: str
    looks_up: str
    decoder: str
    recipe: str
    suite: str
    seed: Seed = 0
    train: dict[str, Any] = field(default_factory=dict)
    caption: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("starts_from", *SLOTS):
            first, slash, second = getattr(self, name).partition("/")
            if not slash:
                raise ValueError(f"{name} is {first!r}, expected two names with a slash between them")
            for part in (first, second):
                checked(part, f"params.yaml: {name}")
        for name in SLOTS:
            if kind_of(getattr(self, name)) not in KINDS:
                raise ValueError(f"{name} is {getattr(self, name)!r}: the second name must be one of {', '.join(KINDS)}")
        for name in SLOTS[:-1]:
            if clip_of(getattr(self, name)) != self.clip:
                raise ValueError(f"{name} is {getattr(self, name)!r}, but the system's clip is {self.clip!r}")


def clip_of(slot: str) -> str:
    """The CLIP of a slot such as `micro/text`."""
    return slot.partition("/")[0]


def kind_of(slot: str) -> str:
    """The kind of a slot such as `micro/text`."""
    return slot.partition("/")[2]


@dataclass(frozen=True)
class Setting(StrictParams):
    """What systems are tested on: one entry of a suite in `settings`.

    test: the data set whose images of `split` are captioned. support: the one whose sentences are looked up. captioning: values that
    differ from those of `captioning`. detector: whose tags are told, in place of the one that the system was trained with.
    """

    test: str
    support: str
    split: str = "test"
    captioning: dict[str, Any] = field(default_factory=dict)
    detector: str | None = None


def find_system(name: str, params: dict[str, Any] | None = None) -> System:
    """A system by name; an unknown name is a `UserError` with the nearest known one."""
    systems = entries(load() if params is None else params, "systems")
    if name not in systems:
        raise UserError(f"params.yaml: there is no system {name!r}{suggest(name, systems)}")
    return check(System, systems[name], f"systems.{name}")


def make_method(name: str, system: System) -> Method:
    """The system's method with its checked parameters; raises `UserError` for a wrong one, or when the system lacks what it needs."""
    cls = find_method(system.method)
    method = cls(check(cls.TrainParams, system.train, f"{name}.train"), check(cls.CaptionParams, system.caption, f"{name}.caption"))
    if method.trains:
        _require(name, method.learns_from, system, "learns_from", "learns_with")
    _require(name, method.looks_at, system, "looks_at")
    _require(name, method.looks_up, system, "looks_up")
    return method


def _require(name: str, needs: Sequence[Need[Any]], system: System, *slots: str) -> None:
    values = [getattr(system, slot) for slot in slots]
    for need in (part for whole in needs for part in whole.parts):
        if not any(kind_of(value) in need.kinds for value in values):
            raise UserError(f"params.yaml: systems.{name}.{slots[-1]} is {values[-1]!r}, which holds no {type(need).__name__}: name "
                            f"{' or '.join(need.kinds)} there{f', or in {slots[0]}' if slots[1:] else ''}")


def looked_at(method: Method, setting: Setting) -> tuple[PictureNeed[Any], ...]:
    """What a method reads of a setting's pictures: where the setting names a detector, what that one found."""
    needs: Any = method.looks_at
    return tuple(replace(need, detector=setting.detector) if setting.detector and hasattr(need, "detector") else need for need in needs)


def settings_of(system: System, method: Method, params: dict[str, Any]) -> dict[str, Setting]:
    """The settings of the system's suite that apply, see `distinct`."""
    if pick(params, f"settings.{system.suite}") is None:
        raise UserError(f"params.yaml: settings.{system.suite} is null: name what its systems are tested on, or {{}} for nothing")
    found = {name: section(Setting, params, f"settings.{system.suite}.{name}")
             for name in map(checked, section(dict[str, Any], params, f"settings.{system.suite}"))}
    return distinct(found, method)


def corpora_of(system: System, method: Method, setting: Setting) -> tuple[str, ...]:
    """The data sets whose sentences a system knows in a setting: that it learnt from, and those that it looks up."""
    return tuple(dict.fromkeys((system.corpus, setting.support) if method.looks_up else (system.corpus,)))


def distinct(settings: Mapping[str, Setting], method: Method) -> dict[str, Setting]:
    """The settings that are not the same to a method: where it looks no sentences up, those that differ by their support only are one, the
    first."""
    if method.looks_up:
        return dict(settings)
    first: dict[str, str] = {}
    for name, setting in settings.items():
        first.setdefault(repr(replace(setting, support="")), name)
    return {name: settings[name] for name in first.values()}
