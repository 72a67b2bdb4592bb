"""What users bring, mutated: caption files and archives, pictures and what lies among them, models, tar files."""

from __future__ import annotations

import copy
import gzip
import io
import json
import os
import pickle
import random
import shutil
import socket
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.core.errors import printable
from pipeline.core.progress import track
from tests.project import read_params
from tests.storm.damages import DAMAGES
from tests.storm.values import flaw_of
from tests.storm.weather import Ended, Running, Weather, aside, remove

_JUNK: list[Any] = [None, True, 1, -1, 0.5, 10**30, "", " ", "\0", "a\x1b[31m", "../../x", "/etc/passwd", [], {}, [[]], {"a": None},
                    "x" * 500, "…"]
_PATIENCE = 60.0


def inputs(weather: Weather, rounds: int, chance: random.Random) -> Iterator[str]:
    """Each round one input of one kind."""
    kinds = [_captions, _captions, _pictures, _models, _shards]
    for number in track(range(rounds), "inputs", rounds, "rounds"):
        yield from kinds[number % len(kinds)](weather, chance)


def _judged(weather: Weather, kind: str, what: str, ended: Ended) -> Iterator[str]:
    """Counted, or a problem. Of pictures, those that were left out are named in lines of their own, and the exit code is 1."""
    if ended.hung:
        yield f"{what}: hung"
    elif ended.status not in (0, 1) or "Traceback" in ended.said or (ended.status == 1 and not ended.in_one_line and kind != "pictures"):
        yield f"{what}: ended with {ended.status}: {ended.said[-500:]}"
    else:
        weather.seen[f"{kind}: {'refused' if ended.status else 'taken'}"] += 1


def _captions(weather: Weather, chance: random.Random) -> Iterator[str]:
    """A caption file of any format, plain or packed, with a mutation of its text, of its structure, or of the archive's bytes."""
    source = json.loads((weather.path("data/raw/scenes/dataset.json")).read_text())
    name = chance.choice(sorted(_FORMATS))
    value = _FORMATS[name](source, chance)
    for _ in range(chance.randint(0, 2)):
        value = _mutated(value, chance)
    content = ("\n".join(map(str, value)) if name == "lines" else json.dumps(value)).encode("utf-8", "surrogatepass")
    damage, packing = chance.choice([*DAMAGES, "none", "none"]), chance.choice(["plain", "gz", "zip"])
    inside = chance.random() < 0.5
    if damage in DAMAGES and inside:
        content = DAMAGES[damage](content, chance) or b""
    file, packed = _packed(content, packing)
    if damage in DAMAGES and not inside:
        packed = DAMAGES[damage](packed, chance) or b""
        content = packed if packing == "plain" else content  # a shorter text is a text
    raw = weather.path("data/raw/storm")
    shutil.rmtree(raw, ignore_errors=True)
    raw.mkdir()
    shutil.copytree(weather.path("data/raw/scenes/images"), raw / "images", copy_function=os.link)
    (raw / file.split("!")[0]).write_bytes(packed)
    whole = read_params(weather.project.folder)
    bad = chance.choice(["skip", "error"])
    weather.project.write_params({**whole, "extract": {**whole["extract"], "storm": {
        "format": name, "source": file, "images": "images", "bad_captions": bad, "split": chance.choice(["train", "test"])}}})
    ended = Running(weather, "stages.extract", ["storm"]).end(patience=_PATIENCE)
    what = f"{name}, {packing}, {bad}, {damage} {'inside' if inside else 'outside'}: {value!r:.300}"
    yield from _judged(weather, "captions", what, ended)
    if ended.status == 0:
        report = json.loads(weather.path("data/corpus/storm/report.json").read_text())
        counted = report["corpus"]["read"] + report["other_splits"] + report["references"]["read"] + report["blank_lines"]
        if (expected := _count(name, content)) != counted:
            yield f"{what}: {counted} captions accounted for, {expected} are there"
    weather.project.write_params(whole)
    for place in (raw, weather.path("data/corpus/storm")):
        shutil.rmtree(place, ignore_errors=True)


def _karpathy(source: dict[str, Any], chance: random.Random) -> Any:
    return {"images": chance.sample(source["images"], 8), "dataset": "scenes"}


def _coco(source: dict[str, Any], chance: random.Random) -> Any:
    images = [image for image in chance.sample(source["images"], 20) if "filename" in image][:6]
    return {"images": [{"id": i, "file_name": f"{image.get('filepath', '.')}/{image['filename']}"} for i, image in enumerate(images)],
            "annotations": [{"id": 10 * i + j, "image_id": i, "caption": sentence["raw"]}
                            for i, image in enumerate(images) for j, sentence in enumerate(image["sentences"])]}


def _lines(source: dict[str, Any], chance: random.Random) -> list[Any]:
    return [sentence["raw"] for image in chance.sample(source["images"], 8) for sentence in image["sentences"]]


