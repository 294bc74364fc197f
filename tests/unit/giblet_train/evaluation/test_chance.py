"""Correlations by chance scatter as those of voxels that do not follow the film."""

import numpy as np

from giblet_train.analysis.held_out_maps import pooled_p, q_values
from giblet_train.data.preprocessing.detrend import Detrend
from giblet_train.evaluation.chance import chance_r, prewhitened_r, stretches_of
from giblet_train.evaluation.metrics import pearson, shifted_r

N_TRS = 65


def smooth(n_trs, n_voxels, rng):
    x_TV = rng.normal(size=(n_trs + 14, n_voxels))
    return np.apply_along_axis(lambda x: np.convolve(x, np.hanning(17)[1:-1], "valid"), 0, x_TV).astype(np.float32)


def test_other_stretches_of_the_film_give_the_scatter_of_chance_and_shifts_do_not():
    rng, drift, block = np.random.default_rng(0), Detrend(100.0, 1.5), [(0, N_TRS)]
    predicted_TV, measured_TV = (drift.apply(smooth(N_TRS, 3000, rng), block) for _ in range(2))
    elsewhere_TV = smooth(300, 3000, rng)
    null_NV = chance_r(predicted_TV, measured_TV, elsewhere_TV, stretches_of(((0, 300),), N_TRS), drift)
    scatter = pearson(predicted_TV, measured_TV).std()
    assert 0.95 < null_NV.std() / scatter < 1.05
    assert shifted_r(predicted_TV, measured_TV).std() / scatter < 0.95


def test_shifts_remain_for_a_film_without_other_stretches_and_rows_of_others_do_not_count():
    rng, drift = np.random.default_rng(1), Detrend("mean", 1.5)
    predicted_TV, measured_TV = smooth(N_TRS, 4, rng), smooth(N_TRS, 4, rng)
    own_T = np.arange(N_TRS) < 50
    null_NV = chance_r(predicted_TV, measured_TV, predicted_TV[:0], [], drift, own_T)
    np.testing.assert_allclose(null_NV, shifted_r(predicted_TV[:50], measured_TV[:50]), atol=1e-6)
    elsewhere_TV = smooth(200, 4, rng)
    stretches = stretches_of(((0, 200),), N_TRS)
    null_NV = chance_r(predicted_TV, measured_TV, elsewhere_TV, stretches, drift, own_T)
    measured_TV[50:] = 100.0
    assert (null_NV == chance_r(predicted_TV, measured_TV, elsewhere_TV, stretches, drift, own_T)).all()


def test_stretches_stay_within_blocks():
    stretches = stretches_of(((0, 90), (104, 150), (150, 200)), 46)
    starts = np.array([start for start, _ in stretches])
    ends = starts + 46
    assert ((ends <= 90) | ((starts >= 90) & (ends <= 136)) | ((starts >= 136) & (ends <= 186))).all()
    assert stretches_of(((0, 20),), 46) == []


def slow(n_trs, n_voxels, rng, time_constant_s=40.0, tr_s=1.5):
    """Return AR(1) series with this time constant, half of their variance white noise."""
    keep = np.exp(-tr_s / time_constant_s)
    x_TV = rng.normal(size=(n_trs, n_voxels))
    for t in range(1, n_trs):
        x_TV[t] = keep * x_TV[t - 1] + np.sqrt(1 - keep**2) * x_TV[t]
    return ((x_TV + rng.normal(size=x_TV.shape)) / np.sqrt(2)).astype(np.float32)


def test_slow_noise_passes_for_prediction_at_the_nominal_rate_and_slow_predictions_lose_no_signal():
    rng, drift, n_voxels = np.random.default_rng(2), Detrend("mean", 1.5), 600
    blocks, test_blocks = ((80, 380),), ((0, 66),)
    predicted_TV = drift.apply(slow(400, n_voxels, rng), ((0, 400),))
    measured_TV = slow(66, n_voxels, rng)
    measured_TV[:, :200] = 0.4 * predicted_TV[:66, :200] + np.sqrt(0.84) * measured_TV[:, :200]
    measured_TV = drift.apply(measured_TV, test_blocks)
    r_V, null_NV = prewhitened_r(
        predicted_TV[:66], measured_TV, predicted_TV[80:380], test_blocks, blocks, drift, np.ones(66, bool)
    )
    p_V, null_V = pooled_p(r_V, null_NV), np.arange(n_voxels) >= 200
    assert 0.02 < (p_V[null_V] < 0.05).mean() < 0.08
    plain_NV = chance_r(predicted_TV[:66], measured_TV, predicted_TV[80:380], stretches_of(blocks, 66), drift)
    plain_V = pooled_p(pearson(predicted_TV[:66], measured_TV), plain_NV)
    power, plain_power = (np.mean(q_values(x_V)[~null_V] <= 0.05) for x_V in (p_V, plain_V))
    assert power > plain_power + 0.2
