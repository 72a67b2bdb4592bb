"""`unpaired evaluate --html`: scores of a file of captions, and the captions at both ends, in a page by itself."""

from __future__ import annotations

import numpy as np

from ..scoring.evaluate import TASK, Evaluated, counted, protocol, rows
from .templates import environment, style

SHOWN = 20  # captions of each end


def render(found: Evaluated) -> str:
    """The page's HTML; the same scores give the same bytes."""
    meanings = {metric.name: metric.meaning for metric in TASK.metrics}
    meanings |= {name: f"{meaning}." for name, meaning in TASK.meanings.items()}
    primary = found.per_image[TASK.primary]
    order = np.argsort(primary, kind="stable")
    ends = {f"Lowest {TASK.primary}": order[:SHOWN], f"Highest {TASK.primary}": order[::-1][:SHOWN]}
    ids = list(found.pair.texts)
    captions = {title: [(ids[i], f"{primary[i]:.1f}", found.pair.hypotheses[ids[i]], found.pair.texts[ids[i]])
                        for i in its] for title, its in ends.items()}
    return environment().get_template("scored.html.j2").render(
        name=found.pair.captions.source, counted=counted(found), protocol=protocol(found), captions=captions,
        primary=TASK.primary, style=style(), rows=[(*row, meanings.get(row[0], "")) for row in rows(found)])
