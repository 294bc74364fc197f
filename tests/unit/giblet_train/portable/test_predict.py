"""Predicted series of a film: equal to the run's on its own film, close to the truth on another, at any TR."""

import json
from pathlib import Path

import msgspec
import nibabel
import numpy as np
import pytest
from nibabel import cifti2

from giblet_train.analysis.results import check_output_dir
from giblet_train.data.geometry import Grayordinates, ParcelTable, SurfacePair
from giblet_train.evaluation.metrics import pearson
from giblet_train.portable.film_features import Film, FilmFeatures, film_of
from giblet_train.portable.inference import Inference
from giblet_train.portable.measured import read_measured
from giblet_train.portable.model_file import ModelFile, read_model, write_model
from giblet_train.portable.predict import FilmLatents, predict_to_folder
from giblet_train.schema.errors import ConfigError, DataError
from tests.pair_study import FIRST_TRS, SECOND_TRS

QUIET = lambda *_: None  # noqa: E731


@pytest.fixture(scope="module")
def latents(model, pair):
    def of(path):
        return FilmLatents(Inference.of(model), FilmFeatures.of(model, Film(path, path.with_suffix(".csv")))).all()

    return {"first": of(pair.first), "second": of(pair.second)}


def test_rows_of_the_film_are_predicted_as_by_the_run(trained_run, model, latents):
    split = trained_run.data.split
    [(start, stop)] = split.test_blocks
    for subject, own_TV in trained_run.evaluator.predicted(trained_run.model):
        predicted_TV = Inference.of(model).predict(latents["first"][start:stop], subject)
        predicted_TV = trained_run.data.drift.apply(predicted_TV, split.test_blocks)
        np.testing.assert_allclose(predicted_TV, trained_run.data.in_grid_order(own_TV), atol=2e-4)


def test_an_unseen_film_is_predicted_almost_as_well(trained_run, pair, model, latents):
    inference = Inference.of(model)
    [(start, stop)] = trained_run.data.split.test_blocks
    within, unseen = [], []
    for subject in trained_run.data.subjects:
        truth_TV = pair.truth(subject)[:, model.mask]
        signal_V = truth_TV.std(axis=0) > 0
        first_TV, second_TV = (inference.predict(latents[film], subject) for film in ("first", "second"))
        within.append(pearson(first_TV[start:stop], truth_TV[start:stop])[signal_V].mean())
        unseen.append(pearson(second_TV, truth_TV[FIRST_TRS:])[signal_V].mean())
    print(f"r to the noiseless response: held-out rows {np.mean(within):.3f}, unseen film {np.mean(unseen):.3f}")
    assert np.mean(within) > 0.4 and np.mean(unseen) > 0.6 * np.mean(within)


def test_small_parts_give_the_same_prediction(model, pair, latents):
    shape = msgspec.structs.replace(model.header.shape, chunk_trs=17)
    small = ModelFile(msgspec.structs.replace(model.header, shape=shape), model.arrays)
    film = Film(pair.second, pair.second.with_suffix(".csv"))
    parts = list(FilmLatents(Inference.of(small), FilmFeatures.of(small, film)).parts())
    assert max(map(len, parts)) == 17
    np.testing.assert_allclose(np.concatenate(parts), latents["second"], atol=1e-4)


def test_files_have_bids_names_the_grid_and_the_wanted_tr(model, pair, latents, tmp_path):
    film = Film(pair.second, pair.second.with_suffix(".csv"))
    messages = []
    paths = predict_to_folder(model, film, ["average", "2"], 3.0, tmp_path / "out", lambda *a: messages.append(a))
    files = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    stems = [
        "sub-02/func/sub-02_task-second_desc-predicted_bold",
        "sub-average/func/sub-average_task-second_desc-predicted_bold",
    ]
    assert files == ["dataset_description.json", *(f"{s}{e}" for s in stems for e in (".json", ".nii.gz"))]
    image = nibabel.load(paths["files"]["sub-02"][0])
    assert image.shape == (*model.mask.shape, SECOND_TRS // 2) and image.header.get_zooms()[3] == 3.0
    np.testing.assert_allclose(image.affine, model.header.geometry.affine)
    series_TV = image.get_fdata(dtype=np.float32)[model.mask].T
    expected_TV = Inference.of(model).predict(latents["second"], "2").reshape(SECOND_TRS // 2, 2, -1).mean(axis=1)
    np.testing.assert_allclose(series_TV, expected_TV, atol=1e-4)
    sidecar = json.loads((tmp_path / "out" / f"{stems[0]}.json").read_text())
    assert sidecar["RepetitionTime"] == 3.0 and sidecar["ModelLicence"] == "CC-BY-4.0"
    assert json.loads((tmp_path / "out" / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    assert messages[-1][1] == 1.0


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


def test_a_folder_for_results_is_not_made_before_there_are_any(tmp_path):
    assert check_output_dir(tmp_path / "new" / "out") == tmp_path / "new" / "out"
    (tmp_path / "empty").mkdir()
    assert check_output_dir(tmp_path / "empty").is_dir()
    (tmp_path / "file").write_text("")
    for target in (tmp_path, tmp_path / "file"):
        with pytest.raises(ConfigError, match="exists and is not an empty folder"):
            check_output_dir(target)
    with pytest.raises(ConfigError, match="cannot be created in"):
        check_output_dir(tmp_path / "file" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


def grayordinates(n_left, n_right):
    structures = (("CORTEX_LEFT", n_left), ("CORTEX_RIGHT", n_right))
    left, right = (cifti2.BrainModelAxis.from_surface(np.arange(n), n, f"CIFTI_STRUCTURE_{s}") for s, n in structures)
    return Grayordinates.of(left + right)


@pytest.mark.parametrize(
    ("space", "names"),
    [
        (lambda n: SurfacePair(n_left=n // 2, n_right=n - n // 2), ["hemi-L_desc-predicted_bold.func.gii"]),
        (lambda n: ParcelTable(names=tuple(f"p{i}" for i in range(n))), ["desc-predicted_timeseries.tsv"]),
        (lambda n: grayordinates(n // 2, n - n // 2), ["desc-predicted_bold.dtseries.nii"]),
    ],
    ids=["surfaces", "parcels", "grayordinates"],
)
def test_series_are_written_in_the_space_of_the_study_and_read_back(space, names, model, pair, latents, tmp_path):
    n_positions = int(model.mask.sum())
    header = msgspec.structs.replace(model.header, geometry=space(n_positions))
    write_model(ModelFile(header, {**model.arrays, "mask": np.ones(n_positions, bool)}), tmp_path / "m.giblet")
    other = read_model(tmp_path / "m.giblet")
    film = Film(pair.second, pair.second.with_suffix(".csv"))
    files = predict_to_folder(other, film, ["1"], None, tmp_path / "out", QUIET)["files"]["sub-01"]
    assert [Path(file).name.removeprefix("sub-01_task-second_") for file in files[:1]] == names
    assert not list((tmp_path / "out").rglob("*.rows"))
    expected_TV = Inference.of(other).predict(latents["second"], "1")
    measured = read_measured(other, Path(files[0]), None)
    assert measured.tr_s == 1.5
    np.testing.assert_allclose(measured.bold_TV, expected_TV, atol=1e-4)
    with pytest.raises(DataError, match="does not fit the model: it has"):
        read_measured(model, Path(files[0]), None)
