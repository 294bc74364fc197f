"""Features that are categories: shares of codes, a cross-entropy over the best constant's, and what is made of them.

The codes have EnCodec's shape, 4 books at 112 moments a TR, but with 128 codes instead of 1024 to save time. They
follow what the synthetic brains follow.
"""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from giblet_train.analysis.ensemble import score_folds
from giblet_train.analysis.lesions import lesion_study
from giblet_train.analysis.load_run import load_run
from giblet_train.analysis.reconstruct import format_reconstruction, reconstruct
from giblet_train.components.build import TrainingSetup
from giblet_train.components.loss_terms import LossTerms
from giblet_train.components.losses import cross_entropy, scale_of
from giblet_train.data.preprocessing.component_stats import code_stats
from giblet_train.data.preprocessing.parcels import Parcel
from giblet_train.data.preprocessing.split_data import prepare_split
from giblet_train.data.preprocessing.splits import make_split
from giblet_train.data.preprocessing.standardize import fit_columns
from giblet_train.data.stimulus.code_frequencies import code_cross_entropy, unigram
from giblet_train.diagnosis import sanity_checks
from giblet_train.distributed.process_group import ProcessGroup
from giblet_train.evaluation.evaluator import Evaluator
from giblet_train.evaluation.metrics import reconstruction
from giblet_train.schema.errors import DataError
from giblet_train.schema.records import DataMetric, EpochMetric, EvaluationMetric, RunMetric
from giblet_train.training import process
from tests.engine_study import config, split_data
from tests.made_study import made_config, made_study
from tests.unit.giblet_train.training.test_trainer import metrics_of, run_dir_of

BOOKS, CODES, MOMENTS = 4, 128, 112
QUIET = lambda sentence, fraction=0.0: None  # noqa: E731


def counted(ids_TNB, n_codes):
    """Return (T, B·Q), as `brought_features` counts them."""
    n_trs, n_moments, n_books = ids_TNB.shape
    cells = (np.arange(n_trs)[:, None, None] * n_books + np.arange(n_books)) * n_codes + ids_TNB
    counts = np.bincount(cells.ravel(), minlength=n_trs * n_books * n_codes)
    return (counts / n_moments).astype(np.float32).reshape(n_trs, -1)


def coded_study(*_, n_codes=CODES):
    """Return the synthetic study with audio ids; the first of a held-out TR never occurs in training."""
    data, rng = split_data(signal=0.9), np.random.default_rng(1)
    train, width = data.split.train, n_codes // 8
    heard_TNB = data.targets["audio"][:, None, [0, 1, 2, 0]] + rng.normal(0, 0.3, (300, MOMENTS, BOOKS))
    ids_TNB = np.digitize(heard_TNB, [-1.0, -0.4, 0.0, 0.4, 1.0]) * width + rng.integers(0, 4, heard_TNB.shape)
    ids_TNB[data.split.test, 0] += 4
    shares_TF = counted(ids_TNB, n_codes)
    book = unigram(shares_TF[train], n_codes, "audio")
    return dataclasses.replace(
        data,
        inputs=data.inputs | {"audio": fit_columns(shares_TF, train).apply(shares_TF)},
        targets=data.targets | {"audio": shares_TF},
        target_weights=data.target_weights | {"audio": np.ones(BOOKS * n_codes, np.float32)},
        unigram={"audio": book},
        facts={**data.facts, "audio": code_stats(shares_TF[train], book)},
    )


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    # All reconstructions share one choice of weights, and most columns of this study's video and text are noise. With
    # a weight of 0 they leave the choice to the codes.
    directory = run_dir_of(
        tmp_path_factory.mktemp("work"), num_epochs=8, learning_rate=5e-3, video_weight=0.0, text_weight=0.0
    )
    assert process.train(directory.path, coded_study) == 0
    return directory


@pytest.fixture(scope="module")
def run(run_dir):
    return load_run(run_dir.path, "best", coded_study, QUIET)


def evaluator_of(data, **overrides):
    setup = TrainingSetup.build(config(**overrides), data, ProcessGroup(0, 1, torch.device("cpu")))
    return setup, Evaluator.of(setup, data)


