"""Open a model: a published file, or a run whose study is on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from giblet_train.analysis.load_run import load_run
from giblet_train.analysis.results import output_dir
from giblet_train.portable.model_file import SUFFIX, ModelFile, read_model, write_model
from giblet_train.portable.publish import evaluated, model_card, publish
from giblet_train.portable.run_records import run_dir_of
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.progress import ProgressCallback
from giblet_train.training.load_split import load_split

BEST = "best"


def open_model(path: Path, report_progress: ProgressCallback, workdir: Path | None = None) -> ModelFile:
    """Read a published model, or make one of a run directory, with the heads of all subjects; nothing is written.

    Raises ConfigError, DataError.
    """
    path = path.expanduser()
    if not path.is_dir():
        return read_model(path)
    run = load_run(run_dir_of(path).path, BEST, load_split, report_progress, workdir)
    return publish(run, run.data.subjects)


def publish_run(
    run_dir: Path,
    role: str,
    subjects: Sequence[str],
    licence: str | None,
    out: Path,
    report_progress: ProgressCallback,
    workdir: Path | None = None,
) -> tuple[Path, ModelFile]:
    """Publish a run; return the file and the model.

    Args:
        out: the file if it ends with `.giblet`, otherwise a new folder for the file, and its card as text and JSON.
    """
    out = out.expanduser()
    if out.suffix == SUFFIX and out.is_dir():
        raise ConfigError(f"{out} is a folder.", "Name a file.")
    with output_dir(None if out.suffix == SUFFIX else out) as folder:
        run = load_run(run_dir, role, load_split, report_progress, workdir)
        report_progress("evaluating the weights on the test block", 0.5)
        model = publish(run, subjects, licence, evaluated(run))
        path = out if folder is None else folder / f"{model.header.card.run_id}{SUFFIX}"
        write_model(model, path)
        if folder is not None:
            (folder / "publish.json").write_bytes(msgspec.json.format(msgspec.json.encode(card_facts(model))) + b"\n")
            (folder / "publish.txt").write_text("\n".join(model_card(model)) + "\n", encoding="utf-8")
    return path, model


def card_facts(model: ModelFile) -> dict[str, Any]:
    """Return everything in the file but its arrays, and the shape of each array."""
    shapes = {name: list(array.shape) for name, array in sorted(model.arrays.items())}
    facts: dict[str, Any] = msgspec.to_builtins(model.header)
    return facts | {"arrays": shapes}
