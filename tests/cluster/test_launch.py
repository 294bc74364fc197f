"""From a plan to a first step on a node, over SSH and locally, and back: the trainer is a stand-in that writes records.

The engine itself trains in the test of the command line; here it must be quick to fail, to hang, or to step on time.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from giblet_train.schema.config import Config
from giblet_train.schema.errors import GibletError, PreflightRefused, RunFailed
from giblet_train.schema.run_dir import new_run_id
from giblet_tui.agent import kill, run_processes, sessions
from giblet_tui.connection.connect import connect
from giblet_tui.connection.protocol import NodeProbe
from giblet_tui.control.stop import find_stale, probe_resources, raise_if_survivors, stop
from giblet_tui.errors import TimedOut, Unreachable
from giblet_tui.inventory.nodes import Node
from giblet_tui.launch.first_step import await_first_step
from giblet_tui.launch.plan import LaunchPlan, NodeAssignment, plan_node
from giblet_tui.launch.request import LaunchRequest
from giblet_tui.launch.start import start_on_node
from tests.cluster.nodes import LoopbackNode, wait_until

TRAINER = f"""#!{sys.executable}
import json, os, pathlib, sys, time
from giblet_train.schema.records import Heartbeat, StepMetric, encode
from giblet_train.schema.run_dir import RunDir, write_record
run = RunDir(pathlib.Path(sys.argv[-1]))
def beat(state, why=""):
    write_record(run.heartbeat, Heartbeat(state=state, step=1, epoch=1, phase=state, at=time.time(), pid=os.getpid(),
                                          boot_id="", start_ticks=0, why=why))
def step():
    metric = StepMetric(seq=0, step=0, epoch=1, at=time.time(), lr=1e-4, total=2.0, loss={{}}, weight={{}}, share={{}})
    run.metrics.write_bytes(encode(metric) + b"\\n")
print("the stand-in trains", flush=True)
"""
UNTIL_STOPPED = "\nwhile not run.stop.exists(): time.sleep(0.02)\nbeat('stopped')"
STEPS = "beat('training'); step()" + UNTIL_STOPPED
FAILS = "beat('failed', 'sub-02.nii.gz is 3-D.'); print('error: sub-02.nii.gz is 3-D.'); sys.exit(2)"
LOADS_THEN_STEPS = "beat('loading'); time.sleep(1.5); step(); beat('training')" + UNTIL_STOPPED
"""Whoever looks between the end of loading and the first step would begin to count."""
HANGS = "beat('training'); time.sleep(600)"


class Site:
    """A node, and a directory of it that the test can see."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node, self.folder = node, folder

    def planned(self, behaviour: str, **request: object) -> LaunchPlan:
        trainer = self.folder / f"trainer-{time.time_ns()}"
        trainer.write_text(TRAINER + behaviour)
        trainer.chmod(0o755)
        launch_request = LaunchRequest(
            config=Config(name="demo", seed=time.time_ns() % 10**9), launched_by="x@y", grace_s=5.0, **request
        )
        with connect(self.node) as connection:
            facts = connection.call("probe", {"workdir": self.node.workdir}, NodeProbe)
        return plan_node(launch_request, self.node, facts, str(trainer), self.assignment())

    def assignment(self) -> NodeAssignment:
        """Return that of a new run to the node."""
        return NodeAssignment(run_id=new_run_id("demo"), nodes=(self.node.name,))

    def run(self, behaviour: str, **request: object) -> str:
        """Launch; the run's id."""
        plan = self.planned(behaviour, **request)
        with connect(self.node) as connection:
            start_on_node(plan, connection, lambda stage: None)
        return plan.run.run_id

    def first_step(self, run_id: str, limit_s: float = 30.0):
        with connect(self.node) as connection:
            return await_first_step(self.node, connection, run_id, lambda run: None, limit_s)

    def stop(self, run_id: str, **how: object):
        with connect(self.node) as connection:
            return stop(self.node, connection, run_id, lambda stage: None, **how)

    def on_node(self, run_id: str) -> run_processes.LocalRun:
        return run_processes.find(self.node.workdir, run_id)


@pytest.fixture(params=["ssh", "local"])
def site(request, tmp_path, monkeypatch) -> Iterator[Site]:
    if request.param == "ssh":
        loopback: LoopbackNode = request.getfixturevalue("tensor01")
        for name in ("TMUX_TMPDIR", "SCREENDIR"):
            monkeypatch.setenv(name, loopback.environment[name])
        new_site = Site(loopback.node(workdir=str(tmp_path / "work")), tmp_path)
    else:
        monkeypatch.setenv("TMUX_TMPDIR", str(tmp_path))
        work = str(tmp_path / "work")
        new_site = Site(Node(name="local", host="h", transport="local", workdir=work, multiplexer="process"), tmp_path)
    yield new_site
    for run in run_processes.all_runs(new_site.node.workdir):
        kill.kill_tree(run)
        sessions.kill_session(run.session)


