"""Balancing: factors against what they should do, and pulls against autograd by hand."""

import pytest
import torch

from giblet_train.components.loss_balancing import LossBalancer, squared_grad_norms


def test_fixed_factors_stay_one_whatever_pulls():
    balance = LossBalancer("fixed", ("fmri", "video"))
    balance.observe({"fmri": 100.0, "video": 0.01})
    assert [f.item() for f in balance.factor_of().values()] == [1.0, 1.0]
    assert balance.penalty().item() == 0.0


def test_gradnorm_evens_out_pulls_and_keeps_the_mean_factor():
    balance = LossBalancer("gradnorm", ("fmri", "video", "audio"))
    for _ in range(200):
        balance.observe({"fmri": 4.0, "video": 1.0, "audio": 1.0})
    factors = {c: f.item() for c, f in balance.factor_of().items()}
    assert sum(factors.values()) == pytest.approx(3.0)
    assert factors["fmri"] * 4.0 == pytest.approx(factors["video"] * 1.0, rel=1e-3)


def test_gradnorm_ignores_what_does_not_reach_the_bottleneck():
    balance = LossBalancer("gradnorm", ("fmri", "video", "audio"))
    balance.observe({"fmri": 1.0, "video": 0.0, "audio": 1.0})
    assert all(torch.isfinite(f) for f in balance.factor_of().values())


def test_uncertainty_at_its_optimum_is_one_over_the_loss_within_bounds():
    balance = LossBalancer("uncertainty", ("fmri", "text"))
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.05)
    losses = {"fmri": 0.5, "text": 1e-4}
    for _ in range(500):
        optimizer.zero_grad()
        (sum(f * losses[c] for c, f in balance.factor_of().items()) + balance.penalty()).backward()
        optimizer.step()
        balance.limit()
    factors = {c: f.item() for c, f in balance.factor_of().items()}
    assert factors["fmri"] == pytest.approx(2.0, rel=0.02)
    assert factors["text"] == pytest.approx(torch.tensor(2.0).exp().item(), rel=1e-3)


def test_squared_pull_is_the_gradient_at_the_bottleneck():
    z = torch.randn(3, 4, requires_grad=True)
    apart = torch.randn(3, requires_grad=True)
    pulls = squared_grad_norms({"fmri": (2 * z).sum(), "video": apart.sum(), "text": torch.zeros(())}, z)
    assert {c: float(p) for c, p in pulls.items()} == {"fmri": 4.0 * 12, "video": 0.0, "text": 0.0}


def test_an_uncertainty_weight_at_its_limit_recovers_when_the_loss_grows():
    balance = LossBalancer("uncertainty", ("fmri",))
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.05)
    for loss, n_steps in ((0.01, 600), (5.0, 600)):
        for _ in range(n_steps):
            optimizer.zero_grad()
            (balance.factor_of()["fmri"] * loss + balance.penalty()).backward()
            optimizer.step()
            balance.limit()
        factor = balance.factor_of()["fmri"].item()
        assert factor == pytest.approx(min(1.0 / loss, torch.tensor(2.0).exp().item()), rel=0.03)
