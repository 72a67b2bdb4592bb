"""Perplexity, against one text at a time and by what it must be."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config

from pipeline.language.perplexity import LanguageModel
from pipeline.language.tokens import LanguageModelTokens
from tests.language.tiny import CPU, save_language_model

TEXTS = ["a cat", "cat a cat a a", "", "a"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_language_model(tmp_path / "lm", GPT2Config(vocab_size=3, n_positions=32, n_embd=8, n_layer=2, n_head=2))


@torch.inference_mode()
def test_it_is_that_of_each_text_alone_and_all_tokens_together(folder):
    lm, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), LanguageModelTokens(str(folder))
    total, count = 0.0, 0
    for text in TEXTS:
        ids = torch.tensor([[tokenizer.start, *tokenizer.encode(text), tokenizer.end]])
        log_probs = lm(ids[:, :-1]).logits[0].double().log_softmax(-1)
        total -= float(log_probs[range(ids.shape[1] - 1), ids[0, 1:]].sum())
        count += ids.shape[1] - 1
    found = LanguageModel(folder, CPU)
    assert found.perplexity(TEXTS) == pytest.approx(math.exp(total / count), rel=1e-5)
    assert found.perplexity(TEXTS[::-1]) == pytest.approx(found.perplexity(TEXTS), rel=1e-6)


def test_a_model_that_knows_nothing_is_as_perplexed_as_it_has_tokens(folder):
    found = LanguageModel(folder, CPU)
    found._lm.get_input_embeddings().weight.data.zero_()  # tied to the output
    assert found.perplexity(TEXTS) == pytest.approx(3.0)


def test_a_missing_model_is_named(tmp_path, user_error):
    assert "nowhere" in user_error(LanguageModel, tmp_path / "nowhere", CPU)
