"""Which device the work runs on: chosen by itself and said aloud, never changed in silence."""

from __future__ import annotations

import os
import sys

import torch

from pipeline.core.errors import UserError

DEVICE_VARIABLE = "UNPAIRED_DEVICE"


def choose_device() -> torch.device:
    """The device named by UNPAIRED_DEVICE, else CUDA where there is one, else the CPU.

    Raises `UserError` when CUDA is asked for and absent.
    """
    asked = os.environ.get(DEVICE_VARIABLE, "auto")
    if asked not in ("auto", "cpu") and not asked.startswith("cuda"):
        raise UserError(f"{DEVICE_VARIABLE}={asked} is not a device: set it to auto, cpu, cuda or cuda:N")
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"{DEVICE_VARIABLE}={asked}, but torch finds no CUDA device: see `unpaired doctor`, or set it to cpu")
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked)
    except RuntimeError:
        raise UserError(f"{DEVICE_VARIABLE}={asked} is not a device: set it to auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"{DEVICE_VARIABLE}={asked}, but there are {torch.cuda.device_count()} CUDA devices: they count from 0")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"device: {name}", file=sys.stderr, flush=True)
    return device
