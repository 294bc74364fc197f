"""The initialisation is fitted again on training and validation TRs; everything that was selected or learnt stays."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from giblet_train.components import band_functions
from giblet_train.components.build import TrainingSetup
from giblet_train.components.refit import refit
from giblet_train.data.preprocessing.detrend import Detrend
from giblet_train.data.preprocessing.splits import Split
from giblet_train.evaluation.evaluator import Evaluator
from tests.engine_study import ALONE, config, split_data


def trained(data, **model):
    """Return a setup whose averaged model has 4 selected latents, a share, learnt heads and decoders that decode."""
    setup = TrainingSetup.build(config(model=model), data, ALONE)
    network = setup.train_step.average.model
    network.limit_start(4)
    network.share = 0.5
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if name.startswith(("heads.parts", "decoders.maps")):
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return setup


def predicted(data, setup):
    """Return subject -> responses (T, V) on the test TRs, and the film decoded from measured brains."""
    evaluator, network = Evaluator.of(setup, data), setup.train_step.average.model
    return dict(evaluator.predicted(network)), evaluator.rebuilt(network)["measured"]


def with_noise(data, rows):
    """Return the study with noise in place of the brains of some rows."""
    rng = np.random.default_rng(1)
    bold = {s: x_TV.copy() for s, x_TV in data.bold.items()}
    for x_TV in bold.values():
        x_TV[rows] = rng.normal(size=(len(rows), data.n_voxels))
    return replace(data, bold=bold)


def with_absences(data):
    """Return the study without some training rows and all validation rows of the last subject."""
    present = {s: np.ones(data.split.n_trs, bool) for s in data.subjects}
    absent = present[data.subjects[-1]]
    absent[20:60] = absent[data.split.validation] = False
    bold = {s: np.where(present[s][:, None], x_TV, np.float32(0.0)) for s, x_TV in data.bold.items()}
    return replace(data, bold=bold, present=present)


STUDIES = {
    "joint": lambda: (split_data(), {}),
    "per subject": lambda: (split_data(), {"compress": "per_subject"}),
    "uncompressed": lambda: (split_data(), {"compress": "none"}),
    "one subject": lambda: (split_data(n_subjects=1), {}),
    "absences": lambda: (with_absences(split_data()), {}),
    "detrended": lambda: (replace(split_data(), drift=Detrend("mean", 1.5)), {}),
}


@pytest.mark.parametrize("study", STUDIES)
def test_a_refit_on_the_same_trs_changes_nothing(monkeypatch, study):
    data, model = STUDIES[study]()
    setup = trained(data, **model)
    before, film = predicted(data, setup)
    monkeypatch.setattr(Split, "joined", property(lambda split: split))
    after, film_after = predicted(data, refit(setup, data))
    for subject in before:
        np.testing.assert_allclose(after[subject], before[subject], atol=2e-4)
    for modality in film:
        np.testing.assert_allclose(film_after[modality], film[modality], atol=2e-4)


@pytest.mark.parametrize("study", STUDIES)
def test_validation_trs_are_fitted_and_test_trs_never(study):
    data, model = STUDIES[study]()
    setup = trained(data, **model)
    again = refit(setup, data)
    assert again.refit_trs == len(data.split.train) + len(data.split.validation)
    network = again.train_step.average.model
    assert int(network.start_gate_Z.sum()) == 4 and network.share == 0.5
    with_test_noise = refit(setup, with_noise(data, data.split.test)).train_step.average.model.state_dict()
    with_validation_noise = refit(setup, with_noise(data, data.split.validation)).train_step.average.model.state_dict()
    heads = [name for name in network.state_dict() if name.startswith("heads.start.")]
    for name, tensor in network.state_dict().items():
        assert torch.equal(with_test_noise[name], tensor), name
    assert not any(
        with_validation_noise[name].shape == network.state_dict()[name].shape
        and torch.allclose(with_validation_noise[name], network.state_dict()[name])
        for name in heads
    )


def test_the_learnt_addition_stays_as_it_was():
    data = split_data()
    setup = trained(data)
    again = refit(setup, data)
    additions = []
    for stage in (setup, again):
        network = stage.train_step.average.model
        whole, _ = predicted(data, stage)
        network.share = 0.0
        start, _ = predicted(data, stage)
        additions.append({s: whole[s] - start[s] for s in whole})
    for subject, added_TV in additions[0].items():
        assert np.abs(added_TV).max() > 0.1
        np.testing.assert_allclose(additions[1][subject], added_TV, atol=1e-5)


def test_more_trs_predict_better():
    r = []
    for seed in range(3):
        data = split_data(seed=seed, signal=0.3)
        setup = TrainingSetup.build(config(), data, ALONE)
        for stage in (setup, refit(setup, data)):
            figures = Evaluator.of(stage, data).evaluation(stage.train_step.average.model, lambda: None)
            r.append(figures["encoding"]["r_responsive"])
            assert figures["encoding"]["refit_trs"] == stage.refit_trs
    assert np.mean(r[1::2]) > np.mean(r[::2]) + 0.005


def test_a_refit_beyond_the_exact_limit_works_with_axes(monkeypatch):
    data = split_data()
    exact, _ = predicted(data, refit(trained(data), data))
    monkeypatch.setattr(band_functions, "MOST_DUAL_TRS", len(data.split.train))
    sentences = []
    axes, _ = predicted(data, refit(trained(data), data, sentences.append))
    assert any("leading axes" in sentence for sentence in sentences)
    for subject, exact_TV in exact.items():
        assert ((axes[subject] - exact_TV) ** 2).sum() < 0.02 * (exact_TV**2).sum()


@pytest.mark.parametrize("model", [{"start": "zero"}, {"kind": "dense", "start": "zero", "compress": "none"}])
def test_a_network_without_an_initialisation_is_returned_as_it_is(model):
    data = split_data()
    setup = TrainingSetup.build(config(model=model), data, ALONE)
    assert refit(setup, data) is setup
