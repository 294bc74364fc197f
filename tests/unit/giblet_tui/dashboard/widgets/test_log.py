"""The log pane: following, searching, filtering, hostile text."""

from __future__ import annotations

import random

from textual.widgets import Input

from giblet_tui.dashboard.model.log_filter import LogFilter
from giblet_tui.dashboard.style.safe_text import UNSAFE
from giblet_tui.dashboard.widgets.log import LogTail
from giblet_tui.monitor.snapshots import Fleet
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import Tape, dashboard, screen_text, settle


async def test_search_finds_and_returns_to_following() -> None:
    lines = tuple(f"line {i}{' ERROR: disk full' if i == 37 else ''}" for i in range(100))
    app = dashboard(Fleet(nodes=(fleets.node(runs=(fleets.run(log=lines),)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        log = app.screen.query_one(LogTail)
        assert log.follow and log.scroll_offset.y == log.max_scroll_y > 0
        log.focus()
        await pilot.press("slash", *"disk", "enter")
        await pilot.pause()
        assert not app.screen.query_one("#search", Input).display
        assert not log.follow
        assert log.scroll_offset.y <= 37 < log.scroll_offset.y + log.content_size.height
        assert any("disk full" in row for row in screen_text(app))
        await pilot.press("f")
        assert log.follow
        await pilot.press("e")
        assert log.scroll_offset.y <= 37 < log.scroll_offset.y + log.content_size.height
        await pilot.press("escape")
        assert log.needle == "" and log.follow and log.scroll_offset.y == log.max_scroll_y


async def test_the_log_is_filtered_by_severity_and_rank() -> None:
    lines = [f"[default{i % 2}]: step {i}" for i in range(40)]
    lines[10:10] = ["[default1]:Traceback (most recent call last):", "[default0]: fine", "[default1]:  File x"]
    lines[13:13] = ["[default1]:RuntimeError: bad shape", "[default0]:UserWarning: slow"]
    app = dashboard(Fleet(nodes=(fleets.node(runs=(fleets.run(log=lines),)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        log = app.screen.query_one(LogTail)
        log.focus()
        await pilot.press("w")
        await pilot.pause()
        assert log.virtual_size.height == 4 and "only warnings and errors: 4 of 45 lines" in str(log.border_title)
        await pilot.press("r")
        assert "rank 0: 1 of 45" in str(log.border_title)
        await pilot.press("r", "w")
        await pilot.pause()
        text = "\n".join(screen_text(app))
        assert "bad shape" in text and "File x" in text and "slow" not in text and "fine" not in text
        await pilot.press("r", "w")
        assert log.filter == LogFilter() and log.virtual_size.height == 45


async def test_new_lines_are_followed_but_do_not_move_a_reader() -> None:
    tape = Tape()
    app = dashboard(Fleet(nodes=(fleets.node(runs=(fleets.run(log=["old"] * 50),)),)), source=tape)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        log = app.screen.query_one(LogTail)
        tape.play(fleets.node(runs=(fleets.run(log=["old"] * 50 + ["new"] * 10),)))
        await settle(pilot)
        assert log.scroll_offset.y == log.max_scroll_y
        log.focus()
        await pilot.press("home")
        await pilot.pause()
        tape.play(fleets.node(runs=(fleets.run(log=["old"] * 50 + ["new"] * 30),)))
        await settle(pilot)
        assert log.scroll_offset.y == 0 and not log.follow


HOSTILE = (
    "\x1b]52;c;aGFjaw==\x07clipboard",
    "\x1b[2J\x1b[H cleared",
    "\x9b31m C1",
    "[bold red]markup[/bold red] [/] [link=https://example.org]x[/link]",
    "\u202egpj.exe\u202c bidi",
    "zero\u200bwidth\u2060joiners",
    "a" * 1_000_000,
    "\x00\x07\x08\x7f\r\n tail",
    "\ud800 lone surrogate",
    "全角の文字列と絵文字🙂",
)


async def test_a_line_is_marked_where_it_is_cut_and_can_be_read_to_its_end() -> None:
    line = f"first {'x' * 100} LR: 2.51e-04"
    app = dashboard(Fleet(nodes=(fleets.node(runs=(fleets.run(log=(line, "short")),)),)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("8")
        await pilot.pause()
        (row,) = [row for row in screen_text(app) if "first xxx" in row]
        assert row.rstrip().endswith("x…") and "short…" not in "".join(screen_text(app))
        for _ in range(60):
            await pilot.press("right")
        await pilot.pause()
        (row,) = [row for row in screen_text(app) if "xxx" in row]
        assert row.startswith("…x") and row.rstrip().endswith("LR: 2.51e-04")


async def test_hostile_text_stays_in_its_row() -> None:
    log = [*HOSTILE, "the last line"]
    run = fleets.run(log=log, sentence=HOSTILE[0], alerts=(fleets.alert(sentence=HOSTILE[1] + HOSTILE[3]),))
    node = fleets.node(runs=(run,), link="lost", sentence="".join(HOSTILE[:4]))
    app = dashboard(Fleet(nodes=(node,)))
    async with app.run_test(size=(200, 50)) as pilot:
        await pilot.pause()
        rows = screen_text(app)
        text = "".join(rows)
        assert not any(c in text for c in "\x00\x07\x08\x1b\x7f\x9b\r\n\u202e\u200b\u2060\ud800")
        assert any("[bold red]markup[/bold red]" in row for row in rows)
        assert sum("the last line" in row for row in rows) == 1
        assert "tensor01" in rows[-1]
        styles = [s for strip in app.screen._compositor.render_strips() for s in strip if s.style and s.style.link]
        assert not styles


def hostile_lines(count: int) -> list[str]:
    """Return lines of pieces that act on terminals, from a seed; some of a megabyte."""
    random_of = random.Random(5)
    pieces = [
        *HOSTILE[:6],
        *HOSTILE[7:],
        "\x1bP1$r\x1b\\",
        "\x1b]8;;http://x\x07",
        "\x9d0;t\x9c",
        "\x0e\x0f",
        "\u2066\u2069",
        "é" * 9,
    ]
    lines = ["".join(random_of.choices(pieces, k=random_of.randrange(1, 6))) for _ in range(count)]
    return [line * (1_000_000 // len(line)) if i % 250 == 0 else line for i, line in enumerate(lines)]


async def test_a_thousand_hostile_lines_change_nothing_outside_their_rows() -> None:
    outside: list[list[str]] = []
    for log in (["harmless"] * 1000, hostile_lines(1000)):
        app = dashboard(Fleet(nodes=(fleets.node(runs=(fleets.run(log=log),), gpus=8),)))
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            panel = app.screen.query_one(LogTail)
            inside = panel.content_region
            for key in ("end", "pageup", "home"):
                panel.focus()
                await pilot.press(key)
                await pilot.pause()
                rows = screen_text(app)
                assert not any(UNSAFE.search(row) for row in rows)
                outside.append([row for y, row in enumerate(rows) if not inside.y <= y < inside.bottom])
    assert outside[:3] == outside[3:]
