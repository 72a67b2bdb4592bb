"""The micro-world's language model: GPT-2 on the foundation pool's sentences, questions and answers, trained through transformers.

What it reads are texts about one scene after another, each with a start and an end token, as on a page that says several things of one
matter: so it learns that what stands before a text, be it a prefix, tells of what is in it.

Legend: N scenes, T tokens.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils import logging as transformers_logging

from ..core import paths
from ..core.files import digest_file, digest_of, locked, write_json
from ..core.paths import MERGES_FILE
from ..core.progress import track
from ..core.resume import finished_folder
from ..core.workers import workers
from ..language.causal import pretrained
from ..language.condition import question_prompt
from ..language.decoders import pad
from ..language.decoding import Decoding, Steps, greedy, sample
from ..language.tokens import IGNORE, CaptionTokenizer, LanguageModelTokens
from ..optimisation import Schedule
from ..world.captions import describe
from ..world.questions import Question, ask, question_stream
from ..world.scenes import generator, sample_scene
from .diffusion import tokenizer_of
from .loop import optimise
from .pool import FIRST_STYLES

_SENTENCES, _QUESTIONS = 6, 4  # of a scene, at most
_BLOCK = 1000
_HELDOUT = 500  # scenes of each style
_SAMPLES = 8
_ROOM = 48  # tokens of a text, or of a question with its answer


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights. context: tokens of a scene's texts that are read."""

    seed: int = 4
    scenes: int = 150_000
    layers: int = 6
    heads: int = 6
    width: int = 192
    context: int = 128
    steps: int = 3_100
    batch: int = 48
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 100


def texts_of(style: str, pool: str, seed: int, index: int) -> tuple[list[str], list[Question]]:
    """A scene's sentences and questions."""
    rng = generator(style, pool, seed, index)
    scene = sample_scene(style, rng)
    return describe(scene, rng, _SENTENCES), ask(scene, question_stream(style, pool, seed, index), _QUESTIONS)


def page(sentences: Sequence[str], questions: Sequence[Question], rng: np.random.Generator) -> list[str]:
    """A scene's texts; each question somewhere among them, by itself or, nearly half of them, behind a sentence in the same text."""
    texts = list(sentences)
    for question in questions:
        place = int(rng.integers(len(texts) + 1))
        asked = f"{question_prompt(question.text)} {question.answer}"
        if place == 0 or rng.random() < 0.5:
            texts.insert(place, asked)
        else:
            texts[place - 1] += f" {asked}"
    return texts


def read_pages(seed: int, start: int, stop: int) -> list[list[str]]:
    """Of foundation scenes `start` to `stop`, the styles taking turns."""
    found = []
    for index in range(start, stop):
        rng = np.random.default_rng([seed, 11, index])
        found.append(page(*texts_of(FIRST_STYLES[index % len(FIRST_STYLES)], "foundation", seed, index), rng))
    return found


def train(recipe: Recipe, out: Path, snapshot_every: int = 200) -> None:
    """Train it into folder `out`, in transformers' layout; an interrupted run goes on from its last snapshot, in `<out>.work`."""
    clip, work = paths.foundation("micro"), out.with_name(out.name + ".work")
    with locked(work):
        work.mkdir(parents=True, exist_ok=True)
        tokenizer_of(clip, recipe.context).save_pretrained(work / "tokenizer")
        tokens = LanguageModelTokens(str(work / "tokenizer"))
        ids_NT = _tokens(recipe, tokens)
        torch.manual_seed(recipe.seed)
        model: Any = GPT2LMHeadModel(GPT2Config(
            vocab_size=tokens.size, n_positions=recipe.context, n_embd=recipe.width, n_layer=recipe.layers, n_head=recipe.heads,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=tokens.start, eos_token_id=tokens.end,
            activation_function="gelu_pytorch_tanh",
        ))

        def loss_of(step: int, rows: NDArray[np.int64]) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
                return _loss(model, ids_NT[torch.from_numpy(rows)].long())

        plan = Schedule(recipe.steps, recipe.batch, recipe.learning_rate, recipe.warmup, recipe.weight_decay, seed=recipe.seed)
        _, losses = optimise("train lm", model.train(), loss_of, plan, recipe.scenes, work / "snapshot.pt", digest_of(asdict(recipe)),
                             snapshot_every, betas=(0.9, 0.98))
        with finished_folder(out) as folder:
            transformers_logging.disable_progress_bar()
            model.half().save_pretrained(folder)
            tokenizer_of(clip, recipe.context).save_pretrained(folder)
            write_json(folder / "provenance.json", {
                "command": "unpaired foundation lm", "recipe": asdict(recipe), "losses": losses,
                "parameters": sum(p.numel() for p in model.parameters()), "vocabulary_sha256": digest_file(clip / MERGES_FILE),
                "versions": {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__},
            })
    shutil.rmtree(work)


