"""Held-out maps name the voxels that are predicted, and no others."""

from dataclasses import replace

import numpy as np
import pytest

from giblet_train.analysis.held_out_maps import held_out_maps, pooled_p, q_values
from giblet_train.analysis.load_run import load_run
from giblet_train.schema.errors import DataError
from giblet_train.training import process
from tests.engine_study import load
from tests.unit.giblet_train.training.test_trainer import run_dir_of


def test_q_values_are_those_of_benjamini_and_hochberg():
    p = np.array([0.01, 0.04, 0.03, 0.005, 0.8])
    assert q_values(p) == pytest.approx([0.025, 0.05, 0.05, 0.025, 0.8])


def test_p_counts_the_values_of_the_null_that_are_as_large():
    null = np.arange(19.0).reshape(19, 1)
    assert pooled_p(np.array([18.5, 18.0, -1.0]), null) == pytest.approx([1 / 20, 2 / 20, 1.0])


def test_a_null_of_noise_is_rarely_significant_and_a_signal_is():
    rng = np.random.default_rng(0)
    r, null = 0.2 * rng.standard_normal(2000), 0.2 * rng.standard_normal((40, 2000))
    r[:200] += 1.0
    significant = q_values(pooled_p(r, null)) <= 0.05
    assert significant[:200].mean() > 0.95 and significant[200:].mean() < 0.01


def test_subjects_without_test_trs_are_an_error_with_a_remedy(tmp_path):
    run_dir = run_dir_of(tmp_path, num_epochs=1)
    assert process.train(run_dir.path, load) == 0
    run = load_run(run_dir.path, "best", load, lambda sentence, fraction=0.0: None)
    present = {subject: np.zeros(run.data.split.n_trs, bool) for subject in run.data.subjects}
    with pytest.raises(DataError, match="No subject has") as error:
        held_out_maps(replace(run, data=replace(run.data, present=present)))
    assert "fold" in error.value.remedy
