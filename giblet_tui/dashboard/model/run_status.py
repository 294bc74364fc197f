"""Facts about a run that screens put into words: state, phase, age of the last step, progress, verdict. Pure.

Link, node and run are three facts: a run whose node is not heard is unknown, whatever it was before.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import NamedTuple

from giblet_train.diagnosis import alert_responses
from giblet_train.diagnosis.criteria import NO_NEWS, NOT_YET, WORDS, Verdict
from giblet_train.diagnosis.criterion_verdict import CriterionVerdict, Status
from giblet_train.schema.health import Health, duration
from giblet_train.schema.records import Alert, EventMetric
from giblet_tui.dashboard.style.styles import MUTED, STATUS_GLYPHS, STATUS_STYLES
from giblet_tui.monitor.snapshots import NodeSnapshot, RunSnapshot

STALE_AFTER_S = 5.0
PACE_STEPS = 50
LATE_STEPS = 5
"""The age of the last step is shown once it exceeds this many usual steps."""
LINK_LATENCY_S = 2.0
"""A younger last step is never late: a snapshot takes up to this long from the node to the screen."""


class Words(NamedTuple):
    """Words and their style."""

    text: str
    style: str


def node_age_s(node: NodeSnapshot, now: float) -> float | None:
    """Return the seconds since anything of this node was observed, None if nothing ever was."""
    return None if node.observed_at is None else max(0.0, now - node.observed_at)


def is_stale(node: NodeSnapshot, now: float) -> bool:
    """Return True if what is shown of this node may no longer be true."""
    age = node_age_s(node, now)
    return node.link != "live" or age is None or age > STALE_AFTER_S


def health_now(run: RunSnapshot, node: NodeSnapshot, now: float) -> Health:
    """Return the run's health; `unknown` with its age if the node is not heard and the run had not ended."""
    if not run.health.live or not is_stale(node, now):
        return run.health
    age = node_age_s(node, now)
    silence = "never heard" if age is None else f"not heard for {duration(age)}"
    was = run.heartbeat.state if run.health.state == "unknown" and run.heartbeat else run.health.state
    return Health(state="unknown", sentence=f"{silence}; it was {was}", since=node.observed_at)


def state_words(health: Health, node: NodeSnapshot, now: float) -> str:
    """Return `running`, or `unknown 4m` with the age of the last snapshot if the node is not heard."""
    age = node_age_s(node, now)
    if health.state == "unknown" and health.since is not None and age is not None:
        return f"unknown {duration(age).split()[0]}"
    return health.state


def is_uncertain(health: Health) -> bool:
    """Return True if no news of the run comes in, so that its verdict may no longer hold."""
    return health.state in ("unknown", "stalled")


def verdict_words(verdict: Verdict | None, health: Health) -> Words:
    """Return glyph and word of the verdict; NOT YET and NO NEWS have glyphs of their own."""
    if verdict is None:
        return Words("", MUTED)
    return _words(verdict.status, verdict.word_for(health), health)


def criterion_words(criterion: CriterionVerdict, run: RunSnapshot, health: Health) -> Words:
    """Return glyph and word of one criterion, in the vocabulary of the verdict."""
    word = WORDS[criterion.status]
    if criterion.status == "on_track" and is_uncertain(health):
        word = NO_NEWS
    elif criterion.status == "on_track" and (criterion.seen is None or not run.epochs):
        word = NOT_YET
    return _words(criterion.status, word, health)


def _words(status: Status, word: str, health: Health) -> Words:
    """Return a verdict's word with its glyph, dimmed if it is no statement about how the run does now."""
    glyph = {NOT_YET: "–", NO_NEWS: "?"}.get(word, STATUS_GLYPHS[status])
    is_dimmed = word in (NOT_YET, NO_NEWS) or is_uncertain(health)
    return Words(f"{glyph} {word}", MUTED if is_dimmed else f"{STATUS_STYLES[status]} bold")


def usual_step_s(run: RunSnapshot) -> float | None:
    """Return the median duration of the newest steps in seconds; None before the first step."""
    recent = run.steps[-PACE_STEPS:]
    durations = [step.step_s for step in recent if step.step_s is not None]
    if not durations:
        durations = [after.at - before.at for before, after in pairwise(recent)]
    return median(durations) if durations else None


def step_age_s(run: RunSnapshot, node: NodeSnapshot, now: float) -> float | None:
    """Return the seconds since the run's last step on the node's clock; None before the first step."""
    return max(0.0, now + node.facts.clock_skew_s - run.steps[-1].at) if run.steps else None


