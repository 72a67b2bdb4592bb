"""`unpaired doctor`: what this machine and this folder have, and what to do about what they lack."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .core import paths
from .core.errors import UserError
from .core.params import entries, load

_LIBRARIES = (("torch",), ("torchvision",), ("open_clip_torch",), ("transformers",), ("diffusers",), ("scipy",), ("faiss-gpu", "faiss-cpu"),
              ("zarr",), ("pyarrow",), ("dvc",), ("pycocoevalcap",))


def examine() -> bool:
    """Print one line per finding; True if nothing that is needed is missing."""
    print(f"Python     {sys.version.split()[0]}")
    found = [_library(names) for names in _LIBRARIES]
    if not all(found):
        return False  # the rest needs them
    return all([_folder(), _device(), _java(), _spice(), _weights(), _systems()])


def _library(names: tuple[str, ...]) -> bool:
    """One line on the first of these distributions that is installed."""
    for name in names:
        try:
            print(f"library    {name} {version(name)}")
            return True
        except PackageNotFoundError:
            continue
    print(f"library    {' or '.join(names)} MISSING: run `make setup`")
    return False


def _folder() -> bool:
    """What DVC wants of the place where the project lies."""
    here = Path.cwd()
    if not here.as_posix().isascii():
        print(f"folder     {here}: `dvc exp run` with --temp or --queue fails below a name that is not plain ASCII (a fault of DVC's own); "
              "all else works")
    if any((folder / ".git").exists() for folder in (here, *here.parents)):
        return True
    print("git        MISSING: DVC needs a git repository: run `git init && git add --all && git commit --message start`")
    return False


def _device() -> bool:
    import torch

    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none: the CPU is used"
    print(f"CPU        {torch.get_num_threads()} threads\nCUDA       {cuda}")
    return True


def _java() -> bool:
    from .metrics import java

    try:
        print(f"Java       {java.version_text()}")
        return True
    except UserError as error:
        print(f"Java       MISSING: {error}")
        return False


def _spice() -> bool:
    """It is no fault to be without."""
    from .metrics.spice_install import installed

    try:
        print(f"SPICE      installed: {installed()[0].parent}")
    except UserError as error:
        print(f"SPICE      absent, which is no fault: {error}")
    return True


def _weights() -> bool:
    import torch

    from .features.encoders import load_clip

    good = True
    for name in load().get("clips") or {}:
        try:
            clip = load_clip(name, load(), torch.device("cpu"))
            parameters = sum(p.numel() for p in clip.model.parameters()) / 1e6
            print(f"CLIP       {name}: {parameters:.2f} M parameters, width {clip.width}, weights {clip.digest[:12]}")
        except UserError as error:
            good = False
            print(f"CLIP       {name}: {error}")
    return _synthesis_models() and good


def _synthesis_models() -> bool:
    """The diffusion model and the detector, where params.yaml asks for them."""
    import torch

    from .core.params import section
    from .features.tagging import load_detector
    from .synthetic.drawing import SynthesisParams, load_generator

    params, device = load(), torch.device("cpu")
    try:
        for name in entries(params, "detectors"):
            detector = load_detector(name, params, device)
            print(f"detector   {name}: {len(detector.labels)} classes, weights {detector.digest[:12]}")
        if params.get("synthesis"):
            generator = load_generator(section(SynthesisParams, params, "synthesis"), device)
            parameters = sum(p.numel() for p in generator.model.unet.parameters()) / 1e6
            print(f"diffusion  {generator.params.generator}: UNet of {parameters:.2f} M parameters, weights {generator.digest[:12]}")
        return True
    except UserError as error:
        print(f"synthesis  {error}")
        return False


def _systems() -> bool:
    """Systems that are not trained yet are told, but are no fault."""
    from .systems import find_system, make_method

    params = load()
    good = True
    for name in entries(params, "systems"):
        try:
            make_method(name, find_system(name, params))
            folder = paths.model(name)
            print(f"system     {name}: {'ready' if folder.exists() else f'not made yet ({folder}): run `dvc repro`'}")
        except UserError as error:
            good = False
            print(f"system     {name}: {error}")
    return good
