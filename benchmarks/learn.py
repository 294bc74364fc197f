"""What the engine learns on the demo study: `python -m benchmarks.learn WORKDIR`, a page on stdout.

Simulated brain, real film. Trains `configs/demo.yaml` for every fold and member under WORKDIR (what is trained there is
found again), and holds network and ensemble against ridge regression on the same features, folds and TRs, banded ridge
by himalaya among them.
T test TRs, N training TRs, V voxels.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from himalaya.kernel_ridge import MultipleKernelRidgeCV
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from benchmarks.demo_runs import demo_run, report_progress
from giblet_train.analysis.ensemble import (
    BOTH,
    ENSEMBLE,
    FIRST,
    MEMBER,
    POOLED,
    RIDGE,
    FoldScores,
    interval,
    member_label,
    score_folds,
    series_of,
)
from giblet_train.analysis.load_run import load_run
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.evaluation.baselines import DELAYS_TRS, delayed_by
from giblet_train.evaluation.encoding import CorrelationAccumulator
from giblet_train.evaluation.metrics import contributions_of, identification
from giblet_train.training.load_split import load_split

BANDED, BANDED_POOLED = "banded_ridge", "banded_ridge_pooled"
INNER_FOLDS, N_BANDS_TRIED, N_PERMUTATIONS = 5, 20, 200
WORDS = {
    FIRST: "network after training",
    MEMBER: "members of its ensemble, each by itself",
    ENSEMBLE: "ensemble: their mean",
    BOTH: "that and pooled ridge, averaged",
    RIDGE: "ridge",
    BANDED: "banded ridge (himalaya)",
    POOLED: "ridge, subjects pooled",
    BANDED_POOLED: "banded ridge (himalaya), subjects pooled",
}
GAINS = (
    (FIRST, RIDGE),
    (FIRST, BANDED),
    (FIRST, POOLED),
    (FIRST, BANDED_POOLED),
    (ENSEMBLE, MEMBER),
    (ENSEMBLE, FIRST),
    (BOTH, ENSEMBLE),
)
PAGE = """# Encoding and reconstruction on the demo study

`make bench-train` writes this page. Simulated brain, real film: `configs/demo.yaml` for each of folds {folds}, and
{n_others} more members of each fold's ensemble. All figures are held out: TRs that neither fitted nor chose anything. r
is the mean over responsive voxels (inter-subject correlation above chance in training TRs) and subjects; intervals are
95 % over TRs (long-run variance), paired where two predictions are compared. Network and baselines use the same
features, folds and TRs, and pass through the filter that each block of responses has passed (`data.detrend: mean`).
All are fitted on training TRs; validation TRs select; then the ridge initialisation of the network and the ridge
baselines are fitted again on both. Banded ridge selects in inner folds of both.

The form of the network's start (priors, noise, lags, weight of neighbours), `model.learnt_share` and the demo's
length were chosen on two studies of other seeds (other brains, same film), made by the same simulator as the demo:
noise colours and memory spans that suit it may suit a real brain less. Within a fold, evidence on training TRs
chooses the priors; the inner block selects the number of latents and the share of the learnt addition, and when to
stop. Width, decay and dropout are older, and were chosen while looking at the test blocks of folds 0, 2 and 4 of
this study. The baselines know neither coloured noise nor neighbours, and the delays of ridge end at 8 TRs.

| predicts held-out brains | r, mean of folds | r / root of ISC | {fold_heads} |
|---|---|---|{rule}|
| ridge initialisation with all latents: nothing is learnt | {start:.3f} | {start_share:.2f} | {starts} |
{rows}
| root of inter-subject correlation | {ceiling:.3f} | 1 | {ceilings} |

| paired difference | r | 95 % interval | ratio |
|---|---|---|---|
{gains}

Voxels outside every region of the simulated brain, null by the truth: mean r of the network {true:+.4f}, interval
[{true_low:+.4f}, {true_high:+.4f}], which {true_contains} 0. Null voxels as a study without a truth must choose them
(inter-subject correlation at chance in training TRs): {null:+.4f} [{null_low:+.4f}, {null_high:+.4f}], which
{contains} 0; {n_inside} of {n_null} of them, counted over folds, lie in a region after all.

Held-out skill of fMRI, 1 - MSE / MSE of the training mean: {skill:+.3f} over responsive voxels, {skill_all:+.3f} over
all, most of which are noise.

The film, rebuilt by network and ensemble: skill of both, and of the ensemble how many 5-TR segments are
distinguished from the others of their block (top 1), the share by chance, and the middle 95 % of {n_permutations}
permutations of segments. Zero is the network's training mean, also for the ensemble, although its other members have
other means.

| brain | modality | skill of the network (0 = training mean) | of the ensemble | top 1 | chance | permutations |
|---|---|---|---|---|---|---|
{films}

The ensemble's members have a seed and a validation block of their own (`split.validation_block`):
`python -m giblet_train ensemble RUN_DIR --seeds {n_members}`. Its first member is the network above, with whose TRs the
baselines are fitted, too. Since the last fit uses the validation block, members differ by the gaps around it, and by
what was selected and learnt without it.

