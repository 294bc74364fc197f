"""Command that trains a run on all nodes of a Slurm job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from giblet_train.distributed.slurm_step import start_tasks
from giblet_train.schema.run_dir import RunDir


def srun(
    run_dir: Annotated[Path, typer.Argument(help="Run directory, on a file system that all nodes share.")],
) -> None:
    """Train a run on all nodes of this Slurm job: start `join` once on each."""
    start_tasks(RunDir(run_dir.resolve()))
