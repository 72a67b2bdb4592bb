"""CHAIR of anybody's captions: instances in COCO's format say what images show, a list of synonyms which words name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import UserError
from ..corpus.objects import read_objects, read_vocabulary
from ..corpus.records import Image
from ..corpus.sources import MAX_BYTES
from ..metrics import chair
from ..metrics.captions import Tokenized
from .files import Pair


@dataclass(frozen=True)
class Record:
    """Files of what images show: COCO's `instances_*.json` (or the `instances.json` of a drawn data set), a line of synonyms per object,
    as published with CHAIR."""

    instances: Path
    synonyms: Path

    @classmethod
    def of(cls, instances: Path | None, synonyms: Path | None) -> Record | None:
        """Both files, or none; one alone is a `UserError`."""
        if instances and synonyms:
            return cls(instances, synonyms)
        if instances or synonyms:
            raise UserError("--instances and --synonyms go together: what images show, and which words name it")
        return None


def truth(found: Pair, tokenized: Tokenized, record: Record) -> chair.Truth:
    """CHAIRs, CHAIRi, ObjectRecall and Correct, in the order of the references; what references name counts as shown.

    Images are found in the instances by file name where references have one, else by id. Raises `UserError` for one that is not there, and
    for an object without synonyms.
    """
    listed = read_vocabulary(record.synonyms.parent, record.synonyms.name, "", "", MAX_BYTES)
    vocabulary = chair.Vocabulary.of(listed)
    things: dict[str, list[tuple[str, str | None]]] = {image_id: [] for image_id in tokenized.references}
    crowds: dict[str, set[str]] = {image_id: set() for image_id in tokenized.references}
    for thing in read_objects(record.instances.parent, record.instances.name, listed, _images(found, things), MAX_BYTES):
        if thing.crowd:
            crowds[thing.image_id].add(thing.object)
        else:
            things[thing.image_id].append((thing.object, None))
    shown = [chair.with_references(chair.Shown(tuple(things[image_id]), frozenset(crowds[image_id])), texts, vocabulary)
             for image_id, texts in tokenized.references.items()]
    return chair.chair([tokenized.hypotheses[image_id][0] for image_id in tokenized.references], shown, vocabulary)


def _images(found: Pair, wanted: Mapping[str, object]) -> list[Image]:
    names = {next(iter(item.names.values())): item.names for item in found.references.items}
    return [Image(image_id, next((its[key] for key in ("file_name", "filename", "image_name") if key in its), image_id), "test")
            for image_id in wanted if (its := names[image_id])]
