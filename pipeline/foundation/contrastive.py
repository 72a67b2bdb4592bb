"""The micro-world's CLIP and its judge, trained through open_clip.

The judge is another architecture on other scenes with another seed: no system is scored by the features that it optimises.
"""

from __future__ import annotations

import gzip
import json
import math
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn

from pipeline.encoders import text_features
from pipeline.errors import UserError
from pipeline.files import digest_of, finished_folder, locked, write_json
from pipeline.foundation.pool import CAPTIONS_PER_SCENE, Pool, draw_pool
from pipeline.paths import MERGES_FILE
from pipeline.progress import track
from pipeline.training import schedule
from pipeline.world.scenes import IMAGE_SIZE

_MEAN_STD = (0.5, 0.5, 0.5)
_WORDS = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights. `logit_scale`: initial value; `fixed_scale` keeps it there."""

    name: str
    vision_cfg: dict[str, Any]
    text_cfg: dict[str, Any]
    embed_dim: int
    seed: int
    scenes: int = 80_000
    steps: int = 2_600
    batch: int = 128
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warmup: int = 100
    logit_scale: float = 50.0
    fixed_scale: bool = True
    merges: int = 700


RECIPES = {
    "micro": Recipe(
        name="micro",
        vision_cfg={"image_size": IMAGE_SIZE, "patch_size": 8, "width": 128, "layers": 4, "head_width": 32},
        text_cfg={"context_length": 77, "width": 128, "heads": 4, "layers": 3},
        embed_dim=128,
        seed=1,
    ),
    "judge": Recipe(
        name="judge",
        vision_cfg={"image_size": IMAGE_SIZE, "layers": [1, 1, 1, 1], "width": 24, "head_width": 32},
        text_cfg={"context_length": 77, "width": 96, "heads": 3, "layers": 3},
        embed_dim=128,
        seed=2,
        steps=1_500,
        learning_rate=1e-3,
    ),
}


def learn_merges(captions: Iterable[str], count: int) -> list[str]:
    """The `count` most useful byte-pair merges of the captions, one "left right" a line, as `open_clip.SimpleTokenizer` reads them."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(_WORDS, "removed", invert=True)
    trainer = trainers.BpeTrainer(vocab_size=100_000, end_of_word_suffix="</w>", show_progress=False)
    tokenizer.train_from_iterator(captions, trainer)
    return [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]][:count]


def write_untrained(folder: Path, recipe: Recipe, captions: Iterable[str]) -> None:
    """Write what open_clip's `local-dir:` loader reads, but for the weights: configuration and merges."""
    merges = learn_merges(captions, recipe.merges)
    # open_clip skips the first line, and would count an empty last line as a merge
    lines = "\n".join(["# byte-pair merges learnt on the micro-world's foundation pool", *merges])
    with (folder / MERGES_FILE).open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed:
        packed.write(lines.encode())
    text_cfg = {**recipe.text_cfg, "vocab_size": 2 * 256 + len(merges) + 2}
    write_json(folder / "open_clip_config.json", {
        "model_cfg": {"embed_dim": recipe.embed_dim, "vision_cfg": recipe.vision_cfg, "text_cfg": text_cfg,
                      "init_logit_scale": math.log(recipe.logit_scale)},
        "preprocess_cfg": {"size": [IMAGE_SIZE, IMAGE_SIZE], "mean": list(_MEAN_STD), "std": list(_MEAN_STD),
                           "interpolation": "bicubic", "resize_mode": "shortest"},
    })


def train(recipe: Recipe, out: Path, snapshot_every: int = 250) -> None:
    """Train one model into folder `out`; an interrupted run goes on from its last snapshot, in `<out>.work`."""
    work = out.with_name(out.name + ".work")
    with locked(work):
        pool = draw_pool("foundation", recipe.seed, recipe.scenes)
        write_untrained(work, recipe, (text for five in pool.captions for text in five))
        torch.manual_seed(recipe.seed)
        model = open_clip.create_model(f"local-dir:{work}", load_weights=False)
        tokenizer = open_clip.get_tokenizer(f"local-dir:{work}", bpe_path=str(work / MERGES_FILE))
        losses = _optimise(model, recipe, pool, _tokens(pool, tokenizer), work / "snapshot.pt", snapshot_every)
        with finished_folder(out) as folder:
            for name in (MERGES_FILE, "open_clip_config.json"):
                shutil.copyfile(work / name, folder / name)
            half = {key: value.half().contiguous() if value.is_floating_point() else value for key, value in model.state_dict().items()}
            save_file(half, folder / "open_clip_model.safetensors")
            write_json(folder / "provenance.json", {
                "command": f"unpaired foundation {recipe.name}", "recipe": asdict(recipe), "losses": losses,
                "parameters": sum(p.numel() for p in model.parameters()),
                "versions": {"torch": torch.__version__.split("+")[0], "open_clip": open_clip.__version__},
            })
    shutil.rmtree(work)


def _tokens(pool: Pool, tokenizer: Any) -> Tensor:
    """(N, 5, T) token ids, cut to the longest caption."""
    flat = torch.cat([tokenizer(five) for five in pool.captions])
    longest = int((flat != 0).sum(1).max())
    return flat[:, :longest].reshape(len(pool.captions), CAPTIONS_PER_SCENE, longest)


def _optimise(model: Any, recipe: Recipe, pool: Pool, tokens: Tensor, snapshot: Path, every: int) -> list[float]:
    """AdamW with warm-up and cosine decay on the symmetric InfoNCE; returns the mean loss of every `every` steps."""

    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    if recipe.fixed_scale:
        model.logit_scale.requires_grad_(False)
    optimiser = torch.optim.AdamW([{"params": decay, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}],
                                  lr=recipe.learning_rate, betas=(0.9, 0.98))
    start, losses, running = 0, [], []
    if snapshot.exists():
        state = torch.load(snapshot, weights_only=True)
        if state.get("recipe") != digest_of(asdict(recipe)):
            raise UserError(f"{snapshot} belongs to another recipe: delete its folder, or rebuild elsewhere with --out")
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        start, losses = state["step"], state["losses"]
    per_epoch = len(pool.images) // recipe.batch
    loss_function = open_clip.ClipLoss()
    model.train()
    for step in track(range(start, recipe.steps), f"train {recipe.name}", recipe.steps, "steps", done=start):
        order = np.random.default_rng([recipe.seed, step // per_epoch]).permutation(len(pool.images))
        rows = order[(step % per_epoch) * recipe.batch :][: recipe.batch]
        which = torch.from_numpy(np.random.default_rng([recipe.seed, 7, step]).integers(0, CAPTIONS_PER_SCENE, len(rows)))
        images = torch.from_numpy(pool.images[rows]).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        texts = tokens[torch.from_numpy(rows), which]
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * schedule(step, recipe.steps, recipe.warmup)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            image_features = model.encode_image(images)
            text = text_features(model, texts)
        loss = loss_function(nn.functional.normalize(image_features.float(), dim=-1), nn.functional.normalize(text.float(), dim=-1),
                             model.logit_scale.exp())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        running.append(loss.item())
        if (step + 1) % every == 0 or step + 1 == recipe.steps:
            losses.append(round(sum(running) / len(running), 4))
            running = []
            print(f"step {step + 1}: loss {losses[-1]}, logit scale {model.logit_scale.exp().item():.1f}", flush=True)
            partial = snapshot.with_suffix(".partial")
            with partial.open("wb") as file:
                torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1, "losses": losses,
                            "recipe": digest_of(asdict(recipe))}, file)
            partial.replace(snapshot)
    return losses

