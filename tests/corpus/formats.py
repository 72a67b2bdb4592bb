"""Small files of every published format of captions, made as their publishers make them."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.corpus.folders import picture

SENTENCES = ("A man rides a wave .", "Two dogs, a cat and a man sit on a sofa.", "a man&#39;s car &amp; a dog", "Une femme à vélo\n",
             "A cat sleeps.")
COCO = {
    "info": {"description": "COCO 2014 Dataset", "year": 2014}, "licenses": [{"id": 1, "name": "CC"}],
    "images": [{"license": 1, "file_name": f"COCO_val2014_{i:012d}.jpg", "height": 8, "width": 8, "id": i} for i in (42, 73)],
    "annotations": [{"image_id": (42, 73)[k % 2], "id": 100 + k, "caption": text} for k, text in enumerate(SENTENCES)],
}
NOCAPS = {
    "licenses": [], "info": {"version": "0.1"},
    "images": [{"id": i, "open_images_id": f"00{i}e", "height": 8, "width": 8, "coco_url": f"https://s3.example.org/val/00{i}e.jpg",
                "domain": domain, "file_name": f"00{i}e.jpg"} for i, domain in enumerate(("in-domain", "near-domain", "out-domain"))],
    "annotations": [{"image_id": k % 3, "id": k, "caption": text} for k, text in enumerate(SENTENCES * 2)],
}
KARPATHY = {"dataset": "flickr8k", "images": [
    {"sentids": [3 * i + k for k in range(2)], "imgid": i, "split": split, "filename": f"{i}.jpg",
     "sentences": [{"tokens": SENTENCES[k].split(), "raw": SENTENCES[k], "imgid": i, "sentid": 3 * i + k} for k in range(2)]}
    for i, split in enumerate(("train", "train", "restval", "val", "val", "test", "test"))]}
MACCAP = [{"split": split, "image_name": f"{i}.jpg", "file_path": f"{i}.jpg", "captions": list(SENTENCES[:3])}
          for i, split in enumerate(("train", "val", "val", "test", "test"))]
MSRVTT = {
    "info": {"contributor": "Microsoft", "year": "2016"},
    "videos": [{"category": 9, "url": "https://www.youtube.com/watch?v=9lZi22qLlEo", "video_id": f"video{i}", "start time": 137.72,
                "end time": 149.44, "split": split, "id": i}
               for i, split in enumerate(("train", "train", "validate", "validate", "validate"))],  # the last one without a sentence
    "sentences": [{"caption": text, "video_id": f"video{i}", "sen_id": 10 * i + k}
                  for i in range(4) for k, text in enumerate(SENTENCES[:2])],
}
MSVD = "# a comment\n\n" + "".join(f"mv89psg6zh4_{i}_{i + 9} a man plays number {k}\n" for i in range(5) for k in range(3))
TOKENS = "".join(f"100{i}_ab.jpg#{k}\t{text.strip()}\n" for i in range(3) for k, text in enumerate(SENTENCES))
KAGGLE = "image_name| comment_number| comment\n" + "".join(
    f"100{i}.jpg| {k}| {text.strip()}\n" for i in range(3) for k, text in enumerate(SENTENCES)
) + "2199200615.jpg| 4   A dog runs across the grass .\n"
CC3M = "".join(f"{text.strip()}\thttp://images.example.org/{i}.jpg?a=1,2\n" for i, text in enumerate((*SENTENCES, 'a sign says " stop')))
ROWS = [{"image": f"{i}.jpg", "caption": text, "split": split}
        for i, split in enumerate(("train", "train", "validation", "validation", "test", "test")) for text in SENTENCES[:2]]


@dataclass(frozen=True)
class Example:
    """A data set in one format. files: contents by name. entry: what `extract` is told, besides `source`. captions: how many there are."""

    source: str
    files: dict[str, bytes]
    entry: dict[str, Any]
    captions: int
    pictures: tuple[str, ...] = field(default=())

    def write(self, folder: Path) -> Path:
        """Put it into a folder, and return where its source lies."""
        for name, content in (self.files | {name: picture("JPEG") for name in self.pictures}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder / self.source


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _parquet(columns: dict[str, list[Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def _csv(separator: str) -> bytes:
    quoted = [[f'"{value}"' if separator in value else value for value in row.values()] for row in ROWS]
    return "".join(separator.join(row) + "\r\n" for row in (list(ROWS[0]), *quoted)).encode()


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for i, text in enumerate(SENTENCES):
            key = f"{i:09d}"
            about = _json({"caption": text, "key": key, "status": "success", "width": 8})
            parts = {"jpg": picture("JPEG"), "json": about, **({"txt": text.encode()} if i % 2 else {})}
            for suffix, content in parts.items():
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


_JSONL = b"".join(_json({"file_name": row["image"], "text": row["caption"], "split": row["split"]}) + b"\n" for row in ROWS)
_PARQUET = _parquet({"filename": [f"{i}.jpg" for i in range(6)], "caption": [list(SENTENCES)] * 6,
                     "split": ["train", "train", "val", "val", "test", "test"], "img_id": list(range(6))})
_TEXT_PARQUET = _parquet({"image_url": ["http://x.org/1.jpg"] * 5, "caption": list(SENTENCES)})
_LISTS = {"train_list.txt": b"mv89psg6zh4_0_9\n", "val_list.txt": b"mv89psg6zh4_1_10\nmv89psg6zh4_2_11\n",
          "test_list.txt": b"mv89psg6zh4_3_12\n"}
_OF_ROWS = tuple(f"images/{i}.jpg" for i in range(6))
EXAMPLES = {
    "coco": Example("captions_val2014.json", {"captions_val2014.json": _json(COCO)}, {"format": "coco"}, 5,
                    ("val2014/COCO_val2014_000000000042.jpg", "val2014/COCO_val2014_000000000073.jpg")),
    "nocaps": Example("nocaps_val_4500_captions.json", {"nocaps_val_4500_captions.json": _json(NOCAPS)}, {"format": "coco"}, 10,
                      tuple(f"images/00{i}e.jpg" for i in range(3))),
    "karpathy": Example("dataset_flickr8k.json", {"dataset_flickr8k.json": _json(KARPATHY)}, {"format": "karpathy", "images": "images"}, 14,
                        tuple(f"images/{i}.jpg" for i in range(7))),
    "maccap": Example("test_captions.json", {"test_captions.json": _json(MACCAP)}, {"format": "maccap"}, 15,
                      tuple(f"{i}.jpg" for i in range(5))),
    "lines": Example("captions.txt", {"captions.txt": "\r\n\r\n".join(text.strip() for text in SENTENCES).encode("utf-8-sig")},
                     {"format": "lines"}, 5),
    "json": Example("train_captions.json", {"train_captions.json": _json(SENTENCES)}, {"format": "json"}, 5),
    "json of objects": Example("ccs.json", {"ccs.json": _json(ROWS)}, {"format": "json", "images": "images"}, 12, _OF_ROWS),
    "msrvtt": Example("train_val_videodatainfo.json", {"train_val_videodatainfo.json": _json(MSRVTT),
                                                       **{f"TrainValVideo/video{i}.mp4": b"x" for i in range(5)}},
                      {"format": "msrvtt", "images": "TrainValVideo", "bad_images": "skip"}, 8),
    "msvd": Example("AllVideoDescriptions.txt", {
        "AllVideoDescriptions.txt": MSVD.encode(), **_LISTS,
        **{f"YouTubeClips/mv89psg6zh4_{i}_{i + 9}.avi": b"x" for i in range(5)}},
        {"format": "msvd", "images": "YouTubeClips"}, 12),
    "flickr": Example("results_20130124.token", {"results_20130124.token": TOKENS.encode()}, {"format": "flickr"}, 15),
    "kaggle": Example("results.csv", {"results.csv": KAGGLE.encode()}, {"format": "flickr"}, 16),
    "cc3m": Example("Train_GCC-training.tsv", {"Train_GCC-training.tsv": CC3M.encode()}, {"format": "table", "columns": {"caption": 1}}, 6),
    "csv": Example("captions.csv", {"captions.csv": _csv(",")}, {"format": "table", "images": "images"}, 12, _OF_ROWS),
    "tsv": Example("captions.tsv", {"captions.tsv": b"\xef\xbb\xbf" + _csv("\t")}, {"format": "table", "images": "images"}, 12, _OF_ROWS),
    "jsonl": Example("metadata.jsonl", {"metadata.jsonl": _JSONL}, {"format": "jsonl", "images": "images"}, 12, _OF_ROWS),
    "parquet": Example("train.parquet", {"train.parquet": _PARQUET}, {"format": "parquet", "images": "images"}, 30, _OF_ROWS),
    "text-only parquet": Example("0000.parquet", {"0000.parquet": _TEXT_PARQUET},
                                 {"format": "parquet", "columns": {"caption": "caption"}}, 5),
    "pickle": Example("sentences.pkl", {"sentences.pkl": pickle.dumps([text.split() for text in SENTENCES])}, {"format": "pickle"}, 5),
    "folder": Example(".", {f"photos/{i}.txt": text.encode() for i, text in enumerate(SENTENCES)}, {"format": "folder"}, 5,
                      tuple(f"photos/{i}.JPG" for i in range(6))),
    "tar": Example("00000.tar", {"00000.tar": _tar()}, {"format": "folder"}, 5),
}
