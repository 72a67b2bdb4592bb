"""The micro-world's autoencoder: a diffusers `AutoencoderKL` whose latents say what stands where.

Pixels alone teach it backgrounds: small things cost few pixels. So things weigh more than their surroundings, features of a classifier
are compared too, and a linear head must read classes and colours from the latents, which makes them easier to generate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor, nn

from ..optimisation import Schedule
from ..world.scenes import IMAGE_SIZE
from ..world.sprites import CLASSES, COLOURS
from .detection import DenseClassifier
from .loop import optimise
from .pool import Pool, coverage

FACTOR = 8  # pixels per latent cell
CELLS = IMAGE_SIZE // FACTOR


@dataclass(frozen=True)
class Recipe:
    """Widths of the four levels, latent channels, and the weights of the loss's terms beside the pixels' L1."""

    channels: tuple[int, ...] = (16, 32, 64, 128)
    latent_channels: int = 12
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=5_000, batch=16, learning_rate=1.5e-3, average=0.997))
    decoder: Schedule = field(default_factory=lambda: Schedule(steps=2_000, batch=16, learning_rate=1e-3, average=0.995, seed=1))
    things: float = 3.0
    features: float = 0.15
    truth: float = 0.01
    latents: float = 0.02
    divergence: float = 1e-3


def build(recipe: Recipe) -> AutoencoderKL:
    """An untrained autoencoder of the recipe's shape."""
    levels = len(recipe.channels)
    return AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=recipe.channels, layers_per_block=1, latent_channels=recipe.latent_channels, sample_size=IMAGE_SIZE,
        norm_num_groups=1,  # groups of two channels would take a picture's colours away
    )


def train_autoencoder(recipe: Recipe, pool: Pool, judge: DenseClassifier, work: Path, identity: str) -> tuple[AutoencoderKL, list[float]]:
    """Train on the pool's images, first the whole, then the decoder alone; sets the latents' scaling factor.

    judge: the frozen classifier whose features are compared. Returns the mean losses of every 250 steps too.
    """
    judge.requires_grad_(False)
    vae, losses = _train_whole(recipe, pool, judge, work, identity)
    sample = encode(vae, pool, np.arange(min(2_000, len(pool.images))))
    vae.register_to_config(scaling_factor=round(1 / float(sample.float().std()), 4))
    return vae, losses + train_decoder(recipe, vae, pool, judge, work, identity)


def _train_whole(recipe: Recipe, pool: Pool, judge: DenseClassifier, work: Path, identity: str) -> tuple[AutoencoderKL, list[float]]:
    torch.manual_seed(recipe.schedule.seed)
    parts: Any = {"vae": build(recipe), "head": nn.Conv2d(recipe.latent_channels, len(CLASSES) + len(COLOURS), 1)}

    def loss_of(step: int, rows: NDArray[np.int64]) -> Tensor:
        pixels, truth = _batch(pool, rows)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            posterior = parts["vae"].encode(pixels).latent_dist
            latents = posterior.sample()
            rebuilt = parts["vae"].decode(latents).sample.float()
        told = nn.functional.binary_cross_entropy_with_logits(parts["head"](latents.float()), truth)
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return _difference(recipe, judge, rebuilt, pixels, truth) + recipe.latents * 38 * told + recipe.divergence * divergence

    trained, losses = optimise("train autoencoder", nn.ModuleDict(parts), loss_of, recipe.schedule, len(pool.images),
                               work / "autoencoder.pt", identity)
    whole: Any = trained
    vae: AutoencoderKL = whole["vae"].eval().requires_grad_(False)
    return vae, losses


def train_decoder(recipe: Recipe, vae: AutoencoderKL, pool: Pool, judge: DenseClassifier, work: Path, identity: str) -> list[float]:
    """Go on with the decoder alone, in place: sharper pictures from the same latents."""
    decoder = nn.ModuleDict({"decoder": vae.decoder, "post_quant_conv": vae.post_quant_conv}).requires_grad_(True)

    def loss_of(step: int, rows: NDArray[np.int64]) -> Tensor:
        pixels, truth = _batch(pool, rows)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with torch.no_grad():
                latents = vae.encode(pixels).latent_dist.sample()
            rebuilt = vae.decode(latents).sample.float()
        return _difference(recipe, judge, rebuilt, pixels, truth)

    trained, losses = optimise("train the decoder", decoder, loss_of, recipe.decoder, len(pool.images), work / "decoder.pt", identity)
    decoder.load_state_dict(trained.state_dict())
    vae.eval().requires_grad_(False)
    return losses


def _batch(pool: Pool, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    return pool.pixels(rows), coverage([pool.things[row] for row in rows], CELLS)


def _difference(recipe: Recipe, judge: DenseClassifier, rebuilt: Tensor, pixels: Tensor, truth: Tensor) -> Tensor:
    """Weighted L1 of the pixels, distance of the classifier's features, and how well it still names what covers each cell."""
    covered = truth[:, : len(CLASSES)].amax(1, keepdim=True).repeat_interleave(FACTOR, 2).repeat_interleave(FACTOR, 3)
    loss = ((rebuilt - pixels).abs() * (1 + recipe.things * covered)).mean()
    seen, wanted = judge.backbone(rebuilt).feature_maps, judge.backbone(pixels).feature_maps
    features = [(s - w).square().mean() / w.square().mean() for s, w in zip(seen, wanted, strict=True)]
    named = nn.functional.binary_cross_entropy_with_logits(judge.head(seen[-1]), truth)
    total: Tensor = loss + recipe.features * sum(features) + recipe.truth * 38 * named
    return total


@torch.inference_mode()
def encode(vae: AutoencoderKL, pool: Pool, rows: NDArray[np.int64], batch: int = 64) -> Tensor:
    """(N, C, 8, 8) float16 latent means of the pool's rows, not scaled."""
    parts = [vae.encode(pool.pixels(rows[start : start + batch])).latent_dist.mode().half() for start in range(0, len(rows), batch)]
    return torch.cat(parts)
