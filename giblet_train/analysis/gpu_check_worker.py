"""One rank of the multi-process lines of `gpu-check`: `python -m giblet_train.analysis.gpu_check_worker MODE OUT`."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from giblet_train.components.build import TrainingSetup
from giblet_train.components.train_step import TrainStep
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.data.simulation.learning_study import simulate_learning_study
from giblet_train.distributed.process_group import ProcessGroup, ranks_of
from giblet_train.schema.config import Config
from giblet_train.schema.config_loader import from_mapping
from giblet_train.schema.errors import RunFailed

N_STEPS, FAULT_STEP = 10, 3
HANG_TIMEOUT_S = 20.0


def check_config(**overrides: Any) -> Config:
    """Return the small configuration that all lines train."""
    value = {"name": "gpu-check", "threads": 1, "num_epochs": 5, "steps_per_epoch": 20, "warmup_steps": 5}
    return from_mapping({**value, **overrides}).config


def check_data() -> PreparedSplit:
    """Return the small study that all lines train on."""
    return simulate_learning_study("linear", 200, 0, n_voxels=60).data


def build_step(config: Config, ranks: ProcessGroup) -> TrainStep:
    """Build the training step."""
    return TrainingSetup.build(config, check_data(), ranks).train_step


def main(mode: str, out: Path) -> None:
    """Train a few steps as one of two ranks; rank 1 dies or hangs if the mode says so. Rank 0 writes what happened."""
    config = check_config(distributed={"world_size": int(os.environ["WORLD_SIZE"])})
    with ranks_of(config, timedelta(seconds=HANG_TIMEOUT_S)) as ranks:
        train_step, losses = build_step(config, ranks), []
        began = time.monotonic()
        try:
            for step in range(N_STEPS):
                if mode != "equal" and ranks.rank == 1 and step == FAULT_STEP:
                    _fault(mode)
                began = time.monotonic()
                losses.append(train_step.step(step, {}).loss)
        except RunFailed as error:
            out.write_text(json.dumps({"error": error.message, "after_s": time.monotonic() - began}))
            os._exit(error.exit_code)  # the process group cannot be closed without the other rank
        if ranks.is_first:
            out.write_text(json.dumps({"losses": losses, "backend": ranks.device.type}))


def _fault(mode: str) -> None:
    if mode == "kill":
        os._exit(9)
    time.sleep(20 * HANG_TIMEOUT_S)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
