"""A run's checkpoint looked at again, on the test block of its fold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from giblet_train import checkpoint
from giblet_train.contract.errors import ConfigError, DataError
from giblet_train.contract.records import EvaluationMetric, encode
from giblet_train.contract.rundir import RunDir
from giblet_train.data.bold import write_map
from giblet_train.distributed import Ranks, device_of, set_threads
from giblet_train.evaluate import Examiner
from giblet_train.experiment import Experiment
from giblet_train.learner import under
from giblet_train.trainer import Load


def judge(
    path: Path, role: str, load: Load, narrate: Callable[[str, float], None], map_path: Path | None = None
) -> bytes:
    """An evaluation of a run's checkpoint as JSON; r of each voxel as NIfTI at `map_path`.

    Raises ConfigError, DataError.
    """
    run_dir = RunDir(path.resolve())
    config = run_dir.read_config()
    record = checkpoint.newest(run_dir.checkpoints, role)
    if record is None:
        raise ConfigError(f"{run_dir.path} has no {role} checkpoint.", "It appears with the first saved epoch.")
    saved = checkpoint.read(run_dir.checkpoints, record)
    set_threads(config, 1)
    alone = msgspec.structs.replace(config, batch_size=max(config.batch_size, config.accumulate_steps))
    data = load(config, run_dir.path.parent.parent, narrate)
    if data.study.key != record.store_key:
        raise DataError(
            f"The checkpoint was trained on store {record.store_key}, the data here are store {data.study.key}.",
            "Judge it where its study still is what it was.",
        )
    experiment = Experiment.of(alone, data, Ranks(0, 1, device_of(config, 0)))
    model = experiment.learner.average.model
    model.load_state_dict(under("average.", saved.tensors))
    examiner = Examiner.of(experiment, data)
    figures = examiner.evaluation(model, lambda: None)
    if map_path is not None:
        write_map(map_path, data.in_grid_order(examiner.r_map(model)), data.mask_XYZ, data.study.affine)
    return encode(EvaluationMetric(seq=0, step=record.step, epoch=record.epoch, at=record.at, **figures))
