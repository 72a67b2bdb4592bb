"""The report shows what was drawn, what the generator can do, and what refinement changes; without synthesis it shows none of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.core import paths
from pipeline.core.artefacts import seal
from pipeline.core.errors import UserError
from pipeline.core.files import digest_file, write_json
from pipeline.features.retrieval import project
from pipeline.features.stores import Origin, read, unit, write_store
from pipeline.features.tagging import SCHEMA
from pipeline.images import write_pictures
from pipeline.report.data import gather
from pipeline.report.page import render
from pipeline.report.synthetic import gather_synthetic, own_ranks, refinement_figures
from tests.artefacts import edit_table, seal_again

CAPTIONS, PAIRS, IMAGES, WIDTH = 40, 30, 24, 8
TEMPERATURE = 0.1
MALICE = '"><script>alert("a & b")</script>'
TAG = {"detectors": ["detr"], "datasets": ["scenes-drawn"], "clips": ["micro"], "prompt": "a {}"}
PARAMS: dict[str, Any] = {
    "systems": {}, "settings": {}, "evaluation": {"judge": "judge"}, "projection": {"temperature": {"scenes": TEMPERATURE}},
    "synthesis": {"corpora": ["scenes"], "clips": ["micro"], "generator": "diffusion"},
    "tag": TAG,
    "frames": {"count": 5},
}
DRAWN = paths.drawn("scenes")
SHARD = paths.raw(DRAWN) / "pictures-000000.tar"
REFINED, PROJECTED = paths.refined("micro", DRAWN), paths.projections("micro", DRAWN)
STORES = {"as drawn": paths.image_features("micro", DRAWN), "optimised": REFINED / "features", "projected": PROJECTED / "drawn",
          "optimised and projected": PROJECTED / "refined"}


def store(path: Path, rows: NDArray[np.floating[Any]], table: Path, clip_digest: str = "c" * 64) -> NDArray[np.float32]:
    """Write a store and give back the unit rows that it holds."""
    write_store(path, rows.astype(np.float32), Origin("micro", clip_digest, WIDTH, "pixels", digest_file(table), "float32"))
    seal(path.parent if path.parent in (REFINED, PROJECTED) else path)
    return unit(read(path).features)


def blocks(size: int, seed: int) -> Image.Image:
    colours = np.random.default_rng(seed).integers(60, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((size, size), Image.Resampling.NEAREST)


def write_tags(rows: list[tuple[str, str, float]], detector: str = "detr") -> None:
    columns = {"id": [row[0] for row in rows], "label": [row[1] for row in rows], "score": [row[2] for row in rows],
               "box": [[0.0, 0.0, 0.5, 0.5]] * len(rows)}
    paths.tags(detector, DRAWN).mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=SCHEMA), paths.tags(detector, DRAWN) / "tags.parquet")
    write_json(paths.tags(detector, DRAWN) / "tags.json",
               {"images": PAIRS, "without_object": PAIRS - len({row[0] for row in rows}), "objects": len(rows), "threshold": 0.4})
    seal(paths.tags(detector, DRAWN))


def write_synthetic(texts: list[str]) -> dict[str, NDArray[np.float32]]:
    """A corpus with thirty drawn captions, refined and projected by hand; its unit rows by name, and what they were made from."""
    rng, rows, ids = np.random.default_rng(0), np.arange(5, 5 + PAIRS), [f"s{i}" for i in range(CAPTIONS)]
    paths.raw(DRAWN).mkdir(parents=True, exist_ok=True)
    paths.corpus(DRAWN).mkdir(parents=True, exist_ok=True)
    paths.corpus("scenes").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"caption_id": ids, "text": texts, "split": ["train"] * CAPTIONS}), paths.corpus_table("scenes"))
    pq.write_table(pa.table({"image_id": [f"i{i}" for i in range(IMAGES)], "split": ["unlabelled"] * (IMAGES - 4) + ["test"] * 4}),
                   paths.image_table("scenes"))
    write_json(paths.corpus("scenes") / "report.json", {})
    seal(paths.corpus("scenes"))
    keys = {f"{row:09d}": texts[row] for row in rows}
    write_pictures(SHARD, {key: blocks(64, seed) for seed, key in enumerate(keys)}, keys)
    pq.write_table(pa.table({"image_id": [ids[row] for row in rows], "path": [f"{SHARD.name}!{key}.png" for key in keys],
                             "split": ["train"] * PAIRS, "text": list(keys.values()), "attempts": [1] * PAIRS}), paths.image_table(DRAWN))
    pq.write_table(pa.table({"caption_id": ids, "image_id": [key if row in rows else None for row, key in enumerate(ids)], "text": texts,
                             "split": ["train"] * CAPTIONS}), paths.corpus_table(DRAWN))
    write_json(paths.corpus(DRAWN) / "report.json", {
        "asked": 33, "drawn": PAIRS, "drawn_again": 4, "blanked_for_good": ["s1", "s2", "s3"], "captions_in_corpus": CAPTIONS,
        "corpus_digest": digest_file(paths.corpus_table("scenes"))})
    seal(paths.raw(DRAWN))
    seal(paths.corpus(DRAWN))
    write_tags([("s5", "dog", 0.75), ("s5", "boat", 0.5), ("s5", "dog", 0.875), ("s6", "kite", 0.625)])
    made = {"texts": store(paths.text_features("micro", "scenes"), rng.normal(size=(CAPTIONS, WIDTH)), paths.corpus_table("scenes"))}
    made["real"] = store(paths.image_features("micro", "scenes"), rng.normal(size=(IMAGES, WIDTH)) + 0.5, paths.image_table("scenes"))
    made["captions"] = made["texts"][rows]
    for (kind, path), noise in zip(STORES.items(), (1.0, 0.1, 0.5, 0.2), strict=True):
        made[kind] = store(path, made["captions"] + noise * rng.normal(size=(PAIRS, WIDTH)), paths.image_table(DRAWN))
    write_json(REFINED / "curve.json", [
        {"step": step, "loss": 3 / step, "caption_similarity": 1 - 0.5 / step, "similarity_to_start": 1 - step / 4000}
        for step in (200, 400, 600)])
    seal(REFINED)
    return made


@pytest.fixture
def synthetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, NDArray[np.float32]]:
    """The artefacts of `write_synthetic`, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    return write_synthetic([f"a dog left of {i} boats" for i in range(CAPTIONS)])


