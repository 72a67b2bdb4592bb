"""Questions about pictures: answered by a system that was trained to caption alone; as controls, without a picture and with another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .answers import WAYS, AnsweringParams, answering_of, asked_about, write_answers
from .captioning import Captioner, decoding_of
from .core import paths
from .core.code import code_digest
from .core.errors import UserError
from .core.files import digest_file, digest_of
from .core.params import check
from .core.resume import Ledger, kept_ledgers
from .core.tables import read_table
from .language.decoding import Decoding
from .needs.base import models_of, read
from .systems import Setting, System, looked_at

_SHIFT_SEED = 0  # of which other picture a question is asked about


def answering_decoding(name: str, found: AnsweringParams, setting: Setting, params: dict[str, Any]) -> Decoding:
    """`captioning` with the values for answers, and the setting's own."""
    check(Decoding, found.decoding, f"answering.{name}.decoding")
    return decoding_of(replace(setting, captioning={**found.decoding, **setting.captioning}), params)


def answer_settings(name: str, system: System, params: dict[str, Any], captioner: Captioner) -> None:
    """Write `data/answers/<system>/<setting><way>.json` for every setting and way.

    Each setting has a ledger of its batches, which are kept as those of captions are.
    """
    wanted = answering_of(name, system, params)
    with kept_ledgers(paths.answers(name)) as ledgers:
        for setting_name, setting in wanted.settings.items():
            decoding, about = answering_decoding(name, wanted, setting, params), asked_about(setting.test)
            table = paths.questions_table(setting.test)
            ledger = ledgers.open(digest_of([captioner.fingerprint(replace(setting, test=about), decoding), digest_file(table),
                                             code_digest(__name__)])[:16])
            for way, answers in answer_setting(captioner, setting, about, decoding, ledger, f"{name}, {setting_name}").items():
                write_answers(ledgers.folder / f"{setting_name}{way}.json", answers)


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
