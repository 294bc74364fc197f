"""Selection on the validation block: gains by chance are refused, clear gains are accepted, and all ranks agree."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from giblet_train.components.build import TrainingSetup
from giblet_train.components.head_sharding import HeadSharding
from giblet_train.distributed.process_group import ProcessGroup
from giblet_train.evaluation.encoding import select_candidate
from giblet_train.evaluation.evaluator import Evaluator
from giblet_train.evaluation.intervals import t_quantile
from giblet_train.evaluation.metrics import products_of
from tests.engine_study import ALONE, config, split_data


def evaluator_of(**model):
    """Return an evaluator of the synthetic study, and an untrained network."""
    data = split_data()
    setup = TrainingSetup.build(config(model=model), data, ALONE)
    return Evaluator.of(setup, data), setup.train_step.model


def add_to_predictions(monkeypatch, added_TR):
    """Let a network predict its start plus its share of an addition."""
    predict = Evaluator._predict_blocks

    def predicted(self, model, blocks):
        return [
            (batch, replace(f, scores_BWR=f.scores_BWR + model.share * added_TR[torch.from_numpy(batch.index_BW)]))
            for batch, f in predict(self, model, blocks)
        ]

    monkeypatch.setattr(Evaluator, "_predict_blocks", predicted)


def noise_like(scores_TR, seed):
    """Return noise of a tenth of the SD of the scores."""
    return 0.1 * scores_TR.std() * torch.randn(scores_TR.shape, generator=torch.Generator().manual_seed(seed))


def contributions(n_trs, signal, seed):
    """Return each TR's contribution to r of two predictions of 10 voxels; the second has that much more signal."""
    rng = np.random.default_rng(seed)
    truth, common, own, other = rng.normal(size=(4, n_trs, 10))
    both = truth + 2.0 * common
    return products_of(both + 0.3 * own, truth), products_of(both + signal * truth + 0.3 * other, truth)


def test_a_candidate_that_is_better_by_chance_is_refused():
    pairs = [contributions(300, 0.0, seed) for seed in range(200)]
    n_better = sum(other_T.sum() > start_T.sum() for start_T, other_T in pairs)
    n_selected = sum(select_candidate({0.0: start_T, 1.0: other_T}, 0.0) == 1.0 for start_T, other_T in pairs)
    assert n_better > 80
    assert n_selected <= 10


def test_of_clearly_better_candidates_the_best_is_selected():
    start_T, good_T = contributions(120, 0.5, 0)
    _, better_T = contributions(120, 2.0, 0)
    assert select_candidate({0.0: start_T, 0.5: good_T}, 0.0) == 0.5
    assert select_candidate({0.0: start_T, 0.5: better_T, 1.0: good_T}, 0.0) == 0.5


def test_a_t_quantile_is_that_of_the_tables():
    quantiles = {(0.975, 4): 2.776, (0.995, 4): 4.604, (0.975, 7): 2.365, (0.995, 14): 2.977}
    for (probability, n_free), quantile in quantiles.items():
        assert t_quantile(probability, n_free) == pytest.approx(quantile, rel=0.02)


def test_a_gain_of_one_block_out_of_five_is_no_reliable_gain():
    start_T = np.full(90, 0.005)
    luck_T = start_T.copy()
    luck_T[20:40] += 0.0005
    everywhere_T = start_T + 0.0001 * (1.0 + 0.1 * np.sin(np.arange(90)))
    assert select_candidate({0.0: start_T, 0.5: luck_T}, 0.0) == 0.0
    assert select_candidate({0.0: start_T, 0.5: luck_T, 1.0: everywhere_T}, 0.0) == 1.0


def test_equal_candidates_leave_the_reference():
    start_T, _ = contributions(40, 0.0, 0)
    assert select_candidate({0.0: start_T, 0.5: start_T.copy()}, 0.0) == 0.0


def test_an_untrained_network_keeps_its_start():
    evaluator, model = evaluator_of()
    assert evaluator.validation(model).share == 0.0


def test_an_addition_of_noise_is_refused_although_its_r_is_higher(monkeypatch):
    evaluator, model = evaluator_of()
    add_to_predictions(monkeypatch, noise_like(evaluator.objective.targets.scores_TR, seed=6))
    choices = {}
    for share in (None, 0.1, 0.25):
        other, _ = evaluator_of(learnt_share=share)
        choices[share] = replace(evaluator, setup=other.setup)._select_share(model)
    assert choices[0.25][1] > choices[0.1][1] > choices[None][1]
    assert choices[None][0] == 0.0


def test_an_addition_of_signal_is_accepted(monkeypatch):
    evaluator, model = evaluator_of()
    start_r = evaluator.validation(model).r
    add_to_predictions(monkeypatch, evaluator.objective.targets.scores_TR)
    share, r = evaluator._select_share(model)
    assert share == 1.0 and r > start_r + 0.2


def test_a_fixed_share_is_not_selected(monkeypatch):
    evaluator, model = evaluator_of(learnt_share=0.5)
    add_to_predictions(monkeypatch, -evaluator.objective.targets.scores_TR)
    assert evaluator._select_share(model)[0] == 0.5


def test_the_film_read_from_measured_responses_does_not_depend_on_the_share():
    evaluator, model = evaluator_of()
    with torch.no_grad():
        for parameter in (*model.heads.parts.values(), model.trunk.direct.weight):
            parameter.normal_()
    film = {}
    for share in (0.0, 1.0):
        model.share = share
        film[share] = evaluator.rebuilt(model)["measured"]
    for modality, rebuilt_TF in film[0.0].items():
        np.testing.assert_array_equal(film[1.0][modality], rebuilt_TF)


@dataclass(frozen=True)
class ThreadRanks(HeadSharding):
    """Ranks that are threads: sums over ranks meet at a barrier."""

    barrier: Any = None
    parts: dict[int, Any] = field(default_factory=dict)

    def total(self, own):
        """Sum over the ranks."""
        self.parts[self.ranks.rank] = own
        self.barrier.wait(timeout=60)
        total = sum(self.parts[rank] for rank in range(self.ranks.world_size))
        self.barrier.wait(timeout=60)
        return total


@pytest.mark.parametrize("kind", ["noise", "signal"])
def test_all_ranks_select_what_one_alone_selects(monkeypatch, kind):
    evaluator, model = evaluator_of()
    scores_TR = evaluator.objective.targets.scores_TR
    add_to_predictions(monkeypatch, scores_TR if kind == "signal" else noise_like(scores_TR, seed=3))
    share, r = evaluator._select_share(model)
    subjects, barrier, parts = evaluator.validation_responses.subjects, threading.Barrier(2), {}

    def selected(rank):
        shards = ThreadRanks(ProcessGroup(rank, 2, ALONE.device), evaluator.shards.subjects, False, barrier, parts)
        own = replace(evaluator.validation_responses, subjects=dict(list(subjects.items())[rank::2]))
        return replace(evaluator, shards=shards, validation_responses=own)._select_share(copy.deepcopy(model))

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(selected, range(2))
    assert first == second
    assert first == (share, pytest.approx(r))
