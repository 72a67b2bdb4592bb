"""`unpaired doctor`: what this machine and this folder have, and what to do about what they lack."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

import torch

from pipeline import paths
from pipeline.encoders import load_clip
from pipeline.errors import UserError
from pipeline.metrics import java
from pipeline.params import load
from pipeline.systems import find_system, make_method, model_folder

_LIBRARIES = ("torch", "open_clip_torch", "transformers", "faiss-gpu", "faiss-cpu", "zarr", "dvc", "pycocoevalcap")


def examine() -> bool:
    """Print one line per finding; True if nothing that is needed is missing."""
    print(f"Python     {sys.version.split()[0]}")
    for library in _LIBRARIES:
        try:
            print(f"library    {library} {version(library)}")
        except PackageNotFoundError:
            if not library.startswith("faiss"):
                print(f"library    {library} MISSING: run `make setup`")
    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none: the CPU is used"
    print(f"CPU        {torch.get_num_threads()} threads\nCUDA       {cuda}")
    return all([_java(), _weights(), _systems()])


def _java() -> bool:
    try:
        print(f"Java       {java.version_text()}")
        return True
    except UserError as error:
        print(f"Java       MISSING: {error}")
        return False


def _weights() -> bool:
    good = True
    for name in load().get("clips") or {}:
        try:
            clip = load_clip(name, load(), torch.device("cpu"))
            parameters = sum(p.numel() for p in clip.model.parameters()) / 1e6
            print(f"CLIP       {name}: {parameters:.2f} M parameters, width {clip.width}, weights {clip.digest[:12]}")
        except UserError as error:
            good = False
            print(f"CLIP       {name}: {error}")
    return good


def _systems() -> bool:
    """Systems that are not trained yet are told, but are no fault."""
    params = load()
    good = True
    for group in (params.get("systems") or {}).values():
        for name in group or {}:
            try:
                system = find_system(name, params)
                folder = model_folder(name, system) if make_method(name, system).decodes else paths.index(system.clip, system.corpus)
                print(f"system     {name}: {'ready' if folder.exists() else f'not made yet ({folder}): run `dvc repro`'}")
            except UserError as error:
                good = False
                print(f"system     {name}: {error}")
    return good
