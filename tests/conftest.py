"""What several tests need: a tiny CLIP, a small corpus with its neighbours, and a language model of a dozen words."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from filelock import FileLock
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

from pipeline.core.errors import UserError
from pipeline.features.encoders import Clip, ClipParams
from pipeline.features.retrieval import Index, nearest_others
from pipeline.foundation.contrastive import Recipe, write_untrained
from pipeline.language.decoders import Decoder
from pipeline.methods.base import VectorMapper
from pipeline.needs.base import Inputs
from pipeline.needs.text import Neighbours, Sentences, Text
from tests.project import Project

torch.set_num_threads(1)  # models this small lose by threads, and sums keep their order


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker makes the finished project while the others try what needs none."""
    needing = [item for item in items if "finished" in getattr(item, "fixturenames", ())]
    known = set(needing)
    items[:] = [*needing[:1], *(item for item in items if item not in known), *needing[1:]]


CAPTIONS = [
    "a red car on the street", "two dogs on the sand", "a large brown horse in a field", "the moon over the snow",
    "a woman with an umbrella", "a cup of tea and a piece of cake on a table", "there is a boat on the sea", "birds",
]


@pytest.fixture
def captions() -> list[str]:
    return list(CAPTIONS)


@pytest.fixture(scope="session")
def tiny_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained CLIP in open_clip's own layout: width 8, context of 20 tokens. Copy it before you damage it."""
    folder = tmp_path_factory.mktemp("foundation") / "tiny"
    folder.mkdir()
    recipe = Recipe(
        name="tiny", vision_cfg={"image_size": 64, "patch_size": 16, "width": 16, "layers": 1, "head_width": 8},
        text_cfg={"context_length": 20, "width": 16, "heads": 2, "layers": 1}, embed_dim=8, seed=0, merges=40,
    )
    write_untrained(folder, recipe, CAPTIONS * 3)
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def tiny_clip(tiny_clip_folder: Path) -> Clip:
    return Clip(tiny_clip_folder, ClipParams(batch=3), torch.device("cpu"))


def _unit_rows(rows: int, width: int, seed: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(size=(rows, width))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def unit_rows() -> Callable[[int, int, int], NDArray[np.float32]]:
    """unit_rows(rows, width, seed): random rows of length 1."""
    return _unit_rows


@pytest.fixture
def make_corpus() -> Callable[..., Inputs]:
    """make_corpus(rows, width, neighbours): a corpus of random features with its real neighbours."""

    def make(rows: int = 40, width: int = 8, neighbours: int = 6, seed: int = 0) -> Inputs:
        features = _unit_rows(rows, width, seed).astype(np.float16)
        norms = torch.from_numpy(np.random.default_rng(seed + 1).uniform(5, 15, rows).astype(np.float32))
        near = nearest_others(Index(torch.from_numpy(features)), features, range(rows), neighbours)[1].astype(np.int32)
        sentences = Sentences("scenes", [f"caption {row}" for row in range(rows)], torch.from_numpy(features), norms)
        return Inputs({Text: sentences, Neighbours: torch.from_numpy(near)})

    return make


class WordTokens:
    """A vocabulary of ten words, w2 to w11; 0 starts a caption, 1 ends it."""

    start, end, size = 0, 1, 12

    def encode(self, text: str) -> list[int]:
        return [int(word[1:]) for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(f"w{i}" for i in ids)

    def save(self, folder: Path) -> None:
        raise NotImplementedError


@pytest.fixture
def make_decoder() -> Callable[..., Decoder]:
    """make_decoder(clip_width, mapper, seed): a decoder over `WordTokens`, with weights so large that captions differ and end."""

    def make(clip_width: int = 8, mapper: str = "mlp", seed: int = 0, spread: float = 0.6, dropout: float = 0.0) -> Decoder:
        torch.manual_seed(seed)
        config = GPT2Config(vocab_size=12, n_positions=64, n_embd=16, n_layer=1, n_head=2, initializer_range=spread, bos_token_id=0,
                            eos_token_id=1, resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout)
        return Decoder(GPT2LMHeadModel(config), WordTokens(), VectorMapper(clip_width, 16, mapper)).eval()

    return make


@pytest.fixture
def user_error() -> Callable[..., str]:
    """user_error(function, *args): the message of the `UserError` that the call must raise; it must be one line."""

    def message(function: Callable[..., object], *args: object, **options: object) -> str:
        with pytest.raises(UserError) as caught:
            function(*args, **options)
        text = str(caught.value)
        assert text.strip()
        assert "\n" not in text
        return text

    return message


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was asked of the network, which answers nothing."""
    calls: list[object] = []

    def refuse(*address: object, **options: object) -> None:
        calls.append(address)
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return calls


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Project:
    """A project whose whole pipeline has run once, from nothing, without dvc.lock. All workers share it: copy it before you change it."""
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "finished"
    with FileLock(f"{shared}.lock"):
        if shared.exists():
            return Project(shared)
        project = Project.create(tmp_path_factory.mktemp("finished") / "project")
        ran = project.stages_run(project.run("dvc", "repro").stdout)
        assert ran == set(project.run("dvc", "stage", "list", "--name-only").stdout.split())
        project.commit("results")
        project.folder.rename(shared)
        return Project(shared)
