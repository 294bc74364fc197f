"""The lab's first shape of network, in the same engine: what it can and cannot do."""

import pytest
import torch

from giblet_train.components.build import TrainingSetup
from giblet_train.components.loss_terms import LossTerms
from giblet_train.evaluation.evaluator import Evaluator
from giblet_train.schema.errors import ConfigError
from tests.engine_study import ALONE, config, split_data

DENSE = {"kind": "dense", "compress": "none", "start": "zero", "head_width": 24, "context_trs": 0, "window_trs": 1}


@pytest.fixture(scope="module")
def setup():
    return TrainingSetup.build(config(model=DENSE, batch_size=2), split_data(), ALONE)


def test_a_step_sees_two_trs_and_predicts_all_subjects_alike(setup):
    train_step = setup.train_step
    batch = train_step.windows.sample(0, 0, 2)
    assert batch.n_scored == 2 and batch.index_BW.shape == (2, 1)
    for step in range(5):
        train_step.step(step, {})
    portion = setup.shards.whole(batch)
    forward = LossTerms(train_step.objective.targets, setup.config).forward(train_step.model, portion, None)
    subject_scores = forward.scores_BWR.detach().reshape(2, 3, 60)
    assert (
        subject_scores.abs().max() > 0
        and torch.equal(subject_scores[:, 0], subject_scores[:, 1])
        and torch.equal(subject_scores[:, 0], subject_scores[:, 2])
    )
    assert set(forward.rebuilt) == {"predicted"}, "it reads no brain"


def test_its_losses_start_at_one(setup):
    fresh = TrainingSetup.build(setup.config, split_data(), setup.ranks)
    first = Evaluator.of(fresh, split_data()).initial_loss(fresh.train_step.model)
    assert first == pytest.approx(dict.fromkeys(("fmri", "video", "audio", "text"), 1.0), rel=1e-4)


def test_a_width_that_no_attention_could_have_is_built():
    odd = TrainingSetup.build(config(model=DENSE | {"width": 65, "bottleneck_dim": 3}), split_data(), ALONE)
    assert odd.train_step.model.maps["text"].in_features == 65
    with pytest.raises(ConfigError, match="attention heads"):
        TrainingSetup.build(config(model={"width": 65}), split_data(), ALONE)


def test_a_configuration_that_it_cannot_honour_is_refused():
    with pytest.raises(ConfigError, match="dense has no ridge initialisation"):
        config(model={"kind": "dense"})
