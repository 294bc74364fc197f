"""Loop state saved in each checkpoint next to the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from giblet_train.components.train_step import ENCODING
from giblet_train.evaluation.evaluator import Validation


@dataclass
class TrainState:
    """State of the training loop between two steps."""

    step: int = 0
    """The next step."""
    best_total: float | None = None
    """Total validation loss when the best weights last changed."""
    best_step: int | None = None
    """Step at which the best weights last changed."""
    best_scores: dict[str, float] = field(default_factory=dict)
    """`fmri` and each modality -> best validation score so far; higher is better."""
    best_share: float = 1.0
    """Share of the learnt addition that belongs to the best weights of the encoding."""
    last_share: float = 1.0
    """Share selected at the last validation."""
    validations_since_best: int = 0
    epoch_steps: int = 0
    """Steps of the current epoch so far."""
    epoch_seconds: float = 0.0
    epoch_sums: dict[str, float] = field(default_factory=dict)
    """Component, and `total` -> loss summed over the epoch's steps so far."""

    def accumulate(self, losses: Mapping[str, float], seconds: float) -> None:
        """Add a step to the current epoch."""
        self.epoch_steps += 1
        self.epoch_seconds += seconds
        for key, value in losses.items():
            self.epoch_sums[key] = self.epoch_sums.get(key, 0.0) + value

    def begin_epoch(self) -> None:
        """Reset the sums of the epoch."""
        self.epoch_steps, self.epoch_seconds, self.epoch_sums = 0, 0.0, {}

    def record_validation(self, validation: Validation, delta: float) -> set[str]:
        """Record a validation. Returns what improved by more than delta: `fmri`, modalities, or nothing."""
        improved = {
            part
            for part, score in validation.scores.items()
            if part not in self.best_scores or score > self.best_scores[part] + delta
        }
        self.best_scores |= {part: validation.scores[part] for part in improved}
        self.last_share = validation.share
        if ENCODING in improved:
            self.best_share = validation.share
        self.validations_since_best = 0 if improved else self.validations_since_best + 1
        if improved:
            self.best_total, self.best_step = validation.loss.total, self.step
        return improved

    def should_stop_early(self, patience: int | None) -> bool:
        """Return True if the last `patience` validations were not better; also true after a resume."""
        return patience is not None and self.validations_since_best >= patience
