"""The oldest test of a training step: one batch, seen over and over, must be learnt. Weights are put back then."""

from __future__ import annotations

import time

from giblet_train.components.optim import adamw
from giblet_train.components.train_step import TrainStep
from giblet_train.diagnosis.sanity_checks import OverfitResult


def overfit_one_batch(learner: TrainStep, n_steps: int) -> OverfitResult:
    """Take the first step's windows n_steps times, at the base rate, without dropout; the learner stays as it was.

    All ranks take part, and learn the same. A total that is not finite stays so.
    """
    config, model = learner.config, learner.model
    batch = learner.windows.sample(config.seed, 0, config.batch_size)
    kept = {name: tensor.to("cpu", copy=True) for name, tensor in model.state_dict().items()}
    optimizer = adamw(model, config.learning_rate, 0.0)
    totals, ends = [], [time.perf_counter()]
    try:
        for _ in range(n_steps):
            found = learner.compute_gradients(batch)
            if not found.not_finite:
                optimizer.step()
            learner.trained.zero_grad(set_to_none=True)
            totals.append(sum(learner.base_weight[c] * found.loss[c] for c in learner.components))
            ends.append(time.perf_counter())
    finally:
        model.load_state_dict(kept)
        learner.trained.zero_grad(set_to_none=True)
    seconds = (ends[-1] - ends[1]) / (n_steps - 1) if n_steps > 1 else ends[-1] - ends[0]
    return OverfitResult(first=totals[0], last=totals[-1], steps=n_steps, seconds=seconds)
