"""Devices and precisions: chosen by rule, said aloud, refused in one line where they are not there."""

from __future__ import annotations

import pytest
import torch

from pipeline.core.device import DEVICE_VARIABLE, choose_device, precisely, resolved

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("asked", ["gpu", "CPU", "", "cpu:x", "mps"])
def test_a_device_that_nobody_knows_is_named(monkeypatch, user_error, asked):
    monkeypatch.setenv(DEVICE_VARIABLE, asked)
    assert f"{DEVICE_VARIABLE}={asked} is not a device" in user_error(choose_device)


@pytest.mark.parametrize("asked", ["cuda", "cuda:0"])
def test_cuda_that_is_asked_for_and_absent_is_never_replaced_in_silence(monkeypatch, user_error, asked):
    monkeypatch.setenv(DEVICE_VARIABLE, asked)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "finds no CUDA device" in user_error(choose_device)


@pytest.mark.parametrize(("asked", "message"), [("cuda:2", "there are 2 CUDA devices"), ("cuda:x", "is not a device")])
def test_a_cuda_device_beyond_those_there_is_named(monkeypatch, user_error, asked, message):
    monkeypatch.setenv(DEVICE_VARIABLE, asked)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert message in user_error(choose_device)


def test_without_cuda_the_cpu_is_chosen_and_said(monkeypatch, capsys):
    monkeypatch.delenv(DEVICE_VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == CPU
    assert capsys.readouterr().err.startswith("device: CPU")


@pytest.mark.parametrize(("asked", "on_cpu", "on_cuda"), [
    ("auto", "float32", "float16"), ("float32", "float32", "float32"), ("bfloat16", "bfloat16", "bfloat16")])
def test_a_precision_is_what_was_asked_or_the_devices_own(asked, on_cpu, on_cuda):
    assert resolved(asked, CPU) == on_cpu
    assert resolved(asked, CUDA) == on_cuda


def test_training_may_have_another_precision_of_its_own_on_cuda():
    assert resolved("auto", CUDA, on_cuda="bfloat16") == "bfloat16"
    assert resolved("auto", CPU, on_cuda="bfloat16") == "float32"


def test_float16_on_a_cpu_is_refused_with_what_to_set(user_error):
    assert "set it to auto, bfloat16 or float32" in user_error(resolved, "float16", CPU)
    assert resolved("float16", CUDA) == "float16"


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_products_are_computed_in_the_precision_and_what_follows_is_not(precision, dtype):
    rows = torch.ones(2, 2)
    with precisely(precision, CPU):
        assert (rows @ rows).dtype == dtype
    assert (rows @ rows).dtype == torch.float32
