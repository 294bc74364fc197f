"""Format a run as a Markdown report: history, verdict, causes, losses, best checkpoint, cost.

The report is meant to be shared, so it contains no person, participant or path.
"""

from __future__ import annotations

import math
import re
import shlex
import time
from collections.abc import Sequence

from giblet_train.diagnosis.criteria import WORDS, VerdictChange, verdict_changes, verdict_of
from giblet_train.schema.health import duration
from giblet_train.schema.records import EventMetric
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting import why
from giblet_tui.reporting.formatting import clock, format_losses, stakes_lines, value_lines, verdict_lines
from giblet_tui.reporting.promotion import HEAD, stage_table
from giblet_tui.reporting.tables import markdown_table

REPORTED_EVENTS = frozenset(
    {
        "sanity",
        "early_stop",
        "checkpoint_damaged",
        "best_gone",
        "checkpoint_failed",
        "stopped",
        "preempted",
        "resumed",
        "finished",
        "failed",
    }
)
"""Events that get a line; the others happen in every epoch."""
_PATH = re.compile(r"(?<![\w.])~?(?:/[\w.@+-]+){2,}/?")
_PERSON = re.compile(r"\b(?:sub|subj|subject|participant)[-_ ]?\d+\b", re.IGNORECASE)


def report(run: RunSnapshot, now: float) -> str:
    """Format one run as Markdown.

    Args:
        now: Seconds since 1970; the end of the interval of a live run.
    """
    sections = [
        f"# {run.run.run_id}",
        _summary(run),
        _section("What happened", [f"Times in {time.strftime('%Z', time.localtime(now))}.", "", *_history(run)]),
        _section("Verdict", _verdict(run)),
        _section("What is wrong", _causes(run)),
        _section("Losses", _losses(run)),
        *([_section("Other numbers", [f"- {line}" for line in value_lines(run)])] if run.values else []),
        _section("Checkpoint", _best(run)),
        _section("Cost", _cost(run, now)),
    ]
    return "\n\n".join(sections) + "\n"


def report_since(runs: Sequence[RunSnapshot], stages: Sequence[str], since: float, now: float) -> str:
    """Format all runs since a time: the table of stages, then each run. Times are seconds since 1970."""
    recent_runs = [run for run in runs if run.health.live or _last_known(run) >= since]
    if not recent_runs:
        return f"# Since {clock(since)}\n\nNothing ran.\n"
    parts = [f"# Since {clock(since)}", redact(markdown_table(HEAD, stage_table(recent_runs, stages)))]
    for run in sorted(recent_runs, key=lambda r: r.run.launched_at):
        parts += [f"## {run.run.run_id}", _summary(run), "\n".join(_history(run, since))]
        parts.append("\n".join([*_verdict(run), *_best(run), *_cost(run, now)]))
    return "\n\n".join(parts) + "\n"


def _last_known(run: RunSnapshot) -> float:
    last = run.steps[-1].at if run.steps else 0.0
    return max(run.run.launched_at, last, run.exit.ended_at if run.exit else 0.0)


def redact(text: str) -> str:
    """Remove paths and participant labels from a sentence."""
    return _PERSON.sub("a subject", _PATH.sub("(a path)", text))


def _section(title: str, lines: list[str]) -> str:
    return f"## {title}\n\n" + "\n".join(lines)


def _summary(run: RunSnapshot) -> str:
    stage = f", stage {run.config.stage}" if run.config else ""
    subjects = f"; {len(run.data.subjects)} subjects, {run.data.n_voxels} voxels" if run.data else ""
    if run.run.adopted is not None:
        configuration = f"Adopted as `{run.run.name}`"
    elif run.run.command is not None:
        configuration = f"Command `{redact(shlex.join(run.run.command.words))}`"
    else:
        configuration = f"Configuration `{run.run.name}` ({run.run.config_hash}{stage})"
    return (
        f"**{run.health.state}**: {redact(run.health.sentence)}. {configuration} on {run.run.node}, giblet "
        f"{run.run.giblet_version}{subjects}."
    )


