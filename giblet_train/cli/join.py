"""Command that trains one node's part of a run on several nodes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from giblet_train.distributed.multi_node import join as join_nodes
from giblet_train.schema.run_dir import RunDir


def join(run_dir: Annotated[Path, typer.Argument(help="Run directory whose run.json names several nodes.")]) -> None:
    """Train this node's part of a multi-node run: meet the other nodes, start torchrun, end together."""
    sys.exit(join_nodes(RunDir(run_dir.resolve())))
