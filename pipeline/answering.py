"""Questions about pictures: answered by a system that was trained to caption alone, and, as controls, without a picture and with another.

Files hold VQA's results format, [{question_id, answer}], in the order of the questions' table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pipeline.captioning import Captioner, decoding_of
from pipeline.core import paths
from pipeline.core.artefacts import again, whole
from pipeline.core.code import code_digest
from pipeline.core.errors import UserError
from pipeline.core.files import digest_file, digest_of, read_json, write_json
from pipeline.core.params import StrictParams, check, entries, section, suggest
from pipeline.core.resume import Ledger, kept_ledgers
from pipeline.core.tables import read_table
from pipeline.language.decoding import Decoding
from pipeline.needs.base import models_of, read
from pipeline.systems import Setting, System, looked_at

WAYS = ("", ".blind", ".shuffled")
"""What comes behind a setting's name in a file: nothing for the system's own answers, and the controls."""
_SHIFT_SEED = 0  # of which other picture a question is asked about


@dataclass(frozen=True)
class AnsweringParams(StrictParams):
    """One entry of `answering`, by the name of its system.

    method, clip, looks_at, looks_up: the system's own; DVC makes dependencies of them. settings: what is answered: test names an entry of
    `questions`. decoding: values that differ from those of `captioning` (MacCap's released code: 5 beams, length penalty -1).
    """

    method: str
    clip: str
    looks_at: str
    looks_up: str
    settings: dict[str, Setting]
    decoding: dict[str, Any] = field(default_factory=dict)


def answering_of(name: str, system: System, params: dict[str, Any]) -> AnsweringParams:
    """How a system answers; `UserError` where nothing says so, or its method, CLIP or features are not the system's."""
    known = entries(params, "answering")
    if name not in known:
        raise UserError(f"params.yaml: answering has no {name!r}{suggest(name, known)}")
    found = section(AnsweringParams, params, f"answering.{name}")
    for key in ("method", "clip", "looks_at", "looks_up"):
        if getattr(found, key) != getattr(system, key):
            raise UserError(f"params.yaml: answering.{name}.{key} is {getattr(found, key)!r}, and the system's {getattr(system, key)!r}: "
                            "make them equal")
    return found


def answering_decoding(found: AnsweringParams, setting: Setting, params: dict[str, Any]) -> Decoding:
    """`captioning` with the values for answers, and the setting's own."""
    check(Decoding, found.decoding, "answering: decoding")
    return decoding_of(replace(setting, captioning={**found.decoding, **setting.captioning}), params)


def answer_settings(name: str, system: System, params: dict[str, Any], captioner: Captioner) -> None:
    """Write `data/answers/<system>/<setting><way>.json` for every setting and way.

    Each setting has a ledger of its batches, which are kept as those of captions are.
    """
    wanted = answering_of(name, system, params)
    with kept_ledgers(paths.answers(name)) as ledgers:
        for setting_name, setting in wanted.settings.items():
            decoding, about = answering_decoding(wanted, setting, params), asked_about(setting.test)
            table = paths.questions_table(setting.test)
            ledger = ledgers.open(digest_of([captioner.fingerprint(replace(setting, test=about), decoding), digest_file(table),
                                             code_digest(__name__)])[:16])
            for way, answers in answer_setting(captioner, setting, about, decoding, ledger, f"{name}, {setting_name}").items():
                write_json(ledgers.folder / f"{setting_name}{way}.json",
                           [{"question_id": int(i) if i.isdecimal() else i, "answer": text} for i, text in answers.items()])


def asked_about(questions: str) -> str:
    """The data set whose pictures a data set of questions is about; `UserError` if its pictures are others now."""
    folder = paths.corpus(questions)
    if not paths.questions_table(questions).exists():
        raise UserError(f"{folder} holds no questions: name an entry of `questions`, and run `dvc repro`")
    report = read_json(whole(folder / "report.json"))
    if report["images_digest"] != digest_file(paths.image_table(report["about"])):
        raise UserError(f"{folder} was made of other pictures than {paths.image_table(report['about'])}: {again(folder)}")
    return str(report["about"])


def answer_setting(captioner: Captioner, setting: Setting, about: str, decoding: Decoding, ledger: Ledger,
                   label: str) -> dict[str, dict[str, str]]:
    """Of each way, an answer to each question about a picture of the setting's split, by question id in the table's order."""
    asked = read_table(paths.questions_table(setting.test), ["question_id", "image_id", "text", "split"])
    chosen = [row for row, split in enumerate(asked["split"]) if split == setting.split]
    if not chosen:
        raise UserError(f"{paths.questions_table(setting.test)} has no question about a {setting.split} picture: correct `answering` in "
                        "params.yaml")
    ids, images, texts = ([asked[column][row] for row in chosen] for column in ("question_id", "image_id", "text"))
    row_of = {image_id: row for row, image_id in enumerate(read_table(paths.image_table(about), ["image_id"])["image_id"])}
    needs = looked_at(captioner.method, replace(setting, test=about))
    captioner.require(models_of(needs, captioner.system.clip, about))
    pictures, support = read(needs, captioner.system.clip, about), captioner.support(setting.support)
    other = another_picture(images)
    for start, stop in ledger.shards(len(ids), decoding.batch, label, "questions"):
        part = slice(start, stop)
        own, others = (pictures[[row_of[image_id] for image_id in its[part]]] for its in (images, [other[i] for i in images]))
        ledger.record(str(start), [captioner.answer(seen, support, texts[part], decoding, blind)
                                   for seen, blind in ((own, False), (own, True), (others, False))])
    batches = [ledger.done[str(start)] for start in range(0, len(ids), decoding.batch)]
    return {way: dict(zip(ids, [answer for batch in batches for answer in batch[number]], strict=True)) for number, way in enumerate(WAYS)}


def another_picture(images: Sequence[str]) -> dict[str, str]:
    """Of each picture another one, each once; a picture alone is its own."""
    distinct = list(dict.fromkeys(images))
    order = np.random.default_rng(_SHIFT_SEED).permutation(len(distinct)).tolist()
    return {distinct[one]: distinct[other] for one, other in zip(order, [*order[1:], *order[:1]], strict=True)}


def read_answers(system: str, setting: str, way: str = "") -> dict[str, str]:
    """A file of answers as question id -> answer; two answers to one question are a `UserError`."""
    file = paths.answers(system) / f"{setting}{way}.json"
    found = read_json(whole(file))
    answers = {str(entry["question_id"]): str(entry["answer"]) for entry in found}
    if len(answers) != len(found):
        raise UserError(f"{file} has two answers to one question: {again(paths.answers(system))}")
    return answers
