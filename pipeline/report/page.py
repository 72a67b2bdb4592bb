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
from .pictures import Picture, chosen, embed, extremes
from .questions import beaten
from .synthetic import RECALLS, WEAK
from .templates import environment, style

SUPERVISION = {
    "text": "sentences alone; no image is seen in training",
    "synthetic": "sentences and generated images",
    "few-pairs": "sentences and a few image–sentence pairs",
    "paired": "image–sentence pairs, the upper bound",
}
METRICS = tuple(metric for metric in TASK.metrics if metric.meaning)
BOTH = f"In brackets the 95 % interval of {TASK.primary} minus it, paired by {TASK.item}."
MEANINGS = {control: f"{meaning}: what of the score does not come from looking at the picture in question. {BOTH}"
            for control, meaning in TASK.meanings.items()}
EMPTY = "Captions without a word; they count in every score."


@dataclass(frozen=True)
class SettingView:
    """A setting as the page shows it. metrics: those that a system there has; tops: the best value of each, as printed; plot: SVG."""

    data: SettingResults
    anchor: str
    metrics: tuple[Metric, ...]
    tops: dict[str, str]
    plot: Markup
    pictures: list[Picture]
    best: list[Picture]
    worst: list[Picture]


def write_report(params: dict[str, Any]) -> None:
    """Write `data/report/index.html`. Raises `UserError` for missing or foreign artefacts."""
    html = render(gather(params))
    with finished_folder(paths.REPORT) as folder:
        (folder / "index.html").write_text(html, encoding="utf-8", newline="\n")


def render(report: Report) -> str:
    """The page's HTML; the same report gives the same bytes."""
    templates = environment()
    templates.filters |= {"score": score, "signed": signed, "decimal": decimal, "settings_text": settings_text,
                            "embed": lambda file: embed(file, report.frames),
                            "beaten": beaten, "lower_first": lambda text: text[:1].lower() + text[1:]}
    curves = [(run, Markup(plots.training_curve(run, f"training-{i}"))) for i, run in enumerate(report.systems, 1) if run.evaluations]
    sweep_plots = {(s, p): Markup(plots.sweep_curves(plot, TASK, f"sweep-{s}-{p}"))
                   for s, sweep in enumerate(report.sweeps) for p, plot in enumerate(sweep.plots)}
    corpora = report.synthetic.corpora if report.synthetic else ()
    refinement_plots = {(c, r): Markup(plots.refinement_curves(refinement.curve, f"refinement-{c}-{r}"))
                        for c, corpus in enumerate(corpora) for r, refinement in enumerate(corpus.refinements) if refinement.curve}
    return templates.get_template("template.html.j2").render(
        report=report, settings=[_view(s, i, report.seed) for i, s in enumerate(report.settings, 1)], task=TASK, primary=TASK.primary,
        metrics=METRICS, meanings=MEANINGS, margins=list(zip(TASK.controls, TASK.margins, strict=True)), empty=EMPTY,
        answer_meanings=answer.TASK.meanings, supervision=SUPERVISION, curves=curves, sweep_plots=sweep_plots,
        refinement_plots=refinement_plots, recalls=RECALLS, weak=WEAK, style=style(),
    )


def _view(setting: SettingResults, number: int, seed: int) -> SettingView:
    scored = {metric.name: [result.scores[metric.name].value for result in setting.results if metric.name in result.scores]
              for metric in METRICS}
    tops = {metric.name: score(metric.best(scored[metric.name]), metric.digits) for metric in METRICS if scored[metric.name]}
    plot = Markup(plots.score_dots(setting.results, TASK, f"{TASK.primary.lower()}-{number}")) if setting.results else Markup("")
    best, worst = extremes(setting, setting.best) if setting.best else ([], [])
    metrics = tuple(metric for metric in METRICS if scored[metric.name] or not setting.results)
    return SettingView(setting, f"setting-{number}", metrics, tops, plot, chosen(setting, seed), best, worst)


def score(value: float, digits: int = 1) -> str:
    """A score with the digits of its metric: one for the primary one."""
    return f"{value:.{digits}f}"


def signed(value: float, digits: int = 1) -> str:
    """A difference with its sign."""
    return f"{value:+.{digits}f}".replace("-", "−")


def decimal(value: float | None, digits: int = 3) -> str:
    """A number with that many digits behind the point; a dash for none."""
    return "—" if value is None else f"{value:.{digits}f}".replace("-", "−")


def settings_text(values: dict[str, Any]) -> str:
    """Parameters as `name=value, ...`, in their order."""
    return ", ".join(f"{key}={value}" for key, value in values.items()) or "none"
