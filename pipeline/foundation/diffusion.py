"""The micro-world's text-to-image model: a `StableDiffusionPipeline` of diffusers' own parts.

The text encoder is the micro CLIP's text tower in transformers' classes, as Stable Diffusion v1 takes CLIP's. It stays frozen.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoencoderKL, DDPMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from numpy.typing import NDArray
from open_clip.tokenizer import bytes_to_unicode
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..core import paths
from ..core.files import digest_of, locked, read_json, write_json
from ..core.paths import MERGES_FILE
from ..core.progress import track
from ..core.resume import finished_folder
from ..features.encoders import Clip, ClipParams
from ..features.tagging import Detector, DetectorParams
from ..metrics import bootstrap
from ..optimisation import Schedule
from ..synthetic.drawing import Generator, SynthesisParams, picture_seed
from ..world.sprites import CLASSES, COLOURS
from . import autoencoder, detection
from .loop import optimise
from .pool import FIRST_STYLES, Pool, coverage, draw_pool

CONTEXT = 32  # tokens; the longest caption of the micro-world has 28
_STEPS = 8
_GUIDANCE = (2.0, 3.0, 4.0, 5.0)
_SCENES = 1000
_SHOWN = 16
_SEED = 90  # of scenes that no data set of the default holds
_PEOPLE = {"man", "woman"}  # a "person" may be either
_BETAS = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights. The autoencoder is trained on the classifier's scenes.

    empty: share of captions dropped for classifier-free guidance. layout: weight of the auxiliary loss that reads classes and colours
    from the UNet's features. things: how much more the cells that things cover weigh. middle, spread: normal distribution of the
    training noise's log signal-to-noise ratio. further: a second training from the first one's averaged weights.
    """

    name: str = "diffusion"
    seed: int = 5
    scenes: int = 48_000
    styles: tuple[str, ...] = ("scenes", "scenes", "scenes", "album")
    classifier: detection.Recipe = field(default_factory=lambda: detection.Recipe(
        seed=4, backbone=Schedule(steps=1_200, batch=32, learning_rate=2e-3, weight_decay=1e-3, seed=4)))
    autoencoder: autoencoder.Recipe = field(default_factory=autoencoder.Recipe)
    unet: Schedule = field(default_factory=lambda: Schedule(steps=7_000, batch=32, learning_rate=5e-4, warmup=200, average=0.999, seed=5))
    further: Schedule = field(
        default_factory=lambda: Schedule(steps=6_000, batch=32, learning_rate=4e-4, warmup=200, average=0.999, seed=6))
    channels: tuple[int, ...] = (128, 192)
    layers: int = 1
    heads: int = 4
    empty: float = 0.12
    layout: float = 0.02
    things: float = 1.0
    middle: float = -0.5
    spread: float = 2.2


class Denoiser(nn.Module):
    """The UNet and a throw-away head on its first upward block, which must tell what will stand where."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet
        self.head = nn.Conv2d(unet.config.block_out_channels[-1], len(CLASSES) + len(COLOURS), 1)

    def forward(self, noisy: Tensor, timesteps: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Velocity (B, C, 8, 8) and layout logits (B, 38, 8, 8)."""
        seen: list[Tensor] = []
        hook = self.unet.up_blocks[0].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        try:
            velocity = self.unet(noisy, timesteps, encoder_hidden_states=text).sample
        finally:
            hook.remove()
        return velocity, self.head(seen[0])


def text_encoder_of(clip: Clip) -> CLIPTextModel:
    """An open_clip text tower in transformers' classes: the same function, the same weights."""
    state = clip.model.state_dict()
    width = state["token_embedding.weight"].shape[1]
    layers = len(clip.model.transformer.resblocks)
    start, end = clip.tokenizer.sot_token_id, clip.tokenizer.eot_token_id
    model = CLIPTextModel(CLIPTextConfig(
        vocab_size=state["token_embedding.weight"].shape[0], hidden_size=width,
        intermediate_size=state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0], projection_dim=clip.width,
        num_hidden_layers=layers, num_attention_heads=clip.model.transformer.resblocks[0].attn.num_heads,
        max_position_embeddings=state["positional_embedding"].shape[0], hidden_act="gelu",
        bos_token_id=start, eos_token_id=end, pad_token_id=end,
    ))
    renamed = {"embeddings.token_embedding.weight": state["token_embedding.weight"],
               "embeddings.position_embedding.weight": state["positional_embedding"],
               "final_layer_norm.weight": state["ln_final.weight"], "final_layer_norm.bias": state["ln_final.bias"]}
    names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
             "attn.out_proj": "self_attn.out_proj"}
    for layer in range(layers):
        ours, theirs = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
        for kind in ("weight", "bias"):
            for source, target in names.items():
                renamed[f"{theirs}.{target}.{kind}"] = state[f"{ours}.{source}.{kind}"]
            for letter, part in zip("qkv", state[f"{ours}.attn.in_proj_{kind}"].chunk(3), strict=True):
                renamed[f"{theirs}.self_attn.{letter}_proj.{kind}"] = part
    model.load_state_dict(renamed)
    return model.eval().requires_grad_(False)


