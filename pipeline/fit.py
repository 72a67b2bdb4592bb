"""`unpaired fit`: a file of sentences becomes a captioner, in one portable folder.

The stages' own functions run in a work folder beside it, a project of one corpus and one system, and what captioning reads of that is
copied out. A killed fit goes on where it was, and ends in the same bytes (same machine, number of threads and versions).
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from contextlib import chdir
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from open_clip.tokenizer import default_bpe
from ruamel.yaml import YAML

from .core import paths
from .core.code import code_digest
from .core.device import choose_device
from .core.errors import UserError
from .core.files import digest_file, digest_of, digest_tree, locked, read_json, write_json
from .core.params import PARAMS_FILE, check, section, suggest
from .core.paths import MERGES_FILE
from .core.resume import finished_folder
from .corpus.extract import ExtractParams, extract
from .features import embedding, indexing
from .features.encoders import load_clip
from .features.indexing import IndexParams, index_corpus
from .model_card import write_card
from .portable import CLIP, CORPUS, SYSTEM, is_captioner, told_of
from .systems import System, find_system, make_method
from .training import Plan, train_system, trained_model

WORDS = "words"
"""The folder of data/foundation with the decoder's vocabulary."""
CLIP_MERGES = 48_894  # of the 262,144 in CLIP's file

METHODS: dict[str, dict[str, Any]] = {
    "knight": {"train": {"k": 5}},
    "decap": {"caption": {"temperature": 0.01}},
    "capdec": {"train": {"noise_variance": 0.016}},
    "close": {"train": {"noise_std": 0.12}},
    "clipre": {"decoder": "none", "recipe": "none"},
}
"""The methods that need sentences alone, with the values of their papers."""

@dataclass(frozen=True)
class Size:
    """A recipe. least: from how many sentences on it is chosen. merges: how many of CLIP's byte-pair merges the decoder writes with, the
    first ones, None for all: what it predicts are as many tokens, and of 48,894 a small corpus uses few."""

    least: int
    merges: int | None
    decoder: dict[str, Any]
    recipe: dict[str, Any]


_DECODER = {"layers": 4, "heads": 4, "dropout": 0.0, "mapper": "mlp", "max_tokens": 40}
_RECIPE = {"learning_rate": 0.001, "evaluate_every": 200, "snapshot_every": 100}
SIZES = {
    "small": Size(0, 8_000, {**_DECODER, "width": 128}, {**_RECIPE, "steps": 1200, "batch": 64, "warmup": 60}),
    "medium": Size(20_000, 16_000, {**_DECODER, "width": 256}, {**_RECIPE, "steps": 3000, "batch": 64, "warmup": 150}),
    "large": Size(200_000, None, {**_DECODER, "width": 768},
                  {**_RECIPE, "steps": 20_000, "batch": 128, "warmup": 1000, "evaluate_every": 1000}),
}
"""Recipes by name, for ever more sentences. The widest decoder is DeCap's."""


