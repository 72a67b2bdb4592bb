"""The model card of a captioner that `unpaired fit` made: README.md of its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .core import paths
from .core.files import digest_model, read_json, read_object
from .methods import find_method
from .portable import CLIP, CORPUS, SYSTEM

_CARD = """# A captioner of photographs

Made by `unpaired fit` from {sentences:,} sentences ({source}), without one captioned picture.

```sh
unpaired caption --model captioner/ photos/
```

```python
from unpaired import Captioner
Captioner.load("captioner/").caption(["photo.jpg"])
```

| | |
|---|---|
| method | {paper} |
| CLIP | {clip} |
| CLIP's licence | {licence} |
| CLIP's files | SHA-256 {digest} |
| sentences | {source}: {sentences:,}, of which {heldout:,} were held out to choose the weights by; their licence is their owner's |
| held in this folder | {held} |
| recipe | {recipe}: {settings} |
| held-out loss | {loss} |

It says what its sentences say: of pictures that these do not speak of, its captions mean little, and they name things that are not there.
How often they do on your own pictures is found by `unpaired evaluate` with captions that people wrote.
"""


def write_card(folder: Path, source: str, params: dict[str, Any]) -> None:
    """Write README.md into a captioner's folder, of the work in the current folder. source: the name of the file of sentences."""
    system, model = params["systems"][SYSTEM], read_object(paths.model(SYSTEM) / "system.json")
    method = find_method(system["method"])
    provenance = paths.foundation(CLIP) / "provenance.json"
    about = read_object(provenance) if provenance.exists() else {}
    told = [str(about[key]) for key in ("architecture", "pretrained", "source", "limits") if about.get(key)]
    corpus = read_object(paths.corpus(CORPUS) / "report.json")["corpus"]
    settings = {**params["decoders"][system["decoder"]], **params["recipes"][system["recipe"]], "seed": system["seed"]}
    best = [entry for entry in read_json(paths.curve(SYSTEM)) if entry["step"] == model.get("best_step")]
    (folder / "README.md").write_text(_CARD.format(
        source=source, sentences=corpus["train"] + corpus["heldout"], heldout=corpus["heldout"], paper=method.paper,
        clip=", ".join(told) or "its folder does not say",
        licence=about.get("licence") or "not told: ask where the CLIP is from", digest=digest_model(paths.foundation(CLIP)),
        held="the CLIP and the model" + (", the sentences and their features" if (folder / paths.corpus(CORPUS)).exists() else ""),
        recipe=system["recipe"], settings=f"`{json.dumps(settings)}`",
        loss=f"{best[0]['heldout_loss']} per token, after {best[0]['step']:,} steps" if best else "nothing was trained"), encoding="utf-8")
