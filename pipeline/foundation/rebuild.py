"""`unpaired foundation`: train a shipped model again, measure it on held-out scenes, and set it beside the shipped one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipeline import paths
from pipeline.encoders import Clip, ClipParams
from pipeline.errors import UserError
from pipeline.files import digest_file, read_json, write_json
from pipeline.foundation.contrastive import RECIPES, train
from pipeline.foundation.pool import draw_pool
from pipeline.params import suggest
from pipeline.stores import unit
from pipeline.world.scenes import STYLES

WEIGHTS = "open_clip_model.safetensors"
LIMITS = "this CLIP knows the micro-world's drawn scenes only; on photographs its captions mean little"
_SCENES = 1000
_SEED = 90  # scenes of the test pool that no data set of the default holds


def rebuild(name: str, out: Path) -> None:
    """Write `<out>/<name>` with a complete provenance file; prints its figures beside the shipped model's."""
    if name not in RECIPES:
        raise UserError(f"there is no recipe {name!r}{suggest(name, RECIPES)}")
    folder = out / name
    if not (folder / WEIGHTS).exists():
        train(RECIPES[name], folder)
    complete_provenance(folder)
    shipped = paths.foundation(name)
    for label, where in (("rebuilt", folder), ("shipped", shipped)):
        if (where / "provenance.json").exists():
            print(f"{label:8} {digest_file(where / WEIGHTS)[:16]} {read_json(where / 'provenance.json').get('figures')}")


def complete_provenance(folder: Path) -> None:
    """Add digest, limits and measured figures to the provenance file that training wrote."""
    provenance = read_json(folder / "provenance.json")
    write_json(folder / "provenance.json", {**provenance, "weights_sha256": digest_file(folder / WEIGHTS), "limits": LIMITS,
                                            "figures": measure(Clip(folder, ClipParams(), torch.device("cpu")))})


def measure(clip: Clip) -> dict[str, dict[str, float]]:
    """Per style, on 1,000 held-out scenes: recall at 1, 5, 10 both ways (first caption), mean cosines, gap and modality probe.

    paired_cosine: image and its caption. paraphrase_cosine: two captions of one image. centroid_distance: between the modalities'
    means. modality_probe: accuracy on one half of a linear classifier of the modality fitted on the other half.
    """
    pool = draw_pool("test", _SEED, _SCENES * len(STYLES))
    figures = {}
    for number, style in enumerate(STYLES):
        captions = pool.captions[number :: len(STYLES)]
        images = unit(clip.encode_images([Image.fromarray(image) for image in pool.images[number :: len(STYLES)]]))
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

