"""The network's start against a Gaussian process solved by numpy on the same delayed features."""

import dataclasses

import numpy as np
import pytest
import torch

from giblet_train.components import band_functions
from giblet_train.components.build import TrainingSetup, response_kernel, windows_in
from giblet_train.components.head_sharding import HeadSharding
from giblet_train.components.marginal_likelihood import SHARES, noise_covariance
from giblet_train.components.ridge_init import lag_priors, ridge_start
from giblet_train.data.simulation.learning_study import simulate_learning_study
from giblet_train.data.statistics.hrf import glover
from giblet_train.evaluation.evaluator import Evaluator
from giblet_train.evaluation.metrics import pearson
from giblet_train.model.presets import shape_of
from tests.engine_study import ALONE, config, split_data


def started(data, n_latents=200, near=0.8):
    cfg = config()
    shape, split = shape_of(cfg.model, data.study.tr_s, len(data.split.train)), data.split
    priors = lag_priors(response_kernel(cfg, 1.5, shape.fir_trs).double().numpy(), 1.5, False)
    train = windows_in(data, cfg, shape, split.train_blocks).sequential()
    return ridge_start(data, train, priors, n_latents, near, HeadSharding.of(cfg, data.subjects, ALONE)), priors


def delayed(data, rows, n_lags):
    """Return (N, L, F) by index, with nothing before a scan."""
    film = np.concatenate([x / np.sqrt(x.shape[1]) for x in data.inputs.values()], axis=1)
    scan = np.repeat([0, 1], [150, len(film) - 150])
    lags = np.zeros((len(rows), n_lags, film.shape[1]))
    for n, row in enumerate(rows):
        for lag in range(n_lags):
            if row - lag >= 0 and scan[row - lag] == scan[row]:
                lags[n, lag] = film[row - lag]
    return lags


def latents(data, rows, path):
    lags, z, first = delayed(data, rows, 13), 0.0, 0
    for modality, weight_KFL in path.items():
        width = data.inputs[modality].shape[1]
        own = lags[:, :, first : first + width] * np.sqrt(width)
        z = z + np.einsum("nlf,kfl->nk", own, weight_KFL.numpy().astype(float))
        first += width
    return z


def test_it_predicts_what_ridge_with_the_believed_prior_predicts(monkeypatch):
    """Everyone is made to believe one prior: three quarters of audio, a quarter of text, no memory."""
    data = split_data(n_subjects=2)
    prior, share = 3, 5
    monkeypatch.setattr(
        "giblet_train.components.ridge_init.posterior_weights", lambda evidence, *_: _certain(evidence, prior, share)
    )
    monkeypatch.setattr(
        "giblet_train.components.ridge_init.common_priors", lambda explained_C: np.arange(len(explained_C))
    )
    start, priors = started(data)
    train, test = data.split.train, data.split.test
    kernels, first = [], 0
    for modality in data.inputs:
        columns = slice(first, first := first + data.inputs[modality].shape[1])
        train_lags, test_lags = (delayed(data, rows, 13)[:, :, columns] for rows in (train, test))
        inner = np.einsum("nlf,lm,kmf->nk", train_lags, priors[0], train_lags)
        kernels.append(
            np.concatenate([inner, np.einsum("nlf,lm,kmf->nk", test_lags, priors[0], train_lags)])
            / inner.diagonal().mean()
        )
    kernel = 0.75 * kernels[1] + 0.25 * kernels[2]
    noise = np.zeros((len(train), len(train)))
    for stop, n in zip(np.cumsum([90, 46, 50]), [90, 46, 50], strict=True):
        noise[stop - n : stop, stop - n : stop] = noise_covariance(n, data.drift.tr_s)
    covariance = SHARES[share] * kernel[: len(train)] + (1 - SHARES[share]) * noise
    for subject in data.subjects:
        expected = SHARES[share] * kernel[len(train) :] @ np.linalg.solve(covariance, data.bold[subject][train])
        predicted = latents(data, test, start.path) @ (start.group_KV + start.own[subject])
        np.testing.assert_allclose(predicted, expected, atol=5e-3)


def test_many_trs_are_fitted_by_leading_axes_as_few_are_by_all_trs(monkeypatch):
    data = split_data()
    exact, _ = started(data, n_latents=24)
    monkeypatch.setattr(band_functions, "MOST_DUAL_TRS", 100)
    monkeypatch.setattr(band_functions, "BAND_AXES", 120)
    primal, _ = started(data, n_latents=24)
    assert primal.signal == pytest.approx(exact.signal, abs=0.02)
    for subject in data.subjects:
        of_axes, of_trs = (
            latents(data, data.split.test, init.path) @ (init.group_KV + init.own[subject]) for init in (primal, exact)
        )
        assert not np.array_equal(of_axes, of_trs)
        assert ((of_axes - of_trs) ** 2).sum() < 0.01 * (of_trs**2).sum()