## Against the goals

{verdicts}
"""


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(5)))
    arguments = parser.parse_args()
    workdir = arguments.workdir.resolve()
    variants = [
        {"split.fold": fold, "seed": n, "split.validation_block": n}
        for fold in arguments.folds
        for n in range(arguments.members)
    ]
    paths = [demo_run(workdir, changes) for changes in variants]
    folds = score_folds(paths, "best", load_split, report_progress)
    for fold in folds:
        report_progress(f"banded ridge, fold {fold.fold}")
        dict.update(fold.scores, banded(fold.data))
    evaluations = [_evaluation(workdir / "runs" / fold.members[0]) for fold in folds]
    print(page(folds, evaluations), end="")


def banded(data: PreparedSplit) -> dict[str, CorrelationAccumulator]:
    """Fit ridge with a penalty per modality and voxel by random search, for each subject and for the subjects' mean.

    Fitted and chosen on training and validation TRs, in INNER_FOLDS contiguous inner folds.
    """
    split, scans = data.split.joined, data.study.scan_lengths_trs
    kernels = np.stack([_kernel(x_TF, split.train, scans) for x_TF in data.inputs.values()])
    inside = kernels[:, split.train][:, :, split.train]
    across = kernels[:, split.test][:, :, split.train]

    def predicted(bold_TV: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        model = MultipleKernelRidgeCV(
            kernels="precomputed",
            solver="random_search",
            solver_params={"n_iter": N_BANDS_TRIED, "alphas": np.logspace(0, 5, 11), "progress_bar": False},
            cv=KFold(INNER_FOLDS),
            random_state=0,
        )
        model.fit(inside.astype(np.float32), bold_TV[split.train].astype(np.float32))
        return np.asarray(data.drift.apply(model.predict(across.astype(np.float32)), split.test_blocks), np.float32)

    scores = {name: CorrelationAccumulator(data.responsive_V, data.null_V) for name in (BANDED, BANDED_POOLED)}
    pooled_TV = predicted(np.mean([data.bold[s] for s in data.subjects], axis=0))
    for subject in data.subjects:
        measured_TV = data.bold[subject][split.test]
        scores[BANDED].add(predicted(data.bold[subject]), measured_TV)
        scores[BANDED_POOLED].add(pooled_TV, measured_TV)
    return scores


def _kernel(x_TF: NDArray[np.float32], train: NDArray[np.intp], scans: tuple[int, ...]) -> NDArray[np.float64]:
    """Return one modality's part of the kernel of `baselines.ridge_of`."""
    scaled_TF = x_TF.astype(np.float64) / np.sqrt(x_TF.shape[1])
    kernel_TT = np.zeros((len(x_TF), len(x_TF)))
    for delay in DELAYS_TRS:
        delayed = delayed_by(scaled_TF, delay, scans)
        delayed -= delayed[train].mean(axis=0)
        kernel_TT += delayed @ delayed.T
    return kernel_TT


def page(folds: Sequence[FoldScores], evaluations: Sequence[dict[str, Any]]) -> str:
    """Return all figures as Markdown. judged: each fold's evaluation of its first member."""
    series, encodings = series_of(folds), [e["encoding"] for e in evaluations]
    ceilings = np.array([e["r_ceiling"] for e in encodings])
    starts = np.array([e["r_start"] for e in encodings])
    gains = {(ours, other): interval(series[ours] - series[other]) for ours, other in GAINS}
    null_T = np.concatenate([_null_contributions(fold) for fold in folds]) / len(folds)
    null = interval(null_T)
    true = interval(np.concatenate([e["outside_T"] for e in evaluations]) / len(folds))
    films = _films(folds, evaluations)
    n_members = len(folds[0].members)
    return PAGE.format(
        n_members=n_members,
        n_others=n_members - 1,
        folds=", ".join(str(fold.fold) for fold in folds),
        fold_heads=" | ".join(f"fold {fold.fold}" for fold in folds),
        rule="|".join(["---"] * len(folds)),
        rows="\n".join(
            _row(words, series[name].sum(), ceilings, _by_fold(folds, name)) for name, words in WORDS.items()
        ),
        ceiling=ceilings.mean(),
        ceilings=_cells(ceilings),
        start=starts.mean(),
        start_share=starts.mean() / ceilings.mean(),
        starts=_cells(starts),
        gains="\n".join(_gain(pair, gain, series) for pair, gain in gains.items()),
        true=true["mean"],
        true_low=true["low"],
        true_high=true["high"],
        true_contains=_contains(true),
        null=null["mean"],
        null_low=null["low"],
        null_high=null["high"],
        contains=_contains(null),
        n_inside=sum((_in_regions(fold.data) & fold.data.null_V).sum() for fold in folds),
        n_null=sum(fold.data.null_V.sum() for fold in folds),
        skill=np.mean([e["skill_responsive"] for e in encodings]),
        skill_all=np.mean([e["skill"]["fmri"] for e in evaluations]),
        n_permutations=N_PERMUTATIONS,
        films="\n".join(films),
        verdicts="\n".join(_verdicts(gains, true, evaluations)),
    )