def _history(run: RunSnapshot, since: float = 0.0) -> list[str]:
    """Format one line per event since a time."""
    moments = [(run.run.launched_at, "launched")]
    if run.steps:
        moments.append((run.steps[0].at, f"first step ({run.steps[0].step})"))
    moments += [(e.at, _sentence(e)) for e in run.events if e.name in REPORTED_EVENTS]
    moments += [(a.at, f"alert {a.state}: {a.name}. {redact(a.sentence)}") for a in run.alerts]
    moments += [(a.at, f"alert {'acknowledged' if a.until is None else 'snoozed'}: {a.name}") for a in run.answers]
    changes = verdict_changes(run.config, run.metrics, run.health) if run.config else []
    moments += [(c.at, f"{_after_epoch(c.epoch)}: verdict {_state_change(c)}") for c in changes]
    moments += [(e.at, f"epoch {e.epoch}: best validation") for e in run.epochs if e.best][-1:]
    if run.steps and not run.exit:
        moments.append((run.steps[-1].at, f"last step known ({run.steps[-1].step})"))
    if run.exit:
        moments.append((run.exit.ended_at, f"ended: {redact(run.health.sentence)}"))
    recent = [moment for moment in moments if moment[0] >= since]
    return [f"- {clock(at)} {what}" for at, what in sorted(recent, key=lambda moment: moment[0])]


def _after_epoch(epoch: int) -> str:
    return f"epoch {epoch}" if epoch else "before the end of an epoch"


def _state_change(change: VerdictChange) -> str:
    return f"{WORDS[change.was]} → {WORDS[change.now]}" if change.was else WORDS[change.now]


def _sentence(event: EventMetric) -> str:
    if event.name == "resumed":
        return f"resumed from step {event.facts.get('step', '?')}"
    return f"{event.name.replace('_', ' ')}: {redact(event.sentence)}"


def _verdict(run: RunSnapshot) -> list[str]:
    if run.config is None and run.run.foreign:
        return [f"- without a configuration, because {run.run.foreign}: nothing to be judged by"]
    if run.config is None:
        return [redact(f"- config.yaml cannot be read: {run.unread.get('config.yaml', 'It is not there.')}")]
    if not run.config.criteria:
        return ["- no criteria: nothing to be judged by"]
    run_verdict = verdict_of(run.config, run.metrics, run.health)
    return [redact(f"- {line}") for line in verdict_lines(run_verdict, run.health)]


def _causes(run: RunSnapshot) -> list[str]:
    causes = why.of_run(run).diagnosis.causes
    lines = [f"- **{c.cause}** ({c.confidence:.0%}): {redact(c.sentence)} {redact(c.action)}" for c in causes]
    return lines or ["Nothing, as far as the records show."]


def _losses(run: RunSnapshot) -> list[str]:
    if not run.epochs:
        return ["No epoch has ended."]
    epochs = {e.epoch: e for e in (run.epochs[0], *[e for e in run.epochs if e.best][-1:], run.epochs[-1])}
    lines = []
    for epoch in epochs.values():
        validation_loss = epoch.validation
        validation = (
            f"; validation {format_losses(validation_loss.total, validation_loss.loss)}" if validation_loss else ""
        )
        lines.append(f"- epoch {epoch.epoch}: train {format_losses(epoch.train.total, epoch.train.loss)}{validation}")
    return lines


def _best(run: RunSnapshot) -> list[str]:
    restarts = sum(e.name == "resumed" for e in run.events)
    best = next((c for c in run.checkpoints if "best" in c.roles), None)
    lines = [f"- restarts: {restarts}"]
    if best is None:
        return [*lines, "- no best checkpoint yet"]
    total = f", validation {best.validation_total:.4f}" if best.validation_total is not None else ""
    return [
        *lines,
        f"- best: step {best.step}, epoch {best.epoch}{total}, {best.bytes / 1e6:.1f} MB, {best.sha256[:12]}",
    ]


def _cost(run: RunSnapshot, now: float) -> list[str]:
    """Format the cost from measured step times. Validation and preparation count only in the wall time."""
    stepping_s = sum(s.step_s or 0.0 for s in run.steps_since_launch)
    n_gpus = len(run.run.gpus)
    until = run.exit.ended_at if run.exit else (now if run.health.live else run.health.since or now)
    held_for_s = max(0.0, until - run.run.launched_at)
    what = (
        f"{n_gpus * stepping_s / 3600:.2f} GPU-hours in steps"
        if n_gpus
        else f"{stepping_s / 3600:.2f} hours in steps (CPU)"
    )
    lines = [f"- {what}, {len(run.steps)} steps", f"- {duration(held_for_s)} from launch"]
    if n_gpus:
        lines.append(f"- {n_gpus} GPUs held for {n_gpus * held_for_s / 3600:.2f} GPU-hours in all")
    return [*lines, *(f"- {line}" for line in stakes_lines(run, math.inf))]
