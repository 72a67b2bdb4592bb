"""The report shows every result, marks what is not to be believed, and is one file of the same bytes each time."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.core import paths
from pipeline.core.artefacts import seal
from pipeline.core.errors import UserError
from pipeline.core.files import digest_of, write_json
from pipeline.metrics.judge import EvaluationParams
from pipeline.report.data import gather
from pipeline.report.page import render, write_report
from pipeline.report.pictures import chosen, extremes
from pipeline.report.sweeps import Sweep, read_tables, sweep_of
from pipeline.sweep_table import Row, write_rows
from pipeline.tasks.base import Score, long
from pipeline.tasks.caption import TASK
from tests.artefacts import edit_json, edit_table, seal_again

IMAGES = 20
MALICE = '<script>alert("a & b")</script>'
ENTRY = {"clip": "micro", "corpus": "scenes", "starts_from": "foundation/micro", "learns_from": "micro/text", "learns_with": "micro/text",
         "looks_at": "micro/image",
         "looks_up": "micro/text", "decoder": "small", "recipe": "small", "suite": "pictures"}
PARAMS: dict[str, Any] = {
    "systems": {
        "capdec": {"method": "capdec", **ENTRY, "train": {"noise_variance": 0.016}},
        "knight": {"method": "knight", **ENTRY, "train": {"k": 5}},
        "clipre": {"method": "clipre", **ENTRY, "recipe": "none"},
    },
    "settings": {"pictures": {
        "in-domain": {"test": "scenes", "support": "scenes"}, "cross-domain": {"test": "album", "support": "scenes"},
        "target-support": {"test": "album", "support": "album"},
    }},
    "evaluation": {"judge": "judge", "samples": 50, "seed": 0, "prompt": ""},
    "frames": {"count": 5},
}
CIDER = {"capdec": 40.0, "knight": 60.0, "clipre": 20.0}  # of the systems that are there


def write_dataset(name: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(size[0])
    paths.corpus(name).mkdir(parents=True)
    paths.raw(name).mkdir(parents=True)
    ids = [f"{name}-{i:02d}" for i in range(IMAGES)]
    for image_id in ids:
        blocks = rng.integers(60, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(paths.raw(name) / f"{image_id}.png")
    pq.write_table(pa.table({"image_id": ids, "path": [f"{i}.png" for i in ids], "split": ["test"] * IMAGES}), paths.image_table(name))
    texts = [f"{words} of {image_id}." for image_id in ids for words in ("a small red ball left", "a blue boat on the right")]
    pq.write_table(pa.table({"caption_id": [str(i) for i in range(2 * IMAGES)], "image_id": [i for i in ids for _ in range(2)],
                             "text": texts, "split": ["test"] * 2 * IMAGES}), paths.references_table(name))
    counts = {"read": 5000, "kept": 4990, "skipped": 10, "beyond_limit": 0, "normalised": 0, "mean_words": 9.5, "max_words": 20}
    write_json(paths.corpus(name) / "report.json", {
        "format": "karpathy", "source": "dataset.json", "unspaced": 0, "corpus": {**counts, "train": 4890, "heldout": 100},
        "references": {**counts, "val": 0, "test": 2 * IMAGES}, "images": {"unlabelled": 7, "val": 0, "test": IMAGES},
    })
    seal(paths.corpus(name))


def write_system(name: str, settings: dict[str, str]) -> None:
    """Scores, also per image, captions and protocol of a system, for settings name -> tested data set."""
    rng = np.random.default_rng(list(name.encode()))
    scores: list[Score] = []
    protocol: dict[str, Any] = {"tokenizer": "PTB", "judge": "judge", "judge_prompt": "", "java": "21.0", "settings": {}}
    paths.scores(name).mkdir(parents=True)
    for setting, dataset in settings.items():
        ids = [f"{dataset}-{i:02d}" for i in range(IMAGES)]
        cider = np.round(CIDER.get(name, 10.0) + rng.uniform(-15, 15, IMAGES), 1)
        values = dict.fromkeys((metric.name for metric in TASK.metrics), CIDER.get(name, 10.0) / 2)
        values |= {f"{metric.name}_{end}": values[metric.name] + add for metric in TASK.metrics if metric.interval
                   for end, add in (("low", -1.0), ("high", 1.0))}
        values |= {"CLIPScore": 0.7, "RefCLIPScore": 0.6, "RefCompare": 0.1, "CIDEr": float(cider.mean()),
                   "CIDEr_low": float(cider.mean()) - 4, "CIDEr_high": float(cider.mean()) + 4,
                   "CIDEr_shuffled": 8.0, "CIDEr_above_shuffled_low": 6.0, "CIDEr_above_shuffled_high": 30.0,
                   "CIDEr_constant": 9.0, "CIDEr_above_constant_low": 1.0, "CIDEr_above_constant_high": 29.0}
        scores += long(setting, IMAGES, {key: round(value, 4) for key, value in values.items()})
        per_image = {name: [value] * IMAGES for name, value in values.items() if name in TASK.per_item} | {"CIDEr": cider.tolist()}
        pq.write_table(pa.table({"image_id": ids, **per_image}), paths.scores(name) / f"{setting}.parquet")
        write_json(paths.captions(name) / f"{setting}.json",
                   [{"image_id": i, "caption": f"{name} sees a red ball left of a boat in {i}."} for i in ids])
        protocol["settings"][setting] = {"dataset": dataset, "images": IMAGES, "references": 2 * IMAGES, "empty_captions": 0,
                                         "constant": f"a <b> in {dataset}"}
    write_scores(name, scores)
    write_json(paths.scores(name) / "protocol.json", protocol)
    seal(paths.captions(name))
    seal(paths.scores(name))


def write_scores(name: str, scores: list[Score]) -> None:
    pq.write_table(pa.Table.from_pylist([asdict(score) for score in scores]), paths.scores_table(name))


def write_model(name: str, steps: tuple[int, ...] = (200, 400, 600, 800)) -> None:
    """The card of a model, and its curve; without steps it was not trained."""
    curve = [{"phase": "cross-entropy", "step": step, "train_loss": 3 + 300 / step, "heldout_loss": 3.2 + 200 / step} for step in steps]
    write_json(paths.curve(name), curve)
    write_json(paths.model(name) / "system.json", {"recipe_params": {"steps": 800}, "parameters": 1_234_567, "best_step": 800,
                                                   "curve_digest": digest_of(curve)})
    seal(paths.model(name))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a data set of tiny pictures, one of photograph size, two trained systems and one that only retrieves."""
    monkeypatch.chdir(tmp_path)
    write_dataset("scenes", (64, 64))
    write_dataset("album", (640, 400))
    every = {"in-domain": "scenes", "cross-domain": "album", "target-support": "album"}
    for name in CIDER:
        write_system(name, {key: every[key] for key in ("in-domain", "cross-domain")} if name == "capdec" else every)
    write_model("capdec")
    write_model("knight")
    write_model("clipre", steps=())
    return tmp_path


