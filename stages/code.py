"""Note the digests of the code behind every stage and method."""

from pathlib import Path

from pipeline.core import paths
from pipeline.core.code import write_digests
from pipeline.methods import METHODS
from stages import run


def code() -> None:
    """Write data/code: what the other stages depend on in place of source files, so that a comment or docstring runs nothing again."""
    stages = sorted(file.stem for file in Path(__file__).parent.glob("[a-z]*.py"))
    write_digests(paths.DATA / "code", stages, {name: place.partition(":")[0] for name, place in METHODS.items()})


if __name__ == "__main__":
    run(code)