def tokenizer_of(clip_folder: Path, context: int = CONTEXT) -> CLIPTokenizer:
    """The tokenizer of a CLIP folder's merges in transformers' classes, for texts of at most `context` tokens."""
    merges = gzip.decompress((clip_folder / MERGES_FILE).read_bytes()).decode().split("\n")[1:]
    letters: list[str] = list(bytes_to_unicode().values())
    words: list[str] = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge.split()) for merge in merges)]
    vocabulary = {word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    pairs: Any = [tuple(merge.split()) for merge in merges]
    return CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=context)


def train(recipe: Recipe, out: Path) -> None:
    """Train classifier, autoencoder and UNet into folder `out`; an interrupted run goes on from its last snapshot, in `<out>.work`."""
    work = out.with_name(out.name + ".work")
    identity = digest_of(asdict(recipe))
    with locked(work):
        vae, vae_losses = _autoencoder(recipe, work)
        pool = draw_pool("foundation", recipe.seed, recipe.scenes, styles=recipe.styles)
        clip = Clip(paths.foundation("micro"), ClipParams(), torch.device("cpu"))
        tokenizer, encoder = tokenizer_of(paths.foundation("micro")), text_encoder_of(clip)
        drawn = digest_of([asdict(recipe.classifier), asdict(recipe.autoencoder), recipe.seed, recipe.scenes, recipe.styles])[:16]
        latents = _latents(vae, pool, work / f"latents-{drawn}.safetensors")
        unet, losses = _unet(recipe, pool, latents, tokenizer, encoder, work, identity)
        scheduler = DPMSolverMultistepScheduler(**_BETAS, timestep_spacing="trailing", steps_offset=1, lambda_min_clipped=-5.1)
        whole = StableDiffusionPipeline(vae, encoder, tokenizer, unet, scheduler, None, None, requires_safety_checker=False)
        with finished_folder(out) as folder:
            whole.to(torch.float16).save_pretrained(folder)
            write_json(folder / "provenance.json", {
                "command": f"unpaired foundation {recipe.name}", "recipe": asdict(recipe),
                "losses": {"autoencoder": vae_losses, "unet": losses},
                "parameters": {name: sum(p.numel() for p in part.parameters()) for name, part in
                               {"vae": vae, "text_encoder": encoder, "unet": unet}.items()},
                "versions": {"torch": torch.__version__.split("+")[0], "diffusers": diffusers.__version__,
                             "transformers": transformers.__version__},
            })
    shutil.rmtree(work)


