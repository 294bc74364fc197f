"""Command that trains a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from giblet_train.analysis.report_hook import ReportHook
from giblet_train.training.load_split import load_split
from giblet_train.training.process import train_with_error_file


def train(run_dir: Annotated[Path, typer.Argument(help="Run directory with a resolved config.yaml.")]) -> None:
    """Train RUN_DIR/config.yaml, alone or under torchrun. Exit 0 done or stopped, 75 terminated, 1 failed."""
    sys.exit(train_with_error_file(run_dir, load_split, ReportHook()))
