"""Format snapshots as text for `ps`, `status`, `verdict` and `demo`. Pure; times are the laptop's clock."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Mapping, Sequence

from giblet_train.diagnosis.alert_responses import active_alerts, open_alerts, silenced_by
from giblet_train.diagnosis.criteria import WORDS, Verdict, verdict_of
from giblet_train.diagnosis.eta import eta
from giblet_train.diagnosis.unsaved_work import disk_full_in_s, unsaved_work
from giblet_train.schema.config import COMPONENTS
from giblet_train.schema.health import GLYPHS, Health, duration
from giblet_train.schema.records import EpochMetric, Run
from giblet_train.schema.schedule import lr_at
from giblet_tui.monitor.snapshots import Fleet, RunSnapshot, nodes_of
from giblet_tui.reporting.tables import Row, fitted_table
from giblet_tui.reporting.values import DIRECTIONS, summaries

MOST_VALUE_LINES = 8
MARKS = {"pass": "✔", "on_track": "●", "at_risk": "!", "fail": "✖"}

_SPARE = ("LR", "STEP FMRI", "LEFT", "EPOCH")
"""Columns of `ps` dropped on a narrow terminal, in this order."""


def clock(at: float) -> str:
    """Format a time as local time, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def verdict(run: RunSnapshot) -> Verdict | None:
    """Judge a run by its own criteria; None without criteria or configuration."""
    if run.config is None or not run.config.criteria:
        return None
    return verdict_of(run.config, run.metrics, run.health)


def lr_planned(run: RunSnapshot) -> float | None:
    """Return the scheduled learning rate of the last recorded step."""
    return lr_at(run.steps[-1].step, run.plan) if run.plan and run.steps else None


def node_names(run: RunSnapshot) -> str:
    """Return the names of a run's nodes, separated by commas."""
    return ",".join(nodes_of(run))


def runs_table(runs: Sequence[RunSnapshot], width: int | None = None) -> str:
    """Format one line per run: state, progress, losses, learning rate, verdict, time left, evidence.

    Args:
        width: Columns of the terminal. Wider lines first lose the least important columns, then their end.
    """
    head: Row = ("STATE", "RUN", "NODE", "EPOCH", "STEP TOTAL", "STEP FMRI", "LR", "VERDICT", "LEFT", "EVIDENCE")
    rows = [_run_row(run) for run in runs]
    if any(run.owner for run in runs):
        head = ("USER", *head)
        rows = [(run.owner or "you", *row) for run, row in zip(runs, rows, strict=True)]
    return fitted_table(head, rows, _SPARE, width)


def node_lines(fleet: Fleet, now: float) -> list[str]:
    """Format one sentence for each node that is not live: why, and when it was last seen."""
    lines = []
    for node in fleet.nodes:
        last_contact = f"last heard {duration(now - node.observed_at)} ago" if node.observed_at else "never heard"
        if node.link in ("lost", "refused"):
            lines.append(f"{node.node}: {node.link_sentence} ({last_contact})")
        elif node.link == "connecting":
            lines.append(f"{node.node}: {last_contact}")
    return lines


def gpu_lines(fleet: Fleet) -> list[str]:
    """Format one line for each live node with GPUs: how many are free, and who holds the others."""
    lines = []
    for node in fleet.nodes:
        gpus = [gpu for gpu in node.facts.gpus if not gpu.n_slices]
        if node.link == "live" and gpus:
            holders = [f"GPU {gpu.label} ({gpu.name}): {gpu.not_free}" for gpu in gpus if gpu.not_free]
            n_free = len(gpus) - len(holders)
            lines.append("; ".join([f"{node.node}: {n_free} of {len(gpus)} GPUs free", *holders]))
    return lines


def verdict_lines(run_verdict: Verdict, health: Health) -> list[str]:
    """Format one line per criterion with its arithmetic, then the overall verdict."""
    lines = [f"{MARKS[c.status]} {WORDS[c.status]:<8} {c.name}: {c.sentence}" for c in run_verdict.criteria]
    return [*lines, f"verdict: {run_verdict.word_for(health)}"]


