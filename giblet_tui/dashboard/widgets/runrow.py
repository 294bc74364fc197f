"""How nodes and runs look in the list: two lines in a narrow column, one line of a table where there is room."""

from __future__ import annotations

from textual.content import Content

from giblet_train.contract.criteria import Verdict
from giblet_train.contract.health import duration
from giblet_tui.dashboard import axis, palette
from giblet_tui.dashboard.text import Part, line
from giblet_tui.dashboard.view import epoch_words, health_now, in_doubt, open_alerts, stale, state_words
from giblet_tui.dashboard.widgets.hardware import free_gpus
from giblet_tui.dashboard.widgets.status import LINKS
from giblet_tui.fleet import NodeSnapshot, RunSnapshot
from giblet_tui.series import number

TABLE_CELLS = 80
NAME_CELLS = 26
BLANK = "\u00a0"


def node_row(node: NodeSnapshot, now: float) -> Content:
    """The heading of a node's runs: its name and whether it is heard."""
    word, ink = LINKS[node.link]
    parts: list[Part] = [(node.node, "bold"), "  ", (word, "$warning" if stale(node, now) else ink)]
    if node.facts.gpus:
        parts.append((f"  {free_gpus(node.facts)}/{len(node.facts.gpus)} free", palette.MUTED))
    if not node.runs:
        parts.append(("  no runs", palette.MUTED))
    return line(*parts)


def run_row(
    run: RunSnapshot, node: NodeSnapshot, verdict: Verdict | None, marked: bool, now: float, width: int
) -> Content:
    """A run in the list, marked with ◆ when it is drawn behind the chosen one."""
    health = health_now(run, node, now)
    ink = palette.state_style(health.state)
    words = state_words(health, node, now)
    glyph: Part = (f"{BLANK}{palette.glyph(health.state)} ", f"{ink} bold")
    mark: Part = (" ◆" if marked else "", f"{palette.INK[True]['other']} bold")
    judged = _verdict(verdict, dimmed=in_doubt(health))
    calling: Part = (" ▲" if open_alerts(run, node, now) else "", "$warning bold")
    name: list[Part] = [run.run.name, (f" {run.run.run_id[-4:]}", palette.MUTED), mark, calling]
    if width < TABLE_CELLS:
        below: list[Part] = [(f"{BLANK}  {words} ", ink), (epoch_words(run), palette.MUTED), " ", *judged]
        return line(glyph, *name) + Content("\n") + line(*below)
    title = line(glyph, *name)
    left = run.eta_s if health.state == "running" else None
    newest = run.steps[-1] if run.steps else None
    cells: list[Part] = [
        BLANK * max(1, NAME_CELLS - title.cell_length),
        (f"{words:<13}", ink),
        f"{epoch_words(run):>8}",
        (f"{axis.figure(number(newest.total)) if newest else '–':>11}", "bold"),
        (f"{axis.scientific(newest.lr) if newest else '–':>9}", palette.MUTED),
        (f"{duration(left) + ' left' if left is not None else '':>12}  ", palette.MUTED),
        *judged,
        (f"  {health.sentence}", palette.MUTED),
    ]
    return title + line(*cells)


def heading(width: int) -> Content:
    """The list's own heading, over the columns of a table where it is one."""
    if width < TABLE_CELLS:
        return line(("runs", "bold"))
    names = f"{'state':<13}{'epoch':>8}{'total':>11}{'LR':>9}{'to go':>12}  {'verdict':<10}  evidence"
    return line((f"runs{BLANK * (NAME_CELLS - len('runs') - 1)}", "bold"), (names, palette.MUTED))


def _verdict(verdict: Verdict | None, *, dimmed: bool) -> list[Part]:
    if verdict is None:
        return []
    word = f"{palette.STATUS_GLYPHS[verdict.status]} {verdict.word}"
    return [(f"{word:<10}", palette.MUTED if dimmed else palette.STATUS_STYLES[verdict.status])]
