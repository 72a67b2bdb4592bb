"""Captioning: a sentence about a picture, scored against its references, and by a judge's CLIP against the picture itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core import paths
from ..core.artefacts import again, whole
from ..core.errors import UserError
from ..core.files import digest_file, read_object
from ..core.params import section
from ..core.tables import read_table
from ..features.embedding import reference_source
from ..features.encoders import Clip, load_clip
from ..features.stores import half, read, unit
from ..language.perplexity import LanguageModel
from ..methods.base import Method
from ..metrics import captions, chair, clip, java, motion
from ..metrics.constant import best_constant
from ..metrics.judge import EvaluationParams
from ..needs.base import models_of
from ..systems import Setting, System, clip_of, looked_at
from .base import Control, Metric, Scored, Task

TASK = Task("image", (
    Metric("BLEU-1", meaning="Share of the caption's words that occur in a reference, with a penalty for short captions."),
    Metric("BLEU-2"),
    Metric("BLEU-3"),
    Metric("BLEU-4", meaning="The same for runs of up to four words."),
    Metric("METEOR", meaning="Words aligned with the closest reference, stems, synonyms and paraphrases included."),
    Metric("ROUGE-L", meaning="Longest common word sequence of caption and reference."),
    Metric("CIDEr", scale="× 100", interval=True,
           meaning="Agreement with the references in runs of up to four words, rare ones counting more (CIDEr-D)."),
    Metric("CLIPScore", 3, "0 to 2.5", meaning="2.5 times the cosine between caption and image in the judge's CLIP space; no references."),
    Metric("RefCLIPScore", 3, "0 to 2.5", meaning="Harmonic mean of CLIPScore and the caption's cosine with its nearest reference."),
    Metric("RefCompare", 3, "0 to 1", interval=True,
           meaning="Share of an image's references that the judge finds less similar to the image than the caption."),
    Metric("OwnCLIPScore", 3, "0 to 2.5", meaning="CLIPScore by the CLIP that the system itself looks with: where it rises and CLIPScore "
                                                  "does not, captions please that model alone."),
    Metric("Perplexity", 2, "1 and up", higher_is_better=False,
           meaning="Of captions under a language model of sentences about pictures: how little they read like one."),
    Metric("CHAIRs", 3, "0 to 1", higher_is_better=False, interval=True,
           meaning="Share of captions that name a thing which the image does not show."),
    Metric("CHAIRi", 3, "0 to 1", higher_is_better=False, meaning="Share of such things among all that captions name."),
    Metric("ObjectRecall", 3, "0 to 1", meaning="Share of the objects in the images that captions name."),
    Metric("ColourAccuracy", 3, "0 to 1", meaning="Share of the named colours that are right, of things that are there."),
    Metric("Correct", 3, "0 to 1", interval=True,
           meaning="Share of captions that are right in all things, numbers and colours that they name."),
    Metric("MotionAccuracy", 3, "0 to 1", meaning="Of films: share of the named motions that are right, of things that are there."),
    Metric("MotionCorrect", 3, "0 to 1", interval=True,
           meaning="Of films: share of captions that name a motion and are right in all motions that they name."),
), primary="CIDEr", compared_with=(
    Control("shuffled", "the same answers, each given to another image"),
    Control("constant", "the one sentence that is best for every image of the validation split, out of what the system learnt from and "
                        "what it looks up"),
), plotted=("BLEU-4", "RefCompare"))


@dataclass(frozen=True)
class _Seen:
    """What the judge sees of a test split: unit features of images (N, D) and of references, padded (N, R, D), and a mask (N, R)."""

    images: NDArray[np.float32]
    references: NDArray[np.float32]
    mask: NDArray[np.bool_]


class Scorer:
    """Scores captions. The judge is loaded when it is first asked; settings share what it sees of a test split, and constant sentences."""

    def __init__(self, wanted: EvaluationParams, params: dict[str, Any], device: torch.device) -> None:
        self.wanted, self.params, self.device = wanted, params, device
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._constants: dict[tuple[str, str], tuple[str, float] | None] = {}
        self._clips: dict[str, Clip] = {}

    @cached_property
    def judge(self) -> Clip:
        """The CLIP that no system may use."""
        return self._clip(self.wanted.judge)

    @cached_property
    def language_model(self) -> LanguageModel | None:
        """What captions have their perplexity under."""
        return LanguageModel(paths.foundation(self.wanted.language_model), self.device) if self.wanted.language_model else None

    def _clip(self, name: str) -> Clip:
        if name not in self._clips:
            self._clips[name] = load_clip(name, self.params, self.device)
        return self._clips[name]

    def score(self, name: str, setting: Setting, answers: Mapping[str, str], corpora: Sequence[str], own: str) -> Scored:
        """Every metric of captions by image id. own: the system's CLIP. `UserError` when captions, references and what the judge sees do
        not belong together.

        Document frequencies are those of the whole split, also in the intervals. What a data set has no record for is left out: CHAIR and
        its kin where nothing says what the images show, the constant control without a validation split, what the system's CLIP sees where
        that has not embedded whole pictures.
        """
        references, rows = read_references(setting)
        tokenized = captions.tokenize_pair(answers, references)
        tokenized.begin_meteor()  # it goes on while the judge is loaded and reads
        judged = self._judge([answers[image_id] for image_id in references], setting, rows)
        own_score = self._own([answers[image_id] for image_id in references], setting, rows, own)
        truth = _truth(setting.test, tokenized)
        constant = max(filter(None, (self._constant(setting.test, corpus) for corpus in corpora)), key=lambda found: found[1],
                       default=None)
        found = captions.score_tokenized(tokenized)
        values = {**found.per_image, TASK.controls[0]: captions.shuffled_cider(tokenized, self.wanted.seed), **judged, **own_score,
                  **(truth.per_image if truth else {})}
        about: dict[str, Any] = {"images": len(references), "references": sum(map(len, references.values())), "empty_captions": found.empty}
        if constant:
            text = captions.tokenize({"": [constant[0]]})[""]
            values[TASK.controls[1]] = captions.cider_per_image(dict.fromkeys(references, text), tokenized.references)
            about["constant"] = constant[0]
        pooled = found.corpus | (truth.corpus if truth else {})
        if self.language_model:
            pooled["Perplexity"] = self.language_model.perplexity([answers[image_id] for image_id in references])
            about["reference_perplexity"] = round(self.language_model.perplexity([texts[0] for texts in references.values()]), 4)
        return Scored(TASK.scores(name, pooled, values, self.wanted), list(references),
                      {metric: value.tolist() for metric, value in values.items()}, about)

    def _constant(self, dataset: str, corpus: str) -> tuple[str, float] | None:
        """The sentence of a corpus that is best for the data set's validation split, and its CIDEr there; None where there is no split or
        no corpus."""
        if (dataset, corpus) not in self._constants:
            references, _ = read_references(Setting(dataset, corpus, "val"))
            texts = read_table(paths.corpus_table(corpus), ["text"])["text"]
            self._constants[dataset, corpus] = best_constant(
                texts, list(captions.tokenize(references).values()),
                lambda found: captions.tokenize({"": found})[""]) if texts and len(references) > 1 else None
        return self._constants[dataset, corpus]

    def _judge(self, texts: list[str], setting: Setting, rows: dict[str, list[int]]) -> dict[str, NDArray[np.float64]]:
        """CLIPScore and RefCLIPScore (in 0..2.5) and RefCompare (share, 0..1) per image."""
        where = setting.test, setting.split
        seen = self._seen[where] = self._seen.get(where) or self._look(setting, rows)
        caption_ND = unit(half(self.judge.encode_texts([self.wanted.prompt + text for text in texts])))
        clip_score = clip.clip_score(seen.images, caption_ND)
        return {"CLIPScore": clip_score, "RefCLIPScore": clip.ref_clip_score(clip_score, caption_ND, seen.references, seen.mask),
                "RefCompare": clip.ref_compare(seen.images, caption_ND, seen.references, seen.mask)}

    def _own(self, texts: list[str], setting: Setting, rows: dict[str, list[int]], own: str) -> dict[str, NDArray[np.float64]]:
        """OwnCLIPScore (0..2.5) per image."""
        if not paths.image_features(own, setting.test).exists():
            return {}
        model = self._clip(own)
        caption_ND = unit(half(model.encode_texts(texts)))
        return {"OwnCLIPScore": clip.clip_score(_images(model, setting, rows), caption_ND)}

    def _look(self, setting: Setting, rows_of: dict[str, list[int]]) -> _Seen:
        texts = read(paths.reference_features(self.wanted.judge, setting.test)).require(
            self.judge.digest, reference_source(setting.test, self.wanted.prompt))
        return _Seen(_images(self.judge, setting, rows_of), *clip.pad_references([unit(texts.features[its]) for its in rows_of.values()]))


def _images(model: Clip, setting: Setting, image_ids: Iterable[str]) -> NDArray[np.float32]:
    """(N, D) unit features of a setting's images, as a CLIP sees them."""
    table, name = paths.image_table(setting.test), model.folder.name
    store = read(paths.image_features(name, setting.test)).require(model.digest, digest_file(table))
    images = read_table(table, ["image_id", "split"])
    rows = {image_id: row for row, (image_id, split) in enumerate(zip(images["image_id"], images["split"], strict=True))
            if split == setting.split}
    if rows.keys() != set(image_ids):
        raise UserError(f"{paths.corpus(setting.test)}: images and references of split {setting.split!r} differ: "
                        f"{again(paths.corpus(setting.test))}")
    return unit(store.features[[rows[image_id] for image_id in image_ids]])