def _tokens(recipe: Recipe, tokenizer: CaptionTokenizer) -> Tensor:
    """(N, T) int16 token ids of each scene's texts, cut to the context and filled with `IGNORE`."""
    starts = range(0, recipe.scenes, _BLOCK)
    stops = [min(start + _BLOCK, recipe.scenes) for start in starts]
    ids_NT = torch.full((recipe.scenes, recipe.context), IGNORE, dtype=torch.int16)
    known: dict[str, list[int]] = {}  # words, which are few
    with workers() as executor:
        blocks = executor.map(read_pages, [recipe.seed] * len(stops), starts, stops)
        for start, block in zip(starts, track(blocks, "read scenes", recipe.scenes, "scenes", size=_BLOCK), strict=True):
            for row, texts in enumerate(block, start):
                ids = list(chain.from_iterable(_encode(tokenizer, text, known) for text in texts))[: recipe.context]
                ids_NT[row, : len(ids)] = torch.tensor(ids, dtype=torch.int16)
    return ids_NT


def _encode(tokenizer: CaptionTokenizer, text: str, known: dict[str, list[int]]) -> list[int]:
    """A text's ids between start and end token; byte-pair merges never reach across a blank."""
    ids = [tokenizer.start]
    for word in text.split():
        if word not in known:
            known[word] = tokenizer.encode(word)
        ids += known[word]
    return [*ids, tokenizer.end]


def _loss(model: Any, ids_BT: Tensor) -> Tensor:
    """Mean cross-entropy of every token but the first."""
    logits_BTV = model(input_ids=ids_BT.clamp(min=0)[:, :-1]).logits
    return nn.functional.cross_entropy(logits_BTV.flatten(0, 1).float(), ids_BT[:, 1:].flatten(), ignore_index=IGNORE)


@torch.no_grad()
def measure(folder: Path) -> dict[str, Any]:
    """On 500 held-out scenes of each style, per token with the end token: perplexity of a sentence alone, and behind three others of its
    scene. Share of answers that are one of the ten people's, to questions behind five sentences and behind nothing; of sentences before
    others, those that there is room for. Samples, a text each."""
    transformers_logging.disable_progress_bar()
    lm, tokenizer = pretrained(str(folder)), LanguageModelTokens(str(folder))
    figures: dict[str, Any] = {}
    for style in FIRST_STYLES:
        scenes = [texts_of(style, "test", 91, index) for index in range(_HELDOUT)]
        ids = [[_encode(tokenizer, text, {}) for text in sentences] for sentences, _ in scenes]
        asked = [(row, question) for row, (_, questions) in enumerate(scenes) for question in questions]
        behind = [_first(ids[row][:5], lm.config.n_positions - _ROOM) for row, _ in asked]
        right = {name: _answers(lm, tokenizer, before, [question for _, question in asked])
                 for name, before in (("informed", behind), ("blind", [[]] * len(asked)))}
        figures[style] = {
            "perplexity": _perplexity(lm, [texts[3] for texts in ids], [[]] * len(ids)),
            "perplexity_informed": _perplexity(lm, [texts[3] for texts in ids], [_first(texts[:3], lm.config.n_positions - _ROOM)
                                                                                 for texts in ids]),
            **{f"answers_{name}": sum(found) / len(found) for name, found in right.items()},
        }
        figures[style] = {name: round(value, 4) for name, value in figures[style].items()}
    start = torch.full((1, 1), tokenizer.start)
    steps = Steps(lm, lm.get_input_embeddings()(start), torch.ones_like(start))
    found = sample(steps, Decoding(max_new_tokens=40), tokenizer.end, [0], _SAMPLES)[0]
    return {**figures, "samples": [tokenizer.decode(each) for each in found]}


def _first(texts: Sequence[list[int]], room: int) -> list[int]:
    """The first of these texts, as many as there is room for."""
    found: list[int] = []
    for text in texts:
        if len(found) + len(text) > room:
            break
        found += text
    return found


def _perplexity(lm: Any, texts: Sequence[list[int]], before: Sequence[list[int]]) -> float:
    """Of texts, each behind others."""
    total, count = 0.0, 0
    for start in range(0, len(texts), 100):
        pairs = list(zip(before[start : start + 100], texts[start : start + 100], strict=True))
        ids_BT = pad([[*others, *text] for others, text in pairs])
        targets_BT = pad([[*[IGNORE] * (len(others) + 1), *text[1:]] for others, text in pairs])  # a start token is given
        logits_BTV = lm(input_ids=ids_BT.clamp(min=0)[:, :-1]).logits
        total += float(nn.functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT[:, 1:].flatten(), ignore_index=IGNORE,
                                                   reduction="sum"))
        count += int((targets_BT != IGNORE).sum())
    return math.exp(total / count)


def _answers(lm: Any, tokenizer: CaptionTokenizer, before: Sequence[list[int]], questions: Sequence[Question]) -> list[bool]:
    """Whether the likeliest answer to each question, behind texts, is one that somebody gave."""
    found = []
    for others, question in zip(before, questions, strict=True):
        ids = torch.tensor([[*others, *_encode(tokenizer, question_prompt(question.text), {})[:-1]]])
        steps = Steps(lm, lm.get_input_embeddings()(ids), torch.ones_like(ids))
        answer, = greedy(steps, Decoding(beams=1, max_new_tokens=6), tokenizer.end)
        found.append(tokenizer.decode(answer) in question.answers)
    return found
