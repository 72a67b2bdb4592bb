"""The page: gathered data, pictures and plots through one template, into one file that needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.core import paths
from pipeline.core.resume import finished_folder
from pipeline.report import plots
from pipeline.report.data import METRICS, Report, SettingResults, gather
from pipeline.report.pictures import Picture, chosen, embed, extremes
from pipeline.report.synthetic import RECALLS, WEAK

LEGEND = {
    "BLEU-1": "Share of the caption's words that occur in a reference, with a penalty for short captions; 0 to 100.",
    "BLEU-4": "The same for runs of up to four words; 0 to 100.",
    "METEOR": "Words aligned with the closest reference, stems, synonyms and paraphrases included; 0 to 100.",
    "ROUGE-L": "Longest common word sequence of caption and reference; 0 to 100.",
    "CIDEr": "Agreement with the references in runs of up to four words, rare ones counting more (CIDEr-D × 100); in brackets the 95 % "
             "bootstrap interval over images.",
    "Shuffled control": "CIDEr of the same captions, each given to another image: what of the score does not come from looking at the "
                        "picture in question. In brackets the paired 95 % interval of CIDEr minus this control.",
    "CLIPScore": "2.5 times the cosine between caption and image in the judge's CLIP space; no references are used.",
    "RefCLIPScore": "Harmonic mean of CLIPScore and the caption's cosine with its nearest reference.",
    "RefCompare": "Share of an image's references that the judge finds less similar to the image than the caption; 0 to 1.",
    "Empty": "Captions without a word; they count in every score.",
}
SUPERVISION = {
    "text": "sentences alone; no image is seen in training",
    "synthetic": "sentences and generated images",
    "few-pairs": "sentences and a few image–sentence pairs",
    "paired": "image–sentence pairs, the upper bound",
}
_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class SettingView:
    """A setting as the page shows it. tops: the highest value of each metric, as printed; plot: SVG."""

    data: SettingResults
    anchor: str
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
    # Every placeholder is escaped: captions and names are text, whatever they hold.
    environment = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)
    environment.filters |= {"score": score, "signed": signed, "decimal": decimal, "settings_text": settings_text, "embed": embed}
    curves = [(run, Markup(plots.training_curve(run, f"training-{i}"))) for i, run in enumerate(report.systems, 1) if run.evaluations]
    sweep_plots = {(s, p): Markup(plots.sweep_curves(plot, f"sweep-{s}-{p}"))
                   for s, sweep in enumerate(report.sweeps.sweeps) for p, plot in enumerate(sweep.plots)}
    corpora = report.synthetic.corpora if report.synthetic else ()
    refinement_plots = {(c, r): Markup(plots.refinement_curves(refinement.curve, f"refinement-{c}-{r}"))
                        for c, corpus in enumerate(corpora) for r, refinement in enumerate(corpus.refinements) if refinement.curve}
    return environment.get_template("template.html.j2").render(
        report=report, settings=[_view(s, i, report.seed) for i, s in enumerate(report.settings, 1)], metrics=METRICS, legend=LEGEND,
        supervision=SUPERVISION, curves=curves, sweep_plots=sweep_plots, refinement_plots=refinement_plots, recalls=RECALLS, weak=WEAK,
        style=Markup((_FOLDER / "style.css").read_text("utf-8")),
    )


def _view(setting: SettingResults, number: int, seed: int) -> SettingView:
    tops = {metric: score(max(result.scores[metric] for result in setting.results), metric) for metric in METRICS if setting.results}
    plot = Markup(plots.cider_dots(setting.results, f"cider-{number}")) if setting.results else Markup("")
    best, worst = extremes(setting, setting.best) if setting.best else ([], [])
    return SettingView(setting, f"setting-{number}", tops, plot, chosen(setting, seed), best, worst)


def score(value: float, metric: str = "CIDEr") -> str:
    """A score with the digits that it is printed with: three for the judge's, one for those times 100."""
    return f"{value:.3f}" if metric in ("CLIPScore", "RefCLIPScore", "RefCompare") else f"{value:.1f}"


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"{value:+.1f}".replace("-", "−")


def decimal(value: float | None, digits: int = 3) -> str:
    """A number with that many digits behind the point; a dash for none."""
    return "—" if value is None else f"{value:.{digits}f}".replace("-", "−")


def settings_text(values: dict[str, Any]) -> str:
    """Parameters as `name=value, ...`, in their order."""
    return ", ".join(f"{key}={value}" for key, value in values.items()) or "none"
