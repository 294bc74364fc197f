"""Load a trained run: its checkpoint, data split and evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from giblet_train.components.build import TrainingSetup
from giblet_train.components.refit import refit
from giblet_train.components.train_step import require_same_start, with_prefix
from giblet_train.data.preprocessing.parcels import (
    Parcel,
    parcel_of_mask,
    parcels_of_atlas,
    parcels_of_split,
    select_parcels,
)
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.data.readers.study_files import study_dir
from giblet_train.data.store.prepare import workdir_of
from giblet_train.data.store.store import study_folder
from giblet_train.distributed.process_group import ProcessGroup, device_of, set_threads
from giblet_train.evaluation.evaluator import Evaluator
from giblet_train.model.network import Network
from giblet_train.schema.config import Config, DataConfig
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.progress import ProgressCallback
from giblet_train.schema.records import CheckpointRecord
from giblet_train.schema.run_dir import RunDir
from giblet_train.training import checkpoint_files
from giblet_train.training.process import DataLoaderFn


@dataclass(frozen=True)
class LoadedRun:
    """A run loaded from a checkpoint. workdir: the folder of its study. model: the weights to evaluate."""

    run_dir: RunDir
    workdir: Path
    config: Config
    record: CheckpointRecord
    data: PreparedSplit
    setup: TrainingSetup
    model: Network
    evaluator: Evaluator

    def parcels(self, names: Sequence[str], atlas: Path | None, mask: Path | None) -> tuple[Parcel, ...]:
        """Return the named parcels of an atlas, and a mask's voxels. Raises ConfigError, DataError."""
        available = self.regions() if atlas is None else parcels_of_atlas(atlas, self.data)
        masked = () if mask is None else (parcel_of_mask(mask, self.data),)
        if not available and not masked:
            raise ConfigError(
                "This study has no atlas, so no region has a name.", "Give one as --atlas, or voxels as --mask."
            )
        return (*select_parcels(available, names), *masked) if names or not masked else masked

    def regions(self) -> tuple[Parcel, ...]:
        """Return the parcels of the study's atlas; none without data.atlas."""
        return parcels_of_split(self.data, self._study())

    def credit(self) -> str:
        """Return the credit that the licence of a demo's film asks for; for other studies the names of the files."""
        try:
            facts = msgspec.json.decode((self._study() / "study.json").read_bytes())
            return str(facts["film"]["credit"])
        except (OSError, msgspec.MsgspecError, KeyError, TypeError):
            files = stimulus_files(self.config.data)
            return f"Stimuli: {', '.join(files)}, of this study." if files else "The stimuli are feature files."

    def _study(self) -> Path:
        return study_folder(self.config, study_dir(self.config, self.workdir), self.workdir, lambda *_: None)[0]


def stimulus_files(data: DataConfig) -> list[str]:
    """Return the files of films and sounds that the configuration names; more than three as a count."""
    if data.runs is None:
        files = [file for file in (data.video or data.audio,) if file is not None]
    else:
        files = list(dict.fromkeys(file for s in data.stimuli.values() if (file := s.video or s.audio) is not None))
    return files if len(files) <= 3 else [f"{len(files)} files"]


def load_run(
    path: Path, role: str, load: DataLoaderFn, report_progress: ProgressCallback, workdir: Path | None = None
) -> LoadedRun:
    """Load the run in directory `path`, or a pulled copy, at its newest checkpoint of `role`; nothing is written.

    The initialisation of the best weights of a run that has ended is fitted again on training and validation TRs, as
    the run did. Uses a GPU if torch sees one, unless the run's configuration says cpu. Raises ConfigError if there is
    no such checkpoint, and DataError if the study has changed.

    workdir: folder of the study and its stores, as in `prepare.workdir_of`.
    """
    run_dir = RunDir(path.resolve())
    config = run_dir.read_config()
    record = checkpoint_files.newest(run_dir.checkpoints, role)
    if record is None:
        remedy = f"It is written with the first saved epoch; for a pulled run: giblet pull RUN --{role}"
        raise ConfigError(f"{run_dir.path} has no {role} checkpoint.", remedy)
    checkpoint = checkpoint_files.read(run_dir.checkpoints, record)
    where = workdir_of(run_dir, workdir)
    set_threads(config, 1)
    alone = msgspec.structs.replace(
        config,
        batch_size=max(config.batch_size, config.accumulate_steps),
        device="cpu" if config.device == "cpu" else "auto",
    )
    data = load(config, where, report_progress)
    if data.study.key != record.store_key:
        raise DataError(
            f"The checkpoint was trained on store {record.store_key}, the data here are store {data.study.key}.",
            "Evaluate it where its study is unchanged, with the version of giblet that trained it.",
        )
    device = device_of(alone, 0)
    report_progress(f"{record.file} (step {record.step}, epoch {record.epoch}), on {_named(device)}", 0.0)
    setup = TrainingSetup.build(alone, data, ProcessGroup(0, 1, device))
    model = setup.train_step.average.model
    prefix = "best." if role == checkpoint_files.BEST else "average."
    require_same_start(model, with_prefix("model.", checkpoint.tensors))
    try:
        model.load_state_dict(with_prefix("model.", checkpoint.tensors) | with_prefix(prefix, checkpoint.tensors))
    except RuntimeError:
        # The initialisation determines feature spaces and columns of the network; another version computes another one.
        raise DataError(
            f"{record.file} has other tensors than the network that this version of giblet makes of its configuration.",
            "Evaluate it with the version of giblet that trained it: giblet_version in run.json.",
        ) from None
    model.share = checkpoint.state["best_share" if role == checkpoint_files.BEST else "last_share"]
    if role == checkpoint_files.BEST and record.refit_trs is not None:  # None: not refitted
        setup = refit(setup, data, lambda sentence: report_progress(sentence, 0.2))
        model = setup.train_step.average.model
    return LoadedRun(run_dir, where, config, record, data, setup, model, Evaluator.of(setup, data))


def _named(device: torch.device) -> str:
    return "the CPU" if device.type == "cpu" else torch.cuda.get_device_name(device)
