"""Evidence for each prior against the Gaussian log-likelihood written out, and who counts as a neighbour."""

import numpy as np
import pytest

from giblet_train.components.marginal_likelihood import (
    EXPLAINED,
    NOISE_S,
    SHARES,
    BlockWhitener,
    Kernels,
    explained_distribution,
    neighbouring_voxels,
    posterior_weights,
)
from giblet_train.components.voxel_posterior import interval
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
        apart = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) * 1.5
        noise_NN[here, here] = 0.5 * np.exp(-apart / NOISE_S) + 0.5 * np.eye(n)
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
    apart_NN = np.abs(np.subtract.outer(np.arange(n_trs), np.arange(n_trs))) * drift.tr_s
    root_NN = np.linalg.cholesky(0.5 * np.exp(-apart_NN / NOISE_S) + 0.5 * np.eye(n_trs))
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