def _certain(evidence_VCH, prior, share):
    belief = np.zeros_like(evidence_VCH)
    belief[:, prior, share] = 1.0
    return belief


def test_the_network_equals_its_start_before_the_first_step():
    data = split_data()
    setup = TrainingSetup.build(config(), data, ALONE)
    evaluator, model = Evaluator.of(setup, data), setup.train_step.model
    batch = windows_in(data, setup.config, setup.shape, data.split.test_blocks).sequential()[0]
    inputs, seen_BW = setup.train_step.objective.targets.masked_inputs(batch)
    model.eval()
    torch.testing.assert_close(model.heads(model(inputs, seen_BW)), model.start_scores(inputs, seen_BW))
    assert evaluator.training_loss(model)["fmri"] < 0.95
    assert abs(evaluator.initial_loss(model)["fmri"] - 1.0) < 1e-4


@pytest.mark.parametrize("kind", ["per_subject", "none"])
def test_the_start_is_the_same_whatever_the_compression(kind):
    data, predicted = split_data(), {}
    for compression in ("joint", kind):
        cfg = config(model={"compress": compression})
        setup = TrainingSetup.build(cfg, data, ALONE)
        predicted[compression] = dict(Evaluator.of(setup, data).predicted(setup.train_step.model))
    for subject in data.subjects:
        np.testing.assert_allclose(predicted[kind][subject], predicted["joint"][subject], atol=2e-3)


def test_nothing_but_training_responses_is_read():
    data = split_data()
    clean, _ = started(data)
    outside = np.setdiff1d(np.arange(data.split.n_trs), data.split.train)
    poison_bold = {s: x.copy() for s, x in data.bold.items()}
    for bold_TV in poison_bold.values():
        bold_TV[outside] = np.nan
    dirty, _ = started(dataclasses.replace(data, bold=poison_bold))
    assert dirty.signal == clean.signal
    np.testing.assert_array_equal(dirty.group_KV, clean.group_KV)
    for modality, weight in clean.path.items():
        torch.testing.assert_close(dirty.path[modality], weight, rtol=0, atol=0)


def test_voxels_that_follow_no_film_are_left_unchanged():
    data = split_data()
    start, _ = started(data)
    size_V = np.linalg.norm(start.group_KV, axis=0)
    assert size_V[data.null_V].max() < 0.5 * np.median(size_V[data.responsive_V])
    assert 0.1 < start.signal["group"] < 0.4 and start.signal["deviation"] < 0.1


def test_one_subject_has_a_start_without_deviations():
    start, _ = started(split_data(n_subjects=1))
    assert start.own == {} and set(start.signal) == {"group"} and np.abs(start.group_KV).max() > 0.1


def test_the_space_of_a_voxel_is_named_by_the_deviations_of_subjects_too():
    """Half of the subjects respond to the same sound in the opposite way, so that their mean says nothing."""
    data, opposed_V = split_data(n_subjects=4), np.arange(40, 46)
    sound_T = np.convolve(data.inputs["audio"][:, 0], glover(1.5))[: data.split.n_trs, None]
    sound_T /= sound_T.std()
    bold = {s: x.copy() for s, x in data.bold.items()}
    for sign, bold_TV in zip((1, 1, -1, -1), bold.values(), strict=True):
        bold_TV[:, opposed_V] = 0.7 * bold_TV[:, opposed_V] + sign * 0.7 * sound_T
    start, _ = started(dataclasses.replace(data, bold=bold), near=0.0)
    posterior = start.posterior
    assert (posterior.share_VM[opposed_V, posterior.spaces.index("audio")] > 0.45).all()
    assert (posterior.explained_V[opposed_V] < 0.1).all()


def test_a_share_of_what_is_learnt_counts_outside_training():
    data = split_data()
    model = TrainingSetup.build(config(), data, ALONE).train_step.model
    with torch.no_grad():
        for parameter in (*model.heads.parts.values(), model.trunk.direct.weight):
            parameter.normal_()
    features = {m: torch.from_numpy(x[None, :30]) for m, x in data.inputs.items()}
    seen_BW = torch.ones(1, 30, dtype=torch.bool)
    start_scores = model.start_scores(features, seen_BW)
    learnt_scores = model.train().predict(model(features, seen_BW)) - start_scores
    model.eval().share = 0.5
    torch.testing.assert_close(model.predict(model(features, seen_BW)) - start_scores, 0.5 * learnt_scores)


