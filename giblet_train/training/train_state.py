"""Where training stands between two steps: what a checkpoint needs besides tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class TrainState:
    """step: the next one to take. epoch_*: what the epoch has come to so far, each loss added up over its steps."""

    step: int = 0
    best_total: float | None = None
    best_step: int | None = None
    validations_since_best: int = 0
    epoch_steps: int = 0
    epoch_seconds: float = 0.0
    epoch_sums: dict[str, float] = field(default_factory=dict)

    def accumulate(self, losses: Mapping[str, float], seconds: float) -> None:
        """Count in a step."""
        self.epoch_steps += 1
        self.epoch_seconds += seconds
        for key, value in losses.items():
            self.epoch_sums[key] = self.epoch_sums.get(key, 0.0) + value

    def begin_epoch(self) -> None:
        """Count from nothing again."""
        self.epoch_steps, self.epoch_seconds, self.epoch_sums = 0, 0.0, {}

    def record_validation(self, total: float, delta: float) -> bool:
        """Count in a validation. Returns whether it is the best one, by more than delta."""
        best = self.best_total is None or total < self.best_total - delta
        self.validations_since_best = 0 if best else self.validations_since_best + 1
        if best:
            self.best_total, self.best_step = total, self.step
        return best

    def should_stop_early(self, patience: int | None) -> bool:
        """Have so many validations gone by without a better one? It stays so, also after a resume."""
        return patience is not None and self.validations_since_best >= patience
