"""Rules for the time of a step: waiting for data, for other ranks, or for one slow rank."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from giblet_train.diagnosis.rules.case import Finding, RunHistory, median_or_none
from giblet_train.diagnosis.rules.registry import fault, rule
from giblet_train.schema.records import StepMetric

OUTLIERS = 0.05
"""Share of the longest steps that is left out: a single pause is no bottleneck."""
FEWEST_BOUND = 0.1
"""Share of steps that must each be dominated by an activity, besides their total."""
FEWEST_SLOW = 12
"""Slow steps from which a straggler that comes and goes is judged."""
IN_LOG = 0.8
"""Confidence in a wait that a log prints."""
SLOW = 1.5
"""Duration of a slow step divided by that of a fast one."""
FAST_QUANTILE = 0.2
CERTAIN_SDS = 5.0
"""Standard deviations above chance from which a rank is slowest too often."""
TWO_RANKS_SHARE, TWO_RANKS_WAITING = 0.95, 0.4
"""Share of steps, and of time spent waiting, for a straggler of two ranks: one is always slower by a little."""


@rule(group="speed", fault=fault("loader", "each batch comes a fifth of a second late"))
def loader_bound(case: RunHistory) -> Finding | None:
    """Report that most of the time of recent steps is spent waiting for data, evenly or in bursts."""
    share = _share(case.recent_steps, "data_s") if case.steps else _share_of_log(case)
    if share is None or share <= case.watch.data_share:
        return None
    return Finding(
        confidence=0.9 if case.steps else IN_LOG,
        sentence=f"{share:.0%} of the time of recent steps is spent waiting for data; the processors are idle.",
        evidence={"share": share, "step_s": _step_s(case) if case.steps else None},
        action="Put the store on a local disk, and check that nothing else reads from it."
        if case.run is not None
        else "Put the data on a local disk, use more workers of the loader, and check that nothing else reads there.",
    )


def _share_of_log(case: RunHistory) -> float | None:
    return case.log.data_wait.share if case.log is not None and case.log.data_wait is not None else None


@rule(
    group="speed",
    explains=("communication_bound",),
    fault=fault("straggler", "rank 1 of 2 is a fifth of a second late in each step", processes=2),
)
def straggler(case: RunHistory) -> Finding | None:
    """Report that all ranks wait for the same one, in every step or in its slow spells."""
    if case.run is None or case.run.world_size < 2:
        return None
    steps = [s for s in case.recent_steps if s.slowest_rank is not None]
    return _straggler(case, steps, "the last") or _straggler(case, _slow_steps(case), "the slow ones among the last")


def _straggler(case: RunHistory, steps: Sequence[StepMetric], which: str) -> Finding | None:
    """Return a finding if one rank was slowest in nearly all of some steps, and the others waited."""
    assert case.run is not None
    waiting, two = _share(steps, "communication_s"), case.run.world_size == 2
    least = max(case.watch.communication_share / 2, TWO_RANKS_WAITING if two else 0.0)
    if len(steps) < FEWEST_SLOW or waiting is None or waiting < least:
        return None
    rank, count = Counter(s.slowest_rank for s in steps).most_common(1)[0]
    share, chance = count / len(steps), 1 / case.run.world_size
    threshold = max(case.watch.straggler_share, TWO_RANKS_SHARE if two else 0.0)
    sds = (share - chance) / math.sqrt(chance * (1 - chance) / len(steps))
    if share < threshold or sds < CERTAIN_SDS:
        return None
    return Finding(
        confidence=0.92,
        sentence=(
            f"Rank {rank} was the slowest of {case.run.world_size} in {share:.0%} of {which} {len(steps)} steps; "
            f"the others spend {waiting:.0%} of their time waiting."
        ),
        evidence={"rank": rank, "slowest_share": share, "waiting_share": waiting, "step_s": _step_s(case)},
        action=f"Look at the GPU of rank {rank}: another process, heat, or a slow link; leave it out with --gpus.",
    )


def _slow_steps(case: RunHistory) -> list[StepMetric]:
    """Return the slow steps of twice as many recent ones, if they are clearly slower than the fast ones."""
    steps = [s for s in case.steps[-2 * case.watch.recent_steps :] if s.step_s and s.slowest_rank is not None]
    if len(steps) < case.watch.recent_steps:
        return []
    fast = sorted(s.step_s or 0.0 for s in steps)[int(FAST_QUANTILE * len(steps))]
    return [s for s in steps if (s.step_s or 0.0) > SLOW * fast]


@rule(group="speed", fault=fault("communication", "the sum over 2 ranks takes half a second longer", processes=2))
def communication_bound(case: RunHistory) -> Finding | None:
    """Report that most of the time of recent steps goes into summing gradients over ranks."""
    share = _share(case.recent_steps, "communication_s")
    if share is None or share <= case.watch.communication_share or case.run is None or case.run.world_size < 2:
        return None
    return Finding(
        confidence=0.88,
        sentence=(
            f"{share:.0%} of the time of recent steps is spent exchanging gradients of {case.run.world_size} ranks."
        ),
        evidence={"share": share, "step_s": _step_s(case), "world_size": case.run.world_size},
        action="Use fewer ranks with larger batches, a smaller model, or NCCL instead of sockets.",
    )


def _share(steps: Sequence[StepMetric], activity: str) -> float | None:
    """Return the share of the time of all steps that an activity takes, without the longest waits.

    None without steps. 0 if only a few steps are dominated by it, so that rare pauses do not count.
    """
    parts = sorted((getattr(s.times, activity), s.step_s) for s in steps if s.step_s)
    usual = parts[: len(parts) - int(OUTLIERS * len(parts))]
    if not usual:
        return None
    n_dominated = sum(part > seconds / 2 for part, seconds in usual)
    share = sum(part for part, _ in usual) / sum(seconds for _, seconds in usual)
    return share if share <= 0.5 or n_dominated >= FEWEST_BOUND * len(usual) else 0.0


def _step_s(case: RunHistory) -> float | None:
    return median_or_none([s.step_s for s in case.recent_steps])
