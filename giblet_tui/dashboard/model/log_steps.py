"""Link lines of the log with steps of training. Pure.

Only what lines state themselves is used: the end of an epoch, or a step by number. Any other line belongs to the last
line before it that states a step; after a retry that begins earlier again, the later lines count.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

EPOCH = re.compile(r"\bEpoch\s+(\d+)\s*/\s*\d+\s*\|", re.IGNORECASE)
STEP = re.compile(r"\bstep[ =:]+(\d[\d,]*)\b", re.IGNORECASE)


def stated_step(line: str, steps_per_epoch: int) -> int | None:
    """Return the step that a line names: the last of an epoch that has ended, or one by number."""
    if match := EPOCH.search(line):
        return int(match[1]) * steps_per_epoch - 1
    match = STEP.search(line)
    return int(match[1].replace(",", "")) if match else None


def steps_of(lines: Sequence[str], steps_per_epoch: int) -> list[int | None]:
    """Return for each line the step at which it was written, None before the first line that names one."""
    steps: list[int | None] = []
    for line in lines:
        step = stated_step(line, steps_per_epoch)
        steps.append(step if step is not None else steps[-1] if steps else None)
    return steps


def line_at(steps: Sequence[int | None], step: float) -> int | None:
    """Return the index of the last line written at or before a step; None if the lines begin later.

    Args:
        steps: As `steps_of` returns them. Where a retry goes back, its lines replace those written there first.
        step: Optimizer step.
    """
    epoch_lines: list[tuple[int, int]] = []
    for index, at in enumerate(steps):
        if at is None:
            continue
        while epoch_lines and epoch_lines[-1][0] > at:
            epoch_lines.pop()
        epoch_lines.append((at, index))
    place = bisect_right([at for at, _ in epoch_lines], step) - 1
    return epoch_lines[place][1] if place >= 0 else None
