"""Faults made on purpose, each really happening in a run that is otherwise real: what `giblet demo FAULT` trains.

A fault of the data changes the split as it is loaded; one of the engine is armed once training is put together. When it
begins an event `drill` says so, and nothing else of the run's records is touched.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from giblet_train.components import train_step
from giblet_train.components.batches import Batch, WindowSampler
from giblet_train.components.optim import set_rate
from giblet_train.data.preprocessing.component_stats import feature_stats
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.diagnosis.fault_catalog import EVENT, FAULTS, Fault
from giblet_train.distributed.process_group import ProcessGroup
from giblet_train.schema.config import Config
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.schedule import lr_at
from giblet_train.training import checkpoint_files
from giblet_train.training.process import DataLoaderFn, Progress, train_with_error_file
from giblet_train.training.trainer import Trainer

LATE_S, LATE_SUM_S = 0.2, 0.5
SCENE_S = 30.0
LATE_TRS = 6
SPARE_BYTES = 64 * 2**20
UNIT = 6.0
GROWTH = 1.05

Arm = Callable[[Trainer, Fault], None]
Change = Callable[[PreparedSplit], PreparedSplit]


def train_with_fault(name: str, path: Path, load: DataLoaderFn) -> int:
    """`trainer.train_recorded` with one of the faults. Raises ConfigError for a name there is not."""
    if name not in FAULTS:
        raise ConfigError(f"There is no drill {name!r}.", f"Drills: {', '.join(FAULTS)}.")
    drill, change = FAULTS[name], DATA_FAULTS.get(name)

    def loaded(config: Config, workdir: Path, progress: Progress) -> PreparedSplit:
        data = load(config, workdir, progress)
        return change(data) if change else data

    def arm(training: Trainer) -> None:
        if name in ENGINE_FAULTS:
            ENGINE_FAULTS[name](training, drill)
        if drill.step:
            _at_step(training, drill.step, lambda: _announce(training, drill))
        else:  # it is there before the first step, and may be named before it
            _announce(training, drill)

    return train_with_error_file(path, loaded, arm)


def _patch(owner: object, name: str, value: object) -> None:
    """Put something in the place of a part of the engine."""
    setattr(owner, name, value)


def _announce(training: Trainer, drill: Fault) -> None:
    """The mark in the records that delays are counted from."""
    training.recorder.log_event(EVENT, "info", f"Drill: {drill.says}.", step=drill.step, drill=drill.name)


def _at_step(training: Trainer, step: int, act: Callable[[], object]) -> None:
    """Do something right before a step is taken, and before all that was armed for it earlier."""
    take = training.learner.step

    def taken(now: int, wishes: Any) -> Any:
        if now == step:
            act()
        return take(now, wishes)

    _patch(training.learner, "step", taken)


def _after_steps(training: Trainer, first: int, act: Callable[[], None]) -> None:
    """Do something after every step from `first` on."""
    take = training.learner.step

    def taken(now: int, wishes: Any) -> Any:
        stepped = take(now, wishes)
        if now >= first:
            act()
        return stepped

    _patch(training.learner, "step", taken)


def _lr(training: Trainer, drill: Fault) -> None:
    plan, standing = training.plan, training.standing

    def once_per_epoch(optimizer: torch.optim.Optimizer, rate: float) -> None:
        set_rate(optimizer, lr_at(standing.step // plan.steps_per_epoch, plan))

    _patch(train_step, "set_rate", once_per_epoch)


def _plateau(training: Trainer, drill: Fault) -> None:
    kept: dict[str, Tensor] = {}
    model = training.learner.model
    _at_step(training, drill.step, lambda: kept.update({n: t.clone() for n, t in model.state_dict().items()}))
    _after_steps(training, drill.step, lambda: model.load_state_dict(kept) and None)


@torch.no_grad()
def _grow(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.mul_(GROWTH)


def _diverging(training: Trainer, drill: Fault) -> None:
    _after_steps(training, drill.step, lambda: _grow(training.learner.model))


def _nan(training: Trainer, drill: Fault) -> None:
    targets = training.learner.objective.targets
    spoilt = {**targets.features, "audio": torch.full_like(targets.features["audio"], torch.nan)}
    _at_step(
        training, drill.step, lambda: _patch(training.learner.objective, "targets", replace(targets, features=spoilt))
    )


def _frozen(training: Trainer, drill: Fault) -> None:
    def detach() -> None:
        for parameter in training.learner.trained.parameters():
            parameter.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]

    _at_step(training, drill.step, detach)


@torch.no_grad()
def _in_eight_bits(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.copy_(parameter.to(torch.float8_e4m3fn).to(parameter.dtype))


def _rounding(training: Trainer, drill: Fault) -> None:
    model, optimizer = training.learner.model, training.learner.optimizer
    take = optimizer.step

    def step_and_round() -> None:
        take()
        _in_eight_bits(model)

    for each in (model, training.learner.average.model):
        _in_eight_bits(each)
    _patch(optimizer, "step", step_and_round)


def _batchnorm(training: Trainer, drill: Fault) -> None:
    _at_step(training, drill.step, lambda: nn.BatchNorm1d(4)(torch.zeros(1, 4)))


def _oom(training: Trainer, drill: Fault) -> None:
    def allocate() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        np.zeros(64 * SPARE_BYTES, np.uint8)

    _at_step(training, drill.step, allocate)


def _gpu_oom(training: Trainer, drill: Fault) -> None:
    def allocate() -> None:
        if training.ranks.device.type == "cuda":
            torch.empty(2**43, dtype=torch.uint8, device=training.ranks.device)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8192.00 GiB (a drill without a GPU).")

    _at_step(training, drill.step, allocate)


def _disk(training: Trainer, drill: Fault) -> None:
    def write(series: Any, path: Any, metadata: Any) -> None:
        with open("/dev/full", "wb", buffering=0) as device:
            device.write(b"\0")

    _at_step(training, drill.step, lambda: _patch(checkpoint_files, "save_file", write))


def _crash(training: Trainer, drill: Fault) -> None:
    _at_step(training, drill.step, lambda: {}["sub-04"])  # type: ignore[index]


def _stall(training: Trainer, drill: Fault) -> None:
    _at_step(training, drill.step, lambda: time.sleep(86_400))


class _LateWindows:
    """Windows that come late."""

    def __init__(self, windows: WindowSampler) -> None:
        self._windows = windows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._windows, name)

    def draw(self, seed: int, step: int, n_windows: int) -> Batch:
        time.sleep(LATE_S)
        return self._windows.sample(seed, step, n_windows)


class _LateRanks(ProcessGroup):
    """Ranks whose sum takes longer."""

    def all_reduce_sum(self, vector: Tensor) -> Tensor:
        time.sleep(LATE_SUM_S)
        return super().all_reduce_sum(vector)


def _loader(training: Trainer, drill: Fault) -> None:
    _patch(training.learner, "windows", _LateWindows(training.learner.windows))


def _straggler(training: Trainer, drill: Fault) -> None:
    if training.ranks.rank == 1:
        _loader(training, drill)


def _communication(training: Trainer, drill: Fault) -> None:
    ranks = training.learner.ranks
    training.learner.ranks = _LateRanks(ranks.rank, ranks.world_size, ranks.device)


def _codes(data: PreparedSplit) -> PreparedSplit:
    """Audio as codes: as many whole numbers from 0 to 1023 as EnCodec has books at 3 kbps, times two."""
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


def _units(data: PreparedSplit) -> PreparedSplit:
    """Video in a unit of which its standard deviation holds six."""
    fact = data.facts["video"]
    scaled = msgspec.structs.replace(fact, sd=UNIT * (fact.sd or 1.0), train_variance=UNIT**2)
    video_TF = UNIT * data.targets["video"]
    return replace(data, targets={**data.targets, "video": video_TF}, facts={**data.facts, "video": scaled})


def _leak(data: PreparedSplit) -> PreparedSplit:
    return replace(data, split=replace(data.split, validation_blocks=data.split.train_blocks))


def _mean(data: PreparedSplit) -> PreparedSplit:
    """What the network sees in another order than film and brain, over the training TRs."""
    order = np.arange(data.split.n_trs)
    order[data.split.train] = np.random.default_rng(1).permutation(data.split.train)
    return replace(data, inputs={modality: x_TF[order] for modality, x_TF in data.inputs.items()})


def _film(data: PreparedSplit) -> PreparedSplit:
    """Another cut of the film: the same scenes of half a minute at other times."""
    scenes = np.array_split(np.arange(data.split.n_trs), round(data.split.n_trs * data.study.tr_s / SCENE_S))
    order = np.concatenate([scenes[n] for n in np.random.default_rng(0).permutation(len(scenes))])
    inputs, targets = ({m: x_TF[order] for m, x_TF in film.items()} for film in (data.inputs, data.targets))
    return replace(data, inputs=inputs, targets=targets)


def _noise(data: PreparedSplit) -> PreparedSplit:
    """Scans that hold no response: noise, which no two voxels or subjects share."""
    rng = np.random.default_rng(0)
    return replace(data, bold={s: rng.standard_normal(data.bold[s].shape, np.float32) for s in data.subjects})


def _subject(data: PreparedSplit) -> PreparedSplit:
    """The first subject's volumes come late."""
    bold = {subject: data.bold[subject] for subject in data.subjects}
    first = data.subjects[0]
    return replace(data, bold={**bold, first: np.roll(bold[first], LATE_TRS, axis=0)})


ENGINE_FAULTS: dict[str, Arm] = {
    "lr": _lr,
    "plateau": _plateau,
    "diverging": _diverging,
    "nan": _nan,
    "frozen": _frozen,
    "rounding": _rounding,
    "batchnorm": _batchnorm,
    "oom": _oom,
    "gpu-oom": _gpu_oom,
    "disk": _disk,
    "crash": _crash,
    "stall": _stall,
    "loader": _loader,
    "straggler": _straggler,
    "communication": _communication,
}
DATA_FAULTS: dict[str, Change] = {
    "codes": _codes,
    "units": _units,
    "leak": _leak,
    "mean": _mean,
    "film": _film,
    "noise": _noise,
    "subject": _subject,
}