def _maccap(source: dict[str, Any], chance: random.Random) -> Any:
    images = [image for image in chance.sample(source["images"], 30) if "filename" in image and image["split"] in ("val", "test")][:6]
    return [{"split": image["split"], "image_name": f"{image.get('filepath', '.')}/{image['filename']}",
             "captions": [sentence["raw"] for sentence in image["sentences"]]} for image in images]


_FORMATS: dict[str, Callable[[dict[str, Any], random.Random], Any]] = {
    "karpathy": _karpathy, "coco": _coco, "lines": _lines, "json": _lines, "maccap": _maccap}


def _count(name: str, content: bytes) -> int:
    """How many captions a readable file holds, blank lines included, counted another way than the readers do."""
    text = content.decode("utf-8-sig")
    if name == "lines":
        return text.replace("\r\n", "\n").replace("\r", "\n").count("\n") + (not text.endswith(("\n", "\r")) and bool(text))
    value = json.loads(text)
    if name == "karpathy":
        return sum(len(image["sentences"]) for image in value["images"] if image["split"] != "unlabelled")
    if name == "coco":
        return len(value["annotations"])
    return len(value) if name == "json" else sum(len(image["captions"]) for image in value)


def _mutated(value: Any, chance: random.Random) -> Any:
    """The same with one part exchanged for junk, gone, or twice there."""
    changed = copy.deepcopy(value)
    if not isinstance(changed, dict | list) or not changed:
        return chance.choice(_JUNK)
    place = changed
    while True:
        key: Any = chance.choice(sorted(place)) if isinstance(place, dict) else chance.randrange(len(place))
        if not isinstance(place[key], dict | list) or not place[key] or chance.random() < 0.2:
            break
        place = place[key]
    action = chance.choice(["junk", "junk", "gone", "twice"])
    if action == "junk":
        place[key] = chance.choice(_JUNK)
    elif action == "gone":
        del place[key]
    elif isinstance(place, list):
        place.append(copy.deepcopy(place[key]))
    return changed


def _packed(content: bytes, packing: str) -> tuple[str, bytes]:
    """The name of a source and the bytes of its file."""
    if packing == "gz":
        return "captions.txt.gz", gzip.compress(content)
    if packing == "plain":
        return "captions.txt", content
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("captions.txt", content)
    return "captions.zip!captions.txt", archive.getvalue()


def _pictures(weather: Weather, chance: random.Random) -> Iterator[str]:
    """A folder of pictures of all kinds, one damaged, and odd things among them: each is captioned or named."""
    folder = weather.path("pictures")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    picture = Image.open(weather.path("data/raw/scenes/images/test/00003.png"))
    for suffix, mode in (("png", "RGB"), ("jpg", "L"), ("webp", "RGBA"), ("gif", "P"), ("bmp", "RGB"), ("PNG", "1")):
        picture.convert(mode).save(folder / f"{mode}.{suffix}")
    Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(48, 64)).save(folder / "deep.tif")
    victim = chance.choice(sorted(folder.iterdir()))
    damage = chance.choice(sorted(DAMAGES))
    content = DAMAGES[damage](victim.read_bytes(), chance)
    victim.unlink() if content is None else victim.write_bytes(content)
    odd = chance.choice(sorted(_ODD))
    _ODD[odd](folder)
    files = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    ended = Running(weather, "pipeline.cli", ["caption", str(folder), "--system", "raw"]).end(patience=_PATIENCE)
    what = f"a folder with {odd}, and {damage} in {victim.name}"
    yield from _judged(weather, "pictures", what, ended)
    forms = {path.name: {printable(path.name), printable(os.fsencode(path.name).decode(errors="replace"))} for path in files}
    if unnamed := [name for name, printed in forms.items() if not any(form in ended.said for form in printed)]:
        yield f"{what}: nothing was said of {unnamed}: {ended.said[-300:]}"
    if "\x1b" in ended.said:
        yield f"{what}: control characters reach the terminal"
    shutil.rmtree(folder)


