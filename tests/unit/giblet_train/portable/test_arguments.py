"""Mistakes in arguments of the Python API: each is refused in one sentence with a remedy, or does what was meant."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

import giblet_train as giblet
from giblet_train.data.geometry import VolumeGrid
from giblet_train.pages.png import png_bytes
from giblet_train.portable.api import Geometry
from giblet_train.portable.arguments import as_path, as_singles, as_tr_s
from giblet_train.schema.errors import ConfigError, DataError
from tests.pair_study import SECOND_TRS


@pytest.fixture(scope="module")
def released_model(model_path):
    return giblet.load(str(model_path))


@pytest.fixture(scope="module")
def bold_TV(released_model, pair):
    values = np.asarray(nibabel.load(pair.folder / "bold" / "sub-01.nii.gz").dataobj)
    return values[released_model.geometry.mask].T[-SECOND_TRS:].astype(np.float32)


@pytest.fixture(scope="module")
def film(pair):
    return {"film": str(pair.second), "annotations": str(pair.second.with_suffix(".csv"))}


@pytest.mark.parametrize(
    "value", [0, -1.5, 1500, np.nan, np.inf, "two", None, [2.0], True, np.bool_(1), np.int64(1500)]
)
def test_a_tr_that_is_none_of_fmri_is_refused(value):
    with pytest.raises(ConfigError, match="is not one of fMRI") as error:
        as_tr_s(value)
    assert "np." not in error.value.message and "array" not in error.value.message


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([["1", "2"]], "does not hold numbers"),
        (np.array(["2020-01-01"], "M8[D]"), "does not hold numbers"),
        (np.array([{}]), "does not hold numbers"),
        ([[1], [1, 2]], "does not hold numbers"),
        (np.ones(3) * 1j, "complex numbers"),
        (np.array([1e39]), "numbers above 3.4e"),
    ],
)
def test_what_single_precision_cannot_hold_is_refused(value, says):
    with pytest.raises(DataError, match=says):
        as_singles(value, "The array", "Give numbers.")


def test_masked_values_are_not_finite_and_tensors_may_have_any_precision():
    masked = np.ma.masked_array(np.ones((1, 3), int), mask=[[1, 0, 0]])
    np.testing.assert_array_equal(as_singles(masked, "The array", ""), [[np.nan, 1, 1]])
    assert as_singles(torch.ones(2, dtype=torch.bfloat16), "The array", "").tolist() == [1, 1]


def test_maps_may_be_tensors_and_hold_real_numbers(tmp_path):
    grid = VolumeGrid(shape_XYZ=(2, 2, 2), affine_rows=tuple(map(tuple, np.eye(4).tolist())), space_code=2)
    geometry = Geometry(grid, np.ones((2, 2, 2), bool))
    tensor = torch.ones(8, requires_grad=True)
    assert geometry.volume(tensor).shape == (2, 2, 2)
    assert geometry.save_map(tmp_path / "r", tensor) == (tmp_path / "r.nii.gz",)
    for values in (["a"] * 8, np.ones(8) * 1j, np.full(8, 1e39)):
        with pytest.raises(DataError, match=r"The map (holds|does not hold)"):
            geometry.save_map(tmp_path / "bad", values)
    for stem in (tmp_path / ".nii.gz", "/", ".", ".."):
        with pytest.raises(ConfigError, match="names no file"):
            geometry.save_map(stem, np.ones(8))


def test_text_and_tensors_are_taken_for_what_they_hold(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert as_path("~/film.mp4", "The film") == tmp_path / "film.mp4" and as_tr_s("1.5") == 1.5
    film = giblet.Film("film.mp4", "film.csv", {"audio": "audio.npy"}, "text")
    assert (film.path, film.annotations) == (Path("film.mp4"), Path("film.csv"))
    assert film.features == {"audio": Path("audio.npy")} and film.without == {"text"}
    tensor = torch.ones(2, 3, requires_grad=True)
    assert as_singles(tensor, "The array", "").dtype == np.float32
    for value, says in ((None, "NoneType"), (3, "int")):
        with pytest.raises(ConfigError, match=f"is a {says}, not a path"):
            giblet.Film(value)
    film = giblet.Film("film.mp4", features=None, without=None, start_s="3", seconds="5")
    assert (film.features, film.without, film.start_s, film.seconds) == ({}, frozenset(), 3.0, 5.0)
    with pytest.raises(ConfigError, match="not a list of names"):
        giblet.Film("film.mp4", without=5)
    with pytest.raises(ConfigError, match="not a file for each modality"):
        giblet.Film("film.mp4", features="audio.npy")


def test_arrays_of_another_kind_or_shape_are_refused(released_model, bold_TV, film):
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2, 3), np.float32), np.eye(4))
    for array, says in (
        (bold_TV.T, "so it is transposed"),
        (bold_TV[None], "has shape"),
        (bold_TV[:0], "has no volume"),
        (bold_TV.astype(complex), "complex numbers"),
        (image, "are a Nifti1Image, not an array"),
        (None, "has shape"),
    ):
        with pytest.raises(DataError, match=says) as error:
            released_model.decode(array, "1")
        assert error.value.remedy
    with pytest.raises(ConfigError, match="is not one of fMRI"):
        released_model.decode(bold_TV, "1", tr_s=1500)
    for n in (1, 2):
        shape = (n, int(released_model.geometry.mask.sum()) - (n == 1))
        with pytest.raises(DataError, match="The values have shape"):
            released_model.geometry.picture(np.zeros(shape).squeeze())


def test_the_ending_of_a_map_may_be_given_and_its_folder_must_exist(released_model, tmp_path):
    r_V = np.zeros(int(released_model.geometry.mask.sum()))
    assert released_model.geometry.save_map(str(tmp_path / "r.nii.gz"), r_V) == (tmp_path / "r.nii.gz",)
    with pytest.raises(DataError, match="cannot be written"):
        released_model.geometry.save_map(tmp_path / "absent" / "r", r_V)


def test_impossible_films_and_folders_are_refused(released_model, film, tmp_path):
    picture = tmp_path / "still.png"
    picture.write_bytes(png_bytes(np.zeros((8, 8, 3), np.uint8)))
    for other_film, says in (
        (giblet.Film(film["film"], start_s=-5.0), "cannot be read from -5 s on"),
        (giblet.Film(film["film"], seconds=0.0), "for 0 s"),
        (giblet.Film(tmp_path), "There is no film"),
        (giblet.Film(film["film"], without=released_model.file.header.features), "nothing is left to predict from"),
        (giblet.Film(picture, without="text"), "is one picture, not a film"),
    ):
        with pytest.raises(ConfigError, match=says):
            released_model.predict(other_film)
    np.save(tmp_path / "short.npy", np.zeros((20, 960), np.float32))
    with pytest.raises(DataError, match="--features audio: short") as error:
        released_model.predict(**film, features={"audio": tmp_path / "short.npy"})
    assert "split." not in error.value.remedy
    with pytest.raises(ConfigError, match="not a run directory"):
        giblet.load(tmp_path)
    with pytest.raises(ConfigError, match="not a path"):
        giblet.read_run(None)


def test_a_model_prints_its_card_and_features_of_another_extractor_are_refused(released_model, film, tmp_path):
    assert str(released_model).startswith("Model of run ") and "limitation" in str(released_model)
    np.save(tmp_path / "narrow.npy", np.zeros((SECOND_TRS, 7), np.float32))
    with pytest.raises(DataError, match="have 7 columns; the model has 960") as error:
        released_model.predict(**film, features={"audio": tmp_path / "narrow.npy"})
    assert released_model.file.header.features["audio"].extractor in error.value.remedy


def test_a_note_says_that_scan_and_film_have_other_lengths(released_model, bold_TV, film):
    longer_TV = np.tile(bold_TV, (2, 1))
    twice = released_model.score(longer_TV, film["film"], "sub-1", annotations=film["annotations"])
    assert "The scan lasts 150 s" in twice.notes[-1] and twice.n_rows == SECOND_TRS
    assert released_model.score(torch.from_numpy(bold_TV), film["film"], 1, annotations=film["annotations"]).notes == ()
    assert "The scan lasts 150 s" in released_model.decode(longer_TV, 1, **film).notes[-1]
    assert released_model.decode(longer_TV, 1).notes == ()


def test_a_film_without_annotations_is_compared_but_for_its_text(released_model, bold_TV, film):
    decoded = released_model.decode(bold_TV, "1", film=film["film"], sentences="a red disc")
    assert set(decoded.figures) == {"video", "audio"} and {word.nearest for word in decoded.words} == {"a red disc"}
