"""r on the validation block, against numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from giblet_train.analysis.gpu_check_worker import check_data
from giblet_train.evaluation.metrics import pearson, products_of
from giblet_train.evaluation.validation_responses import ValidationResponses
from giblet_train.model.voxel_basis import compress

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", ["joint", "none"])
def test_contributions_to_r_are_those_of_expanded_predictions(kind):
    data = check_data()
    basis = compress(kind, data.bold, data.split.train, data.subjects)
    responses = ValidationResponses.of(data, basis, data.subjects, CPU)
    rng, rows = np.random.default_rng(0), data.split.validation
    base, addition = (rng.normal(size=(len(rows), basis.n_columns)).astype(np.float32) for _ in range(2))
    r_by_share = responses.r_T(torch.from_numpy(base), torch.from_numpy(addition), (0.0, 0.5))
    measured = {s: data.bold[s][rows][:, data.responsive_V] for s in data.subjects}
    for share, found_T in zip((0.0, 0.5), r_by_share, strict=True):
        predicted = {s: basis.expand(s, base + share * addition)[:, data.responsive_V] for s in data.subjects}
        expected_T = sum(products_of(predicted[s], measured[s]) for s in data.subjects)
        np.testing.assert_allclose(found_T, expected_T, atol=1e-6)
        r_V = np.mean([pearson(predicted[s], measured[s]) for s in data.subjects], axis=0)
        if share == 0.0:
            np.testing.assert_allclose(responses.r_V(torch.from_numpy(base)), r_V, atol=1e-6)


def test_a_subject_counts_only_in_its_own_rows():
    data = check_data()
    first, rows = data.subjects[0], data.split.validation
    present = {s: np.ones(data.split.n_trs, bool) for s in data.subjects}
    present[first][rows[::3]] = False
    data = replace(data, present=present)
    basis = compress("per_subject", data.bold, data.split.train, data.subjects)
    responses = ValidationResponses.of(data, basis, (first,), CPU)
    scores = np.random.default_rng(0).normal(size=(len(rows), basis.n_columns)).astype(np.float32)
    [found_T] = responses.r_T(torch.from_numpy(scores))
    own_T = present[first][rows]
    predicted_TV = basis.expand(first, scores)[own_T][:, data.responsive_V]
    expected_T = products_of(predicted_TV, data.bold[first][rows][own_T][:, data.responsive_V])
    np.testing.assert_allclose(found_T[own_T], expected_T, atol=1e-6)
    assert not found_T[~own_T].any()