def late_step_words(run: RunSnapshot, node: NodeSnapshot, now: float) -> Words | None:
    """Return `no step for 12s` once that exceeds five of the run's usual steps; None while steps come in time.

    While the run validates or saves there is no step to wait for: the words name the phase and are not a warning.
    """
    age, usual = step_age_s(run, node, now), usual_step_s(run)
    if age is None or usual is None or health_now(run, node, now).state not in ("running", "stalled"):
        return None
    if age <= max(LATE_STEPS * usual, LINK_LATENCY_S):
        return None
    phase = phase_of(run)
    if phase == "training":
        return Words(f"no step for {duration(age)}", "$warning bold")
    return Words(f"{phase}, last step {duration(age)} ago", MUTED)


def phase_of(run: RunSnapshot) -> str:
    """Return what the training loop does: its heartbeat's state, or `evaluating` once all steps are done."""
    if run.heartbeat is None:
        return ""
    return "evaluating" if is_evaluating(run) else run.heartbeat.state


def is_evaluating(run: RunSnapshot) -> bool:
    """Return True if a live run has done all its steps and the final evaluation is in progress."""
    if run.heartbeat is None or run.heartbeat.state != "validating" or not run.health.live:
        return False
    plan = run.plan_record
    all_done = plan is not None and bool(run.steps) and run.steps[-1].step + 1 >= plan.total_steps
    return all_done or "test block" in run.heartbeat.phase


def steps_per_epoch(run: RunSnapshot) -> int:
    """Return the optimizer steps in an epoch; 1 until the engine has reported them."""
    return run.plan_record.steps_per_epoch if run.plan_record else 1


def constant_of(run: RunSnapshot, component: str) -> float:
    """Return the loss of the best constant prediction: the plan's start for the total; 0 while it is unknown."""
    if component == "total":
        return run.plan_record.start_total if run.plan_record else 0.0
    facts = run.data.components.get(component) if run.data else None
    if facts is not None:
        return facts.expected_first_loss or 0.0
    return 1.0 if run.config is not None and run.config.losses.scale == "variance" else 0.0


def has_curves(run: RunSnapshot) -> bool:
    """Return True if the run has recorded a step, an epoch, or other numbers."""
    return bool(run.steps or run.epochs or run.values)


def no_steps_sentence(run: RunSnapshot) -> str:
    """Return what to show in place of a run's steps while it has none."""
    if run.run.adopted is not None:
        return "not in its log" if run.run.adopted.log else "no log of it is known"
    if run.run.command is not None:
        return "not in its output"
    return "waiting for the first step" if run.health.live else "ended before its first step"


def record_unit(run: RunSnapshot) -> str:
    """Return what the records of a run count: optimizer steps, or what the log of a command counts."""
    if run.steps or not run.run.foreign:
        return "step"
    counts_steps = any(not record.epoch for record in run.values[-1:])
    return ("block" if run.epochs else "step") if counts_steps else "epoch"


def epoch_words(run: RunSnapshot) -> str:
    """Return `14/20`, the epoch of the last step; nothing before the first step; the epoch alone without a plan."""
    newest = run.steps[-1:] or run.epochs[-1:] or run.values[-1:]
    if not newest or (not newest[0].epoch and not run.epochs):
        return ""
    return f"{newest[0].epoch}/{run.config.num_epochs}" if run.config is not None else f"{newest[0].epoch}"


def step_words(run: RunSnapshot) -> str:
    """Return `  step 2,300` of a command that counts steps and no epochs; nothing for other runs."""
    has_steps_only = run.values and not (run.steps or run.epochs or run.values[-1].epoch)
    return f"  step {run.values[-1].step:,}" if has_steps_only else ""


def pace_s(run: RunSnapshot) -> float | None:
    """Return the seconds per step over the newest steps, validation included; None before the third step."""
    newest = run.steps[-PACE_STEPS:]
    if len(newest) < 3:
        return None
    return (newest[-1].at - newest[0].at) / max(1, newest[-1].step - newest[0].step)


def open_alerts(run: RunSnapshot, node: NodeSnapshot, now: float) -> list[Alert]:
    """Return the active alerts that nobody has answered, newest first; now is on the laptop's clock."""
    return alert_responses.open_alerts(run.alerts, run.answers, now + node.facts.clock_skew_s)


def answer_words(alert: Alert, run: RunSnapshot, node: NodeSnapshot, now: float) -> str:
    """Return who silenced an alert and how; empty if nobody did."""
    answer = alert_responses.silenced_by(alert, run.answers, now + node.facts.clock_skew_s)
    if answer is None:
        return ""
    how = "seen" if answer.until is None else f"snoozed {duration(answer.until - now - node.facts.clock_skew_s)} more"
    return f"{how} by {answer.by}" if answer.by else how


def notable_events(run: RunSnapshot) -> tuple[EventMetric, ...]:
    """Return the events of level warning or error, newest first."""
    return tuple(event for event in reversed(run.events) if event.level != "info")
