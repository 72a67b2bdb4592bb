"""Damage of every kind in every artefact: it is named, or changes nothing."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

from pipeline.core.progress import track
from tests.storm.weather import Weather, aside, remove, run

DAMAGES: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "a flipped bit": lambda content, chance: _flipped(content, chance),
    "a cut": lambda content, chance: content[: chance.randrange(len(content))] if content else None,
    "nothing left": lambda content, chance: b"",
    "zeros": lambda content, chance: bytes(len(content)) if any(content) else None,
    "gone": lambda content, chance: None,
    "a tail of noise": lambda content, chance: content + chance.randbytes(7),
}


def _flipped(content: bytes, chance: random.Random) -> bytes | None:
    if not content:
        return None
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def damages(weather: Weather, rounds: int, chance: random.Random) -> Iterator[str]:
    """Damage a file of an artefact, and run a stage that depends on it: it must name the damage, or come to the same result."""
    for _ in track(range(rounds), "damages", rounds, "rounds"):
        stage, dep = chance.choice([(stage, dep) for stage in weather.stages for dep in stage.deps
                                    if dep.startswith("data/") and not dep.startswith(("data/code", "data/sweeps"))])
        top = weather.path(dep)
        file = chance.choice(sorted(path for path in top.rglob("*") if path.is_file()) if top.is_dir() else [top])
        name, damage = chance.choice(sorted(DAMAGES.items()))
        content, times = file.read_bytes(), file.stat()
        spoilt = damage(content, chance)
        file.unlink()
        if spoilt is not None:
            file.write_bytes(spoilt)
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        with aside(weather, stage):
            ended = run(weather, stage)
            what = f"{stage.name} with {name} in {file.relative_to(weather.project.folder)}"
            if ended.status == 0 and weather.unlike(stage):
                yield f"{what}: another result, without a word"
            elif ended.status != 0 and not ended.in_one_line:
                yield f"{what}: ended with {ended.status}: {ended.said[-400:]}"
            else:
                weather.seen["named" if ended.status else "without effect"] += 1
        remove(file)
        file.write_bytes(content)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
