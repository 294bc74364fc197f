"""Lesion study: reconstruct the film without a set of voxels, compared with random sets of the same size.

T TRs, V voxels, K latents, F features, N random sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from giblet_train.analysis.load_run import LoadedRun
from giblet_train.data.preprocessing.parcels import Parcel
from giblet_train.evaluation.metrics import reconstruction
from giblet_train.model.lesion import Mode, VoxelReadout
from giblet_train.model.network import BrainModel
from giblet_train.schema.config import ordered_spaces
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.progress import ProgressCallback
from giblet_train.schema.records import SCHEMA

FIGURES = ("skill", "r", "two_way", "top_1")
OWN_SHARE = 0.8
LEVEL = 0.05
Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class LesionContext:
    """A trained run and the voxelwise readout of its test brains. true: modality -> (T, F)."""

    run: LoadedRun
    model: BrainModel
    readout: VoxelReadout
    mode: Mode
    true: Mapping[str, NDArray[np.float32]]

    @classmethod
    def of(cls, run: LoadedRun, source: str, mode: Mode) -> LesionContext:
        """Build it. source: one of `loss_terms.SOURCES`. Raises ConfigError if the model does not read brains."""
        if not isinstance(run.model, BrainModel):
            raise ConfigError(
                f"A {run.config.model.kind} network reconstructs the film from its bottleneck, not from brains: "
                "a lesion has no effect.",
                "Use a run with model.kind: trunk.",
            )
        rows, data = run.data.split.test, run.data
        predicted = run.evaluator.predicted(run.model)
        bold = dict(predicted) if source == "predicted" else {s: data.bold[s][rows] for s in data.subjects}
        readout = VoxelReadout.of(run.model, run.evaluator.compression, bold)
        return cls(run, run.model, readout, mode, {m: x_TF[rows] for m, x_TF in data.targets.items()})

    def figures(self, lost_V: NDArray[np.bool_]) -> Figures:
        """Return modality -> `FIGURES` of the film reconstructed without the voxels `lost_V`."""
        film, data = self.film(lost_V), self.run.data
        scores = {
            m: reconstruction(film[m], true_TF, data.target_weights[m], data.unigram.get(m))
            for m, true_TF in self.true.items()
        }
        return {m: {name: score.get(name, float("nan")) for name in FIGURES} for m, score in scores.items()}

    @torch.no_grad()
    def film(self, lost_V: NDArray[np.bool_]) -> dict[str, NDArray[np.float32]]:
        """Return modality -> reconstructed features (T, F), or probabilities of codes, block by block."""
        model, targets = self.model.eval(), self.run.setup.train_step.objective.targets
        z_TK = self.readout.latents(lost_V, self.mode).to(next(model.parameters()).device)
        ends = accumulate((stop - start for start, stop in self.run.data.split.test_blocks), initial=0)
        blocks = [model.decoders(z_TK[None, first:stop], None) for first, stop in pairwise(ends)]
        return {
            m: np.concatenate([targets.decode_to_features(m, b[m])[0].cpu().numpy() for b in blocks]) for m in self.true
        }


def lesion_study(
    run: LoadedRun, parcels: Sequence[Parcel], source: str, mode: Mode, n_draws: int, report_progress: ProgressCallback
) -> dict[str, Any]:
    """Return {schema, run_id, mode, source, n_draws, before, lesions}: each parcel's lesion by itself, on held-out TRs.

    Each figure has its value after the lesion, the loss, the loss with random sets, and p, the share of random sets
    that lose as much. A random set has as many voxels and responsive voxels as the parcel, anywhere in the mask.
    """
    bench = LesionContext.of(run, source, mode)
    before = bench.figures(np.zeros(run.data.n_voxels, bool))
    lesions = []
    for number, parcel in enumerate(parcels):
        report_progress(f"lesion of {parcel.name}: compared with {n_draws} random sets", number / len(parcels))
        after = bench.figures(parcel.voxels_V)
        random_figures = [
            bench.figures(lost_V) for lost_V in _random_sets(parcel.voxels_V, run.data.responsive_V, n_draws)
        ]
        changes = {m: _change(before[m], after[m], [figures[m] for figures in random_figures]) for m in before}
        lesions.append(
            {
                "region": parcel.name,
                "n_voxels": int(parcel.voxels_V.sum()),
                "n_responsive": int((parcel.voxels_V & run.data.responsive_V).sum()),
                "truth": dict(parcel.shares),
                "as_truth_says": _as_truth_says(parcel.shares, changes),
                "changes": changes,
            }
        )
    study = {"schema": SCHEMA, "run_id": run.run_dir.run_id, "checkpoint": run.record.file, "fold": run.data.split.fold}
    return study | {"mode": mode, "source": source, "n_draws": n_draws, "before": before, "lesions": lesions}


def _random_sets(lost_V: NDArray[np.bool_], responsive_V: NDArray[np.bool_], n: int) -> Iterator[NDArray[np.bool_]]:
    """Permute the lesion's labels among responsive voxels and among the others."""
    random = np.random.default_rng(0)
    for _ in range(n):
        drawn_V = np.zeros_like(lost_V)
        for pool in (np.flatnonzero(responsive_V), np.flatnonzero(~responsive_V)):
            drawn_V[random.choice(pool, int(lost_V[pool].sum()), replace=False)] = True
        yield drawn_V


