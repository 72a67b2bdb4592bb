"""BLEU, METEOR, ROUGE-L and CIDEr of captions, by the protocol of coco-caption (Chen et al. 2015, arXiv:1504.00325).

BLEU and ROUGE-L are pycocoevalcap's classes, CIDEr (the variant CIDEr-D) is its arithmetic in `cider.py`. METEOR 1.5 and the PTB
tokenizer are its two jars, driven from here: its own drivers hang at exit after any failure, ignore Java's exit code, and write into the
installed package.
All scores are times 100. A tokenized caption is one string, its tokens divided by single spaces. Failures raise `UserError`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path

import numpy as np
import pycocoevalcap
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS, STANFORD_CORENLP_3_4_1_JAR

from ..core.errors import UserError
from . import java
from .cider import cider_d

PLAIN_TOKENIZER = "PTBTokenizer of stanford-corenlp-3.4.1, lower case, without pycocoevalcap's list of punctuation"
TOKENIZER = f"{PLAIN_TOKENIZER}; models' markers such as <|endoftext|> are taken out before"

_PACKAGE = Path(next(iter(pycocoevalcap.__path__)))
_PUNCTUATION = frozenset(PUNCTUATIONS)
# Control characters, Java's and Unicode's line separators, and half surrogate pairs, which have no UTF-8 form.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# What language models and CLIP's tokenizers print for their markers. <unk> stays: it stands for a word that the captioner said.
_MARKER = re.compile(r"</?s>|<(?:pad|bos|eos|start_of_text|end_of_text)>|<\|[a-z_]+\|>|\[(?:cls|sep|pad|bos|eos)\]", re.I)
_FIELD_SEPARATOR = re.compile(r"\|{3,}")  # METEOR's, which would turn one reference into two
_METEOR_STATISTICS = 23


@dataclass(frozen=True)
class Tokenized:
    """Captions and references after the tokenizer, both in one order of image ids: one hypothesis, one or more references."""

    hypotheses: dict[str, list[str]]
    references: dict[str, list[str]]

    def begin_meteor(self) -> Future[tuple[float, np.ndarray]]:
        """METEOR's scores, as `_meteor` gives them, computed beside whatever follows; asked for again, the same ones."""
        return self._meteor

    @cached_property
    def _meteor(self) -> Future[tuple[float, np.ndarray]]:
        thread = ThreadPoolExecutor(1)
        try:
            return thread.submit(_meteor, self)
        finally:
            thread.shutdown(wait=False)  # it ends with its work


@dataclass(frozen=True)
class CaptionScores:
    """Scores times 100.

    corpus: BLEU-1 to BLEU-4, METEOR, ROUGE-L, CIDEr. BLEU and METEOR pool their counts over the corpus: no means over images.
    per_image: METEOR, ROUGE-L, CIDEr and sentence BLEU-4, each (N,) in the order of image_ids.
    empty: captions without a word; they count in every score.
    """

    corpus: dict[str, float]
    per_image: dict[str, np.ndarray]
    image_ids: tuple[str, ...]
    empty: int