def write_generator(recall: float = 0.75) -> Path:
    folder = paths.foundation("diffusion")
    entries = []
    for number in range(2):
        files = {kind: f"pictures/{kind}-{number}.png" for kind in ("real", "rebuilt", "generated")}
        for seed, file in enumerate(files.values()):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            blocks(64, 100 + 10 * number + seed).save(folder / file)
        entries.append({"caption": f"two kites & {number} cows", **files})
    write_json(folder / "pictures.json", entries)
    share = [0.5, 0.45, 0.55]
    write_json(folder / "provenance.json", {"figures": {
        "guidance": 4.0, "validation_recall": {"4.0": 0.7}, "scenes": {"recall": [0.75, 0.7, 0.8], "control": share, "real": share},
        "album": {"recall": [recall, recall - 0.05, recall + 0.05], "control": share, "rebuilt": share, "real": share}}})
    return folder


def section(html: str) -> str:
    return html[html.index('<section id="synthetic">') :].split("</section>")[0]


def naive_frechet(a: NDArray[Any], b: NDArray[Any]) -> float:
    """tr((S_a S_b)^(1/2)) as the sum of roots of the eigenvalues of S_a S_b."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    roots = np.sqrt(np.clip(np.linalg.eigvals(cov_a @ cov_b).real, 0, None))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * roots.sum())


@pytest.mark.parametrize("params", [{}, {"synthesis": None}, {"synthesis": {"corpora": []}}], ids=["absent", "empty", "no corpora"])
def test_without_synthesis_nothing_of_it_is_read_or_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: dict[str, Any]) -> None:
    monkeypatch.chdir(tmp_path)
    html = render(gather({"systems": {}, "settings": {}, "evaluation": {"judge": "judge"}, "frames": {}, **params}))
    assert "#synthetic" not in html
    assert "Synthetic pairs" not in html


def test_the_sheet_shows_pictures_with_captions_tags_and_cosines(synthetic: dict[str, NDArray[np.float32]]) -> None:
    gathered = gather_synthetic(PARAMS)
    assert gathered is not None
    first, second, *_, last = gathered.corpora[0].pictures
    assert len(gathered.corpora[0].pictures) == 24
    assert (first.caption, first.file.name, last.caption_id) == ("a dog left of 5 boats", "000000005.png", "s28")
    assert first.tags == (("dog", 0.875), ("boat", 0.5))
    assert second.cosines == (("micro", pytest.approx(float(synthetic["as drawn"][1] @ synthetic["captions"][1]), abs=1e-6)),)
    html = section(render(gather(PARAMS)))
    assert html.count("<article>") == html.count('class="tiny"') == 24
    assert "dog <span>0.88</span>" in html
    assert html.count("no tags") == 22
    assert "33 of the corpus’s 40 captions were asked for and 30 drawn" in html
    assert re.search(r"4 took more than one attempt, 3 were blanked for good\.\s+The detector detr found 4 objects \(threshold 0\.4\) "
                     r"and none in 28 of 30 pictures", html)


def test_the_same_artefacts_give_the_same_bytes(synthetic: dict[str, NDArray[np.float32]]) -> None:
    write_generator()
    html = render(gather(PARAMS))
    assert html == render(gather(PARAMS))
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert '<a href="#synthetic">Synthetic pairs</a>' in html
    assert "http" not in html


def test_html_in_captions_tags_and_names_is_shown_as_text(synthetic: dict[str, NDArray[np.float32]]) -> None:
    write_synthetic([MALICE] * CAPTIONS)
    write_tags([("s5", MALICE, 0.5)])
    folder = write_generator()
    entries = json.loads((folder / "pictures.json").read_text())
    write_json(folder / "pictures.json", [{**entry, "caption": MALICE} for entry in entries])
    provenance = json.loads((folder / "provenance.json").read_text())
    write_json(folder / "provenance.json", {"figures": {MALICE: provenance["figures"]["scenes"]}})
    html = render(gather(PARAMS))
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(") >= 24 * 2 + 2 + 1 + 1


def test_pictures_without_any_tag_and_a_synthesis_without_detectors_are_shown_as_such(synthetic: dict[str, NDArray[np.float32]]) -> None:
    write_tags([])
    html = section(render(gather(PARAMS)))
    assert "found 0 objects" in html
    assert html.count("no tags") == 24
    html = section(render(gather({**PARAMS, "tag": {**TAG, "detectors": []}})))
    assert "The detector" not in html.split("Real, rebuilt")[0]
    assert html.count("<article>") == 24


def test_every_detector_is_counted_and_the_first_ones_tags_are_shown(synthetic: dict[str, NDArray[np.float32]]) -> None:
    write_tags([("s5", "yacht", 0.5)], "other")
    html = section(render(gather({**PARAMS, "tag": {**TAG, "detectors": ["detr", "other"]}})))
    assert "The detector detr found 4 objects" in html
    assert "The detector other found 1 objects (threshold 0.4) and none in 29 of 30 pictures" in html
    assert "dog <span>" in html
    assert "yacht" not in html


def test_a_generator_without_pictures_or_figures_has_no_part_of_its_own(synthetic: dict[str, NDArray[np.float32]]) -> None:
    assert "Real, rebuilt, generated" not in render(gather(PARAMS))
    folder = write_generator()
    (folder / "pictures.json").unlink()
    html = section(render(gather(PARAMS)))
    assert "What the detector finds" in html
    assert 'class="triple"' not in html
    write_json(folder / "provenance.json", {"command": "a model from elsewhere"})
    assert "Real, rebuilt, generated" not in render(gather(PARAMS))


def test_the_generators_pictures_stand_in_rows_and_a_weak_style_is_marked(synthetic: dict[str, NDArray[np.float32]]) -> None:
    write_generator(recall=0.49)
    html = section(render(gather(PARAMS)))
    assert html.count('class="triple"') == 2
    assert "two kites &amp; 1 cows" in html
    rows = {row.split("</th>")[0]: row.split("</tr>")[0] for row in html.split('<th scope="row">')[1:]}
    assert "weak generator" in rows["album"]
    assert "0.490<span class=\"ci\">[0.440, 0.540]</span>" in rows["album"]
    assert "weak generator" not in rows["scenes"]
    assert "—" in rows["scenes"]  # no figure of rebuilt scenes
    write_generator(recall=0.50)
    assert "weak generator" not in section(render(gather(PARAMS)))


def test_a_picture_outside_the_generators_folder_is_refused(synthetic: dict[str, NDArray[np.float32]]) -> None:
    folder = write_generator()
    entries = json.loads((folder / "pictures.json").read_text())
    write_json(folder / "pictures.json", [{**entries[0], "real": "../../secret.png"}])
    with pytest.raises(UserError, match="leaves its folder"):
        gather(PARAMS)
    write_json(folder / "pictures.json", [{**entries[0], "real": "gone.png"}])
    with pytest.raises(UserError, match=r"gone\.png is missing, though .*pictures\.json names it"):
        gather(PARAMS)


def test_figures_of_refinement_equal_the_plain_computation(synthetic: dict[str, NDArray[np.float32]]) -> None:
    figures = refinement_figures("micro", "scenes", TEMPERATURE)
    real = synthetic["real"][: IMAGES - 4]  # the unlabelled ones
    support = torch.from_numpy(read(paths.text_features("micro", "scenes")).features)
    projected = unit(project(torch.from_numpy(real), support, TEMPERATURE).numpy())
    assert [row["kind"] for row in figures] == ["as drawn", "optimised", "projected", "optimised and projected"]
    for row in figures:
        features, reference = synthetic[row["kind"]], projected if "projected" in row["kind"] else real
        similarity = features @ synthetic["captions"].T
        ranks = [1 + sum(value > similarity[i, i] for value in similarity[i]) for i in range(PAIRS)]
        assert (row["pairs"], row["measured"], row["real"]) == (PAIRS, PAIRS, IMAGES - 4)
        assert row["cosine"] == pytest.approx(np.diag(similarity).mean(), abs=1e-6)
        assert row["recall_at_1"] == pytest.approx(sum(rank == 1 for rank in ranks) / PAIRS)
        assert row["median_rank"] == np.median(ranks)
        # 1e-6: float32 rows
        assert row["centroid_distance"] == pytest.approx(np.sqrt(((features.mean(0) - reference.mean(0)) ** 2).sum()), abs=1e-6)
        assert row["frechet_distance"] == pytest.approx(naive_frechet(features, reference), abs=1e-6)
    assert figures[1]["cosine"] > figures[0]["cosine"]
    html = section(render(gather(PARAMS)))
    assert html.count("<svg") == 1
    assert f'optimised</th><td class="n">{figures[1]["cosine"]:.3f}' in html
    assert "After 600 steps" in html


def test_of_very_many_pairs_some_are_measured_against_all_captions(synthetic: dict[str, NDArray[np.float32]],
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.report.synthetic._MEASURED", 10)
    monkeypatch.setattr("pipeline.report.synthetic._BLOCK", 7)
    drawn = refinement_figures("micro", "scenes", TEMPERATURE)[0]
    similarity = synthetic["as drawn"] @ synthetic["captions"].T
    ranks = (similarity > np.diag(similarity)[:, None]).sum(1) + 1
    assert (drawn["pairs"], drawn["measured"], drawn["real"]) == (PAIRS, 10, 10)
    assert drawn["median_rank"] == np.median(ranks[[0, 3, 6, 9, 12, 16, 19, 22, 25, 29]])
    assert re.search(r"10 of 30 pairs, evenly spaced", section(render(gather(PARAMS))))


def test_equal_captions_share_the_best_rank() -> None:
    captions = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    assert own_ranks(captions[[0, 1, 0, 2]], captions, np.arange(4)).tolist() == [1, 1, 3, 2]


@pytest.mark.parametrize("how", ["no store", "no unlabelled images"])
def test_without_real_images_their_columns_hold_dashes(synthetic: dict[str, NDArray[np.float32]], how: str) -> None:
    path, table = paths.image_features("micro", "scenes"), paths.image_table("scenes")
    if how == "no store":
        path.rename(path.with_name("elsewhere"))
    else:
        edit_table(table, pa.table({"image_id": ["i0"], "split": ["test"]}))
        store(path, synthetic["real"][:1], table)
    assert {row["frechet_distance"] for row in refinement_figures("micro", "scenes", TEMPERATURE)} == {None}
    html = section(render(gather(PARAMS)))
    assert html.count('<td class="n">—</td>') == 8
    assert "too few unlabelled images" in html


def test_a_refinement_of_no_steps_has_no_curve(synthetic: dict[str, NDArray[np.float32]]) -> None:
    write_json(REFINED / "curve.json", [])
    seal(REFINED)
    html = section(render(gather(PARAMS)))
    assert "<svg" not in html
    assert "Optimisation took no step." in html


@pytest.mark.parametrize("missing", [
    paths.corpus(DRAWN) / "report.json", paths.corpus_table(DRAWN), paths.image_table(DRAWN), SHARD,
    paths.tags("detr", DRAWN) / "tags.parquet", paths.tags("detr", DRAWN) / "tags.json", *STORES.values(), REFINED / "curve.json",
    paths.text_features("micro", "scenes"),
], ids=str)
def test_a_missing_artefact_is_named(synthetic: dict[str, NDArray[np.float32]], missing: Path) -> None:
    missing.rename(missing.with_name("elsewhere"))
    seal_again(missing)
    with pytest.raises(UserError, match=rf"{re.escape(str(missing))} is missing: run .*dvc repro"):
        render(gather(PARAMS))


def test_pictures_of_another_corpus_or_clip_are_refused(synthetic: dict[str, NDArray[np.float32]]) -> None:
    store(STORES["optimised"], synthetic["optimised"], paths.image_table(DRAWN), clip_digest="d" * 64)
    with pytest.raises(UserError, match="was made with another CLIP"):
        gather(PARAMS)
    table = pq.read_table(paths.corpus_table("scenes")).to_pydict()
    edit_table(paths.corpus_table("scenes"), pa.table({**table, "text": table["text"][::-1]}))
    with pytest.raises(UserError, match=r"corpus\.parquet was made from another corpus"):
        gather(PARAMS)
    write_json(paths.corpus(DRAWN) / "report.json", {"asked": 1})
    seal(paths.corpus(DRAWN))
    with pytest.raises(UserError, match=r"report\.json has no 'drawn'"):
        gather(PARAMS)
