"""Real accounts of this machine for tests: made with useradd, removed with their processes. Needs root."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from giblet_train.schema.run_dir import new_run_id
from giblet_tui.agent import proc
from giblet_tui.connection.agent_bundle import AGENT_COMMAND, supervisor_script
from giblet_tui.connection.local import LocalConnection
from giblet_tui.connection.protocol import StartedRun
from giblet_tui.connection.subprocess_pipe import SubprocessPipe
from giblet_tui.inventory.nodes import Node
from tests.cluster.nodes import Account, wait_until

SLEEPS = "import time; print('up', flush=True); time.sleep(600)"


def lacking_for_accounts() -> str:
    """Return what this machine lacks for accounts of its own, as a sentence; empty if nothing."""
    has_all = os.geteuid() == 0 and shutil.which("useradd") and shutil.which("setpriv")
    return "" if has_all else "real accounts need root, useradd and setpriv"


@contextlib.contextmanager
def made_accounts(number: int, n_in_group: int = 0) -> Iterator[tuple[list[Account], str]]:
    """Yield that many new accounts, and a new group that the first n_in_group of them belong to."""
    base = Path(tempfile.mkdtemp(prefix="gib-"))
    base.chmod(0o755)
    names = [f"gib{secrets.token_hex(3)}" for _ in range(number)]
    group = f"lab{secrets.token_hex(3)}"
    try:
        subprocess.run(["groupadd", group], check=True)
        for place, name in enumerate(names):
            groups = ["--groups", group] if place < n_in_group else []
            # With "*" there is no password; without any, sshd takes the account for locked.
            home = ["--create-home", "--home-dir", str(base / name)]
            subprocess.run(["useradd", "--password", "*", *home, *groups, name], check=True)
        yield [Account(name, base / name) for name in names], group
    finally:
        for name in names:
            wait_until(partial(no_process_is_left, name), what="the end of the account's processes")
            subprocess.run(["userdel", "--remove", "--force", name], check=False, capture_output=True)
        subprocess.run(["groupdel", group], check=False, capture_output=True)
        shutil.rmtree(base, ignore_errors=True)


def no_process_is_left(name: str) -> bool:
    """Kill the processes of an account that this test made, and return whether there were none."""
    uid, pids = pwd.getpwnam(name).pw_uid, list[int]()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == uid and proc.stat_fields(int(entry.name)):
                pids.append(int(entry.name))
                os.kill(pids[-1], signal.SIGKILL)
    return not pids


class UserConnection(LocalConnection):
    """The agent as another user of this machine, with the system's own Python."""

    def __init__(self, account: Account, path: str, claims: Path) -> None:
        name, home = account
        self.name, self.workdir = name, str(home / "giblet")
        super().__init__(Node(name=name, host="h", transport="local", workdir=self.workdir, python="/none"))
        variables = [f"HOME={home}", f"PATH={path}", f"GIBLET_GPU_CLAIMS={claims}", f"USER={name}", f"LOGNAME={name}"]
        ids = [f"--reuid={name}", f"--regid={name}", "--clear-groups"]
        self._argv = ["setpriv", *ids, "env", "-i", *variables, "/bin/sh", "-c", f"cd; {AGENT_COMMAND}"]

    def _open(self) -> SubprocessPipe:
        return SubprocessPipe(self._argv)


@contextlib.contextmanager
def gpu_users(accounts: Sequence[Account], n_gpus: int) -> Iterator[list[UserConnection]]:
    """Yield a connection of each account to a machine with so many recorded GPUs and one claim directory."""
    base = accounts[0].home.parent
    record_gpus(base, n_gpus)
    claims = base / "claims"
    claims.mkdir()
    claims.chmod(0o1777)
    yield [UserConnection(account, f"{base}:/usr/local/bin:/usr/bin:/bin", claims) for account in accounts]


def record_gpus(folder: Path, n_gpus: int) -> None:
    """Put a recorded nvidia-smi of idle GPUs into a folder."""
    rows = "".join(f"echo '{i}, GPU-{i}, A100, 4, 81559, 0, 30';" for i in range(n_gpus))
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncase $1 in *gpu=index*) {rows} ;; esac\n")
    program.chmod(0o755)


def demand(n_gpus: int = 1) -> dict[str, Any]:
    """Return what a run asks for that needs so many GPUs, whichever are free."""
    return {"n_gpus": n_gpus, "among": None, "awaits": None}


def start_as(user: UserConnection, config_hash: str = "") -> StartedRun:
    """Start a run of this user on one GPU. config_hash: of its configuration; empty: its own."""
    run_id = new_run_id("demo")
    record = {
        "run_id": run_id, "name": "demo", "node": "local", "session": f"gib-{run_id}", "multiplexer": "process",
        "argv": ["/usr/bin/python3", "-c", SLEEPS], "config_hash": config_hash or secrets.token_hex(6),
        "giblet_version": "0", "launched_by": "tester@laptop", "launched_at": 0.0, "gpus": [], "grace_s": 1.0,
        "schema": 1,
    }  # fmt: skip
    files = {"config.yaml": "name: demo\n", "supervise.py": supervisor_script()}
    arguments = {"workdir": user.workdir, "record": record, "files": files, "gpus": demand()}
    return user.call("start", arguments, StartedRun, timeout_s=60.0)


def gpus_of(run: StartedRun) -> list[str]:
    """Return the UUIDs of the GPUs that a run got."""
    uuids = json.loads((Path(run.run_dir) / "run.json").read_text())["gpus"]
    assert isinstance(uuids, list)
    return uuids
