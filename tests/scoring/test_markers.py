"""Markers of models: all that are found are counted and taken out, and no word is."""

from __future__ import annotations

import pytest

from pipeline.metrics import captions
from pipeline.scoring.markers import count_markers, without_markers

MARKERS = ["<s>", "</s>", "<pad>", "<bos>", "<eos>", "<start_of_text>", "<end_of_text>", "<|endoftext|>",
           "<|startoftext|>", "<|im_end|>",
           "[CLS]", "[SEP]", "[PAD]", "<end>", "<start>", "<-pad->", "<-start_of_text->", "<EOS>"]


@pytest.mark.parametrize("marker", MARKERS)
def test_a_marker_is_counted_and_taken_out(marker: str) -> None:
    text = f"{marker}a cat{marker} sits {marker}"
    assert count_markers([text, "a dog"]) == {marker: 3}
    assert without_markers(text).split() == ["a", "cat", "sits"]


@pytest.mark.parametrize("marker", [marker for marker in MARKERS if captions.clean(f"a {marker} cat") == "a cat"])
def test_what_the_pipeline_takes_out_is_found(marker: str) -> None:
    assert count_markers([marker]) == {marker: 1}
    assert captions.clean(f"a {marker} cat", markers=True) == f"a {marker} cat"


@pytest.mark.parametrize("text", ["a <unk> sits", "3 < 4 > 2", "a [red] cat", "<person> rides", "a|b", "s > pad", ""])
def test_words_are_no_markers(text: str) -> None:
    assert count_markers([text]) == {}
    assert without_markers(text) == text


def test_the_commonest_marker_is_named_first() -> None:
    assert list(count_markers(["<s> a </s>", "b </s>"])) == ["</s>", "<s>"]
