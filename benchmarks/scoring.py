"""Files of captions scored together, against pycocoevalcap as published, once for each: `python -m benchmarks.scoring [--files 5]`.

The captions are people's own of COCO val2014, which come with pycocoevalcap: an image's first five are its references, and each file gives
every image a caption of another one. BLEU, METEOR, ROUGE-L and CIDEr; their figures must agree.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import pycocoevalcap
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

sys.path.insert(0, str(Path(__file__).parent.parent))

NAMES = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr")


def human_captions(images: int) -> list[list[str]]:
    """The captions of the images with the smallest ids that have at least five, in the order of annotations."""
    jar = next(Path(next(iter(pycocoevalcap.__path__))).rglob("spice-1.0.jar"))
    with zipfile.ZipFile(jar) as archive:
        annotations = json.loads(archive.read("coco/annotations/captions_val2014.json"))["annotations"]
    by_image: dict[int, list[str]] = {}
    for annotation in sorted(annotations, key=lambda one: one["id"]):
        by_image.setdefault(annotation["image_id"], []).append(" ".join(annotation["caption"].split()))
    return [by_image[image] for image in sorted(by_image) if len(by_image[image]) >= 5][:images]


def published(captions: Path, references: Path) -> list[float]:
    """What pycocoevalcap's own driver does, without SPICE."""
    results = {one["image_id"]: [{"caption": one["caption"]}] for one in json.loads(captions.read_text())}
    truth: dict[int, list[dict[str, str]]] = {}
    for one in json.loads(references.read_text())["annotations"]:
        truth.setdefault(one["image_id"], []).append({"caption": one["caption"]})
    with contextlib.redirect_stdout(io.StringIO()):
        tokenizer = PTBTokenizer()
        gts, res = tokenizer.tokenize(truth), tokenizer.tokenize(results)
        meteor = Meteor()
        figures = [*Bleu(4).compute_score(gts, res, verbose=0)[0], meteor.compute_score(gts, res)[0], Rouge().compute_score(gts, res)[0],
                   Cider().compute_score(gts, res)[0]]
    return [100 * float(figure) for figure in figures]


def timed(*command: str) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    return time.perf_counter() - start, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=5)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--published", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.published:
        print(json.dumps(published(*given.published)))
        return
    groups = human_captions(given.images)
    with tempfile.TemporaryDirectory() as folder:
        references, files = Path(folder, "references.json"), [Path(folder, f"captions-{number}.json") for number in range(given.files)]
        references.write_text(json.dumps({"images": [{"id": image} for image in range(len(groups))], "annotations": [
            {"id": 10 * image + number, "image_id": image, "caption": caption}
            for image, group in enumerate(groups) for number, caption in enumerate(group[:5])]}))
        for number, file in enumerate(files):  # another image's: a caption that is its own reference says nothing
            file.write_text(json.dumps([{"image_id": image, "caption": groups[(image + number + 1) % len(groups)][number % 5]}
                                        for image in range(len(groups))]))
        theirs = [timed(__file__, "--published", str(file), str(references)) for file in files]
        ours = timed("-m", "pipeline.cli", "evaluate", *map(str, files), "--references", str(references), "--json")
        for (_, wanted), line in zip(theirs, ours[1].splitlines(), strict=True):
            scores = json.loads(line)["scores"]
            for name, figure in zip(NAMES, json.loads(wanted), strict=True):
                assert name not in scores or abs(scores[name] - figure) < 1e-3, (name, scores[name], figure)
    seconds = sum(one for one, _ in theirs)
    print(f"{given.files} files, {len(groups)} images, 5 references each, the same figures\npycocoevalcap, each by itself {seconds:.1f} s")
    print(f"unpaired evaluate, together {ours[0]:.1f} s: {seconds / ours[0]:.2f} times as fast")


if __name__ == "__main__":
    main()
