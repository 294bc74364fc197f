"""The dashboard driven by keys over made fleets: what is posted, what widgets then hold, and what a screen shows."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from textual.content import Content
from textual.pilot import Pilot
from textual.widgets import Button, Input, Select, SelectionList, Static

from giblet_train.diagnosis.criteria import Verdict
from giblet_train.schema.errors import GibletError
from giblet_train.schema.health import Health
from giblet_train.schema.records import Adoption, AlertResponse
from giblet_tui.dashboard.app import DashboardApp
from giblet_tui.dashboard.charts.axis import scientific
from giblet_tui.dashboard.charts.viewport import Viewport
from giblet_tui.dashboard.model.gpu_history import EVERY_S
from giblet_tui.dashboard.model.interfaces import PaletteCommand, Wish
from giblet_tui.dashboard.model.log_filter import LogFilter
from giblet_tui.dashboard.model.log_steps import line_at, steps_of
from giblet_tui.dashboard.model.messages import ActionReported, NodeObserved, RunChosen, StopConfirmed
from giblet_tui.dashboard.model.run_view import epoch_words, health_now, without_steps
from giblet_tui.dashboard.model.verdict_cache import VerdictCache
from giblet_tui.dashboard.screens.command_output import CommandOutputScreen
from giblet_tui.dashboard.screens.compare import CompareScreen
from giblet_tui.dashboard.screens.launch import LaunchForm
from giblet_tui.dashboard.screens.main import VIEWS, MainScreen
from giblet_tui.dashboard.screens.stop import StopDialog
from giblet_tui.dashboard.style.safe_text import UNSAFE
from giblet_tui.dashboard.style.styles import MUTED
from giblet_tui.dashboard.widgets.chart_group import Charts
from giblet_tui.dashboard.widgets.header import Problem, problem_bar
from giblet_tui.dashboard.widgets.log import LogTail
from giblet_tui.dashboard.widgets.loss_balance import Balance
from giblet_tui.dashboard.widgets.loss_chart import LossPanel
from giblet_tui.dashboard.widgets.panes import Panes
from giblet_tui.dashboard.widgets.run_list import RunList
from giblet_tui.dashboard.widgets.run_row import heading, run_row
from giblet_tui.dashboard.widgets.warmup import WarmupClock
from giblet_tui.monitor.metric_columns import value_at
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot, RunSnapshot
from giblet_tui.reporting.formatting import verdict
from tests import fleets
from tests.paths import ROOT

SIZES = [(80, 24), (120, 40), (200, 50), (60, 15)]


class Tape:
    """A source that posts what a test hands it, from a thread of its own."""

    def __init__(self) -> None:
        self.post: Callable[[NodeSnapshot], None] | None = None
        self.closed = False

    def start(self, post: Callable[[NodeSnapshot], None]) -> None:
        self.post = post

    def close(self) -> None:
        self.closed = True

    def play(self, *snapshots: NodeSnapshot) -> None:
        assert self.post is not None
        post = self.post
        thread = threading.Thread(target=lambda: [post(snapshot) for snapshot in snapshots])
        thread.start()
        thread.join()


class Recorder:
    """Actions that remember what was asked, and fail when told to."""

    def __init__(self, error: GibletError | None = None) -> None:
        self.stopped: list[str] = []
        self.launched: list[Wish] = []
        self.answered: list[tuple[str, float | None]] = []
        self.error = error

    def stop(self, run_id: str, say: Callable[[str], None]) -> str:
        self.stopped.append(run_id)
        say("asked to stop")
        if self.error is not None:
            raise self.error
        return "nothing survives"

    def answer(self, run_id: str, snooze_s: float | None) -> str:
        self.answered.append((run_id, snooze_s))
        return "1 alert acknowledged"

    def verbs(self, run_id: str | None, node: str | None) -> list[PaletteCommand]:
        return [
            PaletteCommand(("why", run_id or "RUN"), "Say why.", "show"),
            PaletteCommand(("pull", run_id or "RUN"), "Bring it.", "copy"),
        ]

    def output(self, words: Sequence[str]) -> list[str]:
        return [f"said of {words[-1]}", "\x1b[2J[bold]not markup[/bold]"]

    def argv(self, words: Sequence[str]) -> list[str]:
        return ["true"]

    def configs(self) -> list[str]:
        return ["demo", "pilot"]

    def changes(self, wish: Wish) -> list[str]:
        return ["different from demo-1:", "  num_epochs: 20 → 5"]

    def dry_run(self, wish: Wish) -> list[str]:
        if self.error is not None:
            raise self.error
        return ["on GPU 6, in a tmux session"]

    def launch(self, wish: Wish, say: Callable[[str], None]) -> str:
        self.launched.append(wish)
        say("placing files")
        return "pilot-1"


class Clock:
    """The laptop's time, moved by hand."""

    def __init__(self) -> None:
        self.now = fleets.NOW + 1

    def __call__(self) -> float:
        return self.now


def dashboard(fleet: Fleet, **changes: Any) -> DashboardApp:
    values: dict[str, Any] = {"source": Tape(), "actions": Recorder(), "clock": Clock()} | changes
    return DashboardApp(values.pop("source"), values.pop("actions"), fleet, **values)


