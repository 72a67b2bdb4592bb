"""`unpaired model add`: a published model becomes a folder of data/foundation, in its library's own layout and sealed.

This is the one place that asks a hub. Only safetensors are taken; whatever is added is loaded and tried as the pipeline will load it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ..core import paths
from ..core.errors import UserError, loading
from ..core.files import digest_file, files_below, read_object, write_json
from ..core.params import suggest
from ..core.paths import MERGES_FILE
from ..core.resume import finished_folder
from ..features.encoders import Clip, ClipParams

_CONFIG, _WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
_CPU = torch.device("cpu")
_OFFLINE = "without internet, bring its files by other means and name them with --from"


@dataclass(frozen=True)
class Origin:
    """Where a model is from. hub: a repository of Hugging Face, `owner/name`. files: a folder, or for a CLIP its weights alone."""

    hub: str | None = None
    files: Path | None = None

    def __post_init__(self) -> None:
        if (self.hub is None) == (self.files is None):
            raise UserError("say where the model is from: its name on the hub of Hugging Face with --hub, or its files with --from")
        if self.files is not None and not self.files.exists():
            raise UserError(f"{self.files}: no such file or folder")

    def __str__(self) -> str:
        return f"{self.hub} on the hub of Hugging Face" if self.hub else f"files of one's own ({self.files.name if self.files else ''})"

    @property
    def licence(self) -> str | None:
        """What the model card says, if there is one."""
        if self.hub:
            from huggingface_hub import hf_hub_download
            from huggingface_hub.errors import HfHubHTTPError

            try:
                return _licence(Path(hf_hub_download(self.hub, "README.md")))
            except (HfHubHTTPError, OSError):
                return None
        return _licence(self.files / "README.md") if self.files and (self.files / "README.md").is_file() else None


def add_clip(name: str, architecture: str | None, pretrained: str | None, files: Path | None) -> str:
    """Add a CLIP; returns the lines of params.yaml that name it.

    architecture, pretrained: a pair that open_clip knows; its activation and preprocessing are then the ones that open_clip says of it.
    files: its folder in open_clip's layout, or its weights alone; None fetches those of the pair. Raises `UserError` for what does not
    belong together, and for a CLIP whose text tower is another kind than the pipeline reads.
    """
    if (architecture is None) != (pretrained is None):
        raise UserError("--architecture and --pretrained go together: they say which activation and preprocessing the weights belong to")
    known = _known(architecture, pretrained) if architecture and pretrained else None
    origin = Origin(files=files) if files else None
    told = files / _CONFIG if files and files.is_dir() else None
    if told and told.is_file():
        config = read_object(told)
        _require_same(told, config, known, f"({architecture}, {pretrained})")
    elif known is None:
        raise UserError(f"{files or name} does not say which CLIP it is ({_CONFIG}): name --architecture and --pretrained, such as "
                        f"ViT-B-32 and openai{'' if files else ', to fetch, or its files with --from'}")
    else:
        config = known
    _require_plain(str(architecture or files), config)
    weights = _only_safetensors(files or _fetched(architecture, pretrained))
    with _new(name) as folder:
        shutil.copyfile(weights, folder / _WEIGHTS)
        write_json(folder / _CONFIG, config)
        if files and (files / MERGES_FILE).is_file():
            shutil.copyfile(files / MERGES_FILE, folder / MERGES_FILE)
        _require_readable(Clip(folder, ClipParams(), _CPU))
        _describe(folder, "clip", origin or Origin(hub=_hub(architecture, pretrained)),
                  {"architecture": architecture, "pretrained": pretrained})
    return f"clips:\n  {name}: {{batch: 64}}"


def add_lm(name: str, origin: Origin) -> str:
    """Add a left-to-right language model of transformers with its tokenizer; returns the lines of params.yaml that name it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ..language.causal import pretrained, try_out
    from ..language.tokens import LanguageModelTokens

    def save(source: str, local: bool, folder: Path) -> None:
        AutoModelForCausalLM.from_pretrained(source, use_safetensors=True, local_files_only=local).save_pretrained(folder)
        AutoTokenizer.from_pretrained(source, local_files_only=local).save_pretrained(folder)
        try_out(pretrained(str(folder)), LanguageModelTokens(str(folder)))

    folder = _add(name, "lm", origin, "language model", save)
    return f"decoders:\n  {name}: {{pretrained: {folder}, training: frozen}}   # and starts_from: foundation/{name} in its systems"


