"""Every key of every parameter class, with values that mean nothing: one line that names the key, or a parameter that works."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from pipeline.answers import AnsweringParams
from pipeline.core.errors import UserError
from pipeline.core.params import check
from pipeline.corpus.extract import ExtractParams
from pipeline.corpus.questions import QuestionParams
from pipeline.features.encoders import ClipParams
from pipeline.features.frames import FrameParams
from pipeline.features.indexing import IndexParams
from pipeline.features.regions import RegionParams
from pipeline.features.tagging import DetectorParams
from pipeline.features.tags import TagParams
from pipeline.images import ImageParams
from pipeline.language.decoders import DecoderParams
from pipeline.language.decoding import Decoding
from pipeline.methods import METHODS, find_method
from pipeline.methods.phases import Recipe
from pipeline.metrics.judge import EvaluationParams
from pipeline.sweeps import SweepParams
from pipeline.synthetic.drawing import SynthesisParams
from pipeline.synthetic.refinement import ProjectionParams, RefinementParams
from pipeline.systems import Setting, System
from pipeline.world.dataset import WorldParams

WHOLE: dict[type, dict[str, Any]] = {
    ExtractParams: {"format": "lines", "source": "captions.txt"},
    QuestionParams: {"raw": "scenes", "about": "scenes", "source": "questions.json"},
    DecoderParams: {}, Decoding: {}, ClipParams: {}, IndexParams: {}, FrameParams: {}, RegionParams: {}, DetectorParams: {},
    ImageParams: {}, RefinementParams: {},
    TagParams: {"detectors": ["d"], "datasets": ["s"], "clips": ["c"]},
    EvaluationParams: {"judge": "judge"},
    SweepParams: {"systems": ["knight"], "settings": ["pictures.in-domain"], "vary": {"train.k": [1]}},
    SynthesisParams: {"corpora": ["s"], "clips": ["c"], "generator": "g"},
    ProjectionParams: {"temperature": {"scenes": 0.01}},
    Setting: {"test": "scenes", "support": "scenes"},
    AnsweringParams: {"method": "knight", "clip": "c", "looks_at": "c/image", "looks_up": "c/text",
                      "settings": {"s": {"test": "q", "support": "s"}}},
    System: {"method": "knight", "clip": "c", "corpus": "s", "starts_from": "foundation/c", "learns_from": "c/text",
             "learns_with": "c/text", "looks_at": "c/image", "looks_up": "c/text", "decoder": "d", "recipe": "r", "suite": "pictures"},
    Recipe: {"steps": 10},
    WorldParams: {"style": "scenes", "seed": 0},
    **{find_method(name).TrainParams: {} for name in METHODS}, **{find_method(name).CaptionParams: {} for name in METHODS},
}
NONSENSE = [
    None, True, False, -1, 0, 10**400, 2**63, -0.5, 1.5, math.nan, math.inf, -math.inf, 1e308, 1e-308, "", "nonsense", "1", "\0",
    [], ["a"], [[]], [None], {}, {"a": 1}, {"a": None}, {"": []}, {"scenes": -1}, {"scenes": math.nan},
]
CASES = [(cls, field.name) for cls in WHOLE for field in dataclasses.fields(cls)]


def test_every_parameter_class_is_here() -> None:
    def below(cls: type) -> set[type]:
        return {cls}.union(*(below(other) for other in cls.__subclasses__()))

    from pipeline.core.params import StrictParams
    from pipeline.methods.base import MethodParams

    ours = {cls for cls in below(StrictParams) if cls.__module__.startswith("pipeline")}
    assert ours - {StrictParams, MethodParams} <= set(WHOLE), "a parameter class that is not fuzzed"


@pytest.mark.parametrize(("cls", "key"), CASES, ids=lambda value: value if isinstance(value, str) else value.__name__)
def test_a_value_that_means_nothing_is_one_line_that_names_the_key(cls: type, key: str) -> None:
    for value in NONSENSE:
        made, message = outcome(cls, {**WHOLE[cls], key: value})
        assert made is not None or (key in message and "\n" not in message), message
        if (cls, key) in ((Setting, "captioning"), (System, "train"), (System, "caption"), (AnsweringParams, "decoding")):
            continue  # checked as the parameters of decoding and of the method, above
        for number in _numbers(getattr(made, key, None)):
            assert math.isfinite(number), f"{key} accepts {value!r}"
            assert abs(number) < 2**63


def outcome(cls: type, values: dict[str, Any]) -> tuple[Any, str]:
    """The parameters, or why there are none."""
    try:
        return check(cls, values, "here"), ""
    except UserError as error:
        return None, str(error)


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for inner in value.values() for number in _numbers(inner)]
    if isinstance(value, list | tuple):
        return [number for inner in value for number in _numbers(inner)]
    return [value] if isinstance(value, int | float) else []


@pytest.mark.parametrize("cls", WHOLE, ids=lambda cls: cls.__name__)
def test_a_missing_an_unknown_and_a_misspelt_key_are_one_line(cls: type, user_error) -> None:
    check(cls, WHOLE[cls], "here")
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            assert "is missing" in user_error(check, cls, {key: value for key, value in WHOLE[cls].items() if key != field.name}, "here")
    assert "surprise" in user_error(check, cls, {**WHOLE[cls], "surprise": 1}, "here")
    for field in dataclasses.fields(cls):
        if len(field.name) > 2:
            assert "did you mean" in user_error(check, cls, {**WHOLE[cls], f"{field.name}s_": 1}, "here")
