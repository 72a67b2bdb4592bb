"""`unpaired model add`: models of others, brought from files; nothing here asks a network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.core.files import digest_file, read_json
from pipeline.features.encoders import Clip, ClipParams, load_clip
from pipeline.foundation import add
from pipeline.foundation.add import Origin, add_clip, add_detector, add_diffusion, add_lm
from tests.project import ROOT, Project

CPU = torch.device("cpu")
TINY = {"embed_dim": 8, "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 16, "layers": 1, "head_width": 8},
        "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[object]) -> Path:
    """An empty current folder without a network, where open_clip knows a tiny architecture as ViT-B-32, with its published weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: json.loads(json.dumps(TINY)) if name == "ViT-B-32" else None)
    torch.manual_seed(0)
    Path("config").mkdir()
    Path("config/open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}))
    save_file(open_clip.create_model("local-dir:config", load_weights=False).state_dict(), "weights.safetensors")
    return tmp_path


def folder_of(name: str, quick_gelu: bool | None = None, **preprocess: object) -> Path:
    """A CLIP's folder as others publish it."""
    folder = Path(name)
    folder.mkdir()
    shutil.copyfile("weights.safetensors", folder / "open_clip_model.safetensors")
    model = TINY if quick_gelu is None else {**TINY, "quick_gelu": quick_gelu}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": preprocess}))
    (folder / "README.md").write_text("---\nlicense: mit\ntags: [clip]\n---\n# A CLIP\n")
    return folder


@pytest.mark.parametrize(("pretrained", "quick_gelu"), [("openai", True), ("laion2b_s34b_b79k", False)])
def test_weights_alone_get_the_activation_and_the_preprocessing_that_they_were_trained_with(here: Path, pretrained: str,
                                                                                            quick_gelu: bool) -> None:
    lines = add_clip("vit-b-32", "ViT-B-32", pretrained, Path("weights.safetensors"))
    assert lines == "clips:\n  vit-b-32: {batch: 64}"
    folder = Path("data/foundation/vit-b-32")
    config = read_json(folder / "open_clip_config.json")
    tag = open_clip.get_pretrained_cfg("ViT-B-32", pretrained)
    assert config["model_cfg"]["quick_gelu"] is quick_gelu is bool(tag.get("quick_gelu"))
    assert config["preprocess_cfg"]["mean"] == list(tag["mean"])
    assert config["preprocess_cfg"]["size"] == 32
    about = read_json(folder / "provenance.json")
    assert about["weights_sha256"] == {"open_clip_model.safetensors": digest_file(Path("weights.safetensors"))}
    assert (about["architecture"], about["pretrained"], about["licence"]) == ("ViT-B-32", pretrained, None)
    clip = load_clip("vit-b-32", {"clips": {"vit-b-32": {}}}, CPU)
    named = type(clip.model.transformer.resblocks[0].mlp.gelu).__name__
    assert named == ("QuickGELU" if quick_gelu else "GELU")


def test_a_folder_of_open_clips_layout_is_taken_as_it_is_with_the_licence_of_its_card(here: Path) -> None:
    add_clip("mine", None, None, folder_of("published", mean=[0.1, 0.2, 0.3]))
    assert read_json(Path("data/foundation/mine/provenance.json"))["licence"] == "mit"
    assert read_json(Path("data/foundation/mine/open_clip_config.json"))["preprocess_cfg"]["mean"] == [0.1, 0.2, 0.3]
    assert Clip(Path("data/foundation/mine"), ClipParams(), CPU).width == 8


def test_a_folder_with_another_activation_or_preprocessing_than_its_weights_is_refused(here: Path, user_error) -> None:
    wrong = folder_of("wrong", quick_gelu=False)
    assert "quick_gelu False, and (ViT-B-32, openai) was trained with True" in user_error(add_clip, "vit", "ViT-B-32", "openai", wrong)
    other = folder_of("other", quick_gelu=True, mean=[0.5, 0.5, 0.5])
    assert "mean [0.5, 0.5, 0.5]" in user_error(add_clip, "vit", "ViT-B-32", "openai", other)
    add_clip("vit", "ViT-B-32", "openai", folder_of("right", quick_gelu=True))


@pytest.mark.parametrize(("architecture", "told"), [
    ("ViT-B-16-SigLIP", "reads text as SigLIP does"), ("coca_ViT-B-32", "is a CoCa"),
    ("roberta-ViT-B-32", "reads text by a tower or tokenizer of Hugging Face"),
])
def test_a_clip_whose_text_would_be_read_wrongly_is_refused_by_name_before_anything_is_fetched(
        here: Path, user_error, asked: list[object], monkeypatch: pytest.MonkeyPatch, architecture: str, told: str) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(here)
    tag = open_clip.list_pretrained_tags_by_model(architecture)[0]
    monkeypatch.setattr(open_clip, "download_pretrained", lambda *_: pytest.fail("weights were fetched"))
    assert f"{architecture} {told}" in user_error(add_clip, "vit", architecture, tag, None)
    assert not Path("data").exists()


def test_a_text_tower_that_reads_behind_the_end_token_is_refused_where_its_configuration_does_not_tell(
        here: Path, user_error, monkeypatch: pytest.MonkeyPatch) -> None:
    def all_to_all(clip: Clip, tokens: torch.Tensor) -> object:
        clip.model.attn_mask = torch.zeros_like(clip.model.attn_mask)
        return original(clip, tokens)

    original = Clip.encode_tokens
    monkeypatch.setattr(Clip, "encode_tokens", all_to_all)
    assert "behind a text's end token" in user_error(add_clip, "vit", "ViT-B-32", "openai", Path("weights.safetensors"))
    assert not Path("data/foundation/vit").exists()


@pytest.mark.parametrize(("arguments", "told"), [
    (("vit", "ViT-B-33", "openai", None), "did you mean 'ViT-B-32'"),
    (("vit", "ViT-B-32", "openay", None), "did you mean 'openai'"),
    (("vit", "ViT-B-32", None, None), "--architecture and --pretrained go together"),
    (("vit", None, None, None), "does not say which CLIP it is"),
    (("vit", None, None, Path("weights.safetensors")), "does not say which CLIP it is"),
    (("vit", "ViT-B-32", "openai", Path("nowhere")), "nowhere: no such file or folder"),
    (("vit", "ViT-B-32", "openai", Path("pickle.pt")), "no single file of weights in safetensors"),
    (("vit", "ViT-B-32", "openai", Path("other.safetensors")), "holds no CLIP that can be loaded"),
    (("../vit", "ViT-B-32", "openai", Path("weights.safetensors")), "cannot be a name"),
])
def test_a_wrong_argument_is_one_line_and_leaves_nothing(here: Path, user_error, arguments: tuple, told: str) -> None:
    Path("pickle.pt").write_bytes(b"x")
    weights = load_file("weights.safetensors")
    save_file({key: value for key, value in weights.items() if "visual" in key}, "other.safetensors")
    assert told in user_error(add_clip, *arguments)
    assert not Path("data/foundation/vit").exists()
    assert not list(Path(".").rglob("*.safetensors.partial"))


def test_a_model_that_is_there_is_not_written_over(here: Path, user_error) -> None:
    Path("data/foundation/vit").mkdir(parents=True)
    assert "is there" in user_error(add_clip, "vit", "ViT-B-32", "openai", Path("weights.safetensors"))
    assert not list(Path("data/foundation/vit").iterdir())


def test_weights_that_are_fetched_say_where_they_are_from(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_clip, "download_pretrained", lambda tag: "weights.safetensors")
    monkeypatch.setattr(add, "_licence", lambda card: card.name)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repository, file: f"{repository}/mit")
    add_clip("vit", "ViT-B-32", "openai", None)
    about = read_json(Path("data/foundation/vit/provenance.json"))
    assert (about["source"], about["licence"]) == ("timm/vit_base_patch32_clip_224.openai on the hub of Hugging Face", "mit")


