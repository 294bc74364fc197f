"""Hook that a training step calls at its stages."""

from __future__ import annotations


class StepHook:
    """Called by TrainStep; every method may be overridden, and the defaults do nothing."""

    def before_sampling(self, step: int) -> None:
        """Run within the time that counts as waiting for data."""

    def before_all_reduce(self, step: int) -> None:
        """Run within the time that counts as communication."""

    def learning_rate(self, step: int, planned: float) -> float:
        """Return the learning rate of a step."""
        return planned

    def after_optimizer(self, step: int) -> None:
        """Run after the optimizer has changed the weights, before they enter the average."""