def test_a_launch_waits_for_the_first_step_and_a_stop_ends_it(site):
    run_id = site.run(STEPS)
    snapshot = site.first_step(run_id)
    assert len(snapshot.steps) == 1 and snapshot.health.state == "running"
    result = site.stop(run_id)
    raise_if_survivors([result])
    assert result.steps[0].startswith("Asked it to stop") and not result.already
    assert site.stop(run_id).already
    assert site.on_node(run_id).record("exit.json")["code"] == 0


def test_a_failure_is_shown_with_its_cause(site):
    run_id = site.run(FAILS)
    with pytest.raises(RunFailed) as failure:
        site.first_step(run_id)
    assert failure.value.message == f"{run_id} failed before its first step: sub-02.nii.gz is 3-D."
    assert "error: sub-02.nii.gz is 3-D." in failure.value.remedy and failure.value.exit_code == 1


def test_a_missing_interpreter_is_a_failure_in_words(site):
    plan = site.planned(STEPS)
    Path(plan.run.argv[0]).unlink()
    with connect(site.node) as connection:
        start_on_node(plan, connection, lambda stage: None)
    with pytest.raises(RunFailed) as failure:
        site.first_step(plan.run.run_id)
    assert f"{plan.run.argv[0]} cannot be started: No such file or directory" in failure.value.remedy


def test_the_wait_counts_from_the_end_of_loading(site):
    assert site.first_step(site.run(LOADS_THEN_STEPS), limit_s=1.0).steps


def test_a_run_without_a_step_is_reported_and_continues(site):
    run_id = site.run(HANGS)
    with pytest.raises(TimedOut, match="has made no step yet") as late:
        site.first_step(run_id, limit_s=0.5)
    assert late.value.exit_code == 124 and run_id in late.value.remedy
    assert site.on_node(run_id).supervisor()


def test_the_node_refuses_a_second_run_of_one_configuration(site):
    first = site.planned(STEPS)
    with connect(site.node) as connection:
        facts = connection.call("probe", {"workdir": site.node.workdir}, NodeProbe)
        request = LaunchRequest(config=first.config, launched_by="b@c")
        second = plan_node(request, site.node, facts, first.run.argv[0], site.assignment())
        start_on_node(first, connection, lambda stage: None)
        with pytest.raises(GibletError, match=f"already runs here: {first.run.run_id}, launched by x@y") as refusal:
            start_on_node(second, connection, lambda stage: None)
    assert refusal.value.exit_code == PreflightRefused.exit_code and "--again" in refusal.value.remedy


def test_a_stale_run_is_found_and_ended(site):
    run_id = site.run(HANGS)
    with connect(site.node) as connection:
        assert find_stale(site.node, probe_resources(site.node, connection)) == []
        os.kill(site.on_node(run_id).supervisor(), signal.SIGKILL)
        wait_until(lambda: site.on_node(run_id).supervisor() is None)
        (stale,) = find_stale(site.node, probe_resources(site.node, connection))
        assert (stale.run_id, stale.why.partition(",")[0]) == (run_id, "its supervisor is gone")
        raise_if_survivors([stop(site.node, connection, run_id, lambda stage: None, grace_s=0.5)])
        assert find_stale(site.node, probe_resources(site.node, connection)) == []


@pytest.mark.parametrize("multiplexer", ["tmux", "screen", "process"])
def test_the_node_finishes_a_stop_whose_link_was_cut(tensor01, tmp_path, monkeypatch, multiplexer):
    """Cut after each of the stages that the stop tells of."""
    for name in ("TMUX_TMPDIR", "SCREENDIR"):
        monkeypatch.setenv(name, tensor01.environment[name])
    site = Site(tensor01.node(workdir=str(tmp_path / "work")), tmp_path)
    run_id = site.run(
        "beat('training'); import signal; signal.signal(15, lambda *_: None)\nwhile True: time.sleep(1)",
        session=multiplexer,
    )
    run = site.on_node(run_id)
    wait_until((run.path / "heartbeat.json").exists)
    stop_sent = threading.Event()

    def cut_when_told(stage: str) -> None:
        stop_sent.set()
        tensor01.cut()

    with connect(site.node) as connection, pytest.raises(Unreachable) as error:
        stop(site.node, connection, run_id, cut_when_told, grace_s=0.7)
    assert stop_sent.is_set() and f"giblet stop {run_id}" in error.value.remedy
    wait_until(lambda: run.ended and not run.processes() and not sessions.find_session(run.session))
    assert site.stop(run_id).already


def test_hostile_ids_are_refused_by_the_node(site):
    with connect(site.node) as connection:
        for run_id in ("; touch canary", "../../etc", "--help", "a\nb", "$(touch canary)", "x" * 300):
            with pytest.raises(GibletError, match="is not a run id") as refusal:
                stop(site.node, connection, run_id, lambda stage: None)
            assert refusal.value.exit_code == 2
