"""Inter-subject correlation: equal to the mean over all pairs by numpy, and its null to chance."""

from itertools import combinations

import numpy as np
import pytest

from giblet_train.data.preprocessing.standardize import fit_columns
from giblet_train.data.statistics.isc import shared_response

RANDOM = np.random.default_rng(0)


def brains(n_subjects, n_trs, n_shared, n_alone, share=0.5):
    signal = RANDOM.standard_normal((n_trs, n_shared))
    bold = {}
    for n in range(n_subjects):
        own = RANDOM.standard_normal((n_trs, n_shared + n_alone))
        own[:, :n_shared] = np.sqrt(share) * signal + np.sqrt(1 - share) * own[:, :n_shared]
        bold[str(n)] = own
    return bold


def test_equals_the_mean_of_all_pairs():
    train = np.arange(10, 90)
    raw = brains(4, 100, 5, 6)
    bold = {s: fit_columns(y, train).apply(y) for s, y in raw.items()}
    expected = np.mean(
        [
            [np.corrcoef(bold[a][train, v], bold[b][train, v])[0, 1] for v in range(11)]
            for a, b in combinations(bold, 2)
        ],
        axis=0,
    )
    np.testing.assert_allclose(shared_response(bold, train).isc_V, expected, atol=1e-5)


def test_rows_with_the_scale_of_other_scans_are_still_correlated():
    """A scan with few training TRs is z-scored by all scans: its rows have another mean and variance."""
    train = np.arange(60)
    raw = brains(3, 60, 5, 6)
    bold = {s: (0.7 * y + 0.4).astype(np.float32) for s, y in raw.items()}
    pairs = [[np.corrcoef(raw[a][:, v], raw[b][:, v])[0, 1] for v in range(11)] for a, b in combinations(raw, 2)]
    np.testing.assert_allclose(shared_response(bold, train).isc_V, np.mean(pairs, axis=0), atol=1e-5)


def test_shared_voxels_are_distinguished_from_the_others():
    train = np.arange(200)
    bold = {s: fit_columns(y, train).apply(y) for s, y in brains(5, 200, 300, 2000).items()}
    isc = shared_response(bold, train)
    responsive, null = isc.above_chance(), isc.at_chance()
    assert responsive[:300].mean() > 0.99
    assert responsive[300:].mean() < 0.03
    assert null[300:].mean() == pytest.approx(0.75, abs=0.05)
    assert not (responsive & null).any()
    assert isc.null.mean() == pytest.approx(0.0, abs=0.02)


def test_one_subject_is_no_pair():
    with pytest.raises(ValueError, match="two subjects"):
        shared_response({"1": np.zeros((10, 3), np.float32)}, np.arange(10))
