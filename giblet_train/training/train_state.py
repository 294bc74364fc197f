"""Loop state saved in each checkpoint next to the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class TrainState:
    """State of the training loop between two steps. epoch_*: sums over the current epoch's steps."""

    step: int = 0
    best_total: float | None = None
    best_step: int | None = None
    validations_since_best: int = 0
    epoch_steps: int = 0
    epoch_seconds: float = 0.0
    epoch_sums: dict[str, float] = field(default_factory=dict)

    def accumulate(self, losses: Mapping[str, float], seconds: float) -> None:
        """Add a step to the current epoch."""
        self.epoch_steps += 1
        self.epoch_seconds += seconds
        for key, value in losses.items():
            self.epoch_sums[key] = self.epoch_sums.get(key, 0.0) + value

    def begin_epoch(self) -> None:
        """Reset the sums of the epoch."""
        self.epoch_steps, self.epoch_seconds, self.epoch_sums = 0, 0.0, {}

    def record_validation(self, total: float, delta: float) -> bool:
        """Record a validation. Returns True if it is the best one by more than delta."""
        best = self.best_total is None or total < self.best_total - delta
        self.validations_since_best = 0 if best else self.validations_since_best + 1
        if best:
            self.best_total, self.best_step = total, self.step
        return best

    def should_stop_early(self, patience: int | None) -> bool:
        """Return True if the last `patience` validations were not better; also true after a resume."""
        return patience is not None and self.validations_since_best >= patience