def _row(words: str, r: float, ceilings: NDArray[np.float64], by_fold: NDArray[np.float64]) -> str:
    return f"| {words} | {r:.3f} | {r / ceilings.mean():.2f} | {_cells(by_fold)} |"


def _cells(values: NDArray[np.float64]) -> str:
    return " | ".join(f"{v:.3f}" for v in values)


def _by_fold(folds: Sequence[FoldScores], name: str) -> NDArray[np.float64]:
    return np.array([np.mean([fold.scores[n].r_responsive for n in member_label(fold, name)]) for fold in folds])


def _gain(pair: tuple[str, str], gain: dict[str, float], series: dict[str, NDArray[np.float64]]) -> str:
    name, other = pair
    ratio = series[name].sum() / series[other].sum()
    cells = f"{gain['mean']:+.4f} | [{gain['low']:+.4f}, {gain['high']:+.4f}] | {ratio:.2f}"
    return f"| {WORDS[name]} - {WORDS[other]} | {cells} |"


def _null_contributions(fold: FoldScores) -> NDArray[np.float64]:
    return np.asarray(np.mean(fold.scores[fold.members[0]].null_contributions, axis=0))


def _films(folds: Sequence[FoldScores], evaluations: Sequence[dict[str, Any]]) -> list[str]:
    """Return a row for each source of brains and modality, averaged over folds."""
    rows, rng = [], np.random.default_rng(0)
    for source, film in folds[0].decoding.items():
        for modality in film:
            scores = [fold.decoding[source][modality] for fold in folds]
            draws = np.mean([_permuted(fold, source, modality, rng) for fold in folds], axis=0)
            low, high = np.quantile(draws, [0.025, 0.975])
            alone = np.mean([record["decoding"][source][modality]["skill"] for record in evaluations])
            mean = {key: np.mean([s[key] for s in scores]) for key in ("skill", "top_1", "top_1_chance")}
            rows.append(
                f"| {source} | {modality} | {alone:+.3f} | {mean['skill']:+.3f} | {mean['top_1']:.2f} | "
                f"{mean['top_1_chance']:.2f} | [{low:.2f}, {high:.2f}] |"
            )
    return rows


def _permuted(fold: FoldScores, source: str, modality: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (N_PERMUTATIONS,): top 1 when segments are rebuilt in another order."""
    root_F = np.sqrt(fold.data.target_weights[modality])
    true_TF = fold.data.targets[modality][fold.data.split.test] * root_F
    rebuilt_TF = fold.rebuilt[source][modality] * root_F
    n = len(true_TF) // 5
    draws = []
    for _ in range(N_PERMUTATIONS):
        order = (rng.permutation(n)[:, None] * 5 + np.arange(5)).ravel()
        draws.append(identification(rebuilt_TF[order], true_TF[: 5 * n])["top_1"])
    return np.array(draws)


def _verdicts(
    gains: dict[tuple[str, str], dict[str, float]], true: dict[str, float], evaluations: Sequence[dict[str, Any]]
) -> list[str]:
    pooled, banded_alone, members = gains[FIRST, POOLED], gains[FIRST, BANDED], gains[ENSEMBLE, MEMBER]
    strongest = gains[FIRST, BANDED_POOLED]
    measured = [judge["decoding"]["measured"] for judge in evaluations]
    goals = {
        "network at least pooled ridge (interval above -.005)": pooled["low"] > -0.005,
        "network at least pooled banded ridge (interval above -.005)": strongest["low"] > -0.005,
        "network above banded ridge of each subject (interval above 0)": banded_alone["low"] > 0,
        "mean r over voxels without signal, by the truth: interval contains 0": true["low"] <= 0 <= true["high"],
        "ensemble above its members (interval above 0)": members["low"] > 0,
        "every modality rebuilt from measured brains with skill above 0, mean of folds": all(
            np.mean([film[modality]["skill"] for film in measured]) > 0 for modality in measured[0]
        ),
    }
    return [f"- {'met' if is_met else '**missed**'}: {goal}" for goal, is_met in goals.items()]


def _in_regions(data: PreparedSplit) -> NDArray[np.bool_]:
    inside_V = np.zeros(data.n_voxels, bool)
    for parcel in data.parcels.values():
        inside_V[parcel] = True
    return inside_V


def _contains(bounds: dict[str, float]) -> str:
    return "contains" if bounds["low"] <= 0 <= bounds["high"] else "does not contain"


def _evaluation(path: Path) -> dict[str, Any]:
    """Return a run's test figures, and each TR's contribution to r over voxels outside every true region."""
    run = load_run(path, "best", load_split, report_progress)
    data, outside_V = run.data, ~_in_regions(run.data)
    products = [
        contributions_of(predicted_TV[:, outside_V], data.bold[subject][data.split.test][:, outside_V])
        for subject, predicted_TV in run.evaluator.predicted(run.model)
    ]
    return run.evaluator.evaluation(run.model, lambda: None) | {"outside_T": np.mean(products, axis=0)}


if __name__ == "__main__":
    main()
