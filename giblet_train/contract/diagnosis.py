"""Why a run does badly: every rule asked, causes put in order, what follows from another cause put behind it.

A rule that does not fire says nothing: a run is healthy when none does. What records cannot show is never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from giblet_train.contract.config import Config
from giblet_train.contract.health import Health
from giblet_train.contract.records import AnyMetric
from giblet_train.contract.rules import ending, heldout, learning, misaligned, pace, rate, reach, scale
from giblet_train.contract.rules.case import Case, Cause, CauseName, Rule, case_of

RULES: tuple[Rule, ...] = (
    ending.oom_gpu,
    ending.oom_host,
    ending.disk_full,
    ending.tiny_batch_norm,
    learning.nan,
    learning.diverging,
    ending.stalled,
    learning.frozen_parameters,
    rate.lr_off_plan,
    scale.categorical_targets,
    scale.scale_mismatch,
    scale.loss_not_unit_free,
    scale.component_dominates,
    learning.rounding,
    heldout.leak,
    heldout.no_better_than_mean,
    heldout.brain_unexplained,
    misaligned.misaligned_time,
    misaligned.wrong_film,
    misaligned.subject_apart,
    heldout.overfit,
    learning.clipping_always,
    learning.flat,
    learning.plateau,
    reach.criterion_unreachable,
    pace.loader_bound,
    pace.straggler,
    pace.communication_bound,
    ending.crashed,
)
"""In the order in which equally likely causes are named."""

_CURVES: frozenset[CauseName] = frozenset(
    {
        "flat",
        "plateau",
        "criterion_unreachable",
        "no_better_than_mean",
        "brain_unexplained",
        "overfit",
        "clipping_always",
    }
)
_SCALES: frozenset[CauseName] = _CURVES | {"component_dominates", "loss_not_unit_free"}
_FILMS: frozenset[CauseName] = frozenset(
    {"no_better_than_mean", "brain_unexplained", "overfit", "criterion_unreachable"}
)
EXPLAINS: dict[CauseName, frozenset[CauseName]] = {
    "lr_off_plan": _CURVES | {"diverging", "nan"},
    "categorical_targets": _SCALES | {"scale_mismatch"},
    "scale_mismatch": _SCALES,
    "loss_not_unit_free": _CURVES | {"component_dominates"},
    "component_dominates": _CURVES,
    "frozen_parameters": _CURVES | {"rounding"},
    "rounding": _CURVES,
    "nan": _CURVES | {"crashed", "diverging", "frozen_parameters"},
    "diverging": _CURVES | {"crashed"},
    "leak": frozenset({"overfit", "plateau", "criterion_unreachable"}),
    "no_better_than_mean": frozenset({"overfit", "plateau", "criterion_unreachable"}),
    "brain_unexplained": frozenset({"overfit", "plateau", "criterion_unreachable"}),
    "misaligned_time": _FILMS,
    "wrong_film": _FILMS | {"misaligned_time"},
    "overfit": frozenset({"plateau", "criterion_unreachable"}),
    "clipping_always": frozenset({"flat", "plateau", "criterion_unreachable"}),
    "flat": frozenset({"plateau", "criterion_unreachable"}),
    "plateau": frozenset({"criterion_unreachable"}),
    "straggler": frozenset({"communication_bound"}),
    "oom_gpu": frozenset({"crashed", "oom_host"}),
    "oom_host": frozenset({"crashed"}),
    "disk_full": frozenset({"crashed"}),
    "tiny_batch_norm": frozenset({"crashed"}),
}
"""What follows from a cause, and is therefore put behind it at half its confidence."""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong, the most likely cause first; nothing for a healthy run."""

    causes: tuple[Cause, ...] = ()

    @property
    def healthy(self) -> bool:
        """Did no rule find anything?"""
        return not self.causes


def diagnose(
    config: Config | None,
    metrics: Sequence[AnyMetric],
    *,
    health: Health | None = None,
    log_tail: Sequence[str] = (),
) -> Diagnosis:
    """What the records of a run show to be wrong.

    config: None where only a log is known; then nothing can be held against a plan. log_tail: the end of what it
    printed. metrics: in their order.
    """
    return judge(case_of(config, metrics, health, log_tail))


def judge(case: Case) -> Diagnosis:
    """Ask every rule about a case."""
    found = [cause for rule in RULES if (cause := rule(case)) is not None]
    names = {cause.cause for cause in found}
    following = {name for root in names for name in EXPLAINS.get(root, ()) if name != root}
    weighed = [_halved(cause) if cause.cause in following else cause for cause in found]
    return Diagnosis(causes=tuple(sorted(weighed, key=lambda cause: -cause.confidence)))


def _halved(cause: Cause) -> Cause:
    return msgspec.structs.replace(cause, confidence=cause.confidence / 2)
