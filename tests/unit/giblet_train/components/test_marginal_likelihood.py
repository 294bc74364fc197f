"""Evidence for each prior against the Gaussian log-likelihood written out, and who counts as a neighbour."""

import numpy as np
import pytest

from giblet_train.components.marginal_likelihood import NOISE_S, SHARES, Kernels, neighbouring_voxels, posterior_weights
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
    found = fitted.log_evidence(fitted.quadratic_form(bold_NV), 1)
    written = np.empty((3, len(kernels), len(SHARES)))
    for c, kernel_NN in enumerate(kernels):
        for h, share in enumerate(SHARES):
            covariance_nn, axes_Nn = covariance(kernel_NN, share)
            own_nV = axes_Nn.T @ bold_NV
            fit_V = (own_nV * np.linalg.solve(covariance_nn, own_nV)).sum(axis=0)
            written[:, c, h] = -0.5 * (np.linalg.slogdet(covariance_nn)[1] + len(own_nV) * np.log(fit_V))
    np.testing.assert_allclose(found - found[:, :1, :1], written - written[:, :1, :1], atol=2e-3)
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
    touched = {
        int(v): sorted(int(order[t[n]]) for t in neighbouring_voxels(mask_XYZ, order) if t[n] >= 0)
        for n, v in enumerate(order)
    }
    assert np.argwhere(mask_XYZ).tolist()[2] == [1, 1, 1] and place[0] == 1
    assert touched == {0: [1], 1: [0], 3: [4], 4: [3]}


def test_a_voxel_in_doubt_leans_on_its_neighbours_and_no_further_than_the_gap():
    mask_XYZ = np.array([True, True, True, False, True, True])[:, None, None]
    log_evidence = np.zeros((5, 2, 1), np.float32)
    log_evidence[[0, 2], 0] = 20.0
    log_evidence[4, 1] = 20.0
    leaning = posterior_weights(log_evidence, neighbouring_voxels(mask_XYZ, np.arange(5)), 0.8)[:, 0, 0]
    alone = posterior_weights(log_evidence, neighbouring_voxels(mask_XYZ, np.arange(5)), 0.0)[:, 0, 0]
    assert leaning[1] > 0.9 > alone[1] and leaning[3] < 0.3 < alone[3]
    assert alone[1] == pytest.approx(alone[3])
