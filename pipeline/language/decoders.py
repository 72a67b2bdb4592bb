"""Condition -> prefix -> caption: a mapper in front of a causal language model.

Legend: B batch, P prefix length, T caption tokens, D CLIP width, W width of the language model's embeddings, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel
from transformers.utils import logging as transformers_logging

from ..core.artefacts import again, repair, whole
from ..core.errors import UserError, loading
from ..core.files import read_json, write_json
from ..core.params import Size, StrictParams
from .causal import Source, add_lora, append, load_lora, predict, pretrained, save, try_out
from .condition import Condition
from .decoding import Decoding, Rescore, Steps, beam_search, greedy, sample, unchanged
from .rollout import Rollout, roll_out, roll_out_in_one_pass
from .tokens import IGNORE, CaptionTokenizer, ClipTokens, LanguageModelTokens


@dataclass(frozen=True)
class DecoderParams(StrictParams):
    """One entry of `decoders`.

    pretrained: a left-to-right language model of transformers with a key/value cache, by local folder, or by name where it lies in the
    hub's cache (the hub itself is not asked), with its own tokenizer; or none, for a GPT-2 of `layers`, `heads` and `width` trained from
    scratch on CLIP's byte-pair tokens, as DeCap does (4 layers, 4 heads, 768 wide).
    training: of the language model. `tuned`: all of it, beside the mapper, and the saved model holds it. Only with `pretrained`: `frozen`,
    the mapper learns alone (ClipCap, MacCap); `lora`, low-rank updates of `lora_rank`, times `lora_alpha` / `lora_rank`, learn beside it
    (8 and 16, usual values of no particular paper). A saved model then names the language model, which must stay where it lies.
    dropout: within the GPT-2 from scratch, or on what LoRA reads.
    mapper: `linear` (DeCap) or `mlp` with one hidden layer twice as wide as the language model, ReLU (after Knight).
    max_tokens: longer captions are cut in training.
    full_stop: captions are what stands before the first full stop, and it, in training; what is written, answers too, is cut there, in
    lower case (Knight's released code, for videos).
    """

    pretrained: str | None = None
    training: Literal["tuned", "frozen", "lora"] = "tuned"
    lora_rank: Size = 8
    lora_alpha: Size = 16
    layers: Size = 4
    heads: Size = 4
    width: Size = 768
    dropout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.1
    mapper: Literal["linear", "mlp"] = "mlp"
    max_tokens: Annotated[int, Field(ge=1, le=10_000)] = 40
    full_stop: bool = False


class Decoder(nn.Module):
    """A mapper and a language model. The mapper turns a condition into prefix embeddings (B, P, W) and their mask.

    What of the language model needs no gradient when it is given is frozen for good. source: where it lies, if a saved decoder is to name
    it in place of its weights. full_stop: as the parameter.
    """

    def __init__(self, lm: nn.Module, tokenizer: CaptionTokenizer, mapper: nn.Module, source: Source | None = None,
                 full_stop: bool = False) -> None:
        super().__init__()
        self.lm: Any = lm
        self.tokenizer = tokenizer
        self.mapper = mapper
        self.source = source
        self.full_stop = full_stop
        self._trained = [name for name, parameter in self.named_parameters() if parameter.requires_grad]
        self._lm_learns = any(name.startswith("lm.") for name in self._trained)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """What training changes, by name in `state_dict`: all but what is frozen."""
        return {name: self.get_parameter(name) for name in self._trained}

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """As of every module, of what is not frozen."""
        for parameter in self.trained_parameters().values():
            parameter.requires_grad_(requires_grad)
        return self

    def train(self, mode: bool = True) -> Self:
        """As of every module; a frozen language model stays as it is at inference, without dropout."""
        super().train(mode)
        if not self._lm_learns:
            self.lm.eval()
        return self

    def encode(self, caption: str) -> list[int]:
        """A caption's tokens, as they are learnt."""
        return self.tokenizer.encode(f"{caption.partition('.')[0].strip()}." if self.full_stop else caption)

    def _decode(self, ids: Sequence[int]) -> str:
        text = self.tokenizer.decode(ids)
        return text.partition(".")[0].strip().lower() if self.full_stop else text

    def _embed(self, condition: Condition, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Prefix, prompt and tokens as embeddings, and the mask of what counts of them."""
        if condition.vectors.shape[1]:
            embeddings, mask = self.mapper(condition)
        else:
            embeddings, mask = condition.vectors.new_empty(len(ids_BT), 0, self.lm.get_input_embeddings().embedding_dim), condition.mask
        for ids in (ids_BT,) if condition.prompt is None else (condition.prompt, ids_BT):
            embeddings, mask = append(self.lm, embeddings, mask, ids)
        return embeddings, mask

    def logits(self, condition: Condition, ids_BT: Tensor) -> Tensor:
        """(B, T, V) predictions of the token after each of (B, T) tokens."""
        return predict(self.lm, *self._embed(condition, ids_BT), ids_BT.shape[1])

    def loss(self, condition: Condition, ids_BT: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy per caption token, end token included; no loss on prefix, prompt and padding.

        ids_BT: start token, caption, end token, then `IGNORE` to the longest of the batch.
        """
        inputs_BT = ids_BT[:, :-1].masked_fill(ids_BT[:, :-1] == IGNORE, self.tokenizer.end)
        # padding stands behind the caption, where a causal model never looks back from: it needs no mask
        logits_BTV = self.logits(condition, inputs_BT)
        return nn.functional.cross_entropy(logits_BTV.flatten(0, 1).float(), ids_BT[:, 1:].flatten(), ignore_index=IGNORE,
                                           label_smoothing=label_smoothing)

    @torch.no_grad()  # and no inference mode, in which a hook could take no gradient
    def generate(self, condition: Condition, decoding: Decoding, rescore: Rescore = unchanged) -> list[str]:
        """One caption per row by batched greedy or beam search. rescore: changes the scores of every step."""
        if decoding.beams == 1:
            found = greedy(self._steps(condition, decoding.max_new_tokens), decoding, self.tokenizer.end, rescore)
        else:
            found = [ids for ids, in self._beams(condition, decoding, 1, rescore)]
        return [self._decode(ids) for ids in found]

    @torch.no_grad()
    def candidates(self, condition: Condition, decoding: Decoding, number: int, seeds: Sequence[int] | None = None,
                   rescore: Rescore = unchanged) -> list[list[str]]:
        """A number of captions per row: those of its best beams, best first; with a seed per row, samples, which follow from it alone."""
        if seeds is None:
            found = self._beams(condition, decoding, number, rescore)
        else:
            steps = self._steps(condition, decoding.max_new_tokens)
            found = sample(steps, decoding, self.tokenizer.end, seeds, number, rescore)
        return [[self._decode(ids) for ids in row] for row in found]

    def roll_out(self, condition: Condition, length: int, temperature: float, generator: torch.Generator, hard: bool = True,
                 one_pass: bool = False) -> Rollout:
        """A caption per row as distributions of tokens, through which gradients reach the mapper: see `language.rollout`. one_pass: the
        hard tokens read again in one pass."""
        if not one_pass:
            return roll_out(self.lm, self._steps(condition, length), self.tokenizer.end, length, temperature, generator, hard)
        start_B1 = torch.full((len(condition.vectors), 1), self.tokenizer.start, device=condition.vectors.device)
        with torch.no_grad():
            steps = self._steps(condition, length)
        return roll_out_in_one_pass(lambda ids_BT: self.logits(condition, torch.cat([start_B1, ids_BT], dim=1)), steps,
                                    self.tokenizer.end, length, temperature, generator)

    def begin(self, texts: Sequence[str]) -> Tensor:
        """(B, S) ids of texts to go on with: `Condition.begun`."""
        ids = pad([[self.tokenizer.start, *self.tokenizer.encode(text)] for text in texts], in_front=True)
        return ids.to(next(self.parameters()).device)

    def _steps(self, condition: Condition, length: int) -> Steps:
        """The language model after prefix, prompt and what the text begins with; `UserError` without room for `length` tokens more."""
        begun = condition.begun
        if begun is None:
            begun = torch.full((len(condition.vectors), 1), self.tokenizer.start, device=condition.vectors.device)
        embeddings, mask = self._embed(condition, begun)
        room = getattr(self.lm.config, "max_position_embeddings", None)
        if room is not None and embeddings.shape[1] + length > room:
            raise UserError(f"params.yaml: max_new_tokens is {length}, but this decoder has room for "
                            f"{max(room - embeddings.shape[1], 0)} behind what it is told: lower it, or ask less, or raise the decoder's "
                            "max_tokens and train again")
        return Steps(self.lm, embeddings, mask)

    def _beams(self, condition: Condition, decoding: Decoding, best: int, rescore: Rescore) -> list[list[list[int]]]:
        if 2 * decoding.beams > (words := self.lm.get_input_embeddings().num_embeddings):
            raise UserError(f"params.yaml: captioning.beams is {decoding.beams}, more than half of this decoder's {words} tokens")
        if best > decoding.beams:
            raise UserError(f"params.yaml: captioning.beams is {decoding.beams}, fewer than the {best} captions to choose from: raise it")
        return beam_search(self._steps(condition, decoding.max_new_tokens), decoding, self.tokenizer.end, best, rescore)

    def save(self, folder: Path, clip_width: int, shape: str) -> None:
        """Write what `load` reads: safetensors and JSON only, of what was trained. shape: the decoder's `mapper` parameter."""
        transformers_logging.disable_progress_bar()
        if self._lm_learns:
            save(self.lm, folder / "lm")
        save_file({key: value.contiguous() for key, value in self.mapper.state_dict().items()}, folder / "mapper.safetensors")
        self.tokenizer.save(folder)
        tokens = "clip" if isinstance(self.tokenizer, ClipTokens) else "pretrained"
        about: dict[str, Any] = {"mapper": shape, "clip_width": clip_width, "tokens": tokens}
        about |= {"source": asdict(self.source), "lora": self._lm_learns} if self.source else {}
        write_json(folder / "decoder.json", about | ({"full_stop": True} if self.full_stop else {}))


MakeMapper = Callable[[int, int, str], nn.Module]
"""From CLIP width, language model width and the decoder's `mapper` parameter: `Method.mapper`."""


def build(params: DecoderParams, vocabulary: Path, clip_width: int, prefix_length: int, make_mapper: MakeMapper) -> Decoder:
    """A new decoder. vocabulary: the folder with CLIP's merges, if it has its own. Weights come from torch's global seed."""
    tokenizer: CaptionTokenizer
    source = None
    if params.pretrained:
        advice = ("name a left-to-right one in `decoders`, by its folder: `unpaired model add lm gpt2 --hub openai-community/gpt2` brings "
                  "data/foundation/gpt2")
        with loading(params.pretrained, "language model", advice):
            lm, tokenizer = pretrained(params.pretrained), LanguageModelTokens(params.pretrained)
            room = getattr(lm.config, "max_position_embeddings", None) or 0  # XLNet, without a limit, says -1
            if 0 < room < prefix_length + 1 + params.max_tokens:
                raise UserError(f"params.yaml: a decoder's max_tokens is {params.max_tokens}, but {params.pretrained} has room for "
                                f"{room - prefix_length - 1}: lower it")
            try_out(lm, tokenizer)
            if params.training != "tuned":
                lm.requires_grad_(False)
                source = Source.of(params.pretrained)
            if params.training == "lora":
                add_lora(lm, params.lora_rank, params.lora_alpha, params.dropout)
    elif params.training != "tuned":
        raise UserError(f"params.yaml: a decoder's training is {params.training}, which is for a language model that knows how to write: "
                        "name one as its `pretrained`, or remove `training`")
    else:
        tokenizer = ClipTokens.of(vocabulary)
        if params.width % params.heads:
            raise UserError(f"params.yaml: a decoder's width {params.width} must be a multiple of its heads {params.heads}")
        lm = GPT2LMHeadModel(GPT2Config(
            vocab_size=tokenizer.size, n_positions=prefix_length + params.max_tokens + 2, n_embd=params.width, n_layer=params.layers,
            n_head=params.heads, resid_pdrop=params.dropout, embd_pdrop=params.dropout, attn_pdrop=params.dropout,
            bos_token_id=tokenizer.start, eos_token_id=tokenizer.end,
            activation_function="gelu_pytorch_tanh",  # GPT-2's own function, fused: a fifth less time
        ))
    mapper = make_mapper(clip_width, lm.get_input_embeddings().embedding_dim, params.mapper)
    return Decoder(lm, tokenizer, mapper, source, params.full_stop)


def load(folder: Path, device: torch.device, make_mapper: MakeMapper) -> Decoder:
    """Read a decoder that `save` wrote. Raises `UserError` when files are missing or do not belong together."""
    transformers_logging.disable_progress_bar()  # of loading weights: quick
    about = read_json(whole(folder / "decoder.json"))
    source = Source(**about["source"]) if "source" in about else None
    base = _source(source, folder) if source else None
    with loading(folder, "decoder", lambda: repair(folder)):
        lm: Any = base or AutoModelForCausalLM.from_pretrained(folder / "lm", local_files_only=True, dtype=torch.float32)
        if about.get("lora"):
            load_lora(lm, folder / "lm")
        tokenizer: CaptionTokenizer = ClipTokens.of(folder) if about["tokens"] == "clip" else LanguageModelTokens(str(folder / "tokenizer"))
        mapper = make_mapper(about["clip_width"], lm.get_input_embeddings().embedding_dim, about["mapper"])
        decoder = Decoder(lm, tokenizer, mapper, source, bool(about.get("full_stop")))
        decoder.mapper.load_state_dict(load_file(folder / "mapper.safetensors"))
        if about["tokens"] == "clip" and tokenizer.size != lm.config.vocab_size:
            raise ValueError(f"its tokenizer has {tokenizer.size} tokens, its language model {lm.config.vocab_size}")
    return decoder.eval().requires_grad_(False).to(device)


def _source(source: Source, folder: Path) -> Any:
    """The frozen language model that the decoder in `folder` was trained with."""
    if not source.unchanged:
        raise UserError(f"{source.name} is missing, or no longer the language model that {folder} was trained with: put that back, or "
                        f"{again(folder)}")
    with loading(source.name, "language model", f"{folder} was trained with it: put it back"):
        return pretrained(source.name, source.revision).requires_grad_(False)


def pad(ids: Sequence[Sequence[int]], in_front: bool = False) -> Tensor:
    """(B, longest) ids, filled with `IGNORE` behind each row's end, or before its start."""
    longest = max(len(row) for row in ids)
    filled = [([IGNORE] * (longest - len(row)), row) for row in ids]
    return torch.tensor([[*none, *row] if in_front else [*row, *none] for none, row in filled], dtype=torch.long)
