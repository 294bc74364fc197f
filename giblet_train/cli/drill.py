"""Command that trains with a fault injected."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from giblet_train.training.fault_injection import train_with_fault
from giblet_train.training.load_split import load_split


def drill(
    fault: Annotated[str, typer.Argument(help="A fault listed by `giblet demo --help`.")],
    run_dir: Annotated[Path, typer.Argument(help="Run directory with a resolved config.yaml.")],
) -> None:
    """Train with a fault injected on purpose; started by `giblet demo FAULT`."""
    sys.exit(train_with_fault(fault, run_dir, load_split))
