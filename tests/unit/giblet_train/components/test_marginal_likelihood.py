"""Evidence for each prior against the Gaussian log-likelihood written out, and who counts as a neighbour."""

import numpy as np
import pytest

from giblet_train.components.marginal_likelihood import (
    EXPLAINED,
    SHARES,
    BlockWhitener,
    Kernels,
    evidence_of_kernels,
    explained_distribution,
    neighbouring_voxels,
    noise_covariance,
    posterior_weights,
)
from giblet_train.components.voxel_posterior import LEAST_EXPLAINED, LEAST_SIGNAL, interval
from giblet_train.data.preprocessing.detrend import Detrend

BLOCKS = ((3, 21), (30, 42), (42, 44))
N_TRS = 32


@pytest.fixture(scope="module")
def kernels():
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(N_TRS, 6)) for _ in range(2)]
    return [x @ x.T / 6 for x in features]


def covariance(kernel_NN, share):
    """Return the covariance of responses whose blocks have mean 0, and the way to regular coordinates."""
    noise_NN, keep_NN, first = np.zeros((N_TRS, N_TRS)), np.zeros((N_TRS, N_TRS)), 0
    for start, stop in BLOCKS:
        n = stop - start
        here = slice(first, first + n)
        noise_NN[here, here] = noise_covariance(n, 1.5)
        keep_NN[here, here] = np.eye(n) - 1.0 / n
        first += n
    axes_Nn = np.linalg.svd(keep_NN)[0][:, : N_TRS - len(BLOCKS)]
    return axes_Nn.T @ (share * kernel_NN + (1 - share) * noise_NN) @ axes_Nn, axes_Nn


def test_evidence_and_prediction_are_those_of_a_gaussian_process(kernels):
    bold_NV = np.random.default_rng(1).normal(size=(N_TRS, 3)).astype(np.float32)
    fitted = Kernels.of(kernels, BLOCKS, Detrend("mean", 1.5))
    log_evidence = fitted.log_evidence(fitted.quadratic_form(bold_NV), 1)
    output = np.empty((3, len(kernels), len(SHARES)))
    for c, kernel_NN in enumerate(kernels):
        for h, share in enumerate(SHARES):
            covariance_nn, axes_Nn = covariance(kernel_NN, share)
            own_nV = axes_Nn.T @ bold_NV
            fit_V = (own_nV * np.linalg.solve(covariance_nn, own_nV)).sum(axis=0)
            output[:, c, h] = -0.5 * (np.linalg.slogdet(covariance_nn)[1] + len(own_nV) * np.log(fit_V))
    np.testing.assert_allclose(log_evidence - log_evidence[:, :1, :1], output - output[:, :1, :1], atol=2e-3)
    belief_VCH = np.zeros((3, 2, len(SHARES)), np.float32)
    belief_VCH[:, 1, 4] = 1.0
    [(_, [answer])] = list(fitted.posterior_means(bold_NV, belief_VCH))
    dual_NV = fitted.whitener.matrix_nN.T @ fitted.axes[answer.kernel] @ answer.size_nV
    covariance_nn, axes_Nn = covariance(kernels[1], SHARES[4])
    expected = SHARES[4] * axes_Nn @ np.linalg.solve(covariance_nn, axes_Nn.T @ bold_NV)
    np.testing.assert_allclose(kernels[1] @ dual_NV, kernels[1] @ expected, atol=1e-4)
    assert answer.voxels.tolist() == [0, 1, 2]


def test_a_voxel_touches_what_shares_a_face_inside_the_mask_and_nothing_else():
    mask_XYZ = np.zeros((5, 3, 2), bool)
    mask_XYZ[:2, 0, 0] = mask_XYZ[3:, 0, 0] = mask_XYZ[1, 1, 1] = True  # two hemispheres with a gap, and a corner
    order = np.array([3, 0, 4, 1])  # the corner (2) is not kept
    place = {int(v): n for n, v in enumerate(order)}
    neighbours = {
        int(v): sorted(int(order[t[n]]) for t in neighbouring_voxels(mask_XYZ, order) if t[n] >= 0)
        for n, v in enumerate(order)
    }
    assert np.argwhere(mask_XYZ).tolist()[2] == [1, 1, 1] and place[0] == 1
    assert neighbours == {0: [1], 1: [0], 3: [4], 4: [3]}


def test_a_voxel_in_doubt_leans_on_its_neighbours_and_no_further_than_the_gap():
    mask_XYZ = np.array([True, True, True, False, True, True])[:, None, None]
    log_evidence = np.zeros((5, 2, 1), np.float32)
    log_evidence[[0, 2], 0] = 20.0
    log_evidence[4, 1] = 20.0
    leaning = posterior_weights(log_evidence, neighbouring_voxels(mask_XYZ, np.arange(5)), 0.8)[:, 0, 0]
    alone = posterior_weights(log_evidence, neighbouring_voxels(mask_XYZ, np.arange(5)), 0.0)[:, 0, 0]
    assert leaning[1] > 0.9 > alone[1] and leaning[3] < 0.3 < alone[3]
    assert alone[1] == pytest.approx(alone[3])


def smooth_film(n_trs, n_features, rng):
    """Return features (N, F) of events that last a few TRs."""
    events_TF = rng.normal(size=(n_trs + 7, n_features))
    return np.apply_along_axis(lambda x: np.convolve(x, np.hanning(10)[1:-1], "valid"), 0, events_TF)


