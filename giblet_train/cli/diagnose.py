"""Command that checks a study by training a few steps on it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from giblet_train.analysis.rehearse_training import diagnose as diagnose_study
from giblet_train.cli.arguments import AsJson, RunOrConfig, Workdir, report_progress
from giblet_train.data.store.prepare import read_data_request
from giblet_train.schema.errors import FAILED
from giblet_train.training.load_split import load_split


def diagnose(
    run_or_config: RunOrConfig,
    workdir: Workdir = None,
    steps: Annotated[int, typer.Option(min=1, help="Number of trial steps.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Check the data and train a few trial steps: what each loss starts at, raw and normalised, and whether it falls.

    Exit code 1 on an error. The trained weights are discarded.
    """
    has_errors, text = diagnose_study(
        read_data_request(run_or_config, workdir), load_split, steps, report_progress, as_json=as_json
    )
    print(text)
    if has_errors:
        sys.exit(FAILED)
