"""Evaluate a run's checkpoint on the test block of its fold.

V voxels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from giblet_train.analysis.held_out_maps import HeldOutMaps
from giblet_train.analysis.load_run import LoadedRun
from giblet_train.evaluation.evaluator import LINEAR_DECODER, RIDGE_DECODER
from giblet_train.evaluation.repeats import repeat_reliability, repeated_rows
from giblet_train.schema.progress import ProgressCallback
from giblet_train.schema.records import SCHEMA, EvaluationMetric, encode

CHANCE_P = 0.01


def evaluate_checkpoint(run: LoadedRun, maps: HeldOutMaps, report_progress: ProgressCallback) -> dict[str, Any]:
    """Evaluate a run's checkpoint: {schema, run_id, step, folds, encoding, decoding, baselines, skill}.

    maps: held-out maps of the run.
    """
    report_progress("evaluating the weights on the test block", 0.5)
    figures = run.evaluator.evaluation(run.model, lambda: None)
    r_V = maps.group_r_V
    figures["encoding"] |= {
        "r_mean": float(r_V.mean()),
        "r_p95": figures["encoding"]["r_95th_percentile"],
        "share_above_null": float((maps.p["group"] <= CHANCE_P).mean()),
        "share_significant": float(maps.significant().mean()),
        "by_region": {p.name: float(r_V[p.voxels_V].mean()) for p in run.regions() if p.voxels_V.any()},
    }
    if repeats := _repeats(run):
        figures["encoding"]["repeats"] = repeats
    record = EvaluationMetric(seq=0, step=run.record.step, epoch=run.record.epoch, at=run.record.at, **figures)
    finite = msgspec.json.decode(encode(record))
    return {"schema": SCHEMA, "run_id": run.run_dir.run_id, "checkpoint": run.record.file} | {
        key: finite[key] for key in ("step", "epoch", "folds", "encoding", "decoding", "baselines", "skill")
    }


def _repeats(run: LoadedRun) -> dict[str, dict[str, float]]:
    """Return subject -> reliability of what it saw more than once, over responsive voxels; empty without repeats."""
    data = run.data
    showings = repeated_rows(data.study.spans, data.study.tr_s)
    reliability = repeat_reliability(data.bold, data.present, showings, data.responsive_V) if showings else {}
    return {s: {"n_trs": r.n_trs, "r": r.r, "r_ceiling": r.ceiling} for s, r in reliability.items()}


def evaluation_lines(figures: dict[str, Any]) -> list[str]:
    """Format an evaluation as text."""
    encoding, decoding = figures["encoding"], figures["decoding"]
    folds = ", ".join(map(str, figures["folds"]))
    lines = [f"{figures['run_id']}, {figures['checkpoint']}, held-out TRs of fold {folds}"]
    lines += [*_refit(encoding), "", "Predicted brains"]
    values = {
        "r, responsive voxels": encoding["r_responsive"],
        "  ridge initialisation alone": encoding.get("r_start"),
        "  ridge / pooled ridge": (encoding["r_ridge"], encoding["r_ridge_pooled"]),
        "  ceiling, root of ISC": encoding.get("r_ceiling"),
        "r, null voxels": encoding["r_null"],
        "r, all voxels": encoding["r_mean"],
        "  median / 95th percentile": (encoding["r_median"], encoding["r_p95"]),
        "share of voxels, p < .01": encoding["share_above_null"],
        "share significant, FDR .05": encoding["share_significant"],
    }
    lines += [f"  {name:30}{_number(value)}" for name, value in values.items() if value is not None]
    lines += [f"  {'r, ' + name:30}{_number(value)}" for name, value in encoding["by_region"].items()]
    lines += [
        f"  {f'{subject}, root of repeats':30}{_number(scores['r_ceiling'])} ({scores['n_trs']:.0f} TRs seen again)"
        for subject, scores in encoding.get("repeats", {}).items()
    ]
    for subject, scores in encoding.get("left_out", {}).items():
        lines += ["", f"{subject}, left out of training: r over responsive (null) voxels"]
        for name in (n for n in scores if not n.endswith("_null")):
            words = name.removeprefix("r_").replace("_", " ")
            lines.append(f"  {words:30}{_number(scores[name])} ({_number(scores.get(name + '_null'))})")
    if any(decoding.values()):
        lines += ["", f"{'Film reconstructed':32}{'skill':>8}{'r':>8}{'2-way':>8}{'top-1':>8}{'chance':>8}"]
    for source, modalities in decoding.items():
        for modality, scores in modalities.items():
            numbers = [scores.get(k) for k in ("skill", "r", "two_way", "top_1", "top_1_chance")]
            lines.append(f"  {f'{modality} {origin(source)}':30}" + "".join(f"{_number(n):>8}" for n in numbers))
    return lines


def _refit(encoding: Mapping[str, Any]) -> list[str]:
    """Return a line that says whether the initialisation was fitted again; none for a network without one."""
    trs = encoding.get("refit_trs")
    if trs is None:
        return []
    if not trs:
        return [
            "These weights were fitted on training TRs alone; only the best weights of a finished run are fitted again "
            "on validation TRs as well."
        ]
    return [f"Its initialisation was fitted again on {trs:.0f} training and validation TRs, with what they selected."]


def origin(source: str) -> str:
    """Return in words from what a film was reconstructed. source: entry of the decoding figures."""
    baselines = {LINEAR_DECODER: "before training, measured", RIDGE_DECODER: "by ridge, measured brains"}
    return baselines.get(source, f"from {source} brains")


def _number(value: Any) -> str:
    if isinstance(value, tuple):
        return " / ".join(map(_number, value))
    return "–" if value is None else f"{value:.3f}"
