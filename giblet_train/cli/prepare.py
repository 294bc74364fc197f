"""Commands that read a study: its store, its table of runs, its mistakes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from giblet_train.cli.arguments import AsJson, RunOrConfig, Workdir, report_progress
from giblet_train.data.checks.report import check_report, lag_report
from giblet_train.data.discover.command import discover_text
from giblet_train.data.store.prepare import prepare as prepare_store
from giblet_train.data.store.prepare import read_data_request
from giblet_train.data.store.show import show_table
from giblet_train.schema.errors import FAILED


def prepare(run_or_config: RunOrConfig, workdir: Workdir = None) -> None:
    """Build the store of a run if it does not exist. Prints its path, sizes and build time."""
    print(prepare_store(read_data_request(run_or_config, workdir), report_progress))


def discover(
    folder: Annotated[Path, typer.Argument(help="Folder with films or sounds and scans; annotations are optional.")],
    write: Annotated[
        Path | None, typer.Option(help="Save a configuration with the table; an existing file is kept.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the configuration; default: from the file.")] = None,
    tr: Annotated[float | None, typer.Option(min=0.02, help="TR in seconds, of scans that state none.")] = None,
    as_json: AsJson = False,
) -> None:
    """Propose the table of runs of a folder, verified by what the brains follow, and report what is unusual in it.

    Exit 1 if a file had to be left out or no run follows a stimulus.
    """
    has_errors, text = discover_text(folder, write, name, report_progress, as_json=as_json, tr_s=tr)
    print(text)
    if has_errors:
        sys.exit(FAILED)


def lag(run_or_config: RunOrConfig, workdir: Workdir = None, as_json: AsJson = False) -> None:
    """Print the lag of each brain behind the film in TRs: of subjects, thirds and runs. Exit 1 if a clock is wrong."""
    has_errors, text = lag_report(read_data_request(run_or_config, workdir), report_progress, as_json=as_json)
    print(text)
    if has_errors:
        sys.exit(FAILED)


def show(run_or_config: RunOrConfig, workdir: Workdir = None, as_json: AsJson = False) -> None:
    """Print the table of runs, also of a configuration without one: who saw what when, and the rows it leads to."""
    print(show_table(read_data_request(run_or_config, workdir), report_progress, as_json=as_json))


def check(
    run_or_config: RunOrConfig,
    workdir: Workdir = None,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Write the report with pictures to this HTML file.")] = None,
) -> None:
    """Find data mistakes before training: files, clocks, scales, annotations, subjects. Exit 1 on an error."""
    has_errors, text = check_report(
        read_data_request(run_or_config, workdir), report_progress, as_json=as_json, html=html and html.expanduser()
    )
    print(text)
    if has_errors:
        sys.exit(FAILED)
