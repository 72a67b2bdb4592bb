"""One little data set in every shape that captions and references come in."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

TEXTS = {
    "391895": ["A man rides a red motorcycle.", "A person on a bike, in the street."],
    "60623": ["A girl blows out a candle.", "The girl has a cake."],
    "483108": ["Two cats sleep on a sofa.", "Cats are sleeping."],
}
CAPTIONS = {"391895": "a man rides a motorcycle", "60623": "", "483108": "two cats on a sofa, asleep"}


def name_of(image_id: str) -> str:
    """As COCO names its files."""
    return f"COCO_val2014_{int(image_id):012}.jpg"


def table(rows: Sequence[Mapping[str, Any]], delimiter: str = ",", end: str = "\n") -> str:
    """Records under a header."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """Records, one a line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def captions(ids: Sequence[str] = tuple(CAPTIONS)) -> dict[str, str]:
    """Files of the captions of these images, in this order, by name."""
    rows: list[dict[str, Any]] = [{"image_id": int(image_id), "caption": CAPTIONS[image_id]} for image_id in ids]
    named = [{"image_name": name_of(image_id), "prediction": CAPTIONS[image_id]} for image_id in ids]
    magic = [{"split": "test", **row, "captions": TEXTS[image_id]} for image_id, row in zip(ids, named, strict=True)]
    return {
        "coco.json": json.dumps(rows), "magic.json": json.dumps(magic, indent=4),
        "knight.json": json.dumps({i: [CAPTIONS[i]] for i in ids}),
        "mapping.json": json.dumps({i: CAPTIONS[i] for i in ids}), "lines.jsonl": lines(rows),
        "lines.json": lines(rows),
        "table.csv": table(rows), "table.tsv": table(rows, "\t"), "windows.csv": "\ufeff" + table(rows, end="\r\n"),
        "blank.csv": "\n" + table(rows).replace("\n", "\n\n"),
        "folder.jsonl": lines([{"image": f"photos/{row['image_name']}", "caption": row["prediction"]}
                               for row in named]),
    }


def references(ids: Sequence[str] = tuple(TEXTS)) -> dict[str, str]:
    """Files of the references of these images, in this order, by name."""
    pairs = [(image_id, text) for image_id in ids for text in TEXTS[image_id]]
    rows = [{"image_id": image_id, "caption": text} for image_id, text in pairs]
    coco = {"images": [{"id": int(i), "file_name": name_of(i)} for i in ids],
            "annotations": [{"id": n, "image_id": int(i), "caption": text} for n, (i, text) in enumerate(pairs)]}
    images = [{"filename": name_of(i), "cocoid": int(i), "imgid": n, "split": "test",
               "sentences": [{"raw": text} for text in TEXTS[i]]}
              for n, i in enumerate(ids)]
    others = [{"filename": "other.jpg", "cocoid": 1, "imgid": 100, "split": "val", "sentences": []}]
    magic = [{"split": "test", "image_name": name_of(i), "captions": TEXTS[i]} for i in ids]
    return {
        "coco.json": json.dumps(coco), "karpathy.json": json.dumps({"images": others + images, "dataset": "coco"}),
        "magic.json": json.dumps(magic), "mapping.json": json.dumps({i: TEXTS[i] for i in ids}),
        "lines.jsonl": lines(rows),
        "lists.jsonl": lines([{"id": int(i), "references": TEXTS[i]} for i in ids]), "table.csv": table(rows),
        "table.tsv": table(rows, "\t"),
        "windows.csv": "\ufeff" + table(rows, end="\r\n"),
    }
