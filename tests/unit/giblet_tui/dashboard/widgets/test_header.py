"""The header: what it must state about a run at every size, and its problem with remedy and keys."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from rich.cells import cell_len

from giblet_tui.dashboard.model.problem import Problem
from giblet_tui.dashboard.widgets.header import problem_bar
from giblet_tui.monitor.snapshots import Fleet
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import SIZES, Clock, Tape, dashboard, screen_text, settle

EVERY_SIZE = pytest.mark.parametrize("size", [*SIZES, (100, 30)])


def clock_at(now: float) -> Clock:
    clock = Clock()
    clock.now = now
    return clock


@EVERY_SIZE
async def test_a_step_that_is_late_by_20_s_is_shown_before_the_run_counts_as_stalled(size: tuple[int, int]) -> None:
    node = fleets.frozen(20.0)
    app = dashboard(Fleet(nodes=(node,)), clock=clock_at(node.observed_at or 0.0))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        assert "● running no step for 20s  demo" in screen_text(app)[0]


@EVERY_SIZE
async def test_a_stall_of_90_s_shows_its_present_age_and_not_the_one_it_was_raised_with(size: tuple[int, int]) -> None:
    alert = fleets.alert("stalled", "It stands still: no step for 61s; one was due within 60s", "error")
    tape = Tape()
    clock = clock_at(fleets.run().steps[-1].at + 61)
    app = dashboard(Fleet(nodes=(fleets.frozen(61.0, fleets.run(alerts=(alert,))),)), source=tape, clock=clock)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        clock.now += 29
        tape.play(fleets.frozen(90.0, fleets.run(alerts=(alert,))))
        await settle(pilot)
        app.screen.tick()  # type: ignore[attr-defined]
        await pilot.pause()
        rows = screen_text(app)
        text = "\n".join(rows[:4])
        assert "! stalled no step for 1m 30s  demo" in rows[0]
        assert "no step for 61s" not in text and "ON TRACK" not in "\n".join(rows)
        if size[1] >= 20:
            assert "▲ stalled: no step for 1m 30s" in rows[1] and "→ " in text and "A seen" in text
            assert "? NO NEWS" in rows[0]


@EVERY_SIZE
async def test_a_frozen_link_makes_the_run_unknown_with_its_age_and_without_a_verdict(size: tuple[int, int]) -> None:
    clock = Clock()
    app = dashboard(fleets.healthy(), clock=clock)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        clock.now += 7
        app.screen.tick()  # type: ignore[attr-defined]
        await pilot.pause()
        rows = screen_text(app)
        assert "○ unknown 8s demo" in rows[0] and "? NO NEWS" in rows[0]
        assert "no step for" not in rows[0] and " left" not in rows[0] and "data 8s old" in rows[-1]
        assert "ON TRACK" not in "\n".join(rows)


@EVERY_SIZE
async def test_the_final_evaluation_is_named_in_place_of_the_time_left(size: tuple[int, int]) -> None:
    app = dashboard(fleets.evaluating())
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        rows = screen_text(app)
        assert "  evaluating" in rows[0] and " left" not in rows[0] and "epoch 20/20" in rows[0]


@EVERY_SIZE
async def test_before_the_first_step_there_is_no_verdict_yet(size: tuple[int, int]) -> None:
    app = dashboard(fleets.starting())
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        text = "\n".join(screen_text(app))
        assert "◐ starting demo" in text and "– NOT YET" in text
        assert "ON TRACK" not in text and "waiting for the first step" in text


@EVERY_SIZE
async def test_a_run_that_died_says_so_with_the_command_that_explains_it(size: tuple[int, int]) -> None:
    app = dashboard(fleets.died())
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        rows = screen_text(app)
        assert "✖ died demo" in rows[0] and "killed by signal 9" in rows[0] + rows[1]
        if size[1] >= 20:
            assert "giblet why" in rows[1] + rows[2] and "W why" in rows[1] + rows[2]
            assert "✖ FAIL" in rows[0] or "✔ PASS" in rows[0]


async def test_steps_that_come_in_time_have_no_age() -> None:
    node = fleets.frozen(1.5)
    app = dashboard(Fleet(nodes=(node,)), clock=clock_at(node.observed_at or 0.0))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "no step" not in screen_text(app)[0] and "last step" not in screen_text(app)[0]


@EVERY_SIZE
async def test_an_evaluation_that_takes_long_is_named_once_behind_the_run(size: tuple[int, int]) -> None:
    node = fleets.evaluating().nodes[0]
    now = node.runs[0].steps[-1].at + 14.0
    app = dashboard(Fleet(nodes=(replace(node, observed_at=now),)), clock=clock_at(now))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        row = screen_text(app)[0]
        assert row.lstrip().startswith("● running demo") and row.count("evaluating") == 1
        assert "evaluating, last step 14s ago" in row


async def test_an_alert_without_news_keeps_its_sentence_with_its_date() -> None:
    """The records of this run do not show the cause, so the sentence of the alert is history."""
    app = dashboard(Fleet(nodes=(fleets.node(runs=(fleets.run(alerts=(fleets.alert(),)),)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert "flat: total moved 0.05 % in 5 epochs (raised 31s ago)" in screen_text(app)[1]


async def test_a_short_screen_shows_the_remedy_of_a_stall_whose_age_the_header_states() -> None:
    alert = fleets.alert("stalled", "It stands still: no step for 61s", "error")
    node = fleets.frozen(90.0, fleets.run(alerts=(alert,)))
    app = dashboard(Fleet(nodes=(node,)), clock=clock_at(node.observed_at or 0.0))
    async with app.run_test(size=(60, 15)) as pilot:
        await pilot.pause()
        assert "! stalled no step for 1m 30s  demo  → Look at the log" in screen_text(app)[0]


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_a_remedy_of_two_sentences_is_shown_in_full(width: int) -> None:
    remedy = "Look at the log and the ranks' logs. A hung exchange does not recover: stop it, then resume."
    problem = Problem("▲", "stalled: no step for 1m 30s", remedy, "A seen  Z snooze  9 all", "$error")
    rows = [row.plain for row in problem_bar(problem, width, 3)]
    assert all(cell_len(row) == width for row in rows) and len(rows) <= 3 and rows[-1].endswith("9 all")
    words = " ".join(" ".join(rows).replace("A seen  Z snooze  9 all", "").split())
    assert words.endswith(remedy)


def test_a_problem_is_cut_before_its_keys() -> None:
    problem = Problem("✖", "a very long sentence about a file " * 5, "giblet why demo", "W why", "$error")
    for width in (60, 80, 400):
        rows = [row.plain for row in problem_bar(problem, width, 2)]
        assert all(cell_len(row) == width for row in rows) and rows[-1].endswith("  W why")
        assert any("giblet why demo" in row for row in rows)
        (only,) = [row.plain for row in problem_bar(problem, width, 1)]
        assert cell_len(only) == width and only.endswith("  W why")
