"""FIFOs, sockets and devices where records are expected: they block nobody."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import contextmanager

import pytest

from giblet_tui.agent import resources, stop_run, watch_runs
from giblet_tui.agent.main import AgentRefusal
from giblet_tui.agent.tail import read_new
from tests.liveruns import append, end, make_run, step_line

LIMIT_S = 20


@contextmanager
def within_limit():
    def fail(*_):
        raise AssertionError(f"blocked for {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def place(kind, path):
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        server = socket.socket(socket.AF_UNIX)
        before = os.getcwd()
        os.chdir(path.parent)  # a socket's path must be short
        server.bind(path.name)
        os.chdir(before)
        server.close()


@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
@pytest.mark.parametrize("name", ["train.log", "heartbeat.json", "metrics.jsonl", "run.json", "exit.json", "stop"])
def test_a_run_with_an_odd_file_blocks_neither_watching_nor_stopping(tmp_path, kind, name):
    good, odd = make_run(tmp_path, node="n"), make_run(tmp_path, "odd", node="n")
    append(good.metrics, step_line(0))
    end(good)
    (odd.path / "supervisor.json").unlink(missing_ok=True)
    place(kind, odd.path / name)
    events = []
    request = {"workdir": str(tmp_path)}
    with within_limit():
        watch_runs.observe(request, events.append)
        resources.list_resources(request, lambda event: None)
        try:
            stop_run.stop({**request, "run_id": odd.run_id, "grace_s": 0.1}, lambda event: None)
        except AgentRefusal as refusal:
            assert name == "run.json" and "not a run directory" in refusal.sentence
    run_ids = {event["run"]["run_id"] for event in events if "run" in event}
    assert good.run_id in run_ids


def test_a_fifo_is_no_log(tmp_path):
    os.mkfifo(tmp_path / "log")
    with within_limit():
        assert read_new(tmp_path / "log", None, None, False) is None
