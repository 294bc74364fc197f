"""Decide the promotion of a run to the next stage before anything starts, and format the table of all stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from giblet_train.diagnosis import stages as rungs
from giblet_train.diagnosis.cost_estimate import Cost, cost_of
from giblet_train.diagnosis.criteria import WORDS
from giblet_train.diagnosis.stages import PromotionTarget, Stages
from giblet_train.schema.errors import ConfigError, PreflightRefused
from giblet_train.schema.health import GLYPHS, duration
from giblet_train.schema.records import Promotion
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting.formatting import clock, verdict
from giblet_tui.reporting.tables import diff_lines

HEAD = ("STAGE", "RUN", "LAUNCHED", "STATE", "EPOCHS", "VERDICT", "ACCEPTED", "GPU-HOURS", "FROM", "NOTE")


class PromotionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A decided promotion: what will run, why it may, and what it costs."""

    target: PromotionTarget
    promotion: Promotion
    cost: Cost | None
    """None if too few steps were measured."""
    device: str = "cuda"
    """Device on which the promoted run, and therefore the cost, was measured."""


def plan_promotion(
    run: RunSnapshot,
    stages: Stages,
    stage: str,
    settings: Mapping[str, Any],
    accepted_criteria: Sequence[str],
    why: str,
) -> PromotionPlan:
    """Decide a promotion.

    Raises ConfigError for invalid arguments, PreflightRefused if the run may not be promoted.

    Args:
        settings: Dotted configuration key -> value for the new run.
        accepted_criteria: Criteria that may be unmet.
        why: Reason for accepting them.
    """
    run_id, config, run_verdict = run.run.run_id, run.config, verdict(run)
    if config is None:
        why = f"is not known: {run.run.foreign}" if run.run.foreign else "cannot be read"
        raise ConfigError(f"The configuration of {run_id} {why}.", "Launch the next stage by its own file.")
    next_stage = rungs.next_stage(stages, config, stage)
    if accepted_criteria and not why:
        raise ConfigError("--accept needs a reason that others will read.", "Add --note 'why it may go on without'.")
    if run.health.live:
        raise PreflightRefused(
            f"{run_id} is {run.health.state}: only a run that has ended is judged.", f"giblet status {run_id}"
        )
    if run_verdict is None:
        raise PreflightRefused(f"{run_id} has no criteria, so it has proved nothing.", "Name some under `criteria:`.")
    unmet = rungs.unmet_criteria(run_verdict, accepted_criteria)
    if unmet:
        criterion_list = "\n  ".join(f"{c.name}: {c.sentence}" for c in unmet)
        accepting = " ".join(f"--accept {c.name}" for c in unmet)
        raise PreflightRefused(
            f"{run_id} has not passed: {len(unmet)} of {len(run_verdict.criteria)} criteria not met.",
            f"{criterion_list}\n  To go on all the same, on the record: "
            f"giblet promote {run_id} {stage} {accepting} --note WHY",
        )
    target = rungs.promote_config(config, next_stage, settings)
    cost = estimate_cost(run, target)
    promotion = Promotion(
        from_run=run_id,
        from_stage=config.stage,
        verdict=run_verdict.status,
        accepted={c.name: c.sentence for c in run_verdict.criteria if c.name in accepted_criteria},
        why=why,
        hours=cost.hours if cost else None,
    )
    device = run.plan_record.device if run.plan_record else "cuda"
    return PromotionPlan(target=target, promotion=promotion, cost=cost, device=device)


def estimate_cost(run: RunSnapshot, target: PromotionTarget) -> Cost | None:
    """Estimate the cost of the new run from the steps of the promoted one."""
    if run.config is None or run.plan_record is None or run.data is None:
        return None
    return cost_of(run.config, target.config, run.plan_record, run.data, run.steps)


def obsolete_runs(runs: Sequence[RunSnapshot], plan: PromotionPlan) -> list[RunSnapshot]:
    """Return live runs that the new one replaces: same stage or same name."""
    config = plan.target.config
    return [
        r for r in runs if r.health.live and r.config and (r.config.stage == config.stage or r.run.name == config.name)
    ]


def promotion_lines(plan: PromotionPlan) -> list[str]:
    """Format a promotion: source run, reason, configuration changes, cost."""
    promotion, config = plan.promotion, plan.target.config
    verdict_word = WORDS[promotion.verdict]  # type: ignore[index]
    lines = [f"{promotion.from_run} ({promotion.from_stage}, {verdict_word}) → {config.name} ({config.stage})"]
    lines += [f"accepted: {name}: {observation}" for name, observation in promotion.accepted.items()]
    lines += [f"because: {promotion.why}"] if promotion.accepted else []
    changes = {key: pair for key, pair in plan.target.changes.items() if not key.startswith("criteria")}
    criteria = ", ".join(f"{name} {c.threshold:g}" for name, c in config.criteria.items()) or "none"
    return [*lines, *diff_lines(changes), f"  criteria: {criteria}", *cost_lines(plan.cost, plan.device)]


def cost_lines(cost: Cost | None, device: str) -> list[str]:
    """Format the cost and the figures it was computed from.

    Args:
        device: Device on which the steps were measured.
    """
    if cost is None:
        return ["cost: not known, too few of its steps were measured"]
    low, high = cost.hours
    unit = "process" if device == "cpu" else "GPU"
    span = f"{low:,.2f}" if high < 1.01 * low else f"{low:,.2f} to {high:,.2f}"
    wall = duration(cost.low_s) if high < 1.01 * low else f"{duration(cost.low_s)} to {duration(cost.high_s)}"
    work = "an unknown multiple of the" if cost.work is None else f"{cost.work:.2g} times the"
    return [
        f"cost: {span} {unit}-hours ({wall} on {cost.processes}): {cost.steps:,} steps of {cost.step_s:.3g} s as "
        f"measured on {device.upper() if device == 'cpu' else 'a GPU'}, with {work} work a process and step"
    ]


def stage_table(runs: Sequence[RunSnapshot], stages: Sequence[str]) -> list[tuple[str, ...]]:
    """Return one row per run of a stage, without drills, ordered by stage and launch time. Columns: HEAD."""
    runs_of_stages = [run for run in runs if run.config and run.config.stage in stages and "drill" not in run.run.argv]
    runs_of_stages.sort(key=lambda run: (stages.index(run.config.stage) if run.config else 0, run.run.launched_at))
    return [_row(run) for run in runs_of_stages]


def _row(run: RunSnapshot) -> tuple[str, ...]:
    assert run.config is not None
    run_verdict, promotion = verdict(run), run.run.promotion
    epochs = run.epochs[-1].epoch if run.epochs else 0
    n_gpus = len(run.run.gpus)
    hours = n_gpus * sum(s.step_s or 0.0 for s in run.steps_since_launch) / 3600
    return (
        run.config.stage,
        run.run.run_id,
        clock(run.run.launched_at),
        f"{GLYPHS[run.health.state]} {run.health.state}",
        f"{epochs}/{run.config.num_epochs}",
        run_verdict.word_for(run.health) if run_verdict else "–",
        ", ".join(promotion.accepted) if promotion and promotion.accepted else "–",
        f"{hours:.2f}" if n_gpus else "CPU",
        promotion.from_run if promotion else "–",
        run.run.note or "–",
    )
