"""Find the parts of a loss whatever they are called: numbers whose sum, possibly weighted, is the printed total."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Dict, FrozenSet, Iterator, List, Mapping, Optional, Sequence, Tuple

MAX_CANDIDATES = 8
MAX_PARTS = 5
FEWEST_ROWS = 4
MAX_ROWS = 40
"""Rows, spread over the whole course, from which a sum is derived."""
ROUNDING = 2e-3
"""Largest relative difference between a sum of rounded numbers and their rounded total."""
LEAST_SHARE = 0.01
"""Largest contribution of a part, relative to the largest total, from which its weight can be known."""
TERMS = frozenset(
    (
        *("recon", "reconstruction", "recons", "rec", "kl", "kld", "kldiv", "perc", "perceptual", "vq", "commit"),
        *("commitment", "codebook", "contrastive", "clip", "nce", "infonce", "temporal", "aux", "prior", "entropy"),
    )
)
"""Names of parts that are nothing else next to a loss, or next to each other."""
WEAK_TERMS = frozenset(("mse", "mae", "l1", "l2", "bce", "ce", "xent", "nll", "huber", "dice", "cos", "cosine", "tv"))
"""Names that are parts next to one of TERMS, and otherwise the loss itself or a metric."""
_RECALL = frozenset(("prec", "precision", "recall", "f1"))

Row = Tuple[float, Mapping[str, float]]
"""(total, name -> value)"""


def terms_of(values: Mapping[str, float]) -> Dict[str, float]:
    """Return the parts of a loss without a printed total: two or more numbers whose names say that they are parts."""
    if _RECALL & set(values):
        return {}
    terms = {name: value for name, value in values.items() if name in TERMS | WEAK_TERMS}
    return terms if len(terms) > 1 and TERMS & set(terms) else {}


def named_parts(values: Mapping[str, float]) -> Dict[str, float]:
    """Return the numbers next to a total whose names say that they are its parts."""
    return {} if _RECALL & set(values) else {name: value for name, value in values.items() if name in TERMS}


def part_weights(rows: Sequence[Row]) -> Optional[Dict[str, float]]:
    """Return the weights with which numbers add up to the total in every row; None if none do.

    Weights are 1, or else have one significant digit, as people choose them: an arbitrary weight would fit any curve.
    """
    rows = [(total, values) for total, values in rows if math.isfinite(total)]
    rows = rows[:: -(-len(rows) // MAX_ROWS)] if rows else rows
    if len(rows) < FEWEST_ROWS:
        return None
    names = [name for name in rows[0][1] if all(math.isfinite(values.get(name, math.nan)) for _, values in rows)]
    names = names[:MAX_CANDIDATES]
    for subset in _subsets(names, largest_first=True):
        if _adds_up(rows, dict.fromkeys(subset, 1.0)):
            return dict.fromkeys(subset, 1.0)
    for subset in _subsets(names, largest_first=False):
        weights = _fitted(rows, subset)
        if weights is not None and _adds_up(rows, weights):
            return weights
    return None


def _subsets(names: Sequence[str], largest_first: bool) -> Iterator[Tuple[str, ...]]:
    sizes = range(2, min(MAX_PARTS, len(names)) + 1)
    for size in reversed(sizes) if largest_first else sizes:
        yield from combinations(names, size)


def _adds_up(rows: Sequence[Row], weights: Mapping[str, float]) -> bool:
    scale = max(abs(total) for total, _ in rows)
    for total, values in rows:
        terms = [weight * values[name] for name, weight in weights.items()]
        largest = max(abs(total), *map(abs, terms))
        if abs(math.fsum(terms) - total) > ROUNDING * max(largest, 0.01 * scale):
            return False
    return True


def _fitted(rows: Sequence[Row], names: Tuple[str, ...]) -> Optional[Dict[str, float]]:
    """Return weights by least squares, rounded to one digit; None if they are not all positive or not determined."""
    if len(rows) < len(names) + FEWEST_ROWS:
        return None
    scales = {name: max(abs(values[name]) for _, values in rows) or 1.0 for name in names}
    columns = [[values[name] / scales[name] for _, values in rows] for name in names]
    totals = [total for total, _ in rows]
    matrix = [[math.fsum(a * b for a, b in zip(x, y)) for y in columns] for x in columns]
    solution = _solved(matrix, [math.fsum(a * b for a, b in zip(x, totals)) for x in columns])
    # A part that hardly contributes has no weight that could be known.
    if solution is None or min(solution) < LEAST_SHARE * max(map(abs, totals)):
        return None
    return {name: float(f"{weight / scales[name]:.0e}") for name, weight in zip(names, solution)}


def _solved(matrix: List[List[float]], right: List[float]) -> Optional[List[float]]:
    """Solve a small system by elimination; None if its rows nearly depend on each other."""
    n = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda k: abs(rows[k][i]))
        if abs(rows[pivot][i]) <= 1e-9 * max(map(abs, matrix[i])):
            return None
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for k in range(n):
            if k != i:
                factor = rows[k][i] / rows[i][i]
                rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i])]
    return [rows[i][n] / rows[i][i] for i in range(n)]


NOT_PARTS: FrozenSet[str] = frozenset(
    (
        *("time", "eta", "data", "mem", "memory", "gpu", "s", "sec", "ms", "it", "its", "speed", "ips", "samples"),
        *("tokens", "tok", "size", "seed", "acc", "accuracy", "top", "seconds", "elapsed", "hours", "min", "mb", "gb"),
        *("improve", "improvement", "delta", "stepsize"),
    )
)
"""Words of numbers that are no part of any loss."""
