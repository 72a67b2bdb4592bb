"""Which source files stand behind a module: what stages depend on, and what scratch of interrupted work is keyed by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core import code
from pipeline.core.files import read_json

FILES = {
    "pipeline/__init__.py": '"""The whole."""\n',
    "pipeline/core/__init__.py": '"""The ground."""\n',
    "pipeline/core/files.py": "SIZE = 1\n",
    "pipeline/features/__init__.py": '"""Numbers."""\n',
    "pipeline/features/stores.py": "from ..core.files import SIZE\n\nROWS = SIZE * 4\n",
    "pipeline/features/retrieval.py": "from . import stores\n\nK = stores.ROWS\n",
    "pipeline/features/lazy.py": "def index():\n    import pipeline.features.retrieval\n\n    return pipeline.features.retrieval.K\n",
    "pipeline/features/typed.py": "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from pipeline.features import stores\n",
    "pipeline/methods/__init__.py": 'from pipeline.features import stores\n\nMETHODS = {"knight": "pipeline.methods.knight:Knight"}\n',
    "pipeline/methods/knight.py": "class Knight:\n    k = 5\n",
    "pipeline/training.py": "from pipeline.features import lazy\nfrom pipeline.methods import METHODS\n\nSTEPS = 10\n",
    "pipeline/unrelated.py": "import numpy\n\nX = 1\n",
    "pipeline/circle.py": "import pipeline.back\n",
    "pipeline/back.py": "import pipeline.circle\n\nX = 1\n",
}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Iterator[Path]:
    """A small project of its own; nothing that was read of one is remembered for another."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(code, "ROOT", tmp_path)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    """Read every file anew, as the next process does."""
    for function in (code.closure, code.imports, code._tree, code._code):
        function.cache_clear()


def digest_after(project: Path, file: str, text: str, *modules: str) -> str:
    (project / file).write_text(text)
    forget()
    return code.code_digest(*modules)


def changes(project: Path, file: str, text: str, *modules: str) -> bool:
    """Whether the digest of modules changes with a file's text."""
    forget()
    return code.code_digest(*modules) != digest_after(project, file, text, *modules)


@pytest.mark.parametrize("text", [
    "# why\nfrom . import stores  # and so on\n\n\nK = stores.ROWS\n",
    '"""A new first line."""\n\nfrom . import stores\n\nK = stores.ROWS\n',
    'from . import stores\n\nK = stores.ROWS\n"""What\n\nK is."""  # said\n',
])
def test_a_comment_a_docstring_or_an_empty_line_keeps_the_work_of_an_interrupted_run(project, text):
    assert not changes(project, "pipeline/features/retrieval.py", text, "pipeline.features.retrieval")


def test_a_docstring_inside_a_function_or_class_keeps_it_too(project):
    text = 'class Knight:\n    """Nearest captions."""\n\n    k = 5\n    """How many."""\n'
    assert not changes(project, "pipeline/methods/knight.py", text, "pipeline.methods.knight")


def test_a_text_that_is_a_value_is_code(project):
    before = digest_after(project, "pipeline/unrelated.py", 'def f():\n    """Said."""\n    return "a"\n', "pipeline.unrelated")
    assert changes(project, "pipeline/unrelated.py", 'def f():\n    """Said."""\n    return "b"\n', "pipeline.unrelated")
    assert digest_after(project, "pipeline/unrelated.py", 'def f():\n    return "a"\n', "pipeline.unrelated") == before


@pytest.mark.parametrize(("text", "other"), [
    ('X = """a\n\nb"""\n', 'X = """a\nb"""\n'), ('X = """a\n# b"""\n', 'X = """a\n"""\n'), ('X = "a # b"\n', 'X = "a "\n'),
    ("class A: 'doc'\n", "class B: 'doc'\n"), ('"""a\nb"""; X = 1\n', '"""a\nb"""; X = 2\n'),
])
def test_what_only_looks_like_a_comment_an_empty_line_or_a_docstring_is_code(project, text, other):
    before = digest_after(project, "pipeline/unrelated.py", text, "pipeline.unrelated")
    assert digest_after(project, "pipeline/unrelated.py", other, "pipeline.unrelated") != before


def test_an_unusual_end_of_line_inside_a_text_hides_no_code(project):
    text = 'X = "\u2028\x0c"\n# a comment\nY = {}\n"""A docstring."""\nZ = {}\n'
    before = digest_after(project, "pipeline/unrelated.py", text.format(1, 1), "pipeline.unrelated")
    assert before == digest_after(project, "pipeline/unrelated.py", text.format(1, 1).replace("a comment", "other"), "pipeline.unrelated")
    for values in ((2, 1), (1, 2)):
        assert digest_after(project, "pipeline/unrelated.py", text.format(*values), "pipeline.unrelated") != before


