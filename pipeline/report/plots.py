"""Plots as inline SVG whose bytes follow from the numbers alone, in the page's own colours and font.

Matplotlib draws in placeholder colours that become CSS variables, so that a plot follows the page into its dark form.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from math import isnan
from typing import Any

import matplotlib

matplotlib.use("Agg")

from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..tasks.base import Task
from .data import RunSystem
from .sweeps import Table

_INK, _FAINT = "#010101", "#020202"
_SERIES = ("#010201", "#010202", "#010203", "#010204", "#010205", "#010206")
_COLOURS = {_INK: "var(--ink-soft)", _FAINT: "var(--rule)"} | {c: f"var(--series-{i})" for i, c in enumerate(_SERIES, start=1)}
_MARKERS = ("o", "s", "^", "D", "v", "P")
_STYLE: Any = {
    "svg.hashsalt": "report", "svg.fonttype": "none", "font.size": 9, "font.family": "DejaVu Sans",
    "text.parse_math": False,  # a "$" in a name starts no formula
    "text.color": _INK, "axes.edgecolor": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": _FAINT, "grid.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "legend.frameon": False,
    "lines.linewidth": 1.5,
}
_WIDTH = 4.4  # inches: about a phone's width, so that the text stays readable there


def training_curve(run: RunSystem, label: str) -> str:
    """Training loss and the score over steps, with the step whose weights were kept."""
    (score,) = run.evaluations[0].keys() - {"phase", "step", "train_loss"}
    name, axis = ("held-out", "cross-entropy") if score == "heldout_loss" else (score, "loss, score")
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(2.6)
        steps = [entry["step"] for entry in run.evaluations]
        for key, legend, colour, marker in (("train_loss", "training", _SERIES[1], "s"), (score, name, _SERIES[0], "o")):
            axes.plot(steps, [entry[key] for entry in run.evaluations], color=colour, marker=marker, markersize=3.5, label=legend)
        axes.axvline(run.model["best_step"], color=_INK, linewidth=1, linestyle=(0, (2, 2)), label="kept")
        axes.set_xlabel("step")
        axes.set_ylabel(axis)
        _legend(figure, axes)
        return _svg(figure, label, f"training of {run.name}: {axis} by step")


def refinement_curves(curve: Sequence[dict[str, float]], label: str) -> str:
    """The contrastive loss, and below it the mean cosine of pseudo-features and captions, over steps."""
    with matplotlib.rc_context(_STYLE):
        figure, panels = _panels(3.4, 2)
        steps = [entry["step"] for entry in curve]
        for axes, key, name, colour, marker in zip(panels, ("loss", "caption_similarity"), ("loss", "caption similarity"), _SERIES,
                                                   _MARKERS, strict=False):
            axes.plot(steps, [entry[key] for entry in curve], color=colour, marker=marker, markersize=3.5)
            axes.set_ylabel(name)
            axes.ticklabel_format(axis="y", useOffset=False)
        panels[-1].set_xlabel("step")
        figure.align_ylabels(panels)
        return _svg(figure, label, "loss and caption similarity of refinement by step")


def sweep_curves(plot: Table, task: Task, label: str) -> str:
    """The primary metric against a parameter, a curve per setting: means over seeds as lines, seeds as points, intervals as bands. Below
    it what else the task plots."""
    points = [point for _, curve in plot.columns for _, point in curve]
    metrics = [task.primary, *(metric for metric in task.plotted if all(metric in point.beside for point in points))]
    with matplotlib.rc_context(_STYLE):
        figure, panels = _panels(1.4 + 1.6 * len(metrics), len(metrics))
        for axes, metric in zip(panels, metrics, strict=True):
            for index, (setting, curve) in enumerate(plot.columns):
                values = [value for value, _ in curve]
                points = [point if metric == task.primary else point.beside[metric] for _, point in curve]
                colour, marker = _SERIES[index % len(_SERIES)], _MARKERS[index % len(_MARKERS)]
                if not any(isnan(point.low) for point in points):
                    axes.fill_between(values, [p.low for p in points], [p.high for p in points], color=colour, alpha=0.15, linewidth=0)
                axes.plot(values, [p.mean for p in points], color=colour, marker=marker, markersize=4.5, label=setting)
                for value, point in zip(values, points, strict=True):
                    if len(point.seeds) > 1:
                        axes.plot([value] * len(point.seeds), point.seeds, marker, color=colour, markersize=2.5, alpha=0.6)
            axes.set_ylabel(f"{metric} × 100" if metric == task.primary else metric)
        axes = panels[-1]
        ticks = [value for (value,), _ in plot.rows]
        least = next((tick for tick in ticks if tick > 0), 0)
        if ticks[0] >= 0 and least and ticks[-1] / least > 50:
            if ticks[0]:
                axes.set_xscale("log")
            else:
                axes.set_xscale("symlog", linthresh=least)
            axes.xaxis.set_major_formatter("{x:g}")
        if len(ticks) <= 8:
            axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
            axes.minorticks_off()
        axes.set_xlabel(plot.keys[0])
        figure.align_ylabels(panels)
        _legend(figure, axes)
        _part_ticks(figure, axes)
        return _svg(figure, label, f"{task.primary} of {plot.system} by {plot.keys[0]}")


def _figure(height: float) -> tuple[Figure, Axes]:
    figure, (axes,) = _panels(height, 1)
    return figure, axes


def _panels(height: float, count: int) -> tuple[Figure, list[Axes]]:
    """Panels below each other with one horizontal axis."""
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    figure.patch.set_visible(False)
    panels: list[Axes] = list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])
    for axes in panels:
        axes.patch.set_visible(False)
    return figure, panels


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(3, len(handles)), handlelength=1.6, columnspacing=1.4)


def _part_ticks(figure: Figure, axes: Axes) -> None:
    """Numbers on the horizontal axis that would run into those before them go a line down."""
    figure.draw_without_rendering()  # places are known from here on
    ends: list[float] = []  # of each line
    texts = []
    for tick in axes.get_xticklabels():
        box = tick.get_window_extent()
        line = next((line for line, end in enumerate(ends) if box.x0 > end + box.height / 2), len(ends))
        ends[line : line + 1] = [box.x1]
        texts.append("\n" * line + tick.get_text())
    if len(ends) > 1:
        axes.set_xticks(axes.get_xticks(), texts)


def _svg(figure: Figure, label: str, title: str) -> str:
    """The figure as an SVG element. label: unique on the page, plain letters, digits and hyphens; it leads every id. title: for those
    who do not see it."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'\bid="', f'id="{label}-', text)
    text = re.sub(r'(url\(|xlink:href=")#', rf"\g<1>#{label}-", text)
    text = re.sub(r' xmlns(?::xlink)?="[^"]*"| version="1.1"', "", text)
    # the page sets the size; the view box keeps the proportions
    text = re.sub(r'<svg width="[^"]*" height="[^"]*"|<svg height="[^"]*" width="[^"]*"', "<svg", text, count=1)
    for placeholder, variable in _COLOURS.items():
        text = text.replace(placeholder, variable)
    text = text.replace("<svg", f'<svg class="plot" role="img" aria-labelledby="{label}-title"', 1)
    return text.replace(">", f'><title id="{label}-title">{escape(title)}</title>', 1)
