"""The short form of a study: any of film, sound, annotations and features may be missing, but not all."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from giblet_train.data.simulation.generated_film import generated_sound
from giblet_train.data.stimulus.audio import read_log_mel
from giblet_train.data.store.store import build_store, open_store
from giblet_train.data.study import Study
from giblet_train.schema.errors import ConfigError, DataError
from tests.made_study import TINY_DATA, made_config

N_TRS, TR_S = 60, 1.5


def silent(_sentence: str, _share: float) -> None:
    pass


@pytest.fixture
def folder(tiny_study: Path, tmp_path: Path) -> Path:
    """Return the tiny study with a sound and features of its length."""
    shutil.copytree(tiny_study, tmp_path / "study")
    generated_sound(tmp_path / "study/story.wav", N_TRS * TR_S, 3)
    np.save(tmp_path / "study/own.npy", np.random.default_rng(0).standard_normal((N_TRS, 5)).astype(np.float32))
    return tmp_path / "study"


def read(folder: Path, **data: object) -> Study:
    config = made_config(data={**TINY_DATA, **data}, split={"gap_trs": 2})
    return open_store(build_store(config, folder, folder.parent / "work", silent))


OWN = {"features": {"own": {"file": "own.npy"}}}


@pytest.mark.parametrize(
    ("data", "spaces"),
    [
        ({"video": None, "audio": "story.wav", "annotations": None}, ("audio",)),
        ({"video": None, "audio": "story.wav"}, ("audio", "text")),
        ({"video": None}, ("text",)),
        ({"video": None, "annotations": None, **OWN}, ("own",)),
        ({"video": None, **OWN}, ("text", "own")),
        ({"audio": "story.wav", "annotations": None}, ("video", "audio")),
    ],
)
def test_what_is_there_is_used(folder: Path, data: dict[str, object], spaces: tuple[str, ...]) -> None:
    study = read(folder, **data)
    assert tuple(study.features) == spaces
    assert study.n_trs == N_TRS and study.has_pictures == ("video" in spaces)
    if "audio" in spaces:
        mel_TF = read_log_mel(folder / "story.wav", TR_S, N_TRS, 64).reshape(N_TRS, -1)
        np.testing.assert_allclose(study.features["audio"], mel_TF, atol=0.1)
    if "own" in spaces:
        np.testing.assert_allclose(study.features["own"], np.load(folder / "own.npy"), atol=2e-3)
    if "text" in spaces:
        assert any(study.text_labels)


def test_a_study_without_a_stimulus_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="There is no stimulus"):
        read(folder, video=None, annotations=None)


def test_features_at_a_wrong_rate_are_refused_without_a_film(folder: Path) -> None:
    np.save(folder / "own.npy", np.zeros((2 * N_TRS, 5)) + np.arange(2 * N_TRS)[:, None] % 7)
    with pytest.raises(DataError, match=r"(?s)last 180.0 s, the scans 90.0 s.*rows_per_s: 1.333 would fit"):
        read(folder, video=None, annotations=None, **OWN)


def test_features_that_are_too_short_are_refused_without_a_film(folder: Path) -> None:
    np.save(folder / "own.npy", np.random.default_rng(0).standard_normal((N_TRS - 2, 5)))
    with pytest.raises(DataError, match="covers 58 TRs"):
        read(folder, video=None, annotations=None, **OWN)
