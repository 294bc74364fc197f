"""Ridge regression in the network's own terms: what it starts from, and what weight decay pulls it back to.

The responses of all subjects, compressed, are regressed on the film's delayed features in the space of TRs. Group and
deviation, or each subject, have a penalty of their own, chosen on the inner validation block: heads shrunk towards the
group. The prediction's strongest components over training TRs become latents.

N training TRs, M validation TRs, F features of all modalities, L lags (0 first), K latents, R compressed responses of
the subjects held here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from giblet_train.baselines import DELAYS_TRS, DualRidge
from giblet_train.batch import Batch
from giblet_train.data.drift import Block, Drift
from giblet_train.model.compress import upright
from giblet_train.model.linear_path import Start
from giblet_train.shards import Shards
from giblet_train.targets import Targets

Doubles = NDArray[np.float64]
PENALTIES = tuple(float(p) for p in np.logspace(-1, 4, 16))
"""In units of the mean squared length of a training TR's delayed features."""
SHAPED_SHARE = 1 / 3
POWER_FLOOR = 1e-12
Fitted = Callable[[], Iterator[tuple[slice, Doubles]]]
"""Each part's columns with its dual weights (N, R), made anew: without a compression they are wide."""


@dataclass(frozen=True)
class RidgeStart:
    """start: the network's. penalty: part of the compression -> the penalty that the validation block chose."""

    start: Start
    penalty: Mapping[str, float]


def lag_prior(response_L: Doubles, convolved: bool) -> Doubles:
    """(L, L): how weights at two lags belong together before anything is seen.

    Two thirds of the variance leave lags 1 to 8 free of one another, as delayed ridge does, and one third has them
    follow the haemodynamic response. convolved: features that are already convolved have no further lag.
    """
    shaped_LL = np.outer(response_L, response_L)
    if convolved:
        return shaped_LL
    lags = np.arange(len(response_L))
    free_LL = np.diag(((lags >= DELAYS_TRS[0]) & (lags <= DELAYS_TRS[-1])).astype(float))
    shared = SHAPED_SHARE * len(DELAYS_TRS)
    return np.asarray((1.0 - SHAPED_SHARE) * free_LL + shared * shaped_LL)


def ridge_start(
    targets: Targets,
    train: Sequence[Batch],
    validation: Sequence[Batch],
    validation_blocks: Sequence[Block],
    prior_LL: Doubles,
    drift: Drift,
    n_latents: int,
    shards: Shards,
) -> RidgeStart:
    """Fit on the training batches, choose penalties on the validation ones; each batch is a whole block.

    drift: what responses have lost, and predictions lose before they are compared. Latents are those of all subjects.
    """
    n_lags = len(prior_LL)
    seen_NLF = _delayed(targets, train, n_lags)
    weighed_NLF = np.einsum("lm,nmf->nlf", prior_LL, seen_NLF)
    flat, weighed = seen_NLF.reshape(len(seen_NLF), -1), weighed_NLF.reshape(len(seen_NLF), -1)
    kernel_NN = weighed @ flat.T
    unit = float(np.trace(kernel_NN)) / len(kernel_NN)
    solver = DualRidge.of(kernel_NN)
    across_MN = _delayed(targets, validation, n_lags).reshape(-1, flat.shape[1]) @ weighed.T
    edges = np.cumsum([0, *targets.parts.values()]).tolist()
    columns = dict(zip(targets.parts, [slice(first, stop) for first, stop in pairwise(edges)], strict=True))

    def chosen(part: str) -> float:
        target_NR, wanted_MR = (_responses(targets, batches, columns[part]) for batches in (train, validation))

        def error(candidate: float) -> float:
            predicted = solver.predict(across_MN, target_NR, candidate * unit)
            return float(((drift.removed(predicted, validation_blocks) - wanted_MR) ** 2).sum())

        return min(PENALTIES, key=error)

    penalty = {part: chosen(part) for part in columns}

    def fitted() -> Iterator[tuple[slice, Doubles]]:
        for part, own in columns.items():
            yield own, solver.dual(_responses(targets, train, own), penalty[part] * unit)

    return RidgeStart(_start(targets, kernel_NN, fitted, weighed_NLF, n_latents, shards), shards.of_all(penalty))


def _start(
    targets: Targets, kernel_NN: Doubles, fitted: Fitted, weighed_NLF: Doubles, n_latents: int, shards: Shards
) -> Start:
    """The n_latents strongest components of the prediction, each with standard deviation 1 over training TRs.

    Those are its left singular vectors, found by the one product that adds over parts and subjects.
    """
    n = len(kernel_NN)
    product_NN = shards.total(sum((dual_NR @ (kernel_NN @ dual_NR).T for _, dual_NR in fitted()), np.zeros((n, n))))
    power_N, courses_NN = shards.agreed(np.linalg.eigh(kernel_NN @ product_NN))
    kept = min(n_latents, int((power_N > POWER_FLOOR * power_N[-1]).sum()))
    power_K, courses_NK = power_N[::-1][:kept], upright(courses_NN[:, ::-1][:, :kept])
    heads_KR = np.zeros((n_latents, sum(targets.parts.values())), np.float32)
    for columns, dual_NR in fitted():
        heads_KR[:kept, columns] = courses_NK.T @ (kernel_NN @ dual_NR) / np.sqrt(n)
    weight_KLF = np.zeros((n_latents, *weighed_NLF.shape[1:]))
    weight_KLF[:kept] = np.einsum("nk,nlf->klf", product_NN @ courses_NK * np.sqrt(n) / power_K, weighed_NLF)
    path, column = {}, 0
    for modality, x_TF in targets.inputs.items():
        n_features = x_TF.shape[1]
        own = weight_KLF[:, :, column : column + n_features] / np.sqrt(n_features)
        path[modality] = torch.from_numpy(own.transpose(0, 2, 1).astype(np.float32))
        column += n_features
    return Start(path, torch.from_numpy(heads_KR))


def _delayed(targets: Targets, batches: Sequence[Batch], n_lags: int) -> Doubles:
    """(N, L, F): what the network sees at and before each scored TR, each modality of the same weight."""
    rows = []
    for batch in batches:
        inputs, _ = targets.seen(batch)
        x_WF = np.concatenate([x[0].cpu().numpy() / np.sqrt(x.shape[-1]) for x in inputs.values()], axis=1)
        padded = np.concatenate([np.zeros((n_lags - 1, x_WF.shape[1])), x_WF])
        lagged_WLF = np.stack([padded[n_lags - 1 - lag : len(padded) - lag] for lag in range(n_lags)], axis=1)
        rows.append(lagged_WLF[batch.scored_BW[0]])
    return np.concatenate(rows)


def _responses(targets: Targets, batches: Sequence[Batch], columns: slice) -> Doubles:
    rows = np.concatenate([batch.index_BW[batch.scored_BW] for batch in batches])
    return np.asarray(targets.scores_TR[:, columns].cpu().numpy()[rows], np.float64)
