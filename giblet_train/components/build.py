"""Build everything a run trains from its configuration and data split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from giblet_train.components.batches import Block, WindowSampler, windows_of
from giblet_train.components.decoder_init import LinearDecoder, fit_decoders
from giblet_train.components.head_sharding import HeadSharding
from giblet_train.components.loss_terms import LossTerms
from giblet_train.components.losses import ENCODING_LOSSES
from giblet_train.components.ridge_init import MEMORIES_S, RidgeInit, lag_priors, ridge_start
from giblet_train.components.targets import Targets, targets_of
from giblet_train.components.train_step import TrainStep
from giblet_train.components.voxel_posterior import VoxelPosterior
from giblet_train.data.preprocessing.film_alignment import alignment_of
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.data.preprocessing.splits import Split
from giblet_train.data.statistics.hrf import glover
from giblet_train.distributed.process_group import ProcessGroup
from giblet_train.model.dense import DenseModel
from giblet_train.model.linear_encoder import LinearInit
from giblet_train.model.network import BrainModel, Network, Sizes
from giblet_train.model.presets import ModelSize, shape_of
from giblet_train.model.voxel_basis import DEVIATION, VoxelBasis, compress
from giblet_train.monitoring.run_logger import RunLogger
from giblet_train.schema.config import Config
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.records import DataMetric, RunMetric
from giblet_train.schema.schedule import default_steps_per_epoch, lr_at, lr_schedule

OWN_PACE = 0.1


@dataclass(frozen=True)
class TrainingSetup:
    """All parts of a run."""

    config: Config
    shards: HeadSharding
    shape: ModelSize
    train_step: TrainStep
    compression: VoxelBasis | None
    """Basis of the local subjects, on the ranks that evaluate."""
    start_signal: Mapping[str, float] | None = None
    """Share of variance explained by the ridge initialisation, on the ranks that evaluate; None without one."""
    posterior: VoxelPosterior | None = None
    """What the ridge initialisation concludes about each voxel, on the ranks that evaluate; None without one."""
    linear_decoders: Mapping[str, LinearDecoder] = field(default_factory=dict)
    """Modality -> ridge from the latents of the initialisation, from which its decoder starts; no entry for codes."""
    refit_trs: int = 0
    """Training and validation TRs on which the ridge initialisation was fitted again; 0 if it was not (`refit`)."""

    @classmethod
    def build(
        cls,
        config: Config,
        data: PreparedSplit,
        ranks: ProcessGroup,
        report: Callable[[str], None] = lambda sentence: None,
    ) -> TrainingSetup:
        """Build all parts. report: receives progress. Raises ConfigError if configuration and data are inconsistent."""
        _check_data(data)
        resolved_config = _with_compression(config, data)
        shape = shape_of(config.model, data.study.tr_s, len(data.split.train))
        _check_sizes(config, shape, len(data.split.train), ranks)
        shards = HeadSharding.of(resolved_config, data.subjects, ranks)
        compression, targets, start, signal, posterior = None, None, None, None, None
        # One thread gives the same bits on any machine: a resumed run must rebuild the basis of its saved heads.
        with threadpool_limits(config.threads or 1):
            if shards.evaluates:
                assert resolved_config.model.compress != "auto"
                compression = compress(
                    resolved_config.model.compress, data.bold, data.split.train, shards.local_subjects
                )
                if config.model.start == "ridge":
                    ridge = fit_ridge_init(config, data, shape, shards, report)
                    compression, heads_KR = compression.extended_by(ridge.group_KV, ridge.own)
                    start, signal = LinearInit(ridge.path, torch.from_numpy(heads_KR), ridge.expansion), ridge.signal
                    posterior = ridge.posterior
                targets = targets_of(data, compression, shards)
        if not shards.sharded:
            # Eigenvectors may differ between processors, so all ranks use rank 0's basis.
            targets, start = ranks.broadcast((targets, start))
        assert targets is not None
        targets = targets.to(ranks.device)
        windows = windows_in(data, config, shape, data.split.train_blocks)
        validation_windows = windows_in(data, config, shape, data.split.validation_blocks)
        _check_window_length(config, windows, shape)
        per_step = config.batch_size * windows.scored_trs
        steps = config.steps_per_epoch or default_steps_per_epoch(len(data.split.train), per_step)
        plan = lr_schedule(config, steps)
        model = network_of(config, shape, targets, data.study.tr_s, start).to(ranks.device)
        objective = LossTerms(targets, config)
        with threadpool_limits(config.threads or 1):
            decoders = _start_decoders(model, objective, windows, validation_windows, shards)
        train_step = TrainStep(model, objective, windows, plan, config, shards)
        return cls(config, shards, shape, train_step, compression, signal, posterior, linear_decoders=decoders)

    @property
    def n_latents(self) -> int:
        """Return the size of the bottleneck."""
        has_start = self.config.model.start == "ridge"
        return self.shape.bottleneck_dim + (self.shape.residual_dim if has_start else 0)

    @property
    def ranks(self) -> ProcessGroup:
        return self.shards.ranks

    def total_of(self, loss: Mapping[str, float]) -> float:
        """Return the total loss with the configured weights, without balancing."""
        return sum(self.train_step.base_weight[c] * value for c, value in loss.items())

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        return lr_at(step, self.train_step.plan)


def _start_decoders(
    model: Network,
    objective: LossTerms,
    windows: WindowSampler,
    validation_windows: WindowSampler,
    shards: HeadSharding,
) -> dict[str, LinearDecoder]:
    """Set the decoders of a ridge initialisation to ridge; return it. Collective over ranks, with the same result."""
    if not isinstance(model, BrainModel) or model.linear_path is None:
        return {}
    decoders = {}
    if shards.evaluates:
        train, validation = windows.sequential(), validation_windows.sequential()
        decoders = fit_decoders(model, objective, shards, train, validation)
    decoders = shards.ranks.broadcast(decoders)
    for modality, decoder in decoders.items():
        model.decoders.start_from(modality, torch.from_numpy(decoder.weight_FI), torch.from_numpy(decoder.bias_F))
    return decoders


def _with_compression(config: Config, data: PreparedSplit) -> Config:
    """Replace `compress: auto` by joint if all subjects share all TRs of the split, otherwise by per_subject.

    A joint basis mixes the subjects, so that it has no values for a TR that one of them lacks.

    Raises ConfigError for a configuration that needs subjects to share their rows.
    """
    split = data.split
    has_shared_rows = _all_have(data, split.train)
    joint = has_shared_rows and _all_have(data, np.concatenate([split.validation, split.test]))
    kind = config.model.compress
    if not joint and kind == "joint":
        raise ConfigError(
            "model.compress: joint needs subjects who share all TRs of the split; here some lack a part.",
            "Set model.compress: auto, per_subject or none.",
        )
    if not has_shared_rows and config.fmri_loss_type == "correlation":
        raise ConfigError(
            "fmri_loss_type: correlation needs subjects who share all training TRs; here some lack a part.",
            "Set fmri_loss_type: mse.",
        )
    if kind != "auto":
        return config
    return replace(config, model=replace(config.model, compress="joint" if joint else "per_subject"))


def _all_have(data: PreparedSplit, rows: NDArray[np.intp]) -> bool:
    return all(present_T[rows].all() for present_T in data.present.values())


def windows_in(data: PreparedSplit, config: Config, shape: ModelSize, blocks: tuple[Block, ...]) -> WindowSampler:
    """Return a sampler of windows over some blocks of the split."""
    scans = data.study.scan_lengths_trs
    return windows_of(blocks, scans, config.split.gap_trs, shape.context_trs, shape.window_trs)


def log_run_metadata(
    setup: TrainingSetup, data: PreparedSplit, first: Mapping[str, float], logger: RunLogger, first_step: int | None
) -> DataMetric:
    """Write the data and run records; return the data record.

    first: each component's initial loss over all training TRs, on the ranks that measured it.
    """
    train_step, plan, config = setup.train_step, setup.train_step.plan, setup.config
    split = data.split
    facts = logger.log_metric(
        DataMetric,
        store_key=data.study.key,
        subjects=data.subjects,
        n_voxels=data.n_voxels,
        tr_s=data.study.tr_s,
        n_trs=split.n_trs,
        train_trs=len(split.train),
        validation_trs=len(split.validation),
        test_trs=len(split.test),
        stimulus_offset_s=data.study.stimulus_offset_s,
        shared_trs=len(shared_trs(split)),
        components=dict(data.facts),
        alignment=alignment_of(data) if setup.ranks.is_first else None,
    )
    n_parameters = train_step.n_parameters
    logger.log_metric(
        RunMetric,
        steps_per_epoch=plan.steps_per_epoch,
        total_steps=plan.total_steps,
        warmup_steps=plan.warmup_steps,
        start_total=sum(train_step.base_weight.values()),
        first_loss=dict(first),
        world_size=setup.ranks.world_size,
        threads=torch.get_num_threads(),
        device=setup.ranks.device.type,
        n_parameters=n_parameters,
        heads="sharded" if setup.shards.sharded else "replicated",
        scored_trs_per_step=config.batch_size * train_step.windows.scored_trs,
        fir_trs=setup.shape.fir_trs,
        context_trs=setup.shape.context_trs,
        torch_version=str(torch.__version__),
        resumed_from_step=first_step,
    )
    logger.print_line(
        f"{len(data.subjects)} subjects × {data.n_voxels} voxels; TRs: {len(split.train)} train, "
        f"{len(split.validation)} validation, {len(split.test)} test; {n_parameters / 1e6:.2f} M parameters; "
        f"{config.num_epochs} epochs × {plan.steps_per_epoch} steps of {config.batch_size} windows × "
        f"{train_step.windows.scored_trs} scored TRs; warm-up {plan.warmup_steps} steps."
    )
    if config.use_mixed_precision and not train_step.model.mixed_precision:
        logger.log_event("mixed_precision", "warning", "use_mixed_precision has no effect on a CPU.")
    return facts


def shared_trs(split: Split) -> set[int]:
    """Return TRs that are both trained on and held out; none in a correct split."""
    held_out = {*split.validation.tolist(), *split.test.tolist()}
    return held_out & {*split.train.tolist()}


def _check_data(data: PreparedSplit) -> None:
    if not data.subjects:
        raise DataError("The study has no subject.", "Name at least one in data.subjects.")
    for name in ("train", "validation", "test"):
        if not len(getattr(data.split, name)):
            raise DataError(f"The split has no {name} TR.", "Use fewer folds or smaller gaps.")


def _check_sizes(config: Config, shape: ModelSize, n_train: int, ranks: ProcessGroup) -> None:
    n_least = ranks.world_size * config.accumulate_steps
    if config.batch_size < n_least:
        raise ConfigError(
            f"batch_size {config.batch_size} cannot be shared by {ranks.world_size} rank(s) × "
            f"{config.accumulate_steps} accumulated passes.",
            f"Use at least {n_least} windows per step.",
        )
    if config.batch_size > n_train:
        raise ConfigError(
            f"batch_size {config.batch_size} is more windows than the {n_train} training TRs can begin.",
            f"Use at most {n_train}; batch_size counts windows per step, over all ranks.",
        )
    if shape.fir_trs > n_train:
        raise ConfigError(
            f"model.fir_trs {shape.fir_trs} is longer than all {n_train} training TRs.",
            "Shorten it; null, the default, is 40 s.",
        )


def _check_window_length(config: Config, windows: WindowSampler, shape: ModelSize) -> None:
    fewest_trs = ENCODING_LOSSES[config.fmri_loss_type].fewest_trs
    if windows.scored_trs < fewest_trs:
        raise ConfigError(
            f"fmri_loss_type {config.fmri_loss_type} compares responses within a window, and a window here has "
            f"{windows.scored_trs} scored TR(s).",
            f"Lengthen model.window_trs to at least {shape.context_trs + fewest_trs}, or use mse.",
        )


def fit_ridge_init(
    config: Config, data: PreparedSplit, shape: ModelSize, shards: HeadSharding, report: Callable[[str], None]
) -> RidgeInit:
    """Fit the ridge initialisation on the training TRs of the split."""
    tr_s = data.study.tr_s
    response_L = response_kernel(config, tr_s, shape.fir_trs).double().numpy()
    return ridge_start(
        data,
        windows_in(data, config, shape, data.split.train_blocks).sequential(),
        lag_priors(response_L, tr_s, config.data.apply_hrf),
        shape.bottleneck_dim,
        config.model.start_near,
        shards,
        report,
        nonlinear=config.model.start_nonlinear,
        seed=config.seed,
    )


def network_of(config: Config, shape: ModelSize, targets: Targets, tr_s: float, start: LinearInit | None) -> Network:
    """Return the network of a configuration with its initial weights."""
    torch.manual_seed(config.seed)
    sizes = Sizes(
        {m: x.shape[1] for m, x in targets.inputs.items()},
        {m: x.shape[1] for m, x in targets.features.items()},
        targets.all_parts,
        targets.n_responses,
        tuple(targets.parts),
    )
    if config.model.kind == "dense":
        return DenseModel(shape, sizes, config.model.head_width, config.model.dropout)
    return BrainModel(
        shape,
        sizes,
        initial_kernels(config, tr_s, shape.fir_trs),
        _score_scale(targets),
        dropout=config.model.dropout,
        modality_dropout=config.model.modality_dropout,
        start=start,
        zero_heads=not ENCODING_LOSSES[config.fmri_loss_type].flat_at_zero,
        mixed_precision=config.use_mixed_precision and targets.scores_TR.device.type == "cuda",
    )


def _score_scale(targets: Targets) -> Tensor:
    """Return the size of each score (R,); individual deviations are learnt more slowly than the group part."""
    pace = torch.tensor([OWN_PACE if part == DEVIATION else 1.0 for part in targets.parts])
    return targets.score_rms_R * pace.repeat_interleave(torch.tensor(list(targets.parts.values()), dtype=torch.long))


def initial_kernels(config: Config, tr_s: float, n_trs: int) -> Tensor:
    """Return the response kernel for each memory of the ridge start (M, n_trs), each of area 1."""
    kernel_L = response_kernel(config, tr_s, n_trs)
    if config.data.apply_hrf:
        return kernel_L[None]
    lag_s = torch.arange(n_trs) * tr_s
    kernels = [kernel_L]
    for memory_s in MEMORIES_S[1:]:
        decay_L = torch.exp(-lag_s / memory_s)
        longer_L = torch.stack([(kernel_L[: lag + 1].flip(0) * decay_L[: lag + 1]).sum() for lag in range(n_trs)])
        kernels.append(longer_L / longer_L.sum())
    return torch.stack(kernels)


def response_kernel(config: Config, tr_s: float, n_trs: int) -> Tensor:
    """Return a kernel (n_trs,) of area 1: Glover's HRF, or no delay if the features were convolved beforehand."""
    kernel_L = torch.zeros(n_trs)
    if config.data.apply_hrf:
        kernel_L[0] = 1.0
        return kernel_L
    response = torch.from_numpy(glover(tr_s)).float()[:n_trs]
    kernel_L[: len(response)] = response
    return kernel_L / kernel_L.sum()