def change_score(system: str, which: str, **changes: float | str) -> None:
    """In the setting in-domain, of a metric."""
    scores = (Score(**row) for row in pq.read_table(paths.scores_table(system)).to_pylist())
    write_scores(system, [replace(s, **changes) if (s.setting, s.metric) == ("in-domain", which) else s for s in scores])
    seal_again(paths.scores(system))


def row(values: dict[str, Any], seed: int, cider: float, low: float, high: float, system: str = "knight", setting: str = "in-domain",
        shuffled: float = 8) -> Row:
    scores = {score.metric: score for score in long(setting, 20, {
        "CIDEr": float(cider), "CIDEr_low": float(low), "CIDEr_high": float(high), "CIDEr_shuffled": float(shuffled)})}
    return Row(system, json.dumps(values), seed, setting, "val", 20, scores, "0123456789abcdef", {"CIDEr": np.full(20, cider, np.float32)})


def write_sweep(*rows: Row) -> None:
    write_rows(paths.SWEEPS / "k.csv", rows, TASK)


def sweeps_of(project: Path) -> tuple[Sweep, ...]:
    return tuple(sweep_of(name, rows, TASK, EvaluationParams("judge", samples=50))
                 for name, rows in read_tables(project / "data/sweeps", TASK).items())


def section(html: str, name: str) -> str:
    return html[html.index(f'<section id="{name}">') :].split("</section>")[0]


