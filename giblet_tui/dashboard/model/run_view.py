"""One run as the panes see it at one moment, and the questions they ask of it. Pure.

Link, node and run are three facts: a run whose node is not heard is unknown, whatever it was when last seen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from giblet_train.diagnosis import alerts
from giblet_train.diagnosis.criteria import Verdict
from giblet_train.schema.health import Health, duration
from giblet_train.schema.records import Alert, EventMetric
from giblet_tui.monitor.metric_columns import Curves, StepColumns
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot, RunSnapshot

STALE_AFTER_S = 5.0
PACE_STEPS = 50


@dataclass(frozen=True, eq=False)
class RunView:
    """A run, the node it was seen on, its columns and its verdict. Compared by identity: it is replaced whole.

    others: marked runs to draw behind it, each with its columns. gpus: what each GPU of the node did lately, by uuid.
    """

    run: RunSnapshot
    node: NodeSnapshot
    curves: Curves
    verdict: Verdict | None = None
    others: tuple[tuple[RunSnapshot, Curves], ...] = ()
    gpus: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)


def resume_chain(fleet: Fleet, run: RunSnapshot) -> tuple[RunSnapshot, ...]:
    """Return the run and, oldest first, the runs whose steps it lacks because it resumed them.

    A resumed run holds copies of the earlier records, unless an older version of giblet trained it.
    """
    chain = [run]
    while (source := chain[0].run.resumed_from) is not None and not _has_first_step(chain[0]):
        names = re.split(r"[/\\]", source)
        earlier = next((r for r in fleet.runs() if r.run.run_id in names), None)
        if earlier is None or any(earlier.run.run_id == member.run.run_id for member in chain):
            break
        chain.insert(0, earlier)
    return tuple(chain)


def _has_first_step(run: RunSnapshot) -> bool:
    return bool(run.steps) and run.steps[0].step == 0


def merge_resumed(columns: StepColumns, fleet: Fleet, run: RunSnapshot) -> Curves:
    """Return the columns of a run, including those of the runs that it resumed."""
    chain = resume_chain(fleet, run)
    steps = run.steps if len(chain) == 1 else tuple(step for member in chain for step in member.steps)
    epochs = run.epochs if len(chain) == 1 else tuple(epoch for member in chain for epoch in member.epochs)
    started_at = min([chain[0].run.launched_at, *(step.at for step in steps[:1])])
    return columns.curves(steps, epochs, started_at)


def steps_per_epoch(run: RunSnapshot) -> int:
    """Optimizer steps in an epoch; 1 until the engine has said."""
    return run.plan_record.steps_per_epoch if run.plan_record else 1


def age_s(node: NodeSnapshot, now: float) -> float | None:
    """Seconds since anything of this node was seen, None when nothing ever was."""
    return None if node.observed_at is None else max(0.0, now - node.observed_at)


def stale(node: NodeSnapshot, now: float) -> bool:
    """Is what is shown of this node no longer what is?"""
    age = age_s(node, now)
    return node.link != "live" or age is None or age > STALE_AFTER_S


def merge_snapshot(fleet: Fleet, new: NodeSnapshot) -> NodeSnapshot:
    """The new snapshot, or while nothing was seen yet, what was known before under the new link."""
    known = next((n for n in fleet.nodes if n.node == new.node), None)
    if new.observed_at is not None or known is None:
        return new
    return msgspec.structs.replace(known, link=new.link, link_sentence=new.link_sentence)


def same_records(old: RunView | None, new: RunView) -> bool:
    """Has the run no new record? Records only ever grow, so counting them tells."""
    return old is not None and old.verdict is new.verdict and _counts(old) == _counts(new)


def needs_no_redraw(old: RunView | None, run: RunSnapshot, node: NodeSnapshot, verdict: Verdict | None) -> bool:
    """Is a new snapshot of the run that is drawn the same, but for its log and for what changes by time alone?"""
    return (
        old is not None
        and not old.others
        and old.verdict is verdict
        and (old.node.link, old.run.health.state) == (node.link, run.health.state)
        and _records(old.run) == _records(run)
    )


def health_now(run: RunSnapshot, node: NodeSnapshot, now: float) -> Health:
    """The run's health, or `unknown` with its age where the node is not being heard and the run had not ended."""
    if not run.health.live or not stale(node, now):
        return run.health
    age = age_s(node, now)
    heard = "never heard" if age is None else f"not heard for {duration(age)}"
    was = run.heartbeat.state if run.health.state == "unknown" and run.heartbeat else run.health.state
    return Health(state="unknown", sentence=f"{heard}; it was {was}", since=node.observed_at)


