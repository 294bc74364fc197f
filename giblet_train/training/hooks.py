"""Hook that the Trainer calls around its steps, like a Lightning callback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from giblet_train.components.step_hook import StepHook

if TYPE_CHECKING:
    from giblet_train.components.train_step import StepResult
    from giblet_train.training.trainer import Trainer


class TrainerHook(StepHook):
    """Called by the Trainer and its steps; every method may be overridden, and the defaults do nothing."""

    def on_start(self, trainer: Trainer) -> None:
        """Run once the training setup is built, before a checkpoint is loaded."""

    def before_step(self, step: int) -> None:
        """Run before each step."""

    def stop_requests(self, step: int) -> dict[str, bool]:
        """Return stop requests of this rank, in addition to those of the stop file and signals."""
        return {}

    def after_step(self, step: int, result: StepResult) -> None:
        """Run after each step, before it is recorded."""

    def before_save(self, step: int) -> None:
        """Run before a checkpoint is written; an OSError counts as a failed save."""

    def on_validated(self, trainer: Trainer) -> None:
        """Run on every rank after each validation, also that of the untrained network."""

    def on_finished(self, trainer: Trainer) -> None:
        """Run on every rank after the final evaluation, with the best weights, before the run counts as ended."""
