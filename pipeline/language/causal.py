"""Causal language models of transformers: loaded by name or folder, tried out before anything is trained on them, and LoRA beside them.

Legend: B batch, P prefix length, T tokens, R rows, W width of the embeddings, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from ..core.files import digest_model
from .decoding import Steps
from .tokens import IGNORE, CaptionTokenizer

_LORA = "adapter_model.safetensors"  # beside peft's adapter_config.json


@dataclass(frozen=True)
class Source:
    """Which language model of that name it is: the digest of a local folder, or the revision on the hub of Hugging Face."""

    name: str
    digest: str | None = None
    revision: str | None = None

    @staticmethod
    def of(name: str) -> Source:
        """What a name stands for now; one on the hub must have been loaded."""
        if Path(name).is_dir():
            return Source(name, digest=digest_model(Path(name)))
        config = cached_file(name, "config.json", local_files_only=True)  # snapshots/<revision>/config.json
        return Source(name, revision=Path(str(config)).parent.name)

    @property
    def unchanged(self) -> bool:
        """Whether a folder still holds it. What a revision on the hub names cannot change."""
        return self.digest is None or self.digest == digest_model(Path(self.name))


def pretrained(name: str, revision: str | None = None) -> Any:
    """A language model in float32; raises ValueError for weights that are missing."""
    transformers_logging.disable_progress_bar()  # of loading weights: quick
    loaded: Any = AutoModelForCausalLM.from_pretrained(name, revision=revision, dtype=torch.float32, output_loading_info=True)
    lm, about = loaded
    if about["missing_keys"]:
        raise ValueError(f"its weights lack {min(about['missing_keys'])}")
    return lm.eval()


def add_lora(lm: Any, rank: int, alpha: int, dropout: float) -> None:
    """Freeze a language model and put LoRA (Hu et al., 2022) beside the projections that peft chooses for its architecture."""
    from peft import LoraConfig, inject_adapter_in_model  # it takes time, and few decoders have any

    transposed = any(isinstance(module, Conv1D) for module in lm.modules())  # GPT-2's own kind of linear layer
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, fan_in_fan_out=transposed), lm)


def save(lm: Any, folder: Path) -> None:
    """Write a language model, or its LoRA alone."""
    if not hasattr(lm, "peft_config"):
        lm.save_pretrained(folder)
        return
    from peft import get_peft_model_state_dict

    about = lm.peft_config["default"]
    about.target_modules = sorted(about.target_modules)  # a set has another order, and its file other bytes, in every process
    about.save_pretrained(folder)
    weights = get_peft_model_state_dict(lm, save_embedding_layers=False)  # else it asks the hub whether they were changed
    save_file(weights, folder / _LORA)


def load_lora(lm: Any, folder: Path) -> None:
    """Put saved LoRA beside a frozen language model; raises ValueError for weights that are missing."""
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    inject_adapter_in_model(LoraConfig.from_pretrained(str(folder)), lm)
    about: Any = set_peft_model_state_dict(lm, load_file(folder / _LORA))
    if lacking := [key for key in about.missing_keys if "lora_" in key]:
        raise ValueError(f"its LoRA lacks {min(lacking)}")


def append(lm: Any, embeddings_BPW: Tensor, mask_BP: Tensor, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens behind embeddings (B, P + T, W), and the attention mask (B, P + T), 0 for `IGNORE`."""
    there_BT = ids_BT != IGNORE
    words_BTW = lm.get_input_embeddings()(ids_BT.where(there_BT, 0))
    return torch.cat([embeddings_BPW, words_BTW], dim=1), torch.cat([mask_BP, there_BT], dim=1).long()


def predict(lm: Any, embeddings_BTW: Tensor, mask_BT: Tensor, last: int) -> Tensor:
    """(B, last, V) predictions of what comes after each of the last embeddings."""
    positions_BT = (mask_BT.cumsum(dim=1) - 1).clamp(min=0)  # of what is attended to, as `Steps` counts them
    logits: Tensor = lm(inputs_embeds=embeddings_BTW, attention_mask=mask_BT, position_ids=positions_BT, use_cache=False,
                        logits_to_keep=last).logits
    return logits[:, logits.shape[1] - last :]  # some models give all of them, whatever is asked


@torch.no_grad()
def try_out(lm: Any, tokenizer: CaptionTokenizer) -> None:
    """Raise ValueError unless a language model does with a few tokens what training and captioning ask of one.

    It must give numbers, read from left to right, count positions from 0, leave out what is masked, and predict with its key/value cache
    what it predicts without.
    """
    words: nn.Embedding = lm.get_input_embeddings()
    if tokenizer.size > words.num_embeddings:
        raise ValueError(f"its tokenizer has {tokenizer.size} tokens, its embeddings {words.num_embeddings}")
    ids_BT = torch.randint(words.num_embeddings, (2, 6), generator=torch.Generator().manual_seed(0))
    prefix_BPW, ids_BT, rows = words(ids_BT[:, :3]), ids_BT[:, 3:], torch.tensor([1, 0, 0])
    later_BT = torch.cat([ids_BT[:, :-1], (ids_BT[:, -1:] + 1) % words.num_embeddings], dim=1)
    for mask_BP in torch.tensor([[[1, 1, 1], [1, 1, 1]], [[0, 1, 1], [1, 0, 1]]]).bool():
        plain = bool(mask_BP.all())
        with _instead("it does not take embeddings with a mask and positions"):
            expected_BTV = predict(lm, *append(lm, prefix_BPW, mask_BP, ids_BT), 3)
        if not expected_BTV.isfinite().all():
            raise ValueError("it answers with what is no number")
        others_BPW = prefix_BPW.where(mask_BP[..., None], prefix_BPW.flip(0))
        if _differ(predict(lm, *append(lm, others_BPW, mask_BP, later_BT), 3)[:, :-1], expected_BTV[:, :-1]):
            raise ValueError("it sees later tokens: it is not left-to-right" if plain else "it sees what is masked")
        if plain and _differ(lm(inputs_embeds=append(lm, prefix_BPW, mask_BP, ids_BT)[0], use_cache=False).logits[:, -3:], expected_BTV):
            raise ValueError("it does not count positions from 0")
        with _instead("it keeps no key/value cache to go on from"):
            steps = Steps(lm, *append(lm, prefix_BPW, mask_BP, ids_BT[:, :1]))
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
