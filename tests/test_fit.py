"""`unpaired fit`: from a file of sentences to captions, in a folder that goes anywhere."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from pipeline import Captioner, fit_estimate
from pipeline.captioner import _rgb
from pipeline.core.files import digest_tree, read_json
from pipeline.core.params import load
from pipeline.features import embedding
from pipeline.fit import METHODS, SIZES, Wish, _write_vocabulary, begin, find_clip, fit
from pipeline.images import open_image
from pipeline.language.tokens import ClipTokens
from pipeline.methods import METHODS as ALL_METHODS
from pipeline.methods import find_method
from tests.project import Project, patched

SENTENCES = [f"{number} {colour} {thing} {place}" for number in ("one", "two") for colour in ("red", "blue", "brown", "black")
             for thing in ("dog", "car", "boat", "horse") for place in ("on the street", "in a field", "at the sea")]
STEPS = 6


@pytest.fixture
def here(tmp_path: Path, tiny_clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of sentences, a CLIP and two pictures, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNPAIRED_DEVICE", "cpu")
    shutil.copytree(tiny_clip_folder, tmp_path / "data/foundation/tiny")
    (tmp_path / "sentences.txt").write_text("\n".join(SENTENCES) + "\n")
    (tmp_path / "photos").mkdir()
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (64, 64), colour).save(tmp_path / "photos" / name)
    return tmp_path


def wish(method: str = "knight", **values: object) -> Wish:
    return Wish(**{"sentences": Path("sentences.txt"), "clip": find_clip("tiny"), "method": method, "steps": STEPS, **values})


@pytest.mark.parametrize("method", METHODS)
def test_a_folder_of_photographs_is_captioned_after_one_command_and_so_it_is_where_the_captioner_was_moved(here: Path, method: str) -> None:
    project = Project(here)
    made = project.run_module("pipeline.cli", "fit", "sentences.txt", "--clip", "tiny", "--method", method, "--out", "captioner", "--steps",
                              str(STEPS), "--pictures", "photos")
    assert made.returncode == 0, made.stderr
    shown = [line for line in made.stdout.splitlines() if line.startswith("photos")]
    assert [line.partition(": ")[0] for line in shown] == ["photos/a.png", "photos/b.png"]
    (here / "far/away").mkdir(parents=True)
    (here / "captioner").rename(here / "far/away/moved")
    for gone in ("captioner.work", "data", "sentences.txt"):
        shutil.rmtree(here / gone) if (here / gone).is_dir() else (here / gone).unlink()
    again = project.run_module("pipeline.cli", "caption", "--model", "far/away/moved", "photos")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines() == shown
    captions = Captioner.load("far/away/moved").caption(["photos/a.png", Path("photos/b.png")])
    assert captions == [line.partition(": ")[2] for line in shown]
    assert Path.cwd() == here


def test_a_fit_killed_again_and_again_ends_in_the_bytes_of_an_uninterrupted_one(here: Path) -> None:
    fit(wish(), Path("whole"))
    project = Project(here)
    for target, calls in (
        ("pipeline.corpus.extract:write_json", 0), ("pipeline.core.resume:Work.record", 0), ("pipeline.fit:write_json", 0),
        ("pipeline.features.indexing:nearest_others", 0), ("pipeline.fit:write_json", 0), ("pipeline.optimisation:Schedule.rate", 2 * 3),
        ("pipeline.optimisation:Schedule.rate", 2 * 5), ("pipeline.training:write_json", 1), ("pipeline.fit:write_card", 0),
        ("pipeline.core.artefacts:os.replace", 2),
    ):
        dead = project.run_module("pipeline.cli", "fit", "sentences.txt", "--clip", "tiny", "--out", "killed", "--steps", str(STEPS),
                                  before=patched(target, calls, lambda: os.kill(os.getpid(), signal.SIGKILL)))
        assert dead.returncode == -signal.SIGKILL, (target, dead.stdout, dead.stderr)
        assert not Path("killed").exists()
    fit(wish(), Path("killed"))
    assert digest_tree(Path("killed")) == digest_tree(Path("whole"))
    assert not list(here.glob("*.scratch"))


def test_what_is_there_is_not_made_again_and_what_depends_on_a_change_is(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def watch(owner: ModuleType, name: str) -> None:
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *arguments: (made.append(name), real(*arguments)))

    watch(embedding, "embed_text")
    watch(sys.modules["pipeline.fit"], "index_corpus")
    watch(sys.modules["pipeline.fit"], "train_system")

    def made_by(*wanted: Wish) -> list[str]:
        made.clear()
        for each in wanted:
            fit(each, Path("captioner"))
        return list(made)

    assert made_by(wish()) == ["embed_text", "index_corpus", "train_system"]
    assert made_by(wish()) == []
    assert made_by(wish(seed=1)) == ["train_system"]
    assert made_by(wish("decap")) == ["train_system"]
    Path("sentences.txt").write_text("\n".join(SENTENCES[1:]) + "\n")
    assert made_by(wish()) == ["embed_text", "index_corpus", "train_system"]


def test_the_same_sentences_make_the_same_bytes_and_another_seed_others(here: Path) -> None:
    digests = []
    for number, seed in enumerate((0, 0, 1)):
        fit(wish(seed=seed), Path(f"captioner-{number}"))
        digests.append(digest_tree(Path(f"captioner-{number}")))
    assert digests[0] == digests[1] != digests[2]


def test_the_card_says_what_the_captioner_is_made_of_and_a_method_keeps_only_what_it_reads(here: Path) -> None:
    fit(wish("capdec"), Path("captioner"))
    card = Path("captioner/README.md").read_text()
    assert f"{len(SENTENCES)} sentences (sentences.txt)" in card
    assert "CapDec" in card
    assert "not told: ask where the CLIP is from" in card
    assert not any(SENTENCES[0].encode() in file.read_bytes() for file in Path("captioner").rglob("*") if file.is_file())
    assert not Path("captioner/data/features").exists()
    assert str(here) not in "".join(file.read_text(errors="replace") for file in Path("captioner").rglob("*") if file.is_file())


def test_lines_that_are_no_sentences_are_left_out_and_counted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("sentences.txt").write_text("\n".join([*SENTENCES, "---", "x" * 500]) + "\n")
    fit(wish("clipre"), Path("captioner"))
    assert f"{len(SENTENCES)} sentences; 2 left out, the first is {len(SENTENCES) + 1}: the caption has no word" in capsys.readouterr().out


@pytest.mark.parametrize(("content", "told"), [
    ("\n".join(SENTENCES[:60]).encode(), "sentences.txt holds 60 sentences, too few"),
    (b"a dog on the street\na caf\xe9 by the sea\n", "sentences.txt, line 2: byte 0xe9"),
    (b"", "sentences.txt"), (b"1\ta dog\n2\ta cat\n3\ta bird\n" * 40, "sentences.txt"),
])
def test_a_file_that_nothing_can_be_learnt_from_is_one_line_that_names_it(here: Path, user_error, content: bytes, told: str) -> None:
    Path("sentences.txt").write_bytes(content)
    message = user_error(fit, wish(), Path("captioner"))
    assert told in message
    assert "captioner.work" not in message
    assert not Path("captioner").exists()


def test_a_handful_of_sentences_is_enough_to_choose_from(here: Path) -> None:
    Path("sentences.txt").write_text("\n".join(SENTENCES[:3]))
    fit(wish("clipre"), Path("captioner"))
    assert Captioner.load("captioner").caption(["photos/a.png"])[0] in SENTENCES[:3]


def test_a_picture_in_memory_is_captioned_as_its_file(here: Path) -> None:
    for mode in ("RGB", "L", "P", "LA", "RGBA", "1", "CMYK"):
        file = Path(f"{mode}.tif" if mode == "CMYK" else f"{mode}.png")
        Image.radial_gradient("L").resize((40, 30)).convert("RGBA" if mode == "LA" else mode).convert(mode).save(file)
        with Image.open(file) as picture:
            assert _rgb(picture).tobytes() == open_image(file).tobytes(), mode
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.linear_gradient("L").resize((40, 30)).save("turned.jpg", exif=turned)
    with Image.open("turned.jpg") as picture:
        assert _rgb(picture).size == (30, 40)


def test_a_picture_that_cannot_be_read_is_one_line(here: Path, user_error) -> None:
    fit(wish("clipre"), Path("captioner"))
    captioner = Captioner.load("captioner")
    Path("broken.jpg").write_bytes(b"x")
    assert "broken.jpg" in user_error(captioner.caption, ["photos/a.png", "broken.jpg"])
    assert "which value is white" in user_error(captioner.caption, [Image.new("F", (4, 4))])
    assert captioner.caption([]) == []


def test_a_damaged_or_foreign_captioner_is_one_line(here: Path, user_error) -> None:
    fit(wish(), Path("captioner"))
    for number, file in enumerate(("params.yaml", "README.md", "data/models/captioner/mapper.safetensors",
                                   "data/foundation/clip/open_clip_model.safetensors", "data/corpus/sentences/corpus.parquet")):
        damaged = Path(f"damaged-{number}")
        shutil.copytree("captioner", damaged)
        content = bytearray((damaged / file).read_bytes())
        content[len(content) // 2] ^= 1
        (damaged / file).write_bytes(content)
        message = user_error(Captioner.load, damaged)
        assert str(damaged / file) in message
        assert "dvc" not in message
    assert "photos holds no captioner" in user_error(Captioner.load, "photos")
    assert "data/foundation/tiny holds no captioner" in user_error(Captioner.load, "data/foundation/tiny")


def test_a_folder_of_something_else_is_never_written_over(here: Path, user_error) -> None:
    for folder in (Path("photos"), Path("data/foundation/tiny"), Path("sentences.txt")):
        before = digest_tree(folder)
        assert "holds no captioner" in user_error(fit, wish(), folder)
        assert digest_tree(folder) == before


@pytest.mark.parametrize(("values", "told"), [
    ({"method": "syntic"}, "no method that learns from sentences alone"), ({"method": "kight"}, "did you mean 'knight'"),
    ({"recipe": "smal"}, "did you mean 'small'"), ({"sentences": Path("nowhere.txt")}, "nowhere.txt: no such file"),
])
def test_a_wish_that_cannot_be_is_one_line(here: Path, user_error, values: dict[str, object], told: str) -> None:
    assert told in user_error(wish, **values)


def test_a_clip_that_is_not_there_is_told_with_the_command_that_brings_it(here: Path, user_error) -> None:
    assert "unpaired model add clip vit-b-32" in user_error(find_clip, "vit-b-32")
    assert find_clip("data/foundation/tiny") == find_clip("tiny") == Path("data/foundation/tiny")


def test_the_recipe_follows_from_the_number_of_sentences_unless_it_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.fit._write_vocabulary", lambda merges: None)

    def chosen(number: int, **values: object) -> dict:
        monkeypatch.setattr("pipeline.fit.extract", lambda *_: {"corpus": {"train": number, "heldout": 0}, "skipped": []})
        return begin(wish(**values))

    for number, size in ((96, "small"), (19_999, "small"), (20_000, "medium"), (199_999, "medium"), (200_000, "large")):
        assert chosen(number)["systems"]["captioner"]["recipe"] == size
    assert chosen(200, recipe="large")["decoders"]["large"]["width"] == 768
    assert chosen(200, steps=None)["recipes"]["small"]["steps"] == SIZES["small"].recipe["steps"]


def test_the_decoder_writes_with_the_first_of_clips_merges_and_still_any_word(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "data/foundation/clip").mkdir()
    whole = ClipTokens.of(here / "data/foundation/clip")
    sentence = "two zebras grazing near kyoto's 3rd pagoda"
    for merges, size in ((100, 100 + 514), (8_000, 8_514), (None, whole.size)):
        _write_vocabulary(merges)
        tokens = ClipTokens.of(here / "data/foundation/words")
        assert tokens.size == size
        assert tokens.decode(tokens.encode(sentence)) == whole.decode(whole.encode(sentence))
    assert tokens.encode(sentence) == whole.encode(sentence)


def test_a_dry_run_says_how_long_each_step_takes_and_makes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(here.rglob("*"))
    fit_estimate.estimate(wish())
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["1 of 4", "2 of 4", "2 of 4", "3 of 4"]
    assert all(" s" in line or " min" in line for line in lines[1:])
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("name", METHODS)
def test_what_is_fitted_needs_sentences_alone(name: str) -> None:
    assert name in ALL_METHODS
    assert find_method(name).supervision == "text"


def test_a_caption_is_explained_by_sentences_where_the_captioner_holds_any(here: Path) -> None:
    for method, status, told in (("knight", 0, "CLIP similarity of this caption"), ("capdec", 1, "holds none to explain captions by")):
        fit(wish(method), Path(method))
        shown = Project(here).run_module("pipeline.cli", "caption", "--model", method, "--explain", "photos/a.png")
        assert shown.returncode == status, shown.stderr
        assert told in shown.stdout + shown.stderr


def test_two_fits_of_one_captioner_do_not_meet(here: Path, user_error) -> None:
    from pipeline.core.files import locked

    with locked(Path("captioner.work")):
        assert "in use by another process" in user_error(fit, wish(), Path("captioner"))


def test_the_work_folder_holds_the_parameters_that_the_captioner_holds(here: Path) -> None:
    fit(wish(), Path("captioner"))
    assert load(Path("captioner/params.yaml")) == load(Path("captioner.work/params.yaml"))
    assert read_json(Path("captioner/data/models/captioner/system.json"))["recipe_params"]["steps"] == STEPS


def test_importing_the_package_imports_no_torch_before_a_captioner_is_asked_for() -> None:
    code = "import sys, pipeline; print('torch' in sys.modules); pipeline.Captioner; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "True"]
