"""SynTIC's refinement of pseudo-features against naive twins, and its work after a kill."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.core import paths
from pipeline.core.files import digest_tree
from pipeline.core.params import check
from pipeline.features.stores import read
from pipeline.synthetic import refinement
from pipeline.synthetic.refinement import (
    ProjectionParams,
    RefinementParams,
    contrastive_loss,
    drawn_captions,
    optimise,
    project_pairs,
    refine_pairs,
)
from tests.artefacts import pair_store, write_corpus, write_pair_store, write_pairs, write_texts

CPU = torch.device("cpu")
PARAMS = RefinementParams(temperature=0.1, learning_rate=0.01, steps=7, batch=4, seed=3, evaluate_every=3, snapshot_every=2)
PAIRS = 11
ROWS = [0, 2, 3, 5, 8, 9, 13]
REFINED = paths.refined("tiny", paths.drawn("scenes"))


class Killed(BaseException):
    """Stands for a kill: no code of ours may catch it."""


@pytest.fixture(autouse=True)
def _in_a_fresh_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pseudo(unit_rows) -> Tensor:
    return torch.from_numpy(unit_rows(PAIRS, 8, 1))


@pytest.fixture
def texts(unit_rows) -> Tensor:
    return torch.from_numpy(unit_rows(PAIRS, 8, 2))


def run(pseudo: Tensor, texts: Tensor, params: RefinementParams = PARAMS, name: str = "snapshot") -> tuple[Tensor, list[dict[str, float]]]:
    return optimise(pseudo, texts, params, Path(f"{name}.pt"))


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int | None) -> list[int]:
    """Dies in the loss of `step`, counted from the start of this run; the list counts the losses computed."""
    real, calls = refinement.contrastive_loss, []

    def loss(*args: Tensor) -> Tensor:
        if len(calls) == step:
            raise Killed
        calls.append(1)
        return real(*args)

    monkeypatch.setattr(refinement, "contrastive_loss", loss)
    return calls


def naive_loss(pseudo: Tensor, texts: Tensor, temperature: float) -> float:
    """Eq. 1-2, a number at a time: the mean over pictures of minus log of the own caption's share."""
    total = 0.0
    for i in range(len(pseudo)):
        shares = []
        for j in range(len(texts)):
            cosine = sum((pseudo[i] * texts[j]).tolist()) / math.sqrt(sum((pseudo[i] ** 2).tolist()) * sum((texts[j] ** 2).tolist()))
            shares.append(math.exp(cosine / temperature))
        total -= math.log(shares[i] / sum(shares))
    return total / len(pseudo)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_the_loss_equals_equation_2_written_as_a_double_loop_whatever_the_rows_lengths(pseudo, texts, temperature):
    scale = torch.linspace(0.5, 3, PAIRS)[:, None]
    # a float32 cosine's rounding, enlarged by the temperature
    assert contrastive_loss(pseudo * scale, texts, temperature).item() == pytest.approx(
        naive_loss((pseudo * scale).double(), texts.double(), temperature), abs=1e-6 / temperature + 1e-6)


def test_the_loss_looks_for_the_caption_of_a_picture_not_for_the_picture_of_a_caption(pseudo, texts):
    assert contrastive_loss(pseudo, texts, 0.1) != pytest.approx(contrastive_loss(texts, pseudo, 0.1).item(), abs=1e-3)


def test_every_pseudo_feature_comes_nearer_to_its_own_caption(pseudo, texts):
    refined, curve = run(pseudo, texts, replace(PARAMS, steps=40, batch=PAIRS))
    before, after = (torch.nn.functional.cosine_similarity(rows, texts) for rows in (pseudo, refined))
    assert (after > before + 0.05).all()
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert contrastive_loss(refined, texts, 0.1) < contrastive_loss(pseudo, texts, 0.1)


def test_the_features_given_are_left_alone(pseudo, texts):
    given = pseudo.clone()
    refined, _ = run(pseudo, texts)
    assert torch.equal(pseudo, given)
    assert not torch.equal(refined, given)


