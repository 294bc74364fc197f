"""Fit the ridge initialisation again on training and validation TRs, once validation TRs have selected everything.

They select the number of latents, the share of the learnt addition and the best weights, so they cannot be fitted
until then. What was selected is kept. Scales, masks and learnt weights remain those of the training TRs, and the gap
between training and validation TRs remains unused. Decoders keep the readout that they were trained
with, approximated by a linear map of the new heads, so that a published model stores one set of heads.
Z latents of the ridge initialisation, R compressed responses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from torch import Tensor

from giblet_train.components.build import TrainingSetup, fit_ridge_init, network_of
from giblet_train.components.head_sharding import HEADS, HeadSharding
from giblet_train.components.loss_terms import LossTerms
from giblet_train.components.targets import targets_of
from giblet_train.components.train_step import START_HEADS, TrainStep
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.model.heads import Heads
from giblet_train.model.linear_encoder import LinearInit
from giblet_train.model.network import BrainModel

FROM_RIDGE = ("linear_path.", START_HEADS)
"""Tensors of the network that the ridge initialisation determines."""
SMALLEST_POWER = 1e-10
"""Power of a direction of heads relative to the largest, below which it expresses nothing."""


def refit(
    setup: TrainingSetup, data: PreparedSplit, report_progress: Callable[[str], None] = lambda sentence: None
) -> TrainingSetup:
    """Return a setup whose averaged model is that of `setup` with its ridge initialisation fitted again.

    A network without one is returned as it is. Collective over the ranks that evaluate; `setup` is not changed.

    Args:
        setup: its averaged model has the selected weights, latents and share.
        data: the split of the run.
        report_progress: receives progress, because this may take as long as the first fit.
    """
    network = setup.train_step.average.model
    if not isinstance(network, BrainModel) or network.linear_path is None:
        return setup
    assert setup.compression is not None
    config, shards, device = setup.config, setup.shards, setup.ranks.device
    both = replace(data, split=data.split.joined)
    report_progress(f"fitting the initialisation again on {len(both.split.train)} training and validation TRs")
    with threadpool_limits(config.threads or 1):
        ridge = fit_ridge_init(config, both, setup.shape, shards, report_progress)
        # The selected weights are in the basis of the setup, whose columns the wider one keeps.
        compression, heads_KR = setup.compression.extended_by(ridge.group_KV, ridge.own)
        targets = targets_of(data, compression, shards).to(device)
    start = LinearInit(ridge.path, torch.from_numpy(heads_KR), ridge.expansion)
    model = network_of(config, setup.shape, targets, data.study.tr_s, start)
    assert isinstance(model, BrainModel)
    model.load_state_dict(_with_learnt_weights(model.state_dict(), network.state_dict()))
    model.share = network.share
    model.reading_ZZ = _in_terms_of(model.heads, network.heads, shards)
    model = model.to(device)
    train_step = TrainStep(
        model, LossTerms(targets, config), setup.train_step.windows, setup.train_step.plan, config, shards
    )
    return replace(
        setup,
        train_step=train_step,
        compression=compression,
        start_signal=ridge.signal,
        posterior=ridge.posterior,
        refit_trs=len(both.split.train),
    )


def _with_learnt_weights(initial: Mapping[str, Tensor], learnt_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of a network: the ridge initialisation of `initial`, everything else of `learnt_state`.

    Learnt heads are 0 in the columns that the basis has gained.
    """
    state = {}
    for name, tensor in initial.items():
        if name.startswith(FROM_RIDGE):
            state[name] = tensor
        elif name.startswith(HEADS):
            state[name] = F.pad(learnt_state[name], (0, tensor.shape[-1] - learnt_state[name].shape[-1]))
        else:
            state[name] = learnt_state[name]
    return state


def _in_terms_of(now: Heads, before: Heads, shards: HeadSharding) -> Tensor:
    """Return (Z, Z): maps the fixed heads `now` to those `before`, as well as they can express them.

    Least squares over the responses of all subjects.
    """
    before_now_ZZ, now_now_ZZ = np.zeros((2, now.n_start, now.n_start))
    for part in now.parts:
        now_ZR, before_ZR = (heads.start[part].double().cpu().numpy() for heads in (now, before))
        before_now_ZZ += before_ZR @ now_ZR[:, : before_ZR.shape[1]].T
        now_now_ZZ += now_ZR @ now_ZR.T
    inverse_ZZ = np.linalg.pinv(shards.total(now_now_ZZ), rcond=SMALLEST_POWER, hermitian=True)
    map_ZZ = shards.from_rank_0(shards.total(before_now_ZZ) @ inverse_ZZ)
    return torch.from_numpy(map_ZZ).float()
