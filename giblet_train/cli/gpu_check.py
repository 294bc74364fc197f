"""Command that checks that training on this machine's GPU is correct."""

from __future__ import annotations

import sys

from giblet_train.analysis.gpu_check import check_gpu, table
from giblet_train.cli.arguments import report_progress
from giblet_train.schema.errors import FAILED


def gpu_check() -> None:
    """Check that training on this machine's GPU is correct, and print one table. Exit 1 if a line fails.

    Without a GPU it says which lines could not run, and runs the others on the CPU.
    """
    lines = check_gpu(report_progress)
    print(table(lines))
    if any(line.status == "fail" for line in lines):
        sys.exit(FAILED)
