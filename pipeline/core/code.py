"""Which source files stand behind a module, and their digest: what stages depend on, and what scratch of interrupted work is keyed by.

Templates, styles and tables beside a module count with it. Comments, docstrings and empty lines do not count, nor does what lies in this
folder, which decides no artefact's bytes, what the package offers, or the table of methods: the method that a system names counts by
itself. Digests are of source text, so that every version of Python finds the same.

Files are named as in the project's folder, `pipeline/...`, also where the same files are imported, or installed, as `unpaired`.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from .errors import UserError
from .files import digest_file, digest_of, write_json

_PACKAGE = Path(__file__).parent.parent
ROOT = _PACKAGE.parent
_BESIDE = (".css", ".j2", ".yaml")  # what modules read of their own folder
DECIDES_NOTHING = ("pipeline/core/", "pipeline/__init__.py", "pipeline/methods/__init__.py", "stages/__init__.py")


def code_digest(*modules: str) -> str:
    """Digest of the code of these modules and of all that they import from this project, in hex."""
    return digest_of(_digests(*modules))


def write_digests(folder: Path, stages: Iterable[str], methods: Mapping[str, str]) -> None:
    """Write what DVC's stages depend on in place of source files: `<stage>.json` and `methods/<name>.json` with a digest per file.

    methods: module by name.
    """
    for stage in stages:
        write_json(folder / f"{stage}.json", _digests(f"stages.{stage}"))
    for name, module in methods.items():
        write_json(folder / "methods" / f"{name}.json", _digests(module))


def _digests(*modules: str) -> dict[str, str]:
    files = set().union(*(closure(module_file(name) or name) for name in modules))
    beside = {f"{folder}/{path.name}" for folder in {file.rpartition("/")[0] for file in files} for path in _place(folder).iterdir()
              if path.suffix in _BESIDE}
    return {file: _digest(file) for file in sorted(files | beside)}


def _digest(file: str) -> str:
    return digest_of(_code(file) if file.endswith(".py") else digest_file(_place(file)))[:16]


def changed(noted: Mapping[str, str]) -> list[str]:
    """Those of these files whose code is no longer what was noted of them, digest by file."""
    for known in (_tree, _code):
        known.cache_clear()
    found = []
    for file, digest in noted.items():
        try:
            same = _digest(file) == digest
        except (OSError, SyntaxError, ValueError, tokenize.TokenError, UserError):  # gone, or half-written
            same = False
        found += [] if same else [file]
    return found


@cache
def closure(file: str) -> frozenset[str]:
    """The file and every file of the project that it imports, directly or not, anywhere in it; `DECIDES_NOTHING` left out."""
    seen: set[str] = set()
    todo = {file}
    while todo:
        current = todo.pop()
        if not current.startswith(DECIDES_NOTHING):
            seen.add(current)
            todo |= imports(current) - seen
    return frozenset(seen)


@cache
def imports(file: str) -> frozenset[str]:
    """Files of the project that a file imports, anywhere in it but for type checking alone; empty packages left out."""
    found: set[str] = set()
    for node in _runtime_nodes(_tree(file)):
        if isinstance(node, ast.ImportFrom):
            module = imported_from(node, file)
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {path for name in names if name.startswith(("pipeline", "stages")) and (path := module_file(name))}
    return frozenset(path for path in found if _code(path))


def imported_from(node: ast.ImportFrom, file: str) -> str:
    """The whole name of the module that a statement of this file imports from, relative or not."""
    above = Path(file).parts[: -node.level] if node.level else ()
    return ".".join([*above, *([node.module] if node.module else [])])


def module_file(name: str) -> str | None:
    """The file of a module of the project, relative to its root; None where there is no such module."""
    path = re.sub(r"^unpaired\b", "pipeline", name).replace(".", "/")
    return next((file for file in (f"{path}.py", f"{path}/__init__.py") if _place(file).is_file()), None)


def _place(file: str) -> Path:
    """Where a file of the project lies."""
    return ROOT / re.sub(r"^pipeline\b", _PACKAGE.name, file)


def _runtime_nodes(tree: ast.AST) -> list[ast.AST]:
    nodes: list[ast.AST] = []
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        nodes.append(node)
        typing_only = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        todo += [] if typing_only else ast.iter_child_nodes(node)
    return nodes


@cache
def _tree(file: str) -> ast.Module:
    return ast.parse(_place(file).read_text(encoding="utf-8"))


@cache
def _code(file: str) -> str:
    """The source without comments, empty lines and bare strings (docstrings)."""
    source = _place(file).read_text(encoding="utf-8")
    lines = source.removesuffix("\n").split("\n")  # as tokenize and ast count them; splitlines knows more ends of lines
    gone: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT:
            lines[row - 1] = lines[row - 1][:column].rstrip()
        if token.type in (tokenize.COMMENT, tokenize.NL) and not lines[row - 1].strip():  # never inside a string
            gone.add(row)
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            first, last = lines[node.lineno - 1].encode(), lines[(node.end_lineno or 0) - 1].encode()
            if not first[: node.col_offset].strip() and not last[node.end_col_offset :].strip():
                gone |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return "\n".join(line for row, line in enumerate(lines, start=1) if row not in gone)
