"""The micro-world as a data set on disk: Karpathy's JSON and PNG images or H.264 videos, four disjoint pools (the fifth, foundation, is
never written)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from ..core import paths
from ..core.errors import UserError
from ..core.files import write_json
from ..core.params import Seed, StrictParams, Whole
from ..core.progress import track
from ..core.resume import resumable
from ..core.workers import workers
from ..images import write_pictures
from ..videos import write_video
from .captions import NO_THINGS, colour_words, describe, synonyms
from .films import FILM_SIZE, RATE, describe_film, film_record, film_stream, frames, motion_words, sample_film
from .questions import ask, question_stream
from .scenes import IMAGE_SIZE, STYLES, generator, render, sample_scene, to_record
from .sprites import CLASSES
from .web import WEB, sample_page, web_stream

_SHARD = 4096  # pictures of a tar file
# Karpathy's split names: the corpus is `train`
_SPLITS = {"corpus": "train", "unlabelled": "unlabelled", "val": "val", "test": "test"}
_ASKED = ("val", "test")
_MOST_QUESTIONS = 100  # about a scene: their ids have two digits behind the picture's


@dataclass(frozen=True)
class WorldParams(StrictParams):
    """One entry of `world`: a style and the number of scenes in each pool. The style `web` is a corpus of texts without pictures.

    pictures: whether corpus scenes, which give five sentences, give their picture too: the same sentences as without, for methods that
    are trained on pairs. questions: asked about each val and test scene, at most 100. moving: films in place of pictures, in which things
    move, and captions that say how.
    """

    style: str
    seed: Seed
    corpus: Whole = 12_000
    unlabelled: Whole = 1_000
    val: Whole = 1_000
    test: Whole = 2_000
    pictures: bool = False
    questions: Whole = 0
    moving: bool = False

    def __post_init__(self) -> None:
        if self.style not in (*STYLES, WEB):
            raise ValueError(f"style must be one of {', '.join((*STYLES, WEB))}")
        if self.style == WEB and any((self.unlabelled, self.val, self.test, self.pictures, self.questions, self.moving)):
            raise ValueError(f"style {WEB} has corpus alone: set unlabelled, val and test to 0, and no pictures, questions and moving")
        if self.questions > _MOST_QUESTIONS:
            raise ValueError(f"questions must be at most {_MOST_QUESTIONS}")
        if self.questions and self.moving:
            raise ValueError("questions are asked about pictures, not where moving is true")


def write_dataset(name: str, params: WorldParams) -> None:
    """Draw and describe a data set into `data/raw/<name>`: `dataset.json`, `images/<pool>/<number>.png`, and the corpus's pictures, if it
    has any, in WebDataset shards `images/corpus-<number>.tar`; of films, all as `images/<pool>/<number>.mp4`. What they show, for CHAIR:
    `instances.json`, `synonyms.txt`, `colours.txt`, of films `motions.txt`.
    Questions about val and test scenes, if there are any, in VQAv2's format: `questions.json`, `annotations.json`.
    Of web texts `dataset.json` alone, an image a page, with the `query` that finds it.
    """
    images: list[dict[str, Any]] = []
    total = sum(getattr(params, pool) for pool in _SPLITS)
    if total == 0:
        raise UserError(f"params.yaml: world.{name} has no scenes")
    if params.questions and not any(getattr(params, pool) for pool in _ASKED):
        raise UserError(f"params.yaml: world.{name} has no val or test scenes to ask about: set its questions to 0")
    jobs = [(pool, index) for pool in _SPLITS for index in range(getattr(params, pool))]
    with resumable(paths.raw(name), __name__, world=asdict(params)) as work, workers() as processes:
        if params.style == WEB:
            write_json(work.output / "dataset.json", {"dataset": name, "images": _pages(params)}, indent=None)
            return
        sentences = 0
        shard: dict[str, tuple[Image.Image, str]] = {}
        for pool in _SPLITS if params.moving else ():
            (work.output / "images" / pool).mkdir(parents=True, exist_ok=True)
        draw: Callable[[tuple[str, int]], _Drawn] = partial(_drawn, params)
        if params.moving:
            draw = partial(_filmed, params, work.output / "images")
        drawn = track(processes.map(draw, jobs, chunksize=64), f"draw {name}", total, "scenes")
        for (pool, index), (scene, texts, picture) in zip(jobs, drawn, strict=True):
            record: dict[str, Any] = {"imgid": len(images), "split": _SPLITS[pool],
                                      "sentences": [{"sentid": sentences + i, "imgid": len(images), "raw": text}
                                                    for i, text in enumerate(texts)]}
            sentences += len(texts)
            if params.moving and (pool != "corpus" or params.pictures):
                record |= {"filepath": pool, "filename": f"{index:05d}.mp4", "scene": scene}
            folder = work.output / "images" / ("" if pool == "corpus" else pool)
            folder.mkdir(parents=True, exist_ok=True)
            if picture and pool != "corpus":
                record |= {"filepath": pool, "filename": f"{index:05d}.png", "scene": scene}
                picture.save(folder / record["filename"])
            elif picture:
                tar = f"corpus-{index // _SHARD:03d}.tar"
                record |= {"filename": f"{tar}!{index:05d}.png", "scene": scene}
                shard[f"{index:05d}"] = picture, texts[0]
                if len(shard) == _SHARD or index + 1 == params.corpus:
                    write_pictures(folder / tar, {key: picture for key, (picture, _) in shard.items()},
                                   {key: text for key, (_, text) in shard.items()})
                    shard = {}
            images.append(record)
        write_json(work.output / "dataset.json", {"dataset": name, "images": images}, indent=None)
        write_json(work.output / "instances.json", instances(images), indent=None)
        lists: dict[str, Iterable[Sequence[str]]] = {"synonyms.txt": [*synonyms().values(), ["", *NO_THINGS]],
                                                     "colours.txt": colour_words().values()}
        if params.moving:
            lists["motions.txt"] = motion_words()
        for file, lines in lists.items():
            (work.output / file).write_text("".join(f"{', '.join(words)}\n" for words in lines), encoding="utf-8", newline="\n")
        if params.questions:
            _write_questions(work.output, params)


def _pages(params: WorldParams) -> list[dict[str, Any]]:
    pages = []
    for index in range(params.corpus):
        query, text = sample_page(web_stream("corpus", params.seed, index))
        pages.append({"imgid": index, "split": _SPLITS["corpus"], "query": query,
                      "sentences": [{"sentid": index, "imgid": index, "raw": text}]})
    return pages


def _write_questions(folder: Path, params: WorldParams) -> None:
    """What is asked about val and test scenes. image_id: the picture's `imgid` in `dataset.json`. question_id: 100 * image_id + i."""
    pools = [(pool, index) for pool in _SPLITS for index in range(getattr(params, pool))]
    questions: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (pool, index) in enumerate(pools):
        if pool not in _ASKED:
            continue
        scene = sample_scene(params.style, generator(params.style, pool, params.seed, index))
        for i, question in enumerate(ask(scene, question_stream(params.style, pool, params.seed, index), params.questions)):
            ids = {"image_id": image_id, "question_id": _MOST_QUESTIONS * image_id + i}
            questions.append({**ids, "question": question.text})
            answers = [{"answer": answer, "answer_confidence": "yes" if answer == question.answer else "maybe", "answer_id": number}
                       for number, answer in enumerate(question.answers, 1)]
            commonest = Counter(question.answers).most_common(1)[0][0]  # of several the first that was given
            annotations.append({"question_type": question.type, "multiple_choice_answer": commonest, "answers": answers,
                                "answer_type": question.answer_type, **ids})
    about = {"info": {"description": "Questions about the micro-world's scenes.", "version": "1.0"}, "task_type": "Open-Ended",
             "data_type": "micro-world", "license": {"name": "MIT"}, "data_subtype": params.style}
    write_json(folder / "questions.json", {**about, "questions": questions}, indent=None)
    write_json(folder / "annotations.json", {**about, "annotations": annotations}, indent=None)