@pytest.mark.parametrize(("kind", "add_it", "shipped", "line"), [
    ("lm", add_lm, "lm", "pretrained: data/foundation/mine"), ("detector", add_detector, "detector", "mine: {threshold: 0.9}"),
    ("diffusion", add_diffusion, "diffusion", "generator: mine"),
])
def test_other_models_come_from_folders_of_their_libraries(here: Path, kind: str, add_it, shipped: str, line: str) -> None:
    shutil.copytree(ROOT / "data/foundation" / shipped, "theirs")
    for own in ("theirs/unpaired-manifest.json", "theirs/provenance.json"):
        Path(own).unlink()
    assert line in add_it("mine", Origin(files=Path("theirs")))
    about = read_json(Path("data/foundation/mine/provenance.json"))
    assert about["command"] == f"unpaired model add {kind}"
    assert about["weights_sha256"]
    assert Path("data/foundation/mine/unpaired-manifest.json").is_file()


def test_a_folder_that_holds_no_such_model_is_one_line(here: Path, user_error) -> None:
    for add_it in (add_lm, add_detector, add_diffusion):
        assert "that can be loaded" in user_error(add_it, "mine", Origin(files=Path("config")))
    assert not Path("data/foundation/mine").exists()
    assert "--hub" in user_error(Origin)


def test_the_command_prints_what_to_put_into_the_parameters(here: Path) -> None:
    folder_of("published")
    project = Project(here)
    ran = project.run_module("pipeline.cli", "model", "add", "clip", "mine", "--from", "published")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith("clips:\n  mine: {batch: 64}\n")
    again = project.run_module("pipeline.cli", "model", "add", "clip", "mine", "--from", "published")
    assert again.returncode == 1
    assert again.stderr.startswith("error: data/foundation/mine is there")