def batch_of(step: int, params: RefinementParams = PARAMS) -> set[int]:
    """An epoch of eleven rows holds two batches of four; three rows are left for another."""
    order = np.random.default_rng([params.seed, step // 2]).permutation(PAIRS)
    return set(order[step % 2 * 4 :][:4].tolist())


def test_a_row_moves_only_in_the_batches_that_hold_it(pseudo, texts):
    earlier = pseudo
    for step in range(5):
        later, _ = run(pseudo, texts, replace(PARAMS, steps=step + 1), name=f"run-{step}")
        moved = {row for row in range(PAIRS) if not torch.equal(earlier[row], later[row])}
        # by its moments, a plain Adam would go on moving the rows of earlier batches
        assert moved == batch_of(step)
        earlier = later


def test_the_curve_tells_the_mean_loss_and_how_near_the_features_are_to_captions_and_to_where_they_were(pseudo, texts):
    refined, curve = run(pseudo, texts)
    assert [entry["step"] for entry in curve] == [3, 6, 7]
    states = [pseudo] + [run(pseudo, texts, replace(PARAMS, steps=step), name=f"run-{step}")[0] for step in range(1, 7)]
    losses = [naive_loss(state[sorted(batch_of(step))].double(), texts[sorted(batch_of(step))].double(), 0.1)
              for step, state in enumerate(states)]
    assert [entry["loss"] for entry in curve] == pytest.approx([sum(losses[:3]) / 3, sum(losses[3:6]) / 3, losses[6]], abs=2e-5)
    for name, others in (("caption_similarity", texts), ("similarity_to_start", pseudo)):
        assert curve[-1][name] == pytest.approx(torch.nn.functional.cosine_similarity(refined, others).mean().item(), abs=1e-5)
    assert curve[0]["similarity_to_start"] > curve[-1]["similarity_to_start"]


@pytest.mark.parametrize("step", [0, 2, 4, 6])
def test_an_interrupted_refinement_ends_in_the_very_features_of_an_uninterrupted_one(pseudo, texts, monkeypatch, step):
    expected, expected_curve = run(pseudo, texts, name="whole")
    with monkeypatch.context() as patch:
        kill_at(patch, step)
        with pytest.raises(Killed):
            run(pseudo, texts)
    calls = kill_at(monkeypatch, None)
    refined, curve = run(pseudo, texts)
    assert len(calls) == 7 - step // 2 * 2  # a snapshot every two steps, an entry of the curve every three
    assert torch.equal(refined, expected)
    assert curve == expected_curve


def test_no_steps_leave_the_features_as_they_are(pseudo, texts):
    refined, curve = run(pseudo, texts, replace(PARAMS, steps=0))
    assert torch.equal(refined, pseudo)
    assert curve == []


def test_fewer_pairs_than_a_batch_are_one_batch(pseudo, texts):
    refined, _ = run(pseudo, texts, replace(PARAMS, batch=512, steps=1))
    assert not (refined == pseudo).all(dim=1).any()


@pytest.mark.parametrize("changes", [{"temperature": 0.0}, {"learning_rate": 0.0}, {"steps": -1}, {"batch": 0}, {"snapshot_every": 0},
                                     {"evaluate_every": 0}])
def test_values_out_of_range_are_refused(user_error, changes):
    assert next(iter(changes)) in user_error(check, RefinementParams, changes, "refinement")


@pytest.fixture
def corpus(unit_rows) -> np.ndarray:
    """Fourteen captions with text features, pictures of seven of them; the text features."""
    features = unit_rows(14, 8, 4)
    write_corpus("scenes", [f"caption {row}" for row in range(14)])
    write_texts("scenes", features)
    write_pairs("scenes", ROWS, unit_rows(7, 8, 5))
    return features


def test_each_pseudo_feature_is_refined_towards_its_own_caption_and_stored_as_a_unit_row(corpus):
    refine_pairs("tiny", "scenes", PARAMS, CPU)
    store = read(pair_store("scenes", "optimised"))
    source = read(pair_store("scenes", "drawn"))
    expected, curve = run(torch.from_numpy(source.features).float(), torch.from_numpy(corpus[ROWS].astype(np.float16)).float())
    np.testing.assert_allclose(store.features, expected / expected.norm(dim=1, keepdim=True), atol=2**-11)
    assert np.abs(store.features - source.features).max() > 0.01
    assert store.origin == source.origin
    assert json.loads((REFINED / "curve.json").read_text()) == curve


def test_a_killed_refinement_goes_on_and_ends_in_the_same_bytes(corpus, monkeypatch):
    refine_pairs("tiny", "scenes", PARAMS, CPU)
    whole = digest_tree(REFINED)
    REFINED.rename("aside")
    shutil.rmtree(paths.WORK)
    with monkeypatch.context() as patch:
        kill_at(patch, 4)
        with pytest.raises(Killed):
            refine_pairs("tiny", "scenes", PARAMS, CPU)
    assert not REFINED.exists()
    calls = kill_at(monkeypatch, None)
    refine_pairs("tiny", "scenes", PARAMS, CPU)
    assert len(calls) == 3
    assert digest_tree(REFINED) == whole


def test_refining_with_text_features_of_another_clip_is_refused(corpus, user_error):
    write_texts("scenes", corpus, clip_digest="e" * 64)
    assert "another CLIP" in user_error(refine_pairs, "tiny", "scenes", PARAMS, CPU)


def test_refining_with_text_features_of_another_corpus_is_refused(corpus, user_error):
    write_corpus("scenes", [f"another caption {row}" for row in range(14)])
    assert "another table" in user_error(refine_pairs, "tiny", "scenes", PARAMS, CPU)


def test_refining_pairs_of_another_corpus_is_refused(corpus, user_error):
    write_corpus("scenes", [f"another caption {row}" for row in range(14)])
    write_texts("scenes", corpus)
    assert "another corpus" in user_error(refine_pairs, "tiny", "scenes", PARAMS, CPU)


def test_pictures_drawn_before_captions_were_taken_out_of_the_corpus_are_refused(corpus, user_error):
    write_corpus("scenes", [f"caption {row}" for row in range(8)])
    assert "another corpus" in user_error(drawn_captions, "scenes")


def test_each_drawn_picture_is_of_the_row_whose_caption_names_it(corpus):
    assert drawn_captions("scenes") == ROWS


def naive_projection(pseudo: Tensor, support: Tensor, temperature: float) -> Tensor:
    """Eq. 3, a caption at a time, then unit length."""
    total, mass = torch.zeros(support.shape[1], dtype=torch.float64), 0.0
    for caption in support.double():
        weight = math.exp(float(pseudo.double() @ caption) / temperature)
        total, mass = total + weight * caption, mass + weight
    return (total / mass) / (total / mass).norm()


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_projected_features_equal_a_softmax_sum_over_all_captions_of_the_corpus(corpus, unit_rows, temperature):
    write_pair_store("scenes", "optimised", unit_rows(7, 8, 6))
    params = check(ProjectionParams, {"temperature": {"scenes": temperature, "album": 9.0}}, "projection")
    project_pairs("tiny", "scenes", params, CPU)
    support = torch.from_numpy(read(paths.text_features("tiny", "scenes")).features)
    for names in (("drawn", "projected"), ("optimised", "both")):
        given, found = (read(pair_store("scenes", name)) for name in names)
        assert found.origin == given.origin
        for row in range(7):
            expected = naive_projection(torch.from_numpy(given.features[row]), support, temperature)
            # half precision rounds each number below 1 by at most 2 ** -12, beside the roundings of float32
            np.testing.assert_allclose(found.features[row], expected, atol=2**-12 * 1.1)


def test_projection_asks_for_a_temperature_of_the_corpus(corpus, unit_rows, user_error):
    write_pair_store("scenes", "optimised", unit_rows(7, 8, 6))
    for temperature in ({}, {"album": 0.01}):
        message = user_error(project_pairs, "tiny", "scenes", ProjectionParams(temperature), CPU)
        assert "projection.temperature needs a value above 0 for scenes" in message


@pytest.mark.parametrize("name", ["drawn", "optimised"])
def test_projecting_features_of_another_clip_is_refused(corpus, unit_rows, user_error, name):
    write_pair_store("scenes", "optimised", unit_rows(7, 8, 6))
    write_pair_store("scenes", name, unit_rows(7, 8, 6), clip_digest="e" * 64)
    assert "another CLIP" in user_error(project_pairs, "tiny", "scenes", ProjectionParams({"scenes": 0.1}), CPU)
