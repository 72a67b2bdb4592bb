"""Which source files stand behind a module, and their digest: what scratch of interrupted work is keyed by.

Comments and docstrings do not count, nor does what lies in this folder, which decides no artefact's bytes, or the table of methods: the
method that a system names counts by itself.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from pipeline.core.files import digest_of

ROOT = Path(__file__).parent.parent.parent
DECIDES_NOTHING = ("pipeline/core/", "pipeline/methods/__init__.py")


def code_digest(*modules: str) -> str:
    """Digest of the code of these modules and of all that they import from this project, in hex."""
    files = sorted(set().union(*(closure(module_file(name) or name) for name in modules)))
    return digest_of([(file, _code(file)) for file in files])


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
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {path for name in names if name.startswith(("pipeline", "stages")) and (path := module_file(name))}
    return frozenset(path for path in found if _code(path) != _code_of(ast.parse("")))


def module_file(name: str) -> str | None:
    """The file of a module of the project, relative to its root; None where there is no such module."""
    for candidate in (name.replace(".", "/") + ".py", name.replace(".", "/") + "/__init__.py"):
        if (ROOT / candidate).is_file():
            return candidate
    return None


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
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


@cache
def _code(file: str) -> str:
    return _code_of(_tree(file))


def _code_of(tree: ast.Module) -> str:
    """The syntax tree as text, bare strings (docstrings) left out."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body  # type: ignore[attr-defined]
                         if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str))]
    return ast.dump(tree)
