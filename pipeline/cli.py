"""The `unpaired` command. Heavy libraries are imported inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from .core.errors import one_line_errors
from .core.startup import leave, quiet_interrupts, rest_collector

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
                  help="Turns a corpus of sentences into an image captioner, without one captioned photograph.")

Kind = Literal["clip", "detector", "diffusion", "lm"]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.callback()
def _options(debug: Debug = False) -> None:
    if debug:
        os.environ["UNPAIRED_DEBUG"] = "1"


@app.command()
def caption(
    images: Annotated[list[Path], typer.Argument(help="Pictures, videos, or folders of them.")],
    system: Annotated[str, typer.Option(help="A system of params.yaml that `dvc repro` has trained.")] = "knight",
    model: Annotated[Path | None, typer.Option(help="The folder of a captioner that `unpaired fit` made, in place of a system.")] = None,
    support: Annotated[str | None, typer.Option(help="Whose sentences are looked up (default: as in the first of its settings).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    explain: Annotated[bool, typer.Option(help="Show the nearest corpus captions, the caption's CLIP similarity, and what else the system "
                                               "was told of: objects, regions, key frames, candidates to choose from.")] = False,
    page: Annotated[Path | None, typer.Option(help="Explain in an HTML file too, with the pictures, and regions as boxes on them.")] = None,
) -> None:
    """Caption pictures and videos. A broken one is named and the rest captioned; the exit code is then 1."""
    wake_collector = rest_collector()
    from .photographs import caption_files
    from .portable import SYSTEM

    wake_collector()
    name = SYSTEM if model else system
    if page is None:
        whole = caption_files(images, name, support, as_json, explain, captioner=model)
    else:
        from .report.explained import explained_page

        with explained_page(page, name) as show:
            whole = caption_files(images, name, support, as_json, True, show, model)
    if not whole:
        raise typer.Exit(1)


@app.command()
def fit(
    sentences: Annotated[Path, typer.Argument(help="A text file with a sentence a line, such as people say of pictures of your domain.")],
    clip: Annotated[str, typer.Option(help="A CLIP of data/foundation, or its folder; `unpaired model add clip` brings one.")],
    out: Annotated[Path, typer.Option(help="The captioner's folder. Work goes to <out>.work, from which a killed fit goes on.")],
    method: Annotated[str, typer.Option(help="knight, decap, capdec, close or clipre.")] = "knight",
    recipe: Annotated[str | None, typer.Option(help="small, medium (from 20,000 sentences on) or large (from 200,000 on).")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps, in place of the recipe's.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of initial weights, the order of sentences, and noise.")] = 0,
    pictures: Annotated[Path | None, typer.Option(help="Pictures to caption at the end.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how long each step will take on this machine, and make nothing.")] = False,
) -> None:
    """Make a captioner of a file of sentences: one folder that holds all it needs, for `unpaired caption --model`."""
    wake_collector = rest_collector()
    from . import fit as fitting
    from .portable import SYSTEM

    wake_collector()
    wish = fitting.Wish(sentences, fitting.find_clip(clip), method, recipe, steps, seed)
    if dry_run:
        from .fit_estimate import estimate

        estimate(wish)
        return
    fitting.fit(wish, out)
    if pictures is None:
        typer.echo(f"`unpaired caption --model {out} PICTURES` captions; {fitting.work_folder(out).name} beside it may be removed")
        return
    from .photographs import caption_files

    if not caption_files([pictures], SYSTEM, None, False, False, captioner=out):
        raise typer.Exit(1)


@app.command()
def answer(
    picture: Annotated[Path, typer.Argument(help="A picture.")],
    question: Annotated[str, typer.Argument(help='What is asked about it, such as "what colour is the car?".')],
    system: Annotated[str, typer.Option(help="A system below `answering` in params.yaml, that `dvc repro` has trained.")] = "maccap",
    support: Annotated[str | None, typer.Option(help="Whose sentences are looked up, by a system that does.")] = None,
) -> None:
    """Answer a question about a picture. The system was trained to caption only: expect little."""
    wake_collector = rest_collector()
    from .photographs import answer_file

    wake_collector()
    answer_file(picture, question, system, support)


@app.command()
def methods() -> None:
    """What there is: every method with its supervision and its paper."""
    from .methods import METHODS, find_method

    for name in sorted(METHODS):
        method = find_method(name)
        typer.echo(f"{name:10} {method.supervision:10} {method.paper}")


@app.command()
def inspect(
    place: Annotated[Path, typer.Argument(metavar="FILE_OR_FOLDER", help="Captions in any of the formats of docs/data.md.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """What a file or folder of captions is, what is odd about it, and the lines of params.yaml that read it."""
    from .corpus.inspect import inspect as look

    found = look(place)
    typer.echo(json.dumps(found.as_json()) if as_json else found.as_text(), nl=as_json)


@app.command()
def doctor() -> None:
    """Which device, Java and weights there are, what is missing, and what to do."""
    from .doctor import examine

    if not examine():
        raise typer.Exit(1)


@app.command()
def foundation(
    model: Annotated[str, typer.Argument(help="micro, judge, detector, diffusion, lm, or micro-2, a further round of micro.")],
    out: Annotated[Path, typer.Option(help="Folder for the rebuilt model; the shipped one is left alone.")] = Path("rebuilt"),
) -> None:
    """Rebuild a shipped model from its recipe, and compare it with the shipped one. Resumes where it was interrupted."""
    from .foundation.rebuild import rebuild

    rebuild(model, out)


model = typer.Typer(no_args_is_help=True, help="Models of others: CLIPs, detectors, diffusion and language models.")
app.add_typer(model, name="model")


@model.command("add")
def model_add(
    kind: Annotated[Kind, typer.Argument(help="clip, detector, diffusion or lm.")],
    name: Annotated[str, typer.Argument(help="What params.yaml and `unpaired fit` will call it: a folder of data/foundation.")],
    architecture: Annotated[str | None, typer.Option(help="Of a CLIP, as open_clip calls it: ViT-B-32.")] = None,
    pretrained: Annotated[str | None, typer.Option(help="Of a CLIP, as open_clip calls its weights: openai.")] = None,
    hub: Annotated[str | None, typer.Option(help="Any other model's name on the hub of Hugging Face: openai-community/gpt2.")] = None,
    source: Annotated[Path | None, typer.Option("--from", help="Its folder, or a CLIP's safetensors: nothing is fetched.")] = None,
) -> None:
    """Bring a model into data/foundation, from the hub or from files, and try it there. No other command fetches weights."""
    wake_collector = rest_collector()
    from .foundation import add

    wake_collector()
    if kind == "clip":
        lines = add.add_clip(name, architecture, pretrained, source)
    else:
        lines = {"lm": add.add_lm, "detector": add.add_detector, "diffusion": add.add_diffusion}[kind](name, add.Origin(hub, source))
    typer.echo(f"{add.paths.foundation(name)} is there; to name it in params.yaml:\n\n{lines}")


@app.command()
def metrics() -> None:
    """What captions, and answers to questions, are scored by, as Markdown tables."""
    from .tasks import answer, caption

    print(f"{caption.TASK.table()}\n\n{answer.TASK.table()}")


References = Annotated[Path | None, typer.Option(help="COCO annotations, Karpathy's or MAGIC's JSON, {id: list of texts}, JSON Lines, CSV "
                                                      "or TSV; may be left out where captions carry their own.")]
Split = Annotated[str | None, typer.Option(help="Which references, of a file that has several splits.")]
StripMarkers = Annotated[bool, typer.Option("--strip-markers", help="Take markers such as <|endoftext|> and </s> out before scoring.")]
OneObject = Annotated[bool, typer.Option("--json", help="A JSON object, of several files one a line.")]


@app.command()
def evaluate(
    captions: Annotated[list[Path], typer.Argument(help="COCO results, MAGIC's result list, {id: caption}, JSON Lines, CSV or TSV; several "
                                                   "become a table.")],
    references: References = None,
    split: Split = None,
    strip_markers: StripMarkers = False,
    spice: Annotated[bool, typer.Option("--spice", help="SPICE too; it takes minutes, and `unpaired spice install`.")] = False,
    instances: Annotated[Path | None, typer.Option(help="For CHAIR: what images show, COCO's instances_*.json; with --synonyms.")] = None,
    synonyms: Annotated[Path | None, typer.Option(help="A line of words per object, as published with CHAIR.")] = None,
    as_json: OneObject = False,
    beside: Annotated[str | None, typer.Option("--published", help="Papers' figures below them, of the setting that is the same: see "
                                               "`unpaired published`.")] = None,
    page: Annotated[Path | None, typer.Option("--html", help="Write an HTML page too, with the captions that score lowest and highest.")]
    = None,
) -> None:
    """Score files of captions, whoever made them, by the code that scores the pipeline's own."""
    from contextlib import nullcontext

    from .core.errors import UserError
    from .report.pages import new_page
    from .report.scored import render
    from .scoring import evaluate as scoring
    from .scoring import published as papers
    from .scoring.truth import Record

    record = Record.of(instances, synonyms)
    table = papers.as_text(beside) if beside else ""
    if page and len(captions) > 1:
        raise UserError("--html is of one file of captions: give one, or leave it out")
    with new_page(page) if page else nullcontext() as write:
        found = [scoring.evaluate(scoring.load_pair(file, references, split), strip_markers, spice, record) for file in captions]
        if as_json:
            rows = {"published": papers.as_json(beside)} if beside else {}
            typer.echo("\n".join(json.dumps(scoring.as_json(each) | rows) for each in found))
        else:
            typer.echo("\n\n".join(filter(None, (scoring.as_text(found[0]) if len(found) == 1 else scoring.as_table(found), table))))
        if write:
            write(render(found[0]))


