"""The baseline of the reconstruction: what it finds, and which brains it reads."""

import dataclasses

import numpy as np

from giblet_train.components.head_sharding import HeadSharding
from giblet_train.evaluation.metrics import reconstruction
from giblet_train.evaluation.ridge_decoder import ridge_decoded
from tests.engine_study import ALONE, split_data


def decoded(data):
    return ridge_decoded(data, HeadSharding(ALONE, data.subjects))


def test_features_that_drive_the_brain_are_decoded_from_it():
    data = split_data()
    films = decoded(data)
    assert set(films) == set(data.targets)
    skills = {
        m: reconstruction(x_TF, data.targets[m][data.split.test], data.target_weights[m])["skill"]
        for m, x_TF in films.items()
    }
    assert max(skills.values()) > 0.05
    permutations = {s: x[np.random.default_rng(0).permutation(len(x))] for s, x in data.bold.items()}
    films = decoded(dataclasses.replace(data, bold=permutations))
    assert all(
        reconstruction(x_TF, data.targets[m][data.split.test], data.target_weights[m])["skill"] < 0.05
        for m, x_TF in films.items()
    )


def test_brains_outside_the_blocks_and_films_of_the_test_block_are_not_read():
    data = split_data()
    blocks = np.concatenate([data.split.train, data.split.validation, data.split.test])
    outside = np.setdiff1d(np.arange(data.split.n_trs), blocks)
    bold = {s: x.copy() for s, x in data.bold.items()}
    targets = {m: x.copy() for m, x in data.targets.items()}
    for x_TV in bold.values():
        x_TV[outside] = np.nan
    for x_TF in targets.values():
        x_TF[data.split.test] = np.nan
    poison_result = decoded(dataclasses.replace(data, bold=bold, targets=targets))
    for modality, x_TF in decoded(data).items():
        np.testing.assert_array_equal(poison_result[modality], x_TF)
