"""The network's start against ridge regression solved by numpy on the same delayed features."""

import numpy as np
import torch

from giblet_train.data.drift import Drift
from giblet_train.evaluate import Examiner
from giblet_train.experiment import Experiment, response_kernel, windows_in
from giblet_train.model.presets import shape_of
from giblet_train.ridge_start import PENALTIES, lag_prior, ridge_start
from tests.engine_study import ALONE, config, split_data


def started(data, n_latents=200):
    cfg = config()
    experiment = Experiment.of(cfg, data, ALONE)
    shape, split = shape_of(cfg.model), data.split
    prior_LL = lag_prior(response_kernel(cfg, 1.5, shape.fir_trs).double().numpy(), False)
    train, validation = (
        windows_in(data, cfg, shape, blocks).whole() for blocks in (split.train_blocks, split.validation_blocks)
    )
    targets = experiment.learner.objective.targets
    start = ridge_start(
        targets, train, validation, split.validation_blocks, prior_LL, Drift(), n_latents, experiment.shards
    )
    return experiment, start, prior_LL


def delayed(data, rows, n_lags):
    """(N, L, F) by index, with nothing before a scan."""
    film = np.concatenate([x / np.sqrt(x.shape[1]) for x in data.inputs.values()], axis=1)
    scan = np.repeat([0, 1], [150, len(film) - 150])
    lagged = np.zeros((len(rows), n_lags, film.shape[1]))
    for n, row in enumerate(rows):
        for lag in range(n_lags):
            if row - lag >= 0 and scan[row - lag] == scan[row]:
                lagged[n, lag] = film[row - lag]
    return lagged


def test_it_predicts_what_ridge_with_that_prior_predicts():
    data = split_data()
    experiment, found, prior_LL = started(data)
    train, test = data.split.train, data.split.test
    root_LL = np.linalg.cholesky(prior_LL + 1e-12 * np.eye(len(prior_LL)))
    seen = [np.einsum("nlf,lm->nmf", delayed(data, rows, 13), root_LL).reshape(len(rows), -1) for rows in (train, test)]
    unit = np.trace(seen[0] @ seen[0].T) / len(train)
    scores_TR = experiment.learner.objective.targets.scores_TR.numpy().astype(float)
    parts, column = [], 0
    for part, n in experiment.learner.objective.targets.parts.items():
        normal = seen[0] @ seen[0].T + found.penalty[part] * unit * np.eye(len(train))
        parts.append(seen[1] @ seen[0].T @ np.linalg.solve(normal, scores_TR[train, column : column + n]))
        column += n
    lagged, z, first = delayed(data, test, 13), 0.0, 0
    for modality, weight_KFL in found.start.path.items():
        width = data.inputs[modality].shape[1]
        own = lagged[:, :, first : first + width] * np.sqrt(width)
        z = z + np.einsum("nlf,kfl->nk", own, weight_KFL.numpy().astype(float))
        first += width
    np.testing.assert_allclose(z @ found.start.heads_KR.numpy(), np.concatenate(parts, axis=1), atol=2e-3)
    assert set(found.penalty) == {"group", "deviation"} and set(found.penalty.values()) <= set(PENALTIES)


def test_the_network_equals_its_start_before_the_first_step():
    data = split_data()
    experiment = Experiment.of(config(), data, ALONE)
    examiner, model = Examiner.of(experiment, data), experiment.learner.model
    batch = windows_in(data, experiment.config, experiment.shape, data.split.test_blocks).whole()[0]
    inputs, seen_BW = experiment.learner.objective.targets.seen(batch)
    model.eval()
    torch.testing.assert_close(model.heads(model(inputs, seen_BW)), model.start_scores(inputs))
    assert examiner.training_loss(model)["fmri"] < 0.95
    assert abs(examiner.first_loss(model)["fmri"] - 1.0) < 1e-4


def test_only_training_responses_are_fitted_and_only_validation_ones_choose():
    data = split_data()
    _, clean, _ = started(data)
    poisoned = {s: x.copy() for s, x in data.bold.items()}
    for bold_TV in poisoned.values():
        bold_TV[data.split.test] = np.nan
    object.__setattr__(data, "bold", poisoned)
    _, dirty, _ = started(data)
    assert dirty.penalty == clean.penalty
    torch.testing.assert_close(dirty.start.heads_KR, clean.start.heads_KR, rtol=0, atol=0)
    for modality, weight in clean.start.path.items():
        torch.testing.assert_close(dirty.start.path[modality], weight, rtol=0, atol=0)


def test_half_of_what_is_learnt_counts_outside_training():
    data = split_data()
    model = Experiment.of(config(), data, ALONE).learner.model
    with torch.no_grad():
        for parameter in (*model.heads.parts.values(), model.trunk.direct.weight):
            parameter.normal_()
    features = {m: torch.from_numpy(x[None, :30]) for m, x in data.inputs.items()}
    seen_BW = torch.ones(1, 30, dtype=torch.bool)
    start_z, start_heads = model.linear_path(features), model.heads.start_KR
    learnt_z, learnt_heads = model.train()(features, seen_BW) - start_z, model.heads.weight_KR - start_heads
    model.eval()
    torch.testing.assert_close(model(features, seen_BW) - start_z, 0.5 * learnt_z)
    torch.testing.assert_close(model.heads.weight_KR - start_heads, 0.5 * learnt_heads)
