"""The page: gathered data, pictures and plots through one template, into one file that needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ..core import paths
from ..core.resume import finished_folder
from ..tasks import answer
from ..tasks.base import Metric
from ..tasks.caption import TASK
from . import plots
from .data import Report, SettingResults, gather
from .marks import MEANINGS as MARKS
from .overview import Axis, axes
from .pictures import Picture, chosen, embed, extremes
from .provenance import choices, origins, versions
from .questions import beaten
from .synthetic import RECALLS, WEAK
from .templates import environment, score, style

SUPERVISION = {
    "text": ("Text only", "sentences alone; no image is seen in training"),
    "synthetic": ("Text and drawn pictures", "sentences and generated images"),
    "few-pairs": ("Text and a few pairs", "sentences and a few image–sentence pairs"),
    "paired": ("Pairs", "image–sentence pairs, the upper bound"),
}
CHARTED = ("CHAIRs",)  # beside the primary metric
METRICS = tuple(metric for metric in TASK.metrics if metric.meaning)
BOTH = f"In brackets the 95 % interval of {TASK.primary} minus it, paired by {TASK.item}."
MEANINGS = {control: f"{meaning}: what of the score does not come from looking at the picture in question. {BOTH}"
            for control, meaning in TASK.meanings.items()}
EMPTY = "Captions without a word; they count in every score."


@dataclass(frozen=True)
class SettingView:
    """A setting as the page shows it. metrics: those that a system there has; tops: the best value of each, as printed; axes: of its
    chart, none where nothing was tested."""

    data: SettingResults
    anchor: str
    metrics: tuple[Metric, ...]
    tops: dict[str, str]
    axes: list[Axis]
    pictures: list[Picture]
    best: list[Picture]
    worst: list[Picture]

    @property
    def marked(self) -> bool:
        """Whether captions say which of their words are right."""
        return any(piece.kind for picture in self.pictures for caption in picture.captions for piece in caption.pieces)


def write_report(params: dict[str, Any]) -> None:
    """Write `data/report/index.html`. Raises `UserError` for missing or foreign artefacts."""
    html = render(gather(params))
    with finished_folder(paths.REPORT) as folder:
        (folder / "index.html").write_text(html, encoding="utf-8", newline="\n")


def render(report: Report) -> str:
    """The page's HTML; the same report gives the same bytes."""
    templates = environment()
    templates.filters["embed"] = lambda file: embed(file, report.frames)
    templates.filters["beaten"] = beaten
    views = [_view(setting, number, report.seed) for number, setting in enumerate(report.settings, 1)]
    curves = [(run, Markup(plots.training_curve(run, f"training-{i}"))) for i, run in enumerate(report.systems, 1) if run.evaluations]
    sweep_plots = {(s, p): Markup(plots.sweep_curves(plot, TASK, f"sweep-{s}-{p}"))
                   for s, sweep in enumerate(report.sweeps) for p, plot in enumerate(sweep.plots)}
    corpora = report.synthetic.corpora if report.synthetic else ()
    refinement_plots = {(c, r): Markup(plots.refinement_curves(refinement.curve, f"refinement-{c}-{r}"))
                        for c, corpus in enumerate(corpora) for r, refinement in enumerate(corpus.refinements) if refinement.curve}
    return templates.get_template("page.html.j2").render(
        report=report, settings=views, leading=[view for view in views if view.data.leads], task=TASK, primary=TASK.primary,
        metrics=METRICS, meanings=MEANINGS, margins=list(zip(TASK.controls, TASK.margins, strict=True)), empty=EMPTY,
        answer_meanings=answer.TASK.meanings, supervisions=SUPERVISION, said=MARKS,
        charted=(TASK.primary, *CHARTED), origins=origins(report.systems), choices=choices(report.systems),
        versions=versions(), curves=curves, sweep_plots=sweep_plots,
        refinement_plots=refinement_plots, recalls=RECALLS, weak=WEAK, style=style(),
    )


def _view(setting: SettingResults, number: int, seed: int) -> SettingView:
    scored = {metric.name: [result.scores[metric.name].value for result in setting.results if metric.name in result.scores]
              for metric in METRICS}
    tops = {metric.name: score(metric.best(scored[metric.name]), metric.digits) for metric in METRICS if scored[metric.name]}
    best, worst = extremes(setting, setting.best) if setting.best else ([], [])
    metrics = tuple(metric for metric in METRICS if scored[metric.name] or not setting.results)
    return SettingView(setting, f"setting-{number}", metrics, tops, axes(setting, TASK, CHARTED), chosen(setting, seed), best, worst)
