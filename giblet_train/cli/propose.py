"""Command that proposes a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from giblet_train.data.checks.propose_config import propose_config


def propose(
    folder: Annotated[Path, typer.Argument(help="Folder with a film, annotations and scans.")],
    name: Annotated[str, typer.Option(help="Name of the configuration.")],
) -> None:
    """Print a configuration for the study in a folder, with comments on what a person must decide."""
    print(propose_config(folder.expanduser().absolute(), name))
