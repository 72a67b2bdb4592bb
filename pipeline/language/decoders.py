"""Condition -> prefix -> caption: a mapper in front of a causal language model from transformers.

Legend: B batch, P prefix length, T caption tokens, D CLIP width, W width of the language model's embeddings, V vocabulary.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import open_clip
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel
from transformers.utils import logging as transformers_logging

from pipeline.core.artefacts import repair, whole
from pipeline.core.errors import UserError, loading
from pipeline.core.files import read_json, write_json
from pipeline.core.params import Size, StrictParams
from pipeline.core.paths import MERGES_FILE
from pipeline.language.condition import Condition
from pipeline.language.decoding import Decoding, Steps, beam_search, greedy

IGNORE = -100  # label of positions that carry no loss: prefix and padding


@dataclass(frozen=True)
class DecoderParams(StrictParams):
    """One entry of `decoders`.

    pretrained: a left-to-right language model of transformers with a key/value cache, by name or local folder, with its own tokenizer; or
    none, for a GPT-2 of `layers`, `heads` and `width` trained from scratch on CLIP's byte-pair tokens, as DeCap does (4 layers, 4 heads,
    768 wide).
    mapper: `linear` (DeCap) or `mlp` with one hidden layer twice as wide as the language model, ReLU (after Knight).
    max_tokens: longer captions are cut in training.
    """

    pretrained: str | None = None
    layers: Size = 4
    heads: Size = 4
    width: Size = 768
    dropout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.1
    mapper: Literal["linear", "mlp"] = "mlp"
    max_tokens: Annotated[int, Field(ge=1, le=10_000)] = 40


class CaptionTokenizer(Protocol):
    """Text to ids and back. `start` begins a caption, `end` ends it."""

    start: int
    end: int
    size: int

    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: Sequence[int]) -> str: ...
    def save(self, folder: Path) -> None: ...


class ClipTokens:
    """CLIP's byte-pair vocabulary, lower case."""

    def __init__(self, merges: Path | None) -> None:
        self._merges = merges
        self._bpe = open_clip.SimpleTokenizer(**({"bpe_path": str(merges)} if merges else {}))
        self.start, self.end, self.size = self._bpe.sot_token_id, self._bpe.eot_token_id, self._bpe.vocab_size

    def encode(self, text: str) -> list[int]:
        return list(self._bpe.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(self._bpe.decode(list(ids)).split())

    def save(self, folder: Path) -> None:
        if self._merges:
            shutil.copyfile(self._merges, folder / MERGES_FILE)


class LanguageModelTokens:
    """The tokenizer that belongs to a pretrained language model."""

    def __init__(self, source: str) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(source)
        if self._tokenizer.eos_token_id is None:
            raise ValueError("its tokenizer has no end-of-sequence token")
        self.end = int(self._tokenizer.eos_token_id)
        start = self._tokenizer.bos_token_id
        self.start, self.size = int(self.end if start is None else start), len(self._tokenizer)

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).split())

    def save(self, folder: Path) -> None:
        self._tokenizer.save_pretrained(folder / "tokenizer")


