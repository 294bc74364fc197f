"""`data diagnose`: check the data, then train a few steps to see what each loss starts at and how it falls.

The trained weights are discarded; only the store is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from giblet_train.components.build import TrainingSetup
from giblet_train.components.train_step import StepResult
from giblet_train.data.checks.findings import Finding, by_severity
from giblet_train.data.checks.report import report_lines, to_json
from giblet_train.data.checks.run_checks import DataReport, check_study
from giblet_train.data.store.prepare import DataRequest
from giblet_train.diagnosis import sanity_checks
from giblet_train.distributed.process_group import ProcessGroup, device_of, set_threads
from giblet_train.evaluation.evaluator import Evaluator
from giblet_train.monitoring.run_logger import resident_gib
from giblet_train.schema.config import Config, LossConfig
from giblet_train.schema.errors import GibletError
from giblet_train.schema.progress import ProgressCallback
from giblet_train.schema.records import ModalityFacts
from giblet_train.schema.schedule import LrSchedule, lr_at
from giblet_train.training.process import DataLoaderFn

LATE_SHARE = 0.1
NEAR_BASE = 0.9
WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Component:
    """One term of the loss in the trial steps."""

    mean_square: float
    """In the file's own units: where a loss without normalisation starts. For codes, the best constant's nats."""
    first: float
    """Normalised loss of predicting the mean: 1 if the scale is right."""
    start: float
    """Loss over all training TRs before the first step; below 1 with a ridge start."""
    last: float
    """Loss over all training TRs after the last trial step."""
    weight: float
    gradient_share: float | None
    """Share of the gradient at the bottleneck at the last step."""


@dataclass(frozen=True)
class TrialSteps:
    """Results of the trial steps. step_s: median seconds per step; gib: memory of this process at the end."""

    components: Mapping[str, Component]
    n_parameters: int
    n_steps: int
    step_s: float
    gib: float | None
    idle: tuple[str, ...]
    not_finite: tuple[str, ...]


def diagnose(
    request: DataRequest, load: DataLoaderFn, n_steps: int, progress: ProgressCallback, *, as_json: bool
) -> tuple[bool, str]:
    """Return whether an error was found, and the report. Raises DataError or ConfigError if a file is missing."""
    report = check_study(request, progress)
    findings, rehearsal, plan = list(report.findings), None, None
    try:
        data = load(request.config, request.workdir, progress)
        progress(f"training {n_steps} trial steps", 0.0)
        rehearsal, plan = _run_trial_steps(request.config, data, n_steps)
        findings += _about(rehearsal, data.facts, request.config) + _about_rate(plan)
    except GibletError as error:
        findings.append(_error("no_model", f"The network was not tested: {error.message}", error.remedy))
    whole = DataReport(by_severity(findings), report.files, report.components, report.lags, report.study, report.about)
    if as_json:
        model = None if rehearsal is None else msgspec.to_builtins(rehearsal)
        return whole.failed, msgspec.json.encode(to_json(whole) | {"model": model}).decode()
    lines = [] if rehearsal is None or plan is None else ["", *_lines(rehearsal, plan)]
    return whole.failed, "\n".join(report_lines(whole, lines))


def _run_trial_steps(config: Config, data: Any, n_steps: int) -> tuple[TrialSteps, LrSchedule]:
    """Train a run's first steps on one process with a short warm-up; also return the run's own schedule."""
    set_threads(config, 1)
    ranks = ProcessGroup(0, 1, device_of(config, 0))
    plan = TrainingSetup.build(config, data, ranks).train_step.plan
    balance = msgspec.structs.replace(config.balance, every_steps=1)
    short = msgspec.structs.replace(config, warmup_steps=WARM_UP_STEPS, balance=balance)
    setup = TrainingSetup.build(short, data, ranks)
    train_step, evaluator = setup.train_step, Evaluator.of(setup, data)
    first, start = evaluator.initial_loss(train_step.model), evaluator.training_loss(train_step.model)
    steps: list[StepResult] = [train_step.step(n, {}) for n in range(min(n_steps, train_step.plan.total_steps))]
    last, shares = evaluator.training_loss(train_step.model), steps[-1].gradient_share or {}
    components = {
        c: Component(_mean_square(data.facts[c]), first[c], start[c], last[c], train_step.base_weight[c], shares.get(c))
        for c in train_step.components
    }
    return (
        TrialSteps(
            components=components,
            n_parameters=train_step.n_parameters,
            n_steps=len(steps),
            step_s=sorted(s.seconds for s in steps)[len(steps) // 2],
            gib=resident_gib(),
            idle=tuple(train_step.unused_parameters),
            not_finite=tuple(sorted({c for step in steps for c, _ in step.not_finite})),
        ),
        plan,
    )


def _mean_square(fact: ModalityFacts) -> float:
    if fact.codes is not None:  # a cross-entropy has no unit but nats
        return math.nan if fact.train_variance is None else fact.train_variance
    return math.nan if fact.raw_mean is None or fact.raw_sd is None else fact.raw_mean**2 + fact.raw_sd**2


def _about(rehearsal: TrialSteps, facts: Mapping[str, ModalityFacts], config: Config) -> list[Finding]:
    parts = rehearsal.components
    # With variance scaling, a loss that does not start at 1 carries a unit.
    scaled = msgspec.structs.replace(config, losses=LossConfig(scale="variance"))
    findings = [_error("scale", sentence) for sentence in sanity_checks.check_data(facts)]
    findings += [
        _error("first_loss", sentence)
        for sentence in sanity_checks.check_initial_loss(scaled, _first(rehearsal), facts)
    ]
    findings += [_error("not_finite", f"{c} is not finite in the first steps.") for c in rehearsal.not_finite]
    total = sum(p.weight * p.first for p in parts.values())
    for name, part in parts.items():
        share = part.weight * part.first / total if total else 0.0
        if share > config.watch.dominance_share:
            action = f"Its weight is {part.weight:g}; a loss divided by its training variance starts at 1."
            findings.append(_error("component_dominates", f"{name} is {share:.0%} of the loss.", action))
        if part.last >= part.start and part.weight:
            sentence = f"{name} does not fall in {rehearsal.n_steps} steps: {part.start:.4g}, then {part.last:.4g}."
            action = "Try more steps (--steps); check its lag and its scale."
            findings.append(Finding(finding="does_not_fall", severity="warning", sentence=sentence, action=action))
    if rehearsal.idle:
        sentence = f"No gradient reaches {', '.join(rehearsal.idle)}."
        findings.append(Finding(finding="idle_parameters", severity="warning", sentence=sentence))
    return findings


def _about_rate(plan: LrSchedule) -> list[Finding]:
    """Warn if the learning rate is still far from its base after a tenth of the steps."""
    top_rate = max((lr_at(s, plan) for s in range(max(1, round(LATE_SHARE * plan.total_steps)))), default=0.0)
    if top_rate >= NEAR_BASE * plan.learning_rate:
        return []
    return [
        Finding(
            finding="late_base_rate",
            severity="warning",
            sentence=f"After {LATE_SHARE:.0%} of the run the rate is {top_rate:.3g}, "
            f"its base {plan.learning_rate:.3g}: warm-up takes {plan.warmup_steps} of {plan.total_steps} steps.",
            evidence={"rate": top_rate, "base": plan.learning_rate, "warmup_steps": plan.warmup_steps},
            action="Shorten warmup_epochs or warmup_steps.",
        )
    ]


def _error(name: str, sentence: str, action: str = "") -> Finding:
    return Finding(finding=name, severity="error", sentence=sentence, action=action)


def _first(rehearsal: TrialSteps) -> dict[str, float]:
    return {c: part.first for c, part in rehearsal.components.items()}


def _lines(rehearsal: TrialSteps, plan: LrSchedule) -> list[str]:
    """Format the table of losses: in raw units, normalised, and after the trial steps."""
    parts = rehearsal.components
    raw = sum(p.weight * p.mean_square for p in parts.values())
    total = sum(p.weight * p.first for p in parts.values())
    header = ("raw units", "share", "weight", "1st loss", "share", "step 0", f"step {rehearsal.n_steps}", "gradient")
    lines = [f"{'loss':8}{''.join(f'{cell:>11}' for cell in header)}"]
    for name, p in parts.items():
        cells = (
            f"{p.mean_square:.4g}",
            f"{p.weight * p.mean_square / raw:.1%}",
            f"{p.weight:.3g}",
            f"{p.first:.4g}",
            f"{p.weight * p.first / total:.1%}" if total else "-",
            f"{p.start:.4g}",
            f"{p.last:.4g}",
            "-" if p.gradient_share is None else f"{p.gradient_share:.1%}",
        )
        lines.append(f"{name:8}{''.join(f'{cell:>11}' for cell in cells)}")
    before, after = (sum(p.weight * getattr(p, when) for p in parts.values()) for when in ("start", "last"))
    lines.append(f"{'total':8}{raw:11.4g}{'':22}{total:11.4g}{'':11}{before:11.4g}{after:11.4g}")
    memory = "" if rehearsal.gib is None else f"; {rehearsal.gib:.2f} GiB"
    return [
        *lines,
        "raw units: the mean square of the unscaled targets (nats for codes), where a loss without normalisation "
        "starts.",
        f"{rehearsal.n_parameters / 1e6:.2f} M parameters; {rehearsal.step_s:.2f} s a step here, so "
        f"{_duration(rehearsal.step_s * plan.total_steps)} for {plan.total_steps} steps{memory}.",
        f"The rate begins at {lr_at(0, plan):.3g} and reaches {plan.learning_rate:.3g} at step {plan.warmup_steps} of "
        f"{plan.total_steps}.",
    ]


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
