"""What a run writes down of its steps and epochs, for records and for people."""

from __future__ import annotations

import torch

from giblet_train.components.build import Experiment
from giblet_train.components.train_step import Stepped
from giblet_train.monitoring.run_logger import Recorder, resident_gib
from giblet_train.schema.records import EpochMetric, Number, PartLoss, StepMetric
from giblet_train.training.train_state import Standing


def note_step(experiment: Experiment, recorder: Recorder, stepped: Stepped) -> float:
    """Record a step; returns its total."""
    weighted = {c: stepped.weight[c] * value for c, value in stepped.loss.items()}
    all_weighted = sum(weighted.values())
    total = experiment.total_of(stepped.loss)
    recorder.record(
        StepMetric,
        lr=stepped.lr,
        total=total,
        loss=stepped.loss,
        weight=stepped.weight,
        share={c: value / all_weighted if all_weighted else 0.0 for c, value in weighted.items()},
        gradient_share=stepped.gradient_share,
        gradient_norm=stepped.gradient_norm,
        clipped=stepped.clipped,
        step_s=stepped.seconds,
        times=stepped.times,
        rss_gib=resident_gib(),
        gpu_gib=torch.cuda.max_memory_allocated() / 2**30 if experiment.ranks.device.type == "cuda" else None,
        slowest_rank=stepped.slowest_rank,
    )
    recorder.beat("training", step_s=stepped.seconds)
    return total


def note_idle(experiment: Experiment, recorder: Recorder) -> None:
    """Warn of parameters that no gradient has reached, on whichever rank."""
    idle = list(dict.fromkeys(name for names in experiment.ranks.each(experiment.learner.idle) for name in names))
    if idle:
        recorder.event("idle_parameters", "warning", f"No gradient reaches {', '.join(idle)}.")


def note_epoch(
    experiment: Experiment,
    recorder: Recorder,
    standing: Standing,
    validation: PartLoss | None,
    r: float | None,
    *,
    epoch: int,
    best: bool,
) -> None:
    """Record an epoch that has just ended, and say the line that the lab's logs have."""
    sums, n_steps = standing.epoch_sums, standing.epoch_steps
    total = sums["total"] / n_steps
    means: dict[str, Number] = {c: value / n_steps for c, value in sums.items() if c != "total"}
    skill: dict[str, Number] = {c: 1.0 - value for c, value in means.items() if value is not None}
    rate = experiment.rate_at(standing.step - 1)
    recorder.record(
        EpochMetric,
        step=standing.step,
        epoch=epoch,
        lr=rate,
        train=PartLoss(total=total, loss=means, skill=skill),
        validation=validation,
        fmri_r=r,
        best=best,
        seconds=standing.epoch_seconds,
    )
    line = f"Epoch {epoch}/{experiment.config.num_epochs} | Train Loss: {total:.4f}"
    if validation is not None and validation.total is not None:
        line += f" | Val Loss: {validation.total:.4f}" + (f" | fMRI Corr: {r:.4f}" if r is not None else "")
    recorder.say(f"{line} | LR: {rate:.2e} | " + " ".join(f"{c} {v:.4f}" for c, v in means.items()))


def note_start(
    experiment: Experiment, recorder: Recorder, fitted: float, validation: PartLoss, r: float | None
) -> None:
    """Where a network that starts from ridge stands before its first step. fitted: its fmri loss over training TRs."""
    recorder.event(
        "ridge_start",
        "info",
        f"Starts from ridge: fmri {fitted:.3f} over training TRs, {validation.loss['fmri']:.3f} over validation TRs.",
        training_loss=fitted,
        validation_loss=validation.loss["fmri"],
        validation_r=r,
        signal=dict(experiment.start_signal or {}),
    )