def state_words(health: Health, node: NodeSnapshot, now: float) -> str:
    """`running`, or `unknown 4m` with the age of what is known where its node is not heard."""
    age = age_s(node, now)
    if health.state == "unknown" and health.since is not None and age is not None:
        return f"unknown {duration(age).split()[0]}"
    return health.state


def constant_of(run: RunSnapshot, component: str) -> float:
    """The loss that the best constant prediction costs: the plan's start for the total; 0 while it is unknown."""
    if component == "total":
        return run.plan_record.start_total if run.plan_record else 0.0
    facts = run.data.components.get(component) if run.data else None
    if facts is not None:
        return facts.expected_first_loss or 0.0
    return 1.0 if run.config is not None and run.config.losses.scale == "variance" else 0.0


def is_uncertain(health: Health) -> bool:
    """Does the verdict stand on what is no longer coming in?"""
    return health.state in ("unknown", "stalled")


def without_steps(run: RunSnapshot) -> str:
    """What stands where a run's steps would, as long as it has none."""
    if run.run.adopted is not None:
        return "not in its log" if run.run.adopted.log else "no log of it is known"
    return "waiting for the first step" if run.health.live else "ended before its first step"


def epoch_words(run: RunSnapshot) -> str:
    """`14/20`, the last step's epoch, as `ps` has it; nothing before the first step. Of a lab's log the epoch alone."""
    newest = run.steps[-1:] or run.epochs[-1:]
    if not newest:
        return ""
    return f"{newest[0].epoch}/{run.config.num_epochs}" if run.config is not None else f"{newest[0].epoch}"


def pace_s(run: RunSnapshot) -> float | None:
    """Seconds per step over the newest steps, validation included; None before the third step."""
    newest = run.steps[-PACE_STEPS:]
    if len(newest) < 3:
        return None
    return (newest[-1].at - newest[0].at) / max(1, newest[-1].step - newest[0].step)


def open_alerts(run: RunSnapshot, node: NodeSnapshot, now: float) -> list[Alert]:
    """Alerts that stand and that nobody has answered, newest first. now: the laptop's clock."""
    return alerts.open_alerts(run.alerts, run.answers, now + node.facts.clock_skew_s)


def answered(alert: Alert, run: RunSnapshot, node: NodeSnapshot, now: float) -> str:
    """Who silenced an alert, and how; nothing where it calls."""
    answer = alerts.silenced_by(alert, run.answers, now + node.facts.clock_skew_s)
    if answer is None:
        return ""
    how = "seen" if answer.until is None else f"snoozed {duration(answer.until - now - node.facts.clock_skew_s)} more"
    return f"{how} by {answer.by}" if answer.by else how


def notable_events(run: RunSnapshot) -> tuple[EventMetric, ...]:
    """Events of level warning or error, newest first."""
    return tuple(e for e in reversed(run.events) if e.level != "info")


def _counts(view: RunView) -> tuple[object, ...]:
    others = tuple((other.run.run_id, len(other.steps)) for other, _ in view.others)
    return (view.curves.origin, _records(view.run), others)


def _records(run: RunSnapshot) -> tuple[object, ...]:
    records = (run.steps, run.epochs, run.events, run.alerts, run.answers)
    return (run.run.run_id, *map(len, records), run.plan_record, run.evaluation is None)