def add_detector(name: str, origin: Origin) -> str:
    """Add a DETR of transformers with its image processor; returns the lines of params.yaml that name it."""
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    from ..features.tagging import Detector, DetectorParams

    def save(source: str, local: bool, folder: Path) -> None:
        AutoModelForObjectDetection.from_pretrained(source, use_safetensors=True, local_files_only=local).save_pretrained(folder)
        AutoImageProcessor.from_pretrained(source, local_files_only=local).save_pretrained(folder)
        Detector(folder, DetectorParams(), _CPU)

    _add(name, "detector", origin, "detector", save)
    return f"detectors:\n  {name}: {{threshold: 0.9}}"


def add_diffusion(name: str, origin: Origin) -> str:
    """Add a Stable Diffusion of diffusers; returns the lines of params.yaml that name it."""
    from diffusers import StableDiffusionPipeline

    from ..synthetic.drawing import Generator, SynthesisParams

    def save(source: str, local: bool, folder: Path) -> None:
        whole: Any = StableDiffusionPipeline.from_pretrained(source, use_safetensors=True, local_files_only=local, low_cpu_mem_usage=False)
        whole.save_pretrained(folder)
        Generator(folder, SynthesisParams((), (), name), _CPU)

    _add(name, "diffusion", origin, "diffusion model", save)
    return f"synthesis:\n  generator: {name}"


def _add(name: str, kind: str, origin: Origin, what: str, save: Callable[[str, bool, Path], None]) -> Path:
    """save: load it from a hub's name or a folder (True: from files alone), write it into a folder, and try it."""
    advice = "name a folder in its library's layout with safetensors" if origin.files else f"check the name; {_OFFLINE}"
    with _new(name) as folder:
        with loading(origin, what, advice, hub=origin.hub is not None):
            save(origin.hub or str(origin.files), origin.hub is None, folder)
        _describe(folder, kind, origin, {})
    return paths.foundation(name)


@contextmanager
def _new(name: str) -> Iterator[Path]:
    """A folder to fill that becomes data/foundation/<name>; what is there is never written over."""
    if (target := paths.foundation(name)).exists():
        raise UserError(f"{target} is there: name the model otherwise, or remove that folder first")
    with finished_folder(target) as folder:
        yield folder


def _describe(folder: Path, kind: str, origin: Origin, more: dict[str, Any]) -> None:
    digests = {path.relative_to(folder).as_posix(): digest_file(path) for path in files_below(folder) if path.suffix == ".safetensors"}
    write_json(folder / "provenance.json", {"command": f"unpaired model add {kind}", "source": str(origin), **more,
                                            "licence": origin.licence, "weights_sha256": digests})


def _licence(card: Path) -> str | None:
    """`license` of a model card's front matter."""
    front = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), flags=re.DOTALL)
    try:
        told = YAML(typ="safe", pure=True).load(front[1]) if front else None
    except YAMLError:
        return None
    return str(told["license"]) if isinstance(told, dict) and told.get("license") else None


def _known(architecture: str, pretrained: str) -> dict[str, Any]:
    """open_clip's configuration of a pair that it knows: the weights' tag, not the architecture, decides activation and preprocessing."""
    model = open_clip.get_model_config(architecture)
    if model is None:
        raise UserError(f"open_clip knows no architecture {architecture!r}{suggest(architecture, open_clip.list_models())}")
    tag = open_clip.get_pretrained_cfg(architecture, pretrained)
    if not tag:
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise UserError(f"open_clip knows no weights {pretrained!r} of {architecture}{suggest(pretrained, tags)}")
    model["quick_gelu"] = bool(tag.get("quick_gelu"))
    return {"model_cfg": model, "preprocess_cfg": {**_preprocessing(tag), "size": model["vision_cfg"].get("image_size", 224)}}


