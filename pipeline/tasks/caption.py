"""Captioning: a sentence about a picture, scored against its references, and by a judge's CLIP against the picture itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core import paths
from pipeline.core.artefacts import again
from pipeline.core.errors import UserError
from pipeline.core.files import digest_file
from pipeline.core.tables import read_table
from pipeline.features.embedding import reference_source
from pipeline.features.encoders import Clip, load_clip
from pipeline.features.stores import half, read, unit
from pipeline.methods.base import Method
from pipeline.metrics import captions, clip, java
from pipeline.metrics.judge import EvaluationParams
from pipeline.needs.base import models_of
from pipeline.systems import Setting, System, clip_of, looked_at
from pipeline.tasks.base import Metric, Scored, Task

TASK = Task("image", (
    Metric("BLEU-1", meaning="Share of the caption's words that occur in a reference, with a penalty for short captions; 0 to 100."),
    Metric("BLEU-2"),
    Metric("BLEU-3"),
    Metric("BLEU-4", meaning="The same for runs of up to four words; 0 to 100."),
    Metric("METEOR", meaning="Words aligned with the closest reference, stems, synonyms and paraphrases included; 0 to 100."),
    Metric("ROUGE-L", meaning="Longest common word sequence of caption and reference; 0 to 100."),
    Metric("CIDEr", meaning="Agreement with the references in runs of up to four words, rare ones counting more (CIDEr-D × 100); in "
                            "brackets the 95 % bootstrap interval over images."),
    Metric("CLIPScore", 3, "2.5 times the cosine between caption and image in the judge's CLIP space; no references are used."),
    Metric("RefCLIPScore", 3, "Harmonic mean of CLIPScore and the caption's cosine with its nearest reference."),
    Metric("RefCompare", 3, "Share of an image's references that the judge finds less similar to the image than the caption; 0 to 1."),
), primary="CIDEr")


@dataclass(frozen=True)
class _Seen:
    """What the judge sees of a test split: unit features of images (N, D) and of references, padded (N, R, D), and a mask (N, R)."""

    images: NDArray[np.float32]
    references: NDArray[np.float32]
    mask: NDArray[np.bool_]


class Scorer:
    """Scores captions. The judge is loaded when it is first asked, and settings that share a test split share what it sees of it."""

    def __init__(self, wanted: EvaluationParams, params: dict[str, Any], device: torch.device) -> None:
        self.wanted, self.params, self.device = wanted, params, device
        self._seen: dict[tuple[str, str], _Seen] = {}

    @cached_property
    def judge(self) -> Clip:
        """The CLIP that no system may use."""
        return load_clip(self.wanted.judge, self.params, self.device)

    def score(self, name: str, setting: Setting, answers: Mapping[str, str]) -> Scored:
        """Every metric of captions by image id. `UserError` when captions, references and what the judge sees do not belong together.

        Document frequencies are those of the whole split, also in the intervals.
        """
        references, rows = read_references(setting)
        tokenized = captions.tokenize_pair(answers, references)
        tokenized.begin_meteor()  # it goes on while the judge is loaded and reads
        judged = self._judge([answers[image_id] for image_id in references], setting, rows)
        found = captions.score_tokenized(tokenized)
        values = {**found.per_image, TASK.control: captions.shuffled_cider(tokenized, self.wanted.seed), **judged}
        about = {"images": len(references), "references": sum(map(len, references.values())), "empty_captions": found.empty}
        return Scored(TASK.scores(name, found.corpus, values, self.wanted), list(references),
                      {metric: value.tolist() for metric, value in values.items()}, about)

    def _judge(self, texts: list[str], setting: Setting, rows: dict[str, list[int]]) -> dict[str, NDArray[np.float64]]:
        """CLIPScore and RefCLIPScore (in 0..2.5) and RefCompare (share, 0..1) per image."""
        where = setting.test, setting.split
        seen = self._seen[where] = self._seen.get(where) or self._look(setting, rows)
        caption_ND = unit(half(self.judge.encode_texts([self.wanted.prompt + text for text in texts])))
        clip_score = clip.clip_score(seen.images, caption_ND)
        return {"CLIPScore": clip_score, "RefCLIPScore": clip.ref_clip_score(clip_score, caption_ND, seen.references, seen.mask),
                "RefCompare": clip.ref_compare(seen.images, caption_ND, seen.references, seen.mask)}

    def _look(self, setting: Setting, rows_of: dict[str, list[int]]) -> _Seen:
        table, judge = paths.image_table(setting.test), self.wanted.judge
        store = read(paths.image_features(judge, setting.test)).require(self.judge.digest, digest_file(table))
        images = read_table(table, ["image_id", "split"])
        rows = {image_id: row for row, (image_id, split) in enumerate(zip(images["image_id"], images["split"], strict=True))
                if split == setting.split}
        if rows.keys() != rows_of.keys():
            raise UserError(f"{paths.corpus(setting.test)}: images and references of split {setting.split!r} differ: "
                            f"{again(paths.corpus(setting.test))}")
        texts = read(paths.reference_features(judge, setting.test)).require(self.judge.digest,
                                                                            reference_source(setting.test, self.wanted.prompt))
        return _Seen(unit(store.features[[rows[image_id] for image_id in rows_of]]),
                     *clip.pad_references([unit(texts.features[its]) for its in rows_of.values()]))


def read_references(setting: Setting) -> tuple[dict[str, list[str]], dict[str, list[int]]]:
    """The references of a setting's test split by image, and their rows in the table."""
    table = read_table(paths.references_table(setting.test), ["image_id", "text", "split"])
    references: dict[str, list[str]] = {}
    rows: dict[str, list[int]] = {}
    for row, (image_id, text, split) in enumerate(zip(table["image_id"], table["text"], table["split"], strict=True)):
        if split == setting.split:
            references.setdefault(image_id, []).append(text)
            rows.setdefault(image_id, []).append(row)
    return references, rows


def require_another(judge: str, judge_digest: str, system: System, method: Method, setting: Setting) -> None:
    """`UserError` if a system looked at a setting's pictures, or looked sentences up, with the judge, whatever its name."""
    for models in (models_of(looked_at(method, setting), system.clip, setting.test),
                   models_of(method.looks_up, clip_of(system.looks_up), setting.support)):
        for model, digest in models.digests.items():
            if digest == judge_digest:
                raise UserError(f"params.yaml: the judge {judge} has the weights of {model.partition(' ')[2]}, the CLIP of the system "
                                "that it would score: name another in evaluation.judge")


def protocol(wanted: EvaluationParams) -> dict[str, str]:
    """How captions are scored, by what is said of it."""
    return {"tokenizer": captions.TOKENIZER, "judge": wanted.judge, "judge_dtype": "float16 unit rows, float32 products",
            "judge_prompt": wanted.prompt, "java": java.version_text()}
