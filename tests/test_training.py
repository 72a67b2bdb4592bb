"""Training: interrupted and resumed it ends in the same weights, and the best ones are kept."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.captioning import caption_settings
from pipeline.core import paths
from pipeline.core.artefacts import MANIFEST
from pipeline.core.files import digest_tree, read_json
from pipeline.language.decoders import IGNORE, pad
from pipeline.methods import find_method
from pipeline.methods.capdec import CapDec, CapDecParams
from pipeline.methods.phases import Phase, Recipe, Trainer, epoch_batches
from pipeline.optimisation import Score
from pipeline.systems import find_system, make_method
from pipeline.training import encode_captions, train_system
from tests.artefacts import edit_json
from tests.interruption import Interrupted, interrupt_at
from tests.tiny_systems import CPU, make_project, params

RECIPE = Recipe(steps=12, batch=4, learning_rate=0.01, warmup=3, evaluate_every=4, snapshot_every=4)


class Killed(BaseException):
    """Stands for a kill in the middle of a step."""


@pytest.fixture
def noisy():
    """A method that draws noise, so that a resumed run must also find its random numbers again."""
    return find_method("capdec")(CapDecParams(0.05), None)


def kill_at(method, step: int):
    """The same method, that dies when the training condition of `step` is asked for (counted over training and evaluation)."""
    calls = iter(range(10_000))
    real = method.training_condition

    def training_condition(*args):
        if next(calls) == step:
            raise Killed
        return real(*args)

    method.training_condition = training_condition
    return method


def sentences(count: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [[0, *rng.integers(2, 12, rng.integers(1, 6)).tolist(), 1] for _ in range(count)]


def run(method, decoder, corpus, scratch, recipe: Recipe = RECIPE, seed: int = 5, captions: list[list[int]] | None = None):
    scratch.mkdir(exist_ok=True)
    trainer = Trainer(method.training_condition, decoder, corpus, captions or sentences(40), np.arange(30), np.arange(30, 40), recipe, seed)
    log, _ = trainer.train(method.phases(trainer), scratch, "train")
    return log, decoder.state_dict()


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# per evaluation 4 steps and 3 held-out batches: killed in the first step, before and after a snapshot, in an evaluation, in the last step
@pytest.mark.parametrize(("every", "kept_from"), [(4, 7), (3, 3), (6, 9), (100, 21)])
@pytest.mark.parametrize("call", [0, 5, 7, 8, 12, 17])
def test_an_interrupted_training_ends_in_the_very_weights_of_an_uninterrupted_one(make_corpus, make_decoder, noisy, tmp_path, call, every,
                                                                                  kept_from):
    corpus, recipe = make_corpus(), replace(RECIPE, snapshot_every=every)
    expected_log, expected = run(noisy, make_decoder(dropout=0.2), corpus, tmp_path / "whole", RECIPE)
    with pytest.raises(Killed):
        run(kill_at(find_method("capdec")(CapDecParams(0.05), None), call), make_decoder(dropout=0.2), corpus, tmp_path / "killed", recipe)
    assert len(list((tmp_path / "killed").glob("phase-0-*.pt"))) == (call >= kept_from)
    log, weights = run(noisy, make_decoder(dropout=0.2), corpus, tmp_path / "killed", recipe)
    assert equal(weights, expected)
    assert log == expected_log
    assert [entry["step"] for entry in log] == [4, 8, 12]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(make_corpus, make_decoder, noisy, tmp_path):
    one, two, other = (run(noisy, make_decoder(dropout=0.2), make_corpus(), tmp_path / name, seed=seed)[1]
                       for name, seed in (("one", 1), ("two", 1), ("other", 2)))
    assert equal(one, two)
    assert not equal(one, other)


def test_the_result_does_not_depend_on_random_numbers_drawn_before(make_corpus, make_decoder, noisy, tmp_path):
    _, expected = run(noisy, make_decoder(dropout=0.2), make_corpus(), tmp_path / "one")
    decoder = make_decoder(dropout=0.2)
    torch.rand(100)
    np.random.default_rng().random(100)
    assert equal(run(noisy, decoder, make_corpus(), tmp_path / "two")[1], expected)


def naive_heldout_loss(decoder, corpus, captions: list[list[int]], rows: range) -> float:
    """One sentence at a time, weighted alike, as DeCap's condition has no noise."""
    method = find_method("decap")(None, None)
    losses = []
    with torch.inference_mode():
        for row in rows:
            condition = method.training_condition(corpus, torch.tensor([row]), torch.Generator())
            losses.append((decoder.loss(condition, torch.tensor([captions[row]])).item(), len(captions[row]) - 1))
    return sum(loss * tokens for loss, tokens in losses) / sum(tokens for _, tokens in losses)


