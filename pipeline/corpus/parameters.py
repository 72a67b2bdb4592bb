"""The parameters of the `extract` stage."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from ..core.params import Count, Seed, StrictParams
from .sources import MAX_BYTES

_IN_COLUMNS = ("table", "jsonl", "parquet", "json")


@dataclass(frozen=True)
class ExtractParams(StrictParams):
    """What to read and how."""

    format: Literal["karpathy", "coco", "lines", "json", "maccap", "msrvtt", "msvd", "table", "jsonl", "parquet", "flickr", "pickle",
                    "folder"]
    """How the source is laid out."""
    source: str
    """File below the raw folder, or "archive.zip!member" (.jar too), each also as "package:name/..."; .gz is unpacked. For folder:
    a folder below the raw folder, "." for that itself, or a tar file."""
    images: str = "."
    """Folder of the images below the raw folder; the names in the records are joined below it. The raw folder itself may be a link, and so
    may each picture, but no folder in it: DVC does not look behind those. `cp -rs` links the pictures of a folder elsewhere."""
    train_splits: tuple[Literal["train", "restval"], ...] = ("train", "restval")
    """Splits whose sentences form the corpus, for formats that hold splits: any of "train" and "restval"; () for none."""
    split: Literal["train", "val", "test"] = "train"
    """What all records are, for formats that hold no split (coco, lines, pickle, folder, flickr, and tables without such a
    column): "train", "val" or "test"."""
    suffix: str = ""
    """How the clips' files end, for formats that leave it out; empty for ".mp4" (msrvtt) and ".avi" (msvd)."""
    lists: dict[Literal["train", "val", "test"], str] = field(default_factory=dict)
    """For msvd, flickr and tables: the files that list the clips or pictures of the splits, found like `source`; empty for
    msvd's train_list.txt, val_list.txt and test_list.txt. Clips and pictures in none of them are left out."""
    columns: dict[Literal["caption", "file", "split"], Count | Annotated[str, Field(min_length=1)]] = field(default_factory=dict)
    """For table, jsonl, parquet and a json list of objects: which columns hold what, by name, or by number from 1 in a table without a
    header; empty to find them by their usual names. Without `file` captions belong to no picture."""
    limit: Count | None = None
    """Keep at most this many corpus captions (1 or more), drawn with the seed; a smaller draw is part of a larger one."""
    heldout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.02
    """Share of the corpus (0 up to, not including, 1) kept out of training to choose checkpoints by text loss: whole images, or
    all copies of a sentence where images are unknown. Above 0, at least one image or sentence, but never the whole corpus."""
    max_characters: Count = 400
    """A caption with more characters after cleaning is bad; 1 or more."""
    bad_captions: Literal["error", "skip"] = "error"
    """"error": the first bad caption stops extraction; "skip": bad captions are left out and listed in the report."""
    bad_images: Literal["error", "skip"] = "error"
    """"error": pictures that are missing or broken, and val and test ones without captions, stop extraction with one line; "skip": they
    are left out, with the captions that belong to them, and listed in the report. Videos are not opened here."""
    max_bytes: Annotated[int, Field(ge=1, lt=2**63)] = MAX_BYTES
    """The source may unpack to so many bytes, and to a hundred times its size; 1 or more."""
    paired: bool = False
    """Whether the corpus's own pictures are listed too, for methods that are trained on pairs; no other method ever sees them."""
    instances: str = ""
    """What the images show, for CHAIR: a file in COCO's `instances_*.json` format, found like `source`; see `corpus/objects.py`."""
    synonyms: str = ""
    """The words for what the instances are, a line per object; goes with `instances`."""
    colours: str = ""
    """The words for their colours, where the instances have any."""
    motions: str = ""
    """The words for what they do in films, where the instances say it."""
    seed: Seed = 0
    """Decides `limit` and `heldout`."""

    def __post_init__(self) -> None:
        if bool(self.instances) != bool(self.synonyms) or ((self.colours or self.motions) and not self.instances):
            raise ValueError("instances and synonyms go together, and colours and motions with both")
        if self.suffix and self.format not in ("msrvtt", "msvd"):
            raise ValueError(f"suffix goes with the formats msrvtt and msvd, not with {self.format}")
        if self.suffix and not re.fullmatch(r"\.[A-Za-z0-9]{1,10}", self.suffix):
            raise ValueError(f"suffix is {self.suffix!r}, expected a dot, letters and digits, such as '.mp4'")
        if self.lists and self.format not in ("msvd", "flickr", *_IN_COLUMNS):
            raise ValueError(f"lists goes with the formats msvd, flickr and those of tables, not with {self.format}")
        if self.columns and self.format not in _IN_COLUMNS:
            raise ValueError(f"columns goes with the formats {', '.join(_IN_COLUMNS)}, not with {self.format}")
        if any(isinstance(column, int) for column in self.columns.values()) and self.format != "table":
            raise ValueError(f"columns are numbers in the format table alone, and names in {self.format}")
        if self.images != "." and self.format == "folder":
            raise ValueError("images goes not with the format folder, whose source they are")
