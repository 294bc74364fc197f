"""Repeat tests under load and report the failures of each: `python -m tests.flaky --runs 20 tests/cluster/test_x.py`.

Each run competes with one busy process per core; every second run has a single core. Used by `make flaky`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
"""It ends with this process, however that ends."""
SINGLE_CORE = ("taskset", "-c", "0")


def main() -> int:
    arguments = _arguments()
    failures: Counter[str] = Counter()
    with _load(arguments.hogs):
        for number in range(1, arguments.runs + 1):
            names = _failed_tests(arguments.tests, single_core=number % 2 == 0)
            failures.update(names)
            print(f"run {number} of {arguments.runs}: {', '.join(names) or 'passed'}", flush=True)
    for name, count in failures.most_common():
        print(f"{count:4} of {arguments.runs} failed: {name}")
    return 1 if failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--hogs", type=int, default=os.cpu_count() or 1, help="busy processes next to the tests")
    parser.add_argument("tests", nargs="+", help="what pytest takes: files, folders, node ids, -k EXPRESSION")
    return parser.parse_args()


@contextmanager
def _load(n_hogs: int) -> Iterator[None]:
    """Keep the machine busy."""
    hogs = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n_hogs)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def _failed_tests(tests: Sequence[str], *, single_core: bool) -> list[str]:
    """Run the tests once; return the names of those that failed, or the last line if pytest itself failed."""
    prefix = SINGLE_CORE if single_core else ()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        process = subprocess.run(
            [
                *prefix,
                sys.executable,
                "-m",
                "pytest",
                "-q",
                f"--junitxml={report}",
                *tests,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if not report.exists():
            return [f"pytest: {process.stdout.strip().splitlines()[-1]}"]
        cases = ElementTree.parse(report).iter("testcase")
        return [
            f"{case.get('classname')}::{case.get('name')}"
            for case in cases
            if case.find("failure") is not None or case.find("error") is not None
        ]


if __name__ == "__main__":
    sys.exit(main())
