"""Evaluate a run's checkpoint on the test block of its fold.

T TRs, V voxels, N shifts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from giblet_train.analysis.load_run import LoadedRun, Narrate
from giblet_train.data.readers.nifti import write_map
from giblet_train.evaluation.metrics import pearson, shifted_r
from giblet_train.schema.records import SCHEMA, EvaluationMetric, encode

MAP = "r.nii.gz"
NULL_VOXELS = 2000
NULL_PERCENTILE = 99.0


def evaluate_checkpoint(run: LoadedRun, narrate: Narrate, map_path: Path | None = None) -> dict[str, Any]:
    """Evaluate a run's checkpoint: {schema, run_id, step, folds, encoding, decoding, baselines, skill}.

    map_path: NIfTI file to which r of each voxel is written.
    """
    narrate("evaluating the weights on the test block", 0.5)
    figures = run.examiner.evaluation(run.model, lambda: None)
    r_V, null = _by_voxel(run)
    if map_path is not None:
        write_map(
            map_path, run.data.in_grid_order(r_V), run.data.mask_XYZ, run.data.study.affine, run.data.study.space_code
        )
    figures["encoding"] |= {
        "r_mean": float(r_V.mean()),
        "r_p95": figures["encoding"]["r_95th_percentile"],
        "share_above_null": float((r_V > np.percentile(null, NULL_PERCENTILE)).mean()),
        "by_region": {p.name: float(r_V[p.voxels_V].mean()) for p in run.regions() if p.voxels_V.any()},
    }
    record = EvaluationMetric(seq=0, step=run.record.step, epoch=run.record.epoch, at=run.record.at, **figures)
    finite = msgspec.json.decode(encode(record))
    return {"schema": SCHEMA, "run_id": run.run_dir.run_id, "checkpoint": run.record.file} | {
        key: finite[key] for key in ("step", "epoch", "folds", "encoding", "decoding", "baselines", "skill")
    }


def evaluation_lines(figures: dict[str, Any]) -> list[str]:
    """Format an evaluation as text."""
    encoding, decoding = figures["encoding"], figures["decoding"]
    folds = ", ".join(map(str, figures["folds"]))
    lines = [f"{figures['run_id']}, {figures['checkpoint']}, held-out TRs of fold {folds}", "", "Predicted brains"]
    values = {
        "r, responsive voxels": encoding["r_responsive"],
        "  ridge / pooled ridge": (encoding["r_ridge"], encoding["r_ridge_pooled"]),
        "  root of ISC": encoding.get("r_ceiling"),
        "r, null voxels": encoding["r_null"],
        "r, all voxels": encoding["r_mean"],
        "  median / 95th percentile": (encoding["r_median"], encoding["r_p95"]),
        "share of voxels above chance": encoding["share_above_null"],
    }
    lines += [f"  {name:30}{_number(value)}" for name, value in values.items() if value is not None]
    lines += [f"  {'r, ' + name:30}{_number(value)}" for name, value in encoding["by_region"].items()]
    for subject, scores in encoding.get("left_out", {}).items():
        lines += ["", f"{subject}, left out of training: r over responsive (null) voxels"]
        for name in (n for n in scores if not n.endswith("_null")):
            words = name.removeprefix("r_").replace("_", " ")
            lines.append(f"  {words:30}{_number(scores[name])} ({_number(scores.get(name + '_null'))})")
    lines += ["", f"{'Film reconstructed':32}{'skill':>8}{'r':>8}{'2-way':>8}{'top-1':>8}{'chance':>8}"]
    for source, modalities in decoding.items():
        for modality, scores in modalities.items():
            numbers = [scores.get(k) for k in ("skill", "r", "two_way", "top_1", "top_1_chance")]
            lines.append(f"  {f'{modality} from {source} brains':30}" + "".join(f"{_number(n):>8}" for n in numbers))
    return lines


def _number(value: Any) -> str:
    if isinstance(value, tuple):
        return " / ".join(map(_number, value))
    return "–" if value is None else f"{value:.3f}"


def _by_voxel(run: LoadedRun) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return held-out r of each voxel (V,), and r of some voxels under all shifts, averaged over subjects."""
    rows = run.data.split.test
    sample = slice(None, None, max(1, run.data.n_voxels // NULL_VOXELS))
    r, null = [], []
    for subject, predicted_TV in run.examiner.predicted(run.model):
        own_T = run.data.present[subject][rows] if run.data.present else slice(None)
        predicted_TV, measured_TV = predicted_TV[own_T], run.data.bold[subject][rows][own_T]
        if len(measured_TV) < 2:
            continue
        r.append(pearson(predicted_TV, measured_TV))
        null.append(shifted_r(predicted_TV[:, sample], measured_TV[:, sample]))
    same = len({len(shifted) for shifted in null}) == 1
    return np.mean(r, axis=0), np.mean(null, axis=0) if same else np.concatenate(null)
