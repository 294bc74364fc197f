"""The server of forked programs ends with its owner and leaves nothing behind, however the owner ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.paths import ROOT

PROGRAM = """
import pathlib, subprocess, time
def main():
    child = subprocess.Popen(["sleep", "100"])
    pathlib.Path("pids.part").write_text(f"{__import__('os').getpid()} {child.pid}")
    pathlib.Path("pids.part").rename("pids")
    time.sleep(100)
"""
OWNER = """
import os, pathlib, sys, time
from tests.fork_server import ForkServer
server = ForkServer("endless:main")
server.start([], [dict(os.environ)], pathlib.Path(sys.argv[1]))
time.sleep(100)
"""


def until(condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("whole_group", [False, True], ids=["owner", "terminal"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_survives_an_interrupted_owner(number: signal.Signals, whole_group: bool, tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    until((tmp_path / "pids").exists)
    program, child = map(int, (tmp_path / "pids").read_text().split())
    (os.killpg if whole_group else os.kill)(owner.pid, number)
    owner.wait(60)
    until(lambda: not lives(program))
    if whole_group and number == signal.SIGKILL:
        os.kill(child, signal.SIGKILL)  # no process is left that could end what the program has started
    until(lambda: not lives(child))
