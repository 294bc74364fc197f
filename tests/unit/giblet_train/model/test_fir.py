"""The response kernel is causal, and starts as the haemodynamic response."""

import numpy as np
import torch

from giblet_train.components.build import response_kernel
from giblet_train.model.fir import CausalFir
from tests.engine_study import config


def test_an_impulse_answers_later_and_never_before():
    kernel_L = response_kernel(config(), 1.5, 13)
    z_BWK = torch.zeros(1, 40, 2)
    z_BWK[0, 10, 0] = 1.0
    response_WK = CausalFir(2, kernel_L[None])(z_BWK)[0].detach()
    assert torch.equal(response_WK[:10], torch.zeros(10, 2))
    assert torch.equal(response_WK[:, 1], torch.zeros(40))
    np.testing.assert_allclose(response_WK[10:23, 0], kernel_L, atol=1e-7)
    assert 3 <= int(response_WK[:, 0].argmax()) - 10 <= 5


def test_it_is_a_convolution_cut_to_length():
    rng = np.random.default_rng(0)
    z, kernel = rng.normal(size=50), rng.normal(size=7)
    out = CausalFir(1, torch.tensor(kernel)[None])(torch.tensor(z, dtype=torch.float32)[None, :, None]).detach()
    np.testing.assert_allclose(out[0, :, 0], np.convolve(z, kernel)[:50], rtol=1e-4, atol=1e-5)


def test_features_convolved_beforehand_get_no_second_delay():
    kernel_L = response_kernel(config(data={"apply_hrf": True}), 1.5, 13)
    assert kernel_L.tolist() == [1.0] + [0.0] * 12


def test_drift_is_zero_at_the_start():
    fir = CausalFir(3, torch.ones(1, 4))
    assert fir.drift().item() == 0.0
    with torch.no_grad():
        fir.kernel_KL += 2.0
    assert fir.drift().item() == 4.0
