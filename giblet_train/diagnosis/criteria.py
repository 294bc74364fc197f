"""Judge a run by its success criteria. Pure.

A verdict is about a whole run, across resumes. `completed` is always the first criterion. While a run is live, a
criterion is `on_track`, `at_risk` or already decided; once the run has ended it is `pass` or `fail`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from giblet_train.diagnosis.criterion_kinds import judge_criteria
from giblet_train.diagnosis.criterion_verdict import CriterionVerdict, Status, observe
from giblet_train.schema.config import Config
from giblet_train.schema.health import Health
from giblet_train.schema.records import AnyMetric, EpochMetric

_WORST_FIRST: tuple[Status, ...] = ("fail", "at_risk", "on_track", "pass")
MAX_CHANGES = 100
WORDS: dict[Status, str] = {"pass": "PASS", "on_track": "ON TRACK", "at_risk": "AT RISK", "fail": "FAIL"}
NOT_YET, NO_NEWS = "NOT YET", "NO NEWS"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Verdict on a run: as good as its worst criterion."""

    status: Status
    """The worst status."""
    criteria: tuple[CriterionVerdict, ...]
    """`completed`, then the criteria of the configuration in their order."""
    n_epochs: int = 0
    """Epochs that have ended."""

    @property
    def word(self) -> str:
        """Return PASS, ON TRACK, AT RISK or FAIL, or NOT YET before the first epoch has ended."""
        return NOT_YET if self.status == "on_track" and not self.n_epochs else WORDS[self.status]

    def word_for(self, health: Health) -> str:
        """Return the word; NO NEWS instead of ON TRACK for a run that makes no progress or has no contact."""
        silent = self.status == "on_track" and health.state in ("stalled", "unknown")
        return NO_NEWS if silent else self.word


FailOn = Literal["fail", "at_risk", "on_track"]


def reaches_level(status: Status, fail_on: FailOn) -> bool:
    """Return True if a status is at least as bad as `fail_on`; `on_track` means everything but pass."""
    return _WORST_FIRST.index(status) <= _WORST_FIRST.index(fail_on)


def verdict_of(config: Config, metrics: Sequence[AnyMetric], health: Health | None = None) -> Verdict:
    """Judge a run by `completed` and every criterion of its configuration.

    Args:
        config: configuration of the run.
        metrics: all its records, including those of the runs that it resumed.
        health: how the run is, or how it ended; None counts as live.
    """
    run = observe(config, metrics, health)
    verdicts = judge_criteria(run)
    return Verdict(
        status=min((verdict.status for verdict in verdicts), key=_WORST_FIRST.index),
        criteria=tuple(verdicts),
        n_epochs=len(run.epochs),
    )


def hopeless_criterion(config: Config, verdict: Verdict) -> CriterionVerdict | None:
    """Return a criterion that a live run can no longer meet; None while all can be.

    Such a criterion is decided already; or a third of the epochs after the warm-up have ended, and even the run's best
    rate so far would not reach the value in the epochs that are left.
    """
    judged_from = config.warmup_epochs + (config.num_epochs - config.warmup_epochs) / 3
    for criterion in verdict.criteria:
        if criterion.status == "fail":
            return criterion
        deadline = criterion.deadline_epoch
        if criterion.status != "at_risk" or deadline is None or verdict.n_epochs < judged_from:
            continue
        stands_still = criterion.pace_seen is not None and criterion.pace_seen <= 0.0
        if deadline < verdict.n_epochs or (deadline == verdict.n_epochs and stands_still):
            return criterion
    return None


class VerdictChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the verdict."""

    at: float
    """End of the epoch or of the run, in seconds since 1970."""
    epoch: int
    """The last completed epoch; 0 before the first."""
    was: Status | None
    """Verdict before; None for the first."""
    now: Status
    """Verdict after."""


def verdict_changes(config: Config, metrics: Sequence[AnyMetric], health: Health | None = None) -> list[VerdictChange]:
    """Return how the verdict changed, epoch by epoch (for a long run at MAX_CHANGES of them) and at the end."""
    if not config.criteria or not metrics:
        return []
    ends = [i for i, m in enumerate(metrics, 1) if isinstance(m, EpochMetric)]
    changes: list[VerdictChange] = []
    checks: list[tuple[int, Health | None]] = [(end, None) for end in ends[:: -(-len(ends) // MAX_CHANGES) or 1]]
    for end, health_then in [*checks, (len(metrics), health)]:
        was = changes[-1].now if changes else None
        now = verdict_of(config, metrics[:end], health_then).status
        if now != was:
            # What follows the last epoch carries the number of the next one, which was never trained.
            epoch = next((m.epoch for m in reversed(metrics[:end]) if isinstance(m, EpochMetric)), 0)
            changes.append(VerdictChange(at=metrics[end - 1].at, epoch=epoch, was=was, now=now))
    return changes
