"""Decoders that write one sentence: what they learn ends with a full stop, and what they write ends before it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from pipeline.core.files import read_json
from pipeline.language.decoding import Decoding
from pipeline.training import encode_captions
from tests.language.tiny import build, condition, load, small


@pytest.mark.parametrize(("caption", "learnt"), [
    ("a red car", "a red car."), ("a red car.", "a red car."), ("a red car . two dogs run.", "a red car."),
    ("a car... and so on", "a car."), ("a dog!", "a dog!."),
])
def test_a_caption_is_learnt_up_to_its_first_full_stop(tiny_clip_folder: Path, caption: str, learnt: str) -> None:
    decoder = build(small(full_stop=True, max_tokens=40), tiny_clip_folder)
    tokens = decoder.tokenizer
    rows, cut = encode_captions(decoder, [caption], 40)
    assert rows == [[tokens.start, *tokens.encode(learnt), tokens.end]]
    assert tokens.decode(rows[0][1:-1]).endswith(".")
    assert not cut


def test_other_decoders_learn_the_caption_as_it_is(tiny_clip_folder: Path) -> None:
    decoder = build(small(), tiny_clip_folder)
    for caption in ("a red car", "a red car. two dogs"):
        assert decoder.encode(caption) == decoder.tokenizer.encode(caption)


class Sentences:
    """The words of a decoder's tokens, one of which ends a sentence."""

    start, end, size = 0, 1, 12

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join("Stop ." if i in (2, 3, 4) else f"W{i}" for i in ids)

    def save(self, folder: Path) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_are_cut_before_the_full_stop_and_in_lower_case(make_decoder, beams: int) -> None:
    decoder = make_decoder()
    decoder.tokenizer = Sentences()
    given, decoding = condition(12, 2), Decoding(beams=beams, max_new_tokens=8)
    plain, several = decoder.generate(given, decoding), decoder.candidates(given, Decoding(beams=3, max_new_tokens=8), 3)
    assert sum("Stop . W" in caption for caption in plain) > 1
    decoder.full_stop = True
    assert decoder.generate(given, decoding) == [caption.split(".")[0].strip().lower() for caption in plain]
    assert decoder.candidates(given, Decoding(beams=3, max_new_tokens=8), 3) == [
        [caption.split(".")[0].strip().lower() for caption in row] for row in several]


def test_a_saved_decoder_still_knows_and_the_files_of_others_are_as_they_were(tiny_clip_folder: Path, tmp_path: Path) -> None:
    about = {}
    for full_stop in (False, True):
        torch.manual_seed(0)
        folder = tmp_path / str(full_stop)
        folder.mkdir()
        decoder = build(small(full_stop=full_stop), tiny_clip_folder).eval()
        decoder.save(folder, 8, "mlp")
        again, decoding = load(folder), Decoding(beams=2, max_new_tokens=6)
        assert again.full_stop is full_stop
        assert again.encode("a car. a dog") == decoder.encode("a car. a dog")
        assert again.generate(condition(4), decoding) == decoder.generate(condition(4), decoding)
        about[full_stop] = read_json(folder / "decoder.json")
    assert about[False] == {"mapper": "mlp", "clip_width": 8, "tokens": "clip"}
    assert about[True] == {**about[False], "full_stop": True}
