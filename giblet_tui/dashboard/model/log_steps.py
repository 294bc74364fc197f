"""Where in training a line of the log was written, and which line stands at a step: the link of log and charts. Pure.

Only what lines say themselves is used: the end of an epoch, or a step by number. A line that says neither belongs to
the last one before it that does; of a retry, which begins earlier again, the later lines count.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

EPOCH = re.compile(r"\bEpoch\s+(\d+)\s*/\s*\d+\s*\|", re.IGNORECASE)
STEP = re.compile(r"\bstep[ =:]+(\d[\d,]*)\b", re.IGNORECASE)


def said_step(one: str, steps_per_epoch: int) -> int | None:
    """The step that a line itself names: the last of an epoch that has ended, or one by number."""
    if found := EPOCH.search(one):
        return int(found[1]) * steps_per_epoch - 1
    found = STEP.search(one)
    return int(found[1].replace(",", "")) if found else None


def steps_of(lines: Sequence[str], steps_per_epoch: int) -> list[int | None]:
    """For each line the step at which it was written, None before the first line that says."""
    steps: list[int | None] = []
    for one in lines:
        said = said_step(one, steps_per_epoch)
        steps.append(said if said is not None else steps[-1] if steps else None)
    return steps


def line_at(steps: Sequence[int | None], step: float) -> int | None:
    """The index of the last line written at that step or before it; None when the lines begin later.

    steps: as `steps_of` gives them. Where a retry goes back, what it wrote replaces what was written there first.
    """
    known: list[tuple[int, int]] = []
    for index, at in enumerate(steps):
        if at is None:
            continue
        while known and known[-1][0] > at:
            known.pop()
        known.append((at, index))
    place = bisect_right([at for at, _ in known], step) - 1
    return known[place][1] if place >= 0 else None