@dataclass(frozen=True)
class Wish:
    """What is to be fitted. sentences: one a line, UTF-8 (or a JSON list of them). clip: a folder in open_clip's layout. method: of
    `METHODS`. recipe: of `SIZES`, None for the one that the number of sentences asks for. steps: in place of the recipe's."""

    sentences: Path
    clip: Path
    method: str = "knight"
    recipe: str | None = None
    steps: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises `UserError` for what there is not."""
        if self.method not in METHODS:
            raise UserError(f"{self.method!r} is no method that learns from sentences alone{suggest(self.method, METHODS)}")
        if self.recipe is not None and self.recipe not in SIZES:
            raise UserError(f"there is no recipe {self.recipe!r}{suggest(self.recipe, SIZES)}")
        if not self.sentences.is_file():
            raise UserError(f"{self.sentences}: no such file: name a text file with a sentence a line")


def find_clip(name: str) -> Path:
    """The folder of a CLIP: it itself, or data/foundation/<name>. `UserError` where there is none."""
    folder = Path(name) if Path(name).is_dir() else paths.foundation(name)
    if not folder.is_dir():
        raise UserError(f"there is no CLIP {name!r} in {folder.parent}: `unpaired model add clip {name} --architecture ViT-B-32 "
                        "--pretrained openai` brings one, or name the folder of another")
    return folder


def fit(wish: Wish, out: Path) -> None:
    """Write the captioner `out`; its work folder `<out>.work` may then be removed. Raises `UserError` for what cannot be read."""
    if out.exists() and not is_captioner(out):
        raise UserError(f"{out} is there and holds no captioner: name another folder with --out")
    device, target, work = choose_device(), out.absolute(), work_folder(out)
    with locked(work):
        prepare(wish, work)
        with chdir(work):
            params = begin(wish)
            with told_of(work):
                _features(params, device)
                _train(params, device)
            print(f"4 of 4: put together {out}", flush=True)
            _carry(params, target, wish.sentences.name)


def work_folder(out: Path) -> Path:
    """Where a captioner is made."""
    return out.absolute().with_name(f"{out.absolute().name}.work")


def prepare(wish: Wish, work: Path) -> None:
    """Bring the sentences and the CLIP (as a link) into the work folder."""
    raw, clip = work / paths.raw(CORPUS), work / paths.foundation(CLIP)
    for place in (raw, clip.parent):
        place.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(wish.sentences, raw / wish.sentences.name)
    clip.unlink(missing_ok=True)
    clip.symlink_to(wish.clip.absolute(), target_is_directory=True)


def begin(wish: Wish) -> dict[str, Any]:
    """Extract the corpus in the current folder; write the decoder's vocabulary, and write and return the parameters that the corpus's size
    asks for. Raises `UserError` for a file that nothing can be learnt from."""
    source = {"format": "json" if wish.sentences.suffix == ".json" else "lines", "source": wish.sentences.name, "bad_captions": "skip"}
    report = extract(paths.raw(CORPUS), paths.corpus(CORPUS), check(ExtractParams, source, f"extract.{CORPUS}"))
    number, skipped = sum(report["corpus"][split] for split in ("train", "heldout")), report["skipped"]
    print(f"1 of 4: {number:,} sentences" + (f"; {len(skipped)} left out, the first is {skipped[0]['record']}: {skipped[0]['reason']}"
                                             if skipped else ""), flush=True)
    name = wish.recipe or [name for name, size in SIZES.items() if number >= size.least][-1]
    params = params_of(wish, source, name)
    recipe = params["recipes"][params["systems"][SYSTEM]["recipe"]]
    if recipe["steps"] and report["corpus"]["train"] < recipe["batch"]:
        raise UserError(f"{wish.sentences} holds {number} sentences, too few to learn to write from: give thousands, or take "
                        "--method clipre, which chooses one of them for each picture")
    _write_vocabulary(SIZES[name].merges)
    with PARAMS_FILE.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(params, file)
    return params


def _write_vocabulary(merges: int | None) -> None:
    own, target = paths.foundation(CLIP) / MERGES_FILE, paths.foundation(WORDS) / MERGES_FILE
    lines = gzip.decompress(Path(own if own.is_file() else default_bpe()).read_bytes()).rstrip(b"\n").split(b"\n")
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(gzip.compress(b"\n".join(lines[: 1 + (merges or CLIP_MERGES)]), mtime=0))  # behind a line of its own


def params_of(wish: Wish, source: dict[str, Any], size: str) -> dict[str, Any]:
    """params.yaml of the work folder and of the captioner. source: its entry of `extract`. size: of `SIZES`."""
    decoder, recipe = SIZES[size].decoder, SIZES[size].recipe
    text = dict.fromkeys(("learns_from", "learns_with", "looks_up"), f"{CLIP}/text")
    system = System(**{"method": wish.method, "clip": CLIP, "corpus": CORPUS, "starts_from": f"foundation/{WORDS}", **text,
                       "looks_at": f"{CLIP}/image", "decoder": size, "recipe": size, "suite": "none", "seed": wish.seed,
                       **METHODS[wish.method]})
    return {
        "extract": {CORPUS: source},
        "clips": {CLIP: {"batch": 64}},
        "index": {"corpora": [CORPUS], "neighbours": METHODS["knight"]["train"]["k"]},
        "decoders": {"none": {}, size: decoder},
        "recipes": {"none": {"steps": 0}, size: {**recipe, **({} if wish.steps is None else {"steps": wish.steps})}},
        "systems": {SYSTEM: asdict(system)},
        "settings": {"none": {}},
        "captioning": {"beams": 3, "max_new_tokens": 40, "batch": 64},
        "frames": {"count": 5},
    }


def _features(params: dict[str, Any], device: torch.device) -> None:
    """The sentences' features, and each one's neighbours where the method is trained on them, unless they are there."""
    print("2 of 4: features of the sentences", flush=True)
    clip = load_clip(CLIP, params, device)
    table, features, neighbours = paths.corpus_table(CORPUS), paths.text_features(CLIP, CORPUS), paths.neighbours(CLIP, CORPUS)
    _make(features, lambda: embedding.embed_text(CLIP, clip, CORPUS),
          [embedding.__name__, digest_file(table), clip.digest, clip.precision, params["clips"], embedding.machine(clip)])
    if params["systems"][SYSTEM]["method"] == "knight":
        wanted = section(IndexParams, params, "index")
        _make(neighbours, lambda: index_corpus(CLIP, CORPUS, wanted, device),
              [indexing.__name__, digest_tree(features), wanted.neighbours, device.type])


def _make(artefact: Path, make: Callable[[], None], made_from: list[Any]) -> None:
    """Make an artefact, unless what is there was made by this code from just this. made_from: the module that makes it, and inputs."""
    memo = paths.WORK / "made" / f"{artefact.name}.json"
    identity = digest_of([code_digest(made_from[0]), *made_from[1:]])
    if artefact.exists() and memo.exists() and read_json(memo) == {"identity": identity, "made": digest_tree(artefact)}:
        return
    make()
    write_json(memo, {"identity": identity, "made": digest_tree(artefact)})


def _train(params: dict[str, Any], device: torch.device) -> None:
    """The model, unless it is there."""
    system = find_system(SYSTEM, params)
    print(f"3 of 4: train {system.method}", flush=True)
    plan = Plan.of(SYSTEM, system, params)
    if not plan.trains or trained_model(plan, device) is None:
        train_system(SYSTEM, system, params, device)


def _carry(params: dict[str, Any], target: Path, source: str) -> None:
    """Copy what captioning reads of the current folder to where the captioner is to be, with its card."""
    looked_up = make_method(SYSTEM, find_system(SYSTEM, params)).looks_up
    carried = [paths.foundation(CLIP), paths.model(SYSTEM), *([paths.corpus(CORPUS)] if looked_up else []),
               *(folder for need in looked_up for folder in need.folders(CLIP, CORPUS))]
    with finished_folder(target) as folder:
        shutil.copyfile(PARAMS_FILE, folder / PARAMS_FILE)
        for path in carried:
            shutil.copytree(path, folder / path)
        write_card(folder, source, params)
