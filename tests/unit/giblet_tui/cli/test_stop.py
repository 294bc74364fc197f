"""`giblet stop` of several runs: one that cannot be reached never keeps the others alive."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from giblet_tui.cli import stop
from giblet_tui.connection.protocol import GpuProcess
from giblet_tui.control.stop import StopResult
from giblet_tui.errors import TargetNotReached, Unreachable
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import find_run

NODES = {name: Node(name=name, host=name) for name in ("far", "near")}


@pytest.fixture
def ended_ids(monkeypatch):
    """Collect the ids of stopped runs; `far` cannot be reached; a run called `stuck` survives."""
    stopped_ids: list[str] = []

    def stop_on(node, run_id, grace, force, report):
        stopped_ids.append(run_id)
        result = StopResult(run_id=run_id, node=node.name, seconds=1.0)
        return replace(result, survivors=(GpuProcess(pid=7),)) if run_id == "stuck" else result

    def last_known_run(node, run_id):
        if node.name == "far":
            raise Unreachable("far does not answer.", "Is it up?")
        return node

    monkeypatch.setattr(
        find_run, "locate", lambda text, report, all_users=False: (NODES["far" if text == "a" else "near"], text)
    )
    monkeypatch.setattr(find_run, "observe", lambda which: None)
    monkeypatch.setattr(find_run, "all_nodes", lambda run: [run])
    monkeypatch.setattr(stop, "_last_known_run", last_known_run)
    monkeypatch.setattr(stop, "_confirm_production", lambda run, yes: None)
    monkeypatch.setattr(stop, "_stop_on", stop_on)
    return stopped_ids


def test_the_others_are_stopped_and_the_exit_code_says_one_was_not(ended_ids, capsys):
    with pytest.raises(Unreachable, match=r"a was not stopped: far does not answer") as error:
        stop.stop(["a", "b", "c"])
    assert ended_ids == ["b", "c"] and error.value.exit_code == 3
    assert capsys.readouterr().out.count("no process, no session") == 2


def test_a_survivor_is_reported_before_a_node_that_is_down(ended_ids, capsys):
    with pytest.raises(TargetNotReached, match="stuck cannot be ended: pid 7"):
        stop.stop(["a", "stuck", "b"])
    assert ended_ids == ["stuck", "b"]
    assert "a was not stopped" in capsys.readouterr().err
