"""The report on videos: strips of key frames, and columns of motions only where a system has them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.core import paths
from pipeline.report.data import gather
from pipeline.report.page import render
from pipeline.report.pictures import chosen
from pipeline.tasks.base import Score
from tests.artefacts import edit_table, seal_again
from tests.films import film
from tests.report.test_report import CIDER, IMAGES, PARAMS, project, section, write_scores

__all__ = ["project"]  # the fixture
VIDEOS = {**PARAMS, "frames": {"count": 3}}


def film_album() -> None:
    """The pictures of one data set become videos."""
    table = paths.image_table("album")
    names = [f"album-{number:02d}.mp4" for number in range(IMAGES)]
    for number, name in enumerate(names):
        film(paths.raw("album") / name, 4, seed=number)
    found = pq.read_table(table)
    edit_table(table, found.set_column(found.schema.get_field_index("path"), "path", [names]))


def test_a_setting_on_videos_shows_strips_and_one_on_pictures_none(project: Path) -> None:
    before = render(gather(VIDEOS))
    assert 'class="picture film"' not in before
    film_album()
    settings = gather(VIDEOS).settings
    for setting, strip in zip(settings, (False, True, True), strict=True):
        assert {picture.strip for picture in chosen(setting, 0)} == {strip}
    shown, = {(picture.width, picture.height) for picture in chosen(settings[1], 0)}
    # three frames of 64 x 64 beside each other
    assert 3 * 64 <= shown[0] <= 3 * 64 + 16
    assert shown[1] == 64
    html = render(gather(VIDEOS))
    assert html.count('class="picture film"') > 0
    assert (before.count('class="strip films"'), html.count('class="strip films"')) == (0, 2)
    assert html.count('class="picture"') + html.count('class="picture film"') == before.count('class="picture"')


def test_motions_have_columns_only_where_a_system_has_them(project: Path) -> None:
    for name in CIDER:
        kept = [Score(**row) for row in pq.read_table(paths.scores_table(name)).to_pylist()]
        kept = [score for score in kept if not score.metric.startswith("Motion") or (score.setting, name) == ("cross-domain", "knight")]
        kept = [replace(score, value=0.25) if score.metric == "MotionAccuracy" else score for score in kept]
        write_scores(name, kept)
        seal_again(paths.scores(name))
    results = section(render(gather(PARAMS)), "results")
    first, second, third = re.split(r'id="setting-\d"', results)[1:]
    for part, there in ((first, False), (second, True), (third, False)):
        assert ("MotionAccuracy</abbr>" in part, "MotionCorrect</abbr>" in part) == (there, there)
        table = part[part.index("<table>") : part.index("</table>")]
        columns = len(re.findall("<th[ >]", table[: table.index("</thead>")]))
        rows = table[table.index("<tbody>") :].split("<tr>")[1:]
        assert len(rows) >= 2
        assert {len(re.findall("<t[hd][ >]", row)) for row in rows} == {columns}
        assert "Correct</abbr>" in part
    assert "0.250" in second
