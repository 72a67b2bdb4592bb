"""Pickled sentences are read as data; nothing that a pickle names is ever run."""

from __future__ import annotations

import collections
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.pickles import load_data
from pipeline.corpus.readers import read_records

DATA: list[Any] = [
    ["a cat", "a dog"], [["a", "cat"], ["a", "dog"]], [("dog", "a dog runs"), ("cat", "a cat sits")], [[["dog", "man"], "a dog and a man"]],
    {"a": [1, -5, 2**40, 2**2000, 1.5, True, False, None], "b": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {}, [])},
    ["é \u2028 一", "x" * 300], list(range(3000)),
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", DATA, ids=[str(i) for i in range(len(DATA))])
def test_data_of_every_protocol_come_out_as_python_reads_them(value: Any, protocol: int) -> None:
    shared = [value, value]
    assert load_data(pickle.dumps(value, protocol), "a.pkl") == value
    assert load_data(pickle.dumps(shared, protocol), "a.pkl") == shared


def test_texts_that_python_2_pickled_are_read_as_utf_8() -> None:
    assert load_data(b"]q\x00(U\x05v\xc3\xa9loq\x01U\x05a cate.", "a.pkl") == ["vélo", "a cat"]


class _Mischief:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_code_is_refused_by_the_name_of_its_instruction(tmp_path: Path, user_error, protocol: int) -> None:
    for value in ([_Mischief(tmp_path / "pwned")], [collections.OrderedDict()], [{"a cat"}], [Path("a")]):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(value, protocol))
        message = user_error(read_records, tmp_path, "a.pkl", "pickle", "train")
        assert message.startswith("a.pkl holds the pickle instruction ")
        assert "which may run code" in message
    assert not (tmp_path / "pwned").exists()


def test_sentences_words_and_pairs_are_captions(tmp_path: Path, user_error) -> None:
    for value, expected in (
        (DATA[0], ["a cat", "a dog"]), (DATA[1], ["a cat", "a dog"]), (DATA[2], ["a dog runs", "a cat sits"]),
        (DATA[3], ["a dog and a man"]), ([["two", "dogs"], None], ["two dogs", None]),
    ):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
        records = read_records(tmp_path, "a.pkl", "pickle", "train")
        assert [caption.text for caption in records.captions] == expected
        assert [caption.caption_id for caption in records.captions] == [str(i) for i in range(len(expected))]
    for value, found in (({"a": 1}, "expected a list of sentences"), ([["a", 1]], "list[0] is ['a', 1], expected a sentence")):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
        assert found in user_error(read_records, tmp_path, "a.pkl", "pickle", "train")


BROKEN = [b"", b".", b"]", b"N", b"NN.", b"e.", b"a.", b"Na.", b"(]e.", b"h\x00.", b"\x85.", b"\x87.", b"((t.", b"I1e99\n.", b"]a."]


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_pickle_is_one_line(user_error, content: bytes) -> None:
    assert "a.pkl cannot be read as a pickle" in user_error(load_data, content, "a.pkl")
