"""`unpaired foundation`: train a shipped model again, measure it on held-out scenes, and set it beside the shipped one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..core import paths
from ..core.artefacts import MANIFEST, seal
from ..core.errors import UserError
from ..core.files import digest_file, read_json, write_json
from ..core.params import suggest
from ..features.encoders import Clip, ClipParams
from ..features.stores import unit
from . import contrastive, detection, diffusion, language
from .pool import draw_pool

_SCENES = 1000
_SEED = 90  # scenes of the test pool that no data set of the default holds


@dataclass(frozen=True)
class Model:
    """How a shipped model is made. weights: its files. measure: figures of a folder, on scenes that it was not trained on."""

    weights: tuple[str, ...]
    train: Callable[[Path], None]
    measure: Callable[[Path], dict[str, Any]]
    limits: str


def _clip(name: str) -> Model:
    return Model((contrastive.WEIGHTS,), lambda out: contrastive.train(contrastive.RECIPES[name], out),
                 lambda folder: measure(Clip(folder, ClipParams(), torch.device("cpu")), contrastive.RECIPES[name].styles),
                 "this CLIP knows the micro-world's drawn scenes only; on photographs its captions mean little")


MODELS = {
    "micro": _clip("micro"),
    "micro-2": _clip("micro-2"),
    "judge": _clip("judge"),
    "detector": Model(("model.safetensors",), lambda out: detection.train(detection.Recipe(), out), detection.measure,
                      "this detector knows the micro-world's 27 classes as they are drawn; it says nothing about photographs"),
    "diffusion": Model(("unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors",
                        "text_encoder/model.safetensors"), lambda out: diffusion.train(diffusion.Recipe(), out), diffusion.measure,
                       "this model draws the micro-world's scenes from sentences such as its captions, and nothing else"),
    "lm": Model(("model.safetensors",), lambda out: language.train(language.Recipe(), out), language.measure,
                "this language model knows the micro-world's sentences, and questions about its scenes; it writes of nothing else"),
}


def rebuild(name: str, out: Path) -> None:
    """Write `<out>/<name>` with a complete provenance file; prints its figures beside the shipped model's."""
    if name not in MODELS:
        raise UserError(f"there is no recipe {name!r}{suggest(name, MODELS)}")
    model, folder = MODELS[name], out / name
    if not all((folder / file).exists() for file in model.weights):
        model.train(folder)
    complete_provenance(name, folder)
    for label, where in (("rebuilt", folder), ("shipped", paths.foundation(name))):
        if (where / "provenance.json").exists():
            provenance = read_json(where / "provenance.json")
            print(f"{label:8} {' '.join(digest[:16] for digest in _digests(model, where).values())} {provenance.get('figures')}")


def complete_provenance(name: str, folder: Path) -> None:
    """Add digests, limits and measured figures to the provenance file that training wrote."""
    model, provenance = MODELS[name], read_json(folder / "provenance.json")
    digests = _digests(model, folder)
    (folder / MANIFEST).unlink(missing_ok=True)  # of what it is no longer, should this end before it is sealed
    write_json(folder / "provenance.json", {**provenance, "weights_sha256": digests if len(digests) > 1 else next(iter(digests.values())),
                                            "limits": model.limits, "figures": model.measure(folder)})
    seal(folder)


def _digests(model: Model, folder: Path) -> dict[str, str]:
    return {file: digest_file(folder / file) for file in model.weights}


def measure(clip: Clip, styles: Sequence[str]) -> dict[str, dict[str, float]]:
    """Of each kind of scene, on 1,000 held-out ones: recall at 1, 5, 10 both ways (first caption), mean cosines, gap and modality probe.

    paired_cosine: image and its caption. paraphrase_cosine: two captions of one image. centroid_distance: between the modalities'
    means. modality_probe: accuracy on one half of a linear classifier of the modality fitted on the other half.
    """
    pool = draw_pool("test", _SEED, _SCENES * len(styles), styles)
    figures = {}
    for number, style in enumerate(styles):
        captions = pool.captions[number :: len(styles)]
        images = unit(clip.encode_images([Image.fromarray(image) for image in pool.images[number :: len(styles)]]))
        first, second = (unit(clip.encode_texts([five[i] for five in captions])) for i in (0, 1))
        similarity = first @ images.T
        figures[style] = {
            **_recalls("text_to_image", similarity), **_recalls("image_to_text", similarity.T),
            "paired_cosine": float((first * images).sum(1).mean()), "paraphrase_cosine": float((first * second).sum(1).mean()),
            "centroid_distance": float(np.linalg.norm(first.mean(0) - images.mean(0))), "modality_probe": _probe(first, images),
        }
        figures[style] = {key: round(value, 4) for key, value in figures[style].items()}
    return figures


def _recalls(label: str, similarity: np.ndarray) -> dict[str, float]:
    rank = (similarity > similarity.diagonal()[:, None]).sum(1)
    return {f"{label}_R@{k}": float((rank < k).mean()) for k in (1, 5, 10)}


def _probe(texts: np.ndarray, images: np.ndarray) -> float:
    """Least squares to +1 and -1 on the even rows, accuracy of the sign on the odd ones."""
    def rows(start: int) -> tuple[np.ndarray, np.ndarray]:
        both = np.concatenate([texts[start::2], images[start::2]])
        labels = np.repeat([1.0, -1.0], [len(texts[start::2]), len(images[start::2])])
        return np.concatenate([both, np.ones((len(both), 1), both.dtype)], axis=1), labels

    fitted, targets = rows(0)
    weights = np.linalg.lstsq(fitted, targets, rcond=None)[0]
    held_out, truth = rows(1)
    return float((np.sign(held_out @ weights) == truth).mean())

