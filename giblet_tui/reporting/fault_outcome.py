"""A drill held against what came of it: when the fault began, when the records showed it, when the watcher said so."""

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
"""So many steps beyond a fault's beginning are looked at again."""


class FaultOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a drill. Steps are counted from the fault's beginning; None: never.

    named: what `giblet why` names first at the end ("" for nothing). shown_after: steps until the records alone showed
    it; None also where they cannot. raised_after, raised_s: steps and seconds until the watcher's alert.
    others: what else the watcher raised.
    """

    drill: Fault
    named: str
    sentence: str
    began_step: int | None
    shown_after: int | None
    raised_after: int | None
    raised_s: float | None
    others: tuple[str, ...]

    @property
    def caught(self) -> bool:
        """Was it raised and named first? Of the control: was nothing?"""
        if self.drill.cause is None:
            return not self.named and not self.others
        return self.named == self.drill.cause and self.raised_after is not None


def alert_of(run: RunSnapshot, drill: Fault) -> Alert | None:
    """The first alert that names the drill's fault."""
    return next((a for a in run.alerts if a.name == drill.cause and a.state == "raised"), None)


def outcome(run: RunSnapshot, drill: Fault) -> FaultOutcome:
    """What the records of a drill's run tell."""
    began = next((e for e in run.events if e.name == EVENT), None)
    found, alert = why.of_run(run).diagnosis, alert_of(run, drill)
    return FaultOutcome(
        drill=drill,
        named=found.causes[0].cause if found.causes else "",
        sentence=found.causes[0].sentence if found.causes else "",
        began_step=drill.step if began else None,
        shown_after=_shown_after(run, drill) if began else None,
        raised_after=max(0, alert.step - drill.step) if alert and began else None,
        raised_s=max(0.0, alert.at - began.at) if alert and began else None,
        others=tuple(sorted({a.name for a in run.alerts if a.state == "raised" and a.name != drill.cause})),
    )


def outcome_lines(seen: FaultOutcome) -> list[str]:
    """The outcome in words, what was made first."""
    drill = seen.drill
    lines = [
        f"drill {drill.name}: {drill.says} (from step {seen.began_step})" if drill.cause else "drill good: nothing"
    ]
    lines.append(f"named first: {seen.named or 'nothing'}. {seen.sentence}".rstrip())
    if drill.cause is not None:
        shown = "only its end shows it" if seen.shown_after is None else f"{seen.shown_after} steps after it began"
        lines.append(f"the records show it: {shown}")
        raised = (
            "never raised"
            if seen.raised_after is None or seen.raised_s is None
            else f"raised {seen.raised_after} steps, {duration(seen.raised_s)} after it began"
        )
        lines.append(f"the watcher: {raised}")
    if seen.others:
        lines.append(f"also raised: {', '.join(seen.others)}")
    return [*lines, "caught" if seen.caught else "NOT CAUGHT"] if drill.cause else [*lines, _control(seen)]


def _control(seen: FaultOutcome) -> str:
    return "silent, as it must be" if seen.caught else "A FALSE ALARM"


def _shown_after(run: RunSnapshot, drill: Fault) -> int | None:
    looked = prefixes(run.config, run.metrics, drill.step + 1, drill.step + FARTHEST_STEPS)
    first = (n for n, found in looked if found.causes and found.causes[0].cause == drill.cause)
    reached = next(first, None)
    if reached is not None:
        return reached - 1 - drill.step
    # Named before the step was made, or by what the last of it left: then there is no further step to count.
    at_once = diagnose(run.config, run.metrics).causes if not any(s.step > drill.step for s in run.steps) else ()
    return 0 if at_once and at_once[0].cause == drill.cause else None
