"""Predicted series of a film: equal to the run's on its own film, close to the truth on another, at any TR."""

import json

import nibabel
import numpy as np
import pytest

from giblet_train.evaluation.metrics import pearson
from giblet_train.portable.film_features import Film, FilmFeatures, film_of
from giblet_train.portable.inference import Inference
from giblet_train.portable.model_file import ModelFile
from giblet_train.portable.predict import FilmLatents, predict_to_folder
from giblet_train.schema.errors import ConfigError, DataError
from tests.pair_study import FIRST_TRS, SECOND_TRS

QUIET = lambda *_: None  # noqa: E731


@pytest.fixture(scope="module")
def latents(model, pair):
    def of(path):
        return FilmLatents(Inference.of(model), FilmFeatures.of(model, Film(path, path.with_suffix(".csv")))).all()

    return {"first": of(pair.first), "second": of(pair.second)}


def test_rows_of_the_film_are_predicted_as_by_the_run(loaded, model, latents):
    split = loaded.data.split
    [(start, stop)] = split.test_blocks
    for subject, own_TV in loaded.examiner.predicted(loaded.model):
        predicted_TV = Inference.of(model).predict(latents["first"][start:stop], subject)
        predicted_TV = loaded.data.drift.apply(predicted_TV, split.test_blocks)
        np.testing.assert_allclose(predicted_TV, loaded.data.in_grid_order(own_TV), atol=2e-4)


def test_an_unseen_film_is_predicted_almost_as_well(loaded, pair, model, latents):
    inference = Inference.of(model)
    [(start, stop)] = loaded.data.split.test_blocks
    within, unseen = [], []
    for subject in loaded.data.subjects:
        truth_TV = pair.truth(subject)[:, model.mask_XYZ]
        signal_V = truth_TV.std(axis=0) > 0
        first_TV, second_TV = (inference.predict(latents[film], subject) for film in ("first", "second"))
        within.append(pearson(first_TV[start:stop], truth_TV[start:stop])[signal_V].mean())
        unseen.append(pearson(second_TV, truth_TV[FIRST_TRS:])[signal_V].mean())
    print(f"r to the noiseless response: held-out rows {np.mean(within):.3f}, unseen film {np.mean(unseen):.3f}")
    assert np.mean(within) > 0.4 and np.mean(unseen) > 0.6 * np.mean(within)


def test_small_parts_give_the_same_prediction(model, pair, latents):
    shape = {**{f: getattr(model.header.shape, f) for f in model.header.shape.__struct_fields__}, "chunk_trs": 17}
    header = type(model.header)(
        **{f: getattr(model.header, f) for f in model.header.__struct_fields__}
        | {"shape": type(model.header.shape)(**shape)}
    )
    small = ModelFile(header, model.arrays)
    film = Film(pair.second, pair.second.with_suffix(".csv"))
    parts = list(FilmLatents(Inference.of(small), FilmFeatures.of(small, film)).parts())
    assert max(map(len, parts)) == 17
    np.testing.assert_allclose(np.concatenate(parts), latents["second"], atol=1e-4)


def test_files_have_bids_names_the_grid_and_the_wanted_tr(model, pair, latents, tmp_path):
    film = Film(pair.second, pair.second.with_suffix(".csv"))
    said = []
    written = predict_to_folder(model, film, ["average", "2"], 3.0, tmp_path / "out", lambda *a: said.append(a))
    files = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    stems = [
        "sub-02/func/sub-02_task-second_desc-predicted_bold",
        "sub-average/func/sub-average_task-second_desc-predicted_bold",
    ]
    assert files == ["dataset_description.json", *(f"{s}{e}" for s in stems for e in (".json", ".nii.gz"))]
    image = nibabel.load(written["files"]["sub-02"])
    assert image.shape == (*model.mask_XYZ.shape, SECOND_TRS // 2) and image.header.get_zooms()[3] == 3.0
    np.testing.assert_allclose(image.affine, np.array(model.header.grid.affine))
    series_TV = image.get_fdata(dtype=np.float32)[model.mask_XYZ].T
    expected_TV = Inference.of(model).predict(latents["second"], "2").reshape(SECOND_TRS // 2, 2, -1).mean(axis=1)
    np.testing.assert_allclose(series_TV, expected_TV, atol=1e-4)
    sidecar = json.loads((tmp_path / "out" / f"{stems[0]}.json").read_text())
    assert sidecar["RepetitionTime"] == 3.0 and sidecar["ModelLicence"] == "CC-BY-4.0"
    assert json.loads((tmp_path / "out" / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    assert said[-1][1] == 1.0


def test_a_film_without_what_the_model_needs_is_refused_or_predicted_without_it(model, pair, tmp_path):
    with pytest.raises(DataError, match=r"needs text, but second\.mp4 comes without annotations\.\n.*--without text"):
        FilmFeatures.of(model, Film(pair.second))
    silent = FilmFeatures.of(model, Film(pair.second, without=frozenset({"text"}), seconds=15.0))
    [part] = list(silent.parts(64))
    assert not part["text"].any() and part["audio"].shape == (10, 960)
    for film, words in (
        (Film(tmp_path / "none.mp4"), "There is no film"),
        (Film(pair.second.with_suffix(".csv")), "cannot be decoded"),
        (Film(pair.second, without=frozenset({"smell"})), "no modality smell; it has video, audio, text"),
        (Film(pair.second, without=frozenset({"text"}), start_s=89.5), "no row of 1.5 s is left"),
    ):
        with pytest.raises(ConfigError, match=words):
            FilmFeatures.of(model, film)
    with pytest.raises(ConfigError, match="does not name a modality and a file"):
        film_of(pair.second, features=["audio.npy"])


def test_nothing_is_left_after_a_refusal(model, pair, tmp_path):
    film = Film(pair.second, pair.second.with_suffix(".csv"))
    for subjects, tr_s, words in ((["7"], None, "no head for subject 7"), ([], 90.0, "not one of fMRI")):
        with pytest.raises(ConfigError, match=words):
            predict_to_folder(model, film, subjects, tr_s, tmp_path / "out", QUIET)

    def stop(sentence, fraction):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_to_folder(model, film, [], None, tmp_path / "out", stop)
    assert not list(tmp_path.iterdir())
