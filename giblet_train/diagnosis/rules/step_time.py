"""Where a step's seconds go: waiting for data, for other ranks, or for one rank that is slower than all."""

from __future__ import annotations

from collections import Counter

from giblet_train.diagnosis.rules.case import Finding, RunHistory, median_or_none
from giblet_train.diagnosis.rules.registry import fault, rule


@rule(group="speed", fault=fault("loader", "each batch comes a fifth of a second late"))
def loader_bound(case: RunHistory) -> Finding | None:
    """Most of a step is spent waiting for data."""
    share = _share(case, "data_s")
    if share is None or share <= case.watch.data_share:
        return None
    return Finding(
        confidence=0.9,
        sentence=f"{share:.0%} of each step is spent waiting for data; the processors stand idle.",
        evidence={"share": share, "step_s": _step_s(case)},
        action="Put the store on a local disk, and check that nothing else reads from it.",
    )


@rule(
    group="speed",
    explains=("communication_bound",),
    fault=fault("straggler", "rank 1 of 2 is a fifth of a second late in each step", processes=2),
)
def straggler(case: RunHistory) -> Finding | None:
    """All ranks wait for one that is slowest nearly always."""
    ranks = [s.slowest_rank for s in case.recent_steps if s.slowest_rank is not None]
    waiting = _share(case, "communication_s")
    if not ranks or case.run is None or case.run.world_size < 2 or waiting is None:
        return None
    rank, count = Counter(ranks).most_common(1)[0]
    share = count / len(ranks)
    if share < case.watch.straggler_share or waiting < case.watch.communication_share / 2:
        return None
    return Finding(
        confidence=0.92,
        sentence=(
            f"Rank {rank} was the slowest of {case.run.world_size} in {share:.0%} of the last {len(ranks)} steps; the "
            f"others spend {waiting:.0%} of a step waiting."
        ),
        evidence={"rank": rank, "slowest_share": share, "waiting_share": waiting, "step_s": _step_s(case)},
        action=f"Look at the GPU of rank {rank}: another process, heat, or a slow link; leave it out with --gpus.",
    )


@rule(group="speed", fault=fault("communication", "the sum over 2 ranks takes half a second longer", processes=2))
def communication_bound(case: RunHistory) -> Finding | None:
    """Most of a step goes into summing gradients over ranks."""
    share = _share(case, "communication_s")
    if share is None or share <= case.watch.communication_share or case.run is None or case.run.world_size < 2:
        return None
    return Finding(
        confidence=0.88,
        sentence=f"{share:.0%} of each step goes into exchanging gradients between {case.run.world_size} ranks.",
        evidence={"share": share, "step_s": _step_s(case), "world_size": case.run.world_size},
        action="Use fewer ranks with larger batches, a smaller model, or NCCL instead of sockets.",
    )


def _share(case: RunHistory, part: str) -> float | None:
    """The median share of a step's time that one of its parts takes, over recent steps."""
    shares = [getattr(s.times, part) / s.step_s for s in case.recent_steps if s.step_s]
    return median_or_none(shares)


def _step_s(case: RunHistory) -> float | None:
    return median_or_none([s.step_s for s in case.recent_steps])