def stakes_lines(run: RunSnapshot, disk_free_gib: float) -> list[str]:
    """Format what a live run risks: time left with its range, unsaved steps, time until the disk is full."""
    if not run.health.live or run.plan is None or run.config is None:
        return []
    lines = []
    estimate = eta(run.steps_since_launch, run.plan, run.health)
    if estimate is not None:
        span = f"steps {duration(estimate.low_s)} to {duration(estimate.high_s)} in four cases of five"
        lines.append(
            f"about {duration(estimate.left_s)} to go ({span}, {duration(estimate.pauses_s)} between epochs)"
            + ("; it makes no progress now" if estimate.frozen else "")
        )
    loss_of_work = unsaved_work(run.steps_since_launch, run.checkpoints)
    lines += [loss_of_work.sentence] if loss_of_work is not None else []
    full_s = disk_full_in_s(
        run.config, run.steps, run.checkpoints, run.plan.steps_per_epoch, run.plan.total_steps, disk_free_gib
    )
    return [*lines, *([f"the disk is full in {duration(full_s)} at this pace"] if full_s is not None else [])]


def status_lines(run: RunSnapshot, now: float, disk_free_gib: float = math.inf) -> list[str]:
    """Format `status`: state, progress, losses, learning rate, verdict, unsaved work, launch."""
    facts, run_verdict = run.run, verdict(run)
    lines = [
        f"{GLYPHS[run.health.state]} {run.health.state}  {facts.run_id} on {node_names(run)}",
        *([f"  a run of {run.owner}; you may read it, not change it"] if run.owner else []),
        f"  {run.health.sentence}",
        *(f"  {GLYPHS[part.state]} {part.node}: {part.state}, {part.sentence}" for part in run.parts),
        *(f"  {line}" for line in (progress_line(run), rates(run), *value_lines(run)) if line),
    ]
    if run_verdict:
        lines += [f"  {line}" for line in verdict_lines(run_verdict, run.health)]
    lines += [f"  {line}" for line in stakes_lines(run, disk_free_gib)]
    lines += [f"  alert: {a.sentence} {a.action}".rstrip() for a in open_alerts(run.alerts, run.answers, now)]
    launch_line = f"{duration(now - facts.launched_at)} ago by {facts.launched_by}, giblet {facts.giblet_version}"
    lines.append(f"  launched {launch_line}; session {facts.session} ({facts.multiplexer})")
    if facts.gpus:
        lines.append(f"  gpus {', '.join(facts.gpus)}")
    if facts.note:
        lines.append(f"  note: {facts.note}")
    return [*lines, *command_lines(facts)]


def command_lines(facts: Run) -> list[str]:
    """Format what a run of the user's own command starts, where, and from which commit; nothing for other runs."""
    command = facts.command
    if command is None:
        return []
    change_note = " with uncommitted changes" if command.uncommitted else ""
    commit = f" (commit {command.commit[:12]}{change_note})" if command.commit else ""
    return [f"  command: {shlex.join(command.words)}", f"  in {command.cwd}{commit}"]


def alert_lines(run: RunSnapshot, now: float) -> list[str]:
    """Format each active alert: since when, sentence, action, and who answered it.

    Args:
        now: Seconds since 1970 on the node's clock.
    """
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
    """Format `step 41/240 epoch 3/12 | total 0.912 fmri 0.988 … | 0.21 s/step, 42s left`, or the phase at first."""
    if not run.steps and run.epochs:
        return epoch_line(run, run.epochs[-1])
    if not run.steps and run.values:
        newest = run.values[-1]
        return f"epoch {newest.epoch}" if newest.epoch else f"step {newest.step}"
    if not run.steps:
        return run.heartbeat.phase if run.heartbeat and run.health.live else ""
    last, plan = run.steps[-1], run.plan
    of_steps = f"/{plan.total_steps}" if plan else ""
    of_epochs = f"/{run.config.num_epochs}" if run.config else ""
    pace = f"{last.step_s:.2g} s/step" if last.step_s is not None else ""
    eta_s = run.eta_s
    times = ", ".join(t for t in (pace, f"{duration(eta_s)} left" if eta_s is not None else "") if t)
    parts = [
        f"step {last.step + 1}{of_steps} epoch {last.epoch}{of_epochs}",
        format_losses(last.total, last.loss),
        times,
    ]
    return " | ".join(p for p in parts if p)