@app.command()
def published(setting: Annotated[str | None, typer.Argument(help="A data set, such as coco (default: list them).")] = None) -> None:
    """Figures that papers print, with their sources and what is known to be off."""
    from .scoring import published as papers

    typer.echo(papers.as_text(setting) if setting else "\n".join(f"{name:15} {what}" for name, what in papers.settings().items()))


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="A system of params.yaml that `dvc repro` has run, or a file of captions.")],
    b: Annotated[str, typer.Argument(help="Another one.")],
    setting: Annotated[str | None, typer.Option(help="Where both systems were tested (default: the first that they share).")] = None,
    references: References = None,
    split: Split = None,
    strip_markers: StripMarkers = False,
    number: Annotated[int, typer.Option(min=0, help="Images to show of each side, on which it is most above the other.")] = 5,
    as_json: OneObject = False,
) -> None:
    """How far two systems, or two files of captions, differ image by image, and on which images most."""
    from .scoring import compare as comparing

    found = comparing.compare(a, b, setting, comparing.Files(references, split, strip_markers), number)
    typer.echo(json.dumps(comparing.as_json(found)) if as_json else comparing.as_text(found))


@app.command()
def sweep(name: Annotated[str, typer.Argument(help="An entry of `sweeps` in params.yaml.")]) -> None:
    """Train and score variations of systems into data/sweeps/NAME.csv. Finished rows are kept: it resumes."""
    from .sweeps import run_sweep

    run_sweep(name)