def scored_with(setting: Setting, corpora: Sequence[str], own: str, params: dict[str, Any]) -> list[Path]:
    """What decides the scores, beside captions and what the judge sees, of a system which knows these corpora and has this CLIP."""
    wanted = section(EvaluationParams, params, "evaluation")
    there = [paths.objects_table(setting.test), paths.vocabulary(setting.test), paths.image_features(own, setting.test)]
    models = [paths.foundation(name) for name in (own, wanted.language_model) if name]
    return [paths.references_table(setting.test), *map(paths.corpus_table, corpora), *models, *(path for path in there if path.exists())]


def _truth(dataset: str, tokenized: captions.Tokenized) -> chair.Truth | None:
    """What captions get right, where the data set has a record of what its images show."""
    if not paths.vocabulary(dataset).exists():
        return None
    record = read_object(whole(paths.vocabulary(dataset)))
    vocabulary = chair.Vocabulary.of(record)
    texts = [tokenized.hypotheses[image_id][0] for image_id in tokenized.references]
    found = chair.chair(texts, shown_in(dataset, tokenized.references, vocabulary), vocabulary)
    if "motions" not in record:
        return found
    moves = read_table(paths.objects_table(dataset), ["image_id", "object", "motions"])
    done: dict[str, list[motion.Doing]] = {image_id: [] for image_id in tokenized.references}
    for image_id, name, its in zip(*moves.values(), strict=True):
        if image_id in done:
            done[image_id].append((name, frozenset(its)))
    moved = motion.motions(texts, list(done.values()), motion.MotionWords(record["motions"], vocabulary))
    return chair.Truth(found.corpus | moved.corpus, found.per_image | moved.per_image)


def shown_in(dataset: str, references: Mapping[str, Sequence[str]], vocabulary: chair.Vocabulary) -> list[chair.Shown]:
    """What images show, by the data set's record and by their tokenized references, in the order of these."""
    table = read_table(paths.objects_table(dataset), ["image_id", "object", "colour", "crowd"])
    things: dict[str, list[tuple[str, str | None]]] = {image_id: [] for image_id in references}
    crowds: dict[str, set[str]] = {image_id: set() for image_id in references}
    for image_id, name, colour, crowd in zip(*table.values(), strict=True):
        if image_id in things and crowd:
            crowds[image_id].add(name)
        elif image_id in things:
            things[image_id].append((name, colour))
    return [chair.with_references(chair.Shown(tuple(things[image_id]), frozenset(crowds[image_id])), texts, vocabulary)
            for image_id, texts in references.items()]


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
