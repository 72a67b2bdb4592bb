"""What DVC records of a stage is what the stage was told.

DVC reads a stage's parameters and inputs when its command has ended. What changed meanwhile would be recorded for an artefact that never
saw it, with `dvc status` clean: so a stage looks again before its artefact lands, and once more at its end.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .code import ROOT, changed
from .errors import UserError
from .files import Stamps, stamps
from .params import PARAMS_FILE, load
from .paths import DATA

_DVC_FILE, _NOTED_CODE = Path("dvc.yaml"), DATA / "code"
_AGAIN = "this stage would be recorded as made from what it never saw. Run `dvc repro` again"


@dataclass(frozen=True)
class Watched:
    """What DVC watches for one stage: keys of params.yaml and paths, as dvc.yaml and params.yaml have them."""

    params: tuple[str, ...]
    paths: tuple[Path, ...]

    @staticmethod
    def of(stage: str, stages: Mapping[str, Any], params: Mapping[str, Any]) -> Watched:
        """For a stage such as `train@knight`; stages: those of dvc.yaml, plain or with `foreach` or `matrix`. KeyError if there is none."""
        name, _, instance = stage.partition("@")
        entry = stages[name]
        scope = {**params, "key": instance, "item": _item(entry, instance, params)}
        body = entry.get("do", entry)

        def filled(texts: list[str]) -> list[str]:
            return [re.sub(r"\$\{(.*?)\}", lambda found: str(_at(scope, found[1])), text) for text in texts]

        return Watched(tuple(filled(body.get("params", []))), tuple(map(Path, filled(body.get("deps", [])))))


def _item(entry: Mapping[str, Any], instance: str, params: Mapping[str, Any]) -> Any:
    """What `item` stands for in one instance of a stage."""
    def source(text: str) -> Any:
        return _at(params, text.removeprefix("${").removesuffix("}"))

    if "foreach" in entry:
        items = source(entry["foreach"])
        return items[instance] if isinstance(items, Mapping) else instance
    axes = {axis: source(text) for axis, text in entry.get("matrix", {}).items()}
    rows = itertools.product(*axes.values())
    return next((dict(zip(axes, row, strict=True)) for row in rows if "-".join(row) == instance), None)


def _at(value: Any, key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


@dataclass(frozen=True)
class _Told:
    """All that DVC watches for a stage, as the stage found it. code: digest by file, as the stage `code` noted them."""

    watched: Watched
    params: Mapping[str, Any]
    inputs: Mapping[Path, Stamps]
    code: Mapping[str, str]
    sources: Mapping[str, Stamps]

    def require_unchanged(self) -> None:
        """`UserError` for the first thing that is not as it was."""
        now = load()
        for key in self.watched.params:
            if difference := _difference(key, _at(self.params, key), _at(now, key)):
                raise UserError(f"{PARAMS_FILE}: {difference}: {_AGAIN}")
        for path, found in self.inputs.items():
            if stamps(path) != found:
                raise UserError(f"{path} changed meanwhile: {_AGAIN}")
        if files := changed({file: self.code[file] for file, found in self.sources.items() if stamps(ROOT / file) != found}):
            raise UserError(f"{files[0]} changed meanwhile: {_AGAIN}")


_told: _Told | None = None


def begin() -> None:
    """Remember what DVC watches for the stage that it runs; outside of DVC, nothing.

    Raises `UserError` if the code is not what the stage `code` noted, and DVC would record.
    """
    global _told
    if not (stage := os.environ.get("DVC_STAGE", "").rpartition(":")[2]) or not _DVC_FILE.is_file():
        return
    params, stages = load(), load(_DVC_FILE).get("stages", {})
    if stage.partition("@")[0] not in stages:
        return  # of another pipeline, which calls ours
    watched = Watched.of(stage, stages, params)
    code: dict[str, str] = {}
    for path in watched.paths:
        if path.is_relative_to(_NOTED_CODE) and path.is_file():
            code |= json.loads(path.read_text(encoding="utf-8"))
    if files := changed(code):
        raise UserError(f"{files[0]} changed since the stage `code` noted it: run `dvc repro` again")
    _told = _Told(watched, params, {path: stamps(path) for path in watched.paths}, code, {file: stamps(ROOT / file) for file in code})


def require_unchanged() -> None:
    """`UserError` if anything that DVC will record of this stage is not what the stage was told."""
    if _told:
        _told.require_unchanged()


def _difference(key: str, old: Any, new: Any) -> str | None:
    """The first difference between two values at a key, in words."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return next(filter(None, (_difference(f"{key}.{part}", old.get(part), new.get(part)) for part in {**old, **new})), None)
    return None if old == new and type(old) is type(new) else f"{key} was {old!r:.40} when the stage began and is {new!r:.40} now"
