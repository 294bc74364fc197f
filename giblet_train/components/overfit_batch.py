"""Check that training can overfit one batch. The weights are restored afterwards."""

from __future__ import annotations

import time

from giblet_train.components.optim import adamw
from giblet_train.components.train_step import TrainStep
from giblet_train.diagnosis.sanity_checks import OverfitResult


def overfit_one_batch(train_step: TrainStep, n_steps: int) -> OverfitResult:
    """Train n_steps times on the first step's windows, at the base rate and without dropout, then restore the weights.

    Collective: all ranks take part. A total that is not finite is returned as it is.
    """
    config, model = train_step.config, train_step.model
    batch = train_step.windows.sample(config.seed, 0, config.batch_size)
    saved_weights = {name: tensor.to("cpu", copy=True) for name, tensor in model.state_dict().items()}
    optimizer = adamw(model, config.learning_rate, 0.0)
    totals, ends = [], [time.perf_counter()]
    try:
        for _ in range(n_steps):
            gradients = train_step.compute_gradients(batch)
            if not gradients.not_finite:
                optimizer.step()
            train_step.trained.zero_grad(set_to_none=True)
            totals.append(sum(train_step.base_weight[c] * gradients.loss[c] for c in train_step.components))
            ends.append(time.perf_counter())
    finally:
        model.load_state_dict(saved_weights)
        train_step.trained.zero_grad(set_to_none=True)
    seconds = (ends[-1] - ends[1]) / (n_steps - 1) if n_steps > 1 else ends[-1] - ends[0]
    return OverfitResult(first=totals[0], last=totals[-1], steps=n_steps, seconds=seconds)
