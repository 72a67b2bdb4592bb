"""Captions and their pictures: which caption was drawn as which picture, and where the pictures' features lie."""

from __future__ import annotations

from pathlib import Path

from pipeline.core import paths
from pipeline.core.artefacts import again
from pipeline.core.errors import UserError
from pipeline.core.paths import ImageSet
from pipeline.core.tables import read_table


def pseudo_features(clip: str, corpus: str, refined: bool, projected: bool) -> Path:
    """The store of pseudo-features: as CLIP saw the drawn pictures, optimised (SynTIC Eq. 2), projected (Eq. 3), or both."""
    if projected:
        return paths.projected(clip, corpus) / ("refined" if refined else "drawn")
    return paths.refined(clip, corpus) / "features" if refined else ImageSet(corpus, drawn=True).features(clip)


def drawn_captions(corpus: str) -> list[int]:
    """Row of the corpus of each drawn picture, in the order of their table; `UserError` if they are another corpus's."""
    pictures, table = ImageSet(corpus, drawn=True).table, paths.corpus_table(corpus)
    drawn, whole = read_table(pictures, ["image_id", "text"]), read_table(table, ["caption_id", "text"])
    row_of = {key: row for row, key in enumerate(whole["caption_id"])}
    rows = [row_of.get(key, -1) for key in drawn["image_id"]]
    if any(row < 0 or whole["text"][row] != text for row, text in zip(rows, drawn["text"], strict=True)):
        raise UserError(f"{pictures} was made from another corpus than {table}: {again(pictures)}")
    return rows


def pictured_captions(corpus: str) -> list[int]:
    """Row of the data set's image table of each caption's real picture, -1 where it has none; `UserError` if no caption has one."""
    images = read_table(ImageSet(corpus).table, ["image_id"])["image_id"]
    row_of = {key: row for row, key in enumerate(images)}
    rows = [row_of.get(key, -1) for key in read_table(paths.corpus_table(corpus), ["image_id"])["image_id"]]
    if max(rows, default=-1) < 0:
        raise UserError(f"{ImageSet(corpus).table} holds no picture of a caption of {corpus}: set extract.{corpus}.paired to true, "
                        "or name a corpus that has its pictures")
    return rows