def epoch_line(run: RunSnapshot, epoch: EpochMetric) -> str:
    """Format the end of an epoch: training and validation losses, and the learning rate compared with its plan."""
    line = f"epoch {epoch.epoch} train {format_losses(epoch.train.total, epoch.train.loss)}"
    if epoch.validation:
        line += f" | validation {format_losses(epoch.validation.total, epoch.validation.loss)}"
    planned = lr_at(epoch.epoch * run.plan.steps_per_epoch - 1, run.plan) if run.plan else None
    return f"{line} | {_rates(epoch.lr, planned)}{' | best so far' if epoch.best else ''}"


def rates(run: RunSnapshot) -> str:
    """Format the last step's learning rate and its planned value."""
    return _rates(run.steps[-1].lr, lr_planned(run)) if run.steps else ""


def _rates(observed: float, planned: float | None) -> str:
    return f"lr {observed:.3e}" + (f" (planned {planned:.3e})" if planned is not None else "")


def format_losses(total: float | None, loss: Mapping[str, float | None]) -> str:
    """Format `total 0.9123 fmri 0.9881 video …`, with components in a fixed order."""
    return " ".join(f"{name} {number(value)}" for name, value in {"total": total, **_ordered(loss)}.items())


def number(value: float | None) -> str:
    """Format four significant digits, at least one decimal; `–` if not finite."""
    if value is None:
        return "–"
    if value and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.3e}"
    return f"{value:.{max(1, 3 - math.floor(math.log10(abs(value))))}f}" if value else "0.000"


def value_lines(run: RunSnapshot) -> list[str]:
    """Format one line per number for `status`."""
    values = summaries(run)
    unit = "epoch" if run.values and run.values[-1].epoch else "step"
    lines = []
    for value in values[:MOST_VALUE_LINES]:
        figures = [f"train {number(value.train)}"] if value.train is not None and value.validation is not None else []
        figures += [f"validation {number(value.validation)}"] if value.validation is not None else []
        figures = figures or [number(value.train)]
        direction = DIRECTIONS[value.higher_is_better]
        best = f"best {number(value.best)} at {unit} {value.best_at}, {direction}" if value.best is not None else ""
        lines.append(f"{value.name}: {' '.join(figures)}{f' ({best})' if best else ''}")
    n_more = len(values) - MOST_VALUE_LINES
    return [*lines, f"and {n_more} more: giblet export {run.run.run_id} --csv FILE"] if n_more > 0 else lines


def _run_row(run: RunSnapshot) -> Row:
    run_verdict = verdict(run)
    eta_s = run.eta_s
    epoch, total, fmri, lr = _last_figures(run)
    return (
        f"{GLYPHS[run.health.state]} {run.health.state}",
        run.run.run_id,
        node_names(run),
        epoch,
        total,
        fmri,
        lr,
        run_verdict.word_for(run.health) if run_verdict else "–",
        duration(eta_s) if eta_s is not None else "–",
        run.health.sentence,
    )


def _last_figures(run: RunSnapshot) -> tuple[str, str, str, str]:
    """Format epoch, total, fMRI loss and learning rate of the last step, or of the last epoch without steps."""
    if not run.steps and not run.epochs:
        return f"{run.values[-1].epoch}" if run.values and run.values[-1].epoch else "–", "–", "–", "–"
    lr: float | None
    if run.steps:
        step = run.steps[-1]
        epoch, total, loss, lr = step.epoch, step.total, step.loss, step.lr
    else:
        last_epoch = run.epochs[-1]
        epoch, total, loss, lr = last_epoch.epoch, last_epoch.train.total, last_epoch.train.loss, last_epoch.lr or None
    of = f"/{run.config.num_epochs}" if run.config else ""
    return (
        f"{epoch}{of}",
        number(total),
        number(loss.get("fmri")) if "fmri" in loss else "–",
        f"{lr:.2e}" if lr is not None else "–",
    )


def _ordered(loss: Mapping[str, float | None]) -> dict[str, float | None]:
    names = [c for c in COMPONENTS if c in loss]
    return {c: loss[c] for c in [*names, *(c for c in loss if c not in names)]}