def test_the_weights_of_the_lowest_held_out_loss_by_tokens_are_kept_not_the_last(make_corpus, make_decoder, tmp_path):
    corpus = make_corpus()
    # held-out sentences say what the training sentences never say: the more is learnt, the worse they are read
    captions = [[0, 5, 5, 5, 1]] * 30 + [[0, 9, 8, 9, 1], [0, 9, 1], [0, 8, 8, 9, 8, 9, 9, 8, 1], [0, 1], [0, 9, 9, 9, 1]] * 2
    decoder = make_decoder(spread=0.02)
    log, _ = run(find_method("decap")(None, None), decoder, corpus, tmp_path, captions=captions)
    losses = [entry["heldout_loss"] for entry in log]
    assert min(losses) == losses[0] < losses[-1] - 0.1
    decoder.eval()
    # rounded to 4 digits in the log
    assert naive_heldout_loss(decoder, corpus, captions, range(30, 40)) == pytest.approx(losses[0], abs=1e-4)


def test_a_resumed_training_remembers_the_best_weights_of_before(make_corpus, make_decoder, tmp_path):
    captions = [[0, 5, 5, 5, 1]] * 30 + [[0, 9, 8, 9, 1]] * 10
    _, expected = run(find_method("decap")(None, None), make_decoder(spread=0.02), make_corpus(), tmp_path / "whole", captions=captions)
    with pytest.raises(Killed):
        run(kill_at(find_method("decap")(None, None), 17), make_decoder(spread=0.02), make_corpus(), tmp_path / "killed", captions=captions)
    _, weights = run(find_method("decap")(None, None), make_decoder(spread=0.02), make_corpus(), tmp_path / "killed", captions=captions)
    assert equal(weights, expected)


class TwoPhases(CapDec):
    """Trained on the captions, then on the first twelve of them; what the second phase saw.

    scores: the second phase's own, in place of the loss. further: what else it differs by.
    """

    def __init__(self, scores: tuple[float, ...] = (), higher_is_better: bool = False, part: str = "", **further: Any) -> None:
        super().__init__(CapDecParams(0.05), None)
        self.scores, self.higher_is_better, self.part, self.further = list(scores), higher_is_better, part, further
        self.weights: list[dict] = []  # at its first step and at each score
        self.rows: set[int] = set()

    def phases(self, trainer: Trainer) -> list[Phase]:
        first = trainer.cross_entropy()

        def keep() -> None:
            self.weights.append({key: value.clone() for key, value in trainer.decoder.state_dict().items()})

        def loss(rows, generator):
            if not self.rows:
                keep()
            self.rows.update(rows.tolist())
            return first.loss(rows, generator)

        def score() -> float:
            keep()
            return self.scores.pop(0) if self.scores else first.score.function()

        return [first, Phase("again", trainer.train_rows[:12], first.lengths, loss, Score("own", score, self.higher_is_better),
                             trained=trainer.decoder.get_submodule(self.part), **self.further)]


def test_a_phase_begins_with_the_best_weights_of_the_one_before_and_draws_from_its_own_rows(make_corpus, make_decoder, tmp_path):
    method = TwoPhases()
    log, _ = run(method, make_decoder(), make_corpus(), tmp_path / "both")
    assert [(entry["phase"], entry["step"]) for entry in log] == [(phase, step) for phase in ("cross-entropy", "again")
                                                                  for step in (4, 8, 12)]
    assert method.rows == set(range(12))
    _, first = run(CapDec(CapDecParams(0.05), None), make_decoder(), make_corpus(), tmp_path / "first")
    assert equal(method.weights[0], first)


@pytest.mark.parametrize("higher_is_better", [False, True])
@pytest.mark.parametrize("scores", [(3.0, 2.0, 1.0), (1.0, 2.0, 3.0), (2.0, 1.0, 3.0)])
def test_a_phase_keeps_the_weights_that_its_own_score_likes_best(make_corpus, make_decoder, tmp_path, scores, higher_is_better):
    method = TwoPhases(scores, higher_is_better)
    log, weights = run(method, make_decoder(), make_corpus(), tmp_path)
    assert [entry["own"] for entry in log[3:]] == list(scores)
    assert all(entry.keys() == {"phase", "step", "train_loss", "heldout_loss"} for entry in log[:3])
    best = 3.0 if higher_is_better else 1.0
    assert [equal(weights, scored) for scored in method.weights[1:]] == [value == best for value in scores]


