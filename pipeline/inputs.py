"""What methods read, a provider per kind of input: where it lies, its digest, how it is read, how it is made of a picture in memory.

Training, captioning, sweeps and the command line get their inputs here and nowhere else. Only what a method asks for is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pipeline.core import paths
from pipeline.core.artefacts import again, whole
from pipeline.core.errors import UserError
from pipeline.core.files import digest_file, digest_model, digest_tree, read_json
from pipeline.core.paths import ImageSet
from pipeline.core.tables import read_table
from pipeline.features.data import Corpus, Objects, Pairs, Seen
from pipeline.features.indexing import read_neighbours
from pipeline.features.stores import read, read_origin, unit
from pipeline.features.tags import encode_labels, objects_of, read_tagged
from pipeline.methods.base import Method, Need
from pipeline.synthetic.pairs import drawn_captions, pictured_captions, pseudo_features
from pipeline.systems import Setting, System, clip_of, kind_of

if TYPE_CHECKING:
    from pipeline.features.encoders import Clip
    from pipeline.features.tagging import Detection


@dataclass(frozen=True)
class Sentences:
    """A corpus's sentences, and what a method needs to know of them in one CLIP space."""

    clip: str
    needs: frozenset[Need]

    def folders(self, corpus: str) -> list[Path]:
        """Where the features lie."""
        found = [paths.text_features(self.clip, corpus)] if "text" in self.needs else []
        return found + ([paths.neighbours(self.clip, corpus)] if "neighbours" in self.needs else [])

    def digest(self, corpus: str) -> list[str]:
        """Of the sentences and of all that is read with them."""
        return [digest_file(paths.corpus_table(corpus)), *(digest_tree(folder) for folder in self.folders(corpus))]

    def load(self, corpus: str, device: torch.device, clip_digest: str | None = None) -> Corpus:
        """Raises `UserError` if parts do not belong together or to the CLIP given."""
        texts = read_table(paths.corpus_table(corpus), ["text"])["text"]
        if not self.folders(corpus):
            return Corpus(corpus, texts)
        store = read(paths.text_features(self.clip, corpus)).require(clip_digest, digest_file(paths.corpus_table(corpus)))
        loaded = Corpus(corpus, texts, torch.from_numpy(store.features).to(device), torch.from_numpy(store.norms).to(device))
        if "neighbours" not in self.needs:
            return loaded
        return replace(loaded, neighbours=torch.from_numpy(read_neighbours(store, self.clip, corpus)).to(device))


@dataclass(frozen=True)
class ImageFeatures:
    """CLIP features of whole pictures: unit rows."""

    clip: str

    def digest(self, pictures: ImageSet) -> str:
        return digest_tree(pictures.features(self.clip))

    def load(self, pictures: ImageSet, rows: Sequence[int]) -> tuple[Tensor, str]:
        """Features (B, D) float16 of rows of the image table, and the digest of the CLIP; `UserError` for another table's."""
        store = read(pictures.features(self.clip)).require(source_digest=digest_file(pictures.table))
        return torch.from_numpy(store.features[list(rows)]), store.origin.clip_digest

    @staticmethod
    def see(clip: Clip, pixels: Sequence[Tensor]) -> Tensor:
        """Features (B, D) float32 of prepared pictures."""
        return torch.from_numpy(unit(clip.encode_pixels(pixels)))


@dataclass(frozen=True)
class Tags:
    """What a detector found in pictures, at most `limit` objects each, as text features of one CLIP."""

    clip: str
    detector: str
    limit: int

    def digest(self, pictures: ImageSet) -> str:
        return digest_tree(pictures.tagged(self.clip, self.detector))

    def detector_digest(self, pictures: ImageSet) -> str:
        """Of the detector that found them."""
        return str(read_json(whole(pictures.tagged(self.clip, self.detector) / "tagged.json"))["detector_digest"])

    def load(self, pictures: ImageSet, ids: Sequence[str], clip_digest: str) -> Objects:
        """Objects of pictures by id; `UserError` for another table's or another CLIP's."""
        folder = pictures.tagged(self.clip, self.detector)
        if read_json(whole(folder / "tagged.json"))["source_digest"] != digest_file(pictures.table):
            raise UserError(f"{folder} was made from other images than {pictures.table}: {again(folder)}")
        return read_tagged(folder, ids, self.limit, clip_digest)

    def see(self, clip: Clip, labels: Sequence[str], prompt: str, found: Sequence[Sequence[Detection]]) -> Objects:
        """Objects of pictures in which these were detected."""
        number = {label: i for i, label in enumerate(labels)}
        ranked = [list(dict.fromkeys(number[detection.label] for detection in each)) for each in found]
        return objects_of(ranked, self.limit, encode_labels(clip, labels, prompt))