spice = typer.Typer(no_args_is_help=True, help="SPICE, which needs Stanford CoreNLP beside what is installed.")
app.add_typer(spice, name="spice")


@spice.command("install")
def spice_install(
    source: Annotated[Path | None, typer.Option("--from", help="A folder or zip that holds the two jars, such as Stanford's own "
                                                "(default: Maven's client `mvn` fetches them, 385 MB).")] = None,
) -> None:
    """Bring Stanford CoreNLP 3.6.0 into the user's cache folder, for `unpaired evaluate --spice`."""
    from .metrics.spice_install import LICENCES, install

    typer.echo(f"{LICENCES}.")
    files = install(source)
    typer.echo(f"installed in {files[0].parent}: `unpaired evaluate --spice` computes SPICE")


judge = typer.Typer(no_args_is_help=True, help="Human evaluation: which of two systems' captions people prefer, blind.")
app.add_typer(judge, name="judge")


@judge.command("export")
def judge_export(
    systems: Annotated[tuple[str, str], typer.Argument(help="Two systems that `dvc repro` has run, tested on the same pictures.")],
    out: Annotated[Path, typer.Argument(help="A folder for sheet.html, which goes to raters, and key.json, which does not.")],
    setting: Annotated[str | None, typer.Option(help="Where both were tested (default: the first that they share).")] = None,
    number: Annotated[int, typer.Option(help="Pictures.")] = 100,
    seed: Annotated[int, typer.Option(help="Which pictures, in which order, whose caption on which side.")] = 0,
) -> None:
    """Write a blind sheet: one page that needs nothing else, on which raters choose between two captions of each picture."""
    from .human.sheet import export

    typer.echo(export(systems, setting, number, seed, out))


@judge.command("score")
def judge_score(
    key: Annotated[Path, typer.Argument(help="key.json of the sheet.")],
    answers: Annotated[list[Path], typer.Argument(help="The files that raters saved.")],
) -> None:
    """Whose captions raters prefer, with intervals over pictures, and how far they agree."""
    from .human.ratings import score, table

    typer.echo(table(*score(key, answers)))


def main() -> None:
    """Run the command: an expected error is one line and exit code 1."""
    quiet_interrupts()
    try:
        with one_line_errors():
            app()
    except SystemExit as end:
        leave(end.code)


if __name__ == "__main__":
    main()