def _socket(folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("odd.png")
    finally:
        os.chdir(here)


_ODD: dict[str, Callable[[Path], Any]] = {
    "a pipe": lambda folder: os.mkfifo(folder / "odd.png"),
    "a socket": _socket,
    "a link to a device": lambda folder: os.symlink("/dev/zero", folder / "odd.png"),
    "a link that leads nowhere": lambda folder: os.symlink("nowhere.png", folder / "odd.png"),
    "a link to itself": lambda folder: os.symlink("odd.png", folder / "odd.png"),
    "a folder with a picture's name": lambda folder: (folder / "odd.png").mkdir(),
    "a name that acts on terminals": lambda folder: (folder / "odd\x1b[31m\n.png").write_bytes(b"x"),
    "a name that is no UTF-8": lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/odd\xff.png")).write_bytes(b"x"),
    "a kind of picture that is not read": lambda folder: (folder / "odd.heic").write_bytes(b"x"),
    "a text": lambda folder: (folder / "odd.txt").write_text("x"),
    "a text with a picture's name": lambda folder: (folder / "odd.png").write_text("x"),
    "a picture of one pixel": lambda folder: Image.new("RGB", (1, 1)).save(folder / "odd.png"),
    "a strip": lambda folder: Image.new("L", (1, 60000)).save(folder / "odd.png"),
    "a bomb": lambda folder: Image.new("1", (30000, 30000)).save(folder / "odd.png"),
    "nothing": lambda folder: None,
}
_READERS = {"micro": ("embed_text@micro-scenes", "embed_images@micro-scenes", "train@knight"), "detector": ("tag@detector-scenes",),
            "judge": ("embed_judged@scenes", "evaluate@knight"), "diffusion": ("synthesize@scenes",)}


def _models(weather: Weather, chance: random.Random) -> Iterator[str]:
    """A model of the user's own, without a manifest, with a mutated or exchanged file."""
    model = chance.choice(sorted(_READERS))
    reader = chance.choice(_READERS[model])
    stage = next(stage for stage in weather.stages if stage.name == reader)
    folder = weather.path(f"data/foundation/{model}")
    kept = folder.with_name(f"{model}.kept")
    folder.rename(kept)
    shutil.copytree(kept, folder)
    (folder / "unpaired-manifest.json").unlink()
    file = chance.choice(sorted(path for path in folder.rglob("*") if path.is_file() and "pictures" not in path.name))
    what = _spoil(file, folder.parent / "pwned", chance)
    with aside(weather, stage):
        ended = Running(weather, stage.module, stage.arguments).end(patience=_PATIENCE)
        told = f"{stage.name} with {what} in {file.relative_to(weather.project.folder)}"
        yield from _judged(weather, "models", told, ended)
        if ended.status == 0:
            yield from (f"{told}: {path} {flaw}" for out in stage.outs for path in weather.path(out).rglob("*") if (flaw := flaw_of(path)))
    if (folder.parent / "pwned").exists():
        yield f"{told}: code of a pickle was run"
        (folder.parent / "pwned").unlink()
    remove(folder)
    kept.rename(folder)


class _Pwn:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.path),)


def _spoil(file: Path, pwned: Path, chance: random.Random) -> str:
    if file.suffix == ".safetensors" and chance.random() < 0.3:
        file.with_name(file.name.replace("model.safetensors", "pytorch_model.bin").replace("open_clip_open_clip", "open_clip")).write_bytes(
            pickle.dumps(_Pwn(pwned)))
        file.unlink()
        return "a pickle in place of weights"
    if file.suffix == ".json" and chance.random() < 0.7:
        value = json.loads(file.read_text())
        for _ in range(chance.randint(1, 3)):
            value = _mutated(value, chance)
        file.write_text(json.dumps(value))
        return "another shape"
    name = chance.choice(sorted(DAMAGES))
    content = DAMAGES[name](file.read_bytes(), chance)
    file.unlink() if content is None else file.write_bytes(content)
    return name


def _shards(weather: Weather, chance: random.Random) -> Iterator[str]:
    """Pictures in a tar file beside a data set's records, damaged between extraction and embedding or before."""
    raw = weather.path("data/raw/storm")
    shutil.rmtree(raw, ignore_errors=True)
    raw.mkdir()
    pictures = sorted(weather.path("data/raw/scenes/images/test").iterdir())[:4]
    with tarfile.open(raw / "a.tar", "w") as tar:
        for path in pictures:
            tar.add(path, path.name)
    records = {"images": [{"id": i, "file_name": f"a.tar!{path.name}"} for i, path in enumerate(pictures)],
               "annotations": [{"id": i, "image_id": i, "caption": "a cup"} for i in range(len(pictures))]}
    (raw / "captions.json").write_text(json.dumps(records))
    whole = read_params(weather.project.folder)
    weather.project.write_params({**whole, "extract": {**whole["extract"], "storm": {
        "format": "coco", "source": "captions.json", "split": "test"}}})
    damage, early = chance.choice(sorted(DAMAGES)), chance.random() < 0.5
    steps: list[Callable[[], Ended | None]] = [
        lambda: Running(weather, "stages.extract", ["storm"]).end(patience=_PATIENCE),
        lambda: Running(weather, "stages.embed_images", ["micro", "storm"]).end(patience=_PATIENCE)]
    steps.insert(0 if early else 1, lambda: _hit(raw / "a.tar", damage, chance))
    for step in steps:
        ended = step()
        if ended is not None:
            yield from _judged(weather, "shards", f"{damage} in a tar file, {'before' if early else 'after'} extraction", ended)
            if ended.status:
                break
    weather.project.write_params(whole)
    for place in (raw, weather.path("data/corpus/storm"), weather.path("data/features/micro/image/storm")):
        shutil.rmtree(place, ignore_errors=True)


def _hit(file: Path, damage: str, chance: random.Random) -> None:
    content = DAMAGES[damage](file.read_bytes(), chance)
    file.unlink() if content is None else file.write_bytes(content)
