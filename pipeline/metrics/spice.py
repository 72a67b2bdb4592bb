"""SPICE (Anderson et al. 2016, arXiv:1607.08822): agreement of the scene graphs that captions and references say.

SPICE is the jar inside pycocoevalcap, run with the CoreNLP of `spice_install`. It can keep parsed references in a
database, by native code that few platforms have and into classes that Java 16 and newer lock; runs without one give the
same scores, and cannot freeze each other. What Java lacks since version 15 is in `spice_engine`.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pycocoevalcap

from ..core.errors import UserError
from . import java
from .captions import Tokenized
from .spice_install import installed

PROTOCOL = "spice-1.0 of pycocoevalcap with Stanford CoreNLP 3.6.0, F-score over all tuples of the tokenized captions"

_JAR = Path(next(iter(pycocoevalcap.__path__))) / "spice" / "spice-1.0.jar"  # names the jars beside it in its manifest
_ENGINE = Path(__file__).parent / "spice_engine"
_HEAP = "-Xmx5G"


def spice(captions: Tokenized) -> np.ndarray:
    """SPICE times 100 of each image: (N,), in the order of `references`.

    A caption without a word, or that says no tuple, has 0. Raises `UserError` where SPICE is not installed, fails, does
    not finish, or does not answer for every image.
    """
    jars = installed()
    questions = [{"image_id": str(n), "test": captions.hypotheses[image_id][0], "refs": texts}
                 for n, (image_id, texts) in enumerate(captions.references.items())]
    with tempfile.TemporaryDirectory(prefix="unpaired-spice-") as folder:
        asked, answered = Path(folder, "captions.json"), Path(folder, "scores.json")
        asked.write_text(json.dumps(questions), encoding="utf-8")
        classes = os.pathsep.join(map(str, (_JAR, *jars, _ENGINE)))
        command = [_HEAP, "-cp", classes, "edu.anu.spice.SpiceScorer", str(asked), "-out", str(answered), "-silent"]
        java.run("SPICE", command, "", _seconds(captions))
        return 100 * _scores(answered, len(questions))


def _seconds(captions: Tokenized) -> float:
    """How long SPICE may take: many times what one core of a laptop needs."""
    return 300 + 2 * sum(1 + len(texts) for texts in captions.references.values())


def _scores(file: Path, count: int) -> np.ndarray:
    """F-scores (N,) from SPICE's answer, by its ids "0" to "N-1": their order is its own affair."""
    try:
        values: dict[str, Any] = {}
        for record in json.loads(file.read_text(encoding="utf-8")):
            if record["image_id"] in values:
                raise ValueError(f"image {record['image_id']} twice")
            values[record["image_id"]] = record["scores"]["All"]["f"]
        scores = np.array([values.pop(str(n)) for n in range(count)], dtype=np.float64)
        if values or not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError("images that nobody asked for" if values else "scores outside 0 to 1")
        return scores
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise UserError(f"SPICE gave no score for each of {count:,} images ({type(error).__name__}: {error}): check "
                        "Java with `unpaired doctor` and try again") from None
