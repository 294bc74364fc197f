"""The main screen at every size: state, losses and age, whatever happens to nodes and runs."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import pytest
from msgspec.structs import replace

from giblet_train.schema.records import Adoption
from giblet_tui.dashboard.model.judgement import JudgementCache
from giblet_tui.dashboard.model.messages import NodeObserved, RunChosen
from giblet_tui.dashboard.model.run_status import epoch_words
from giblet_tui.dashboard.screens.main import MainScreen
from giblet_tui.dashboard.widgets.chart_group import Charts
from giblet_tui.dashboard.widgets.log import LogTail
from giblet_tui.dashboard.widgets.loss_balance import Balance
from giblet_tui.dashboard.widgets.loss_chart import LossPanel
from giblet_tui.dashboard.widgets.run_list import RunList
from giblet_tui.monitor.resumed import whole_run
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import SIZES, Clock, Tape, dashboard, screen_text, settle


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


async def test_eighty_columns_show_all_that_matters() -> None:
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
    tape, messages = Tape(), []
    app = dashboard(fleets.warming_up(), source=tape)
    async with app.run_test(size=(120, 40), message_hook=messages.append) as pilot:
        await pilot.pause()
        newer = fleets.node(runs=(fleets.run(steps=60),))
        tape.play(newer)
        await settle(pilot)
        observed = [m for m in messages if isinstance(m, NodeObserved)]
        assert [m.snapshot for m in observed] == [newer]
        assert app.fleet.nodes == (newer,)
        assert set(observed[0].judgements) == {newer.runs[0].run.run_id}
        panel = app.screen.query_one("#fmri", LossPanel)
        assert panel.view is not None and len(panel.view.curves.step_N) == 60
        assert app.screen.query_one(Balance).view is panel.view
        assert app.screen.query_one(LogTail).log_lines == newer.runs[0].log_tail


def test_a_newer_snapshot_replaces_one_of_the_same_node_only() -> None:
    old, new = (NodeObserved(fleets.node(observed_at=t), {}) for t in (1.0, 2.0))
    assert new.can_replace(old)
    assert not new.can_replace(NodeObserved(fleets.node("tensor02"), {}))
    assert not new.can_replace(RunChosen("x"))


async def test_connecting_keeps_the_cached_runs() -> None:
    tape = Tape()
    app = dashboard(fleets.healthy(), source=tape)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        tape.play(NodeSnapshot(node="tensor01", link="connecting"))
        await settle(pilot)
        assert app.fleet.nodes[0].link == "connecting"
        assert len(app.fleet.runs()) == 1
        assert "◐ connecting tensor01" in screen_text(app)[-1]


async def test_another_run_is_chosen_if_the_chosen_one_is_gone() -> None:
    tape = Tape()
    app = dashboard(fleets.healthy(), source=tape)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        there = fleets.node(runs=(fleets.run("later"),))
        tape.play(there)
        await settle(pilot)
        rows = screen_text(app)
        assert "later" in rows[0] and "no run chosen" not in "\n".join(rows)


async def test_silence_of_a_node_is_shown_at_once_and_by_time_alone() -> None:
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
        lost_node = msgspec.structs.replace(fleets.healthy().nodes[0], link="lost", link_sentence="No answer for 3 s.")
        clock.now = fleets.NOW + 1
        tape.play(lost_node)
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


async def test_a_run_over_two_nodes_has_one_row_and_one_verdict() -> None:
    """The node with the records shows the run, whichever node is listed first."""
    first = fleets.several().nodes[0]
    run = first.runs[0]
    names = (first.node, "second")
    head = replace(run, run=replace(run.run, node=first.node, nodes=names))
    bare = replace(run, run=replace(head.run, node="second", node_rank=1), steps=(), epochs=(), heartbeat=None)
    second = replace(first, node="second", runs=(bare,))
    app = dashboard(Fleet(nodes=(second, replace(first, runs=(head,)))))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.post_message(NodeObserved(second, JudgementCache().judgements(second)))
        await pilot.pause()
        keys = [option.id for option in app.screen.query_one(RunList).options]
        assert keys == ["node second", f"node {first.node}", head.run.run_id]
        assert f"on {first.node},second" in "\n".join(screen_text(app))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_before_the_first_step_the_log_has_the_room_that_curves_do_not_need(size: tuple[int, int]) -> None:
    rows_of_log = []
    for fleet in (fleets.healthy(), fleets.starting()):
        app = dashboard(fleet)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            rows_of_log.append(app.screen.query_one(LogTail).size.height)
            assert size != (120, 40) or "# memory" in "\n".join(screen_text(app))
    assert rows_of_log[1] > rows_of_log[0]


async def test_a_pane_is_shown_alone_and_back() -> None:
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


async def test_a_storm_of_resizes_ends_in_a_whole_screen() -> None:
    app = dashboard(fleets.several())
    async with app.run_test(size=(120, 40)) as pilot:
        for size in [(1, 1), (200, 50), (10, 3), (79, 12), (100, 24), (99, 24), (40, 60), (60, 15), (3, 90), (120, 40)]:
            await pilot.resize_terminal(*size)
        await pilot.pause()
        assert "total" in "\n".join(screen_text(app))


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


async def test_log_lines_and_the_crosshair_lead_to_each_other() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        log, charts = app.screen.query_one(LogTail), app.screen.query_one(Charts)
        log.focus()
        await pilot.press("home", "j", "enter")
        await pilot.pause()
        assert log.log_lines[1].startswith("Epoch 1/20")
        assert charts.query_one("#total", LossPanel).step_at(charts.viewport.cursor) == fleets.STEPS_PER_EPOCH - 1
        await pilot.press("escape", "x", *["left"] * 3)
        await pilot.pause()
        step = charts.query_one("#total", LossPanel).step_at(charts.viewport.cursor)
        assert f"at step {step}" in str(log.border_title) and not log.follow
        assert log.log_lines[log._match].startswith("Epoch 13/20"), step
        await pilot.press("x")
        await pilot.pause()
        assert log.follow


async def test_a_resumed_run_continues_the_curves_of_the_one_before() -> None:
    before = fleets.run(steps=120, state="died", suffix="aaaa")
    whole = fleets.run(steps=200, suffix="bbbb")
    later_steps = tuple(msgspec.structs.replace(step, seq=i) for i, step in enumerate(whole.steps[100:]))
    resumed_run = msgspec.structs.replace(whole.run, resumed_from=f"/home/ada/giblet/runs/{before.run.run_id}")
    assert whole.plan_record is not None
    plan = msgspec.structs.replace(whole.plan_record, resumed_from_step=100)
    after = msgspec.structs.replace(
        whole, run=resumed_run, steps=later_steps, epochs=whole.epochs[5:], plan_record=plan
    )
    after = whole_run(after, {before.run.run_id: before}.get)
    app = dashboard(Fleet(nodes=(fleets.node(runs=(after, before)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        panel = app.screen.query_one("#fmri", LossPanel)
        assert panel.view is not None and panel.view.run.run.run_id == after.run.run_id
        curves = panel.view.curves
        assert list(curves.step_N) == list(range(200)) and curves.resumed == (100.0,)
        assert list(curves.epoch_step_E) == [20.0 * k for k in range(1, 11)]
        assert "»" in "\n".join(screen_text(app))


async def test_a_state_of_a_later_version_is_shown_as_a_word() -> None:
    run = fleets.run()
    odd = msgspec.structs.replace(run, health=msgspec.structs.replace(run.health, state="pondering"))
    app = dashboard(Fleet(nodes=(fleets.node(runs=(odd,)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert screen_text(app)[0].startswith(" ? pondering demo")


async def test_a_lab_log_without_components_is_not_shown_as_nan() -> None:
    run = fleets.run(steps=60)
    epochs = tuple(replace(epoch, train=replace(epoch.train, loss={}), validation=None) for epoch in run.epochs)
    adoption = Adoption(address="s", mark="STY=1.s", at=0.0, by="ada", log="/train.log")
    facts = replace(run.run, adopted=adoption)
    adopted_run = replace(run, run=facts, config=None, plan_record=None, steps=(), epochs=epochs)
    app = dashboard(Fleet(nodes=(fleets.node(runs=(adopted_run,)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        text = "\n".join(screen_text(app))
        assert "NaN" not in text and [panel.component for panel in app.screen.query(LossPanel)] == ["total"]
        assert "waiting" not in text and "no plan is known" in text and "it was adopted, without criteria" in text
    assert epoch_words(adopted_run) == str(epochs[-1].epoch)


async def test_steps_within_a_second_reach_header_and_log_at_once_and_the_curves_at_the_tick() -> None:
    tape, whole = Tape(), fleets.run(steps=45)
    beginning = replace(whole, steps=whole.steps[:41])
    app = dashboard(Fleet(nodes=(fleets.node(runs=(beginning,)),)), source=tape)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        screen = app.screen
        assert isinstance(screen, MainScreen)
        screen._ticker.pause()
        screen._drawn_at = time.monotonic() + 3600  # drawn a moment ago, however slow this machine is
        tape.play(fleets.node(runs=(replace(whole, log_tail=("step 44 is made",)),)))
        await settle(pilot)
        rows = screen_text(app)
        assert "step 45/" in rows[0] and "step 44 is made" in "\n".join(rows)
        assert screen.charts.view is not None and len(screen.charts.view.run.steps) == 41
        screen.tick()
        await settle(pilot)
        assert len(screen.charts.view.run.steps) == 45
        epoch = fleets.run(steps=60)
        tape.play(fleets.node(runs=(epoch,)))
        await settle(pilot)
        assert len(screen.charts.view.run.steps) == 60, "an epoch has ended, so everything is drawn"
