"""Correlations by chance: of measured test responses with predictions of other stretches of the film.

Circular shifts within a short test block underestimate chance, because few of them are independent and detrended ends
do not match. They remain for films without enough other stretches.

Significance is that of the correlation of prewhitened series, as regression of fMRI series is tested (Woolrich et al.
2001). Slow series have few independent TRs, so that their correlation scatters widely by chance.

T TRs of the test block, E TRs of other blocks, V voxels, N draws of the null.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from giblet_train.components.marginal_likelihood import prewhiten
from giblet_train.data.preprocessing.detrend import Block, Detrend
from giblet_train.evaluation.metrics import pearson, shifted_r, unit

MOST_STRETCHES = 48
FEWEST_STRETCHES = 6
Singles = NDArray[np.float32]


def stretches_of(blocks: Sequence[Block], n_trs: int) -> list[Block]:
    """Return up to MOST_STRETCHES evenly spaced stretches of `n_trs` rows within blocks that follow one another.

    There are none if fewer than FEWEST_STRETCHES fit.
    """
    starts: list[int] = []
    first = 0
    for start, stop in blocks:
        starts += range(first, first + (stop - start) - n_trs + 1)
        first += stop - start
    every = max(1, -(-len(starts) // MOST_STRETCHES))
    stretches = [(start, start + n_trs) for start in starts[::every]]
    return stretches if len(stretches) >= FEWEST_STRETCHES else []


def chance_r(
    predicted_TV: Singles,
    measured_TV: Singles,
    elsewhere_TV: Singles,
    stretches: Sequence[Block],
    drift: Detrend,
    own_T: NDArray[np.bool_] | None = None,
) -> Singles:
    """Return correlations of each voxel by chance, (N, V).

    Args:
        predicted_TV: predictions of the test block, whose circular shifts are used if there are no stretches.
        measured_TV: responses in the test block.
        elsewhere_TV: predictions of other blocks, one after another.
        stretches: rows of `elsewhere_TV`, from `stretches_of`.
        drift: drift that the responses lack.
        own_T: rows of the test block that the subject has; None for all.
    """
    own_T = np.ones(len(measured_TV), bool) if own_T is None else own_T
    if not stretches:
        return shifted_r(predicted_TV[own_T], measured_TV[own_T]).astype(np.float32)
    unit_TV = unit(measured_TV[own_T])
    parts = (drift.apply(elsewhere_TV[first:stop], [(0, stop - first)]) for first, stop in stretches)
    return np.stack([(unit(part_TV[own_T]) * unit_TV).sum(axis=0).astype(np.float32) for part_TV in parts])


def prewhitened_r(
    predicted_TV: Singles,
    measured_TV: Singles,
    elsewhere_EV: Singles,
    test_blocks: Sequence[Block],
    other_blocks: Sequence[Block],
    drift: Detrend,
    own_T: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], Singles]:
    """Return the correlation of each voxel's prewhitened series (V,), and the same by chance (N, V).

    Args:
        predicted_TV: predictions of the test blocks, one after another, without drift.
        measured_TV: responses in the test blocks, without drift.
        elsewhere_EV: predictions of the other blocks, one after another.
        test_blocks: blocks of the film that the first two belong to.
        other_blocks: blocks of the film that the third belongs to.
        drift: drift that the responses lack.
        own_T: rows of the test blocks that the subject has.
    """
    white_TV, white_measured_TV = (
        drift.apply(prewhiten(x_TV, test_blocks, drift), test_blocks) for x_TV in (predicted_TV, measured_TV)
    )
    white_EV = prewhiten(elsewhere_EV, other_blocks, drift)
    stretches = stretches_of(other_blocks, len(measured_TV))
    null_NV = chance_r(white_TV, white_measured_TV, white_EV, stretches, drift, own_T)
    return pearson(white_TV[own_T], white_measured_TV[own_T]), null_NV
