"""The formats of video captioning's data sets.

Readers as `readers.py` describes them: the ids of images are those of clips.
"""

from __future__ import annotations

import re
from collections import Counter

from ..core.errors import UserError
from .records import (
    Caption,
    Image,
    Options,
    Records,
    field,
    identifier,
    listed_splits,
    parse_json,
    require_unique,
    sentence_of,
    shown,
    split_of,
)
from .sources import Source

MSVD_LISTS = {"train": "train_list.txt", "val": "val_list.txt", "test": "test_list.txt"}
"""The names under which MSVD's usual split of 1,200, 100 and 670 clips is passed around."""
_CLIP = re.compile(r"[\w-]+_\d+_\d+", re.ASCII)  # YouTube's id, which may hold "_" and "-"; start; end
_EXAMPLE = "mv89psg6zh4_33_46"
_MSRVTT_SPLITS = {"train": "train", "validate": "val", "test": "test"}


def read_msrvtt(file: Source, options: Options) -> Records:
    """MSR-VTT's JSON: {videos: [{video_id, split}], sentences: [{sen_id, video_id, caption}]}.

    Its `validate` is val here. A clip's file is its video_id and a suffix, ".mp4" unless `options` has one.
    Source: `train_val_videodatainfo.json` and `test_videodatainfo.json` of Xu et al., CVPR 2016.
    """
    data, source, suffix = parse_json(file.text(), file.name), file.name, options.suffix or ".mp4"
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
                                sentence_of(record, "caption", source, "sentences", i), splits[video]))
    return Records(captions, images, own_splits=True)


def read_msvd(file: Source, options: Options) -> Records:
    """MSVD's `AllVideoDescriptions.txt`: lines of a clip's name and a caption; blank ones and comments ("#").

    The splits are `options.lists`; captions of clips that none of them names are left out and counted. Ids of
    captions are `clip#k`, k from 0; a clip's file is its name and a suffix, ".avi" unless `options` has one.
    Source: Chen and Dolan, ACL 2011.
    """
    described: list[tuple[str, str]] = []
    blank = 0
    for i, line in enumerate(file.lines(), 1):
        clip, caption = (*line.split(maxsplit=1), "", "")[:2]
        blank += not clip
        if clip and not clip.startswith("#"):
            described.append((_clip(clip, f"{file}, line {i}"), caption))
    splits, names = listed_splits(options.lists, _clip), ", ".join(own.name for own in options.lists)
    if described and not any(clip in splits for clip, _ in described):
        raise UserError(f"{file}: none of its clips, such as {described[0][0]}, is in {names or 'a list'}: "
                        "correct source or lists")
    captions, counts = [], Counter[str]()
    for clip, caption in described:
        if clip in splits:
            captions.append(Caption(f"{clip}#{counts[clip]}", clip, caption, splits[clip]))
            counts[clip] += 1
    images = [Image(clip, clip + (options.suffix or ".avi"), split) for clip, split in splits.items()]
    return Records(captions, images, blank=blank, own_splits=True, unlisted=len(described) - len(captions))


def _clip(name: str, where: str) -> str:
    """The name, if it is a clip's."""
    if _CLIP.fullmatch(name):
        return name
    raise UserError(f"{where}: {shown(name)} is no clip's name such as {_EXAMPLE}: correct it, or choose another format")
