"""The response functions against nilearn's, and the direction of time."""

from __future__ import annotations

import numpy as np
import pytest
from nilearn.glm.first_level import glover_hrf, spm_hrf

from giblet_train.data.statistics import hrf


@pytest.mark.parametrize("tr_s", [0.72, 1.5, 2.0])
@pytest.mark.parametrize(
    ("fine", "reference"), [((6.0, 12.0, 0.9, 0.48), glover_hrf), ((6.0, 16.0, 1.0, 0.167), spm_hrf)]
)
def test_the_fine_response_is_nilearns(tr_s, fine, reference):
    ours = hrf.fine_response(tr_s, 32.0, 50, *fine)
    np.testing.assert_allclose(ours, reference(tr_s, oversampling=50), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("kernel", "reference"), [(hrf.glover, glover_hrf), (hrf.spm, spm_hrf)])
def test_the_tr_grid_holds_nilearns_response_summed_tr_by_tr(kernel, reference):
    fine = reference(1.5, oversampling=50)
    ours = kernel(1.5)
    assert len(ours) == 22
    for k, value in enumerate(ours):
        assert value == pytest.approx(fine[50 * k : 50 * (k + 1)].sum(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kernel", [hrf.glover(1.5), hrf.spm(1.5), hrf.double_gamma(5.2, 1.5)])
def test_area_is_one_so_a_constant_keeps_its_level(kernel):
    assert kernel.sum() == pytest.approx(1.0)
    response = hrf.convolve_causal(np.full((60, 1), 3.0), kernel)
    assert response[-1, 0] == pytest.approx(3.0)


@pytest.mark.parametrize("kernel", [hrf.glover(1.5), hrf.spm(1.5), hrf.double_gamma(5.2, 1.5)])
def test_the_response_to_an_impulse_is_zero_before_it_and_peaks_three_to_five_trs_after(kernel):
    impulse = np.zeros((60, 2))
    impulse[20, 1] = 1.0
    response = hrf.convolve_causal(impulse, kernel)
    assert not response[:20].any()
    assert not response[:, 0].any()
    assert 23 <= int(response[:, 1].argmax()) <= 25


@pytest.mark.parametrize("peak_s", [4.2, 5.2, 6.2])
def test_double_gamma_peaks_where_configured(peak_s):
    fine = hrf.double_gamma(peak_s, tr_s=0.02, oversampling=1)
    assert 0.02 * fine.argmax() == pytest.approx(peak_s, abs=0.1)


def test_convolution_is_numpys_cut_to_the_input():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(40, 3)), rng.normal(size=7)
    expected = np.stack([np.convolve(x[:, f], kernel)[:40] for f in range(3)], axis=1)
    np.testing.assert_allclose(hrf.convolve_causal(x, kernel), expected, rtol=1e-12)


def test_a_kernel_longer_than_the_scan_is_cut():
    x = np.eye(5)
    assert hrf.convolve_causal(x, np.arange(1.0, 10.0)).shape == (5, 5)
