"""A captioner's folder: a project of one system that holds only what captioning reads, so that it works wherever it is put.

It is laid out as any project (params.yaml, and data/ with a CLIP, a model, sentences and their features), and sealed as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from .core import paths
from .core.artefacts import MANIFEST, whole
from .core.errors import UserError
from .core.params import PARAMS_FILE

CLIP, CORPUS, SYSTEM = "clip", "sentences", "captioner"
"""The names of its CLIP, its sentences and its system, in every such folder."""


def is_captioner(folder: Path) -> bool:
    """Whether a folder looks like one that `unpaired fit` made."""
    return all((folder / name).exists() for name in (MANIFEST, PARAMS_FILE, paths.model(SYSTEM)))


@contextmanager
def inside(captioner: Path) -> Iterator[None]:
    """A block in which the current folder is a captioner's, whole and unchanged; errors are said to be of it.

    The current folder is the process's: no other thread may rely on it meanwhile.
    """
    if not is_captioner(captioner):
        raise UserError(f"{captioner} holds no captioner: name a folder that `unpaired fit` made, copied whole")
    whole(captioner)
    with chdir(captioner), told_of(captioner):
        yield


@contextmanager
def told_of(folder: Path) -> Iterator[None]:
    """Errors of a block are said to be of a folder: the paths that they name are relative to it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"in {folder}: {error}") from None
