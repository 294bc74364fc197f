"""What tests of the engine share: work on equal arrays and films is done once for all tests of a worker.

The fixtures do nothing where the engine is not imported, as on a laptop.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.memo import remembered


@pytest.fixture(scope="session", autouse=True)
def ridge_of_equal_data_solved_once() -> Iterator[None]:
    """Remember the eigenvectors of the ridge start and a check of the film: half of the time of a short training.

    Most tests train on the same synthetic study. `test_ridge_init.py` compares the solution with references.
    """
    if "torch" not in sys.modules:
        yield
        return
    from giblet_train.components.marginal_likelihood import Kernels
    from giblet_train.data.preprocessing import film_alignment

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kernels, "of", staticmethod(remembered(Kernels.of)))
        patch.setattr(film_alignment, "prediction_z_score", remembered(film_alignment.prediction_z_score))
        yield


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
