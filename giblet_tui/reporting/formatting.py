"""Snapshots as text: what `ps`, `status`, `verdict` and `demo` show. Pure; times are the laptop's clock."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from giblet_train.diagnosis.alerts import active_alerts, open_alerts, silenced_by
from giblet_train.diagnosis.criteria import WORDS, Verdict, verdict_of
from giblet_train.diagnosis.eta import eta
from giblet_train.diagnosis.unsaved_work import disk_full_in_s, unsaved_work
from giblet_train.schema.config import COMPONENTS
from giblet_train.schema.health import GLYPHS, duration
from giblet_train.schema.records import EpochMetric
from giblet_train.schema.schedule import lr_at
from giblet_tui.monitor.snapshots import Fleet, RunSnapshot, nodes_of

MARKS = {"pass": "✔", "on_track": "●", "at_risk": "!", "fail": "✖"}

_GAP = "  "
_SPARE = ("LR", "FMRI", "LEFT", "EPOCH")
"""Columns of `ps` that a narrow terminal goes without, the first one first."""

Row = Sequence[str]


def table(head: Row, rows: Sequence[Row]) -> str:
    """Left-aligned columns, two blanks apart, the last one ragged; one line a row, whatever a cell holds."""
    lines = [_one_line(row) for row in (head, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(_GAP.join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def markdown_table(head: Row, rows: Sequence[Row]) -> str:
    """The same columns as a Markdown table."""
    lines = [head, ["---"] * len(head), *map(_one_line, rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _one_line(row: Row) -> list[str]:
    return [" ".join(line.strip() for line in cell.splitlines()) for cell in row]


def clock(at: float) -> str:
    """A moment in local time, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def verdict(run: RunSnapshot) -> Verdict | None:
    """The run held against its own criteria; None when it has none, or its configuration is not known."""
    if run.config is None or not run.config.criteria:
        return None
    return verdict_of(run.config, run.metrics, ended=not run.health.live)


def lr_planned(run: RunSnapshot) -> float | None:
    """The rate that the schedule gives for the last recorded step."""
    return lr_at(run.steps[-1].step, run.plan) if run.plan and run.steps else None


def node_names(run: RunSnapshot) -> str:
    """The node of a run, or its nodes."""
    return ",".join(nodes_of(run))


def runs_table(runs: Sequence[RunSnapshot], width: int | None = None) -> str:
    """One line a run: state, where it stands, losses, rate, verdict, time left, evidence.

    width: of the terminal, in columns; a line that is wider loses what it can best do without, then its end.
    """
    head = ("STATE", "RUN", "NODE", "EPOCH", "TOTAL", "FMRI", "LR", "VERDICT", "LEFT", "EVIDENCE")
    rows = [head, *(_one_line(_run_row(run)) for run in runs)]
    if width is None:
        return table(head, rows[1:])
    spare = [head.index(name) for name in _SPARE]
    while spare and _width([row[:-1] for row in rows]) > width:
        gone = spare.pop(0)
        rows = [[*row[:gone], *row[gone + 1 :]] for row in rows]
        spare = [at - (at > gone) for at in spare]
    return "\n".join(_cut(line, width) for line in table(rows[0], rows[1:]).split("\n"))


def _cut(line: str, width: int) -> str:
    """The line, ended by `…` where it is wider than so many columns."""
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def _width(rows: Sequence[Row]) -> int:
    return sum(max(map(len, column)) + len(_GAP) for column in zip(*rows, strict=True))


def node_lines(fleet: Fleet, now: float) -> list[str]:
    """One sentence for each node that is not live: why, since when, and the remedy."""
    lines = []
    for node in fleet.nodes:
        heard = f"last heard {duration(now - node.observed_at)} ago" if node.observed_at else "never heard"
        if node.link in ("lost", "refused"):
            lines.append(f"{node.node}: {node.link_sentence} ({heard})")
        elif node.link == "connecting":
            lines.append(f"{node.node}: {heard}")
    return lines


