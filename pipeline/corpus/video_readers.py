"""The formats of video captioning's data sets, and tables of captions for any folder of clips or pictures.

Readers as `readers.py` describes them: the ids of images are those of clips.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from ..core.errors import UserError
from ..core.files import UNWANTED
from ..core.params import suggest
from .records import (
    Caption,
    ClipList,
    Image,
    Options,
    Records,
    field,
    identifier,
    lines_of,
    parse_json,
    require_unique,
    shown,
    split_of,
)

MSVD_LISTS = {"train": "train_list.txt", "val": "val_list.txt", "test": "test_list.txt"}
"""The names under which MSVD's usual split of 1,200, 100 and 670 clips is passed around."""
_CLIP = re.compile(r"[\w-]+_\d+_\d+", re.ASCII)  # YouTube's id, which may hold "_" and "-"; start; end
_EXAMPLE = "mv89psg6zh4_33_46"
_MSRVTT_SPLITS = {"train": "train", "validate": "val", "test": "test"}
_TABLE_SPLITS = {
    "train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test",
    "unlabelled": "unlabelled",
}
_FILE_COLUMNS = ("video", "clip", "image", "file", "file_name", "filename", "path")
_CAPTION_COLUMNS = ("caption", "text", "sentence", "description")


def read_msrvtt(text: str, source: str, options: Options) -> Records:
    """MSR-VTT's JSON: {videos: [{video_id, split}], sentences: [{sen_id, video_id, caption}]}.

    Its `validate` is val here. A clip's file is its video_id and a suffix, ".mp4" unless `options` has one.
    Source: `train_val_videodatainfo.json` and `test_videodatainfo.json` of Xu et al., CVPR 2016.
    """
    data, suffix = parse_json(text, source), options.suffix or ".mp4"
    images = []
    for i, record in enumerate(field(data, "videos", list, source, "top level")):
        video = identifier(record, "video_id", source, "videos", i)
        images.append(Image(video, video + suffix, split_of(record, source, "videos", i, _MSRVTT_SPLITS)))
    require_unique([image.image_id for image in images], "video", source)
    captions, splits = [], {image.image_id: image.split for image in images}
    for i, record in enumerate(field(data, "sentences", list, source, "top level")):
        video = identifier(record, "video_id", source, "sentences", i)
        if video not in splits:
            raise UserError(f"{source}: sentences[{i}] is of video {video}, which `videos` does not list: "
                            "correct either")
        captions.append(Caption(identifier(record, "sen_id", source, "sentences", i), video,
                                field(record, "caption", str, source, "sentences", i), splits[video]))
    return Records(captions, images, own_splits=True)


def read_msvd(text: str, source: str, options: Options) -> Records:
    """MSVD's `AllVideoDescriptions.txt`: lines of a clip's name and a caption; blank ones and comments ("#").

    The splits are `options.lists`; captions of clips that none of them names are left out and counted. Ids of
    captions are `clip#k`, k from 0; a clip's file is its name and a suffix, ".avi" unless `options` has one.
    Source: Chen and Dolan, ACL 2011.
    """
    described: list[tuple[str, str]] = []
    lines = lines_of(text)
    for i, line in enumerate(lines, 1):
        clip, caption = (*line.split(maxsplit=1), "", "")[:2]
        if not clip or clip.startswith("#"):
            continue
        if not _CLIP.fullmatch(clip):
            raise UserError(f"{source}, line {i}: {shown(clip)} is no clip's name such as {_EXAMPLE}, which "
                            "a caption follows: correct it, or choose another format")
        described.append((clip, caption))
    splits, names = _listed(options.lists), ", ".join(own.name for own in options.lists)
    if described and not any(clip in splits for clip, _ in described):
        raise UserError(f"{source}: none of its clips, such as {described[0][0]}, is in {names or 'a list'}: "
                        "correct source or lists")
    captions, counts = [], Counter[str]()
    for clip, caption in described:
        if clip in splits:
            captions.append(Caption(f"{clip}#{counts[clip]}", clip, caption, splits[clip]))
            counts[clip] += 1
    images = [Image(clip, clip + (options.suffix or ".avi"), split) for clip, split in splits.items()]
    blank = sum(not line.strip() for line in lines)
    return Records(captions, images, blank=blank, own_splits=True, unlisted=len(described) - len(captions))


