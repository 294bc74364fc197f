"""Where tests start runs: a working directory, a tmux server and screen sockets of their own, and what they started."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from giblet_train.schema.run_dir import new_run_id
from giblet_tui.agent import kill, run_processes, sessions, start_run, stop_run
from giblet_tui.connection import agent_bundle
from tests.cluster import trees
from tests.cluster.conftest import unavailable

KINDS = ("tmux", "screen", "process")


def require(kind: str) -> None:
    """Skip, or fail where CI demands it, when a multiplexer is not installed."""
    if kind != "process" and not shutil.which(kind):
        unavailable(f"{kind} is not installed (apt-get install {kind})")


class Ground:
    """Starts and stops runs by the agent's own operations, in this process."""

    def __init__(self, workdir: Path) -> None:
        self.workdir = workdir
        self.tags: list[str] = []

    def record(self, argv: list[str], name: str = "demo", **fields: Any) -> dict[str, Any]:
        run_id = new_run_id(name)
        return {
            "run_id": run_id, "name": name, "node": "local", "session": f"gib-{run_id}",
            "argv": argv, "config_hash": secrets.token_hex(6), "giblet_version": "0", "launched_by": "tester@laptop",
            "launched_at": 0.0, "gpus": [], "grace_s": 1.0, "schema": 1, **fields,
        }  # fmt: skip

    def arguments(self, record: dict[str, Any], kind: str, **more: Any) -> dict[str, Any]:
        files = {"config.yaml": "name: demo\n", "supervise.py": agent_bundle.supervisor_script()}
        return {"workdir": str(self.workdir), "record": {**record, "multiplexer": kind}, "files": files, **more}

    def start(self, argv: list[str], kind: str, emit: Any = lambda event: None, **fields: Any) -> str:
        """Start a run; its id."""
        record = self.record(argv, **fields)
        start_run.start(self.arguments(record, kind), emit)
        return str(record["run_id"])

    def start_tree(self, variant: str, kind: str) -> tuple[str, str]:
        """Start a run of one of the trees; its id, and the tag of its processes."""
        self.tags.append(f"tree-{secrets.token_hex(4)}")
        return self.start(trees.argv(variant, self.tags[-1]), kind), self.tags[-1]

    def stop(self, run_id: str, **more: Any) -> dict[str, Any]:
        return stop_run.stop({"workdir": str(self.workdir), "run_id": run_id, **more}, lambda event: None)

    def run(self, run_id: str) -> run_processes.LocalRun:
        return run_processes.find(str(self.workdir), run_id)

    def runs(self) -> list[str]:
        return sorted(p.name for p in (self.workdir / "runs").glob("*"))

    def clear(self) -> None:
        for run in run_processes.all_runs(str(self.workdir)):
            kill.kill_tree(run)
            sessions.kill_session(run.session)
        for tag in self.tags:
            for pid in trees.living(tag):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture(name="ground")
def make_ground(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """Make a folder with a short path: a tmux socket's must stay under 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="gib-") as folder:
        base = Path(folder)
        for variable, name in (("TMUX_TMPDIR", "tmux"), ("SCREENDIR", "screen")):
            (base / name).mkdir(mode=0o700)
            monkeypatch.setenv(variable, str(base / name))
        monkeypatch.delenv("GIBLET_RUN_ID", raising=False)
        here = Ground(base / "work")
        yield here
        here.clear()
        if tmux := shutil.which("tmux", path=os.defpath):
            subprocess.run([tmux, "-L", "giblet", "kill-server"], capture_output=True, check=False)
