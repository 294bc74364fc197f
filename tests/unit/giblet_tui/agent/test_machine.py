"""One machine is one machine, whatever a laptop calls it and however often it was booted."""

from __future__ import annotations

import json
import os

import pytest

from giblet_tui.agent import machine, run_processes
from giblet_tui.agent.proc import boot_id
from giblet_tui.agent.watch_runs import RunPoller
from giblet_tui.connection.protocol import WatchEvent, decode
from giblet_tui.monitor.node_state import NodeState, apply_event, to_snapshot
from tests.liveruns import beat, make_run, supervise

HERE, OWN_ID = os.uname().nodename, machine.machine_id()


@pytest.mark.parametrize(
    ("run", "boot", "expected"),
    [
        ({"hostname": HERE}, "", True),
        ({"hostname": "other"}, "", False),
        ({"hostname": HERE, "machine_id": "0" * 16}, "", False),
        ({"hostname": "renamed", "machine_id": "0" * 16}, boot_id(), True),
        ({"hostname": "other"}, "an earlier boot", False),
        ({"hostname": HERE}, "an earlier boot", True),
        ({}, "", True),
    ],
)
def test_where_a_run_was_started(run, boot, expected):
    assert machine.started_here(run, {"boot_id": boot}) is expected


def test_a_clone_with_the_same_id_is_another_machine():
    assert machine.started_here({"hostname": "clone", "machine_id": OWN_ID}, {}) is False
    assert machine.started_here({"hostname": HERE, "machine_id": OWN_ID}, {}) is True


def test_the_id_itself_is_not_shown():
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        if os.path.exists(path):
            with open(path) as file:
                text = file.read().strip()
            assert not text or text not in OWN_ID


def seen_as(node, workdir):
    """Return the runs of a working directory as a laptop sees them that calls the machine `node`."""
    rounds, state = RunPoller({"workdir": str(workdir)}), NodeState(node)

    def take(event):
        nonlocal state
        state = apply_event(state, decode(json.loads(json.dumps(event)), WatchEvent), 0.0)

    rounds.poll(take)
    take({"tick": rounds.tick()})
    return to_snapshot(state).runs


@pytest.mark.parametrize("name", ["n2", "gpuB"])
def test_every_laptop_sees_a_run_under_its_own_name_for_the_machine(tmp_path, name):
    """Launched as on n2; the machine was rebooted since. Both laptops see the same end."""
    run_dir = make_run(tmp_path, node="n2")
    supervise(run_dir, os.getpid(), boot="an earlier boot")
    beat(run_dir)
    (run,) = seen_as(name, tmp_path)
    assert (run.run.node, run.health.state) == (name, "died") and "rebooted" in run.health.sentence
    assert run_processes.find(str(tmp_path), run_dir.run_id).on_other_host == ""


def test_a_run_of_a_machine_that_shares_the_directory_keeps_its_name(tmp_path):
    run_dir = make_run(tmp_path, node="n2")
    run_dir.run.write_text(json.dumps({**json.loads(run_dir.run.read_text()), "hostname": "other"}))
    supervise(run_dir, os.getpid(), boot="the boot of the other")
    (run,) = seen_as("gpuB", tmp_path)
    assert run.run.node == "n2" and run.health.state != "died"
    assert run_processes.find(str(tmp_path), run_dir.run_id).on_other_host == "other"
