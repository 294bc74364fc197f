"""A model with a space of pretrained features, trained on two films with missing runs, predicts another film."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from giblet_train.analysis.load_run import LoadedRun, load_run
from giblet_train.data.simulation.generated_film import SMALL, generated_film
from giblet_train.portable.film_features import Film, FilmFeatures
from giblet_train.portable.inference import Inference
from giblet_train.portable.model_file import ModelFile, read_model, write_model
from giblet_train.portable.predict import FilmLatents
from giblet_train.portable.publish import publish
from giblet_train.schema.config import dump
from giblet_train.schema.errors import DataError
from giblet_train.schema.run_dir import RunDir
from giblet_train.training import process
from giblet_train.training.load_split import load_split
from tests.made_study import made_config
from tests.pretrained_models import needs_transformers
from tests.pretrained_models import write_model as write_pretrained
from tests.table_study import DATA, TR_S, write_study

pytestmark = needs_transformers
MODEL = {"width": 16, "n_layers": 1, "bottleneck_dim": 6, "window_trs": 40, "video_height": 18, "video_width": 32}


def quiet(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pretrained(tmp_path_factory.mktemp("weights") / "vit", "vit")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> LoadedRun:
    workdir = tmp_path_factory.mktemp("published")
    write_study(workdir / "study")
    config = made_config(
        data={
            "data_dir": "study",
            **DATA,
            "features": {"vit": {"model": str(weights), "reads": "pictures", "weight": 1.0}},
            "spaces": ["video", "audio", "vit"],
        },
        split={"gap_trs": 8, "n_folds": 4, "validation_trs": 12},
        model=MODEL,
        threads=1,
        num_epochs=1,
        steps_per_epoch=3,
        warmup_steps=1,
        batch_size=2,
        on_sanity_fail="warn",
    )
    run_dir = RunDir(workdir / "runs" / "table-20261130-120000-0001")
    run_dir.path.mkdir(parents=True)
    run_dir.config.write_text(dump(config))
    assert process.train(run_dir.path, load_split) == 0
    return load_run(run_dir.path, "best", load_split, quiet)


@pytest.fixture(scope="module")
def model(run: LoadedRun, tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    """Return the model as it is read from its file."""
    path = tmp_path_factory.mktemp("file") / "model.giblet"
    write_model(publish(run, run.data.subjects, "CC0-1.0"), path)
    return read_model(path)


def latents(model: ModelFile, film: Path) -> NDArray[np.float32]:
    return FilmLatents(Inference.of(model), FilmFeatures.of(model, Film(film))).all()


def test_rows_of_its_own_films_are_predicted_as_by_the_run(run: LoadedRun, model: ModelFile) -> None:
    assert model.header.features["vit"].source == "model"
    films = {span.stimulus: span for span in run.data.study.spans}
    predicted = {name: latents(model, run.workdir / f"study/{name}.mp4") for name in films}
    for subject, own_TV in run.evaluator.predicted(run.model):
        rows = np.concatenate(
            [Inference.of(model).predict(predicted[name][: span.n_trs], subject) for name, span in films.items()]
        )[run.data.split.test]
        rows = run.data.drift.apply(rows, run.data.split.test_blocks)
        own = run.data.in_grid_order(own_TV)
        assert np.corrcoef(rows.ravel(), own.ravel())[0, 1] > 0.99, subject


def test_another_film_is_predicted_with_its_own_pretrained_features(model: ModelFile, tmp_path: Path) -> None:
    film = generated_film(tmp_path / "new.mp4", 40 * TR_S, 99, form=SMALL).path
    rows = Inference.of(model).predict(latents(model, film), "sub-01")
    assert rows.shape[0] == 40 and np.isfinite(rows).all() and rows.std(axis=0).max() > 0


def test_missing_weights_are_named_with_their_remedy(
    model: ModelFile, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = generated_film(tmp_path / "new.mp4", 40 * TR_S, 99, form=SMALL).path
    aside = weights.with_name("aside")
    shutil.move(weights, aside)
    try:
        with pytest.raises(DataError) as error:
            latents(model, film)
    finally:
        shutil.move(aside, weights)
    assert "vit" in error.value.message and str(weights) in error.value.message
    without = Film(film, without=frozenset(["vit"]))
    rows = FilmLatents(Inference.of(model), FilmFeatures.of(model, without)).all()
    assert np.isfinite(rows).all()
