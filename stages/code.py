"""Check all names in params.yaml, and note the digests of the code behind every stage and method."""

from pathlib import Path

from pipeline.core import paths
from pipeline.core.code import write_digests
from pipeline.core.names import check_names
from pipeline.core.params import load
from pipeline.core.resume import finished_folder
from pipeline.methods import METHODS
from stages import run


def code() -> None:
    """Write data/code: what the other stages depend on in place of source files, so that a comment or docstring runs nothing again.

    Since all others depend on this stage, a name that would lead elsewhere ends `dvc repro` before DVC removes the outputs of its stages.
    """
    check_names(load())
    stages = sorted(file.stem for file in Path(__file__).parent.glob("[a-z]*.py"))
    with finished_folder(paths.DATA / "code") as folder:
        write_digests(folder, stages, {name: "pipeline.methods" + place.partition(":")[0] for name, place in METHODS.items()})


if __name__ == "__main__":
    run(code)
