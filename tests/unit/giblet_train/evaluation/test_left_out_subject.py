"""A brain that was left out is predicted by what the others share, and by a head of its own."""

import dataclasses

import numpy as np
import pytest

from giblet_train.evaluation.left_out_subject import StimulusPrediction, left_out_figures
from giblet_train.schema.records import EvaluationMetric
from giblet_train.training import process
from tests.engine_study import split_data
from tests.unit.giblet_train.training.test_trainer import metrics_of, run_dir_of


def one_left_out(*_):
    data = split_data()
    bold = dict(data.bold)
    last = bold.popitem()
    return dataclasses.replace(data, bold=bold, left_out=dict([last]))


def test_a_brain_left_out_of_training_is_predicted(tmp_path):
    run_dir = run_dir_of(tmp_path, num_epochs=4, learning_rate=5e-3, model={"bottleneck_dim": 12})
    assert process.train(run_dir.path, one_left_out) == 0
    [evaluation] = metrics_of(run_dir, EvaluationMetric)
    [(subject, scores)] = evaluation.encoding["left_out"].items()
    assert subject == "sub-03" and scores["r_other_brains"] > 0.5
    for way in ("average_subject", "own_head", "own_head_on_average"):
        assert scores[f"r_{way}"] > 0.15, scores
    assert max(abs(v) for name, v in scores.items() if name.endswith("_null")) < 0.12


def test_the_test_block_of_the_newcomer_is_never_fitted():
    data = one_left_out()
    rng = np.random.default_rng(0)
    view = StimulusPrediction(rng.normal(size=(300, 4)).astype(np.float32), None)
    [(subject, bold_TV)] = data.left_out.items()
    poison_TV = bold_TV.copy()
    poison_TV[data.split.test] += rng.normal(size=(46, 60)).astype(np.float32) * 1e3
    opposite = dataclasses.replace(data, left_out={subject: -1.0 * bold_TV + 2.0 * _outside(bold_TV, data.split.test)})
    clean = left_out_figures(data, view)[subject]
    opposite_figures = left_out_figures(opposite, view)[subject]
    assert "r_average_subject" not in clean, "where subjects share no head there is no average"
    assert opposite_figures["r_own_head"] == pytest.approx(-clean["r_own_head"], abs=1e-6)
    assert opposite_figures["r_ridge"] == pytest.approx(-clean["r_ridge"], abs=1e-6)
    other = left_out_figures(dataclasses.replace(data, left_out={subject: poison_TV}), view)[subject]
    assert other["r_ridge"] != pytest.approx(clean["r_ridge"], abs=1e-3)


def test_nobody_left_out_says_nothing():
    assert left_out_figures(split_data(), StimulusPrediction(np.zeros((300, 2), np.float32), None)) == {}


def _outside(bold_TV, rows):
    outside_TV = bold_TV.copy()
    outside_TV[rows] = 0.0
    return outside_TV
