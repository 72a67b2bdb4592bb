"""Pickled sentences, read as data: nothing that the file names is imported or called.

Of the pickle machine's instructions those that build texts, numbers, lists, tuples and dictionaries are known here; a file with any
other one, such as those that call a function, is refused by the name of that instruction.
"""

from __future__ import annotations

import pickletools
import sys
from collections.abc import Callable
from typing import Any

from ..core.errors import UserError
from .records import Caption, Options, Records, shown
from .sources import Source

_MARK = object()
_BYTES = frozenset({"STRING", "BINSTRING", "SHORT_BINSTRING"})
_VALUES = frozenset(
    ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
     "BINUNICODE8")) | _BYTES
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict,
    "MARK": lambda: _MARK,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS, _GETS = frozenset({"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"}), frozenset({"GET", "BINGET", "LONG_BINGET"})
_KNOWN = _VALUES | _PUTS | _GETS | _CONSTANTS.keys() | _TUPLES.keys() | frozenset(
    ["APPEND", "APPENDS", "LIST", "TUPLE", "SETITEM", "SETITEMS", "DICT", "PROTO", "FRAME", "STOP"])


def read_pickle(source: Source, options: Options) -> Records:
    """A pickled list of sentences, as text-only captioning's code keeps SS1M and others; caption ids are positions from 0.

    A sentence is a text, a list of words, or the last part of a pair whose first part is an object or a list of them.
    """
    with source.opened() as stream:
        content = stream.read()
    sentences = load_data(content, source.name)
    if not isinstance(sentences, list | tuple):
        raise UserError(f"{source}: found {shown(sentences)}, expected a list of sentences: choose another format")
    captions = []
    for i, item in enumerate(sentences):
        captions.append(Caption(str(i), None, _sentence(item, f"{source}: list[{i}]"), options.split))
    return Records(captions, [], noun="item")


def _sentence(item: Any, where: str) -> str | None:
    if item is None or isinstance(item, str):
        return item
    if isinstance(item, list | tuple):
        if len(item) == 2 and isinstance(item[1], str) and (isinstance(item[0], list | tuple) or " " in item[1].strip()):
            return item[1]
        if all(isinstance(word, str) for word in item):
            return " ".join(item)
    raise UserError(f"{where} is {shown(item)}, expected a sentence, its words, or a pair of object and sentence: correct it, or choose "
                    "another format")


def load_data(content: bytes, name: str) -> Any:
    """What a pickle of data holds; `UserError`, with `name`, for one that is broken or holds anything else than data."""
    stack: list[Any] = []
    try:
        fetched = _checked(content, name)
        memo: dict[Any, Any] = {}  # of what is fetched again, which is little: a list of words puts each of them there
        puts = 0
        for instruction, argument, _ in pickletools.genops(content):
            if instruction.name in _PUTS:
                place = puts if argument is None else argument
                if place in fetched:
                    memo[place] = stack[-1]
                puts += 1
            elif instruction.name in _GETS:
                stack.append(memo[argument])
            else:
                _step(instruction.name, argument, stack)
        (value,) = stack
    except (ValueError, IndexError, KeyError, TypeError, EOFError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{name} cannot be read as a pickle ({reason}): restore the file, or choose another format") from None
    return value


def _checked(content: bytes, name: str) -> set[Any]:
    """The places that are fetched from; `UserError` for the first instruction that is not about data."""
    fetched = set()
    for instruction, argument, _ in pickletools.genops(content):
        if instruction.name not in _KNOWN:
            what = f" ({shown(argument)})" if argument is not None else ""
            raise UserError(f"{name} holds the pickle instruction {instruction.name}{what}, which may run code: only texts, numbers, "
                            "lists, tuples and dictionaries are read; save the sentences as JSON, or a line each")
        if instruction.name in _GETS:
            fetched.add(argument)
    return fetched


def _step(code: str, argument: Any, stack: list[Any]) -> None:
    """One instruction, as Python's `pickletools` describes it."""
    if code in _VALUES:
        # Python 2 left the bytes of its texts as they were, which are those of UTF-8.
        stack.append(sys.intern(argument.encode("latin-1").decode() if code in _BYTES else argument) if type(argument) is str else argument)
    elif code in _CONSTANTS:
        stack.append(_CONSTANTS[code]())
    elif code == "APPEND":
        value = stack.pop()
        _a(list, stack[-1]).append(value)
    elif code == "APPENDS":
        values = _to_mark(stack)
        _a(list, stack[-1]).extend(values)
    elif code == "LIST":
        stack.append(_to_mark(stack))
    elif code == "TUPLE":
        stack.append(tuple(_to_mark(stack)))
    elif count := _TUPLES.get(code):
        if len(stack) < count:
            raise ValueError("a tuple of what is not there")
        stack[-count:] = [tuple(stack[-count:])]
    elif code == "SETITEM":
        value, key = stack.pop(), stack.pop()
        _a(dict, stack[-1])[key] = value
    elif code in ("SETITEMS", "DICT"):
        values = _to_mark(stack)
        stack.extend([{}] if code == "DICT" else [])
        _a(dict, stack[-1]).update(zip(values[::2], values[1::2], strict=True))


def _a(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"a {kind.__name__} is expected where {shown(value)} is")
    return value


def _to_mark(stack: list[Any]) -> list[Any]:
    """Take all above the topmost mark, and the mark."""
    for i in range(len(stack) - 1, -1, -1):
        if stack[i] is _MARK:
            values = stack[i + 1 :]
            del stack[i:]
            return values
    raise ValueError("no mark")
