"""Inject the faults of `giblet demo FAULT` into an otherwise normal run.

A data fault changes the split as it is loaded; an engine fault is a TrainerHook. An event `drill` marks in the records
where the fault begins.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from giblet_train.data.preprocessing.component_stats import feature_stats
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.diagnosis.fault_catalog import EVENT, FAULTS, Fault
from giblet_train.schema.config import Config
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.progress import ProgressCallback
from giblet_train.schema.schedule import lr_at
from giblet_train.training.hooks import TrainerHook
from giblet_train.training.process import DataLoaderFn, train_with_error_file

if TYPE_CHECKING:
    from giblet_train.components.train_step import StepResult
    from giblet_train.training.trainer import Trainer

LATE_S, LATE_SUM_S = 0.2, 0.5
SCENE_S = 30.0
LATE_TRS = 6
SPARE_BYTES = 64 * 2**20
UNIT = 6.0
GROWTH = 1.05

DataFault = Callable[[PreparedSplit], PreparedSplit]


def train_with_fault(name: str, path: Path, load: DataLoaderFn) -> int:
    """Run `train_with_error_file` with one of the faults. Raises ConfigError if there is no fault of this name."""
    if name not in FAULTS:
        raise ConfigError(f"There is no drill {name!r}.", f"Drills: {', '.join(FAULTS)}.")
    change = DATA_FAULTS.get(name)

    def load_changed(config: Config, workdir: Path, progress: ProgressCallback) -> PreparedSplit:
        data = load(config, workdir, progress)
        return change(data) if change else data

    return train_with_error_file(path, load_changed, ENGINE_FAULTS.get(name, EngineFault)(FAULTS[name]))


class EngineFault(TrainerHook):
    """A fault that begins at `fault.step`, announced in the records."""

    trainer: Trainer

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def on_start(self, trainer: Trainer) -> None:
        """Announce a fault that is present from the beginning."""
        self.trainer = trainer
        if not self.fault.step:
            self._announce()

    def before_step(self, step: int) -> None:
        """Announce and begin the fault at its step."""
        if step == self.fault.step:
            if step:
                self._announce()
            self.begin()

    def begin(self) -> None:
        """Begin the fault, right before its step."""

    def _announce(self) -> None:
        fault = self.fault
        self.trainer.logger.log_event(EVENT, "info", f"Drill: {fault.says}.", step=fault.step, drill=fault.name)

    @property
    def _model(self) -> nn.Module:
        return self.trainer.train_step.model


class LearningRatePerEpoch(EngineFault):
    """Move the schedule once per epoch instead of once per step."""

    def learning_rate(self, step: int, planned: float) -> float:
        """Return the rate of the epoch's number instead of the step's."""
        plan = self.trainer.plan
        return lr_at(step // plan.steps_per_epoch, plan)


class Plateau(EngineFault):
    """Restore the weights after every step."""

    def begin(self) -> None:
        """Save the weights."""
        self._weights: dict[str, Tensor] = {n: t.clone() for n, t in self._model.state_dict().items()}

    def after_step(self, step: int, result: StepResult) -> None:
        """Restore the weights."""
        if step >= self.fault.step:
            self._model.load_state_dict(self._weights)


class Diverging(EngineFault):
    """Enlarge all weights after every step."""

    @torch.no_grad()
    def after_step(self, step: int, result: StepResult) -> None:
        """Multiply the weights by GROWTH."""
        if step >= self.fault.step:
            for parameter in self._model.parameters():
                parameter.mul_(GROWTH)


class NanTargets(EngineFault):
    """Replace the audio targets by NaN."""

    def begin(self) -> None:
        """Replace the targets."""
        objective = self.trainer.train_step.objective
        audio_TF = torch.full_like(objective.targets.features["audio"], torch.nan)
        objective.targets = replace(objective.targets, features={**objective.targets.features, "audio": audio_TF})


class FrozenParameters(EngineFault):
    """Set every gradient to zero."""

    def begin(self) -> None:
        """Register the hooks that zero the gradients."""
        for parameter in self.trainer.train_step.trained.parameters():
            parameter.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]


class Rounding(EngineFault):
    """Keep the weights in 8 bits."""

    def on_start(self, trainer: Trainer) -> None:
        """Round the initial weights and their average."""
        super().on_start(trainer)
        for model in (trainer.train_step.model, trainer.train_step.average.model):
            _round_to_8_bits(model)

    def after_optimizer(self, step: int) -> None:
        """Round the weights."""
        _round_to_8_bits(self._model)


class TinyBatchNorm(EngineFault):
    """Normalise one row over its batch."""

    def begin(self) -> None:
        """Raise torch's own error."""
        nn.BatchNorm1d(4)(torch.zeros(1, 4))


class HostOutOfMemory(EngineFault):
    """Allocate more memory than the process may use."""

    def begin(self) -> None:
        """Lower the limit and allocate."""
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        np.zeros(64 * SPARE_BYTES, np.uint8)


class GpuOutOfMemory(EngineFault):
    """Allocate more memory than any GPU has; without a GPU, raise torch's error."""

    def begin(self) -> None:
        """Allocate, or raise."""
        device = self.trainer.ranks.device
        if device.type == "cuda":
            torch.empty(2**43, dtype=torch.uint8, device=device)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8192.00 GiB (a drill without a GPU).")


