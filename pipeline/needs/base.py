"""What all kinds of input have in common, and the inputs that were read of them.

A need is a kind with its arguments, such as `Objects("detector", 10)`. Those of sentences are read of a corpus, those of pictures of rows
of a data set's image table, or made of pictures in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from ..core import paths
from ..core.artefacts import again
from ..core.errors import UserError
from ..core.files import digest_file, digest_model, digest_tree
from ..features.stores import read_origin, refit

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..features.encoders import Clip

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Need(Generic[T]):
    """One kind of input of a data set, in a CLIP's space; `T` is what is read.

    kinds: those of `data/features/<clip>/<kind>` that it can be read from, whatever changes there.
    """

    kinds: ClassVar[tuple[str, ...]]

    @property
    def parts(self) -> tuple[Need[Any], ...]:
        """The needs of which it is made."""
        return (self,)

    def folders(self, clip: str, dataset: str) -> list[Path]:
        """All that is read but for the data set's tables."""
        raise NotImplementedError

    def table(self, dataset: str) -> Path:
        """Whose rows these are."""
        return paths.corpus_table(dataset)

    def digest(self, clip: str, dataset: str) -> list[str]:
        """Of all that is read."""
        return [digest_file(self.table(dataset)), *(digest_tree(folder) for folder in self.folders(clip, dataset))]

    def models(self, clip: str, dataset: str) -> Models:
        """The frozen models that made it: by default the CLIP of the feature store that its first folder is."""
        return Models.of_store(self.folders(clip, dataset)[0])

    def load(self, clip: str, dataset: str) -> T:
        """Read it whole. Raises `UserError` for what is missing, or made from other tables."""
        raise NotImplementedError


@dataclass(frozen=True)
class Parts:
    """Parts of M pictures, such as regions, or key frames of M videos. features: (M, R, D) unit rows, float16 as stored. seeds: (M,)
    int64, from their pixels, for what a method draws."""

    features: Tensor
    seeds: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: Any) -> Parts:
        return Parts(self.features[rows], self.seeds[rows])

    def to(self, device: torch.device) -> Parts:
        """The same on a device; seeds stay on the CPU, where noise is drawn."""
        return Parts(self.features.to(device), self.seeds)


@dataclass(frozen=True)
class PictureNeed(Need[T]):
    """One kind of input that is of pictures: `T` has their number as length, and parts of it by their rows."""

    def table(self, dataset: str) -> Path:
        return paths.image_table(dataset)

    def maker(self, clip: Clip, params: dict[str, Any]) -> Maker[T]:
        """What makes it of pictures in memory, on the CLIP's device."""
        raise NotImplementedError(f"{type(self).__name__} is read, and not made of a picture in memory")


class Maker(Protocol[T_co]):
    """Makes one kind of input of pictures in memory. models: those it looks with. batch: most pictures at once."""

    models: Models
    batch: int

    def prepare(self, picture: Image) -> Any:
        """What is kept of an RGB picture until its batch is full; best little."""

    def make(self, prepared: Sequence[Any]) -> tuple[T_co, list[dict[str, Any]]]:
        """The input of prepared pictures, and what there is to say of each to a user."""


@runtime_checkable
class VideoMaker(Maker[T], Protocol[T]):
    """Makes it of videos too."""

    def join(self, of_frames: T, counts: Sequence[int]) -> T:
        """The input of videos, from that of all their key frames: so many of each, one of a picture among them."""


@dataclass(frozen=True)
class Models:
    """Frozen models behind an artefact: digests by kind and name, such as `CLIP micro`, and the folders to make again for another."""

    digests: Mapping[str, str]
    made: tuple[Path, ...]

    @staticmethod
    def of_store(path: Path) -> Models:
        """The CLIP whose features a store holds."""
        origin = read_origin(path)
        return Models({f"CLIP {origin.clip}": origin.clip_digest}, (path,))

    @staticmethod
    def together(models: Sequence[Models]) -> Models:
        """All of them, for artefacts that are read together; `UserError` where one name stands for two."""
        for number, each in enumerate(models):
            for other in models[:number]:
                each.require(other)
        return Models({model: digest for each in models for model, digest in each.digests.items()},
                      tuple(folder for each in models for folder in each.made))

    def require(self, others: Models) -> None:
        """`UserError` if a model of one name had other weights for the one than for the other."""
        for model, digest in self.digests.items():
            if others.digests.get(model, digest) != digest:
                raise UserError(f"{self.made[0]} was made with another {model} than {others.made[0]}: {_advice(model, self, others)}")


def _advice(model: str, *sides: Models) -> str:
    kind, _, name = model.partition(" ")
    if kind == "CLIP":
        return refit(name, sides[-1].made[0])
    now = digest_model(paths.foundation(name))
    return again(*(folder for side in sides if side.digests[model] != now for folder in side.made))


class Inputs:
    """What was read of a data set, or made of pictures, by kind of need. Parts of it by the rows of pictures."""

    def __init__(self, values: Mapping[type[Need[Any]], Any]) -> None:
        self._values = values

    def of(self, kind: type[Need[T]]) -> T:
        """What was read of one kind."""
        value: T = self._values[kind]
        return value

    def __len__(self) -> int:
        return len(next(iter(self._values.values())))

    def __getitem__(self, rows: Any) -> Inputs:
        return Inputs({kind: value[rows] for kind, value in self._values.items()})

    def to(self, device: torch.device) -> Inputs:
        """The same on a device."""
        return Inputs({kind: value.to(device) for kind, value in self._values.items()})


def models_of(needs: Iterable[Need[Any]], clip: str, dataset: str) -> Models:
    """The models behind what these needs read. Raises `UserError` where it does not belong together."""
    return Models.together([need.models(clip, dataset) for need in needs])


def read(needs: Iterable[Need[Any]], clip: str, dataset: str) -> Inputs:
    """All of a data set that these needs are. Raises `UserError` for what is missing or does not belong together."""
    needs = tuple(needs)
    models_of(needs, clip, dataset)
    return Inputs({type(need): need.load(clip, dataset) for need in needs})
