"""Climbing the ladder: from a run and its verdict to the run above it, decided whole before anything is started; and
the table of all that climbed, the lab's notebook.
"""

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
from giblet_tui.reporting.formatting import clock, diff_lines, verdict

HEAD = ("STAGE", "RUN", "LAUNCHED", "STATE", "EPOCHS", "VERDICT", "ACCEPTED", "GPU-HOURS", "FROM", "NOTE")


class PromotionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A promotion, decided: what will run, why it may, and what it costs (None: too few steps were measured).

    device: what the run below, and so the cost, was measured on.
    """

    climb: PromotionTarget
    promotion: Promotion
    cost: Cost | None
    device: str = "cuda"


def plan_promotion(
    run: RunSnapshot, ladder: Stages, stage: str, settings: Mapping[str, Any], accepted: Sequence[str], why: str
) -> PromotionPlan:
    """Decide a promotion. settings: dotted key -> value. accepted: criteria to go on without, why: for what reason.

    Raises ConfigError for what makes no sense, PreflightRefused where the run has not earned it.
    """
    run_id, config, judged = run.run.run_id, run.config, verdict(run)
    if config is None:
        why = "is not known: it was adopted" if run.run.adopted is not None else "cannot be read"
        raise ConfigError(f"The configuration of {run_id} {why}.", "Launch the next stage by its own file.")
    rung = rungs.next_stage(ladder, config, stage)
    if accepted and not why:
        raise ConfigError("--accept needs a reason that others will read.", "Add --note 'why it may go on without'.")
    if run.health.live:
        raise PreflightRefused(
            f"{run_id} is {run.health.state}: only a run that has ended is judged.", f"giblet status {run_id}"
        )
    if judged is None:
        raise PreflightRefused(f"{run_id} has no criteria, so it has proved nothing.", "Name some under `criteria:`.")
    unmet = rungs.unmet_criteria(judged, accepted)
    if unmet:
        named = "\n  ".join(f"{c.name}: {c.sentence}" for c in unmet)
        accepting = " ".join(f"--accept {c.name}" for c in unmet)
        raise PreflightRefused(
            f"{run_id} has not passed: {len(unmet)} of {len(judged.criteria)} criteria not met.",
            f"{named}\n  To go on all the same, on the record: giblet promote {run_id} {stage} {accepting} --note WHY",
        )
    risen = rungs.promote_config(config, rung, settings)
    cost = estimate_cost(run, risen)
    promotion = Promotion(
        from_run=run_id,
        from_stage=config.stage,
        verdict=judged.status,
        accepted={c.name: c.sentence for c in judged.criteria if c.name in accepted},
        why=why,
        hours=cost.hours if cost else None,
    )
    device = run.plan_record.device if run.plan_record else "cuda"
    return PromotionPlan(climb=risen, promotion=promotion, cost=cost, device=device)


def estimate_cost(run: RunSnapshot, risen: PromotionTarget) -> Cost | None:
    """What the run above will cost, from this one's steps."""
    if run.config is None or run.plan_record is None or run.data is None:
        return None
    return cost_of(run.config, risen.config, run.plan_record, run.data, run.steps)


def obsolete_runs(runs: Sequence[RunSnapshot], ascent: PromotionPlan) -> list[RunSnapshot]:
    """Living runs that the new one makes pointless: of its stage, or of its own name."""
    config = ascent.climb.config
    return [
        r for r in runs if r.health.live and r.config and (r.config.stage == config.stage or r.run.name == config.name)
    ]


def ascent_lines(ascent: PromotionPlan) -> list[str]:
    """What a promotion is: where from, on what ground, what differs, what it costs."""
    said, config = ascent.promotion, ascent.climb.config
    lines = [f"{said.from_run} ({said.from_stage}, {WORDS[said.verdict]}) → {config.name} ({config.stage})"]  # type: ignore[index]
    lines += [f"accepted: {name}: {seen}" for name, seen in said.accepted.items()]
    lines += [f"because: {said.why}"] if said.accepted else []
    changes = {key: pair for key, pair in ascent.climb.changes.items() if not key.startswith("criteria")}
    criteria = ", ".join(f"{name} {c.threshold:g}" for name, c in config.criteria.items()) or "none"
    return [*lines, *diff_lines(changes), f"  criteria: {criteria}", *cost_lines(ascent.cost, ascent.device)]


def cost_lines(cost: Cost | None, device: str) -> list[str]:
    """The cost in words, with what it was computed from. device: what the steps were measured on."""
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
    """A row for each run that is on the ladder (drills are not), by stage and time: the lab's notebook, under HEAD."""
    placed = [run for run in runs if run.config and run.config.stage in stages and "drill" not in run.run.argv]
    placed.sort(key=lambda run: (stages.index(run.config.stage) if run.config else 0, run.run.launched_at))
    return [_row(run) for run in placed]


def _row(run: RunSnapshot) -> tuple[str, ...]:
    assert run.config is not None
    judged, came = verdict(run), run.run.promotion
    epochs = run.epochs[-1].epoch if run.epochs else 0
    held = len(run.run.gpus)
    hours = held * sum(s.step_s or 0.0 for s in run.steps) / 3600
    return (
        run.config.stage,
        run.run.run_id,
        clock(run.run.launched_at),
        f"{GLYPHS[run.health.state]} {run.health.state}",
        f"{epochs}/{run.config.num_epochs}",
        judged.word if judged else "–",
        ", ".join(came.accepted) if came and came.accepted else "–",
        f"{hours:.2f}" if held else "CPU",
        came.from_run if came else "–",
        run.run.note or "–",
    )