def test_the_step_told_is_the_one_whose_weights_are_kept(make_corpus, make_decoder, tmp_path):
    method = TwoPhases((2.0, 3.0, 3.0), higher_is_better=True)
    trainer = Trainer(method.training_condition, make_decoder(), make_corpus(), sentences(40), np.arange(30), np.arange(30, 40), RECIPE, 5)
    assert trainer.train(method.phases(trainer), tmp_path, "train")[1] == 8


def test_a_phase_has_steps_and_a_learning_rate_of_its_own(make_corpus, make_decoder, tmp_path):
    log, _ = run(method := TwoPhases(steps=6, learning_rate=1e-7), make_decoder(), make_corpus(), tmp_path)
    assert [(entry["phase"], entry["step"]) for entry in log] == [("cross-entropy", 4), ("cross-entropy", 8), ("cross-entropy", 12),
                                                                  ("again", 4), ("again", 6)]
    start, *_, end = method.weights
    # Adam moves a weight by about the learning rate in a step, and decay takes a millionth of it at most
    assert 0 < max((end[key] - start[key]).abs().max().item() for key in start) < 1e-5


def test_a_phase_may_train_a_part_of_the_decoder_only_and_leaves_no_gradients_in_the_rest(make_corpus, make_decoder, tmp_path):
    decoder = make_decoder(dropout=0.2)
    run(method := TwoPhases(part="mapper"), decoder, make_corpus(), tmp_path)
    start, *_, end = method.weights
    assert {key for key in start if not torch.equal(start[key], end[key])} == {key for key in start if key.startswith("mapper.")}
    snapshot = torch.load(next(tmp_path.glob("phase-1-*.pt")), weights_only=True)
    parameters = dict(decoder.mapper.named_parameters())
    assert snapshot["modules"][0].keys() == snapshot["progress"][3].keys() == parameters.keys()
    assert len(snapshot["optimiser"]["state"]) == len(parameters)


def test_a_frozen_language_model_stays_as_it_is_and_out_of_the_snapshot(make_corpus, make_decoder, noisy, tmp_path):
    decoder = make_decoder(dropout=0.2)
    decoder.lm.requires_grad_(False)
    before = {key: value.clone() for key, value in decoder.state_dict().items()}
    _, after = run(noisy, decoder, make_corpus(), tmp_path)
    assert {key for key in before if not torch.equal(before[key], after[key])} == {key for key in before if key.startswith("mapper.")}
    snapshot = torch.load(next(tmp_path.glob("phase-0-*.pt")), weights_only=True)
    assert all(key.startswith("mapper.") for key in [*snapshot["modules"][0], *snapshot["progress"][3]])


# the first phase is 12 steps and 9 looks at held-out batches
@pytest.mark.parametrize("call", [5, 20, 21, 23, 28, 30])
@pytest.mark.parametrize("further", [{}, {"part": "mapper", "steps": 6, "learning_rate": 0.02}])
def test_a_training_of_two_phases_killed_in_either_ends_in_the_very_weights_of_an_uninterrupted_one(make_corpus, make_decoder, tmp_path,
                                                                                                    call, further):
    corpus = make_corpus()
    expected_log, expected = run(TwoPhases(**further), make_decoder(dropout=0.2), corpus, tmp_path / "whole")
    with pytest.raises(Killed):
        run(kill_at(TwoPhases(**further), call), make_decoder(dropout=0.2), corpus, tmp_path / "killed")
    log, weights = run(TwoPhases(**further), make_decoder(dropout=0.2), corpus, tmp_path / "killed")
    assert equal(weights, expected)
    assert log == expected_log


def test_training_teaches_the_decoder_to_say_what_the_corpus_says(make_corpus, make_decoder, tmp_path):
    captions = [[0, 5, 6, 7, 1]] * 40
    recipe = Recipe(steps=60, batch=10, learning_rate=0.02, warmup=5, evaluate_every=20)
    decoder = make_decoder(spread=0.02)
    log, _ = run(find_method("decap")(None, None), decoder, make_corpus(), tmp_path, recipe, captions=captions)
    assert log[0]["heldout_loss"] > log[-1]["heldout_loss"]
    assert log[-1]["heldout_loss"] < 0.1  # ln 12 = 2.5 at the start


def test_every_training_sentence_is_seen_once_an_epoch_and_held_out_ones_never(make_corpus, make_decoder, tmp_path):
    seen: list[list[int]] = []
    method = find_method("decap")(None, None)
    real = method.training_condition

    def watch(corpus, rows, generator):
        if torch.is_grad_enabled():
            seen.append(rows.tolist())
        return real(corpus, rows, generator)

    method.training_condition = watch
    run(method, make_decoder(), make_corpus(), tmp_path, Recipe(steps=12, batch=5, warmup=0, evaluate_every=12))
    first, second = ([row for batch in half for row in batch] for half in (seen[:6], seen[6:]))
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second