def _listed(lists: Sequence[ClipList]) -> dict[str, str]:
    """The split of each clip, in the order of the lists."""
    splits: dict[str, str] = {}
    for split, name, text in lists:
        for i, line in enumerate(lines_of(text), 1):
            if not (clip := line.strip()):
                continue
            if not _CLIP.fullmatch(clip):
                raise UserError(f"{name}, line {i}: {shown(clip)} is no clip's name such as {_EXAMPLE}: "
                                "list such names alone, one a line")
            if clip in splits:
                raise UserError(f"{name}, line {i}: clip {clip} is already listed for {splits[clip]}: "
                                "keep one of the two lines")
            splits[clip] = split
    return splits


def read_table(text: str, source: str, options: Options) -> Records:
    """A table with a row for each caption, whose header names columns of files, of captions, perhaps of splits.

    Other columns are ignored. What separates them is a tab where the source's name ends in .tsv or the header
    has one, else a comma; quotation marks are those of RFC 4180. Ids are the files' names as written, those of
    captions `file#k`, k from 0. An "unlabelled" row has no caption and only lists its file.
    """
    rows = _rows(text, source)
    header = next((row for _, row in rows if row), [])
    if not header:
        raise UserError(f"{source} is empty: give it a header of column names and a row for each caption")
    file = _column(header, _FILE_COLUMNS, "files", source)
    caption = _column(header, _CAPTION_COLUMNS, "captions", source)
    divided = any(_is_named(name, ("split",)) for name in header)
    split = _column(header, ("split",), "splits", source) if divided else None
    captions: list[Caption] = []
    splits: dict[str, str] = {}
    counts, blank = Counter[str](), 0
    for line, row in rows:
        if not row:
            blank += 1
            continue
        if len(row) != len(header):
            found = f"the row has {len(row)} columns, the header {len(header)}"
            raise UserError(f"{source}, line {line}: {found}: correct it, and quote captions that hold what "
                            "separates columns")
        name, sentence = row[file], row[caption]
        if not name.strip() or UNWANTED.search(name):
            raise UserError(f"{source}, line {line}: {shown(name)} is no file's name: correct the row")
        own = options.split if split is None else _table_split(row[split], source, line)
        if splits.setdefault(name, own) != own:
            raise UserError(f"{source}, line {line}: {shown(name)} is {own} here and {splits[name]} before: "
                            "give all rows of a file one split")
        if own != "unlabelled":
            captions.append(Caption(f"{name}#{counts[name]}", name, sentence, own))
            counts[name] += 1
        elif sentence.strip():
            raise UserError(f"{source}, line {line}: {shown(name)} is unlabelled and yet has a caption: "
                            "remove it, or give another split")
    images = [Image(name, name, own) for name, own in splits.items()]
    return Records(captions, images, blank=blank, own_splits=divided)


def _rows(text: str, source: str) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of the line that it begins in; blank lines are rows of no columns."""
    header = re.search(r"[^\r\n]+", text)
    tabs = source.lower().removesuffix(".gz").endswith(".tsv") or (header and "\t" in header[0])
    reader, line = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if tabs else ",", strict=True), 1
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{source}, line {line}: the row that begins here cannot be read ({error}): "
                        "close its quotation marks, and double those inside of them") from None


def _is_named(column: str, names: Sequence[str]) -> bool:
    return column.strip().lower() in names


def _column(header: Sequence[str], names: Sequence[str], what: str, source: str) -> int:
    """Where the one column of one of these names stands."""
    found = [i for i, column in enumerate(header) if _is_named(column, names)]
    if len(found) == 1:
        return found[0]
    if found:
        alike = ", ".join(shown(header[i]) for i in found)
        raise UserError(f"{source}: {len(found)} columns of {what}, {alike}: rename all but one")
    there = ", ".join([*(shown(column) for column in header[:20]), *(["..."] if len(header) > 20 else [])])
    raise UserError(f"{source}: no column of {what}; its header has {there}: name one {' or '.join(names)}, "
                    "and separate columns by commas or tabs")


def _table_split(written: str, source: str, line: int) -> str:
    own = written.strip().lower()
    if own not in _TABLE_SPLITS:
        raise UserError(f"{source}, line {line}: unknown split {shown(written)}{suggest(own, _TABLE_SPLITS)}")
    return _TABLE_SPLITS[own]
