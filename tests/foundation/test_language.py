"""The shipped language model's training: what it reads, resumed to the same weights, and figures against naive twins."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.core import paths
from pipeline.core.code import ROOT
from pipeline.core.files import digest_file, digest_tree, read_json
from pipeline.foundation import language
from pipeline.foundation.language import Recipe, _encode, _perplexity, measure, page, texts_of, train
from pipeline.language.causal import pretrained, try_out
from pipeline.language.condition import question_prompt
from pipeline.language.tokens import ClipTokens, LanguageModelTokens
from pipeline.world.captions import describe
from pipeline.world.scenes import generator, sample_scene
from tests.interruption import Interrupted, interrupt_at

TINY = Recipe(seed=4, scenes=40, layers=1, heads=2, width=16, context=64, steps=6, batch=8, warmup=2)


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the shipped CLIP, whose byte pairs are spoken."""
    monkeypatch.chdir(tmp_path)
    paths.foundation("micro").parent.mkdir(parents=True)
    paths.foundation("micro").symlink_to(ROOT / "data/foundation/micro")


def test_an_interrupted_training_resumes_to_the_same_weights_and_leaves_no_scratch(monkeypatch) -> None:
    train(TINY, Path("whole"), snapshot_every=2)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        with pytest.raises(Interrupted):
            train(TINY, Path("resumed"), snapshot_every=2)
    assert not Path("resumed").exists()
    steps = interrupt_at(monkeypatch, None)
    train(TINY, Path("resumed"), snapshot_every=2)
    assert steps == [4, 5]
    assert digest_tree(Path("whole")) == digest_tree(Path("resumed"))
    assert sorted(path.name for path in Path().iterdir()) == ["data", "resumed", "whole"]


def test_it_is_a_language_model_that_systems_can_be_given_and_speaks_the_clips_tokens() -> None:
    train(TINY, Path("lm"))
    tokenizer, clip = LanguageModelTokens("lm"), ClipTokens.of(paths.foundation("micro"))
    try_out(pretrained("lm"), tokenizer)
    text = question_prompt("what colour is the dog?") + " red"
    assert tokenizer.encode(text) == clip.encode(text)
    assert tokenizer.decode(tokenizer.encode(text)) == "question : what colour is the dog ? short answer : red"
    assert (tokenizer.start, tokenizer.end, tokenizer.size) == (clip.start, clip.end, clip.size)
    provenance = read_json(Path("lm/provenance.json"))
    assert provenance["vocabulary_sha256"] == digest_file(paths.foundation("micro") / paths.MERGES_FILE)


def test_a_page_holds_all_of_a_scenes_texts_and_nearly_half_of_the_questions_behind_a_sentence() -> None:
    alone = behind = 0
    for index in range(60):
        sentences, questions = texts_of("scenes", "foundation", 4, index)
        texts = page(sentences, questions, np.random.default_rng(index))
        asked = [f"{question_prompt(question.text)} {question.answer}" for question in questions]
        for question in asked:
            assert sum(question in text for text in texts) == 1
        rest = " ".join(texts)
        for question in asked:
            rest = rest.replace(question, "", 1)
        assert sorted(rest.split()) == sorted(" ".join(sentences).split())
        alone += sum(text in asked for text in texts)
        behind += sum(text not in asked and "Question" in text for text in texts)
    assert 60 < behind < alone


def test_only_the_foundation_pool_is_read(monkeypatch) -> None:
    """And it is measured on the test pool's scenes of a seed that no data set has."""
    asked: set[tuple[str, int]] = set()

    def watched(style: str, pool: str, seed: int, index: int):
        asked.add((pool, seed))
        return generator(style, pool, seed, index)

    monkeypatch.setattr(language, "generator", watched)
    monkeypatch.setattr(language, "workers", InThisProcess)
    train(TINY, Path("lm"))
    assert asked == {("foundation", TINY.seed)}
    monkeypatch.setattr(language, "_HELDOUT", 2)
    measure(Path("lm"))
    assert asked == {("foundation", TINY.seed), ("test", 91)}


class InThisProcess:
    """Workers that a test can watch."""

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    map = staticmethod(map)


def test_a_scenes_sentences_are_those_of_the_same_scene_elsewhere() -> None:
    rng = generator("album", "foundation", 4, 3)
    assert texts_of("album", "foundation", 4, 3)[0] == describe(sample_scene("album", rng), rng, 6)


def test_perplexity_is_that_of_each_text_token_by_token() -> None:
    train(TINY, Path("lm"))
    lm, tokenizer = pretrained("lm"), LanguageModelTokens("lm")
    texts = [_encode(tokenizer, text, {}) for text in ("a red dog", "two cats on the sand near a boat")]
    before = [[], list(chain(texts[0], texts[1]))]
    total, count = 0.0, 0
    for others, text in zip(before, texts, strict=True):
        for at in range(1, len(text)):
            logits = lm(input_ids=torch.tensor([[*others, *text[:at]]])).logits[0, -1]
            total -= float(logits.log_softmax(-1)[text[at]].detach())
            count += 1
    with torch.no_grad():
        assert _perplexity(lm, texts, before) == pytest.approx(math.exp(total / count), rel=1e-5)


def test_the_shipped_one_is_below_8_mb_and_knows_its_world() -> None:
    folder = ROOT / "data/foundation/lm"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 8e6
    figures = read_json(folder / "provenance.json")["figures"]
    for style in ("scenes", "album"):
        assert figures[style]["perplexity_informed"] < figures[style]["perplexity"] < 10
        assert figures[style]["answers_informed"] > figures[style]["answers_blind"] + 0.1
    assert len(set(figures["samples"])) == 8