class FullDisk(EngineFault):
    """Write checkpoints to a device that is full."""

    def before_save(self, step: int) -> None:
        """Raise the OSError of a full disk."""
        if step >= self.fault.step:
            with open("/dev/full", "wb", buffering=0) as device:
                device.write(b"\0")


class Crash(EngineFault):
    """Raise an unexpected exception."""

    def begin(self) -> None:
        """Raise KeyError."""
        raise KeyError("sub-04")


class Stall(EngineFault):
    """Block a step."""

    def begin(self) -> None:
        """Sleep for a day."""
        time.sleep(86_400)


class SlowLoader(EngineFault):
    """Delay every batch."""

    def before_sampling(self, step: int) -> None:
        """Wait for the batch."""
        time.sleep(LATE_S)


class Straggler(SlowLoader):
    """Delay every batch of rank 1."""

    def before_sampling(self, step: int) -> None:
        """Wait on rank 1 only."""
        if self.trainer.ranks.rank == 1:
            super().before_sampling(step)


class SlowAllReduce(EngineFault):
    """Delay every sum over ranks."""

    def before_all_reduce(self, step: int) -> None:
        """Wait before the sum."""
        time.sleep(LATE_SUM_S)


@torch.no_grad()
def _round_to_8_bits(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.copy_(parameter.to(torch.float8_e4m3fn).to(parameter.dtype))


def codes(data: PreparedSplit) -> PreparedSplit:
    """Replace the audio targets by codes from 0 to 1023: EnCodec's 4 books at 3 kbps, two frames per TR."""
    codes_TF = np.random.default_rng(0).integers(0, 1024, (data.split.n_trs, 8)).astype(np.float32)
    ones_F = np.ones(8, np.float32)
    train = data.split.train
    return replace(
        data,
        targets={**data.targets, "audio": codes_TF},
        target_weights={**data.target_weights, "audio": ones_F},
        feature_mean={**data.feature_mean, "audio": 0 * ones_F},
        feature_sd={**data.feature_sd, "audio": ones_F},
        facts={**data.facts, "audio": feature_stats(codes_TF[train], codes_TF[train], ones_F)},
    )


def units(data: PreparedSplit) -> PreparedSplit:
    """Scale the video targets to a standard deviation of six."""
    fact = data.facts["video"]
    scaled = msgspec.structs.replace(fact, sd=UNIT * (fact.sd or 1.0), train_variance=UNIT**2)
    video_TF = UNIT * data.targets["video"]
    return replace(data, targets={**data.targets, "video": video_TF}, facts={**data.facts, "video": scaled})


def leak(data: PreparedSplit) -> PreparedSplit:
    """Validate on the training TRs."""
    return replace(data, split=replace(data.split, validation_blocks=data.split.train_blocks))


def shuffled_inputs(data: PreparedSplit) -> PreparedSplit:
    """Shuffle the inputs over the training TRs, but neither the film targets nor the responses."""
    order = np.arange(data.split.n_trs)
    order[data.split.train] = np.random.default_rng(1).permutation(data.split.train)
    return replace(data, inputs={modality: x_TF[order] for modality, x_TF in data.inputs.items()})


def other_film(data: PreparedSplit) -> PreparedSplit:
    """Shuffle the film's half-minute scenes, as in another cut."""
    scenes = np.array_split(np.arange(data.split.n_trs), round(data.split.n_trs * data.study.tr_s / SCENE_S))
    order = np.concatenate([scenes[n] for n in np.random.default_rng(0).permutation(len(scenes))])
    inputs, targets = ({m: x_TF[order] for m, x_TF in film.items()} for film in (data.inputs, data.targets))
    return replace(data, inputs=inputs, targets=targets)


def noise(data: PreparedSplit) -> PreparedSplit:
    """Replace the responses by white noise."""
    rng = np.random.default_rng(0)
    return replace(data, bold={s: rng.standard_normal(data.bold[s].shape, np.float32) for s in data.subjects})


def late_subject(data: PreparedSplit) -> PreparedSplit:
    """Delay the first subject's volumes."""
    bold = {subject: data.bold[subject] for subject in data.subjects}
    first = data.subjects[0]
    return replace(data, bold={**bold, first: np.roll(bold[first], LATE_TRS, axis=0)})


ENGINE_FAULTS: dict[str, type[EngineFault]] = {
    "lr": LearningRatePerEpoch,
    "plateau": Plateau,
    "diverging": Diverging,
    "nan": NanTargets,
    "frozen": FrozenParameters,
    "rounding": Rounding,
    "batchnorm": TinyBatchNorm,
    "oom": HostOutOfMemory,
    "gpu-oom": GpuOutOfMemory,
    "disk": FullDisk,
    "crash": Crash,
    "stall": Stall,
    "loader": SlowLoader,
    "straggler": Straggler,
    "communication": SlowAllReduce,
}
DATA_FAULTS: dict[str, DataFault] = {
    "codes": codes,
    "units": units,
    "leak": leak,
    "mean": shuffled_inputs,
    "film": other_film,
    "noise": noise,
    "subject": late_subject,
}