def _change(
    before: Mapping[str, float], after: Mapping[str, float], random_figures: Sequence[Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    changes = {}
    for name in FIGURES:
        loss = before[name] - after[name]
        null = np.array([before[name] - figures[name] for figures in random_figures])
        low, high = np.quantile(null, [0.025, 0.975])
        changes[name] = {
            "after": after[name],
            "lost": loss,
            "random_lost": float(null.mean()),
            "random_low": float(low),
            "random_high": float(high),
            "p": float((1 + (null >= loss).sum()) / (1 + len(null))),
        }
    return changes


def _as_truth_says(shares: Mapping[str, float], changes: Mapping[str, Any]) -> bool | None:
    """Return True if skill is lost where the truth has nearly all of the variance, and nowhere where it has none.

    None if the truth is unknown or assigns the parcel to several modalities.
    """
    own = [m for m, share in shares.items() if share >= OWN_SHARE]
    if not own:
        return None
    other_modalities = [m for m, share in shares.items() if share == 0.0]
    p = {m: changes[m]["skill"]["p"] for m in changes}
    return bool(p[own[0]] <= LEVEL and all(p[m] > LEVEL for m in other_modalities))


def lesion_lines(study: dict[str, Any]) -> list[str]:
    """Format the study as a table: skill before and after each lesion, and the loss with random sets."""
    before = study["before"]
    modalities = ordered_spaces(before)
    columns = "".join(f"{m:>27}" for m in modalities)
    lines = [
        f"{study['run_id']}, fold {study['fold']}: held-out skill of the film reconstructed from "
        f"{study['source']} brains, voxels {'missing' if study['mode'] == 'missing' else 'silenced'}",
        "after each lesion: skill (loss; loss with random sets of its size) and * if p ≤ .05",
        "",
        f"{'region':32}{'voxels':>7}{columns}  as its truth says",
        f"{'(no lesion)':32}{0:7}" + "".join(f"{before[m]['skill']:>+10.3f}{'':17}" for m in modalities),
    ]
    word = {True: "yes", False: "no", None: "–"}
    for lesion in study["lesions"]:
        cells = "".join(_cell(lesion["changes"][m]["skill"]) for m in modalities)
        lines.append(f"{lesion['region']:32}{lesion['n_voxels']:7}{cells}  {word[lesion['as_truth_says']]}")
    lines += ["", "Segments identified (two-way, chance .5), before: " + _identified(before)]
    for lesion in study["lesions"]:
        after = {m: {"two_way": lesion["changes"][m]["two_way"]["after"]} for m in modalities}
        lines.append(f"  {lesion['region']:32}{_identified(after)}")
    return lines


def _cell(change: Mapping[str, float]) -> str:
    star = "*" if change["p"] <= LEVEL else " "
    losses = f"({change['lost']:+.3f}; {change['random_lost']:+.3f})"
    return f"{change['after']:>+10.3f}{losses:>16}{star}"


def _identified(figures: Mapping[str, Mapping[str, float]]) -> str:
    two_way = {m: figures[m]["two_way"] for m in ordered_spaces(figures)}
    return ", ".join(f"{m} –" if np.isnan(r) else f"{m} {r:.2f}" for m, r in two_way.items())
