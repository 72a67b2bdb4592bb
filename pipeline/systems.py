"""Systems, settings and how they are scored, as params.yaml holds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.params import StrictParams, check, load, pick, suggest
from pipeline.methods import find_method
from pipeline.methods.base import Method
from pipeline.metrics.clip import PROMPT


@dataclass(frozen=True)
class System(StrictParams):
    """A method with its choices: one entry below `systems.<group>`.

    method: a name of `unpaired methods`. clip, decoder, recipe: names of entries in `clips`, `decoders`, `recipes`.
    corpus: the data set whose sentences it is trained on. seed: of initial weights, batch order and noise.
    train: the method's parameters that change its training. caption: those that change its captioning only.
    reads: for a system that is not trained itself, the artefact it captions with.
    """

    method: str
    clip: str
    corpus: str
    decoder: str | None = None
    recipe: str | None = None
    seed: int = 0
    train: dict[str, Any] = field(default_factory=dict)
    caption: dict[str, Any] = field(default_factory=dict)
    reads: str | None = None


@dataclass(frozen=True)
class Setting(StrictParams):
    """What systems are tested on. test: the data set whose test images are captioned. support: the one whose sentences are looked up."""

    test: str
    support: str
    split: str = "test"


@dataclass(frozen=True)
class EvaluationParams(StrictParams):
    """`evaluation` in params.yaml.

    judge: the CLIP behind CLIPScore, RefCLIPScore and RefCompare; no system may use it. samples: of the bootstrap. seed: of bootstrap
    and shuffled control. prompt: put before every text that the judge reads ("A photo depicts " in Hessel et al.; the micro-world's
    judge has never read such words).
    """

    judge: str
    samples: int = 1000
    seed: int = 0
    prompt: str = PROMPT

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError("samples must be 1 or more")


def find_system(name: str, params: dict[str, Any] | None = None) -> System:
    """A system by name, whatever its group; an unknown name is a `UserError` with the nearest known one."""
    groups = pick(load() if params is None else params, "systems")
    for group, systems in groups.items():
        if name in (systems or {}):
            return check(System, systems[name], f"systems.{group}.{name}")
    known = [system for systems in groups.values() for system in (systems or {})]
    raise UserError(f"params.yaml: there is no system {name!r}{suggest(name, known)}")


def make_method(name: str, system: System) -> Method:
    """The system's method with its checked parameters; raises `UserError` for a wrong one."""
    cls = find_method(system.method)
    return cls(check(cls.TrainParams, system.train, f"{name}.train"), check(cls.CaptionParams, system.caption, f"{name}.caption"))


def settings_of(system: System, params: dict[str, Any]) -> dict[str, Setting]:
    """The settings that apply: one with a foreign support set means nothing to a method that looks none up."""
    uses_support = find_method(system.method).uses_support
    found = {name: check(Setting, value, f"settings.{name}") for name, value in (params.get("settings") or {}).items()}
    return {name: setting for name, setting in found.items() if uses_support or setting.support == system.corpus}


def model_folder(name: str, system: System) -> Path:
    """Where the system's trained decoder lies: its own model, or the one it reads."""
    return Path(system.reads) if system.reads else paths.model(name)
