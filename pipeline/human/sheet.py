"""A blind sheet: pictures, each with the captions of two systems in random order, and a key that says whose is which.

After the human evaluation of "Self-Supervised Image Captioning with CLIP" (section 3.4): which caption is more distinctive, which more
informative, by raters who do not know the systems. "Cannot tell", equal numbers of both sides, and the keeping of answers are ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..core import paths
from ..core.artefacts import whole_if_sealed
from ..core.errors import UserError
from ..core.files import digest_of, replace, write_json
from ..core.params import load, section
from ..core.tables import read_captions, read_table
from ..features.frames import FrameParams
from ..images import locate
from ..report.pictures import Embedded, embed
from ..report.templates import environment, style
from ..scoring.settings import shared_setting

CRITERIA = {
    "distinctive": "Which caption is more distinctive: which fits this picture and few others?",
    "informative": "Which caption is more informative: which tells more of what is there?",
}
CHOICES = ("a", "b", "neither")
SHEET, KEY = "sheet.html", "key.json"


@dataclass(frozen=True)
class Pair:
    """One picture of a sheet. a, b: captions. image: inside the page."""

    id: str
    a: str
    b: str
    image: Embedded


def export(systems: tuple[str, str], setting: str | None, number: int, seed: int, folder: Path) -> str:
    """Write `sheet.html` for raters and `key.json` for whoever evaluates them, and return in a line what they hold.

    setting: one that both systems were tested in; by default the first. number: pictures, chosen and ordered by the seed, out of
    those for which the systems say different things. Raises `UserError` for systems that share no setting, and a folder that has a
    key already.
    """
    params = load()
    if systems[0] == systems[1]:
        raise UserError(f"{systems[0]} against itself: name two systems")
    if number < 1:
        raise UserError(f"{number} pictures are none: ask for 1 or more")
    name, tested = shared_setting(systems, setting, params)
    captions = [read_captions(system, name) for system in systems]
    table = read_table(paths.image_table(tested.test), ["image_id", "path", "split"])
    file_of = {image_id: path for image_id, path, split in zip(*table.values(), strict=True) if split == tested.split}
    if not captions[0].keys() == captions[1].keys() == file_of.keys():
        raise UserError(f"captions of {systems[0]} and {systems[1]} are of other pictures than {paths.image_table(tested.test)}: "
                        "run `dvc repro`")
    if (folder / KEY).exists():
        raise UserError(f"{folder / KEY} is there already, and without it answers to its sheet say nothing: name another folder")
    different = [image_id for image_id in _ordered(file_of, f"sheet {seed}") if _differ(captions, image_id)]
    chosen = different[:number]
    if not chosen:
        raise UserError(f"{systems[0]} and {systems[1]} say the same of every picture in {name}: there is nothing to choose")
    first = set(_ordered(chosen, f"sides {seed}")[: len(chosen) // 2])  # whose caption a is the second system's
    raw, frames = whole_if_sealed(paths.raw(tested.test)), section(FrameParams, params, "frames").count
    pairs, items = [], []
    for place, image_id in enumerate(chosen, 1):
        a, b = (1, 0) if image_id in first else (0, 1)
        image = embed(locate(raw, file_of[image_id]), frames)
        pairs.append(Pair(str(place), captions[a][image_id], captions[b][image_id], image))
        items.append({"id": str(place), "image_id": image_id, "a": systems[a]})
    sheet = digest_of([[pair.id, pair.a, pair.b, pair.image.source] for pair in pairs])[:16]
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{SHEET}.partial"
    partial.write_text(render(pairs, sheet), encoding="utf-8", newline="\n")
    replace(partial, folder / SHEET)
    write_json(folder / KEY, {"sheet": sheet, "systems": list(systems), "setting": name, **asdict(tested), "seed": seed,
                              "items": items})
    return (f"{len(pairs)} pictures of {tested.test} ({tested.split}), on which {systems[0]} and {systems[1]} differ, as on "
            f"{len(different)} of {len(file_of)}; {folder / SHEET} is for raters, {folder / KEY} is not")


def render(pairs: Sequence[Pair], sheet: str) -> str:
    """The page's HTML; the same pairs give the same bytes."""
    return environment().get_template("sheet.html.j2").render(
        pairs=pairs, sheet=sheet, criteria=CRITERIA, choices=CHOICES, style=style(),
        about={"sheet": sheet, "ids": [pair.id for pair in pairs], "criteria": list(CRITERIA)})


def _differ(captions: Sequence[Mapping[str, str]], image_id: str) -> bool:
    first, second = (" ".join(each[image_id].lower().split()) for each in captions)
    return first != second


def _ordered(names: Sequence[str] | Mapping[str, str], purpose: str) -> list[str]:
    # Hashes, because the order of a library's random draw may change with its version and this one must not.
    return sorted(names, key=lambda name: hashlib.sha256(f"{purpose} {name}".encode()).digest())
