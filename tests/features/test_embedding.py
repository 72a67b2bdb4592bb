"""References as the judge reads them: behind the prompt, rounded as captions are, tied to their table and prompt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core import paths
from pipeline.core.tables import reference_source
from pipeline.features.embedding import embed_references
from pipeline.features.encoders import Clip
from pipeline.features.stores import half, read

TEXTS = ["a red dog", "two cats on a mat", "a boat", "a red dog", "three small birds in a green tree"]
PROMPT = "a picture of "


@pytest.fixture
def references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths.corpus("scenes").mkdir(parents=True)
    pq.write_table(pa.table({"text": TEXTS}), paths.references_table("scenes"))


def test_a_caption_that_is_a_reference_word_for_word_has_its_very_feature(references, tiny_clip: Clip) -> None:
    embed_references("tiny", tiny_clip, "scenes", PROMPT)
    features = read(paths.reference_features("tiny", "scenes")).features
    for row, text in enumerate(TEXTS):
        assert np.array_equal(features[row], half(tiny_clip.encode_texts([PROMPT + text]))[0])
    assert not np.array_equal(features[0], half(tiny_clip.encode_texts([TEXTS[0]]))[0])


def test_another_prompt_or_another_table_is_another_source(references) -> None:
    before = reference_source("scenes", PROMPT)
    assert reference_source("scenes", "") != before
    pq.write_table(pa.table({"text": TEXTS[:-1]}), paths.references_table("scenes"))
    assert reference_source("scenes", PROMPT) != before