def verdict_lines(judged: Verdict) -> list[str]:
    """A line for each criterion with its arithmetic, then the word for the whole."""
    lines = [f"{MARKS[c.status]} {WORDS[c.status]:<8} {c.name}: {c.sentence}" for c in judged.criteria]
    return [*lines, f"verdict: {judged.word}"]


def stakes_lines(run: RunSnapshot, disk_free_gib: float) -> list[str]:
    """What a living run may lose: time left with its spread, steps that no checkpoint holds, the disk it will fill."""
    if not run.health.live or run.plan is None or run.config is None:
        return []
    lines = []
    left = eta(run.steps, run.plan, run.health)
    if left is not None:
        span = f"steps {duration(left.low_s)} to {duration(left.high_s)} in four cases of five"
        lines.append(
            f"about {duration(left.left_s)} to go ({span}, {duration(left.pauses_s)} between epochs)"
            + ("; it stands still now" if left.frozen else "")
        )
    lost = unsaved_work(run.steps, run.checkpoints)
    lines += [lost.sentence] if lost is not None else []
    full_s = disk_full_in_s(
        run.config, run.steps, run.checkpoints, run.plan.steps_per_epoch, run.plan.total_steps, disk_free_gib
    )
    return [*lines, *([f"the disk is full in {duration(full_s)} at this pace"] if full_s is not None else [])]


def status_lines(run: RunSnapshot, now: float, disk_free_gib: float = math.inf) -> list[str]:
    """`status`: the state as a sentence, where it stands, losses, rate, verdict, what is at stake, how it began."""
    facts, judged = run.run, verdict(run)
    lines = [
        f"{GLYPHS[run.health.state]} {run.health.state}  {facts.run_id} on {node_names(run)}",
        f"  {run.health.sentence}",
        *(f"  {GLYPHS[part.state]} {part.node}: {part.state}, {part.sentence}" for part in run.parts),
        *(f"  {line}" for line in (progress_line(run), rates(run)) if line),
    ]
    if judged:
        lines += [f"  {line}" for line in verdict_lines(judged)]
    lines += [f"  {line}" for line in stakes_lines(run, disk_free_gib)]
    lines += [f"  alert: {a.sentence} {a.action}".rstrip() for a in open_alerts(run.alerts, run.answers, now)]
    started = f"{duration(now - facts.launched_at)} ago by {facts.launched_by}, giblet {facts.giblet_version}"
    lines.append(f"  launched {started}; session {facts.session} ({facts.multiplexer})")
    if facts.gpus:
        lines.append(f"  gpus {', '.join(facts.gpus)}")
    if facts.note:
        lines.append(f"  note: {facts.note}")
    return lines


def alert_lines(run: RunSnapshot, now: float) -> list[str]:
    """Each alert that stands: since when, its sentence, what to do, and who has answered it. now: the node's clock."""
    lines = []
    for alert in active_alerts(run.alerts):
        answer = silenced_by(alert, run.answers, now)
        mark = "▲" if answer is None else "✓"
        lines.append(f"{mark} {alert.name}, {alert.level}, since step {alert.step} ({duration(now - alert.at)} ago)")
        lines += [f"   {alert.sentence}", f"   → {alert.action}"]
        if answer is not None:
            until = "acknowledged" if answer.until is None else f"snoozed for another {duration(answer.until - now)}"
            lines.append(f"   {until}{f' by {answer.by}' if answer.by else ''}")
    return lines or ["Nothing is raised."]