@pytest.mark.parametrize(("train_rows", "heldout_rows", "told"), [
    (3, 10, "3 training sentences are too few for batches of 4: lower the recipe's batch"),
    (0, 10, "0 training sentences are too few"), (30, 0, "is held out, by which weights are chosen: raise its corpus's heldout"),
])
def test_too_small_a_corpus_is_told_with_what_helps(make_corpus, make_decoder, noisy, tmp_path, user_error, train_rows, heldout_rows, told):
    trainer = Trainer(noisy.training_condition, make_decoder(), make_corpus(), sentences(40), np.arange(train_rows),
                      np.arange(30, 30 + heldout_rows), RECIPE, 0)
    assert told in user_error(lambda: trainer.train(noisy.phases(trainer), tmp_path, "train"))


def test_captions_start_and_end_and_long_ones_are_cut_and_counted(make_decoder):
    rows, cut = encode_captions(make_decoder(), ["w2 w3", "w4 w5 w6", "w7 w8 w9 w10", ""], 3)
    assert rows == [[0, 2, 3, 1], [0, 4, 5, 6, 1], [0, 7, 8, 9, 1], [0, 1]]
    assert cut == 1
    assert pad(rows)[0].tolist() == [0, 2, 3, 1, IGNORE]


def test_an_epoch_visits_each_caption_once_in_batches_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(5, 30, 1000)
    batches = epoch_batches(np.arange(1000), lengths, 16, seed=3, epoch=1)
    seen = np.concatenate(batches)
    assert len(batches) == 62
    assert len(set(seen.tolist())) == len(seen) == 62 * 16
    spread = np.mean([np.ptp(lengths[rows]) for rows in batches])
    assert spread < 0.3 * np.ptp(lengths)
    firsts = [lengths[rows].mean() for rows in batches]
    assert firsts != sorted(firsts), "short captions must not all come first"
    assert not all((a == b).all() for a, b in zip(batches, epoch_batches(np.arange(1000), lengths, 16, seed=3, epoch=2), strict=True))


@pytest.fixture(scope="module")
def project(tmp_path_factory, tiny_clip_folder, tiny_clip) -> Path:
    """A project in which one system is trained."""
    folder = tmp_path_factory.mktemp("training")
    make_project(folder, tiny_clip_folder, tiny_clip)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make("decap")
    return folder


@pytest.fixture
def inside(project, tmp_path, monkeypatch) -> None:
    """A copy of the project as the current folder, to change."""
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")


def make(name: str, changes: dict[str, Any] | None = None) -> None:
    """What the stage of a system does."""
    train_system(name, find_system(name, params(changes)), params(changes), CPU)


def weights_of(name: str) -> dict[str, torch.Tensor]:
    folder = paths.model(name)
    return {f"{file.name} {key}": value for file in sorted(folder.rglob("*.safetensors")) for key, value in load_file(file).items()}


def test_a_model_tells_what_it_was_trained_on_and_how_it_went(inside):
    card, curve = read_json(paths.model("decap") / "system.json"), read_json(paths.curve("decap"))
    assert (card["name"], card["method"], card["seed"], card["recipe_params"]["steps"]) == ("decap", "decap", 0, 6)
    assert {"caption", "looks_at", "looks_up", "suite"} & card.keys() == set()
    assert [entry["step"] for entry in curve] == [2, 4, 6]
    assert card["best_step"] == min(curve, key=lambda entry: entry["heldout_loss"])["step"]


def test_the_same_system_trained_twice_has_the_same_bytes(inside):
    before = digest_tree(paths.model("decap")), paths.curve("decap").read_bytes()
    shutil.rmtree(paths.model("decap"))
    shutil.rmtree(paths.WORK)
    make("decap")
    assert (digest_tree(paths.model("decap")), paths.curve("decap").read_bytes()) == before


def test_a_system_that_is_not_trained_adopts_the_model_it_starts_from_under_its_own_card(inside):
    make("raw")
    assert equal(weights_of("raw"), weights_of("decap"))
    card, start = (read_json(paths.model(name) / "system.json") for name in ("raw", "decap"))
    assert (card["name"], card["method"], card["starts_from"], card["recipe"]) == ("raw", "raw", "models/decap", "none")
    assert {key: card[key] for key in ("models", "corpus_digest", "parameters")} == {
        key: start[key] for key in ("models", "corpus_digest", "parameters")}
    assert read_json(paths.curve("raw")) == []
    caption_settings("raw", find_system("raw", params()), params(), CPU)
    assert len(read_json(paths.captions_file("raw", "in-domain"))) == 8


