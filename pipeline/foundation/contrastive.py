"""The micro-world's CLIP and its judge, trained through open_clip.

The judge is another architecture on other scenes with another seed: no system is scored by the features that it optimises.

Legend: B scenes, C 38 classes and colours, E width of the tower, S cells along each side of the picture.
"""

from __future__ import annotations

import gzip
import json
import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.modified_resnet import ModifiedResNet
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..core import paths
from ..core.artefacts import whole_if_sealed
from ..core.files import digest_model, digest_of, locked, write_json
from ..core.paths import MERGES_FILE
from ..core.resume import finished_folder
from ..features.encoders import text_features
from ..optimisation import Schedule
from ..world.scenes import IMAGE_SIZE, Thing
from ..world.sprites import CLASSES, COLOURS
from ..world.web import WEB
from .loop import optimise
from .pool import CAPTIONS_PER_SCENE, FILMS, FIRST_STYLES, Pool, coverage, draw_pool

WEIGHTS = "open_clip_model.safetensors"
_MEAN_STD = (0.5, 0.5, 0.5)
_CONFIGURATION = "open_clip_config.json"
_WORDS = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights.

    logit_scale: initial value; fixed_scale keeps it there. dense: weight at first and last of a throw-away head that says how much of each
    cell of the picture each class and each colour covers; it falls over the first `dense_until` of the steps. Without it the image tower
    is slow to find out what there is to tell apart. styles: the kinds of scenes and texts that it sees, in turns. starts_from: the shipped
    model that this is a further round of, whose weights, shape and vocabulary it takes.
    """

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
    dense: tuple[float, float] = (10.0, 1.0)
    dense_until: float = 0.6
    styles: tuple[str, ...] = FIRST_STYLES
    starts_from: str | None = None

    def dense_weight(self, step: int) -> float:
        """Of the head's loss in a step, beside 1 for the contrastive one."""
        first, last = self.dense
        return first + (last - first) * min(step / (self.dense_until * self.steps), 1.0)


RECIPES = {
    "micro": Recipe(
        name="micro",
        vision_cfg={"image_size": IMAGE_SIZE, "patch_size": 8, "width": 192, "layers": 4, "head_width": 32},
        text_cfg={"context_length": 77, "width": 192, "heads": 6, "layers": 3},
        embed_dim=192,
        seed=1,
        scenes=120_000,
        steps=2_600,
        batch=256,
    ),
    "judge": Recipe(
        name="judge",
        vision_cfg={"image_size": IMAGE_SIZE, "layers": [1, 1, 1, 1], "width": 24, "head_width": 32},
        text_cfg={"context_length": 77, "width": 96, "heads": 3, "layers": 3},
        embed_dim=128,
        seed=2,
        scenes=120_000,
        steps=2_200,
        batch=256,
        learning_rate=1e-3,
    ),
}
# a further round, on all that the drawn world knows: a third of the first one's rate, and the weight of the head that it ended with
RECIPES["micro-2"] = replace(RECIPES["micro"], name="micro-2", starts_from="micro", styles=("scenes", "snapshots", "album", FILMS, WEB),
                             seed=6, steps=1_500, learning_rate=5e-4, dense=(1.0, 1.0))


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
    write_json(folder / _CONFIGURATION, {
        "model_cfg": {"embed_dim": recipe.embed_dim, "vision_cfg": recipe.vision_cfg, "text_cfg": text_cfg,
                      "init_logit_scale": math.log(recipe.logit_scale)},
        "preprocess_cfg": {"size": [IMAGE_SIZE, IMAGE_SIZE], "mean": list(_MEAN_STD), "std": list(_MEAN_STD),
                           "interpolation": "bicubic", "resize_mode": "shortest"},
    })