def screen_text(app: DashboardApp) -> list[str]:
    """The rows of the terminal as plain text."""
    width, height = app.size
    strips = app.screen._compositor.render_strips()
    rows = ["".join(segment.text for segment in strip) for strip in strips]
    assert len(rows) == height and all(cell_len(row) == width for row in rows)
    return rows


async def settle(pilot: Pilot[int]) -> None:
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fleet", [fleets.healthy, fleets.warming_up, fleets.several, Fleet])
async def test_every_size_shows_state_losses_and_age(size: tuple[int, int], fleet: Callable[[], Fleet]) -> None:
    app = dashboard(fleet())
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        text = "\n".join(screen_text(app))
        if not app.fleet.nodes:
            assert "No node is known yet." in text and "giblet demo" in text
            return
        assert "data 1s old" in text
        assert "total" in text
        assert all(label in text for label in ("fMRI", "video", "audio", "text"))
        assert "running" in text or "stalled" in text


async def test_eighty_columns_hold_all_that_matters() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        rows = screen_text(app)
    text = "\n".join(rows)
    assert "● running demo a1b2 on tensor01" in rows[0] and "epoch 14/20" in rows[0]
    assert any("fMRI" in row and "0.7783" in row and "61%" in row and "58%" in row for row in rows)
    assert "warm-up done" in text and "as planned" in text
    assert "GPU memory" in text and "2 of 8 free" in text
    assert "Epoch 14/20 | Train Loss" in text
    assert "● live tensor01" in rows[-1] and "? help" in rows[-1]


async def test_a_snapshot_from_a_thread_becomes_one_message_and_reaches_every_pane() -> None:
    tape, seen = Tape(), []
    app = dashboard(fleets.warming_up(), source=tape)
    async with app.run_test(size=(120, 40), message_hook=seen.append) as pilot:
        await pilot.pause()
        newer = fleets.node(runs=(fleets.run(steps=60),))
        tape.play(newer)
        await settle(pilot)
        observed = [m for m in seen if isinstance(m, NodeObserved)]
        assert [m.snapshot for m in observed] == [newer]
        assert app.fleet.nodes == (newer,)
        assert set(observed[0].verdicts) == {newer.runs[0].run.run_id}
        panel = app.screen.query_one("#fmri", LossPanel)
        assert panel.view is not None and len(panel.view.curves.step_N) == 60
        assert app.screen.query_one(Balance).view is panel.view
        assert app.screen.query_one(LogTail).log_lines == newer.runs[0].log_tail


def test_a_newer_snapshot_replaces_one_of_the_same_node_only() -> None:
    old, new = (NodeObserved(fleets.node(observed_at=t), {}) for t in (1.0, 2.0))
    assert new.can_replace(old)
    assert not new.can_replace(NodeObserved(fleets.node("tensor02"), {}))
    assert not new.can_replace(RunChosen("x"))


async def test_connecting_keeps_what_the_cache_knew() -> None:
    tape = Tape()
    app = dashboard(fleets.healthy(), source=tape)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        tape.play(NodeSnapshot(node="tensor01", link="connecting"))
        await settle(pilot)
        assert app.fleet.nodes[0].link == "connecting"
        assert len(app.fleet.runs()) == 1
        assert "◐ connecting tensor01" in screen_text(app)[-1]


async def test_a_chosen_run_that_is_no_longer_there_gives_way_to_one_that_is() -> None:
    tape = Tape()
    app = dashboard(fleets.healthy(), source=tape)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        there = fleets.node(runs=(fleets.run("later"),))
        tape.play(there)
        await settle(pilot)
        rows = screen_text(app)
        assert "later" in rows[0] and "no run chosen" not in "\n".join(rows)


async def test_silence_shows_at_once_and_by_time_alone() -> None:
    clock, tape = Clock(), Tape()
    app = dashboard(fleets.healthy(), clock=clock, source=tape)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert not app.screen.has_class("-stale")
        clock.now += 3600
        app.screen.tick()  # type: ignore[attr-defined]
        await pilot.pause()
        rows = screen_text(app)
        assert app.screen.has_class("-stale")
        assert "○ unknown 1h demo" in rows[0]
        assert "data 1h 00m old" in rows[-1]
        lost = msgspec.structs.replace(fleets.healthy().nodes[0], link="lost", link_sentence="No answer for 3 s.")
        clock.now = fleets.NOW + 1
        tape.play(lost)
        await settle(pilot)
        assert "○ lost tensor01" in screen_text(app)[-1] and "No answer for 3 s." in screen_text(app)[-1]
        assert app.screen.has_class("-stale")


async def test_a_dead_node_leaves_the_others_live() -> None:
    app = dashboard(fleets.several())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        text = "\n".join(screen_text(app))
        assert "unknown 4m" in text and "not heard: tensor03" in text
        assert not app.screen.has_class("-stale")


async def test_nodes_without_a_cache_are_being_asked() -> None:
    fleet = Fleet(nodes=(NodeSnapshot(node="tensor01", link="connecting"),))
    app = dashboard(fleet)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        text = "\n".join(screen_text(app))
        assert "Asking the nodes for their runs." in text and "◐ connecting" in text
        assert "No node is known" not in text and "No run on any node" not in text


