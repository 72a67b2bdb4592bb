"""`unpaired inspect`: what a file or folder of captions is, what is odd about it, and the entry of `extract` that reads it."""

from __future__ import annotations

import io
import itertools
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ..core.errors import UserError, printable
from ..core.files import files_below
from ..core.params import check
from ..images import SUFFIXES
from ..videos import is_video
from .extract import LEFT_OUT, Extraction, examine, read
from .parameters import ExtractParams
from .records import TRAIN_SPLITS, Records, field, parse_json
from .sources import Source
from .tables import cells_of, is_flickr, open_parquet
from .video_readers import MSVD_LISTS

_TEXTS = frozenset({".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".token", ".parquet", ".pkl", ".pickle", ".p"})
_ARCHIVES = (".zip", ".jar")
_LOOKED_AT, _ROWS = 2000, 200  # folders, for pictures; rows of a table, and pictures
_CLIPS = ("msrvtt", "msvd")
_CAPTIONS = re.compile(r".*(?:caption|text|sentence|description|title).*", re.IGNORECASE)
_FILES = re.compile(r"(?!.*url).*(?:image|picture|photo|file|video|clip|path).*", re.IGNORECASE)


@dataclass(frozen=True)
class Inspection:
    """What was found. entry: of `extract`, without what is the default anyway. captions, pictures: that extraction with it keeps."""

    name: str
    raw: Path
    entry: dict[str, Any]
    captions: int
    pictures: int
    splits: dict[str, int]
    captions_per_picture: dict[str, float] | None
    odd: list[str]

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {"name": self.name, "raw": str(self.raw), "captions": self.captions, "pictures": self.pictures, "splits": self.splits,
                "captions_per_picture": self.captions_per_picture, "odd": self.odd, "extract": {self.name: self.entry}}

    def as_text(self) -> str:
        """YAML to paste into params.yaml, under comments that tell the rest."""
        each = self.captions_per_picture
        told = [f"{self.raw / self.entry['source']}: {_KINDS[self.entry['format']]}",
                f"{self.captions} captions: " + ", ".join(f"{count} {split}" for split, count in self.splits.items()),
                *([f"captions a picture: {each['min']:g} to {each['max']:g}, {each['mean']:g} on average"] if each else []),
                f"{self.pictures} pictures or videos", *(f"odd: {line}" for line in self.odd),
                f"for params.yaml, once data/raw/{self.name} is this folder or a link to it:"]
        out = io.StringIO()
        YAML().dump({"extract": {self.name: self.entry}}, out)
        return "".join(f"# {printable(line)}\n" for line in told) + out.getvalue()


_KINDS = {
    "karpathy": "Karpathy's JSON", "coco": "captions in COCO's JSON", "lines": "a sentence a line", "json": "a JSON list",
    "maccap": "MAGIC's and MacCap's JSON", "msrvtt": "MSR-VTT's JSON", "msvd": "MSVD's descriptions", "table": "a table",
    "jsonl": "JSON Lines", "parquet": "a Parquet file", "flickr": "Flickr's token file", "pickle": "pickled sentences",
    "folder": "pictures with texts beside them",
}


def inspect(place: Path) -> Inspection:
    """What a file or folder holds. Raises `UserError` where no format fits, with what the likeliest one says."""
    if not place.exists():
        raise UserError(f"{place}: no such file or folder")
    raw, sources = _sources(place.absolute())
    refusals = []
    for source in sources:
        try:
            return _told(raw, *_read(raw, source))
        except UserError as error:
            refusals.append(str(error))
    raise UserError(refusals[0] if refusals else f"{place} holds no captions in a form that is known: see docs/data.md")


def _read(raw: Path, source: str) -> tuple[dict[str, Any], Records]:
    """The first entry that reads captions out of a source, and these; `UserError` with what the likeliest one says."""
    refusals = []
    for guess in list(_guesses(raw, source)):
        entry = {"format": guess["format"], "source": source, **guess}
        try:
            records = read(raw, check(ExtractParams, entry, source))
        except UserError as error:
            refusals.append(str(error))
        else:
            if records.captions:
                return entry, records
    raise UserError(refusals[0] if refusals else f"{source} holds no captions")


def _sources(place: Path) -> tuple[Path, list[str]]:
    """The folder that would be data/raw/<name>, and what in it may be the source, the likeliest first."""
    raw = place if place.is_dir() else place.parent
    raw = next((folder for folder in (raw, *raw.parents) if folder.parts[-3:-1] == ("data", "raw")), raw)
    whole = place.relative_to(raw).as_posix()
    if not place.is_dir():
        return raw, list(_members(place, whole))
    files = files_below(place)
    texts = [path for path in files if (_suffix(path.name) in _TEXTS or path.suffix.lower() in _ARCHIVES) and path.stat().st_size]
    texts = [path for path in texts if path.name not in MSVD_LISTS.values()]
    beside = {path.with_suffix("") for path in files if path.suffix.lower() in SUFFIXES or is_video(path.name)}
    own = [path for path in texts if path.with_suffix("") not in beside]
    names = [name for path in sorted(own, key=lambda path: (len(path.parts), path.suffix == ".txt", -path.stat().st_size))
             for name in _members(path, path.relative_to(raw).as_posix())]
    return raw, [whole, *names] if len(own) < len(texts) or any(path.suffix.lower() == ".tar" for path in files) else [*names, whole]


def _members(path: Path, name: str) -> Iterator[str]:
    """The file itself, or what may be captions in an archive."""
    if path.suffix.lower() not in _ARCHIVES:
        yield name
        return
    try:
        with zipfile.ZipFile(path) as archive:
            yield from (f"{name}!{member.filename}" for member in sorted(archive.infolist(), key=lambda member: -member.file_size)
                        if _suffix(member.filename) in _TEXTS and member.file_size)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({error}): replace the file by a whole and readable one") from None


def _suffix(name: str) -> str:
    return Path(name.lower().removesuffix(".gz")).suffix


def _guesses(raw: Path, source: str) -> Iterator[dict[str, Any]]:
    """Entries of `extract` that may fit, without source, the likeliest first."""
    suffix = _suffix(source)
    if suffix == ".tar" or (raw / source).is_dir():
        yield {"format": "folder"}
    elif suffix == ".parquet":
        yield from _with_columns(raw, source, "parquet")
    elif suffix in (".pkl", ".pickle", ".p"):
        yield {"format": "pickle"}
    elif suffix in (".jsonl", ".ndjson"):
        yield from _with_columns(raw, source, "jsonl")
    elif suffix == ".json":
        yield from _of_json(raw, source)
    else:
        first = next((line for line in Source(raw, source).lines() if line.strip()), "")
        if is_flickr(first):
            yield {"format": "flickr"}
        if all((raw / name).exists() for name in MSVD_LISTS.values()):
            yield {"format": "msvd"}
        if suffix in (".csv", ".tsv") or "\t" in first:
            yield from _with_columns(raw, source, "table")
        yield {"format": "lines"}


def _with_columns(raw: Path, source: str, format: str) -> Iterator[dict[str, Any]]:
    """With columns found by their usual names, else by names that are alike, else by what stands in a table without a header."""
    yield {"format": format}
    rows = list(itertools.islice(_cells(Source(raw, source), format), _ROWS))
    names = rows[0] if rows else []
    roles = {"caption": _CAPTIONS, "file": _FILES, "split": re.compile("split", re.IGNORECASE)}
    columns: dict[str, str | int] = {}
    for role, pattern in roles.items():
        if name := next((name for name in names if pattern.fullmatch(name.strip())), None):
            columns[role] = name.strip()
    if "caption" in columns:
        yield {"format": format, "columns": columns}
    elif format == "table" and names:
        words = [sum(len(row[i].split()) for row in rows if len(row) == len(names)) for i in range(len(names))]
        best = words.index(max(words))
        pictures = [i for i, cell in enumerate(names) if "://" not in cell and Path(cell.lower()).suffix in SUFFIXES and i != best]
        yield {"format": format, "columns": {"caption": best + 1, **({"file": pictures[0] + 1} if pictures else {})}}


def _cells(source: Source, format: str) -> Iterator[list[str]]:
    """The names of the columns, and of a table the rows below them."""
    if format == "parquet":
        yield open_parquet(source)[1]
    elif format == "table":
        yield from (row for _, row in cells_of(source, headless=True) if row)
    else:
        text = next((line for line in source.lines() if line.strip()), "{}") if format == "jsonl" else source.text()
        data = parse_json(text, source.name)
        first = data[0] if isinstance(data, list) and data else data
        yield list(first) if isinstance(first, dict) else []


def _of_json(raw: Path, source: str) -> Iterator[dict[str, Any]]:
    """By the names that stand at the top."""
    data = parse_json(Source(raw, source).text(), source)
    top = data if isinstance(data, dict) else {}
    first = next(iter(data), None) if isinstance(data, list) else None
    annotation = next(iter(field(top, "annotations", list, source, "top level")), None) if "annotations" in top else None
    if "questions" in top or (isinstance(annotation, dict) and "caption" not in annotation):
        raise UserError(f"{source} holds no captions: questions and their annotations go into `questions` of params.yaml, COCO's instances "
                        "into `instances` of an entry of `extract`")
    if "videos" in top:
        yield {"format": "msrvtt"}
    elif "annotations" in top:
        yield {"format": "coco"}
    elif isinstance(data, dict):
        yield {"format": "karpathy"}
    elif isinstance(first, dict) and "image_name" in first and "captions" in first:
        yield {"format": "maccap"}
    elif isinstance(first, dict):
        yield from _with_columns(raw, source, "json")
    else:
        yield {"format": "json"}


def _told(raw: Path, entry: dict[str, Any], records: Records) -> Inspection:
    """What there is to say of records that could be read, with the entry that extracts them."""
    entry |= _pictures_of(raw, entry, records)
    found = examine(raw, check(ExtractParams, {**entry, "bad_captions": "skip", "bad_images": "skip", "heldout": 0}, entry["source"]))
    report = found.report
    if any(not skipped["reason"].startswith(LEFT_OUT) for skipped in report["skipped"]):
        entry["bad_captions"] = "skip"
    if report.get("skipped_images"):
        entry["bad_images"] = "skip"
    if len({caption.image_id or caption.text for caption in found.corpus}) == 1 < len(found.corpus):
        entry["heldout"] = 0  # whole pictures and sentences are held out, and here is one
    kept = [*found.corpus, *found.references]
    counts = Counter(caption.image_id for caption in kept if caption.image_id is not None)
    each = {"min": min(counts.values()), "max": max(counts.values()), "mean": round(counts.total() / len(counts), 2)} if counts else None
    splits = {"train": len(found.corpus), **{split: report["references"][split] for split in ("val", "test")}}
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", raw.name).strip("-_")[:64] or "mine"
    return Inspection(name, raw, entry, len(kept), len(found.images), {split: n for split, n in splits.items() if n}, each,
                      _odd(found))


def _pictures_of(raw: Path, entry: dict[str, Any], records: Records) -> dict[str, str]:
    """Where the pictures lie, and how clips end where the format leaves it out; nothing where none is found."""
    if not records.images or entry["format"] == "folder":
        return {}
    looked_at = [image for image in records.images if image.split not in TRAIN_SPLITS] or records.images
    few = {image.image_id if entry["format"] in _CLIPS else image.name: image for image in looked_at[:_ROWS]}
    for place, _, files in itertools.islice(os.walk(raw), _LOOKED_AT):
        folder = Path(place).relative_to(raw).as_posix()
        if entry["format"] in _CLIPS:
            found = next(((few[Path(name).stem], Path(name).suffix) for name in sorted(files) if Path(name).stem in few), None)
            if found:
                return _unless_default(images=folder, suffix="" if found[0].name.endswith(found[1]) else found[1])
        elif any(os.path.isfile(Path(place, name)) for name in few):
            return _unless_default(images=folder)
    return {}


def _unless_default(images: str, suffix: str = "") -> dict[str, str]:
    return {key: value for key, value in (("images", images), ("suffix", suffix)) if value not in (".", "")}


def _odd(found: Extraction) -> list[str]:
    """What people would like to know before they train on it, a line each."""
    report, texts = found.report, [caption.text or "" for caption in (*found.corpus, *found.references)]
    tables = ("corpus", "references")
    again = len(texts) - len(set(texts))
    foreign = sum(not text.isascii() for text in texts)
    reasons = Counter(re.sub(r"\d+", "N", skipped["reason"].split(":")[0]) for skipped in report["skipped"])
    left_out = Counter("missing" if each["reason"].endswith("is missing") else "without captions" if "no sentences" in each["reason"]
                       else "broken" for each in report.get("skipped_images", []))
    lines = {
        "captions that repeat an earlier one": again,
        "captions with HTML's entities, which are written out": sum(report[table].get("unescaped", 0) for table in tables),
        "captions with line breaks or blanks that become one space": sum(report[table]["normalised"] for table in tables),
        "captions with words that no space divides, which metrics take for one word": report["unspaced"],
        f"captions with characters beyond ASCII ({foreign / max(1, len(texts)):.1%})": foreign,
        "blank lines": report["blank_lines"],
        "captions of clips or pictures that no list names": report.get("unlisted") or 0,
        **{f"captions left out because {reason}": count for reason, count in reasons.items()},
        **{f"pictures left out, {reason}": count for reason, count in left_out.items()},
    }
    alone = [f"only one {split} picture: scores need two" for split in ("val", "test") if report["images"][split] == 1]
    return [f"{line}: {count}" for line, count in lines.items() if count] + alone
