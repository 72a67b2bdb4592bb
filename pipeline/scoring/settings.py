"""The setting in which two systems are compared."""

from __future__ import annotations

from typing import Any

from ..core.errors import UserError
from ..core.params import suggest
from ..systems import Setting, find_system, make_method, settings_of


def shared_setting(systems: tuple[str, str], setting: str | None, params: dict[str, Any]) -> tuple[str, Setting]:
    """The setting of this name of both systems, which test the same pictures there.

    By default it is the first that they share. Raises `UserError` for systems that share none, or not this one.
    """
    found = []
    for system in systems:
        its = find_system(system, params)
        found.append(settings_of(its, make_method(system, its), params))
    shared = [name for name, its in found[0].items()
              if name in found[1] and (its.test, its.split) == (found[1][name].test, found[1][name].split)]
    if not shared:
        raise UserError(f"{systems[0]} and {systems[1]} have no setting in common: name two systems of one suite")
    if setting is not None and setting not in shared:
        raise UserError(f"{systems[0]} and {systems[1]} have no setting {setting!r} in "
                        f"common{suggest(setting, shared)}")
    name = setting or shared[0]
    return name, found[0][name]
