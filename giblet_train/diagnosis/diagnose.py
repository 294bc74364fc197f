"""Diagnose a run: evaluate every rule, order the causes, and put consequences behind their cause.

A run is healthy when no rule reports anything. What the records do not show is never guessed. Used by the watcher on
the node, and by `why`, the report and the dashboard.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from giblet_train.diagnosis.log_reader.reader import TrainingLog
from giblet_train.diagnosis.rules import (  # noqa: F401 - importing a module registers its rules
    adversarial,
    alignment,
    criteria,
    held_out,
    learning_rate,
    log_parts,
    loss_scale,
    run_end,
    step_time,
    training_curve,
)
from giblet_train.diagnosis.rules.case import Finding, RunHistory, case_of
from giblet_train.diagnosis.rules.registry import Rule, consequences, ordered_rules
from giblet_train.schema.config import Config
from giblet_train.schema.health import Health
from giblet_train.schema.records import AnyMetric


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """Result of all rules for one run."""

    causes: tuple[Finding, ...] = ()
    """What is wrong, the most likely cause first; empty for a healthy run."""
    unevaluated: tuple[str, ...] = ()
    """One sentence for each rule that raised an exception."""

    @property
    def healthy(self) -> bool:
        """Return True if every rule was evaluated and none reported a cause."""
        return not self.causes and not self.unevaluated


def diagnose(
    config: Config | None,
    metrics: Sequence[AnyMetric],
    *,
    health: Health | None = None,
    log_tail: Sequence[str] = (),
    log: TrainingLog | None = None,
    run_id: str = "",
) -> Diagnosis:
    """Return what the records of a run show to be wrong.

    Args:
        config: configuration of the run; None where only a log is known, and then nothing is compared with a plan.
        metrics: records in the order in which they were written.
        health: how the run is, or how it ended.
        log_tail: last lines that the run printed.
        log: what its whole log shows, where it was read; then `log_tail` is not used.
        run_id: id of the run, which actions name; empty for a log of another program.
    """
    return judge(case_of(config, metrics, health, log_tail, log, run_id))


def judge(case: RunHistory) -> Diagnosis:
    """Evaluate every rule on a run history."""
    findings: list[Finding] = []
    unevaluated_rules: list[str] = []
    for rule in ordered_rules():
        finding, failure = _evaluate(rule, case)
        findings += [finding] if finding else []
        unevaluated_rules += [failure] if failure else []
    followers = {name for finding in findings for name in consequences(finding.cause)}
    weighted_findings = [_halved(finding) if finding.cause in followers else finding for finding in findings]
    return Diagnosis(
        causes=tuple(sorted(weighted_findings, key=lambda finding: -finding.confidence)),
        unevaluated=tuple(unevaluated_rules),
    )


def _evaluate(rule: Rule, case: RunHistory) -> tuple[Finding | None, str]:
    """Return a rule's finding, and a sentence if the rule raised an exception.

    This is the only place where the exception of a rule is caught: odd records must not hide what other rules find.
    """
    try:
        return rule.evaluate(case), ""
    except Exception as error:
        return None, f"Rule {rule.name} could not be evaluated: {type(error).__name__}: {error}."


def _halved(finding: Finding) -> Finding:
    return msgspec.structs.replace(finding, confidence=finding.confidence / 2)
