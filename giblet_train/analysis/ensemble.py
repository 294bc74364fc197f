"""Average the predictions of several runs, and compare the ensemble with its members and with ridge.

Members of a fold differ by seed and by the block that validates; folds differ by what is tested on, so each is averaged
by itself and figures are means over folds. T test TRs of a fold, V voxels, F features.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.analysis.align_members import Mean, to_features_of, to_voxels_of
from giblet_train.analysis.load_run import load_run
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.evaluation.baselines import ridge_of
from giblet_train.evaluation.encoding import CorrelationAccumulator, Floats
from giblet_train.evaluation.intervals import interval_of_sum
from giblet_train.schema.config import diff
from giblet_train.schema.ensemble_configs import FREE_KEYS, PLACE_KEYS
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.progress import ProgressCallback
from giblet_train.schema.run_dir import RunDir
from giblet_train.training.process import DataLoaderFn

ENSEMBLE, RIDGE, POOLED, BOTH = "ensemble", "ridge", "ridge_pooled", "ensemble_with_ridge_pooled"
MEMBER, FIRST = "member", "first"


@dataclass(frozen=True)
class FoldScores:
    """One fold. scores: who predicts -> r of each subject; members by their run id.

    rebuilt: source -> modality -> (T, F), the members' mean; decoding: its figures. member_skill: modality -> the
    members' mean skill, from predicted brains. All use the voxels, features and training TRs of the first member.
    """

    fold: int
    members: tuple[str, ...]
    scores: Mapping[str, CorrelationAccumulator]
    rebuilt: Mapping[str, Mapping[str, Floats]]
    decoding: Mapping[str, Mapping[str, Mapping[str, float]]]
    member_skill: Mapping[str, float]
    data: PreparedSplit


def score_folds(
    paths: Sequence[Path], role: str, load: DataLoaderFn, report_progress: ProgressCallback
) -> list[FoldScores]:
    """Return the scores of each fold of these runs, in order. Raises ConfigError if runs cannot be averaged."""
    by_fold: dict[int, list[Path]] = defaultdict(list)
    first = RunDir(paths[0].resolve()).read_config()
    for path in paths:
        config = RunDir(path.resolve()).read_config()
        differences = [key for key in diff(first, config) if key not in (*FREE_KEYS, *PLACE_KEYS)]
        if differences:
            raise ConfigError(
                f"{path.name} differs from {paths[0].name} by {', '.join(differences)}.",
                f"Members of an ensemble may differ only by {', '.join(FREE_KEYS)}.",
            )
        by_fold[config.split.fold].append(path)
    return [_score(fold, by_fold[fold], role, load, report_progress) for fold in sorted(by_fold)]


def _score(
    fold: int, paths: Sequence[Path], role: str, load: DataLoaderFn, report_progress: ProgressCallback
) -> FoldScores:
    scores: dict[str, CorrelationAccumulator] = {}
    total: dict[str, Mean] = defaultdict(Mean)
    rebuilt: dict[str, dict[str, Floats]] = {}
    skills: list[dict[str, float]] = []
    first = load_run(paths[0], role, load, report_progress)
    data, rows = first.data, first.data.split.test
    for n, path in enumerate(paths):
        run = first if n == 0 else load_run(path, role, load, report_progress)
        report_progress(f"fold {fold}: member {n + 1} of {len(paths)}", n / len(paths))
        scores[path.name] = CorrelationAccumulator(data.responsive_V, data.null_V)
        for subject, own_TV in run.evaluator.predicted(run.model):
            predicted_TV = to_voxels_of(run.data, data, own_TV)
            own_T = data.present[subject][rows] if data.present else None
            scores[path.name].add(np.nan_to_num(predicted_TV), data.bold[subject][rows], own_T)
            total[subject].add(predicted_TV)
        film = {
            source: {m: to_features_of(run.data, data, m, own_TF) for m, own_TF in features.items()}
            for source, features in run.evaluator.rebuilt(run.model).items()
        }
        skills.append({m: d["skill"] for m, d in first.evaluator.decoding(film)["predicted"].items()})
        for source, features in film.items():
            into = rebuilt.setdefault(source, {})
            for m, x_TF in features.items():
                into[m] = into.get(m, np.float32(0.0)) + x_TF / np.float32(len(paths))
    members = tuple(path.name for path in paths)
    scores |= _score_with_baselines(data, {subject: mean.value_TV for subject, mean in total.items()})
    mean_skill = {m: float(np.mean([skill[m] for skill in skills])) for m in skills[0]}
    return FoldScores(fold, members, scores, rebuilt, first.evaluator.decoding(rebuilt), mean_skill, data)


def _score_with_baselines(data: PreparedSplit, total: Mapping[str, Floats]) -> dict[str, CorrelationAccumulator]:
    """Score the ensemble, ridge per subject and pooled, and the mean of ensemble and pooled ridge."""
    split, rows = data.split, data.split.test
    scores = {name: CorrelationAccumulator(data.responsive_V, data.null_V) for name in (ENSEMBLE, RIDGE, POOLED, BOTH)}
    ridge = ridge_of(data.inputs, split.train, split.validation, data.study.scan_lengths_trs)
    together_V = data.responsive_V if data.responsive_V.any() else np.ones(data.n_voxels, bool)
    n_T1 = np.maximum(1, data.n_present_T())[:, None]
    mean_TV = np.asarray(np.sum([data.bold[s] for s in data.subjects], axis=0) / n_T1, np.float32)
    pooled_TV = data.drift.apply(ridge.predict(mean_TV, rows, together_V), split.test_blocks)
    for subject, predicted_TV in total.items():
        bold_TV = data.bold[subject]
        own_T = data.present[subject][rows] if data.present else None
        own_ridge = ridge.restricted_to(data.present[subject]) if data.present else ridge
        alone_TV = data.drift.apply(own_ridge.predict(bold_TV, rows, together_V), split.test_blocks)
        for name, each_TV in (
            (ENSEMBLE, predicted_TV),
            (RIDGE, alone_TV),
            (POOLED, pooled_TV),
            (BOTH, (predicted_TV + pooled_TV) / 2.0),
        ):
            scores[name].add(np.asarray(each_TV, np.float32), bold_TV[rows], own_T)
    return scores


def report(folds: Sequence[FoldScores]) -> dict[str, Any]:
    """Return figures over all folds: r over responsive voxels, and the ensemble's gains with intervals."""
    series = series_of(folds)
    return {
        "folds": [fold.fold for fold in folds],
        "members": {str(fold.fold): list(fold.members) for fold in folds},
        "r": {name: float(sum_T.sum()) for name, sum_T in series.items()},
        "gain": {
            f"{ENSEMBLE} over {other}": interval(series[ENSEMBLE] - series[other])
            for other in (MEMBER, FIRST, RIDGE, POOLED)
        }
        | {f"{BOTH} over {ENSEMBLE}": interval(series[BOTH] - series[ENSEMBLE])},
        "decoding": {
            source: {m: _mean_of([fold.decoding[source][m] for fold in folds]) for m in folds[0].decoding[source]}
            for source in folds[0].decoding
        },
        "member_skill": _mean_of([fold.member_skill for fold in folds]),
    }


