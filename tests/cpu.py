"""Measure the CPU seconds of tests with all programs that they start: `python -m tests.cpu [FILE ...]`. Linux.

Each file runs in a pytest of its own, so that the figures do not depend on what else the machine does. As a pytest
plugin (`-p tests.cpu`) it appends the CPU and wall seconds of each test and fixture to the file GIBLET_TEST_CPU.
Detached programs, such as sessions and supervisors, count for the file, not for one test.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

OUTPUT = "GIBLET_TEST_CPU"
PR_SET_CHILD_SUBREAPER = 36
END_S = 10.0
"""How long a program may outlive the tests of its file before it is no longer counted."""


def cpu_s() -> float:
    """Return the CPU seconds of this process and of the children that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@contextlib.contextmanager
def _measured(kind: str, name: str) -> Iterator[None]:
    start, wall_start = cpu_s(), time.monotonic()
    yield
    if path := os.environ.get(OUTPUT):
        with open(path, "a", encoding="utf-8") as file:
            row = {"kind": kind, "name": name, "cpu_s": round(cpu_s() - start, 2)}
            row["wall_s"] = round(time.monotonic() - wall_start, 2)
            file.write(json.dumps(row) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    with _measured("test", item.nodeid):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest) -> Iterator[None]:
    with _measured("fixture", f"{fixturedef.baseid}::{fixturedef.argname}"):
        return (yield)


def measure_file(path: Path) -> tuple[float, float, int, list[dict[str, object]]]:
    """Run a file's tests; return its CPU and wall seconds, pytest's exit code, and a row for each test and fixture."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "rows.jsonl"
        start, wall_start = cpu_s(), time.monotonic()
        process = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "tests.cpu", str(path)],
            env=os.environ | {OUTPUT: str(output)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wall_s = time.monotonic() - wall_start
        _wait_for_orphans()
        rows = [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []
        return cpu_s() - start, wall_s, process.returncode, rows


def _wait_for_orphans() -> None:
    """Wait for the programs that the tests have left, whose parent this process has become."""
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3, help="most expensive tests and fixtures to print of each file")
    parser.add_argument("files", nargs="*", type=Path, help="test files; default: all")
    arguments = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    total_s = 0.0
    print("    CPU    wall  [s]")
    for path in arguments.files or sorted(Path(__file__).parent.rglob("test_*.py")):
        file_s, wall_s, exit_code, rows = measure_file(path)
        total_s += file_s
        print(
            f"{file_s:7.1f} {wall_s:7.1f}  {path}{'' if exit_code == 0 else f'  (pytest exit {exit_code})'}", flush=True
        )
        rows.sort(key=lambda row: -float(str(row["cpu_s"])))
        for row in rows[: arguments.rows]:
            name = str(row["name"]).split("::", 1)[-1]
            print(f"        {row['cpu_s']:7.1f} {row['wall_s']:7.1f}  {row['kind']:7}  {name}", flush=True)
    print(f"{total_s:7.1f}  total")


if __name__ == "__main__":
    main()
