"""Pictures per second of the `synthesize` stage against a plain loop: one caption at a time, with picture files in between.

    python -m benchmarks.synthesis [--captions 64]

Both draw the same captions with the same model, steps, guidance and seeds, and end with CLIP features and tags. The plain loop is what
scripts do: diffusers' pipeline as `from_pretrained` gives it, `pipe(prompt)`, a PNG, and encoding and tagging in later scripts, one file
at a time. The plain loop's second line is with the stage's generator, batch 1.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from pipeline.core.device import choose_device
from pipeline.core.params import load, section
from pipeline.features.encoders import load_clip
from pipeline.features.tagging import load_detector
from pipeline.synthetic.drawing import SynthesisParams, load_generator, picture_seed
from pipeline.world.captions import describe
from pipeline.world.scenes import generator, sample_scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=64)
    count = parser.parse_args().captions
    params, device = load(), choose_device()
    synthesis = section(SynthesisParams, params, "synthesis")
    drawer = load_generator(synthesis, device)
    detector = load_detector(synthesis.detectors[0], params, device)
    clip = load_clip(synthesis.clips[0], params, device)
    scenes = [sample_scene("scenes", generator("scenes", "val", 77, i)) for i in range(count)]
    texts = [describe(scene, generator("scenes", "val", 78, i), 1)[0] for i, scene in enumerate(scenes)]
    seeds = [picture_seed(0, str(i), 0) for i in range(count)]
    drawer.draw(texts[:2], seeds[:2])  # what is loaded lazily is loaded now

    start = time.perf_counter()
    images, _ = drawer.draw(texts, seeds)
    features, tags = clip.encode_images(images), detector.detect(images)
    ours = count / (time.perf_counter() - start)

    pipe: Any = StableDiffusionPipeline.from_pretrained(drawer.folder, local_files_only=True, dtype=torch.float32).to(device)
    pipe.set_progress_bar_config(disable=True)

    def as_scripts_do(text: str, seed: int) -> Image.Image:
        picture: Image.Image = pipe(text, num_inference_steps=synthesis.steps, guidance_scale=synthesis.guidance,
                                    generator=torch.Generator("cpu").manual_seed(seed)).images[0]
        return picture

    print(f"{count} captions, {synthesis.steps} steps, guidance {synthesis.guidance}, batch {synthesis.batch}, {device}")
    print(f"stage, in {drawer.precision}: {ours:.1f} pictures/s")
    ways = {"diffusers' pipeline": as_scripts_do, "the stage's generator": lambda text, seed: drawer.draw([text], [seed])[0][0]}
    for name, draw in ways.items():
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{i}.png" for i in range(count)]
            for text, seed, file in zip(texts, seeds, files, strict=True):
                draw(text, seed).save(file)
            plain_features = np.concatenate([clip.encode_images([Image.open(file).convert("RGB")]) for file in files])
            plain_tags = [detector.detect([Image.open(file).convert("RGB")])[0] for file in files]
        plain = count / (time.perf_counter() - start)
        cosine = (features * plain_features).sum(1) / np.linalg.norm(features, axis=1) / np.linalg.norm(plain_features, axis=1)
        same = np.mean([{d.label for d in a} == {d.label for d in b} for a, b in zip(tags, plain_tags, strict=True)])
        print(f"plain loop with {name}: {plain:.1f} pictures/s, the stage is {ours / plain:.1f} x; "
              f"mean cosine of the features {cosine.mean():.4f}, same tags {same:.3f}", flush=True)


if __name__ == "__main__":
    main()
