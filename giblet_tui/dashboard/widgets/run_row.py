"""Rows of the run list: two lines in a narrow column, one line of a table where there is room."""

from __future__ import annotations

from textual.content import Content

from giblet_train.schema.health import duration
from giblet_train.schema.records import SweepCell
from giblet_tui.dashboard.charts import axis
from giblet_tui.dashboard.model.judgement import Judgement
from giblet_tui.dashboard.model.run_status import (
    Words,
    epoch_words,
    health_now,
    is_evaluating,
    is_stale,
    late_step_words,
    open_alerts,
    state_words,
    verdict_words,
)
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import Part, join_parts
from giblet_tui.dashboard.widgets.hardware import free_gpus
from giblet_tui.dashboard.widgets.status_line import link_words
from giblet_tui.monitor.metric_columns import number
from giblet_tui.monitor.snapshots import NodeSnapshot, RunSnapshot

TABLE_CELLS = 80
ROOMY_CELLS = 110
NOTE_CELLS = 150
BLANK = "\u00a0"
VERDICT_CELLS = 10
SHORTEST_NAME = 12
LONGEST_LABEL = 40
"""Cells that the values of a sweep's run may ask for, so that they do not push other panes away."""


def node_row(node: NodeSnapshot, now: float) -> Content:
    """Return the heading of a node's runs: its name and whether it is heard."""
    word, style = link_words(node, now)
    parts: list[Part] = [(node.node, "bold"), "  ", (word, "$warning" if is_stale(node, now) else style)]
    if node.facts.gpus:
        parts.append((f"  {free_gpus(node.facts)}/{len(node.facts.gpus)} free", styles.MUTED))
    if not node.runs:
        parts.append(("  no runs", styles.MUTED))
    return join_parts(*parts)


def sweep_row(sweep: SweepCell, width: int) -> Content:
    """Return the heading of a sweep's runs: its name, and what their values are of."""
    keys = ", ".join(key.rpartition(".")[2] for key in sweep.values)
    gap = Content("\n" if width < TABLE_CELLS else BLANK)
    return join_parts((f"{BLANK}{sweep.name}", "bold")) + gap + join_parts((f"{BLANK}{keys}"[:width], styles.MUTED))


def run_label(run: RunSnapshot) -> str:
    """Return what a run is called in the list: its name, or its values if it belongs to a sweep; its owner first."""
    label = ", ".join(run.run.sweep.values.values()) if run.run.sweep is not None else run.run.name
    return f"{run.owner}: {label}" if run.owner else label


def run_row(
    run: RunSnapshot,
    node: NodeSnapshot,
    judgement: Judgement,
    marked: bool,
    now: float,
    width: int,
    palette: styles.Palette,
) -> Content:
    """Return a run of the list, marked with ◆ if it is drawn behind the chosen one."""
    health = health_now(run, node, now)
    state = Words(state_words(health, node, now), styles.state_style(health.state))
    verdict = verdict_words(judgement.verdict, health)
    mark: Part = (" ◆" if marked else "", f"{styles.INK[palette]['other']} bold")
    alert: Part = (" ▲" if open_alerts(run, node, now) else "", "$warning bold")
    late = late_step_words(run, node, now)
    after: list[Part] = [(f" {run.run.run_id[-4:]}", styles.MUTED), mark, alert]
    glyph: Part = (f"{BLANK}{styles.glyph(health.state)} ", f"{state.style} bold")
    if width < TABLE_CELLS:
        below = _second_line(run, late if late and late.style != styles.MUTED else state, verdict, width)
        return _with_name(glyph, run_label(run), after, width) + Content("\n") + below
    name_cells, left_cells = _cells(width)
    title = _with_name(glyph, run_label(run), after, name_cells - 1)
    return title + join_parts(
        BLANK * (name_cells - title.cell_length),
        (f"{state.text:<13}", state.style),
        f"{epoch_words(run):>8}",
        (f"{total_words(run):>11}", "bold"),
        (f"{_rate(run):>9}" if width >= ROOMY_CELLS else "", styles.MUTED),
        (f"{_time_left(run, health.state):>{left_cells}}  ", styles.MUTED),
        (f"{verdict.text:<{VERDICT_CELLS}}", verdict.style),
        (f"  {late.text if late else health.sentence}" if width >= ROOMY_CELLS else "", styles.MUTED),
        (f"  {run.run.note}" if width >= NOTE_CELLS else "", styles.MUTED),
    )


def heading(width: int, note: str = "") -> Content:
    """Return the list's heading, over the columns of a table if it is one; note: its filter and order."""
    if width < TABLE_CELLS:
        return join_parts(("runs", "bold"), (f"  {note}" if note else "", "$warning"))
    name_cells, left_cells = _cells(width)
    rate, evidence = (f"{'LR':>9}", "  evidence") if width >= ROOMY_CELLS else ("", "")
    names = f"{'state':<13}{'epoch':>8}{'step total':>11}{rate}{'to go':>{left_cells}}  {'verdict':<10}{evidence}"
    first = f"runs  {note}" if note else "runs"
    return join_parts((f"{first[: name_cells - 2]:{BLANK}<{name_cells - 1}}", "bold"), (names, styles.MUTED))


def row_cells(run: RunSnapshot) -> int:
    """Return the cells that a narrow row needs to show the run's name and state in full."""
    return max(SHORTEST_NAME, min(LONGEST_LABEL, len(run_label(run)))) + 12


def total_words(run: RunSnapshot) -> str:
    """Return the training total of the last step, as `ps` shows it; `–` before the first step."""
    return axis.figure(number(run.steps[-1].total)) if run.steps else "–"


def _rate(run: RunSnapshot) -> str:
    return axis.scientific(run.steps[-1].lr) if run.steps else "–"


def _time_left(run: RunSnapshot, state: str) -> str:
    if state != "running":
        return ""
    if is_evaluating(run):
        return "evaluating"
    return duration(run.eta_s) if run.eta_s is not None else ""


def _cells(width: int) -> tuple[int, int]:
    """Return the cells of a table's first column and of the time left."""
    return (34, 12) if width >= ROOMY_CELLS else (24, 11)


def _with_name(glyph: Part, name: str, after: list[Part], width: int) -> Content:
    """Return glyph, name and what follows it; the name is cut if there is no room for all of it."""
    room = width - join_parts(glyph, *after).cell_length
    return join_parts(glyph, name if len(name) <= room else f"{name[: max(1, room - 1)]}…", *after)


def _second_line(run: RunSnapshot, state: Words, verdict: Words, width: int) -> Content:
    """Return the second line of a narrow row; the verdict is reduced to its glyph where both have no room."""
    epochs = epoch_words(run)
    parts: list[Part] = [(f"{BLANK} {state.text} ", state.style), (f"{epochs} " if epochs else "", styles.MUTED)]
    line = join_parts(*parts, verdict).rstrip()
    return line if line.cell_length <= width else join_parts(*parts, (verdict.text[:1], verdict.style))