async def test_a_run_over_two_nodes_has_one_row_and_one_verdict() -> None:
    """Whichever node is listed first: the one with the records shows the run."""
    first = fleets.several().nodes[0]
    one = first.runs[0]
    names = (first.node, "second")
    head = replace(one, run=replace(one.run, node=first.node, nodes=names))
    bare = replace(one, run=replace(head.run, node="second", node_rank=1), steps=(), epochs=(), heartbeat=None)
    second = replace(first, node="second", runs=(bare,))
    app = dashboard(Fleet(nodes=(second, replace(first, runs=(head,)))))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.post_message(NodeObserved(second, VerdictCache().verdicts(second)))
        await pilot.pause()
        keys = [option.id for option in app.screen.query_one(RunList).options]
        assert keys == ["node second", f"node {first.node}", head.run.run_id]
        assert f"on {first.node},second" in "\n".join(screen_text(app))


async def test_a_verdict_in_doubt_is_dimmed() -> None:
    app = dashboard(fleets.several())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        runs = app.screen.query_one(RunList)
        for run in app.fleet.runs():
            row = runs.get_option(run.run.run_id).prompt
            assert isinstance(row, Content)
            doubtful = run.run.name in ("deep", "far")
            named = next((w for w in ("PASS", "FAIL", "AT RISK", "ON TRACK") if w in row.plain), row.plain[-1])
            words = row.plain.rindex(named)
            inks = {str(span.style) for span in row.spans if span.start <= words < span.end}
            assert (inks == {MUTED}) == doubtful, (run.run.name, inks)


async def test_validation_figures_of_the_lab_s_size_fit_narrow_panels() -> None:
    app = dashboard(fleets.several())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press("g", "j")
        await pilot.pause()
        for name in ("video", "audio", "text"):
            panel = app.screen.query_one(f"#{name}", LossPanel)
            train, held_out = str(panel.title()).split()[1].split("/")
            assert train != held_out and train.endswith("k") and held_out.endswith("k")


async def test_moving_in_the_list_chooses_the_run() -> None:
    seen: list[object] = []
    app = dashboard(fleets.several())
    async with app.run_test(size=(120, 40), message_hook=seen.append) as pilot:
        await pilot.pause()
        await pilot.press("g", "j")
        await pilot.pause()
        chosen = list(dict.fromkeys(m.run_id for m in seen if isinstance(m, RunChosen)))
        assert [run_id[:4] for run_id in chosen] == ["demo", "flat"]
        assert "flat" in screen_text(app)[0] and "AT RISK" in screen_text(app)[0]
        assert app.screen.query_one("#total", LossPanel).view.run.run.run_id == chosen[-1]  # type: ignore[union-attr]


async def test_the_lab_s_losses_can_be_told_apart() -> None:
    app = dashboard(Fleet(nodes=(fleets.node(runs=(fleets.run("flat", flat=True, loss_scale=137_000.0),)),)))
    async with app.run_test(size=(200, 50)) as pilot:
        await pilot.pause()
        shown = "\n".join(screen_text(app))
        total = app.fleet.runs()[0].epochs[-1].validation
        assert total is not None and total.total is not None
        assert f"val {total.total:,.0f}"[:-2] in shown