def instances(images: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the pictures of these records show, in the format of COCO's instance annotations, its `colour` and its `motions` in films;
    boxes in pixels."""
    pictured = [image for image in images if "scene" in image]
    annotations: list[dict[str, Any]] = []
    for image in pictured:
        for thing in image["scene"]["things"]:
            left, top, right, bottom = (round(_size(image) * edge, 2) for edge in thing["box"])
            width, height = round(right - left, 2), round(bottom - top, 2)
            annotations.append({"id": len(annotations), "image_id": image["imgid"], "category_id": CLASSES.index(thing["name"]),
                                "bbox": [left, top, width, height], "area": round(width * height, 2), "iscrowd": 0,
                                "colour": thing["colour"], **({"motions": thing["motions"]} if "motions" in thing else {})})
    listed = [{"id": image["imgid"], "file_name": image["filename"], "width": _size(image), "height": _size(image)} for image in pictured]
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    return {"images": listed, "annotations": annotations, "categories": categories}


def _size(image: dict[str, Any]) -> int:
    return FILM_SIZE if "frames" in image["scene"] else IMAGE_SIZE


_Drawn = tuple[dict[str, Any], list[str], Image.Image | None]


def _drawn(params: WorldParams, job: tuple[str, int]) -> _Drawn:
    """One scene of a pool: its record, its sentences, and its picture where it has one."""
    pool, index = job
    rng = generator(params.style, pool, params.seed, index)
    scene = sample_scene(params.style, rng)
    texts = [] if pool == "unlabelled" else describe(scene, rng)
    return to_record(scene), texts, render(scene) if pool != "corpus" or params.pictures else None


def _filmed(params: WorldParams, folder: Path, job: tuple[str, int]) -> _Drawn:
    """One film of a pool: its record and its sentences; itself, where it is shown, is written below `folder`."""
    pool, index = job
    rng = film_stream(params.style, pool, params.seed, index)
    film = sample_film(params.style, rng)
    texts = [] if pool == "unlabelled" else describe_film(film, rng)
    if pool != "corpus" or params.pictures:
        write_video(folder / pool / f"{index:05d}.mp4", frames(film), RATE)
    return film_record(film), texts, None
