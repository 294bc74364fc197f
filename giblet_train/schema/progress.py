"""Functions that receive the progress of long work: a sentence and the completed fraction, 0 to 1."""

from __future__ import annotations

from collections.abc import Callable

ProgressCallback = Callable[[str, float], None]


def subrange(progress: ProgressCallback, start: float, end: float) -> ProgressCallback:
    """Return a callback for a part of the work, from the fraction `start` of the whole to `end`."""
    return lambda sentence, fraction: progress(sentence, start + (end - start) * fraction)