async def test_a_rate_off_plan_turns_the_clock_red_with_its_cause() -> None:
    plan = fleets.run().plan
    assert plan is not None
    run = fleets.run(steps=100, stuck_lr=plan.learning_rate * 0.1 * (1 + 9 * 4 / plan.warmup_steps))
    app = dashboard(Fleet(nodes=(fleets.node(runs=(run,)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        clock = app.screen.query_one(WarmupClock)
        text = str(clock.render())
        assert "✖ LR 1.9e-4, plan" in text and "likely stepped once per epoch" in text
        assert "as planned" not in text


async def test_a_rate_off_plan_that_nothing_explains_says_so() -> None:
    plan = fleets.run().plan
    assert plan is not None
    run = fleets.run(steps=100, stuck_lr=plan.learning_rate * 0.37)
    app = dashboard(Fleet(nodes=(fleets.node(runs=(run,)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert "✖ no known cause fits" in str(app.screen.query_one(WarmupClock).render())


async def test_warm_up_says_how_far_and_how_long() -> None:
    app = dashboard(fleets.warming_up())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        text = "\n".join(screen_text(app))
        assert "12/40" in text and "28 steps, 11s to base" in text


async def test_the_rate_s_curve_has_a_scale_where_there_is_room() -> None:
    for size, scaled in (((200, 50), True), ((80, 24), False)):
        app = dashboard(fleets.warming_up(), clock=Clock())
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            plan = app.fleet.runs()[0].plan
            assert plan is not None
            assert (f"top {scientific(plan.learning_rate)}" in "\n".join(screen_text(app))) == scaled


async def test_a_component_that_dominates_is_marked() -> None:
    run = fleets.run(steps=60)
    shares = {"fmri": 0.02, "video": 0.01, "audio": 0.96, "text": 0.01}
    heavy = msgspec.structs.replace(run.steps[-1], share=shares, gradient_share=shares)
    app = dashboard(Fleet(nodes=(fleets.node(runs=(msgspec.structs.replace(run, steps=(*run.steps[:-1], heavy)),)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        marked = [row for row in str(app.screen.query_one(Balance).render()).splitlines() if "dominates" in row]
        assert len(marked) == 1 and "audio" in marked[0]


async def test_gradient_shares_stay_until_they_are_measured_again() -> None:
    run = fleets.run(steps=60)
    measured = msgspec.structs.replace(run.steps[-2], gradient_share={"fmri": 0.07, "video": 0.5, "audio": 0.4})
    last = msgspec.structs.replace(run.steps[-1], gradient_share=None)
    shown = msgspec.structs.replace(run, steps=(*run.steps[:-2], measured, last))
    app = dashboard(Fleet(nodes=(fleets.node(runs=(shown,)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        rows = str(app.screen.query_one(Balance).render()).splitlines()
        assert next(row for row in rows if "fMRI" in row).rstrip().endswith("7%")


async def test_chart_keys_move_one_lens_that_all_panels_share() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press("plus", "L", "x", "left", "right_square_bracket")
        lens = app.screen.query_one(Panes).lens
        assert (lens.share, lens.log, lens.decay) == (0.5, True, 0.95)
        assert lens.cursor == pytest.approx(0.99)
        assert {panel.lens for panel in app.screen.query(LossPanel)} == {lens}
        for panel in app.screen.query(LossPanel):
            drawn = panel._chart(panel.view)  # type: ignore[arg-type]
            assert drawn.cursor is not None
            said = float(re.findall(r"\d\.\d+", str(panel.title()))[0])
            assert said == pytest.approx(value_at(drawn.smooth, drawn.cursor), abs=6e-4)
        await pilot.press("a")
        assert "epoch" in "\n".join(screen_text(app))
        await pilot.press("a", "a", "a", "minus", "L", "left_square_bracket")
        assert app.screen.query_one(Panes).lens == Viewport()


async def test_zoom_survives_live_data() -> None:
    tape = Tape()
    app = dashboard(fleets.healthy(), source=tape)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press("plus", "plus", "left")
        before = app.screen.query_one(Panes).lens
        tape.play(fleets.node(runs=(fleets.run(steps=320),)))
        await settle(pilot)
        assert app.screen.query_one(Panes).lens == before


async def test_mouse_wheel_zooms_about_the_pointer_and_a_click_sets_the_crosshair() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.click("#total", offset=(20, 4))
        cursor = app.screen.query_one(Panes).lens.cursor
        assert cursor is not None and 0 < cursor < 1
        app.screen.query_one(Panes).post_message(LossPanel.Zoomed(0.5, cursor))
        await pilot.pause()
        assert app.screen.query_one(Panes).lens.share == 0.5


async def test_dragging_takes_the_course_along_and_a_sideways_wheel_pans() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        panes = app.screen.query_one(Panes)
        await pilot.press("plus", "plus")
        before = panes.lens
        await pilot.mouse_down("#total", offset=(12, 4))
        await pilot.hover("#total", offset=(22, 4))
        await pilot.mouse_up("#total", offset=(22, 4))
        await pilot.pause()
        dragged = panes.lens
        assert dragged.share == before.share and dragged.end is not None and dragged.end < 1 and dragged.cursor is None
        panes.query_one("#total", LossPanel).post_message(LossPanel.Panned(9.0))
        await pilot.pause()
        assert panes.lens.end is None


async def test_a_log_axis_is_suggested_where_a_plain_one_hides_the_course() -> None:
    fleet = fleets.several()
    app = dashboard(fleet)
    async with app.run_test(size=(200, 50)) as pilot:
        await pilot.pause()
        panel = app.screen.query_one("#total", LossPanel)
        app.screen.query_one(RunList).focus()
        await pilot.press("g", "j", "space", "k")
        await pilot.pause()
        assert "L for log" in str(panel.title())
        await pilot.press("L")
        assert "L for log" not in str(panel.title())


@pytest.mark.parametrize(("number", "view"), list(enumerate(VIEWS, 1)))
async def test_each_number_shows_its_view(number: int, view: str) -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press(str(number))
        await pilot.pause()
        shown = {pane.id for pane in app.screen.query_one("#panes").children if pane.region.area > 0}
        assert shown == set(VIEWS[view])


async def test_full_screen_and_back() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.screen.query_one("#video").focus()
        await pilot.press("z")
        await pilot.pause()
        assert app.screen.query_one("#video").region.width == 120
        assert not app.screen.query_one("#total").region.area
        await pilot.press("escape")
        await pilot.pause()
        assert app.screen.query_one("#total").region.area


async def test_search_finds_follows_and_ends() -> None:
    lines = tuple(f"line {i}{' ERROR: disk full' if i == 37 else ''}" for i in range(100))
    app = dashboard(Fleet(nodes=(fleets.node(runs=(fleets.run(log=lines),)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        log = app.screen.query_one(LogTail)
        assert log.follow and log.scroll_offset.y == log.max_scroll_y > 0
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
        assert log.needle == ""


async def test_the_log_is_sifted_by_grade_and_rank() -> None:
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


async def test_an_acknowledged_alert_steps_back_until_it_is_raised_again() -> None:
    tape, actions, alert = Tape(), Recorder(), fleets.alert(sentence="total moved 0.05 %")
    run = fleets.run(alerts=(alert,))
    app = dashboard(Fleet(nodes=(fleets.node(runs=(run,)),)), source=tape, actions=actions)
    async with app.run_test(size=(200, 50)) as pilot:
        await pilot.pause()
        rows = screen_text(app)
        assert "▲ flat: total moved" in rows[1] and "giblet why @last" in rows[1] and "A seen  Z snooze" in rows[1]
        await pilot.press("A", "Z")
        await settle(pilot)
        assert actions.answered == [(run.run.run_id, None), (run.run.run_id, 8 * 3600)]
        said = AlertResponse(at=fleets.NOW, alert=alert.seq, name="flat", by="ada@laptop")
        tape.play(fleets.node(runs=(msgspec.structs.replace(run, answers=(said,)),)))
        await settle(pilot)
        text = "\n".join(screen_text(app))
        assert "▲" not in text and "✓ seen by ada@laptop  flat" in text and "0 raised, 1 answered" in text
        again = msgspec.structs.replace(alert, seq=7)
        tape.play(fleets.node(runs=(msgspec.structs.replace(run, answers=(said,), alerts=(alert, again)),)))
        await settle(pilot)
        assert "▲ flat: total moved" in screen_text(app)[1]


async def test_a_snoozed_alert_calls_again_by_time_alone() -> None:
    clock = Clock()
    said = AlertResponse(at=fleets.NOW, alert=0, name="flat", until=fleets.NOW + 4)
    run = msgspec.structs.replace(fleets.run(alerts=(fleets.alert(),)), answers=(said,))
    app = dashboard(Fleet(nodes=(fleets.node(runs=(run,)),)), clock=clock)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert "▲" not in "\n".join(screen_text(app))
        clock.now += 3.5
        app.screen.tick()  # type: ignore[attr-defined]
        await settle(pilot)
        assert "▲ flat" in screen_text(app)[1]


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


async def test_hostile_text_stays_in_its_row_and_harmless() -> None:
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
    """Lines of pieces that act on terminals, from a seed; some of a megabyte."""
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
    return [one * (1_000_000 // len(one)) if index % 250 == 0 else one for index, one in enumerate(lines)]


async def test_a_thousand_hostile_lines_change_nothing_outside_their_rows() -> None:
    seen: list[list[str]] = []
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
                seen.append([row for y, row in enumerate(rows) if not inside.y <= y < inside.bottom])
    assert seen[:3] == seen[3:]


async def test_a_resize_storm_ends_in_a_whole_screen() -> None:
    app = dashboard(fleets.several())
    async with app.run_test(size=(120, 40)) as pilot:
        for size in [(1, 1), (200, 50), (10, 3), (79, 12), (100, 24), (99, 24), (40, 60), (60, 15), (3, 90), (120, 40)]:
            await pilot.resize_terminal(*size)
        await pilot.pause()
        assert "total" in "\n".join(screen_text(app))


async def test_stopping_asks_first_with_cancel_in_focus_then_reports() -> None:
    seen: list[object] = []
    actions = Recorder()
    app = dashboard(fleets.healthy(), actions=actions)
    async with app.run_test(size=(120, 40), message_hook=seen.append) as pilot:
        await pilot.pause()
        await pilot.press("S")
        await pilot.pause()
        assert isinstance(app.screen, StopDialog)
        assert app.focused is app.screen.query_one("#cancel", Button)
        await pilot.press("enter")
        await settle(pilot)
        assert actions.stopped == [] and isinstance(app.screen, MainScreen)
        await pilot.press("S")
        await pilot.pause()
        await pilot.press("right", "enter")
        await settle(pilot)
        run_id = app.fleet.runs()[0].run.run_id
        assert actions.stopped == [run_id]
        told = [m for m in seen if isinstance(m, StopConfirmed | ActionReported)]
        assert [type(m).__name__ for m in told] == ["StopConfirmed", "ActionReported", "ActionReported"]
        assert [m.sentence for m in told if isinstance(m, ActionReported)] == ["asked to stop", "nothing survives"]


async def test_a_stop_that_fails_says_so() -> None:
    seen: list[object] = []
    app = dashboard(fleets.healthy(), actions=Recorder(GibletError("pid 4242 survives", "giblet stop --force")))
    async with app.run_test(size=(120, 40), message_hook=seen.append) as pilot:
        await pilot.pause()
        await pilot.press("S")
        await pilot.pause()
        await pilot.press("right", "enter")
        await settle(pilot)
        assert [m.level for m in seen if isinstance(m, ActionReported)] == ["information", "error"]


async def test_a_production_run_wants_its_name() -> None:
    actions = Recorder()
    config = fleets.demo_config("prod", stage="production")
    app = dashboard(Fleet(nodes=(fleets.node(runs=(fleets.run("prod", config=config),)),)), actions=actions)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("S")
        await pilot.pause()
        stop = app.screen.query_one("#stop", Button)
        assert stop.disabled
        app.screen.query_one("#stop-name", Input).focus()
        await pilot.press(*"pro")
        assert stop.disabled
        await pilot.press("d")
        assert not stop.disabled
        await pilot.click("#stop")
        await settle(pilot)
        assert len(actions.stopped) == 1


@pytest.mark.parametrize(
    ("fleet", "readonly"),
    [(fleets.healthy(), True), (Fleet(nodes=(fleets.node(runs=(fleets.run(state="finished"),)),)), False)],
)
async def test_nothing_is_stopped_read_only_or_when_it_has_ended(fleet: Fleet, readonly: bool) -> None:
    actions = Recorder()
    app = dashboard(fleet, actions=actions, readonly=readonly)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press("S")
        await settle(pilot)
        assert isinstance(app.screen, MainScreen) and actions.stopped == []


async def test_a_launch_is_foreseen_before_it_is_made() -> None:
    seen: list[object] = []
    actions = Recorder()
    app = dashboard(fleets.healthy(), actions=actions)
    async with app.run_test(size=(120, 40), message_hook=seen.append) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+n")
        await pilot.pause()
        form = app.screen
        assert isinstance(form, LaunchForm) and form.query_one("#launch", Button).disabled
        text = "\n".join(screen_text(app))
        assert "ada (pid 4242, 41.1 GiB)" in text and "free" in text
        form.query_one("#launch-config", Select).value = "pilot"
        form.query_one(SelectionList).select(6)
        form.query_one("#launch-settings", Input).value = "num_epochs=5 seed=2"
        await settle(pilot)
        assert form.query_one(SelectionList).border_title == "GPUs: 6"
        assert "num_epochs: 20 → 5" in "\n".join(screen_text(app))
        assert form.query_one("#launch", Button).disabled
        await pilot.click("#dry-run")
        await settle(pilot)
        assert "on GPU 6, in a tmux session" in "\n".join(screen_text(app))
        assert not form.query_one("#launch", Button).disabled and actions.launched == []
        form.query_one("#launch-note", Input).value = "changed after the dry run"
        await settle(pilot)
        assert form.query_one("#launch", Button).disabled
        await pilot.click("#dry-run")
        await settle(pilot)
        await pilot.click("#launch")
        await settle(pilot)
        settings = ("num_epochs=5", "seed=2")
        assert actions.launched == [Wish("tensor01", "pilot", "6,", settings, "changed after the dry run")]
        said = [m.sentence for m in seen if isinstance(m, ActionReported)]
        assert said == ["placing files", "pilot-1 was started on tensor01"]


async def test_what_the_node_refuses_cannot_be_launched() -> None:
    actions = Recorder(GibletError("Busy: GPU 0: ada", "Choose others."))
    app = dashboard(fleets.healthy(), actions=actions)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+n")
        await pilot.pause()
        app.screen.query_one("#launch-config", Select).value = "demo"
        await settle(pilot)
        app.screen.query_one("#dry-run", Button).press()
        await settle(pilot)
        assert "Busy: GPU 0: ada" in str(app.screen.query_one("#launch-lines", Static).render())
        assert app.screen.query_one("#launch", Button).disabled and actions.launched == []
        await pilot.press("escape")
        assert isinstance(app.screen, MainScreen)


async def test_help_lists_every_key_that_is_bound() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("question_mark")
        await pilot.pause()
        text = str(app.screen.query_one("#help Static", Static).render())
        for words in ("crosshair", "search the log", "mark to compare", "stop the run", "quit", "next match", "?"):
            assert words in text
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)


async def test_marked_runs_are_drawn_behind_the_chosen_one() -> None:
    app = dashboard(fleets.several())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.screen.query_one(RunList).focus()
        await pilot.press("g", "space", "j")
        await pilot.pause()
        view = app.screen.query_one("#total", LossPanel).view
        assert view is not None
        assert [other.run.name for other, _ in view.others] == ["demo"] and view.run.run.name == "flat"


async def test_two_runs_are_compared_and_stay_live() -> None:
    tape = Tape()
    app = dashboard(fleets.several(), source=tape)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.screen.query_one(RunList).focus()
        await pilot.press("c")
        assert isinstance(app.screen, MainScreen)
        await pilot.press("g", "space", "j", "c")
        await pilot.pause()
        screen = app.screen
        assert isinstance(screen, CompareScreen) and screen.comparison is not None
        assert (screen.comparison.old.run.name, screen.comparison.new.run.name) == ("flat", "demo")
        text = "\n".join(screen_text(app))
        assert "The configurations ask for the same." in text and "EPOCH 14" in text
        panel = screen.query_one("#video", LossPanel)
        assert panel.view is not None and [o.run.name for o, _ in panel.view.others] == ["flat"]
        await pilot.press("x")
        assert "step 300 not there yet" in str(panel.title())
        tape.play(fleets.node(runs=(fleets.run(steps=300), fleets.several().nodes[0].runs[1])))
        await settle(pilot)
        assert panel.view is not None and len(panel.view.curves.step_N) == 300
        assert "val 0." in str(panel.title())
        await pilot.press("escape")
        assert isinstance(app.screen, MainScreen)


async def test_an_older_run_that_went_further_is_seen_to_its_end() -> None:
    longer, shorter = fleets.run("a", steps=300), fleets.run("b", steps=100, suffix="bbbb")
    pace = longer.plan_record
    assert pace is not None
    longer = msgspec.structs.replace(longer, plan_record=msgspec.structs.replace(pace, steps_per_epoch=40))
    fleet = Fleet(nodes=(fleets.node(runs=(longer, shorter)),))
    app = dashboard(fleet)
    async with app.run_test(size=(120, 40)) as pilot:
        await app.push_screen(CompareScreen(fleet, longer.run.run_id, shorter.run.run_id))
        await pilot.pause()
        panel = app.screen.query_one("#fmri", LossPanel)
        assert panel.view is not None
        assert panel._chart(panel.view).whole.last == 300
        app.screen.query_one(Charts).action_axis()
        await pilot.pause()
        drawn = panel._chart(panel.view)
        assert drawn.others[0].x_N[-1] == pytest.approx(299 / 40) and drawn.raw.x_N[-1] == pytest.approx(99 / 20)


async def test_the_launch_form_can_be_reached_to_its_end_on_a_small_screen() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(60, 15)) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+n")
        await pilot.pause()
        app.screen.query_one("#cancel", Button).focus()
        await pilot.pause()
        assert "Cancel" in "\n".join(screen_text(app))


async def test_losses_of_another_kind_are_marked_as_such() -> None:
    other = fleets.demo_config("heavy", video_weight=3.0)
    fleet = Fleet(nodes=(fleets.node(runs=(fleets.run(), fleets.run("heavy", config=other, suffix="bbbb"))),))
    old, new = (run.run.run_id for run in fleet.nodes[0].runs)
    app = dashboard(fleet)
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(CompareScreen(fleet, old, new))
        await pilot.pause()
        text = "\n".join(screen_text(app))
        assert "≠ total: not comparable, for video_weight differs" in text and "video_weight: 1.0 → 3.0" in text
        assert "≠" in str(app.screen.query_one("#total", LossPanel).title())
        assert "≠" not in str(app.screen.query_one("#fmri", LossPanel).title())


async def test_every_key_and_every_verb_is_in_the_palette() -> None:
    app = dashboard(fleets.healthy())
    run_id = app.fleet.runs()[0].run.run_id
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        commands = {command.title: command for command in app.get_system_commands(app.screen)}
        keys = {"crosshair", "search the log", "stop the run (asks first)", "first error", "mark to compare"}
        assert keys <= set(commands)
        commands[f"giblet why {run_id}"].callback()
        await settle(pilot)
        assert isinstance(app.screen, CommandOutputScreen)
        text = "\n".join(screen_text(app))
        assert f"said of {run_id}" in text and "[bold]not markup[/bold]" in text and f"$ giblet why {run_id}" in text
        await pilot.press("escape")
        commands[f"giblet pull {run_id}"].callback()
        assert app.clipboard == f"giblet pull {run_id}"


async def test_a_line_of_the_log_and_the_crosshair_lead_to_one_another() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        log, panes = app.screen.query_one(LogTail), app.screen.query_one(Panes)
        log.focus()
        await pilot.press("home", "j", "enter")
        await pilot.pause()
        assert log.log_lines[1].startswith("Epoch 1/20")
        assert panes.query_one("#total", LossPanel).step_at(panes.lens.cursor) == fleets.STEPS_PER_EPOCH - 1
        await pilot.press("escape", "x", *["left"] * 3)
        await pilot.pause()
        step = panes.query_one("#total", LossPanel).step_at(panes.lens.cursor)
        assert f"at step {step}" in str(log.border_title) and not log.follow
        assert log.log_lines[log._match].startswith("Epoch 13/20"), step
        await pilot.press("x")
        await pilot.pause()
        assert log.follow


def test_places_in_a_log_are_what_its_lines_say() -> None:
    lines = [
        "starting",
        "Epoch 1/9 | Train Loss: 2.0",
        "saved",
        "resumed at step 5",
        "Epoch 1/9 | again",
        "step=1,200 x",
    ]
    steps = steps_of(lines, 10)
    assert steps == [None, 9, 9, 5, 9, 1200]
    assert [line_at(steps, step) for step in (0, 5, 9, 1199, 5000)] == [None, 3, 4, 4, 5]


async def test_a_resumed_run_goes_on_from_the_one_before() -> None:
    before = fleets.run(steps=120, state="died", suffix="aaaa")
    whole = fleets.run(steps=200, suffix="bbbb")
    first = tuple(msgspec.structs.replace(s, loss={"fmri": 0.95}) if s.step >= 100 else s for s in before.steps)
    before = msgspec.structs.replace(before, steps=first)
    again = tuple(msgspec.structs.replace(step, seq=i) for i, step in enumerate(whole.steps[100:]))
    told = msgspec.structs.replace(whole.run, resumed_from=f"/home/ada/giblet/runs/{before.run.run_id}")
    after = msgspec.structs.replace(whole, run=told, steps=again, epochs=whole.epochs[5:])
    app = dashboard(Fleet(nodes=(fleets.node(runs=(after, before)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        panel = app.screen.query_one("#fmri", LossPanel)
        assert panel.view is not None and panel.view.run.run.run_id == after.run.run_id
        curves = panel.view.curves
        assert list(curves.step_N) == list(range(200)) and curves.resumed == (100.0,)
        assert [list(r.step_N) for r in curves.replaced] == [list(range(100, 120))]
        assert list(curves.epoch_step_E) == [20.0 * k for k in range(1, 11)]
        assert {"fmri replaced", "fmri train"} <= {run.style for row in panel._rows for run in row}
        assert "»" in "\n".join(screen_text(app))


async def test_gpus_tell_what_they_did_lately() -> None:
    tape = Tape()
    app = dashboard(fleets.healthy(), source=tape)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        for look in range(1, 4):
            node = fleets.healthy().nodes[0]
            busy = tuple(msgspec.structs.replace(gpu, utilisation=30.0 * look) for gpu in node.facts.gpus)
            facts = msgspec.structs.replace(node.facts, gpus=busy)
            tape.play(msgspec.structs.replace(node, facts=facts, observed_at=fleets.NOW + look * EVERY_S))
            await settle(pilot)
        await pilot.press("7")
        app.screen.tick()  # type: ignore[attr-defined]
        await pilot.pause()
        rows = [row for row in screen_text(app) if "42/48 GiB" in row]
        assert len(rows) == 6 and all("▇▃▅▇" in row and "ada 424" in row for row in rows)


async def test_a_state_of_a_later_version_is_shown_as_a_word() -> None:
    run = fleets.run()
    odd = msgspec.structs.replace(run, health=msgspec.structs.replace(run.health, state="pondering"))
    app = dashboard(Fleet(nodes=(fleets.node(runs=(odd,)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert screen_text(app)[0].startswith(" ? pondering demo")


async def test_leaving_closes_the_source() -> None:
    tape = Tape()
    app = dashboard(fleets.healthy(), source=tape)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("q")
    assert tape.closed and app.return_code == 0


@pytest.mark.parametrize("theme", ["giblet-light", "ansi-dark", "textual-light"])
async def test_every_theme_draws(theme: str) -> None:
    app = dashboard(fleets.several())
    async with app.run_test(size=(120, 40)) as pilot:
        app.theme = theme
        await pilot.pause()
        assert "balance" in "\n".join(screen_text(app))


async def test_without_colour_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = dashboard(fleets.several())
    assert app.no_color
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        text = "\n".join(screen_text(app))
        assert all(word in text for word in ("● demo", "✖ broken", "! deep", "✔ PASS", "! AT RISK", "○ lost"))


@pytest.mark.parametrize(
    ("name", "fleet", "size", "keys"),
    [
        ("overview", fleets.healthy, (80, 24), ()),
        ("wide", fleets.several, (120, 40), ("k", "k", "k")),
        ("small", fleets.warming_up, (60, 15), ()),
        ("empty", Fleet, (80, 24), ()),
    ],
)
def test_pictures(
    name: str, fleet: Callable[[], Fleet], size: tuple[int, int], keys: tuple[str, ...], snap_compare: Any
) -> None:
    assert snap_compare(dashboard(fleet()), terminal_size=size, press=keys)


def test_importing_the_entry_does_not_import_textual() -> None:
    import subprocess
    import sys

    code = "import sys, giblet_tui.dashboard; sys.exit('textual' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


async def test_a_lab_log_without_components_is_told_as_such_and_not_as_nan() -> None:
    made = fleets.run(steps=60)
    epochs = tuple(replace(epoch, train=replace(epoch.train, loss={}), validation=None) for epoch in made.epochs)
    adoption = Adoption(address="s", mark="STY=1.s", at=0.0, by="ada", log="/train.log")
    run = replace(made.run, adopted=adoption)
    adopted = replace(made, run=run, config=None, plan_record=None, steps=(), epochs=epochs)
    app = dashboard(Fleet(nodes=(fleets.node(runs=(adopted,)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        text = "\n".join(screen_text(app))
        assert "NaN" not in text and text.count("not in its records") == 4
        assert "waiting" not in text and "no plan is known" in text and "adopted, without a configuration" in text
    assert epoch_words(adopted) == str(epochs[-1].epoch)


def row_of(run: RunSnapshot, width: int, judged: Verdict | None = None) -> list[str]:
    node = NodeSnapshot(node="tensor01", link="live", observed_at=fleets.NOW, runs=(run,))
    return run_row(run, node, judged, False, fleets.NOW, width).plain.split("\n")


def test_rows_of_runs_keep_their_verdict_and_line_up_whatever_the_width() -> None:
    """A name of the lab's length is cut before a figure is; a verdict without room for its word keeps its glyph."""
    run = fleets.run("production_500epoch_of_everything")
    judged = verdict(run)
    assert judged is not None
    border = 1
    for width in (80, 100, 160):
        assert border + heading(width).plain.index("verdict") == row_of(run, width, judged)[0].index("›")
        assert "…" in row_of(run, width, judged)[0]
    for width in (20, 28, 40):
        first, second = row_of(run, width, judged)
        assert max(map(cell_len, (first, second))) <= width and second == second.rstrip()
        assert second.endswith(judged.word) == (width > 20)


def test_a_run_that_ended_waits_for_nothing() -> None:
    begun = replace(fleets.run(steps=0), epochs=(), heartbeat=None)
    assert without_steps(replace(begun, health=Health(state="starting", sentence=""))) == "waiting for the first step"
    assert without_steps(replace(begun, health=Health(state="failed", sentence=""))) == "ended before its first step"
    assert epoch_words(begun) == ""


def test_a_run_whose_loop_is_over_has_no_time_left() -> None:
    run = fleets.healthy().runs()[0]
    assert run.eta_s is not None and run.heartbeat is not None
    assert replace(run, heartbeat=replace(run.heartbeat, state="finished")).eta_s is None


def test_a_lost_link_tells_what_the_run_was_and_not_that_it_was_unknown() -> None:
    fleet = fleets.healthy()
    run = replace(fleet.runs()[0], health=Health(state="unknown", sentence="not heard", since=fleets.NOW - 9))
    node = replace(fleet.nodes[0], link="lost", observed_at=fleets.NOW - 9)
    assert health_now(run, node, fleets.NOW).sentence == "not heard for 9s; it was training"


def test_trouble_is_cut_before_the_keys_that_help() -> None:
    trouble = Problem("✖", "a very long sentence about a file " * 5, "giblet why demo", "W why", "$error")
    for width in (60, 80, 400):
        shown = problem_bar(trouble, width).plain
        assert cell_len(shown) == width and shown.endswith("  W why")
