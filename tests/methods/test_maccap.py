"""MacCap: its adaptor and noise against naive twins, and what captions follow from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.captioning import Captioner, caption_settings
from pipeline.core import paths
from pipeline.core.files import read_json
from pipeline.features.encoders import Clip
from pipeline.features.regions import RegionParams, embed_regions
from pipeline.features.stores import unit
from pipeline.language.condition import Condition
from pipeline.language.decoding import Decoding
from pipeline.methods.maccap import Adaptor, MacCap, MacCapCaptionParams, MacCapParams, noise
from pipeline.needs.base import Inputs, read
from pipeline.needs.images import Images
from pipeline.needs.regions import Parts, Regions
from pipeline.needs.text import Text
from pipeline.needs.text_tower import TextTower, Tower
from pipeline.photographs import caption_files
from pipeline.report.explained import explained_page
from pipeline.systems import find_system
from pipeline.training import train_system
from tests.artefacts import CLIP
from tests.tiny_systems import CPU, TEXT_ONLY, make_project, params, write_params

TRAIN = {"rows": 3, "queries": 5, "heads": 2, "feedforward": 16}
SYSTEM = {**TEXT_ONLY, "method": "maccap", "looks_at": f"{CLIP}/regions", "train": {**TRAIN, "dropout": 0.0},
          "caption": {"candidates": 3, "noise_variance": 20.0}}  # the project's pictures are alike: only so are captions not
ALL = params({"regions": {"count": 4, "weights": "raw"}, "systems.maccap": SYSTEM,
              "recipes.small.steps": 400, "recipes.small.learning_rate": 0.005, "recipes.small.evaluate_every": 100})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_clip_folder: Path, tiny_clip: Clip) -> Path:
    """A project in which MacCap is trained."""
    folder = tmp_path_factory.mktemp("maccap")
    make_project(folder, tiny_clip_folder, tiny_clip)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_params(ALL)
        embed_regions(CLIP, tiny_clip, "scenes", RegionParams(4, "raw"))
        train_system("maccap", find_system("maccap", ALL), ALL, CPU)
    return folder


@pytest.fixture
def inside(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("UNPAIRED_DEVICE", "cpu")


def method(train: dict[str, Any] | None = None, **caption: Any) -> MacCap:
    return MacCap(MacCapParams(**TRAIN | (train or {})), MacCapCaptionParams(**caption))


def seen(count: int = 5, regions: int = 4, width: int = 8) -> Inputs:
    """Random pictures."""
    generator = torch.Generator().manual_seed(0)
    images, parts = torch.randn(count, width, generator=generator), torch.randn(count, regions, width, generator=generator)
    return Inputs({Images: normalize(images, dim=-1), Regions: Parts(normalize(parts, dim=-1), torch.arange(count) * 7)})


def test_the_adaptor_has_the_papers_size() -> None:
    adaptor = Adaptor(512, 2048, MacCapParams())  # ViT-B/32 and OPT-1.3b
    assert round(sum(p.numel() for p in adaptor.parameters()) / 1e6, 1) == 5.8
    assert adaptor(Condition.full(torch.zeros(2, 10, 512)))[0].shape == (2, 32, 2048)


def test_the_adaptor_is_one_post_norm_layer_without_positions_and_an_mlp() -> None:
    torch.manual_seed(0)
    adaptor = Adaptor(8, 6, MacCapParams(**TRAIN)).eval()
    for parameter in adaptor.parameters():  # zeros and ones as they are drawn would hide what is left out
        parameter.data += 0.2 * torch.randn_like(parameter)
    rows_ND = torch.randn(3, 8)
    layer, = adaptor.decoder.layers

    def attend(block: Any, queries_QD: Tensor, rows_ND: Tensor) -> Tensor:
        query, key, value = (part @ weight.T + bias for part, weight, bias in zip(
            (queries_QD, rows_ND, rows_ND), block.in_proj_weight.chunk(3), block.in_proj_bias.chunk(3), strict=True))
        heads = [(query[:, at] @ key[:, at].T / 4**0.5).softmax(1) @ value[:, at] for at in (slice(0, 4), slice(4, 8))]
        return block.out_proj(torch.cat(heads, dim=1))

    x_QD = adaptor.queries
    x_QD = layer.norm1(x_QD + attend(layer.self_attn, x_QD, x_QD))
    x_QD = layer.norm2(x_QD + attend(layer.multihead_attn, x_QD, rows_ND))
    x_QD = adaptor.decoder.norm(layer.norm3(x_QD + layer.linear2(layer.linear1(x_QD).relu())))
    prefix, mask = adaptor(Condition.full(rows_ND[None]))
    torch.testing.assert_close(prefix[0], adaptor.mlp(x_QD), atol=1e-5, rtol=0)
    assert mask.all()
    torch.testing.assert_close(adaptor(Condition.full(rows_ND[None].flip(1)))[0], prefix, atol=1e-5, rtol=0)


def test_training_sees_the_caption_in_rows_of_unlike_noise(make_corpus) -> None:
    corpus, rows = make_corpus(rows=2000), torch.arange(2000)
    condition = method({"noise_variance": 0.05}).training_condition(corpus, rows, torch.Generator().manual_seed(1))
    assert condition.vectors.shape == (2000, 3, 8)
    drawn = torch.randn(2000, 3, 8, generator=torch.Generator().manual_seed(1)) * 0.05**0.5
    expected = normalize(corpus.of(Text).features.float()[:, None] + drawn, dim=-1)
    torch.testing.assert_close(condition.vectors, expected)
    assert abs(float(drawn.var()) - 0.05) < 1e-3


def test_inference_adds_to_the_image_each_of_its_regions_and_noise_of_its_own() -> None:
    pictures = seen()
    found = method(noise_variance=0.05, region_weight=0.5).draw(pictures, 2).vectors
    for picture in range(5):
        seed = int(pictures.of(Regions).seeds[picture])
        noises = torch.randn(4, 8, generator=torch.Generator().manual_seed(seed + 2 * 1_000_003))
        for region in range(4):
            mixed = pictures.of(Images)[picture] + 0.5 * pictures.of(Regions).features[picture, region] + 0.05**0.5 * noises[region]
            torch.testing.assert_close(found[picture, region], mixed / mixed.norm(), atol=1e-5, rtol=0)


def test_the_noise_of_a_picture_depends_on_draw_and_pixels_and_not_on_what_is_beside_it() -> None:
    pictures, of = seen(), method()
    alone = torch.cat([of.draw(pictures[[row]], 1).vectors for row in range(5)])
    torch.testing.assert_close(of.draw(pictures, 1).vectors, alone, atol=1e-6, rtol=0)
    assert not torch.equal(of.draw(pictures, 0).vectors, of.draw(pictures, 1).vectors)
    shape = torch.Size([4, 8])
    assert not torch.equal(noise(2**63 - 1, 1, shape), noise(2**63 - 1, 0, shape))


def test_without_regions_and_noise_every_row_is_the_image_feature() -> None:
    pictures = seen()
    found = method(noise_variance=0, region_weight=0, candidates=1).draw(pictures, 0).vectors
    torch.testing.assert_close(found, pictures.of(Images)[:, None].expand(-1, 4, -1), atol=1e-6, rtol=0)


def test_several_candidates_without_noise_are_refused() -> None:
    with pytest.raises(ValueError, match="noise_variance is 0"):
        MacCapCaptionParams(noise_variance=0)


def test_heads_that_do_not_divide_the_clip_say_so(user_error) -> None:
    assert "heads 3" in user_error(Adaptor, 8, 8, MacCapParams(heads=3))


class Drawn:
    """A decoder that says a sentence for each draw."""

    def __init__(self, *texts: list[str]) -> None:
        self.texts = list(texts)

    def generate(self, condition: Condition, decoding: Decoding) -> list[str]:
        return self.texts.pop(0)


def test_of_the_draws_captions_the_one_nearest_to_the_image_is_kept(tiny_clip: Clip) -> None:
    texts = [["a red dog", "a boat"], ["two cats", "a boat"], ["a red dog", "a man on a horse"]]
    pictures = Inputs({**seen(2)._values, TextTower: Tower(CLIP, tiny_clip.digest, tiny_clip)})
    found = method(candidates=3).candidates(pictures, Inputs({}), Drawn(*texts), Decoding())  # type: ignore[arg-type]
    for picture, its in enumerate((["a red dog", "two cats"], ["a boat", "a man on a horse"])):
        cosines = {text: float(unit(tiny_clip.encode_texts([text]))[0] @ pictures.of(Images)[picture].numpy()) for text in its}
        assert [each.text for each in found[picture]] == sorted(its, key=lambda text: -cosines[text])
        np.testing.assert_allclose([each.score for each in found[picture]], sorted(cosines.values(), reverse=True), atol=1e-5)


def test_one_candidate_needs_no_text_tower() -> None:
    assert not any(isinstance(need, TextTower) for need in method(candidates=1).looks_at)
    texts = method(candidates=1).candidates(seen(2), Inputs({}), Drawn(["a", "b"]), Decoding())  # type: ignore[arg-type]
    assert texts == [[("a", None)], [("b", None)]]


def test_what_is_captioned_does_not_depend_on_the_batch(inside) -> None:
    """In one batch, in batches of three, and each picture alone; and the caption is the first of its candidates."""
    caption_settings("maccap", find_system("maccap", ALL), ALL, CPU)
    said = [entry["caption"] for entry in read_json(paths.captions("maccap") / "in-domain.json")]
    captioner = Captioner("maccap", find_system("maccap", ALL), CPU)
    pictures = read(captioner.method.looks_at, CLIP, "scenes")
    decoding = Decoding(beams=2, max_new_tokens=6)
    found = [captioner.candidates(pictures[[row]], Inputs({}), decoding)[0] for row in range(8)]
    assert [each[0].text for each in found] == said
    assert any(len(each) > 1 for each in found)
    assert len(set(said)) > 1


def test_only_the_adaptor_and_what_is_tuned_is_saved(inside) -> None:
    saved = load_file(paths.model("maccap") / "mapper.safetensors")
    adaptor = Adaptor(8, 16, MacCapParams(**TRAIN))
    assert {name: value.shape for name, value in saved.items()} == {name: value.shape for name, value in adaptor.state_dict().items()}


def test_explain_shows_regions_on_the_picture_and_candidates_with_their_scores(inside, capsys) -> None:
    files = [paths.raw("scenes") / f"{number}.png" for number in range(8)]
    with explained_page(Path("page.html"), "maccap") as show:
        assert caption_files(files, "maccap", None, False, True, show)
    said, page = capsys.readouterr().out, Path("page.html").read_text()
    assert said.count("  region: ") == 8 * 4
    assert said.count("(attention 0.") == 8 * 4
    assert page.count("<rect ") == 8 * 4
    assert 'viewBox="0 0 64 64"' in page
    assert page.count("<article") == 8
    assert said.count("  candidate: ") >= 2
    assert "chosen from" in page


def test_the_same_picture_has_the_same_caption_from_the_store_and_from_the_command_line(inside, capsys) -> None:
    caption_settings("maccap", find_system("maccap", ALL), ALL, CPU)
    said = [entry["caption"] for entry in read_json(paths.captions("maccap") / "in-domain.json")]
    assert caption_files([paths.raw("scenes") / f"{number}.png" for number in range(8)], "maccap", None, False, False)
    lines = capsys.readouterr().out.splitlines()
    same = sum(line.endswith(f": {text}") for line, text in zip(lines, said, strict=True))
    assert same >= 7  # stores are rounded to half precision, which may turn one
