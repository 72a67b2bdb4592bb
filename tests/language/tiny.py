"""What the tests of language models share: conditions, tiny models of several architectures, and one prediction without batch and cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GPT2Config, PreTrainedConfig, PreTrainedTokenizerFast

from pipeline.core.artefacts import seal
from pipeline.language import decoders
from pipeline.language.condition import Condition
from pipeline.language.decoders import IGNORE, Decoder, DecoderParams, pad
from pipeline.language.decoding import Decoding, Rescore, unchanged
from pipeline.methods.base import VectorMapper

CPU = torch.device("cpu")
# a cached key or value and a recomputed one come from products of another shape, added in another order
SUM_ORDER = 1e-5


def condition(batch: int = 5, length: int = 1, width: int = 8, seed: int = 0, prompts: Sequence[Sequence[int]] | None = None) -> Condition:
    vectors = torch.randn(batch, length, width, generator=torch.Generator().manual_seed(seed))
    return Condition.full(vectors, None if prompts is None else pad(prompts))


def row(whole: Condition, index: int) -> Condition:
    """One row alone, its prompt without padding."""
    one = slice(index, index + 1)
    prompt = None if whole.prompt is None else whole.prompt[one, whole.prompt[index] != IGNORE]
    return Condition(whole.vectors[one], whole.mask[one], prompt)


@torch.inference_mode()
def naive_log_probabilities(decoder: Decoder, one: Condition, ids: list[int]) -> torch.Tensor:
    """(V,) of the token after `ids`: the vectors that count, the prompt, the start token and `ids`, all computed anew."""
    prefix, _ = decoder.mapper(Condition.full(one.vectors[:, one.mask[0]]))
    prompt = [] if one.prompt is None else one.prompt[0].tolist()
    tokens = decoder.lm.get_input_embeddings()(torch.tensor([*prompt, decoder.tokenizer.start, *ids]))
    return torch.log_softmax(decoder.lm(inputs_embeds=torch.cat([prefix[0], tokens])[None]).logits[0, -1].double(), dim=-1)


def naive_beams(decoder: Decoder, one: Condition, decoding: Decoding, image: int = 0, rescore: Rescore = unchanged) -> list[str]:
    """The rules of transformers (early_stopping=False), one image, no cache; best first.

    A hypothesis' score is its log probability over length ** length_penalty, end token counted. A continuation that ends counts only if
    it is among the best `beams`; what still runs at the last token counts as ended. The search stops once `beams` hypotheses have ended
    and the best running one, at its present length, is no better than the worst of them.
    """
    end, width, penalty = decoder.tokenizer.end, decoding.beams, decoding.length_penalty
    running: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[tuple[float, list[int]]] = []
    for length in range(1, decoding.max_new_tokens + 1):
        options = []
        for score, ids in running:
            options += [(score + value, [*ids, token]) for token, value in enumerate(naive_scores(decoder, one, ids, image, rescore))]
        best = sorted(options, key=lambda option: -option[0])[: 2 * width]
        last = length == decoding.max_new_tokens
        ended += [(score / length**penalty, ids) for score, ids in best[:width] if ids[-1] == end or last]
        ended = sorted(ended, key=lambda option: -option[0])[:width]
        running = [option for option in best if option[1][-1] != end][:width]
        if len(ended) == width and running[0][0] / length**penalty <= ended[-1][0]:
            break
    return [decoder.tokenizer.decode(ids[: ids.index(end)] if end in ids else ids) for _, ids in ended]


def naive_scores(decoder: Decoder, one: Condition, ids: list[int], image: int = 0, rescore: Rescore = unchanged) -> list[float]:
    log_probs = naive_log_probabilities(decoder, one, ids)[None]
    scores: list[float] = rescore(torch.tensor([ids], dtype=torch.long), log_probs, torch.tensor([image]))[0].tolist()
    return scores


def naive_greedy(decoder: Decoder, one: Condition, tokens: int, image: int = 0, rescore: Rescore = unchanged) -> str:
    ids: list[int] = []
    while len(ids) < tokens and decoder.tokenizer.end not in ids:
        scores = naive_scores(decoder, one, ids, image, rescore)
        ids.append(scores.index(max(scores)))
    return decoder.tokenizer.decode([i for i in ids if i != decoder.tokenizer.end])


def small(**changes: object) -> DecoderParams:
    return DecoderParams(**{"layers": 1, "heads": 2, "width": 16, "dropout": 0.1, "max_tokens": 12, **changes})


def build(params: DecoderParams, clip_folder: Path, prefix_length: int = 1) -> Decoder:
    return decoders.build(params, clip_folder, 8, prefix_length, VectorMapper)


def load(folder: Path) -> Decoder:
    seal(folder)  # what a test does to it is not told by the manifest
    return decoders.load(folder, CPU, VectorMapper)


def save_language_model(folder: Path, config: PreTrainedConfig, words: Sequence[str] = ("a", "cat")) -> Path:
    """A language model of the user's own with random weights, and its tokenizer of a few words; 0 starts and ends a text."""
    tokens = Tokenizer(models.WordLevel({word: number for number, word in enumerate(["<end>", *words])}, unk_token="<end>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token="<end>", bos_token="<end>").save_pretrained(folder)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


WORDS = [f"w{i}" for i in range(2, 13)]
ANY = {"vocab_size": 12, "bos_token_id": 0, "eos_token_id": 0}
BERT = {**ANY, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
LLAMA = {**BERT, "max_position_embeddings": 32, "initializer_range": 0.6}
LEFT_TO_RIGHT = {
    "GPT-2": GPT2Config(**ANY, n_positions=32, n_embd=16, n_layer=2, n_head=2, initializer_range=0.6),
    "OPT": transformers.OPTConfig(**ANY, hidden_size=16, word_embed_proj_dim=8, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16,
                                  init_std=0.6, max_position_embeddings=32, pad_token_id=1, do_layer_norm_before=False),
    "Llama": transformers.LlamaConfig(**LLAMA, num_key_value_heads=1),
    "Mistral": transformers.MistralConfig(**LLAMA, num_key_value_heads=1, sliding_window=4),
    "GPT-NeoX": transformers.GPTNeoXConfig(**LLAMA),
    "Bloom": transformers.BloomConfig(**ANY, hidden_size=16, n_layer=1, n_head=2, initializer_range=0.6),
    "BERT as a decoder": transformers.BertConfig(**LLAMA, is_decoder=True),
}
