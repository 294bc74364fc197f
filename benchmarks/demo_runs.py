"""Runs of the demo's configuration for benchmarks: trained once in a working directory, found again after that."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from giblet_train.schema.config import content_hash, dump
from giblet_train.schema.config_loader import load
from giblet_train.schema.run_dir import RunDir
from giblet_train.training import checkpoint_files
from giblet_train.training.load_split import load_split
from giblet_train.training.process import train

CONFIG = Path(__file__).parents[1] / "configs" / "demo.yaml"


def demo_run(workdir: Path, changes: Mapping[str, Any], config: Path = CONFIG) -> Path:
    """Return the run directory of this configuration, changed so; its training is talked of on stderr."""
    full_config = load(config, changes).config
    run_dir = RunDir(workdir / "runs" / f"{full_config.name}-{content_hash(full_config)}")
    run_dir.path.mkdir(parents=True, exist_ok=True)
    run_dir.config.write_text(dump(full_config))
    if (
        checkpoint_files.newest(run_dir.checkpoints, "best") is None
        or '"evaluation"' not in run_dir.metrics.read_text()
    ):
        with contextlib.redirect_stdout(sys.stderr):
            train(run_dir.path, load_split)
    return run_dir.path


def report_progress(sentence: str, fraction: float = 0.0) -> None:
    """Talk on stderr."""
    print(sentence, file=sys.stderr, flush=True)
