"""Reading latents back out of responses, against a ridge regression solved by numpy."""

import numpy as np
import pytest
import torch

from giblet_train.model.heads import Heads, ridge_readout


def test_readout_is_the_ridge_inverse():
    rng = np.random.default_rng(0)
    weight_KR, scores_TR = rng.normal(size=(4, 30)), rng.normal(size=(7, 30))
    expected = np.linalg.solve(weight_KR @ weight_KR.T + 3.0 * np.eye(4), weight_KR @ scores_TR.T).T
    [readout] = ridge_readout([torch.tensor(scores_TR).float()], torch.tensor(weight_KR).float(), torch.tensor(3.0))
    np.testing.assert_allclose(readout, expected, rtol=1e-4, atol=1e-6)


def test_readout_has_a_gradient_to_responses():
    scores = torch.randn(2, 6, 10, requires_grad=True)
    ridge_readout([scores], torch.randn(3, 10), torch.tensor(1.0))[0].sum().backward()
    assert scores.grad is not None and scores.grad.abs().sum() > 0


@pytest.mark.parametrize("forbidden", ["linalg.solve", "linalg.inv", "slogdet", ".inverse(", "lu_solve", "linalg.det"])
def test_the_engine_never_asks_torch_for_a_batched_lu(forbidden):
    """torch's batched LU gives wrong numbers on some CPU builds (pytorch issue 142815)."""
    from pathlib import Path

    import giblet_train

    root = Path(giblet_train.__file__).parent
    sources = {path: path.read_text().replace(f"np.{forbidden}", "") for path in root.rglob("*.py")}
    assert not [path for path, text in sources.items() if forbidden in text and "import torch" in text]


def test_weights_that_are_not_finite_read_as_not_finite_and_raise_nothing():
    weight_KR = torch.randn(3, 10)
    weight_KR[0, 0] = torch.inf
    assert ridge_readout([torch.randn(2, 10)], weight_KR, torch.tensor(1.0))[0].isnan().all()


def test_a_rank_without_subjects_has_heads_with_a_row_per_latent():
    heads = Heads(3, {"sub-01": 5}, torch.ones(0), start_ZR=torch.zeros(4, 0), local_parts=())
    assert heads.weight_KR.shape == (7, 0) and heads.start_ZR.shape == (4, 0)