def interval(gain_T: NDArray[np.float64]) -> dict[str, float]:
    """Return a sum over TRs with its 95 % interval."""
    low, high = interval_of_sum(gain_T)
    return {"mean": float(gain_T.sum()), "low": low, "high": high}


def series_of(folds: Sequence[FoldScores]) -> dict[str, NDArray[np.float64]]:
    """Return model -> each TR's contribution (T of all folds,) to the mean of r over folds.

    `member`: the members' mean; `first`: each fold's first member, whose training TRs the baselines use as well.
    """
    series = {}
    for name in (MEMBER, FIRST, *(name for name in folds[0].scores if name not in folds[0].members)):
        parts = [
            np.mean([p for n in member_label(fold, name) for p in fold.scores[n].contributions], axis=0)
            for fold in folds
        ]
        series[name] = np.concatenate(parts) / len(folds)
    return series


def member_label(fold: FoldScores, name: str) -> Sequence[str]:
    """Return the names of a fold's scores that a name of `series_of` means."""
    return {MEMBER: fold.members, FIRST: fold.members[:1]}.get(name, [name])


def _mean_of(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([f[key] for f in figures])) for key in figures[0] if all(key in f for f in figures)}


def lines_of(figures: Mapping[str, Any]) -> list[str]:
    """Format the report as text."""
    n_members = sum(len(m) for m in figures["members"].values())
    lines = [f"{n_members} runs, folds {', '.join(map(str, figures['folds']))}; held-out r over responsive voxels", ""]
    lines += [f"{name.replace('_', ' '):<28} {value:6.3f}" for name, value in figures["r"].items()]
    lines += ["", "gain, with 95 % interval"]
    for name, g in figures["gain"].items():
        lines.append(f"{name.replace('_', ' '):<44} {g['mean']:+.3f}  [{g['low']:+.3f}, {g['high']:+.3f}]")
    lines += ["", "reconstructed film: skill, and identification of 5-TR segments (chance)"]
    for source, film in figures["decoding"].items():
        for m, d in film.items():
            identification = f"{d['top_1']:.2f} ({d['top_1_chance']:.2f})" if "top_1" in d else "too few TRs"
            lines.append(f"{source:<10} {m:<6} {d['skill']:+.3f}   {identification}")
    return lines
