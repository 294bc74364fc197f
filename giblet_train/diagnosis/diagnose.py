"""Why a run does badly: every rule asked, causes put in order, what follows from another cause put behind it.

A rule that does not fire says nothing: a run is healthy when none does. What records cannot show is never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from giblet_train.diagnosis.rules import (
    alignment,
    criteria,
    held_out,
    learning_rate,
    loss_scale,
    run_end,
    step_time,
    training_curve,
)
from giblet_train.diagnosis.rules.case import CauseName, Finding, Rule, RunHistory, case_of
from giblet_train.schema.config import Config
from giblet_train.schema.health import Health
from giblet_train.schema.records import AnyMetric

RULES: tuple[Rule, ...] = (
    run_end.oom_gpu,
    run_end.oom_host,
    run_end.disk_full,
    run_end.tiny_batch_norm,
    training_curve.nan,
    training_curve.diverging,
    run_end.stalled,
    training_curve.frozen_parameters,
    learning_rate.lr_off_plan,
    loss_scale.categorical_targets,
    loss_scale.scale_mismatch,
    loss_scale.loss_not_unit_free,
    loss_scale.component_dominates,
    training_curve.rounding,
    held_out.leak,
    held_out.no_better_than_mean,
    held_out.brain_unexplained,
    alignment.misaligned_time,
    alignment.wrong_film,
    alignment.subject_apart,
    held_out.overfit,
    training_curve.clipping_always,
    training_curve.flat,
    training_curve.plateau,
    criteria.criterion_unreachable,
    step_time.loader_bound,
    step_time.straggler,
    step_time.communication_bound,
    run_end.crashed,
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

    causes: tuple[Finding, ...] = ()

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


def judge(case: RunHistory) -> Diagnosis:
    """Ask every rule about a case."""
    found = [cause for rule in RULES if (cause := rule(case)) is not None]
    names = {cause.cause for cause in found}
    following = {name for root in names for name in EXPLAINS.get(root, ()) if name != root}
    weighed = [_halved(cause) if cause.cause in following else cause for cause in found]
    return Diagnosis(causes=tuple(sorted(weighed, key=lambda cause: -cause.confidence)))


def _halved(cause: Finding) -> Finding:
    return msgspec.structs.replace(cause, confidence=cause.confidence / 2)
