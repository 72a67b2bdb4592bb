"""Pictures as a CLIP sees them, real or drawn, and references as the judge reads them: behind the prompt, tied to table and prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.core import paths
from pipeline.core.artefacts import seal
from pipeline.core.files import digest_file
from pipeline.features import stores
from pipeline.features.embedding import embed_images, embed_references, reference_source
from pipeline.features.encoders import Clip
from pipeline.features.stores import Origin, half, read
from pipeline.images import Source, write_pictures
from tests.artefacts import edit_table, seal_again

TEXTS = ["a red dog", "two cats on a mat", "a boat", "a red dog", "three small birds in a green tree"]
PROMPT = "a picture of "
DATASETS = ("scenes", "scenes-drawn")  # pictures as files, and in a tar file


@pytest.fixture
def references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths.corpus("scenes").mkdir(parents=True)
    pq.write_table(pa.table({"text": TEXTS}), paths.references_table("scenes"))
    seal(paths.corpus("scenes"))


def test_a_caption_that_is_a_reference_word_for_word_has_its_very_feature(references, tiny_clip: Clip) -> None:
    embed_references("tiny", tiny_clip, "scenes", PROMPT)
    features = read(paths.reference_features("tiny", "scenes")).features
    for row, text in enumerate(TEXTS):
        assert np.array_equal(features[row], half(tiny_clip.encode_texts([PROMPT + text]))[0])
    assert not np.array_equal(features[0], half(tiny_clip.encode_texts([TEXTS[0]]))[0])


def test_another_prompt_or_another_table_is_another_source(references) -> None:
    before = reference_source("scenes", PROMPT)
    assert reference_source("scenes", "") != before
    edit_table(paths.references_table("scenes"), pa.table({"text": TEXTS[:-1]}))
    assert reference_source("scenes", PROMPT) != before


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Image.Image]:
    """Five pictures, as files of a data set and in a tar file as drawn ones are."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    found = {str(i): Image.fromarray(rng.integers(0, 255, (40 + 9 * i, 64, 3), dtype=np.uint8)) for i in range(5)}
    for dataset, path in zip(DATASETS, ("{}.png", "a.tar!{}.png"), strict=True):
        paths.raw(dataset).mkdir(parents=True)
        paths.corpus(dataset).mkdir(parents=True)
        pq.write_table(pa.table({"image_id": list(found), "path": [path.format(key) for key in found]}), paths.image_table(dataset))
        seal(paths.corpus(dataset))
    for key, picture in found.items():
        picture.save(paths.raw("scenes") / f"{key}.png")
    write_pictures(paths.raw("scenes-drawn") / "a.tar", found, dict.fromkeys(found, "a text"))
    return found


@pytest.mark.parametrize("dataset", DATASETS)
def test_features_of_pictures_are_in_their_tables_order_and_say_whose_they_are(pictures, tiny_clip: Clip, dataset: str) -> None:
    embed_images("tiny", tiny_clip, dataset)
    store = read(paths.image_features("tiny", dataset))
    assert np.array_equal(store.features, half(tiny_clip.encode_images(list(pictures.values()))))
    assert store.origin == Origin("tiny", tiny_clip.digest, 8, tiny_clip.preprocessing, digest_file(paths.image_table(dataset)), "float32")


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_picture_exchanged_after_a_kill_is_embedded_again(pictures, tiny_clip: Clip, monkeypatch, dataset: str) -> None:
    monkeypatch.setattr(stores, "SHARD_ROWS", 2)
    with monkeypatch.context() as patch:
        patch.setattr(tiny_clip, "encode_files", dying_at(2, tiny_clip))
        with pytest.raises(KeyboardInterrupt):
            embed_images("tiny", tiny_clip, dataset)
    changed = {**pictures, "0": Image.new("RGB", (640, 640), "red")}
    if dataset == "scenes-drawn":
        write_pictures(paths.raw(dataset) / "a.tar", changed, dict.fromkeys(changed, "a text"))
        seal_again(paths.raw(dataset))
    else:
        changed["0"].save(paths.raw(dataset) / "0.png")
    embed_images("tiny", tiny_clip, dataset)
    assert np.array_equal(read(paths.image_features("tiny", dataset)).features, half(tiny_clip.encode_images(list(changed.values()))))


def dying_at(call: int, clip: Clip) -> Callable[[Sequence[Source]], np.ndarray]:
    calls: list[int] = []

    def encode(files: Sequence[Source]) -> np.ndarray:
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return Clip.encode_files(clip, files)

    return encode


@pytest.mark.parametrize("dataset", DATASETS)
def test_pictures_without_their_table_say_what_to_run(pictures, tiny_clip: Clip, user_error, dataset: str) -> None:
    table = paths.image_table(dataset)
    table.unlink()
    seal_again(table)
    assert user_error(embed_images, "tiny", tiny_clip, dataset) == f"{table} is missing: run `dvc repro`"