class Decoder(nn.Module):
    """A mapper and a language model. The mapper turns a condition into prefix embeddings (B, P, W) and their mask."""

    def __init__(self, lm: nn.Module, tokenizer: CaptionTokenizer, mapper: nn.Module) -> None:
        super().__init__()
        self.lm: Any = lm
        self.tokenizer = tokenizer
        self.mapper = mapper

    def _embed(self, condition: Condition, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Prefix and tokens as embeddings (B, P + T, W), and the attention mask (B, P + T) with every token attended to."""
        prefix_BPW, mask_BP = self.mapper(condition)
        embeddings = torch.cat([prefix_BPW, self.lm.get_input_embeddings()(ids_BT)], dim=1)
        return embeddings, torch.cat([mask_BP, torch.ones_like(ids_BT, dtype=torch.bool)], dim=1).long()

    def logits(self, condition: Condition, ids_BT: Tensor) -> Tensor:
        """(B, T, V) predictions of the token after each of (B, T) tokens."""
        embeddings, mask = self._embed(condition, ids_BT)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)  # of what is attended to, as `generate` counts them
        logits: Tensor = self.lm(inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, use_cache=False,
                                 logits_to_keep=ids_BT.shape[1]).logits
        return logits[:, logits.shape[1] - ids_BT.shape[1] :]  # some models give all of them, whatever is asked

    def loss(self, condition: Condition, ids_BT: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy per caption token, end token included; no loss on prefix and padding.

        ids_BT: start token, caption, end token, then `IGNORE` to the longest of the batch.
        """
        inputs_BT = ids_BT[:, :-1].masked_fill(ids_BT[:, :-1] == IGNORE, self.tokenizer.end)
        # padding stands behind the caption, where a causal model never looks back from: it needs no mask
        logits_BTV = self.logits(condition, inputs_BT)
        return nn.functional.cross_entropy(logits_BTV.flatten(0, 1).float(), ids_BT[:, 1:].flatten(), ignore_index=IGNORE,
                                           label_smoothing=label_smoothing)

    @torch.inference_mode()
    def generate(self, condition: Condition, decoding: Decoding) -> list[str]:
        """One caption per row by batched greedy or beam search."""
        start = torch.full((len(condition.vectors), 1), self.tokenizer.start, device=condition.vectors.device)
        embeddings, mask = self._embed(condition, start)
        self._check_room(embeddings.shape[1] - 1, decoding)
        search = greedy if decoding.beams == 1 else beam_search
        return [self.tokenizer.decode(ids) for ids in search(self.lm, embeddings, mask, decoding, self.tokenizer.end)]

    def _check_room(self, prefix_length: int, decoding: Decoding) -> None:
        if 2 * decoding.beams > (words := self.lm.get_input_embeddings().num_embeddings):
            raise UserError(f"params.yaml: captioning.beams is {decoding.beams}, more than half of this decoder's {words} tokens")
        room = getattr(self.lm.config, "max_position_embeddings", None)
        if room is not None and prefix_length + 1 + decoding.max_new_tokens > room:
            raise UserError(f"params.yaml: captioning.max_new_tokens is {decoding.max_new_tokens}, but this decoder has room for "
                            f"{room - prefix_length - 1}: lower it, or raise the decoder's max_tokens and train again")

    def save(self, folder: Path, clip_width: int, shape: str) -> None:
        """Write what `load` reads: safetensors and JSON only. shape: the decoder's `mapper` parameter."""
        transformers_logging.disable_progress_bar()
        self.lm.save_pretrained(folder / "lm")
        save_file({key: value.contiguous() for key, value in self.mapper.state_dict().items()}, folder / "mapper.safetensors")
        self.tokenizer.save(folder)
        write_json(folder / "decoder.json", {"mapper": shape, "clip_width": clip_width,
                                             "tokens": "clip" if isinstance(self.tokenizer, ClipTokens) else "pretrained"})


MakeMapper = Callable[[int, int, str], nn.Module]
"""From CLIP width, language model width and the decoder's `mapper` parameter: `Method.mapper`."""


def build(params: DecoderParams, vocabulary: Path, clip_width: int, prefix_length: int, make_mapper: MakeMapper) -> Decoder:
    """A new decoder. vocabulary: the folder with CLIP's merges, if it has its own. Weights come from torch's global seed."""
    if params.pretrained:
        advice = "name a left-to-right one in `decoders`, such as gpt2 or facebook/opt-125m, on the hub or in a local folder"
        with loading(params.pretrained, "language model", advice, hub=not Path(params.pretrained).is_dir()):
            lm, tokenizer = _pretrained(params.pretrained)
            room = getattr(lm.config, "max_position_embeddings", None) or 0  # XLNet, without a limit, says -1
            if 0 < room < prefix_length + 1 + params.max_tokens:
                raise UserError(f"params.yaml: a decoder's max_tokens is {params.max_tokens}, but {params.pretrained} has room for "
                                f"{room - prefix_length - 1}: lower it")
            _try(lm, tokenizer)
    else:
        merges = vocabulary / MERGES_FILE
        tokenizer = ClipTokens(merges if merges.exists() else None)
        if params.width % params.heads:
            raise UserError(f"params.yaml: a decoder's width {params.width} must be a multiple of its heads {params.heads}")
        lm = GPT2LMHeadModel(GPT2Config(
            vocab_size=tokenizer.size, n_positions=prefix_length + params.max_tokens + 2, n_embd=params.width, n_layer=params.layers,
            n_head=params.heads, resid_pdrop=params.dropout, embd_pdrop=params.dropout, attn_pdrop=params.dropout,
            bos_token_id=tokenizer.start, eos_token_id=tokenizer.end,
            activation_function="gelu_pytorch_tanh",  # GPT-2's own function, fused: a fifth less time
        ))
    return Decoder(lm, tokenizer, make_mapper(clip_width, lm.get_input_embeddings().embedding_dim, params.mapper))


def _pretrained(name: str) -> tuple[Any, CaptionTokenizer]:
    """A language model with its tokenizer; raises ValueError for weights that are missing."""
    loaded: Any = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
    lm, about = loaded
    if about["missing_keys"]:
        raise ValueError(f"its weights lack {min(about['missing_keys'])}")
    tokenizer = LanguageModelTokens(name)
    return lm.eval(), tokenizer


class _Prefix(nn.Module):
    """A mapper for conditions that are prefix embeddings already."""

    def forward(self, condition: Condition) -> tuple[Tensor, Tensor]:
        return condition.vectors, condition.mask


@torch.no_grad()
def _try(lm: Any, tokenizer: CaptionTokenizer) -> None:
    """Raise ValueError unless a language model does with a few tokens what training and captioning ask of one.

    It must give numbers, read from left to right, count positions from 0, leave out what is masked, and predict with its key/value cache
    what it predicts without.
    """
    words, decoder = lm.get_input_embeddings(), Decoder(lm, tokenizer, _Prefix())
    if tokenizer.size > words.num_embeddings:
        raise ValueError(f"its tokenizer has {tokenizer.size} tokens, its embeddings {words.num_embeddings}")
    ids_BT = torch.randint(words.num_embeddings, (2, 6), generator=torch.Generator().manual_seed(0))
    prefix_BPW, ids_BT, rows = words(ids_BT[:, :3]), ids_BT[:, 3:], torch.tensor([1, 0, 0])
    later_BT = torch.cat([ids_BT[:, :-1], (ids_BT[:, -1:] + 1) % words.num_embeddings], dim=1)
    for mask_BP in torch.tensor([[[1, 1, 1], [1, 1, 1]], [[0, 1, 1], [1, 0, 1]]]).bool():
        given, plain = Condition(prefix_BPW, mask_BP), bool(mask_BP.all())
        with _instead("it does not take embeddings with a mask and positions"):
            expected_BTV = decoder.logits(given, ids_BT)
        if not expected_BTV.isfinite().all():
            raise ValueError("it answers with what is no number")
        masked = Condition(prefix_BPW.where(mask_BP[..., None], prefix_BPW.flip(0)), mask_BP)
        if _differ(decoder.logits(masked, later_BT)[:, :-1], expected_BTV[:, :-1]):
            raise ValueError("it sees later tokens: it is not left-to-right" if plain else "it sees what is masked")
        if plain and _differ(lm(inputs_embeds=decoder._embed(given, ids_BT)[0], use_cache=False).logits[:, -3:], expected_BTV):
            raise ValueError("it does not count positions from 0")
        with _instead("it keeps no key/value cache to go on from"):
            steps = Steps(lm, *decoder._embed(given, ids_BT[:, :1]))
            found = [steps.log_probs[rows]]
            steps.select(rows)
            for tokens_R in ids_BT[rows, 1:].T:
                steps.step(tokens_R)
                found.append(steps.log_probs)
        if _differ(torch.stack(found, dim=1), expected_BTV[rows]):
            raise ValueError("with its key/value cache it predicts something else")


@contextmanager
def _instead(reason: str) -> Iterator[None]:
    """Say what an error means."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{reason}: {error}") from None


def _differ(found_BTV: Tensor, expected_BTV: Tensor) -> bool:
    """Whether two predictions, logits or log-probabilities, are not the same; rounding is far below a ten-thousandth of the largest."""
    found_BTV, expected_BTV = (values - values.mean(-1, keepdim=True) for values in (found_BTV, expected_BTV))
    return not bool((found_BTV - expected_BTV).abs().max() <= 1e-4 * expected_BTV.abs().max())


def load(folder: Path, device: torch.device, make_mapper: MakeMapper) -> Decoder:
    """Read a decoder that `save` wrote. Raises `UserError` when files are missing or do not belong together."""
    transformers_logging.disable_progress_bar()  # of loading weights: quick
    about = read_json(whole(folder / "decoder.json"))
    merges = folder / MERGES_FILE
    with loading(folder, "decoder", lambda: repair(folder)):
        lm: Any = AutoModelForCausalLM.from_pretrained(folder / "lm", local_files_only=True, dtype=torch.float32)
        tokenizer: CaptionTokenizer = (ClipTokens(merges if merges.exists() else None) if about["tokens"] == "clip"
                                       else LanguageModelTokens(str(folder / "tokenizer")))
        decoder = Decoder(lm, tokenizer, make_mapper(about["clip_width"], lm.get_input_embeddings().embedding_dim, about["mapper"]))
        decoder.mapper.load_state_dict(load_file(folder / "mapper.safetensors"))
        if about["tokens"] == "clip" and tokenizer.size != lm.config.vocab_size:
            raise ValueError(f"its tokenizer has {tokenizer.size} tokens, its language model {lm.config.vocab_size}")
    return decoder.eval().requires_grad_(False).to(device)


def pad(ids: Sequence[Sequence[int]]) -> Tensor:
    """(B, longest) ids, filled with `IGNORE` behind each row's end."""
    longest = max(len(row) for row in ids)
    return torch.tensor([[*row, *[IGNORE] * (longest - len(row))] for row in ids])
