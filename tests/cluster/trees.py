"""Process trees as hard to end as real ones: `python trees.py VARIANT TAG` grows one, with TAG in every argv.

T1  a parent, two workers, a loader under each: nothing special
T2  the children ignore SIGHUP
T3  as torchrun: workers in sessions of their own, one ignores SIGTERM, the parent forwards TERM and then kills
T4  T3 and a daemon that double-forked into a session of its own
T5  T4 with the daemon's environment cleared

`living(TAG)` is the ground truth that tests compare with: it looks at argv only, which giblet never does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

VARIANTS = ("T1", "T2", "T3", "T4", "T5")
SIZE = {"T1": 5, "T2": 5, "T3": 5, "T4": 6, "T5": 6}
PROGRAM = str(Path(__file__).resolve())
_KILLS_AFTER_S = 0.4


def argv(variant: str, tag: str) -> list[str]:
    """Return the command that grows a tree."""
    return [sys.executable, "-S", PROGRAM, variant, tag]


def living(tag: str) -> dict[int, str]:
    """Return pid -> command line of every living process that has the tag as one of its arguments."""
    processes = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            state = (entry / "stat").read_bytes().rpartition(b")")[2].split()[0]
        except OSError:
            continue
        if tag.encode() in words and state not in (b"Z", b"X"):
            processes[int(entry.name)] = b" ".join(words).decode().strip()
    return processes


def _spawn(role: str, own_session: bool = False) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*argv(*sys.argv[1:3]), role], start_new_session=own_session)


def _ignore(*numbers: int) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def _parent(variant: str) -> None:
    like_torchrun = variant >= "T3"
    workers = [_spawn(f"worker{i}", own_session=like_torchrun) for i in (0, 1)]

    def forward(_number: int, _frame: object) -> None:
        for worker in workers:
            _signal_group(worker.pid, signal.SIGTERM)
        deadline = time.monotonic() + _KILLS_AFTER_S
        while time.monotonic() < deadline and any(worker.poll() is None for worker in workers):
            time.sleep(0.02)
        for worker in workers:
            _signal_group(worker.pid, signal.SIGKILL)
        os._exit(1)

    if like_torchrun:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, forward)
    while any(worker.poll() is None for worker in workers):
        time.sleep(0.05)


def _worker(variant: str, role: str) -> None:
    if variant != "T1":
        _ignore(signal.SIGHUP)
    if variant >= "T3" and role == "worker1":
        _ignore(signal.SIGTERM)
    _spawn("loader")
    if variant >= "T4" and role == "worker0":
        _daemon({} if variant == "T5" else dict(os.environ))
    _sleep()


def _daemon(environment: dict[str, str]) -> None:
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        return
    os.setsid()
    if os.fork() == 0:
        os.execve(sys.executable, [*argv(*sys.argv[1:3]), "daemon"], environment)
    os._exit(0)


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def _sleep() -> None:
    while True:
        time.sleep(60)


def _main(variant: str, role: str) -> None:
    if role == "parent":
        _parent(variant)
    elif role.startswith("worker"):
        _worker(variant, role)
    else:
        if variant != "T1":
            _ignore(signal.SIGHUP, signal.SIGINT)
        _sleep()


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[3] if len(sys.argv) > 3 else "parent")
