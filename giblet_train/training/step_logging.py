"""Record steps and epochs in metrics.jsonl and print epoch lines."""

from __future__ import annotations

import torch

from giblet_train.components.build import TrainingSetup
from giblet_train.components.train_step import StepResult
from giblet_train.evaluation.evaluator import Validation
from giblet_train.monitoring.run_logger import RunLogger, resident_gib
from giblet_train.schema.records import EpochMetric, Number, SplitLoss, StepMetric
from giblet_train.training.train_state import TrainState


def log_step(setup: TrainingSetup, logger: RunLogger, step_result: StepResult) -> float:
    """Record a step; return its total loss."""
    weighted_losses = {c: step_result.weight[c] * value for c, value in step_result.loss.items()}
    all_weighted = sum(weighted_losses.values())
    total = setup.total_of(step_result.loss)
    logger.log_metric(
        StepMetric,
        lr=step_result.lr,
        total=total,
        loss=step_result.loss,
        weight=step_result.weight,
        share={c: value / all_weighted if all_weighted else 0.0 for c, value in weighted_losses.items()},
        gradient_share=step_result.gradient_share,
        gradient_norm=step_result.gradient_norm,
        clipped=step_result.clipped,
        step_s=step_result.seconds,
        times=step_result.times,
        rss_gib=resident_gib(),
        gpu_gib=torch.cuda.max_memory_allocated() / 2**30 if setup.ranks.device.type == "cuda" else None,
        slowest_rank=step_result.slowest_rank,
    )
    logger.heartbeat("training", step_s=step_result.seconds)
    return total


def warn_unused_parameters(setup: TrainingSetup, logger: RunLogger) -> None:
    """Warn of parameters without a gradient on any rank."""
    names_by_rank = setup.ranks.all_gather(setup.train_step.unused_parameters)
    idle = list(dict.fromkeys(name for names in names_by_rank for name in names))
    if idle:
        logger.log_event("idle_parameters", "warning", f"No gradient reaches {', '.join(idle)}.")


def log_epoch(
    setup: TrainingSetup,
    logger: RunLogger,
    state: TrainState,
    validation: Validation | None,
    *,
    epoch: int,
    best: bool,
) -> None:
    """Record an epoch that has just ended, and print its line in the format of the lab's logs."""
    sums, n_steps = state.epoch_sums, state.epoch_steps
    total = sums["total"] / n_steps
    means: dict[str, Number] = {c: value / n_steps for c, value in sums.items() if c != "total"}
    skill: dict[str, Number] = {c: 1.0 - value for c, value in means.items() if value is not None}
    rate = setup.lr_at(state.step - 1)
    logger.log_metric(
        EpochMetric,
        step=state.step,
        epoch=epoch,
        lr=rate,
        train=SplitLoss(total=total, loss=means, skill=skill),
        validation=validation.loss if validation else None,
        fmri_r=validation.r if validation else None,
        best=best,
        seconds=state.epoch_seconds,
    )
    line = f"Epoch {epoch}/{setup.config.num_epochs} | Train Loss: {total:.4f}"
    if validation is not None and validation.loss.total is not None:
        line += f" | Val Loss: {validation.loss.total:.4f}"
        line += f" | fMRI Corr: {validation.r:.4f}" if validation.r is not None else ""
    logger.print_line(f"{line} | LR: {rate:.2e} | " + " ".join(f"{c} {v:.4f}" for c, v in means.items()))


def log_ridge_baseline(
    setup: TrainingSetup,
    logger: RunLogger,
    fitted: float,
    validation: SplitLoss,
    r: float | None,
    rank: int | None,
) -> None:
    """Record the losses of the ridge initialisation before the first step. fitted: fmri loss over training TRs."""
    logger.log_event(
        "ridge_start",
        "info",
        f"Starts from ridge: fmri {fitted:.3f} over training TRs, {validation.loss['fmri']:.3f} over validation TRs, "
        f"with {rank or 'all'} latents.",
        training_loss=fitted,
        validation_loss=validation.loss["fmri"],
        validation_r=r,
        signal=dict(setup.start_signal or {}),
        latents=rank,
    )