def test_a_method_that_is_trained_may_adopt_a_model_too(inside):
    changes = {"systems.warmer": {**params()["systems"]["decap"], "starts_from": "models/decap", "recipe": "none",
                                  "caption": {"temperature": 1.0}}}
    make("warmer", changes)
    assert equal(weights_of("warmer"), weights_of("decap"))
    assert read_json(paths.model("warmer") / "system.json")["method"] == "decap"


def test_what_is_adopted_follows_what_it_was_adopted_from(inside):
    make("raw")
    before = weights_of("raw")
    make("decap", {"systems.decap.seed": 1})
    make("raw")
    assert equal(weights_of("raw"), weights_of("decap"))
    assert not equal(weights_of("raw"), before)


def test_a_method_without_a_decoder_has_a_card_and_no_weights(inside):
    make("clipre")
    assert [file.name for file in paths.model("clipre").iterdir() if file.name != MANIFEST] == ["system.json"]
    system = find_system("clipre", params())
    assert not make_method("clipre", system).has_decoder
    caption_settings("clipre", system, params(), CPU)
    assert len(read_json(paths.captions_file("clipre", "in-domain"))) == 8
    assert read_json(paths.curve("clipre")) == []


def test_a_model_of_another_clip_is_not_adopted(inside, user_error):
    file = paths.model("decap") / "system.json"
    edit_json(file, clip="other")
    assert "system raw has clip tiny, data/models/decap was trained with other" in user_error(make, "raw")
    assert not paths.model("raw").exists()


@pytest.mark.parametrize("recipe", ["none", "small"])
def test_a_start_that_is_missing_is_named(inside, user_error, recipe):
    message = user_error(make, "decap", {"systems.decap.starts_from": "models/deca", "systems.decap.recipe": recipe})
    assert "data/models/deca, which system decap starts from, is missing" in message


def test_a_system_of_no_steps_that_starts_from_no_model_is_told_so(inside, user_error):
    message = user_error(make, "decap", {"systems.decap.recipe": "none"})
    assert "0 steps" in message
    assert "starts_from" in message


def test_a_system_that_is_trained_further_begins_with_the_weights_it_starts_from(inside):
    changes = {"systems.further": {**params()["systems"]["decap"], "starts_from": "models/decap", "recipe": "still"},
               "recipes.still": {"steps": 1, "batch": 4, "learning_rate": 1e-12, "warmup": 0}}
    make("further", changes)
    start, end = weights_of("decap"), weights_of("further")
    assert start.keys() == end.keys()
    for key, value in start.items():
        torch.testing.assert_close(end[key], value, atol=1e-6, rtol=0)


def test_a_curve_is_what_dvc_plots(inside):
    assert all(entry.keys() >= {"step", "heldout_loss", "train_loss", "phase"} for entry in read_json(paths.curve("decap")))


KEEPING = {"recipes.small": {"steps": 6, "batch": 4, "evaluate_every": 2, "snapshot_every": 2, "keep_steps": True}}


def weights_below(folder: Path) -> dict[str, torch.Tensor]:
    """Of one decoder, without those of steps that lie below it."""
    files = [file for file in folder.rglob("*.safetensors") if "steps" not in file.relative_to(folder).parts]
    return {f"{file.name} {key}": value for file in files for key, value in load_file(file).items()}


def test_a_recipe_may_keep_the_weights_of_every_look_and_the_model_is_the_same(inside):
    plain = weights_of("decap")
    make("decap", KEEPING)
    folder = paths.model("decap")
    assert sorted(int(path.name) for path in (folder / "steps").iterdir()) == [0, 2, 4, 6]
    assert all(torch.equal(value, plain[key]) for key, value in weights_below(folder).items())
    best = read_json(folder / "system.json")["best_step"]
    steps = {step: weights_below(paths.model_of_step(folder, step)) for step in (0, 2, 4, 6)}
    assert all(torch.equal(value, steps[best][key]) for key, value in weights_below(folder).items())
    assert not all(torch.equal(value, steps[2][key]) for key, value in steps[4].items())


@pytest.mark.parametrize("call", [1, 4, 5])
def test_kept_weights_are_the_same_after_a_kill(inside, call):
    make("decap", KEEPING)
    whole = digest_tree(paths.model("decap"))
    shutil.rmtree(paths.model("decap"))
    shutil.rmtree(paths.WORK)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, call)
        with pytest.raises(Interrupted):
            make("decap", KEEPING)
    make("decap", KEEPING)
    assert digest_tree(paths.model("decap")) == whole
