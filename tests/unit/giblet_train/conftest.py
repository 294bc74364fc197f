"""What tests of the engine share: work on equal arrays and films is done once for all tests of a worker.

The fixtures do nothing where the engine is not imported, as on a laptop.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.memo import content_key, remembered

if TYPE_CHECKING:
    from giblet_train.components.batches import Batch
    from giblet_train.components.head_sharding import HeadSharding
    from giblet_train.components.ridge_init import RidgeInit
    from giblet_train.data.preprocessing.split_data import PreparedSplit

    RidgeStart = Callable[..., RidgeInit]


@pytest.fixture(scope="session", autouse=True)
def ridge_of_equal_data_solved_once() -> Iterator[None]:
    """Remember ridge starts, their eigenvectors and a check of the film: most of the time of a short training.

    Most tests train on the same synthetic study. `test_ridge_init.py` compares the solution with references, and solves
    it each time.
    """
    if "torch" not in sys.modules:
        yield
        return
    from giblet_train.components import build
    from giblet_train.components.marginal_likelihood import Kernels
    from giblet_train.data.preprocessing import film_alignment

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "ridge_start", _remembered_ridge_start(build.ridge_start))
        patch.setattr(Kernels, "of", staticmethod(remembered(Kernels.of)))
        patch.setattr(film_alignment, "prediction_z_score", remembered(film_alignment.prediction_z_score))
        yield


def _remembered_ridge_start(solve: RidgeStart) -> RidgeStart:
    """Return the solver with a memory of all that it reads of a split. Several ranks solve it together each time."""
    from giblet_train.components import band_functions

    results: dict[object, tuple[RidgeInit, list[str]]] = {}

    def with_memory(
        data: PreparedSplit,
        train: Sequence[Batch],
        priors_LL: Sequence[NDArray[np.float64]],
        n_latents: int,
        near: float,
        shards: HeadSharding,
        report: Callable[[str], None] = lambda sentence: None,
        **options: Any,
    ) -> RidgeInit:
        if shards.ranks.world_size > 1:
            return solve(data, train, priors_LL, n_latents, near, shards, report, **options)
        arrays = (data.inputs, data.bold, data.present, data.split, data.drift, data.voxels_V, data.study.mask)
        settings = (n_latents, near, shards.subjects, options, band_functions.MOST_DUAL_TRS)
        key = content_key((*arrays, train, priors_LL, settings))
        if key not in results:
            sentences: list[str] = []
            init = solve(data, train, priors_LL, n_latents, near, shards, sentences.append, **options)
            results[key] = init, sentences
        init, sentences = results[key]
        for sentence in sentences:
            report(sentence)
        return deepcopy(init)

    return with_memory


@pytest.fixture(scope="session", autouse=True)
def films_decoded_once() -> Iterator[None]:
    """Let stores take pictures, sound and their features of the same bytes from memory.

    Half of the time of a small study is decoding, and most tests change another file of it. Tests of the decoders call
    these themselves, and so decode.
    """
    if "av" not in sys.modules:
        yield
        return
    from giblet_train.data.simulation import stimulus
    from giblet_train.data.stimulus import features

    with pytest.MonkeyPatch.context() as patch:
        for name in ("read_frames", "video_features", "read_log_mel"):
            reader = remembered(getattr(features, name))
            for module in (module for module in (features, stimulus) if hasattr(module, name)):
                patch.setattr(module, name, reader)
        yield
