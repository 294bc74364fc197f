"""Compare a fault drill with its result: when the fault began, when records showed it, when the watcher raised it."""

from __future__ import annotations

import msgspec

from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.fault_catalog import EVENT, Fault
from giblet_train.diagnosis.replay import prefixes
from giblet_train.schema.health import duration
from giblet_train.schema.records import Alert
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting import why

FARTHEST_STEPS = 1000
"""Number of steps after the start of a fault that are diagnosed again."""


class FaultOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a fault drill. Delays count from the start of the fault; None means never."""

    drill: Fault
    named: str
    """First cause that `giblet why` names at the end; empty if it names none."""
    sentence: str
    began_step: int | None
    """Step at which the fault began."""
    shown_after: int | None
    """Steps until the records alone show it; None also if they cannot show it."""
    raised_after: int | None
    """Steps until the watcher's alert."""
    raised_s: float | None
    """Seconds until the watcher's alert."""
    others: tuple[str, ...]
    """Other alerts of the watcher."""

    @property
    def caught(self) -> bool:
        """Return True if the fault was raised and named first; for the control run, if nothing was."""
        if self.drill.cause is None:
            return not self.named and not self.others
        return self.named == self.drill.cause and self.raised_after is not None


def alert_of(run: RunSnapshot, drill: Fault) -> Alert | None:
    """Return the first alert that names the drill's fault."""
    return next((a for a in run.alerts if a.name == drill.cause and a.state == "raised"), None)


def outcome(run: RunSnapshot, drill: Fault) -> FaultOutcome:
    """Compute the outcome of a drill from its run's records."""
    began = next((e for e in run.events if e.name == EVENT), None)
    diagnosis, alert = why.of_run(run).diagnosis, alert_of(run, drill)
    return FaultOutcome(
        drill=drill,
        named=diagnosis.causes[0].cause if diagnosis.causes else "",
        sentence=diagnosis.causes[0].sentence if diagnosis.causes else "",
        began_step=drill.step if began else None,
        shown_after=_shown_after(run, drill) if began else None,
        raised_after=max(0, alert.step - drill.step) if alert and began else None,
        raised_s=max(0.0, alert.at - began.at) if alert and began else None,
        others=tuple(sorted({a.name for a in run.alerts if a.state == "raised" and a.name != drill.cause})),
    )


def outcome_lines(fault_outcome: FaultOutcome) -> list[str]:
    """Format the outcome, the injected fault first."""
    drill = fault_outcome.drill
    lines = [
        f"drill {drill.name}: {drill.says} (from step {fault_outcome.began_step})"
        if drill.cause
        else "drill good: nothing"
    ]
    lines.append(f"named first: {fault_outcome.named or 'nothing'}. {fault_outcome.sentence}".rstrip())
    if drill.cause is not None:
        delay = (
            "only its end shows it"
            if fault_outcome.shown_after is None
            else f"{fault_outcome.shown_after} steps after it began"
        )
        lines.append(f"the records show it: {delay}")
        alert_line = (
            "never raised"
            if fault_outcome.raised_after is None or fault_outcome.raised_s is None
            else f"raised {fault_outcome.raised_after} steps, {duration(fault_outcome.raised_s)} after it began"
        )
        lines.append(f"the watcher: {alert_line}")
    if fault_outcome.others:
        lines.append(f"also raised: {', '.join(fault_outcome.others)}")
    return (
        [*lines, "caught" if fault_outcome.caught else "NOT CAUGHT"]
        if drill.cause
        else [*lines, _control(fault_outcome)]
    )


def _control(control: FaultOutcome) -> str:
    return "silent, as it must be" if control.caught else "A FALSE ALARM"


def _shown_after(run: RunSnapshot, drill: Fault) -> int | None:
    prefix_diagnoses = prefixes(run.config, run.metrics, drill.step + 1, drill.step + FARTHEST_STEPS)
    first = (n for n, diagnosis in prefix_diagnoses if diagnosis.causes and diagnosis.causes[0].cause == drill.cause)
    first_alert = next(first, None)
    if first_alert is not None:
        return first_alert - 1 - drill.step
    # Named before the step was made, or by what the last of it left: then there is no further step to count.
    at_once = diagnose(run.config, run.metrics).causes if not any(s.step > drill.step for s in run.steps) else ()
    return 0 if at_once and at_once[0].cause == drill.cause else None