class Loads(HTMLParser):
    """Collects what the page would load or point to, and ids."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.targets += [value or "" for key, value in attrs if key in ("src", "href", "xlink:href", "srcset", "data", "action")]
        self.ids += [value or "" for key, value in attrs if key == "id"]


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_script(project: Path) -> None:
    write_sweep(row({"train.k": 1}, 0, 50, 45, 55), row({"train.k": 5}, 0, 60, 55, 65))
    html = render(gather(PARAMS))
    page = Loads(html)
    assert all(target.startswith(("#", "data:image/png;base64,")) for target in page.targets)
    assert {target[1:] for target in page.targets if target.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert "http" not in html
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)


def test_two_reports_of_the_same_artefacts_have_the_same_bytes(project: Path) -> None:
    write_report(PARAMS)
    first = (paths.REPORT / "index.html").read_bytes()
    write_report(PARAMS)
    assert (paths.REPORT / "index.html").read_bytes() == first
    assert str(project).encode() not in first


def test_html_in_captions_references_and_sweeps_is_shown_as_text(project: Path) -> None:
    ids = [f"scenes-{i:02d}" for i in range(IMAGES)]
    write_json(paths.captions("knight") / "in-domain.json", [{"image_id": i, "caption": MALICE} for i in ids])
    seal_again(paths.captions("knight"))
    edit_table(paths.references_table("scenes"), pa.table({
        "caption_id": ids, "image_id": ids, "text": [f'"><img src=x>{MALICE}'] * IMAGES, "split": ["test"] * IMAGES}))
    write_sweep(row({"train.k": 1}, 0, 50, 45, 55, "<script>", "<script>$x$"), row({"<script>": "<script>"}, 0, 50, 45, 55, "<script>"),
                row({"<script>": True}, 0, 50, 45, 55, "<script>"), row({}, 0, 50, 45, 55, "<script>a"),
                row({}, 0, 50, 45, 55, "<script>b"))
    html = render(gather(PARAMS))
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "&lt;script&gt;alert(" in html


def test_a_system_that_does_not_beat_its_control_is_marked_and_no_other(project: Path) -> None:
    assert "not above" not in render(gather(PARAMS))
    for control, others in (("shuffled", ("constant",)), ("constant", ("shuffled",))):
        change_score("clipre", f"CIDEr_above_{control}", low=-0.2)
        for other in others:
            change_score("clipre", f"CIDEr_above_{other}", low=0.2)
        table = section(render(gather(PARAMS)), "results").split("</table>")[0]
        marked = {row.split("</th>")[0]: re.findall("⚠ not above ([a-z]+)", row) for row in table.split('<th scope="row">')[1:]}
        assert marked == {"clipre": [control], "capdec": [], "knight": []}


def test_the_constant_sentence_is_shown_beside_what_it_scores(project: Path) -> None:
    first = section(render(gather(PARAMS)), "results").split('id="setting-1"')[1].split("</table>")[0]
    assert "Constant sentence: “a &lt;b&gt; in scenes”." in first
    assert first.count('<td class="n">9.0<span class="ci">[+1.0, +29.0]</span>') == 3


def test_a_metric_that_was_not_scored_is_a_dash_and_the_best_of_chair_is_the_lowest(project: Path) -> None:
    change_score("clipre", "CHAIRs", metric="gone")
    change_score("capdec", "CHAIRs", value=0.25)
    change_score("knight", "CHAIRs", value=0.5)
    clipre, capdec, knight = section(render(gather(PARAMS)), "results").split("</table>")[0].split('<th scope="row">')[1:]
    assert clipre.count('<td class="n">—</td>') == 1
    assert '<td class="n top">0.250' in capdec
    assert '<td class="n">0.500' in knight


def seeds_of(system: str, count: int, step: float, last: float | None = None) -> list[Row]:
    """A sweep's rows of a system as it stands: the run's own result, and further seeds, each `step` higher, or `last`."""
    table = pq.read_table(paths.scores(system) / "in-domain.parquet").to_pydict()
    own = {s.metric: s for s in (Score(**row) for row in pq.read_table(paths.scores_table(system)).to_pylist()) if s.setting == "in-domain"}
    rows = []
    for seed in range(count):
        more = step * seed if last is None or seed + 1 < count else last
        items = {name: np.array(table[name], np.float32) + (more if name == "CIDEr" else 0) for name in TASK.per_item}
        scores = {**own, "CIDEr": replace(own["CIDEr"], value=round(own["CIDEr"].value + more, 4))}
        rows.append(Row(system, "{}", seed, "pictures.in-domain", "test", IMAGES, scores, "0123456789abcdef", items))
    return rows


def test_a_table_shows_the_mean_and_range_of_the_seeds_that_a_sweep_has(project: Path) -> None:
    alone = {result.system.name: result for result in gather(PARAMS).settings[0].results}
    write_sweep(*seeds_of("knight", 3, 6.0))
    found = {result.system.name: result for result in gather(PARAMS).settings[0].results}
    assert repr(found["capdec"].scores) == repr(alone["capdec"].scores)
    assert list(found["knight"].by_seed) == [0, 1, 2]
    assert found["knight"].scores["CIDEr"].value == pytest.approx(alone["knight"].scores["CIDEr"].value + 6, abs=1e-3)
    before, after = (results["knight"].scores["CIDEr"] for results in (alone, found))
    assert after.high - after.low > before.high - before.low
    html = section(render(gather(PARAMS)), "results")
    lowest, highest = found["knight"].by_seed[0], found["knight"].by_seed[2]
    assert f"{lowest:.1f} to {highest:.1f}" in html
    assert "knight is better as trained here" in html  # the others have one seed


def test_a_sweep_of_other_models_says_nothing_of_these(project: Path) -> None:
    before = gather(PARAMS).settings
    rows = seeds_of("knight", 3, 6.0)
    write_sweep(replace(rows[0], items={**rows[0].items, "CIDEr": rows[0].items["CIDEr"] + 1}), *rows[1:])
    assert [result.by_seed for result in gather(PARAMS).settings[0].results] == [result.by_seed for result in before[0].results]


def test_a_sweep_that_was_scored_otherwise_says_nothing_of_these(project: Path) -> None:
    """Its captions are the same, its judge, or what else is scored, is not."""
    before = repr(gather(PARAMS).settings[0].results)
    rows = seeds_of("knight", 3, 6.0)
    write_sweep(*(replace(row, scores={name: score for name, score in row.scores.items() if name != "CHAIRs"}) for row in rows))
    assert repr(gather(PARAMS).settings[0].results) == before
    write_sweep(*(replace(row, scores={**row.scores, "CLIPScore": replace(row.scores["CLIPScore"], value=0.2)}) for row in rows))
    assert repr(gather(PARAMS).settings[0].results) == before


def test_what_is_not_trained_has_one_seed_and_the_longest_sweep_counts(project: Path) -> None:
    write_sweep(*seeds_of("clipre", 3, 0.0), *seeds_of("knight", 3, 6.0))
    write_rows(paths.SWEEPS / "a.csv", seeds_of("knight", 1, 6.0), TASK)
    assert [len(result.by_seed) for result in gather(PARAMS).settings[0].results] == [1, 1, 3]


def test_seeds_that_differ_more_than_systems_are_not_told_apart(project: Path) -> None:
    write_sweep(*seeds_of("knight", 3, 1.0), *seeds_of("capdec", 3, 60.0, -60.0))
    capdec = next(rows for rows in gather(PARAMS).differences if rows[0].b == "capdec")
    assert (capdec[0].seeds, capdec[0].told_apart) == ((3, 3), False)
    html = section(render(gather(PARAMS)), "results")
    assert "not told apart" in html


def test_systems_stand_by_cider_and_the_best_value_is_bold(project: Path) -> None:
    html = render(gather(PARAMS))
    table = html[html.index('id="setting-1"') :].split("</table>")[0]
    assert re.findall(r'<th scope="row">(\w+)</th>', table) == ["clipre", "capdec", "knight"]
    assert re.findall(r'class="n top">([\d.]+)', table)[:2] == ["0.700", "0.600"]  # ties of all systems are all bold
    assert '<td class="n top">30.0' in table


def test_a_system_that_looks_nothing_up_has_dashes_and_a_footnote_where_only_the_support_is_another(project: Path) -> None:
    results = section(render(gather(PARAMS)), "results")
    second, third = results.split('id="setting-2"')[1].split('id="setting-3"')
    assert "not run, because" not in second
    assert re.search(r'<th scope="row">capdec</th><td>text</td>\s*<td class="n">—</td>', third)
    assert "not run, because capdec looks up no sentences" in third


def test_systems_stand_in_the_settings_of_their_own_suite_alone(project: Path) -> None:
    params = {**PARAMS, "systems": {**PARAMS["systems"], "knight": {**PARAMS["systems"]["knight"], "suite": "others"}},
              "settings": {**PARAMS["settings"], "others": {"in-domain": {"test": "scenes", "support": "scenes"}}}}
    settings = gather(params).settings
    shown = [([result.system.name for result in setting.results], [run.name for run in setting.absent]) for setting in settings]
    assert shown == [(["clipre", "capdec"], []), (["clipre", "capdec"], []), (["clipre"], ["capdec"]), (["knight"], [])]
    assert [setting.name for setting in settings] == ["in-domain (pictures)", "cross-domain (pictures)", "target-support (pictures)",
                                                      "in-domain (others)"]
    page = Loads(render(gather(params)))
    assert len(page.ids) == len(set(page.ids))


def test_a_system_that_was_not_trained_says_so_and_what_it_starts_from(project: Path) -> None:
    for name in ("raw", "warmer"):
        write_system(name, {"in-domain": "scenes", "cross-domain": "album", "target-support": "album"})
        write_model(name, steps=())
    adopted = {**ENTRY, "starts_from": "models/knight", "recipe": "none"}
    systems = {**PARAMS["systems"], "raw": {"method": "raw", **adopted}, "warmer": {"method": "decap", **adopted}}
    html = section(render(gather({**PARAMS, "systems": systems})), "systems")
    rows = {part.split("</th>")[0]: part.split("</tr>")[0] for part in html.split('<th scope="row">')[1:]}
    assert {name for name, text in rows.items() if "not trained" in text} == {"clipre", "raw", "warmer"}
    assert {name for name, text in rows.items() if "starts from <code>models/knight</code>" in text} == {"raw", "warmer"}
    assert "1,234,567" in rows["knight"]
    assert section(render(gather({**PARAMS, "systems": systems})), "training").count("<svg") == 2


def test_differences_to_the_best_system_are_paired_by_image(project: Path) -> None:
    table = pq.read_table(paths.scores("clipre") / "in-domain.parquet")
    before = gather(PARAMS).differences
    edit_table(paths.scores("clipre") / "in-domain.parquet", table.take(np.arange(IMAGES)[::-1]))
    assert gather(PARAMS).differences == before
    assert [(row.metric, row.a, row.b) for rows in before for row in rows] == [
        (metric, "knight", other) for other in ("capdec", "clipre")
        for metric in ("CIDEr", "RefCompare", "CHAIRs", "Correct", "MotionCorrect")]
    assert all(row.difference[1] <= row.difference[0] <= row.difference[2] for rows in before for row in rows)


def test_pictures_do_not_depend_on_captions_and_extremes_are_the_extremes(project: Path) -> None:
    first = gather(PARAMS).settings[0]
    shown = [picture.image_id for picture in chosen(first, 0)]
    assert len(set(shown)) == 6
    assert shown != [picture.image_id for picture in chosen(first, 1)]
    assert first.best is not None
    best, worst = extremes(first, first.best)
    order = sorted(first.best.items.values())
    assert [picture.captions[0].score for picture in worst] == order[:4]
    assert [picture.captions[0].score for picture in best] == order[:-5:-1]


def test_tiny_pictures_stay_pixels_and_photographs_shrink(project: Path) -> None:
    tiny, photograph, _ = (chosen(setting, 0)[0] for setting in gather(PARAMS).settings)
    assert (tiny.width, tiny.tiny) == (64, True)
    assert (photograph.width, photograph.height, photograph.tiny) == (256, 160, False)


@pytest.mark.parametrize("missing", [
    paths.scores_table("knight"), paths.scores("knight") / "protocol.json", paths.scores("knight") / "in-domain.parquet",
    paths.captions("knight") / "in-domain.json", paths.curve("knight"), paths.model("knight") / "system.json",
    paths.corpus("album") / "report.json",
], ids=str)
def test_a_missing_artefact_is_named(project: Path, missing: Path) -> None:
    missing.unlink()
    seal_again(missing)
    with pytest.raises(UserError, match=re.escape(str(missing))):
        gather(PARAMS)


def test_scores_of_another_run_are_refused(project: Path) -> None:
    change_score("knight", "CIDEr", setting="other")
    with pytest.raises(UserError, match=r"knight/scores\.long\.parquet has no in-domain\.CIDEr"):
        gather(PARAMS)


def test_without_sweeps_the_page_says_how_to_run_one(project: Path) -> None:
    for _ in range(2):
        assert "unpaired sweep &lt;name&gt;" in section(render(gather(PARAMS)), "sweeps")
        (project / "data/sweeps").mkdir(exist_ok=True)


def test_without_settings_the_report_shows_what_was_trained(project: Path) -> None:
    for name in CIDER:
        paths.scores_table(name).unlink()
    html = render(gather({**PARAMS, "settings": {}}))
    assert "names no settings" in html
    assert section(html, "training").count("<svg") == 2
    assert render(gather({"systems": None, "settings": None, "evaluation": {"judge": "judge"}, "frames": {}}))
    assert render(gather({**PARAMS, "settings": {"pictures": None}}))


def test_what_a_language_model_of_our_own_writes_is_shown_beside_its_figures(project: Path) -> None:
    (project / "lm").mkdir()
    figures = {"scenes": {"perplexity": 3.21, "answers_blind": 0.4}, "samples": ["a dog", MALICE]}
    write_json(Path("lm/provenance.json"), {"figures": figures})
    given = {**PARAMS, "systems": {**PARAMS["systems"], "knight": {**PARAMS["systems"]["knight"], "decoder": "given"}},
             "decoders": {"given": {"pretrained": "lm"}, "small": {"pretrained": "gpt2"}}}
    shown = section(render(gather(given)), "language")
    for text in ("<code>lm</code>, given to knight", "3.21", "0.40", "<li>a dog</li>", "&lt;script&gt;"):
        assert text in shown
    assert "gpt2" not in shown
    assert 'id="language"' not in render(gather(PARAMS))


def test_a_training_is_shown_by_the_score_that_chose_its_weights(project: Path) -> None:
    curve = [{"phase": "cross-entropy", "step": 200, "train_loss": 3.0, "heldout_loss": 3.2},
             *({"phase": "second", "step": step, "train_loss": 1.0, "reward": 50.0 + step} for step in (100, 200))]
    write_json(paths.curve("knight"), curve)
    edit_json(paths.model("knight") / "system.json", curve_digest=digest_of(curve), best_step=200)
    shown = section(render(gather(PARAMS)), "training")
    assert "reward" in shown
    assert "held-out" in shown  # of capdec


def test_a_curve_from_nothing_to_much_has_all_its_ticks(project: Path) -> None:
    write_sweep(*(row({"train.labelled": labelled}, 0, 50, 45, 55) for labelled in (0, 30, 100, 1000, 10_000)))
    html = section(render(gather(PARAMS)), "sweeps")
    assert all(f">{tick}<" in html for tick in ("0", "30", "100", "1000", "10000"))


@pytest.mark.parametrize(("values", "lower"), [((0, 100, 200, 300, 350, 400, 420), 420), ((0, 30, 100, 300, 1000), 30)])
def test_a_number_that_would_run_into_another_on_an_axis_stands_below_it(project: Path, values: tuple[int, ...], lower: int) -> None:
    write_sweep(*(row({"step": value}, 0, 50, 45, 55) for value in values))
    plot = section(render(gather(PARAMS)), "sweeps").split("axis_1")[1].split("axis_2")[0]
    height = {int(text): float(y) for y, text in re.findall(r'transform="(?:rotate\(-?0|translate\()[ \d.]* ([\d.]+)\)">(\d+)<', plot)}
    assert height.keys() == set(values)
    (usual,) = {height[value] for value in values if value != lower}
    assert height[lower] > usual + 9  # the size of the letters


def test_curves_show_the_tasks_other_metrics_below_the_primary_one(project: Path) -> None:
    runs = [row({"step": step}, seed, 50 + seed, 45, 55) for step in (0, 60) for seed in (0, 1)]
    runs = [replace(run, scores=run.scores | {score.metric: score for score in long("in-domain", 10, {"BLEU-4": 30.0 + run.seed})})
            for run in runs]
    write_sweep(*runs)
    (sweep,) = sweeps_of(project)
    ((_, curve),) = sweep.plots[0].columns
    assert [point.beside["BLEU-4"].seeds for _, point in curve] == [(30.0, 31.0)] * 2
    assert [point.beside["BLEU-4"].mean for _, point in curve] == [30.5] * 2
    html = section(render(gather(PARAMS)), "sweeps")
    assert html.count("<svg") == 1
    assert all(text in html for text in ("CIDEr × 100", "BLEU-4"))
    assert "RefCompare" not in html[html.index("<svg") : html.index("</svg")]


def test_numeric_variants_become_curves_and_others_a_table(project: Path) -> None:
    runs = [row({"train.k": k}, seed, 50 + k + seed, 45 + k, 55 + k) for k in (10, 2) for seed in (0, 2)]
    write_sweep(*runs, row({}, 0, 40, 35, 45, "decap"), row({}, 0, 50, 45, 55, "raw"), row({}, 1, 30, 25, 35, "decap", "cross"))
    (sweep,) = sweeps_of(project)
    ((_, curve),) = sweep.plots[0].columns
    assert [(value, point.mean, point.seeds) for value, point in curve] == [(2, 53.0, (52.0, 54.0)), (10, 61.0, (60.0, 62.0))]
    assert sweep.grid.settings == ("in-domain", "cross")
    html = section(render(gather(PARAMS)), "sweeps")
    assert html.count("<svg") == 1
    assert "52.0 to 54.0" in html
    assert "1.250" in html
    assert "as in params.yaml" in html


def test_switched_variants_become_a_table_with_a_row_each_and_check_marks(project: Path) -> None:
    runs = []
    for seed in (0, 1, 2):
        for number in range(8):
            values = {f"train.{part}": bool(number >> bit & 1) for bit, part in enumerate(("optimize", "project", "objects"))}
            runs += [row(values, seed, 50 + 2 * number + seed, 45, 55, "syntic"),
                     row(values, seed, 30 - 2 * number + seed, 25, 35, "syntic", "cross-domain")]
    write_sweep(*runs[:-1], row({"train.optimize": True, "train.k": 3}, 0, 1, 0, 2, "syntic", shuffled=0))
    (sweep,) = sweeps_of(project)
    (table,) = sweep.switches
    assert ["".join("-x"[flag] for flag in flags) for flags, _ in table.rows][:5] == ["---", "x--", "-x-", "--x", "xx-"]
    assert (table.settings, table.seeds) == (("in-domain", "cross-domain"), ["0", "1", "2"])
    assert table.tops == [65.0, 31.0]
    assert [variant for (_, variant), _ in sweep.grid.rows] == ["train.optimize=True, train.k=3"]
    html = section(render(gather(PARAMS)), "sweeps")
    body = html.split('<table class="switches">')[1].split("</table>")[0]
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in body.split("<tbody>")[1].split("<tr>")[1:]]
    # the intervals are over seeds: no image differs from another here
    assert all(49.5 <= float(end.strip("[,]")) <= 52.5 for end in rows[0][7:9])
    assert rows[0][:7] + rows[0][9:14] == ["·", "·", "·", "50.0", "51.0", "52.0", "51.0", "8.0", "30.0", "31.0", "32.0", "31.0"]
    assert rows[-1][:7] + rows[-1][9:14] == ["✓", "✓", "✓", "64.0", "65.0", "66.0", "65.0", "8.0", "16.0", "17.0", "—", "16.5"]
    assert body.count('class="n top"') == 2


def test_a_sweep_with_a_wrong_column_or_an_edited_number_is_named(project: Path) -> None:
    file = paths.SWEEPS / "k.csv"
    write_sweep(row({"train.k": 1}, 0, 50, 45, 55))
    whole = file.read_text()
    file.write_text(whole.replace("50.0000", "90.0000"))
    with pytest.raises(UserError, match=r"k\.csv, line 2: the row is not as it was made: run its sweep again"):
        gather(PARAMS)
    file.write_text("system,variant\n")
    with pytest.raises(UserError, match=r"k\.csv has no column 'seed'"):
        gather(PARAMS)
