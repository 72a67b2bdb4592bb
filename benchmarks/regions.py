"""Regions of pictures a second, and the bytes that they take, against a plain loop that keeps every token; and whether they are nearer.

    python -m benchmarks.regions [--architecture ViT-B-32] [--pictures 128]     # random weights, made on the spot
    python -m benchmarks.regions --nearer micro judge                           # shipped CLIPs, on validation pictures of a finished run

The plain loop is the released code's way: one picture at a time, tokens and attention kept in single precision, regions made of them when
they are asked for. `--nearer`: the share of captions whose best region is nearer than the feature of the whole picture (MacCap's first
finding), and whose best mixture of both is; both weightings.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import normalize

from pipeline.core import paths
from pipeline.core.files import write_json
from pipeline.core.tables import read_table
from pipeline.features.encoders import Clip, ClipParams
from pipeline.features.patches import image_tokens
from pipeline.features.regions import RegionParams, aggregate, find, prepare
from pipeline.features.stores import half, unit
from pipeline.images import locate, open_image
from pipeline.systems import Setting
from pipeline.tasks.caption import read_references

CPU = torch.device("cpu")


def random_clip(architecture: str, folder: Path) -> Clip:
    """A CLIP of this architecture with random weights, in a folder as the stages load it."""
    config = open_clip.get_model_config(architecture)
    write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": {
        "size": config["vision_cfg"]["image_size"], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic",
        "resize_mode": "shortest"}})
    torch.manual_seed(0)
    save_file(open_clip.create_model(f"local-dir:{folder}", load_weights=False).state_dict(), folder / "open_clip_model.safetensors")
    return Clip(folder, ClipParams(batch=32), CPU)


def speed(architecture: str, count: int) -> None:
    """Print both ways' rates and bytes, and how far their regions are apart."""
    params = RegionParams()
    with tempfile.TemporaryDirectory() as folder:
        clip = random_clip(architecture, Path(folder))
        rng = np.random.default_rng(0)
        pictures = [prepare(clip, Image.fromarray(rng.integers(0, 255, (256, 320, 3), dtype=np.uint8))) for _ in range(count)]
        find(clip, pictures[:2], params)  # warm
        begun = time.perf_counter()
        batches = [find(clip, pictures[start : start + clip.params.batch], params).features.numpy()
                   for start in range(0, count, clip.params.batch)]
        ours = time.perf_counter() - begun
        kept, begun = [], time.perf_counter()
        for each in pictures:
            found = image_tokens(clip, [each.pixels])
            kept.append((found.tokens[0].numpy(), found.attention[0].numpy()))
        plain = time.perf_counter() - begun
    regions = half(np.concatenate(batches))
    from_tokens = [aggregate(*(torch.from_numpy(part)[None] for part in parts), params).features for parts in kept]
    apart = float(np.abs(torch.cat(from_tokens).numpy() - regions).max())
    size, plain_size = regions[0].nbytes + 8, sum(part.nbytes for part in kept[0])
    print(f"{architecture}, {count} pictures: {count / ours:.1f} a second, {size:,} bytes each; plain loop with tokens "
          f"{count / plain:.1f} a second, {plain_size:,} bytes each: {plain / ours:.2f} times as fast, {plain_size / size:.1f} times "
          f"smaller; apart {apart:.1e}")


def nearer(name: str, pictures: int) -> None:
    """Print the shares for one CLIP, on the first validation pictures of both data sets."""
    clip = Clip(paths.foundation(name), ClipParams(), CPU)
    for dataset in ("scenes", "album"):
        references, _ = read_references(Setting(dataset, dataset, "val"))
        table = read_table(paths.image_table(dataset), ["image_id", "path", "split"])
        rows = [row for row, split in enumerate(table["split"]) if split == "val"][:pictures]
        found = image_tokens(clip, [clip.pixels(open_image(locate(paths.raw(dataset), table["path"][row]))) for row in rows])
        texts = [torch.from_numpy(unit(clip.encode_texts(references[table["image_id"][row]]))) for row in rows]
        whole_BD = normalize(found.pooled, dim=-1)
        count = min(RegionParams().count, found.tokens.shape[1])
        for weights in ("raw", "softmax"):
            regions_BRD = aggregate(found.tokens, found.attention, RegionParams(count, weights)).features  # type: ignore[arg-type]
            of_whole = torch.cat([text @ whole for text, whole in zip(texts, whole_BD, strict=True)])
            alone, mixed = (torch.cat([(text @ part.T).amax(1) for text, part in zip(texts, parts, strict=True)])
                            for parts in (regions_BRD, normalize(whole_BD[:, None] + regions_BRD, dim=-1)))
            print(f"{name}, {dataset}, {count} regions, {weights}: nearer than the whole {float((alone > of_whole).float().mean()):.3f} "
                  f"(mixed with it {float((mixed > of_whole).float().mean()):.3f}) of {len(of_whole)} captions; mean cosine "
                  f"{float(of_whole.mean()):.3f}, best region {float(alone.mean()):.3f}, best mixture {float(mixed.mean()):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--nearer", nargs="*", default=[], metavar="CLIP")
    arguments = parser.parse_args()
    for clip_name in arguments.nearer:
        nearer(clip_name, arguments.pictures)
    if not arguments.nearer:
        speed(arguments.architecture, arguments.pictures)
