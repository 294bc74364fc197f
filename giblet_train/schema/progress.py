"""Functions that receive the progress of long work: a sentence and the completed fraction, 0 to 1."""

from __future__ import annotations

from collections.abc import Callable

ProgressCallback = Callable[[str, float], None]


def subrange(progress: ProgressCallback, start: float, end: float) -> ProgressCallback:
    """Return a callback for a part of the work, whose fractions lie between `start` and `end` of the whole."""
    return lambda sentence, fraction: progress(sentence, start + (end - start) * fraction)
