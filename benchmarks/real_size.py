"""MacCap at the size of its paper, with random weights: one step of training and one caption, and what they take.

    python -m benchmarks.real_size [--precision bfloat16] [--batch 16]

OPT-1.3b's shape (24 layers, 2,048 wide, 50,272 tokens), frozen, behind the adaptor for a CLIP 512 wide. The language model is made in a
temporary folder (2.6 GB in half precision) and goes through the code that loads real ones.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from pipeline.core import paths
from pipeline.core.device import Precision, precisely
from pipeline.language.decoders import DecoderParams, build, pad
from pipeline.language.decoding import Decoding
from pipeline.methods.maccap import MacCap, MacCapCaptionParams, MacCapParams
from pipeline.needs.base import Inputs
from pipeline.needs.images import Images
from pipeline.needs.regions import Parts, Regions
from pipeline.needs.text import Sentences, Text

SHAPE = {"vocab_size": 50272, "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32, "ffn_dim": 8192,
         "max_position_embeddings": 2048, "word_embed_proj_dim": 2048}
WIDTH, TOKENS = 512, 25
WORDS = [f"word{number}" for number in range(1000)]
CPU = torch.device("cpu")


def tokenizer() -> PreTrainedTokenizerFast:
    """Of a thousand words."""
    tokens = Tokenizer(models.WordLevel({word: number for number, word in enumerate(["<s>", "<pad>", "</s>", *WORDS])}, unk_token="</s>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokens, bos_token="</s>", eos_token="</s>", pad_token="<pad>")


def language_model(folder: Path) -> None:
    """Random weights of OPT-1.3b's shape, and that tokenizer."""
    tokenizer().save_pretrained(folder)
    torch.manual_seed(0)
    OPTForCausalLM(OPTConfig(**SHAPE)).to(torch.bfloat16).save_pretrained(folder)


def units(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape), dim=-1)


def main(precision: Precision, batch: int) -> None:
    """Print seconds, memory and sizes."""
    method = MacCap(MacCapParams(), MacCapCaptionParams(candidates=1))
    with tempfile.TemporaryDirectory() as folder:
        language_model(Path(folder))
        begun = time.perf_counter()
        params = DecoderParams(pretrained=folder, training="frozen", max_tokens=TOKENS)
        decoder = build(params, paths.foundation("micro"), WIDTH, method.prefix_length, method.mapper)
        print(f"loaded and tried out in {time.perf_counter() - begun:.1f} s", flush=True)
    learns = sum(parameter.numel() for parameter in decoder.trained_parameters().values())
    whole = sum(parameter.numel() for parameter in decoder.parameters())
    corpus = Inputs({Text: Sentences("captions", WORDS[:batch], units(batch, WIDTH), torch.ones(batch))})
    ids = pad([[decoder.tokenizer.start, *decoder.tokenizer.encode(" ".join(WORDS[row : row + 12])), decoder.tokenizer.end]
               for row in range(batch)])
    optimiser = torch.optim.AdamW(decoder.trained_parameters().values(), lr=1e-4)
    before = {name: value.detach().clone() for name, value in decoder.trained_parameters().items()}
    begun = time.perf_counter()
    condition = method.training_condition(corpus, torch.arange(batch), torch.Generator().manual_seed(0))
    with precisely(precision, CPU):
        loss = decoder.train().loss(condition, ids)
    loss.backward()
    optimiser.step()
    step = time.perf_counter() - begun
    assert torch.isfinite(loss)
    assert any(not torch.equal(before[name], value) for name, value in decoder.trained_parameters().items())
    seen = Inputs({Images: units(1, WIDTH), Regions: Parts(units(1, 10, WIDTH), torch.tensor([1]))})
    begun = time.perf_counter()
    with precisely(precision, CPU):
        text, = method.caption(seen, Inputs({}), decoder.eval(), Decoding(beams=4, max_new_tokens=16))
    print(f"{learns / 1e6:.1f} M of {whole / 1e6:,.0f} M parameters learn; a step of {batch} captions in {precision} {step:.1f} s, loss "
          f"{loss.item():.2f}; a caption of {len(text.split())} words with 4 beams {time.perf_counter() - begun:.1f} s; at most "
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GB of memory")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--batch", type=int, default=16)
    main(**vars(parser.parse_args()))