def measure(folder: Path) -> dict[str, Any]:
    """What the detector finds of the things named in held-out captions, 1,000 of each style, with 95 % bootstrap intervals over captions.

    recall: in pictures drawn from the captions. control: the same things in a real scene of another caption with the same background.
    rebuilt: in the autoencoder's copies of the right scenes; real: in these. rebuilt_things, real_things: share of all things in the
    scenes, named or not. Guidance is the best of `_GUIDANCE` on validation captions. Writes sample pictures beside the weights.
    """
    device = torch.device("cpu")
    detector = Detector(paths.foundation("detector"), DetectorParams(threshold=_threshold()), device)
    params = SynthesisParams(corpora=(), clips=(), generator=folder.name, steps=_STEPS)
    chosen = draw_pool("val", _SEED, _SCENES // 2)
    trial = {guidance: _recall(_drawn(folder, replace(params, guidance=guidance), chosen), chosen, detector).mean()
             for guidance in _GUIDANCE}
    best = max(trial, key=lambda guidance: trial[guidance])
    figures: dict[str, Any] = {"guidance": best, "steps": _STEPS,
                               "validation_recall": {str(guidance): round(float(value), 4) for guidance, value in trial.items()}}
    pool = draw_pool("test", _SEED, _SCENES * len(FIRST_STYLES))
    vae = AutoencoderKL.from_pretrained(folder / "vae", low_cpu_mem_usage=False)
    real = [Image.fromarray(image) for image in pool.images]
    pictures = {"recall": _drawn(folder, replace(params, guidance=best), pool), "control": [real[i] for i in _wrong_scenes(pool)],
                "rebuilt": _rebuilt(vae, pool), "real": real}
    _write_pictures(folder, pool, real, pictures["rebuilt"], pictures["recall"])
    found = {name: _recall(images, pool, detector) for name, images in pictures.items()}
    everything = [{thing.name for thing in scene} for scene in pool.things]
    found |= {f"{name}_things": np.array([len(names & {d.label for d in detections}) / max(len(names), 1) for names, detections in
                                         zip(everything, detector.detect(pictures[name]), strict=True)]) for name in ("rebuilt", "real")}
    for number, style in enumerate(FIRST_STYLES):
        for name, values in found.items():
            of_style = values[number :: len(FIRST_STYLES)]
            low, high = bootstrap.interval(of_style, _SEED)
            figures.setdefault(style, {})[name] = [round(float(value), 4) for value in (of_style.mean(), low, high)]
    return figures


def _write_pictures(folder: Path, pool: Pool, *kinds: Sequence[Image.Image]) -> None:
    """`pictures.json` and its PNG files: the first scenes, as they are, rebuilt and drawn from their captions."""
    entries = []
    for row in range(_SHOWN):
        names = {kind: f"pictures-{row:02d}-{kind}.png" for kind in ("real", "rebuilt", "generated")}
        for images, name in zip(kinds, names.values(), strict=True):
            images[row].save(folder / name)
        entries.append({"caption": pool.captions[row][0], **names})
    write_json(folder / "pictures.json", entries)


def _drawn(folder: Path, params: SynthesisParams, pool: Pool) -> list[Image.Image]:
    """One picture for the first caption of each scene."""
    generator = Generator(folder, params, torch.device("cpu"))
    texts = [five[0] for five in pool.captions]
    images: list[Image.Image] = []
    for start in track(range(0, len(texts), params.batch), f"draw at guidance {params.guidance}", len(texts), "images", size=params.batch):
        part = texts[start : start + params.batch]
        images += generator.draw(part, [picture_seed(0, str(start + i), 0) for i in range(len(part))])[0]
    return images


def _recall(images: Sequence[Image.Image], pool: Pool, detector: Detector) -> NDArray[np.float64]:
    """Per scene, the share of the things named in its first caption that the detector finds in the picture."""
    shares = []
    for detections, texts, named in zip(detector.detect(images), pool.captions, pool.named, strict=True):
        tags = {d.label for d in detections}
        if not {"person", "people"}.isdisjoint(texts[0].split()) and not tags.isdisjoint(_PEOPLE):
            tags |= _PEOPLE
        shares.append(len(tags & set(named[0])) / max(len(named[0]), 1))
    return np.array(shares)


def _wrong_scenes(pool: Pool) -> list[int]:
    """For each scene the next one of its style with the same background."""
    others: dict[tuple[int, str], list[int]] = {}
    for row, key in enumerate(zip(pool.styles.tolist(), pool.backgrounds, strict=True)):
        others.setdefault(key, []).append(row)
    following = {row: rows[(at + 1) % len(rows)] for rows in others.values() for at, row in enumerate(rows)}
    return [following[row] for row in range(len(pool.images))]


def _rebuilt(vae: AutoencoderKL, pool: Pool) -> list[Image.Image]:
    images: list[Image.Image] = []
    for rows in np.array_split(np.arange(len(pool.images)), max(len(pool.images) // 64, 1)):
        with torch.inference_mode():
            pixels = vae.decode(autoencoder.encode(vae, pool, rows).float()).sample.clamp(-1, 1)
        images += [Image.fromarray(image) for image in ((pixels + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()]
    return images


def _threshold() -> float:
    """The detector's own, chosen when it was trained."""
    return float(read_json(paths.foundation("detector") / "provenance.json")["figures"]["threshold"])


def _autoencoder(recipe: Recipe, work: Path) -> tuple[AutoencoderKL, list[float]]:
    """The trained autoencoder, kept in the work folder."""
    identity = digest_of([asdict(recipe.classifier), asdict(recipe.autoencoder)])
    finished = work / f"autoencoder-{identity[:16]}"
    if not finished.exists():
        pool = draw_pool("foundation", recipe.classifier.seed, recipe.classifier.scenes)
        judge = detection.train_dense(recipe.classifier, pool, work)
        vae, losses = autoencoder.train_autoencoder(recipe.autoencoder, pool, judge, work, identity)
        with finished_folder(finished) as folder:
            vae.save_pretrained(folder)
            write_json(folder / "losses.json", losses)
    vae = AutoencoderKL.from_config(read_json(finished / "config.json"))  # `from_pretrained` would note the folder's path
    vae.load_state_dict(load_file(finished / "diffusion_pytorch_model.safetensors"))
    return vae.eval().requires_grad_(False), read_json(finished / "losses.json")


def _latents(vae: AutoencoderKL, pool: Pool, path: Path) -> Tensor:
    """(N, C, 8, 8) float16 latents of the pool, scaled to unit deviation; computed once."""
    if not path.exists():
        starts = range(0, len(pool.images), 500)
        parts = [autoencoder.encode(vae, pool, np.arange(start, min(start + 500, len(pool.images))))
                 for start in track(starts, "encode the pool", len(pool.images), "images", size=500)]
        save_file({"latents": torch.cat(parts).contiguous()}, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
    return load_file(path)["latents"] * vae.config.scaling_factor


def build_unet(recipe: Recipe, latent_channels: int, text_width: int) -> UNet2DConditionModel:
    """An untrained UNet: attention to the caption at the 8 x 8 cells, where things are placed, and in the middle."""
    levels = len(recipe.channels) - 1
    return UNet2DConditionModel(
        sample_size=autoencoder.CELLS, in_channels=latent_channels, out_channels=latent_channels, layers_per_block=recipe.layers,
        block_out_channels=recipe.channels, down_block_types=("CrossAttnDownBlock2D", *("DownBlock2D",) * levels),
        up_block_types=(*("UpBlock2D",) * levels, "CrossAttnUpBlock2D"), cross_attention_dim=text_width,
        attention_head_dim=recipe.heads,  # the library reads this as the number of heads
        norm_num_groups=16,
    )


def noise_weights(log_ratio: Tensor, middle: float, spread: float) -> Tensor:
    """(T,) chance of each time step: log signal-to-noise ratios normally distributed, a tenth spread evenly over time."""
    density = torch.exp(-0.5 * ((log_ratio - middle) / spread) ** 2) * torch.gradient(log_ratio)[0].abs()
    return 0.9 * density / density.sum() + 0.1 / len(log_ratio)


def _unet(recipe: Recipe, pool: Pool, latents: Tensor, tokenizer: CLIPTokenizer, encoder: CLIPTextModel, work: Path,
          identity: str) -> tuple[UNet2DConditionModel, list[float]]:
    def ids(texts: list[str]) -> Tensor:
        found: Any = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return found

    tokens = ids([text for five in pool.captions for text in five]).reshape(len(pool.captions), -1, CONTEXT).to(torch.int16)
    nothing = ids([""])[0]
    scheduler = DDPMScheduler(**_BETAS)
    kept = scheduler.alphas_cumprod.double()
    weights = noise_weights(torch.log(kept / (1 - kept)), recipe.middle, recipe.spread)

    def loss_of(model: Denoiser, step: int, rows: NDArray[np.int64]) -> Tensor:
        which = torch.randint(tokens.shape[1], (len(rows),))
        texts = tokens[torch.from_numpy(rows), which].long()
        texts[torch.rand(len(rows)) < recipe.empty] = nothing
        with torch.no_grad():
            text = encoder(texts)[0]
        clean = latents[torch.from_numpy(rows)].float()
        noise = torch.randn_like(clean)
        times = torch.multinomial(weights, len(rows), replacement=True)
        noisy = scheduler.add_noise(clean, noise, times).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            velocity, layout = model(noisy, times, text)
        truth = coverage([pool.things[row] for row in rows], autoencoder.CELLS)
        covered = truth[:, : len(CLASSES)].amax(1, keepdim=True)
        error = (velocity.float() - scheduler.get_velocity(clean, noise, times)).square()
        loss: Tensor = (error * (1 + recipe.things * covered)).mean()
        return loss + recipe.layout * 38 * nn.functional.binary_cross_entropy_with_logits(layout.float(), truth)

    torch.manual_seed(recipe.seed)
    unet = build_unet(recipe, latents.shape[1], encoder.config.hidden_size)
    losses: list[float] = []
    for label, plan, snapshot in (("train the UNet", recipe.unet, "unet.pt"), ("train the UNet further", recipe.further, "further.pt")):
        torch.manual_seed(plan.seed)
        model = Denoiser(unet).train().to(memory_format=torch.channels_last)
        trained: Any
        trained, part = optimise(label, model, partial(loss_of, model), plan, len(pool.images), work / snapshot, identity)
        unet, losses = trained.unet, losses + part
    return unet.eval().to(memory_format=torch.contiguous_format), losses
