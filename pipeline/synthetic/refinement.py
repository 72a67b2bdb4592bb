"""SynTIC's refinement of pseudo-features: contrastive optimisation (Eq. 2), then projection onto the corpus (Eq. 3).

Legend: M pairs, B batch, D CLIP width. Cost of optimisation: 3 x 2 x M x B x D operations an epoch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import optimisation
from ..core import paths
from ..core.artefacts import again, whole
from ..core.errors import UserError
from ..core.files import digest_file, digest_tree, read_json, write_json
from ..core.params import Count, Rate, Seed, StrictParams, Temperature, Whole
from ..core.progress import track
from ..core.resume import resumable
from ..core.tables import read_table
from ..features.retrieval import project
from ..features.stores import read, write_store
from ..optimisation import Schedule


@dataclass(frozen=True)
class RefinementParams(StrictParams):
    """`refinement` in params.yaml. temperature 1/100 and learning_rate 1e-5 are the paper's; it names neither batch nor steps.

    SparseAdam moves a coordinate by a few learning rates each time its row is drawn: a unit row of width D has coordinates of about
    1/sqrt(D), and needs hundreds of epochs at 1e-5 to move at all. seed: of the batches. evaluate_every: steps between two entries of the
    curve. snapshot_every: steps between two snapshots, each as large as the features and twice that for Adam.
    """

    temperature: Temperature = 0.01
    learning_rate: Rate = 1e-5
    steps: Whole = 2000
    batch: Count = 512
    seed: Seed = 0
    evaluate_every: Count = 200
    snapshot_every: Count = 1000


@dataclass(frozen=True)
class ProjectionParams(StrictParams):
    """`projection` in params.yaml.

    temperature: of the softmax over the support set, by corpus (paper: COCO 1/100, Flickr30k 1/80, SS1M 1/100).
    """

    temperature: dict[str, Temperature] = field(default_factory=dict)

    def of(self, corpus: str) -> float:
        """The corpus's temperature; `UserError` when there is none."""
        value = self.temperature.get(corpus)
        if value is None:
            raise UserError(f"params.yaml: projection.temperature needs a value above 0 for {corpus}, such as 0.01")
        return value


def contrastive_loss(pseudo_BD: Tensor, text_BD: Tensor, temperature: float) -> Tensor:
    """InfoNCE from images to texts within a batch; row i of both belongs together. SynTIC, Eq. 2; cosine similarity, Eq. 1."""
    logits_BB = nn.functional.normalize(pseudo_BD, dim=-1) @ nn.functional.normalize(text_BD, dim=-1).T / temperature
    return nn.functional.cross_entropy(logits_BB, torch.arange(len(logits_BB), device=logits_BB.device))


def optimise(pseudo_MD: Tensor, text_MD: Tensor, params: RefinementParams, snapshot: Path) -> tuple[Tensor, list[dict[str, float]]]:
    """Pseudo-features moved towards their own captions and away from others', and the curve of the loss.

    The features themselves are the parameters. Adam is torch's SparseAdam, so that a row moves only in the batches that hold it.
    A run goes on from `snapshot` if that is there.
    """
    table = nn.Embedding.from_pretrained(pseudo_MD.clone(), freeze=False, sparse=True)
    schedule = Schedule(params.steps, min(params.batch, len(pseudo_MD)), params.learning_rate, warmup=None, seed=params.seed)

    def loss_of(step: int) -> Tensor:
        rows = torch.from_numpy(schedule.rows(step, len(pseudo_MD))).to(pseudo_MD.device)
        return contrastive_loss(table(rows), text_MD[rows], params.temperature)

    def record(step: int, loss: float) -> dict[str, float]:
        return {"step": step, "loss": round(loss, 5), **_moved(table.weight.detach(), pseudo_MD, text_MD)}

    _, curve = optimisation.optimise("refine", table, torch.optim.SparseAdam(table.parameters()), schedule, loss_of, record,
                                     params.evaluate_every, params.snapshot_every, snapshot, clip=False)  # sparse gradients have no norm
    return table.weight.detach(), curve


def _moved(now_MD: Tensor, pseudo_MD: Tensor, text_MD: Tensor) -> dict[str, float]:
    """Mean cosine of the features with their captions, and with what they were."""
    return {"caption_similarity": round(nn.functional.cosine_similarity(now_MD, text_MD).mean().item(), 5),
            "similarity_to_start": round(nn.functional.cosine_similarity(now_MD, pseudo_MD).mean().item(), 5)}


def drawn_captions(corpus: str) -> list[int]:
    """Row of the corpus of each drawn picture, in the order of their table; `UserError` if they are another corpus's."""
    drawn = paths.corpus_table(paths.drawn(corpus))
    keys = read_table(drawn, ["image_id"])["image_id"]
    if read_json(whole(drawn.with_name("report.json")))["corpus_digest"] != digest_file(paths.corpus_table(corpus)):
        raise UserError(f"{drawn} was made from another corpus than {paths.corpus_table(corpus)}: {again(drawn)}")
    return [row for row, key in enumerate(keys) if key is not None]


def refine_pairs(clip: str, corpus: str, params: RefinementParams, device: torch.device) -> None:
    """Write the refined features of a corpus's drawn pictures: `features`, a row per picture, and `curve.json`."""
    dataset = paths.drawn(corpus)
    store = read(paths.image_features(clip, dataset)).require(source_digest=digest_file(paths.image_table(dataset)))
    texts = read(paths.text_features(clip, corpus)).require(store.origin.clip_digest, digest_file(paths.corpus_table(corpus)))
    with resumable(paths.refined(clip, dataset), __name__, params=asdict(params), pairs=digest_tree(store.path), texts=asdict(texts.origin),
                   device=device.type, threads=torch.get_num_threads()) as work:
        captions = texts.features[drawn_captions(corpus)]
        pseudo, text = (torch.from_numpy(features).float().to(device) for features in (store.features, captions))
        refined, curve = optimise(pseudo, text, params, work.folder / "snapshot.pt")
        write_store(work.output / "features", refined.cpu().numpy(), store.origin)
        write_json(work.output / "curve.json", curve)


def project_pairs(clip: str, corpus: str, params: ProjectionParams, device: torch.device) -> None:
    """Write the features of a corpus's drawn pictures as mixtures of its captions: `drawn` and `refined`."""
    temperature, dataset = params.of(corpus), paths.drawn(corpus)
    texts = read(paths.text_features(clip, corpus)).require(source_digest=digest_file(paths.corpus_table(corpus)))
    stores = {name: read(paths.pseudo_features(clip, dataset, name == "refined", False)) for name in ("drawn", "refined")}
    with resumable(paths.projections(clip, dataset), __name__, temperature=temperature, texts=asdict(texts.origin),
                   sources={name: [asdict(store.origin), digest_tree(store.path)] for name, store in stores.items()},
                   device=device.type, threads=torch.get_num_threads()) as work:
        support = torch.from_numpy(texts.features).to(device)
        for name, store in stores.items():
            store.require(texts.origin.clip_digest)
            queries = torch.from_numpy(store.features).to(device).float()
            parts = [project(part, support, temperature) for part in track(queries.split(1024), f"project {name}", len(queries), "rows",
                                                                          size=1024)]
            write_store(work.output / name, torch.cat(parts).cpu().numpy(), store.origin)