def train(recipe: Recipe, out: Path, snapshot_every: int = 250) -> None:
    """Train one model into folder `out`; an interrupted run goes on from its last snapshot, in `<out>.work`."""
    work = out.with_name(out.name + ".work")
    with locked(work):
        pool = draw_pool("foundation", recipe.seed, recipe.scenes, recipe.styles)
        model, begun = _begin(recipe, pool, work)
        tokenizer = open_clip.get_tokenizer(f"local-dir:{work}", bpe_path=str(work / MERGES_FILE))
        model.logit_scale.requires_grad_(not recipe.fixed_scale)
        trained = nn.ModuleDict({"clip": model, "head": DenseHead(model.visual)})
        plan = Schedule(recipe.steps, recipe.batch, recipe.learning_rate, recipe.warmup, recipe.weight_decay, seed=recipe.seed)
        loss_of = partial(_loss, trained.train(), recipe, pool, _tokens(pool, tokenizer))
        _, losses = optimise(f"train {recipe.name}", trained, loss_of, plan, len(pool.images), work / "snapshot.pt",
                             digest_of([asdict(recipe), *begun.values()]), snapshot_every, betas=(0.9, 0.98))
        with finished_folder(out) as folder:
            _copy_configuration(work, folder)
            half = {key: value.half().contiguous() if value.is_floating_point() else value for key, value in model.state_dict().items()}
            save_file(half, folder / WEIGHTS)
            write_json(folder / "provenance.json", {
                "command": f"unpaired foundation {recipe.name}", "recipe": asdict(recipe), **begun, "losses": losses,
                "parameters": sum(p.numel() for p in model.parameters()),
                "versions": {"torch": torch.__version__.split("+")[0], "open_clip": open_clip.__version__},
            })
    shutil.rmtree(work)


def _begin(recipe: Recipe, pool: Pool, work: Path) -> tuple[Any, dict[str, str]]:
    """The model before its first step, its configuration and merges in the work folder; and the digest of what it starts from."""
    torch.manual_seed(recipe.seed)
    if recipe.starts_from is None:
        write_untrained(work, recipe, (text for five in pool.captions for text in five))
        return open_clip.create_model(f"local-dir:{work}", load_weights=False), {}
    start = whole_if_sealed(paths.foundation(recipe.starts_from))
    _copy_configuration(start, work)
    model = open_clip.create_model(f"local-dir:{work}", load_weights=False)
    model.load_state_dict(load_file(start / WEIGHTS))
    return model, {"starts_from_sha256": digest_model(start)}


def _copy_configuration(source: Path, target: Path) -> None:
    for name in (MERGES_FILE, _CONFIGURATION):
        shutil.copyfile(source / name, target / name)


class DenseHead(nn.Module):
    """Reads class and colour off the cells of an image tower: a ViT's patches, or the last but one stage of a ResNet."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self._cells: Tensor
        layer = tower.layer3 if isinstance(tower, ModifiedResNet) else tower.ln_post
        layer.register_forward_hook(self._keep)
        with torch.no_grad():
            tower(torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE))
        self.linear = nn.Linear(self._cells.shape[-1], len(CLASSES) + len(COLOURS))

    def _keep(self, layer: nn.Module, given: Any, out_BTE: Tensor) -> None:
        if out_BTE.ndim == 4:
            self._cells = out_BTE.permute(0, 2, 3, 1)
        else:
            patches_BPE = out_BTE[:, 1:]
            self._cells = patches_BPE.unflatten(1, (math.isqrt(patches_BPE.shape[1]), -1))

    def forward(self, things: Sequence[Sequence[Thing]]) -> Tensor:
        """Mean binary cross-entropy for the pictures, with these things, that the tower has just encoded."""
        cells_BSSE = self._cells.float()
        return nn.functional.binary_cross_entropy_with_logits(self.linear(cells_BSSE).permute(0, 3, 1, 2),
                                                              coverage(things, cells_BSSE.shape[1]))


def _tokens(pool: Pool, tokenizer: Any) -> Tensor:
    """(N, 5, T) token ids, cut to the longest caption."""
    flat = torch.cat([tokenizer(five) for five in pool.captions])
    longest = int((flat != 0).sum(1).max())
    return flat[:, :longest].reshape(len(pool.captions), CAPTIONS_PER_SCENE, longest)


def _loss(trained: nn.ModuleDict, recipe: Recipe, pool: Pool, tokens: Tensor, step: int, rows: NDArray[np.int64]) -> Tensor:
    """The symmetric InfoNCE of a batch, a random caption for each of its scenes, and the dense head's loss."""
    model: Any = trained["clip"]
    which = torch.from_numpy(np.random.default_rng([recipe.seed, 7, step]).integers(0, CAPTIONS_PER_SCENE, len(rows)))
    # the fused attention of torch 2.15 is half of a step's time on CPUs, in its gradient
    with torch.autocast("cpu", dtype=torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        image = model.encode_image(pool.pixels(rows))
        text = text_features(model, tokens[torch.from_numpy(rows), which])
    units = [nn.functional.normalize(features.float(), dim=-1) for features in (image, text)]
    contrastive: Tensor = open_clip.ClipLoss()(*units, model.logit_scale.clamp(max=math.log(100)).exp())
    dense: Tensor = trained["head"]([pool.things[row] for row in rows])
    return contrastive + recipe.dense_weight(step) * dense
