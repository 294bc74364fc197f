"""Dropout masks: their statistics, their independence of ranks, and compilation."""

from __future__ import annotations

import pytest
import torch

from giblet_train.analysis.gpu_check_worker import check_config, check_data
from giblet_train.components.build import TrainingSetup
from giblet_train.distributed.process_group import ProcessGroup
from giblet_train.model.dropout import StatelessDropout

ONES = torch.ones(8, 16, 512)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_share_p_is_dropped_and_the_mean_stays(p):
    masked = StatelessDropout(0, 0).dropout(ONES, p)
    n_sd = 4 * (p * (1 - p) / ONES.numel()) ** 0.5
    assert (masked == 0).float().mean().item() == pytest.approx(p, abs=n_sd)
    assert torch.allclose(masked[masked != 0], torch.tensor(1 / (1 - p)))


def test_masks_of_other_steps_seeds_and_places_are_independent():
    noise = StatelessDropout(0, 0)
    masks = [noise.dropout(ONES, 0.5), noise.dropout(ONES, 0.5)]
    masks += [StatelessDropout(seed, step).dropout(ONES, 0.5) for seed, step in ((0, 1), (1, 0), (1, 1))]
    r = torch.corrcoef(torch.stack([m.flatten() for m in masks])) - torch.eye(len(masks))
    assert r.abs().max() < 4 / ONES.numel() ** 0.5
    neighbours = torch.corrcoef(torch.stack([masks[0].flatten()[1:], masks[0].flatten()[:-1]]))
    assert abs(neighbours[0, 1]) < 4 / ONES.numel() ** 0.5


def test_the_mask_of_a_rank_is_its_part_of_the_mask_of_all_windows():
    whole = StatelessDropout(7, 3).dropout(ONES, 0.5)
    assert torch.equal(StatelessDropout(7, 3, first=2).dropout(ONES[2:5], 0.5), whole[2:5])
    assert torch.equal(StatelessDropout(7, 3).dropout(ONES, 0.5), whole)


def test_a_window_always_keeps_a_modality():
    kept_BM = StatelessDropout(0, 0).keep_mask(500, 3, 0.9)
    assert kept_BM.sum(dim=1).min() == 1
    assert (kept_BM.sum(dim=1) > 1).any()


def test_training_with_dropout_compiles_into_one_graph_for_all_steps():
    config = check_config(model={"start": "zero", "preset": "lab", "n_layers": 1})
    model = TrainingSetup.build(config, check_data(), ProcessGroup(0, 1, torch.device("cpu"))).train_step.model.train()
    features = {m: torch.randn(2, 40, linear.in_features) for m, linear in model.encoders.maps.items()}
    seen_BW = torch.ones(2, 40, dtype=torch.bool)
    graphs = []

    def counting(graph, inputs):
        graphs.append(graph)
        return graph.forward

    one_graph = torch.compile(model, backend=counting, fullgraph=True)
    z = [one_graph(features, seen_BW, StatelessDropout(0, step)) for step in range(3)]
    assert len(graphs) == 1
    for step in range(3):
        assert torch.equal(z[step], model(features, seen_BW, StatelessDropout(0, step)))
    assert not torch.equal(z[0], z[1])