def progress_line(run: RunSnapshot) -> str:
    """`step 41/240 epoch 3/12 | total 0.912 fmri 0.988 … | 0.21 s/step, 42s left`; what it waits for before that."""
    if not run.steps and run.epochs:
        return epoch_line(run, run.epochs[-1])
    if not run.steps:
        return run.heartbeat.phase if run.heartbeat and run.health.live else ""
    last, plan = run.steps[-1], run.plan
    of_steps = f"/{plan.total_steps}" if plan else ""
    of_epochs = f"/{run.config.num_epochs}" if run.config else ""
    pace = f"{last.step_s:.2g} s/step" if last.step_s is not None else ""
    left = run.eta_s
    times = ", ".join(t for t in (pace, f"{duration(left)} left" if left is not None else "") if t)
    parts = [
        f"step {last.step + 1}{of_steps} epoch {last.epoch}{of_epochs}",
        format_losses(last.total, last.loss),
        times,
    ]
    return " | ".join(p for p in parts if p)


def epoch_line(run: RunSnapshot, epoch: EpochMetric) -> str:
    """An epoch's end: losses on train and validation, and its last step's rate against the plan."""
    line = f"epoch {epoch.epoch} train {format_losses(epoch.train.total, epoch.train.loss)}"
    if epoch.validation:
        line += f" | validation {format_losses(epoch.validation.total, epoch.validation.loss)}"
    planned = lr_at(epoch.epoch * run.plan.steps_per_epoch - 1, run.plan) if run.plan else None
    return f"{line} | {_rates(epoch.lr, planned)}{' | best so far' if epoch.best else ''}"


def rates(run: RunSnapshot) -> str:
    """The last step's learning rate, and the one the schedule gives for it."""
    return _rates(run.steps[-1].lr, lr_planned(run)) if run.steps else ""


def _rates(observed: float, planned: float | None) -> str:
    return f"lr {observed:.3e}" + (f" (planned {planned:.3e})" if planned is not None else "")


def format_losses(total: float | None, loss: Mapping[str, float | None]) -> str:
    """`total 0.9123 fmri 0.9881 video …`, the components in their fixed order."""
    return " ".join(f"{name} {number(value)}" for name, value in {"total": total, **_ordered(loss)}.items())


def number(value: float | None) -> str:
    """Four significant digits, one decimal at least; `–` for what is not finite."""
    if value is None:
        return "–"
    if value and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.3e}"
    return f"{value:.{max(1, 3 - math.floor(math.log10(abs(value))))}f}" if value else "0.000"


def diff_lines(changes: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """A line for each key whose value differs."""
    return [f"  {key}: {as_yaml(old)} → {as_yaml(new)}" for key, (old, new) in changes.items()]


def _run_row(run: RunSnapshot) -> Row:
    judged = verdict(run)
    left = run.eta_s
    epoch, total, fmri, lr = _last_figures(run)
    return (
        f"{GLYPHS[run.health.state]} {run.health.state}",
        run.run.run_id,
        node_names(run),
        epoch,
        total,
        fmri,
        lr,
        judged.word if judged else "–",
        duration(left) if left is not None else "–",
        run.health.sentence,
    )


def _last_figures(run: RunSnapshot) -> tuple[str, str, str, str]:
    """Epoch, total, fMRI loss and rate of the last step; of the last epoch where steps are not told (a lab's log)."""
    if not run.steps and not run.epochs:
        return "–", "–", "–", "–"
    lr: float | None
    if run.steps:
        step = run.steps[-1]
        epoch, total, loss, lr = step.epoch, step.total, step.loss, step.lr
    else:
        ended = run.epochs[-1]
        epoch, total, loss, lr = ended.epoch, ended.train.total, ended.train.loss, ended.lr or None
    of = f"/{run.config.num_epochs}" if run.config else ""
    return (
        f"{epoch}{of}",
        number(total),
        number(loss.get("fmri")) if "fmri" in loss else "–",
        f"{lr:.2e}" if lr is not None else "–",
    )


def _ordered(loss: Mapping[str, float | None]) -> dict[str, float | None]:
    known = [c for c in COMPONENTS if c in loss]
    return {c: loss[c] for c in [*known, *(c for c in loss if c not in known)]}


def as_yaml(value: Any) -> str:
    """A value on one line, as a configuration's file has it."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {as_yaml(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_yaml, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