def test_an_interval_of_the_explained_share_covers_what_the_film_did_explain():
    """Also where a short film explained more or less than voxels of that kind do on average."""
    n_trs, n_voxels, drift, rng = 90, 600, Detrend("mean", 1.5), np.random.default_rng(0)
    film_NF = smooth_film(n_trs, 5, rng)
    film_NF /= np.linalg.norm(film_NF) / np.sqrt(n_trs)
    root_NN = np.linalg.cholesky(noise_covariance(n_trs, drift.tr_s))
    prior_H = np.where(np.array(SHARES) >= 0.15, 0.2, 0.0).astype(np.float32)
    share_V = rng.choice(SHARES, n_voxels, p=prior_H / prior_H.sum())
    signal_NV = np.sqrt(share_V) * (film_NF @ rng.normal(size=(5, n_voxels)))
    noise_NV = np.sqrt(1.0 - share_V) * (root_NN @ rng.normal(size=(n_trs, n_voxels)))
    signal_NV, bold_NV = (drift.apply(x_NV, [(0, n_trs)]) for x_NV in (signal_NV, signal_NV + noise_NV))
    true_V = (signal_NV**2).sum(axis=0) / (bold_NV**2).sum(axis=0)
    kernels = Kernels.of([film_NF @ film_NF.T], [(0, n_trs)], drift)
    low_V, high_V = interval(explained_distribution(kernels, bold_NV, prior_H[None]), EXPLAINED, 0.9)
    assert true_V.std() > 0.15
    assert 0.86 <= ((low_V <= true_V) & (true_V <= high_V)).mean() <= 0.94
    assert (high_V - low_V).mean() < 0.45


def autocorrelated(n_trs, n_voxels, time_constant_s, rng):
    """Return AR(1) series (T, V) of unit variance at a TR of 1.5 s."""
    keep = np.exp(-1.5 / time_constant_s)
    x_TV = rng.normal(size=(n_trs, n_voxels))
    for t in range(1, n_trs):
        x_TV[t] = keep * x_TV[t - 1] + np.sqrt(1.0 - keep**2) * x_TV[t]
    return x_TV


@pytest.mark.parametrize("slow", [0.1, 0.2, 0.3])
def test_slow_noise_is_no_response_to_a_film_that_is_remembered(slow):
    """Voxels differ in their noise; of those called driven, at most the promised share has no signal."""
    n_trs, n_voxels, n_driven, drift, rng = 220, 500, 150, Detrend("mean", 1.5), np.random.default_rng(3)
    blocks, film_TF = ((0, 120), (130, 230)), autocorrelated(n_trs + 40, 12, 12.0, rng)
    responses = (np.hanning(8), np.exp(-np.arange(27) * 1.5 / 15.0))
    lasting = [np.stack([np.convolve(x_T, h)[40 : 40 + n_trs] for x_T in film_TF.T], axis=1) for h in responses]
    kernels = [x_NF @ x_NF.T for x_NF in lasting]
    fitted = Kernels.of([k / np.diag(k).mean() for k in kernels], blocks, drift)
    noise_NV = np.sqrt(0.45) * rng.normal(size=(n_trs, n_voxels))
    noise_NV += np.sqrt(0.55 - slow) * autocorrelated(n_trs, n_voxels, 4.0, rng)
    noise_NV += np.sqrt(slow) * autocorrelated(n_trs, n_voxels, 40.0, rng)
    signal_NV = lasting[1] @ rng.normal(size=(12, n_driven))
    noise_NV[:, :n_driven] += 0.8 * signal_NV / signal_NV.std(axis=0)
    bold_NV = drift.apply(noise_NV, blocks).astype(np.float32)
    belief_VCH = posterior_weights(fitted.log_evidence(fitted.quadratic_form(bold_NV), 1), [], 0.0)
    driven_V = belief_VCH[:, :, np.array(SHARES) >= LEAST_EXPLAINED].sum(axis=(1, 2)) >= LEAST_SIGNAL
    assert driven_V[n_driven:].sum() <= (1.0 - LEAST_SIGNAL) * driven_V.sum()
    assert driven_V[:n_driven].mean() > 0.7


def test_the_evidence_of_a_kernel_is_averaged_over_shares():
    log_evidence = np.log(np.array([[[1.0, 3.0], [2.0, 2.0]]])).astype(np.float32) - 700.0
    belief = np.array([[[0.25, 0.25], [0.0, 0.5]]], np.float32)  # shares have priors of a quarter and three quarters
    assert evidence_of_kernels(log_evidence, belief) == pytest.approx(np.log([[2.5, 2.0]]) - 700.0, abs=1e-4)


def test_axes_of_features_give_the_distribution_of_the_kernel_itself():
    n_trs, drift, rng = 90, Detrend("mean", 1.5), np.random.default_rng(1)
    blocks, film_NF = [(0, 40), (60, 110)], smooth_film(n_trs, 5, rng).astype(np.float32)
    bold_NV = (film_NF @ rng.normal(size=(5, 20)) + 3.0 * rng.normal(size=(n_trs, 20))).astype(np.float32)
    whitener = BlockWhitener.of(blocks, drift, film_NF)
    values_k, axes_Fk = np.linalg.eigh((whitener.features_NP.T @ whitener.features_NP).astype(float))
    axes = (axes_Fk / np.sqrt(values_k)).astype(np.float32)
    primal = Kernels(whitener, (values_k,), (axes,), whitener.n_free)
    dual = Kernels.of([(film_NF @ film_NF.T).astype(float)], blocks, drift)
    prior_CH = np.full((1, len(SHARES)), 1.0 / len(SHARES), np.float32)
    distributions = [explained_distribution(kernels, bold_NV, prior_CH) for kernels in (primal, dual)]
    np.testing.assert_allclose(*distributions, atol=0.03)
