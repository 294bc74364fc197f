"""Decoders start from ridge in closed form, whose penalty the validation TRs select."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from giblet_train.components import decoder_init
from giblet_train.components.build import TrainingSetup
from giblet_train.components.decoder_init import PENALTIES, decoder_inputs
from giblet_train.components.loss_terms import MEASURED
from giblet_train.evaluation.evaluator import LINEAR_DECODER, Evaluator
from tests.engine_study import ALONE, WIDTHS, config, split_data


def inputs_of(setup, windows):
    """Return the inputs of the decoders from predicted and then from measured brains (S·N, I), and their TRs (N,)."""
    batches, train_step = windows.sequential(), setup.train_step
    input_SNI = decoder_inputs(train_step.model.eval(), train_step.objective, setup.shards, batches)
    return input_SNI.flatten(0, 1).double().numpy(), np.concatenate([b.index_BW[b.scored_BW] for b in batches])


@pytest.mark.parametrize(("bottleneck_dim", "space"), [(6, "inputs"), (60, "TRs")])
def test_a_decoder_is_ridge_with_one_of_the_penalties(bottleneck_dim, space):
    data = split_data()
    setup = TrainingSetup.build(config(model={"bottleneck_dim": bottleneck_dim}), data, ALONE)
    input_NI, rows = inputs_of(setup, setup.train_step.windows)
    assert (len(input_NI) < input_NI.shape[1]) == (space == "TRs")
    power = (input_NI - input_NI.mean(axis=0)).var(axis=0).sum() * len(input_NI)
    for modality, decoder in setup.linear_decoders.items():
        target_NF = np.tile(data.targets[modality][rows], (2, 1))
        candidates = [Ridge(penalty * power).fit(input_NI, target_NF).coef_ for penalty in PENALTIES]
        errors = [np.abs(decoder.weight_FI - weight_FI).max() for weight_FI in candidates]
        assert min(errors) < 1e-4 * np.abs(decoder.weight_FI).max()


def test_the_film_is_decoded_before_the_first_step():
    data = split_data()
    setup = TrainingSetup.build(config(), data, ALONE)
    evaluator, network = Evaluator.of(setup, data), setup.train_step.model
    figures = evaluator.evaluation(network, lambda: None)
    skills = {m: scores["skill"] for m, scores in figures["decoding"][MEASURED].items()}
    assert min(skills.values()) > 0.0
    assert skills["audio"] > 0.05
    # Training has added nothing yet, so the network is its start.
    for modality, skill in skills.items():
        assert figures["decoding"][LINEAR_DECODER][modality]["skill"] == pytest.approx(skill, abs=1e-5)


def test_the_best_constant_is_still_the_scale_of_the_losses():
    data = split_data()
    setup = TrainingSetup.build(config(), data, ALONE)
    first = Evaluator.of(setup, data).initial_loss(setup.train_step.model)
    assert all(loss == pytest.approx(1.0, abs=1e-3) for loss in first.values())


def test_test_trs_do_not_matter():
    data = split_data()
    noise = {s: x_TV.copy() for s, x_TV in data.bold.items()}
    for x_TV in noise.values():
        x_TV[data.split.test] = np.random.default_rng(1).normal(size=x_TV[data.split.test].shape)
    setups = [TrainingSetup.build(config(), d, ALONE) for d in (data, replace(data, bold=noise))]
    for modality in WIDTHS:
        weights = [setup.linear_decoders[modality].weight_FI for setup in setups]
        np.testing.assert_array_equal(*weights)


def test_trs_without_a_modality_do_not_count_for_it():
    data = split_data()
    shown_T = np.ones(data.split.n_trs, bool)
    shown_T[20:80] = False
    changed = {m: x_TF.copy() for m, x_TF in data.targets.items()}
    changed["text"][20:80] = 100.0
    study = replace(data.study, shown={"text": shown_T})
    setups = [
        TrainingSetup.build(config(), replace(data, study=study, targets=t), ALONE) for t in (data.targets, changed)
    ]
    for modality in WIDTHS:
        weights = [setup.linear_decoders[modality].weight_FI for setup in setups]
        np.testing.assert_array_equal(*weights)


def test_a_long_study_is_thinned_out_and_decomposed_once_for_all_modalities(monkeypatch):
    monkeypatch.setattr(decoder_init, "MOST_TRS", 90)
    data = split_data()
    n_inputs = []
    path_of = decoder_init._RidgePath.of

    def noting(input_NI):
        n_inputs.append(len(input_NI))
        return path_of(input_NI)

    monkeypatch.setattr(decoder_init._RidgePath, "of", noting)
    TrainingSetup.build(config(), data, ALONE)
    assert len(n_inputs) == 1
    assert 2 * 60 <= n_inputs[0] <= 2 * 90


def test_a_network_without_initialisation_decodes_nothing_at_first():
    setup = TrainingSetup.build(config(model={"start": "zero"}), split_data(), ALONE)
    assert not setup.linear_decoders
    assert not any(linear.weight.any() for linear in setup.train_step.model.decoders.maps.values())


def test_a_modality_that_validation_trs_lack_starts_at_zero():
    data = split_data()
    shown_T = np.ones(data.split.n_trs, bool)
    shown_T[data.split.validation] = False
    setup = TrainingSetup.build(config(), replace(data, study=replace(data.study, shown={"text": shown_T})), ALONE)
    assert set(setup.linear_decoders) == {"video", "audio"}