def _preprocessing(told: dict[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = merge_preprocess_dict(PreprocessCfg(), told)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in merged.items()}


def _require_same(file: Path, config: dict[str, Any], known: dict[str, Any] | None, pair: str) -> None:
    """`UserError` if a folder says otherwise than open_clip of the pair that it is said to be."""
    if known is None:
        return
    found, expected = ({"quick_gelu": bool(each.get("model_cfg", {}).get("quick_gelu")), **_preprocessing(each.get("preprocess_cfg", {}))}
                       for each in (config, known))
    for key in ("quick_gelu", "mean", "std", "interpolation", "resize_mode"):
        if found[key] != expected[key]:
            raise UserError(f"{file} says {key} {found[key]}, and {pair} was trained with {expected[key]}: weights, activation and "
                            "preprocessing are one: take all from one source, or name the pair that these are of")


def _require_plain(what: str, config: dict[str, Any]) -> None:
    """`UserError` for a CLIP whose text the pipeline would read wrongly, before anything is fetched."""
    model = config.get("model_cfg", {})
    text = model.get("text_cfg", {})
    kind = ("is a CoCa" if "multimodal_cfg" in model or text.get("embed_cls") else
            "reads text as SigLIP does" if text.get("no_causal_mask") or text.get("pool_type", "argmax") != "argmax" else
            "reads text by a tower or tokenizer of Hugging Face" if {"hf_model_name", "hf_tokenizer_name"} & text.keys() else None)
    if kind:
        raise UserError(f"{what} {kind}, which the pipeline cannot (it cuts texts behind their end): choose a CLIP with its own causal "
                        "text tower, such as ViT-B-32, ViT-L-14 or RN50")


def _require_readable(clip: Clip) -> None:
    """`UserError` if a CLIP's own text features are not what the pipeline makes of them."""
    tokens = clip.tokens(["a dog", "a photo of two people who walk along a street"])
    with torch.inference_mode():
        own = clip.model.encode_text(tokens).numpy()
    if not np.allclose(clip.encode_tokens(tokens), own, rtol=1e-3, atol=1e-4 * np.abs(own).max()):
        raise UserError(f"the text tower of {clip.folder.name} reads what stands behind a text's end token, so that the pipeline cannot "
                        "cut texts there: choose another CLIP")


def _hub(architecture: str | None, pretrained: str | None) -> str:
    """The repository that holds the weights of a pair."""
    return "/".join(str(open_clip.get_pretrained_cfg(architecture, pretrained)["hf_hub"]).split("/")[:2])


def _fetched(architecture: str | None, pretrained: str | None) -> Path:
    """The weights of a pair, in the hub's cache; they are fetched if they are not there."""
    tag = open_clip.get_pretrained_cfg(architecture, pretrained)
    if not tag.get("hf_hub"):
        raise UserError(f"open_clip knows {pretrained} of {architecture} as a pickle alone, which may run code: choose other weights, or "
                        "bring them as safetensors and name that file with --from")
    with loading(f"open_clip's {architecture} {pretrained}", "weights", _OFFLINE, hub=True):
        return Path(open_clip.download_pretrained(tag))


def _only_safetensors(source: Path) -> Path:
    """The weights that a file or folder is, or holds. `UserError` for another format: pickles may run code."""
    found = [source] if source.is_file() else [source / _WEIGHTS] if (source / _WEIGHTS).is_file() else sorted(source.glob("*.safetensors"))
    if len(found) != 1 or found[0].suffix != ".safetensors":
        there = ", ".join(path.name for path in found) or "none"
        raise UserError(f"{source} holds no single file of weights in safetensors (found: {there}): name one, or bring it in that format")
    return found[0]