@pytest.mark.parametrize("name", ["page.j2", "page.css"])
def test_templates_and_styles_count_with_the_modules_beside_them_and_with_no_other(project, name):
    (project / "pipeline/features" / name).write_text("one")
    assert changes(project, f"pipeline/features/{name}", "two", "pipeline.features.stores")
    assert not changes(project, f"pipeline/features/{name}", "three", "pipeline.unrelated")


def test_every_file_of_the_packages_is_a_module_or_counts_with_those_beside_it():
    others = {path.suffix for folder in ("pipeline", "stages") for path in (code.ROOT / folder).rglob("[!.]*")
              if path.is_file() and "spice_engine" not in path.parts}  # what Java reads, and no stage
    assert others <= {".py", ".pyc", ".typed", *code._BESIDE}


@pytest.mark.parametrize("name", ["features.stores", "features.retrieval", "features.lazy", "training"])
def test_code_of_the_module_or_of_one_it_imports_directly_or_not_changes_its_digest(project, name):
    assert changes(project, "pipeline/features/stores.py", "from pipeline.core.files import SIZE\n\nROWS = SIZE * 8\n", f"pipeline.{name}")


def test_code_that_nothing_imports_changes_no_digest(project):
    assert not changes(project, "pipeline/unrelated.py", "import numpy\n\nX = 2\n", "pipeline.training", "pipeline.features.retrieval")


def test_a_module_imported_for_type_checking_alone_changes_no_digest(project):
    assert not changes(project, "pipeline/features/stores.py", "ROWS = 8\n", "pipeline.features.typed")


def test_the_ground_that_decides_no_artefacts_bytes_does_not_count(project):
    assert not changes(project, "pipeline/core/files.py", "SIZE = 1\nMORE = 2\n", "pipeline.features.stores", "pipeline.training")
    assert not changes(project, "pipeline/core/files.py", "SIZE = 2\n", "pipeline.core.files")


def test_a_new_line_in_the_table_of_methods_keeps_the_work_of_every_other_method(project):
    table = FILES["pipeline/methods/__init__.py"] + "OTHERS = 1\n"
    assert not changes(project, "pipeline/methods/__init__.py", table, "pipeline.training", "pipeline.methods.knight")


def test_the_method_that_is_named_counts_by_itself(project):
    assert not changes(project, "pipeline/methods/knight.py", "class Knight:\n    k = 6\n", "pipeline.training")
    assert changes(project, "pipeline/methods/knight.py", "class Knight:\n    k = 7\n", "pipeline.training", "pipeline.methods.knight")


def test_modules_that_import_each_other_are_read_once_each(project):
    assert code.closure("pipeline/circle.py") == code.closure("pipeline/back.py") == {"pipeline/circle.py", "pipeline/back.py"}


def test_empty_packages_on_the_way_to_a_module_do_not_count(project):
    assert code.closure("pipeline/features/retrieval.py") == {"pipeline/features/retrieval.py", "pipeline/features/stores.py"}


def test_the_order_in_which_modules_are_named_does_not_matter(project):
    assert code.code_digest("pipeline.circle", "pipeline.unrelated") == code.code_digest("pipeline.unrelated", "pipeline.circle")
    assert code.code_digest("pipeline.circle") != code.code_digest("pipeline.unrelated")


def test_every_stage_of_this_project_is_keyed_by_the_files_that_it_runs_on():
    found = code.closure("pipeline/features/embedding.py")
    assert {"pipeline/features/embedding.py", "pipeline/features/encoders.py", "pipeline/images.py",
            "pipeline/features/stores.py"} <= found
    assert not [file for file in found if file.startswith(("pipeline/core/", "pipeline/methods/", "pipeline/synthetic/", "stages/"))]
    assert "pipeline/needs/base.py" in code.closure("pipeline/training.py")


def test_digests_are_written_by_stage_and_method_and_name_the_file_that_changed(project, monkeypatch):
    monkeypatch.chdir(project)
    (project / "stages").mkdir()
    (project / "stages/train.py").write_text("from pipeline import training\n")

    def written() -> tuple[dict, dict]:
        forget()
        code.write_digests(Path("out"), ["train"], {"knight": "pipeline.methods.knight"})
        return read_json(Path("out/train.json")), read_json(Path("out/methods/knight.json"))

    train, knight = written()
    assert set(train) == {"stages/train.py", "pipeline/training.py", "pipeline/features/lazy.py", "pipeline/features/retrieval.py",
                          "pipeline/features/stores.py"}
    assert set(knight) == {"pipeline/methods/knight.py"}
    (project / "pipeline/training.py").write_text(FILES["pipeline/training.py"] + "# a comment\n")
    assert written() == (train, knight)
    (project / "pipeline/training.py").write_text(FILES["pipeline/training.py"] + "MORE = 1\n")
    changed, same = written()
    assert {file for file in train if train[file] != changed[file]} == {"pipeline/training.py"}
    assert same == knight
