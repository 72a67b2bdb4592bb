"""`python -m tests.storm STORM`."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests import storm
from tests.project import Project
from tests.storm.weather import Weather, preload


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=storm.__doc__)
    parser.add_argument("storm", choices=storm.STORMS)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--project", type=Path, help="a finished tiny project, which is copied")
    asked = parser.parse_args(arguments)
    preload()
    with tempfile.TemporaryDirectory() as place:
        if asked.project:
            project = Project(asked.project).copy(Path(place) / "project")
        else:
            project = Project.create(Path(place) / "project")
            project.run("dvc", "repro")
            project.commit("results")
        weather = Weather(project)
        problems = 0
        for problem in storm.STORMS[asked.storm](weather, asked.rounds, random.Random(asked.seed)):
            problems += 1
            print(problem, flush=True)
    print(f"{asked.storm}: {asked.rounds} rounds, {problems} problems; {_counted(weather.seen)}")
    return min(problems, 1)


def _counted(seen: Counter[str]) -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(seen.items()))


if __name__ == "__main__":
    sys.exit(main())
