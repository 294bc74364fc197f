"""Loop state saved in each checkpoint next to the tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from giblet_train.components.train_step import ENCODING
from giblet_train.evaluation.evaluator import Validation

FILM = "film"
"""Entry of `best_scores`: the reconstruction of all modalities."""


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
    """`fmri` -> best validation score so far; `film` -> best sum of the modalities' gains over the start."""
    start_scores: dict[str, float] = field(default_factory=dict)
    """`fmri` and each modality -> score of the untrained network."""
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
        """Record a validation. Returns what improved by more than delta: `fmri`, modalities, or nothing.

        All modalities choose one step together, which depends less on noise than one step each. A modality that is no
        better than at the start takes no part and keeps the weights that it has.
        """
        scores = validation.scores
        self.start_scores = self.start_scores or dict(scores)
        gains = {m: max(scores[m] - self.start_scores[m], 0.0) for m in scores if m != ENCODING}
        part_scores = {ENCODING: scores[ENCODING]} | ({FILM: sum(gains.values())} if gains else {})
        better_parts = {
            part for part, score in part_scores.items() if score > self.best_scores.get(part, -math.inf) + delta
        }
        self.best_scores |= {part: part_scores[part] for part in better_parts}
        self.last_share = validation.share
        if ENCODING in better_parts:
            self.best_share = validation.share
        self.validations_since_best = 0 if better_parts else self.validations_since_best + 1
        if better_parts:
            self.best_total, self.best_step = validation.loss.total, self.step
        return better_parts - {FILM} | (
            {m for m, gain in gains.items() if gain > 0.0} if FILM in better_parts else set()
        )

    def should_stop_early(self, patience: int | None) -> bool:
        """Return True if the last `patience` validations were not better; also true after a resume."""
        return patience is not None and self.validations_since_best >= patience
