"""Facts of a component: plain numpy statistics, and codes recognised as codes."""

import numpy as np
import pytest

from giblet_train.data.preprocessing.component_stats import feature_stats, looks_categorical

RANDOM = np.random.default_rng(0)


def test_facts_are_numpys_statistics():
    raw = RANDOM.normal(7, 3, (60, 4)).astype(np.float32)
    scaled = ((raw - raw.mean(axis=0)) / raw.std(axis=0)).astype(np.float32)
    facts = feature_stats(raw, scaled, np.ones(4, np.float32))
    assert facts.raw_mean == pytest.approx(raw.mean(), rel=1e-5)
    assert facts.raw_sd == pytest.approx(raw.std(), rel=1e-5)
    assert (facts.raw_min, facts.raw_max) == (raw.min(), raw.max())
    assert facts.train_variance == pytest.approx(1.0, abs=1e-5)
    assert facts.expected_first_loss == pytest.approx(1.0, abs=1e-5)
    assert facts.constant_targets == 0


def test_a_component_that_was_not_normalised_says_what_its_first_loss_will_be():
    raw = RANDOM.normal(100, 5, (60, 4)).astype(np.float32)
    facts = feature_stats(raw, raw, np.ones(4, np.float32))
    assert facts.expected_first_loss == pytest.approx((raw**2).mean() / raw.var(axis=0).mean(), rel=1e-3)


def test_codes_look_categorical_and_measurements_do_not():
    codes = RANDOM.integers(0, 1024, (200, 8)).astype(np.float32)
    brightness = np.rint(np.cumsum(RANDOM.normal(0, 5, (200, 8)), axis=0)).astype(np.float32)
    assert looks_categorical(codes)
    assert not looks_categorical(brightness)
    assert not looks_categorical(RANDOM.normal(0, 300, (200, 8)))
