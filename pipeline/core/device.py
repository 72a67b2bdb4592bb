"""Which device the work runs on: chosen by itself and said aloud, never changed in silence."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from .errors import UserError

DEVICE_VARIABLE = "UNPAIRED_DEVICE"
Precision = Literal["auto", "float32", "bfloat16", "float16"]
"""What products are computed in. auto: half precision on CUDA, float32 on a CPU. What was used stands in the artefact's identity."""


def resolved(asked: Precision, device: torch.device, on_cuda: Precision = "float16") -> Precision:
    """The precision to compute in on a device. Raises `UserError` for float16 on a CPU, which has no fast products of it."""
    if asked == "float16" and device.type == "cpu":
        raise UserError("params.yaml: precision is float16, and the device is a CPU: set it to auto, bfloat16 or float32")
    if asked != "auto":
        return asked
    return on_cuda if device.type == "cuda" else "float32"


def precisely(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """A block whose products are computed in a resolved precision; sums and norms stay in float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


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
