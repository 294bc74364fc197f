"""`giblet export`: write a run's screen as a picture or its records as a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from giblet_train.schema.errors import ConfigError
from giblet_train.schema.run_dir import replace_file
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json, RunName
from giblet_tui.cli.console import check_parent, print_data, print_status, show_json
from giblet_tui.cli.parameters import Option
from giblet_tui.dashboard.screenshots.png import png_bytes
from giblet_tui.dashboard.screenshots.render import run_picture
from giblet_tui.dashboard.screenshots.svg import svg_text
from giblet_tui.dashboard.settings import read_settings, settings_path
from giblet_tui.dashboard.style.themes import LIGHT_THEME
from giblet_tui.monitor import find_run, watch
from giblet_tui.monitor.snapshots import Fleet
from giblet_tui.reporting import SCHEMA
from giblet_tui.reporting.csv import csv_text
from giblet_tui.reporting.trackers import event_file, event_file_name, mlflow_files
from giblet_tui.reporting.wandb_file import wandb_files

SMALLEST, LARGEST = 20, 500


@command(
    app,
    "export",
    "giblet export @last --svg run.svg",
    "giblet export @last --png slide.png --size 160x45 --light",
    "giblet export @last --png fmri.png --panel fmri --size 80x20",
    "giblet export demo --csv demo.csv",
    "giblet export @last --tensorboard tb    # then: tensorboard --logdir tb",
    "giblet export @last --wandb-offline wandb    # then: wandb sync wandb/offline-run-*",
    "giblet export @last --mlflow mlruns     # then: mlflow ui --backend-store-uri mlruns",
)
def export(
    name: RunName,
    svg: Annotated[Path | None, Option(metavar="FILE", help="Write the dashboard's screen as SVG.")] = None,
    png: Annotated[
        Path | None, Option(metavar="FILE", help="Write it as PNG; needs `pip install 'giblet[picture]'`.")
    ] = None,
    csv: Annotated[Path | None, Option(metavar="FILE", help="Write every step and epoch as a row.")] = None,
    tensorboard: Annotated[
        Path | None, Option(metavar="DIR", help="Write every scalar as a TensorBoard event file.")
    ] = None,
    wandb_offline: Annotated[
        Path | None, Option(metavar="DIR", help="Write every scalar as an offline run of Weights & Biases.")
    ] = None,
    mlflow: Annotated[
        Path | None, Option(metavar="DIR", help="Write every scalar as a run of an MLflow file store.")
    ] = None,
    panel: Annotated[
        str,
        Option(metavar="PANEL", help="One panel only: total fmri video audio text balance clock verdict log ..."),
    ] = "",
    size: Annotated[str, Option(metavar="COLUMNSxROWS", help="Size of the picture in characters.")] = "120x40",
    light: Annotated[bool, Option("--light", help="Use a white background, not the theme of your dashboard.")] = False,
    json: Json = False,
) -> None:
    """Write a run's screen, or one panel of it, as SVG or PNG, or its records for other programs; print the paths.

    A file or an earlier export of that name is replaced.
    """
    if all(target is None for target in (svg, png, csv, tensorboard, wandb_offline, mlflow)):
        raise ConfigError(
            "No output is named.",
            "Add --svg FILE or --png FILE for a picture; --csv FILE, --tensorboard DIR, --wandb-offline DIR or "
            "--mlflow DIR for the records.",
        )
    columns, rows = _cells(size)
    node, run_id = find_run.locate(name, print_status, all_users=True)
    fleet = Fleet(nodes=(watch.observe_once(node, [run_id]),))
    run = fleet.run(run_id)
    if run is None:
        raise ConfigError(f"{node.name} has no run {run_id}.", "`giblet ps -a` lists every run.")
    paths: list[Path] = []
    if svg is not None or png is not None:
        theme = LIGHT_THEME.name if light else read_settings(settings_path()).theme
        picture = run_picture(fleet, run_id, columns, rows, panel=panel, theme=theme)
        if svg is not None:
            paths.append(_write(svg, svg_text(picture).encode()))
        if png is not None:
            paths.append(_write(png, png_bytes(picture)))
    if csv is not None:
        paths.append(_write(csv, csv_text(run).encode()))
    if tensorboard is not None:
        folder = tensorboard / run_id
        paths.append(_write_into(folder, {folder / event_file_name(run): event_file(run)}))
    if wandb_offline is not None:
        paths.append(_write_into(wandb_offline, wandb_files(run, wandb_offline)))
    if mlflow is not None:
        files = {path: text.encode() for path, text in mlflow_files(run, mlflow).items()}
        paths.append(_write_into(mlflow, files))
    if json:
        show_json({"schema": SCHEMA, "run_id": run_id, "paths": [str(path) for path in paths]})
    else:
        print_data("\n".join(map(str, paths)))


def _cells(size: str) -> tuple[int, int]:
    """Return columns and rows of `120x40`. Raises ConfigError."""
    match = re.fullmatch(r"(\d+)x(\d+)", size)
    if match is None or not SMALLEST <= int(match[1]) <= LARGEST or not 1 <= int(match[2]) <= LARGEST:
        raise ConfigError(f"--size {size}: columns by rows, up to {LARGEST} each.", "For example: --size 120x40")
    return int(match[1]), int(match[2])


def _write_into(folder: Path, files: Mapping[Path, bytes]) -> Path:
    """Write files below a folder, each whole; return the folder. An earlier export of the run is replaced."""
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, data)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}.", "Name another folder.") from None
    return folder


def _write(path: Path, data: bytes) -> Path:
    """Write a file whole and return its path. Raises ConfigError."""
    check_parent(path)
    try:
        replace_file(path, data)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.", "Name another file.") from None
    return path