def score(hypotheses: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> CaptionScores:
    """Score one caption per image id against that image's references; image_ids follow the order of `references`.

    Raises `UserError` when ids are not strings or differ between the sides, a caption is not one string, references are missing,
    or one of them holds no word.
    """
    return score_tokenized(tokenize_pair(hypotheses, references))


def tokenize_pair(hypotheses: Mapping[str, str], references: Mapping[str, Sequence[str]], markers: bool = False) -> Tokenized:
    """Check both sides as `score` describes and tokenize them, for `score_tokenized` and `shuffled_cider` to share.

    markers: whether models' markers stay, as the words that the tokenizer makes of them.
    """
    _check(hypotheses, references)
    tokenized = tokenize(references, markers)
    for image_id, captions in tokenized.items():
        if "" in captions:
            which = captions.index("") + 1
            raise UserError(f"reference {which} of image {image_id!r} holds no word: correct it or take it out of the references")
    return Tokenized(tokenize({image_id: [hypotheses[image_id]] for image_id in references}, markers), tokenized)


def score_tokenized(captions: Tokenized) -> CaptionScores:
    """All scores of captions that are tokenized already. METEOR's process works while this one computes the others."""
    started = captions.begin_meteor()
    bleu, bleu_per_image = Bleu(4).compute_score(captions.references, captions.hypotheses, verbose=0)
    rouge_per_image = Rouge().compute_score(captions.references, captions.hypotheses)[1]
    cider = cider_per_image(captions.hypotheses, captions.references)
    meteor, meteor_per_image = started.result()
    corpus = {f"BLEU-{n}": 100 * float(value) for n, value in enumerate(bleu, start=1)}
    corpus |= {"METEOR": 100 * meteor, "ROUGE-L": 100 * float(np.mean(rouge_per_image)), "CIDEr": float(np.mean(cider))}
    per_image = {
        "BLEU-4": 100 * np.array(bleu_per_image[3]),
        "METEOR": 100 * meteor_per_image,
        "ROUGE-L": 100 * rouge_per_image,
        "CIDEr": cider,
    }
    empty = sum(caption == "" for (caption,) in captions.hypotheses.values())
    return CaptionScores(corpus, per_image, tuple(captions.references), empty)


def cider_per_image(hypotheses: Mapping[str, Sequence[str]], references: Mapping[str, Sequence[str]]) -> np.ndarray:
    """CIDEr-D times 100 of tokenized captions: (N,), in the order of `references`; `hypotheses` holds one caption for each id.

    Document frequencies come from `references` alone: score a whole split at once, never in parts. One image alone scores 0.
    """
    return 100 * cider_d([hypotheses[image_id][0] for image_id in references], list(references.values()))


def shuffled_cider(captions: Tokenized, seed: int) -> np.ndarray:
    """CIDEr-D times 100 of the same captions, each given to another image: (N,).

    This is what of a system's score does not come from looking at the picture in question.
    """
    image_ids = list(captions.references)
    donors = derangement(len(image_ids), seed)
    shuffled = {image_id: captions.hypotheses[image_ids[donor]] for image_id, donor in zip(image_ids, donors, strict=True)}
    return cider_per_image(shuffled, captions.references)


def derangement(count: int, seed: int) -> np.ndarray:
    """A random permutation (count,) int64 that leaves nothing in its place: one cycle through all. `UserError` below 2."""
    if count < 2:
        raise UserError(f"cannot shuffle captions over {count} image(s): at least 2 are needed")
    cycle = np.random.default_rng(seed).permutation(count)
    successors = np.empty_like(cycle)
    successors[cycle] = np.roll(cycle, -1)
    return successors


def tokenize(captions: Mapping[str, Sequence[str]], markers: bool = False) -> dict[str, list[str]]:
    """Tokenized captions of each id, in the given order, by one Java run. Repeating a recent call costs nothing."""
    lines = iter(_tokenize_lines(tuple(clean(caption, markers) for group in captions.values() for caption in group)))
    return {image_id: [next(lines) for _ in group] for image_id, group in captions.items()}


def clean(caption: str, markers: bool = False) -> str:
    """The caption on one line, without what the jars take for structure and, unless they are to stay, models' markers.

    Markers, in upper or lower case: `<s>`, `</s>`, `<pad>`, `<bos>`, `<eos>`, `<start_of_text>`, `<end_of_text>`, letters and underscores
    between `<|` and `|>` (`<|endoftext|>`), `[CLS]`, `[SEP]`, `[PAD]`, `[BOS]`, `[EOS]`. References are cleaned likewise.
    """
    for pattern in (_UNSAFE, _FIELD_SEPARATOR) if markers else (_UNSAFE, _MARKER, _FIELD_SEPARATOR):
        caption = pattern.sub(" ", caption)
    return " ".join(caption.split())


# The key is the whole ordered set: the tokenizer looks past the end of a line, so a caption's neighbours may change its tokens.
@lru_cache(maxsize=4)
def _tokenize_lines(captions: tuple[str, ...]) -> tuple[str, ...]:
    jar = str(_PACKAGE / "tokenizer" / STANFORD_CORENLP_3_4_1_JAR)
    arguments = ["-cp", jar, "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    # A loaded laptop needs a hundredth of this time.
    output = java.run("the PTB tokenizer", arguments, "".join(caption + "\n" for caption in captions), 60 + 0.02 * len(captions))
    lines = output.split("\n")[:-1]
    if len(lines) != len(captions):
        found = f"{len(lines)} lines for {len(captions)} captions"
        raise UserError(f"the PTB tokenizer gave {found}: check Java with `unpaired doctor`")
    return tuple(" ".join(token for token in line.rstrip().split(" ") if token not in _PUNCTUATION) for line in lines)


def _meteor(captions: Tokenized) -> tuple[float, np.ndarray]:
    """METEOR 1.5 of the corpus and per image (N,), in 0..1: one SCORE line per image, then one EVAL line with all statistics."""
    server = start_meteor()
    with server.conversation(180 + 0.1 * len(captions.references)):
        statistics = []
        for image_id, references in captions.references.items():
            server.send(" ||| ".join(("SCORE", *references, *captions.hypotheses[image_id])))
            answer = server.receive()
            if len(_numbers(answer)) != _METEOR_STATISTICS:
                raise UserError(f"METEOR answered {answer!r:.100} for image {image_id!r}: check that, and `unpaired doctor`")
            statistics.append(answer)
        server.send(" ||| ".join(("EVAL", *statistics)))
        answers = [_numbers(server.receive()) for _ in range(len(statistics) + 1)]
    if any(len(answer) != 1 for answer in answers):
        raise UserError("METEOR's answers are not numbers: check Java with `unpaired doctor`")
    *per_image, corpus = np.array(answers)[:, 0]
    return float(corpus), np.array(per_image)


def start_meteor() -> java.LineServer:
    """METEOR's Java process, a new one if the last one ended. It takes 8 s to get ready: whoever needs it starts it early."""
    if _meteor_server().closed:
        _meteor_server.cache_clear()
    return _meteor_server()


@cache
def _meteor_server() -> java.LineServer:
    """One process, of 1 GB, per Python process, kept until that exits."""
    jar = str(_PACKAGE / "meteor" / "meteor-1.5.jar")
    arguments = ["-Xmx2G", "-XX:+UseParallelGC", "-jar", jar, "-", "-", "-stdio", "-l", "en", "-norm"]
    return java.LineServer("METEOR", [java.executable(), *java.FLAGS, *arguments])


def _numbers(line: str) -> list[float]:
    """The numbers of a line; none when any word is not a number."""
    try:
        return [float(word) for word in line.split()]
    except ValueError:
        return []


def _check(hypotheses: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> None:
    for side, ids in (("captions", hypotheses), ("references", references)):
        for image_id in ids:
            if not isinstance(image_id, str):
                found = type(image_id).__name__
                raise UserError(f"image id {image_id!r} of the {side} is {found}, not str: use str(id) on both sides")
    if not references:
        raise UserError("there are no references to score against: give at least one image")
    if missing := [image_id for image_id in references if image_id not in hypotheses]:
        raise UserError(f"image {missing[0]!r} has no caption ({len(missing)} such images): caption every image of the split")
    if unknown := [image_id for image_id in hypotheses if image_id not in references]:
        raise UserError(f"image {unknown[0]!r} has a caption but no references ({len(unknown)} such images): score one split")
    for image_id, captions in references.items():
        if isinstance(captions, str) or not captions or not all(isinstance(caption, str) for caption in captions):
            raise UserError(f"image {image_id!r} has {captions!r} as references: give a list of at least one sentence")
    for image_id, caption in hypotheses.items():
        if not isinstance(caption, str):
            raise UserError(f"image {image_id!r} has {type(caption).__name__} as caption: give exactly one sentence per image")
