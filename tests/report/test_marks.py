"""The report marks which words of a caption are right, as CHAIR counts them."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core import paths
from pipeline.core.artefacts import seal
from pipeline.core.files import write_json
from pipeline.metrics.captions import tokenize
from pipeline.metrics.chair import Shown, Vocabulary, chair
from pipeline.report.data import gather
from pipeline.report.marks import mark
from pipeline.report.page import render
from tests.artefacts import seal_again
from tests.report.test_report import CIDER, IMAGES, MALICE, PARAMS, project, section

__all__ = ["project"]  # the fixture
VOCABULARY = {"objects": {"ball": ["ball"], "boat": ["boat", "sailing boat"], "dog": ["dog"], "cat": ["cat"]},
              "colours": {"red": ["red", "crimson"], "blue": ["blue"]}, "nothing": ["hot dog"]}


def write_record(dataset: str = "scenes") -> None:
    """Every image shows a red ball, and a boat, which only its references name."""
    ids = [f"{dataset}-{i:02d}" for i in range(IMAGES)]
    pq.write_table(pa.table({"image_id": ids, "object": ["ball"] * IMAGES, "colour": ["red"] * IMAGES, "crowd": [False] * IMAGES}),
                   paths.objects_table(dataset))
    write_json(paths.vocabulary(dataset), VOCABULARY)
    seal(paths.corpus(dataset))


def marked(*captions: str) -> list[list[tuple[str, str]]]:
    """Captions of one picture, in pieces."""
    found = mark("scenes", {"scenes-00": ["a boat at sea"]}, {"scenes-00": captions})["scenes-00"]
    return [[(piece.text, piece.kind) for piece in pieces] for pieces in found]


def test_things_and_colours_are_marked_where_they_stand_in_the_sentence_as_written(project: Path) -> None:
    write_record()
    assert marked("A Crimson BALL, a sailing boat.", "a blue ball near a dog", "a ball in blue", "a hot dog", "", "ball ball") == [
        [("A ", ""), ("Crimson BALL", "right"), (", a ", ""), ("sailing boat", "right"), (".", "")],
        [("a ", ""), ("blue", "colour"), (" ", ""), ("ball", "right"), (" near a ", ""), ("dog", "wrong")],
        [("a ", ""), ("ball", "right"), (" in ", ""), ("blue", "colour")],
        [("a hot dog", "")],
        [],
        [("ball", "right"), (" ", ""), ("ball", "right")],
    ]


def test_marks_are_what_chair_counts_and_put_together_are_the_caption(project: Path) -> None:
    write_record()
    captions = ["a red ball and a dog", "(a cat's) blue ball -- a dog", "the dog, the cat and a boat in red", "İ a “ball” in crimson",
                "5 boats"]
    found = mark("scenes", {"scenes-00": ["a boat at sea"]}, {"scenes-00": captions})["scenes-00"]
    assert ["".join(piece.text for piece in pieces) for pieces in found] == captions
    shown = Shown((("ball", "red"),), frozenset({"boat"}))
    counts = chair(tokenize({"": captions})[""], [shown] * len(captions), Vocabulary.of(VOCABULARY)).per_image
    kinds = [[piece.kind for piece in pieces] for pieces in found]
    assert [its.count("wrong") for its in kinds] == counts["hallucinated"].tolist() == [1, 2, 2, 0, 0]
    assert [its.count("colour") for its in kinds] == (counts["coloured"] - counts["coloured_right"]).tolist() == [0, 1, 0, 0, 0]


def test_without_a_record_nothing_is_marked_and_no_legend_stands_there(project: Path) -> None:
    assert marked("a dog", "") == [[("a dog", "")], []]
    html = section(render(gather(PARAMS)), "pictures")
    assert "said" not in html
    write_record()
    assert 'class="said wrong">is not there' in section(render(gather(PARAMS)), "pictures")


def test_marks_are_told_apart_without_colour_and_read_to_who_sees_none(project: Path) -> None:
    """Captions say "a red ball left of a boat"; one system's are hostile."""
    write_record()
    ids = [f"scenes-{i:02d}" for i in range(IMAGES)]
    write_json(paths.captions("knight") / "in-domain.json", [{"image_id": i, "caption": f"a cat, a blue ball {MALICE}"} for i in ids])
    seal_again(paths.captions("knight"))
    html = render(gather(PARAMS))
    strip = section(html, "pictures").split("</table>")[0]
    row = strip.split('<th scope="row">knight</th>')[1].split("</tr>")[0]
    assert '<span class="said wrong">cat<span class="hidden"> (not there)</span></span>' in row
    assert '<span class="said colour">blue<span class="hidden"> (another colour)</span></span>' in row
    assert "<script" not in html
    assert strip.count('<span class="said right">red ball<span class="hidden"> (there)</span></span>') == 6 * (len(CIDER) - 1)
    rules = dict(re.findall(r"^\.(said|right|wrong|colour) \{(.*)\}", html, re.M))
    assert "underline" in rules["said"]
    assert "line-through" in rules["wrong"]
    assert "wavy" in rules["colour"]
