"""How nodes and runs look in the list: two lines in a narrow column, one line of a table where there is room."""

from __future__ import annotations

from textual.content import Content

from giblet_train.diagnosis.criteria import Verdict
from giblet_train.schema.health import Health, duration
from giblet_tui.dashboard.charts import axis
from giblet_tui.dashboard.model.run_view import epoch_words, health_now, is_uncertain, open_alerts, stale, state_words
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import Part, join_parts
from giblet_tui.dashboard.widgets.hardware import free_gpus
from giblet_tui.dashboard.widgets.status_line import LINKS
from giblet_tui.monitor.metric_columns import number
from giblet_tui.monitor.snapshots import NodeSnapshot, RunSnapshot

TABLE_CELLS = 80
ROOMY_CELLS = 110
BLANK = "\u00a0"


def node_row(node: NodeSnapshot, now: float) -> Content:
    """The heading of a node's runs: its name and whether it is heard."""
    word, ink = LINKS[node.link]
    parts: list[Part] = [(node.node, "bold"), "  ", (word, "$warning" if stale(node, now) else ink)]
    if node.facts.gpus:
        parts.append((f"  {free_gpus(node.facts)}/{len(node.facts.gpus)} free", styles.MUTED))
    if not node.runs:
        parts.append(("  no runs", styles.MUTED))
    return join_parts(*parts)


def run_row(
    run: RunSnapshot, node: NodeSnapshot, verdict: Verdict | None, marked: bool, now: float, width: int
) -> Content:
    """A run in the list, marked with ◆ when it is drawn behind the chosen one."""
    health = health_now(run, node, now)
    ink = styles.state_style(health.state)
    words = state_words(health, node, now)
    glyph: Part = (f"{BLANK}{styles.glyph(health.state)} ", f"{ink} bold")
    mark: Part = (" ◆" if marked else "", f"{styles.INK[True]['other']} bold")
    judged = _verdict(verdict, health)
    calling: Part = (" ▲" if open_alerts(run, node, now) else "", "$warning bold")
    after: list[Part] = [(f" {run.run.run_id[-4:]}", styles.MUTED), mark, calling]
    if width < TABLE_CELLS:
        return _titled(glyph, run.run.name, after, width) + Content("\n") + _below(run, (words, ink), judged, width)
    name_cells, left_cells = _cells(width)
    title = _titled(glyph, run.run.name, after, name_cells - 1)
    left = run.eta_s if health.state == "running" else None
    newest = run.steps[-1] if run.steps else None
    rate = axis.scientific(newest.lr) if newest else "–"
    cells: list[Part] = [
        BLANK * (name_cells - title.cell_length),
        (f"{words:<13}", ink),
        f"{epoch_words(run):>8}",
        (f"{axis.figure(number(newest.total)) if newest else '–':>11}", "bold"),
        (f"{rate:>9}" if width >= ROOMY_CELLS else "", styles.MUTED),
        (f"{duration(left) if left is not None else '':>{left_cells}}  ", styles.MUTED),
        judged,
        (f"  {health.sentence}" if width >= ROOMY_CELLS else "", styles.MUTED),
    ]
    return title + join_parts(*cells)


def heading(width: int) -> Content:
    """The list's own heading, over the columns of a table where it is one."""
    if width < TABLE_CELLS:
        return join_parts(("runs", "bold"))
    name_cells, left_cells = _cells(width)
    rate, evidence = (f"{'LR':>9}", "  evidence") if width >= ROOMY_CELLS else ("", "")
    names = f"{'state':<13}{'epoch':>8}{'total':>11}{rate}{'to go':>{left_cells}}  {'verdict':<10}{evidence}"
    return join_parts((f"runs{BLANK * (name_cells - len('runs') - 1)}", "bold"), (names, styles.MUTED))


def _cells(width: int) -> tuple[int, int]:
    """Cells of a table's first column and of the time left: where rate and evidence have no room, the verdict has."""
    return (34, 10) if width >= ROOMY_CELLS else (26, 9)


def _titled(glyph: Part, name: str, after: list[Part], width: int) -> Content:
    """Glyph, name and what follows it, the name cut where all of it has no room."""
    room = width - join_parts(glyph, *after).cell_length
    return join_parts(glyph, name if len(name) <= room else f"{name[: max(1, room - 1)]}…", *after)


def _below(run: RunSnapshot, words: tuple[str, str], judged: tuple[str, str], width: int) -> Content:
    """The second line of a narrow row; the verdict's word gives way to its glyph where both have no room."""
    parts: list[Part] = [(f"{BLANK} {words[0]} ", words[1]), (epoch_words(run), styles.MUTED), " "]
    whole = join_parts(*parts, judged).rstrip()
    return whole if whole.cell_length <= width else join_parts(*parts, (judged[0][:1], judged[1]))


def _verdict(verdict: Verdict | None, health: Health) -> tuple[str, str]:
    if verdict is None:
        return "", ""
    word = f"{styles.STATUS_GLYPHS[verdict.status]} {verdict.word_for(health)}"
    return f"{word:<10}", styles.MUTED if is_uncertain(health) else styles.STATUS_STYLES[verdict.status]