def test_the_best_constant_scores_one_and_unseen_codes_stay_finite():
    data = coded_study(n_codes=64)
    setup, evaluator = evaluator_of(data)
    first = evaluator.initial_loss(setup.train_step.model)
    assert first["audio"] == pytest.approx(1.0, abs=1e-5)
    shares = data.targets["audio"][data.split.train]
    book_BQ = shares.mean(axis=0).reshape(BOOKS, 64)
    entropy = np.mean([-(p[p > 0] * np.log(p[p > 0])).sum() for p in book_BQ.astype(float)])
    scale = setup.train_step.objective.scales["audio"]
    # What the one TR beside those of training costs.
    assert entropy < scale < entropy * 1.005 and code_cross_entropy(shares, book_BQ) == pytest.approx(entropy, rel=1e-5)
    held_out = evaluator.evaluation(setup.train_step.model, lambda: None)
    assert held_out["skill"]["audio"] == pytest.approx(0.0, abs=1e-4)
    assert math.isfinite(code_cross_entropy(data.targets["audio"][data.split.test], data.unigram["audio"]))


def test_the_term_and_its_gradient_are_torchs_over_all_moments():
    torch.manual_seed(0)
    ids = torch.randint(0, 7, (3, 5, 12, 2))
    shares = functional.one_hot(ids, 7).double().mean(dim=2).flatten(-2)
    log_unigram = torch.rand(2, 7, dtype=torch.double).softmax(dim=-1).log()
    scored = torch.rand(3, 5) < 0.6
    ours, theirs = (torch.randn(3, 5, 14, dtype=torch.double).requires_grad_() for _ in range(2))
    with torch.no_grad():
        theirs.copy_(ours)
    loss = cross_entropy(ours, shares, scored, log_unigram)
    logits = (theirs.view(3, 5, 1, 2, 7) + log_unigram).expand(3, 5, 12, 2, 7)[scored].flatten(0, 2)
    expected = functional.cross_entropy(logits, ids[scored].flatten(), reduction="sum") / 12
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert ours.grad.abs().sum() > 0


def test_pieces_of_a_step_add_up_to_it():
    train_step = evaluator_of(coded_study(n_codes=64))[0].train_step
    with torch.no_grad():
        train_step.model.decoders.maps["audio"].weight.normal_(0, 0.1)
    train_step.model.eval()
    batch = train_step.windows.sample(0, 0, 4)
    n_scored = train_step.objective.targets.n_scored([batch])

    def term(piece):
        portion = train_step.shards.whole(piece)
        forward = train_step.objective.forward(train_step.model, portion, None)
        return train_step.objective.terms(forward, portion, n_scored, 4)["audio"].item()

    whole = term(batch)
    assert whole == pytest.approx(term(batch.rows(0, 1)) + term(batch.rows(1, 4)), rel=1e-5)
    assert abs(whole - 1.0) > 0.01


def test_another_scale_leaves_nats_or_the_same():
    assert [scale_of(6.0, scale, codes=True) for scale in ("variance", "std", "none")] == [6.0, 6.0, 1.0]
    data = coded_study(n_codes=64)
    targets = evaluator_of(data)[0].train_step.objective.targets
    raw = LossTerms(targets, config(losses={"scale": "none"}))
    assert raw.scales["audio"] == 1.0
    assert targets.constant_loss["audio"] == pytest.approx(data.facts["audio"].train_variance, rel=1e-6)


def test_a_run_learns_codes_and_its_records_say_so(run_dir):
    (data,), (run,) = metrics_of(run_dir, DataMetric), metrics_of(run_dir, RunMetric)
    assert data.components["audio"].codes == CODES and run.first_loss["audio"] == pytest.approx(1.0, abs=1e-4)
    assert sanity_checks.check_data(data.components) == []
    epochs = metrics_of(run_dir, EpochMetric)
    assert epochs[-1].train.loss["audio"] < 0.9
    assert epochs[-1].validation.skill["audio"] > 0.02
    (evaluation,) = metrics_of(run_dir, EvaluationMetric)
    for source in ("predicted", "measured"):
        figures = evaluation.decoding[source]["audio"]
        assert figures["skill"] > 0.0 and figures["r"] > 0.0 and figures["two_way"] > 0.6, (source, figures)


