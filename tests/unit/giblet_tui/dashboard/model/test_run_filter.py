"""Filtering and sorting the runs of the list."""

import pytest
from msgspec.structs import replace

from giblet_train.schema.records import SweepCell
from giblet_tui.dashboard.model.judgement import JudgementCache
from giblet_tui.dashboard.model.run_filter import ORDERS, matches, sort_runs
from giblet_tui.dashboard.widgets.run_list import RunList
from giblet_tui.monitor.snapshots import Fleet, RunSnapshot
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import dashboard, screen_text


def names_matching(words: str) -> list[str]:
    judge, names = JudgementCache(), []
    for node in fleets.several().nodes:
        judgements = judge.judgements(node)
        names += [run.run.name for run in node.runs if matches(run, node, words, judgements, fleets.NOW + 1)]
    return names


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("", ["demo", "flat", "pilot", "broken", "deep", "far"]),
        ("failed", ["broken"]),
        ("PASS", ["pilot"]),
        ("tensor02", ["deep"]),
        ("unknown", ["far"]),
        ("running on", ["demo"]),
        ("no news", ["deep", "far"]),
        ("nothing-like-this", []),
    ],
)
def test_words_are_looked_for_in_name_node_state_and_verdict(words: str, names: list[str]) -> None:
    assert names_matching(words) == names


def test_orders() -> None:
    runs = fleets.several().nodes[0].runs
    assert [run.run.name for run in sort_runs(runs, "launch")] == ["demo", "flat", "pilot", "broken"]
    assert [run.run.name for run in sort_runs(runs, "state")] == ["demo", "flat", "broken", "pilot"]
    assert [run.run.name for run in sort_runs(runs, "name")] == ["broken", "demo", "flat", "pilot"]
    assert [run.run.name for run in sort_runs(runs, "loss")] == ["pilot", "demo", "flat", "broken"]


def in_sweep(number: int, suffix: str) -> RunSnapshot:
    run = fleets.run(suffix=suffix)
    values = {"learning_rate": f"{number}e-4", "data.normalize_fmri": "true"}
    sweep = SweepCell(name="demo-grid-1a2b", values=values, number=number, n_runs=2)
    return replace(run, run=replace(run.run, sweep=sweep))


def test_the_runs_of_a_sweep_stay_together_in_the_order_of_its_grid() -> None:
    runs = [fleets.run(suffix="0001"), in_sweep(2, "0002"), fleets.run(suffix="0003"), in_sweep(1, "0004")]
    assert [run.run.run_id[-4:] for run in sort_runs(runs, "launch")] == ["0001", "0004", "0002", "0003"]


async def test_a_sweep_has_a_heading_and_its_runs_are_called_by_their_values() -> None:
    node = replace(fleets.several().nodes[0], runs=(in_sweep(2, "0002"), in_sweep(1, "0004"), fleets.run()))
    app = dashboard(Fleet(nodes=(node,)))
    async with app.run_test(size=(160, 40)) as pilot:
        await pilot.pause()
        runs = app.screen.query_one(RunList)
        keys = [(str(option.id).split()[0][-4:], option.disabled) for option in runs.options]
        assert keys == [("node", True), ("weep", True), ("0004", False), ("0002", False), ("a1b2", False)]
        text = "\n".join(screen_text(app))
        assert "demo-grid-1a2b" in text and "learning_rate, normalize_fmri" in text and "1e-4, true 0004" in text


async def test_the_list_is_filtered_while_typing_and_reset_by_escape() -> None:
    app = dashboard(fleets.several())
    async with app.run_test(size=(160, 40)) as pilot:
        await pilot.pause()
        runs = app.screen.query_one(RunList)
        all_rows = [option.id for option in runs.options]
        await pilot.press("slash", *"fail")
        await pilot.pause()
        assert [option.id for option in runs.options if not option.disabled] == ["broken-20270115-080000-bad0"]
        await pilot.press("enter")
        await pilot.pause()
        assert "“fail” 1 runs" in "\n".join(screen_text(app))
        await pilot.press("escape")
        await pilot.pause()
        assert [option.id for option in runs.options] == all_rows


async def test_a_key_changes_the_order() -> None:
    app = dashboard(fleets.several())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        runs = app.screen.query_one(RunList)
        for order in (*ORDERS[1:], ORDERS[0]):
            await pilot.press("o")
            await pilot.pause()
            assert runs.order == order and (f"by {order}" in str(runs.border_title)) == (order != ORDERS[0])
