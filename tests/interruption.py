"""Trainings that die in a chosen step, for tests of what resumes them."""

from __future__ import annotations

import pytest

from pipeline.optimisation import Schedule


class Interrupted(Exception):
    pass


def interrupt_at(patch: pytest.MonkeyPatch, call: int | None) -> list[int]:
    """Die in the step of this number, counted over all trainings that follow, or never; the list holds the steps that were taken."""
    original, steps = Schedule.rate, []

    def rate(schedule: Schedule, step: int) -> float:
        if not steps or steps[-1] != step:  # asked for every group of parameters
            if len(steps) == call:
                raise Interrupted
            steps.append(step)
        return original(schedule, step)

    patch.setattr(Schedule, "rate", rate)
    return steps
