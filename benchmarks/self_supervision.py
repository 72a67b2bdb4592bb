"""Self-supervision's second phase against its first: seconds and memory of a step, captions through the key/value cache or in one pass.

    python -m benchmarks.self_supervision [--batch 64] [--length 20] [--steps 8]     # the shipped language model and CLIP
    python -m benchmarks.self_supervision --real [--batch 2] [--length 8]            # LLaMA-2-7B's shape, random weights, LoRA of rank 8

Each way runs in a process of its own; its memory is what it holds at most, less what it held before its first step. At real size CLIP has
ViT-B/32's shape, and the language model is made in place, in bfloat16: 13.5 GB, which a file and single precision would double.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.real_size import tokenizer
from benchmarks.regions import random_clip
from pipeline.core import paths
from pipeline.core.device import precisely
from pipeline.features.encoders import Clip, ClipParams
from pipeline.language.causal import add_lora
from pipeline.language.condition import Condition
from pipeline.language.decoders import Decoder, DecoderParams, build, pad
from pipeline.language.tokens import LanguageModelTokens
from pipeline.methods.self_supervised import SelfSupervised, SelfSupervisedParams, bridge

CPU = torch.device("cpu")
WAYS = ("cross-entropy", "second phase, key/value cache", "second phase, one pass")
TEXT = "a red car stands on the grass beside two small dogs"


def held() -> float:
    """GB at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def step_of(way: str, decoder: Decoder, clip: Clip, method: SelfSupervised, batch: int) -> float:
    """The loss of one step; gradients are left in the decoder."""
    images_BD = torch.nn.functional.normalize(torch.randn(batch, clip.width), dim=-1)
    if way == WAYS[0]:
        ids = pad([[decoder.tokenizer.start, *decoder.tokenizer.encode(TEXT), decoder.tokenizer.end]] * batch)
        loss = decoder.loss(Condition.full(images_BD[:, None]), ids)
    else:
        bridge_VW = bridge(clip, decoder.tokenizer, decoder.lm.get_input_embeddings().num_embeddings)
        loss = -method.similarity(decoder, clip, bridge_VW, images_BD, 1.0, torch.Generator().manual_seed(0)).mean()
    loss.backward(inputs=[*decoder.trained_parameters().values()])
    return loss.item()


def method_of(way: str, length: int, prefix: int = 10) -> SelfSupervised:
    """With the preset's mapper, an MLP."""
    return SelfSupervised(SelfSupervisedParams(prefix=prefix, length=length, one_pass=way != WAYS[1]), None)


def measure(way: str, batch: int, length: int, steps: int) -> tuple[float, float]:
    """Seconds of a step and GB, with what is shipped."""
    method, clip = method_of(way, length), Clip(paths.foundation("micro"), ClipParams(), CPU)
    torch.manual_seed(0)
    decoder = build(DecoderParams(pretrained=str(paths.foundation("lm")), training="frozen"), paths.foundation("micro"), clip.width,
                    method.prefix_length, method.mapper).train()
    before, seconds = held(), []
    for _ in range(steps):
        begun = time.perf_counter()
        step_of(way, decoder, clip, method, batch)
        seconds.append(time.perf_counter() - begun)
    return sorted(seconds)[steps // 2], held() - before


def cost(batch: int, length: int, steps: int) -> None:
    """Print each way, the first being the measure."""
    print(f"batch {batch}, captions of at most {length} tokens, {torch.get_num_threads()} threads, median of {steps} steps")
    first = None
    for way in WAYS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(measure, (way, batch, length, steps))
        first = first or found
        print(f"{way}: {found[0]:.3f} s a step, {found[1]:.2f} GB; {found[0] / first[0]:.1f} times the time, "
              f"{found[1] / first[1]:.1f} times the memory", flush=True)


def llama() -> LlamaForCausalLM:
    """LLaMA-2-7B's shape with random weights in bfloat16, made without a second copy."""
    config = LlamaConfig(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, vocab_size=32000)
    with torch.device("meta"):
        lm = LlamaForCausalLM(config).to(torch.bfloat16)
    lm = lm.to_empty(device="cpu")
    lm.model.rotary_emb = LlamaRotaryEmbedding(config)  # its frequencies are no weights
    for parameter in lm.parameters():
        torch.nn.init.normal_(parameter, std=0.02) if parameter.ndim > 1 else torch.nn.init.ones_(parameter)
    return lm.eval()


def real(batch: int, length: int) -> None:
    """Print one step of each phase at real size."""
    with tempfile.TemporaryDirectory() as folder:
        words, vision = Path(folder) / "words", Path(folder) / "clip"
        vision.mkdir()
        tokenizer().save_pretrained(words)
        clip = random_clip("ViT-B-32", vision)
        begun = time.perf_counter()
        lm = llama().requires_grad_(False)
        add_lora(lm, 8, 16, 0.0)
        method = method_of(WAYS[2], length, prefix=4)  # of 10 the mapper alone would have 849 M parameters
        decoder = Decoder(lm, LanguageModelTokens(str(words)), method.mapper(clip.width, 4096, "mlp")).train()
        learns, whole = (sum(p.numel() for p in some) for some in (decoder.trained_parameters().values(), decoder.parameters()))
        print(f"{learns / 1e6:.1f} M of {whole / 1e6:,.0f} M parameters learn; made in {time.perf_counter() - begun:.0f} s", flush=True)
        before = {name: value.detach().clone() for name, value in decoder.trained_parameters().items()}
        optimiser = torch.optim.AdamW(decoder.trained_parameters().values(), lr=1e-4)
        for way in (WAYS[0], WAYS[2]):
            begun = time.perf_counter()
            with precisely("bfloat16", CPU):
                loss = step_of(way, decoder, clip, method, batch)
            optimiser.step()
            optimiser.zero_grad()
            print(f"{way}: a step of {batch} captions in bfloat16 {time.perf_counter() - begun:.1f} s, loss {loss:.2f}; at most "
                  f"{held():.1f} GB so far", flush=True)
        moved = [name for name, value in decoder.trained_parameters().items() if not torch.equal(before[name], value)]
        assert any("lora_B" in name for name in moved)
        assert any(name.startswith("mapper") for name in moved)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--length", type=int)
    parser.add_argument("--steps", type=int, default=8)
    given = parser.parse_args()
    if given.real:
        real(given.batch or 2, given.length or 8)
    else:
        cost(given.batch or 64, given.length or 20, given.steps)