def test_latents_of_the_start_can_be_left_out():
    data = split_data()
    model = TrainingSetup.build(config(), data, ALONE).train_step.model.eval()
    features = {m: torch.from_numpy(x[None, :30]) for m, x in data.inputs.items()}
    seen_BW = torch.ones(1, 30, dtype=torch.bool)
    model.limit_start(4)
    z_BWZ = model.linear_path(features, seen_BW)
    expected = z_BWZ[..., :4] @ model.heads.start_ZR[:4]
    torch.testing.assert_close(model.predict(model(features, seen_BW)), expected)


def test_a_memory_is_one_slow_shape_and_a_response_without_memory_is_not():
    plain_LL, memory_LL = lag_priors(response_kernel(config(), 1.5, 27).double().numpy(), 1.5, False)
    leading = [np.linalg.eigvalsh(prior_LL)[-1] / np.trace(prior_LL) for prior_LL in (plain_LL, memory_LL)]
    assert leading[0] < 0.85 < 0.9 < leading[1]
    after_30_s = [np.diag(prior_LL)[20] / np.diag(prior_LL).max() for prior_LL in (plain_LL, memory_LL)]
    assert after_30_s[0] < 0.01 and after_30_s[1] > 0.05


def test_integration_over_seconds_needs_lags_beyond_the_haemodynamic_response():
    study = simulate_learning_study("integration", 300, 0, n_voxels=30)
    r = {}
    for fir_trs in (13, 27):
        lengths = {"fir_trs": fir_trs, "context_trs": fir_trs - 1, "window_trs": 60}
        cfg = config(model={"bottleneck_dim": 24, "start_nonlinear": False, **lengths})
        setup = TrainingSetup.build(cfg, study.data, ALONE)
        predicted = Evaluator.of(setup, study.data).predicted(setup.train_step.average.model)
        rows, yes_V = study.data.split.test, study.data.responsive_V
        r[fir_trs] = np.mean([pearson(x_TV, study.data.bold[s][rows])[yes_V].mean() for s, x_TV in predicted])
    assert r[27] > r[13] + 0.005


@pytest.mark.parametrize(
    ("form", "space"), [("linear", None), ("energy", "video_x_video"), ("interaction", "video_x_audio")]
)
def test_evidence_selects_the_feature_space_of_the_truth(form, space):
    study = simulate_learning_study(form, 300, 0, n_voxels=60)
    cfg = config()
    shape = shape_of(cfg.model, study.data.study.tr_s, len(study.data.split.train))
    priors = lag_priors(response_kernel(cfg, 1.5, shape.fir_trs).double().numpy(), 1.5, False)
    train = windows_in(study.data, cfg, shape, study.data.split.train_blocks).sequential()
    shards = HeadSharding.of(cfg, study.data.subjects, ALONE)
    init = ridge_start(study.data, train, priors, 24, 0.8, shards, nonlinear=True)
    nonlinear = {name: share for name, share in init.space_shares.items() if name not in study.data.inputs}
    if space is None:
        assert sum(nonlinear.values()) < 0.1
    else:
        assert max(nonlinear, key=nonlinear.get) == space and nonlinear[space] > 0.6


def test_nonlinear_spaces_of_new_films_need_no_training_rows():
    """The network computes them from features alone, and equals the kernel prediction of the start."""
    study = simulate_learning_study("interaction", 300, 0, n_voxels=60)
    data = study.data
    model = TrainingSetup.build(config(model={"bottleneck_dim": 24}), data, ALONE).train_step.model.eval()
    assert "video_x_audio" in model.linear_path.spaces
    rows = data.split.test
    features = {m: torch.from_numpy(x[rows][None]) for m, x in data.inputs.items()}
    seen_BW = torch.ones(1, len(rows), dtype=torch.bool)
    whole = model.start_scores(features, seen_BW)
    late = model.start_scores({m: x[:, 100:] for m, x in features.items()}, seen_BW[:, 100:])
    torch.testing.assert_close(whole[:, 112:], late[:, 12:], rtol=1e-3, atol=1e-3)


def test_a_part_of_the_voxels_finds_the_components_of_all(monkeypatch):
    data = split_data(n_voxels=600)
    whole, _ = started(data, n_latents=12)
    monkeypatch.setattr("giblet_train.components.ridge_init.ENOUGH_VOXELS", 200)
    part, _ = started(data, n_latents=12)
    for subject in data.subjects:
        of_all, of_part = (
            latents(data, data.split.test, start.path) @ (start.group_KV + start.own[subject])
            for start in (whole, part)
        )
        assert not np.array_equal(of_all, of_part)
        error = ((of_all - of_part) ** 2).sum() / (of_all**2).sum()
        assert error < 0.02


def test_a_long_start_says_how_far_it_is():
    data, messages = split_data(), []
    TrainingSetup.build(config(), data, ALONE, messages.append)
    assert [s.rpartition(" ")[2] for s in messages if s.startswith("solving the heads")] == list(data.subjects)
