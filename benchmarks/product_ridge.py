"""Ridge that knows the form of the truth: the reference for what nonlinear bands and the network can reach.

It predicts the mean of the subjects from one linear and one nonlinear kernel over the features at each TR, both
filtered by the canonical HRF. The nonlinear share and the penalty are chosen by r on the validation block; then it is
fitted again on training and validation TRs.
T TRs, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.data.statistics.hrf import glover
from giblet_train.evaluation.baselines import ALPHAS, DualRidge
from giblet_train.evaluation.metrics import pearson

Floats = NDArray[np.float64]
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
MEMORY_S = 15.0


def predict(data: PreparedSplit, form: str) -> NDArray[np.float32]:
    """Return responses (T, V) of every subject on the test TRs."""
    split = data.split
    linear_TT, form_TT = _filtered(_linear(data), data), FORMS[form](data)
    mean_TV = np.mean([data.bold[s] for s in data.subjects], axis=0)
    best_r, best_kernel_TT, best_penalty = -np.inf, linear_TT, ALPHAS[-1]
    for share in SHARES:
        kernel_TT = (1.0 - share) * _normalized(linear_TT, data) + share * _normalized(form_TT, data)
        solver = DualRidge.of(kernel_TT[np.ix_(split.train, split.train)])
        for alpha in ALPHAS:
            penalty = alpha / len(split.train)
            chooser_TV = solver.predict(kernel_TT[np.ix_(split.validation, split.train)], mean_TV[split.train], penalty)
            r = pearson(chooser_TV, mean_TV[split.validation])[data.responsive_V].mean()
            if r > best_r:
                best_r, best_kernel_TT, best_penalty = r, kernel_TT, penalty
    both = split.joined.train
    solver = DualRidge.of(best_kernel_TT[np.ix_(both, both)])
    return solver.predict(best_kernel_TT[np.ix_(split.test, both)], mean_TV[both], best_penalty)


def _normalized(kernel_TT: Floats, data: PreparedSplit) -> Floats:
    return np.asarray(kernel_TT / kernel_TT[data.split.train, data.split.train].mean())


def _linear(data: PreparedSplit) -> Floats:
    return np.asarray(np.sum([_own(x_TF) for x_TF in data.inputs.values()], axis=0))


def _own(x_TF: NDArray[np.float32]) -> Floats:
    return np.asarray(x_TF.astype(float) @ x_TF.T / x_TF.shape[1])


def _filtered(kernel_TT: Floats, data: PreparedSplit, memory_s: float = 0.0) -> Floats:
    """Return the kernel of features filtered by the HRF, and by a memory, without their training mean."""
    n_trs, tr_s = len(kernel_TT), data.study.tr_s
    response_L = glover(tr_s)
    if memory_s:
        response_L = np.convolve(response_L, np.exp(-np.arange(0.0, 4 * memory_s, tr_s) / memory_s))
    for _ in range(2):  # along both axes
        kernel_TT = np.apply_along_axis(lambda x_T: np.convolve(x_T, response_L)[:n_trs], 0, kernel_TT).T
    train = data.split.train
    column_T = kernel_TT[train].mean(axis=0)
    return np.asarray(kernel_TT - column_T - column_T[:, None] + column_T[train].mean())


def _arc_cosine(kernel_TT: Floats) -> Floats:
    """Return the arc-cosine kernel of order 1 (Cho and Saul 2009) of inner products."""
    size_T = np.sqrt(kernel_TT.diagonal())
    size_TT = np.outer(size_T, size_T)
    cosine_TT = np.clip(kernel_TT / size_TT, -1.0, 1.0)
    angle_TT = np.arccos(cosine_TT)
    return np.asarray(size_TT * (np.sin(angle_TT) + (np.pi - angle_TT) * cosine_TT) / np.pi)


def _saturation(data: PreparedSplit) -> Floats:
    return _filtered(_arc_cosine(_linear(data) + 1.0), data)


def _energy(data: PreparedSplit) -> Floats:
    return _filtered(_own(next(iter(data.inputs.values()))) ** 2, data)


def _interaction(data: PreparedSplit) -> Floats:
    first_TF, second_TF, *_ = data.inputs.values()
    return _filtered(_own(first_TF) * _own(second_TF), data)


def _integration(data: PreparedSplit) -> Floats:
    return _filtered(_arc_cosine(_linear(data) + 1.0), data, MEMORY_S)


FORMS: Mapping[str, Callable[[PreparedSplit], Floats]] = {
    "linear": lambda data: _filtered(_linear(data), data),
    "saturation": _saturation,
    "energy": _energy,
    "interaction": _interaction,
    "integration": _integration,
}
