"""The tiny demo study, made once for all tests that read a study from disk."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory) -> Path:
    """Return a folder with the tiny demo study: 60 TRs, 3 subjects. Tests copy it before they change anything."""
    from giblet_train.data.simulation.demo_study import simulate_study

    folder = tmp_path_factory.mktemp("studies") / "tiny"
    simulate_study(folder, "tiny")
    return folder