def test_ensembles_and_lesions_speak_of_probabilities(run_dir, run):
    rebuilt = run.evaluator.rebuilt(run.model)["measured"]["audio"]
    np.testing.assert_allclose(rebuilt.reshape(-1, BOOKS, CODES).sum(axis=-1), 1.0, atol=1e-4)
    (fold,) = score_folds([run_dir.path, run_dir.path], "best", coded_study, QUIET)
    np.testing.assert_allclose(fold.rebuilt["measured"]["audio"], rebuilt, atol=1e-6)
    study = lesion_study(run, [Parcel("film", run.data.responsive_V)], "measured", "missing", 3, QUIET)
    (evaluation,) = metrics_of(run_dir, EvaluationMetric)
    before = study["before"]["audio"]["skill"]
    assert before == pytest.approx(evaluation.decoding["measured"]["audio"]["skill"], rel=1e-3, abs=1e-4)
    assert study["lesions"][0]["changes"]["audio"]["skill"]["lost"] > 0.5 * before


def test_the_likeliest_codes_are_written_and_silence_is_reported(run, tmp_path):
    messages = []
    own_config = made_config(data={"features": {"audio": {"file": "codes.npy", "rows_per_s": 75.0, "codes": CODES}}})
    features = dataclasses.replace(run, config=own_config)
    (tmp_path / "out").mkdir()
    record = reconstruct(features, tmp_path / "out", lambda sentence, share=0.0: messages.append(sentence))
    assert record["sounds"] == {} and any("no sound" in sentence for sentence in messages)
    films = {source: np.load(tmp_path / "out" / files["audio"]) for source, files in record["codes"].items()}
    assert {source: codes.shape for source, codes in films.items()} == dict.fromkeys(
        ("film", "predicted", "measured"), (46, BOOKS)
    )
    true = run.data.targets["audio"][run.data.split.test].reshape(46, BOOKS, CODES)
    np.testing.assert_array_equal(films["film"], true.argmax(axis=-1))
    assert json.loads(json.dumps(record))["codes"] == record["codes"]
    assert "no sound" in format_reconstruction(record)[1]
    assert "codes_audio_measured.npy" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_a_split_gives_shares_to_rebuild_and_scaled_ones_to_see(modality):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 5, (110, 9, 2))
    ids[60:] += 1  # a code that the first scan never has
    shares = counted(ids, 6)
    study = made_study()
    study = dataclasses.replace(study, features={**study.features, modality: shares}, codes={modality: 6})
    split = make_split(study.scan_lengths_trs, study.border_trs, made_config(split={"gap_trs": 4}).split)
    data = prepare_split(study, split, made_config(split={"gap_trs": 4}))
    np.testing.assert_array_equal(data.targets[modality], shares)
    np.testing.assert_allclose(data.unigram[modality].sum(axis=1), 1.0, rtol=1e-5)
    assert data.unigram[modality].min() > 0
    width = data.inputs[modality].shape[1]
    assert (width > 12) == (modality == "video"), "the network sees frames beside the codes"
    np.testing.assert_allclose(data.inputs[modality][split.train].std(axis=0)[:12].max(), 1.0, rtol=1e-3)
    assert (data.pca_columns.stop == 0) == (modality == "video")
    dirty = {m: x.copy() for m, x in study.features.items()}
    dirty[modality][np.setdiff1d(np.arange(110), split.train)] = np.nan
    again = prepare_split(dataclasses.replace(study, features=dirty), split, made_config(split={"gap_trs": 4}))
    np.testing.assert_array_equal(again.unigram[modality], data.unigram[modality])
    np.testing.assert_array_equal(again.target_weights[modality], data.target_weights[modality])


def test_skill_is_over_the_unigram_on_the_same_trs():
    rng = np.random.default_rng(0)
    true = counted(rng.integers(0, 4, (40, 6, 1)), 4)
    book = np.full((1, 4), 0.25, np.float32)
    weight = np.ones(4, np.float32)
    assert reconstruction(np.tile(book, (40, 1)), true, weight, book)["skill"] == pytest.approx(0.0, abs=1e-6)
    estimate = 0.9 * true + 0.025
    expected = 1 - np.mean(-(true * np.log(estimate)).sum(axis=1)) / np.log(4)
    assert reconstruction(estimate, true, weight, book)["skill"] == pytest.approx(expected, rel=1e-5)


def test_codes_that_never_change_are_refused():
    with pytest.raises(DataError, match="codes of audio are the same at every moment"):
        unigram(counted(np.full((30, 4, 2), 3), 8), 8, "audio")
