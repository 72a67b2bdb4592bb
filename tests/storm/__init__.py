"""A storm over a finished project: kills, power cuts, two writers at once, damage, hostile names, nonsense for parameters and odd inputs.

`python -m tests.storm kills --rounds 100` builds a tiny project (two minutes), or takes a copy of one with `--project FOLDER`, and prints
what went wrong; exit code 1 if anything did. The tests run a few seeded rounds of each, `make storm` a hundred.
"""

from collections.abc import Callable, Iterator
from random import Random

from tests.storm.damages import damages
from tests.storm.inputs import inputs
from tests.storm.interruptions import dvc_kills, kills, power_cuts, writers
from tests.storm.names import names
from tests.storm.values import values
from tests.storm.weather import Weather

STORMS: dict[str, Callable[[Weather, int, Random], Iterator[str]]] = {
    "kills": kills, "dvc-kills": dvc_kills, "writers": writers, "power-cuts": power_cuts, "damages": damages, "names": names,
    "values": values, "inputs": inputs,
}
"""Each yields a line per problem."""