@dataclass(frozen=True)
class Training:
    """What a system is trained on."""

    system: System
    method: Method

    def digest(self) -> list[Any]:
        """Of everything that `load` reads."""
        found: list[Any] = [self._sentences.digest(self.system.corpus)]
        if "pairs" in self.method.learns_from:
            found += [digest_file(self._pictures.table), digest_tree(self._pair_features)]
        return found + ([self._tags.digest(self._pictures)] if self._tags else [])

    def load(self, device: torch.device) -> Corpus:
        """The corpus, with pictures of its captions where the method is trained on them. Raises `UserError` for what is missing."""
        corpus = self._sentences.load(self.system.corpus, device)
        return replace(corpus, pairs=self._pairs(device)) if "pairs" in self.method.learns_from else corpus

    def clip_digest(self) -> str:
        """Of the CLIP whose features are learnt from."""
        return read_origin(self._pair_features if "pairs" in self.method.learns_from
                           else paths.text_features(self.system.clip, self.system.corpus)).clip_digest

    def detector_digest(self) -> str | None:
        """Of the detector whose objects are learnt from; None without."""
        return self._tags.detector_digest(self._pictures) if self._tags else None

    @property
    def _sentences(self) -> Sentences:
        return Sentences(self.system.clip, self.method.learns_from)

    @property
    def _pictures(self) -> ImageSet:
        return ImageSet(self.system.corpus, drawn=kind_of(self.system.learns_from) == "synthetic")

    @property
    def _pair_features(self) -> Path:
        if self._pictures.drawn:
            return pseudo_features(self.system.clip, self.system.corpus, *self.method.refinement)
        return self._pictures.features(self.system.clip)

    @property
    def _tags(self) -> Tags | None:
        return Tags(self.system.clip, *self.method.tags) if self.method.tags else None

    def _pairs(self, device: torch.device) -> Pairs:
        system, pictures = self.system, self._pictures
        ids = read_table(pictures.table, ["image_id"])["image_id"]
        store = read(self._pair_features).require(source_digest=digest_file(pictures.table))
        if pictures.drawn:
            rows = torch.full((len(read_table(paths.corpus_table(system.corpus), ["text"])["text"]),), -1, dtype=torch.long)
            rows[torch.tensor(drawn_captions(system.corpus))] = torch.arange(len(ids))
        else:
            rows = torch.tensor(pictured_captions(system.corpus))
        objects = self._tags.load(pictures, ids, store.origin.clip_digest) if self._tags else None
        return Pairs(rows.to(device), Seen(torch.from_numpy(store.features), objects).to(device))


@dataclass(frozen=True)
class Captioning:
    """What a system gets to caption with: pictures of a setting, and the sentences that it looks up."""

    system: System
    method: Method

    def digest(self, setting: Setting) -> list[Any]:
        """Of everything that `seen` and `support` read."""
        pictures = ImageSet(setting.test)
        found: list[Any] = [digest_file(pictures.table), ImageFeatures(self.system.clip).digest(pictures)]
        found += [tags.digest(pictures)] if (tags := self._tags(setting)) else []
        return [*found, self._sentences.digest(setting.support)]

    def seen(self, setting: Setting) -> tuple[list[str], Seen, str]:
        """Ids of a setting's pictures, what the method gets of them, and the digest of the CLIP that saw them."""
        pictures = ImageSet(setting.test)
        table = read_table(pictures.table, ["image_id", "split"])
        rows = [row for row, split in enumerate(table["split"]) if split == setting.split]
        if not rows:
            raise UserError(f"{pictures.table} has no images in split {setting.split!r}: correct `settings` in params.yaml")
        ids = [table["image_id"][row] for row in rows]
        features, clip_digest = ImageFeatures(self.system.clip).load(pictures, rows)
        tags = self._tags(setting)
        return ids, Seen(features, tags.load(pictures, ids, clip_digest) if tags else None), clip_digest

    def support(self, corpus: str, device: torch.device, clip_digest: str) -> Corpus:
        """The sentences to look up; their features must come from the CLIP given, unless the system looks up in another one's space."""
        same = clip_of(self.system.looks_up) == self.system.clip
        return self._sentences.load(corpus, device, clip_digest if same else None)

    def require_detector(self, name: str, setting: Setting, digest: str | None) -> None:
        """`UserError` if a setting's objects come from another detector than the one that `name` was trained with, and nobody asked so."""
        tags = self._tags(setting)
        if tags and setting.detector is None and tags.detector_digest(ImageSet(setting.test)) != digest:
            folder = ImageSet(setting.test).tagged(tags.clip, tags.detector)
            now = digest_model(paths.foundation(tags.detector))
            stale = [paths.model(name)] if now != digest else [ImageSet(setting.test).tags(tags.detector), folder]
            raise UserError(f"{folder} was made with another detector than {name} was trained with: {again(*stale)}")

    @property
    def _sentences(self) -> Sentences:
        return Sentences(clip_of(self.system.looks_up), self.method.looks_at)

    def _tags(self, setting: Setting) -> Tags | None:
        if self.method.tags is None:
            return None
        detector, limit = self.method.tags
        return Tags(self.system.clip, setting.detector or detector, limit)
