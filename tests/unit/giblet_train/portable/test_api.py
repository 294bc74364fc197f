"""The Python API on a trained run, and the notebook that uses it."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

import giblet_train as giblet
from giblet_train.data.geometry import SurfacePair
from giblet_train.data.stimulus import griffin_lim
from giblet_train.portable.api import Geometry, Model
from giblet_train.portable.decode import write_decoded
from giblet_train.portable.film_features import FilmFeatures
from giblet_train.schema.errors import ConfigError, DataError
from tests.browser import browser
from tests.pair_study import FIRST_TRS, SECOND_TRS
from tests.paths import ROOT

NOTEBOOK = ROOT / "docs" / "notebooks" / "from-demo-to-map.ipynb"


@pytest.fixture(scope="module")
def released_model(model_path):
    return giblet.load(model_path)


@pytest.fixture(scope="module")
def second_film(pair):
    return giblet.Film(pair.second, pair.second.with_suffix(".csv"))


@pytest.fixture(scope="module")
def second_bold(pair, model, tmp_path_factory):
    """Return the scan of the second film, of each subject, as a file of its own."""
    folder = tmp_path_factory.mktemp("second")
    paths = {}
    for n in (1, 2):
        image = nibabel.load(pair.folder / "bold" / f"sub-{n:02d}.nii.gz")
        part = nibabel.Nifti1Image(np.asarray(image.dataobj)[..., FIRST_TRS:], image.affine, image.header)
        paths[n] = folder / f"sub-{n:02d}.nii.gz"
        nibabel.save(part, paths[n])
    return paths


def test_importing_reads_no_torch_and_has_no_side_effects():
    script = (
        "import sys, giblet_train as g; assert 'torch' not in sys.modules and 'numpy' not in sys.modules; g.read_run"
    )
    subprocess.run([sys.executable, "-c", script + "; assert 'torch' not in sys.modules"], check=True)
    assert {"load", "read_run", "Film", "Model"} <= set(dir(giblet))
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = giblet.absent


def test_a_run_is_read_as_frozen_records(pair):
    run = giblet.read_run(pair.run_dir)
    assert run.run_id == pair.run_dir.name and len(run.epochs) == 1 and run.evaluation.encoding["r_responsive"] > 0.1
    with pytest.raises(ConfigError, match="not a run directory"):
        giblet.read_run(pair.folder)


def test_the_score_of_an_unseen_film_is_the_correlation_with_the_measured_series(
    released_model, second_film, second_bold
):
    score = released_model.score(second_bold[1], second_film, "1")
    prediction = released_model.predict(second_film, "1")
    measured_TV = np.asarray(nibabel.load(second_bold[1]).dataobj)[released_model.geometry.mask].T
    voxel = int(np.argmax(score.r_V))
    expected = np.corrcoef(prediction.series_TV[:, voxel], measured_TV[:, voxel])[0, 1]
    assert score.r_V[voxel] == pytest.approx(expected, abs=1e-4)
    assert score.n_rows == SECOND_TRS and score.low <= score.r <= score.high and score.r > 0.15
    assert score.geometry.volume(score.r_V).shape == released_model.geometry.mask.shape
    from_array = released_model.score(measured_TV, second_film, "1")
    np.testing.assert_allclose(from_array.r_V, score.r_V, atol=1e-6)


def test_a_map_is_drawn_where_its_space_can_be(released_model, tmp_path):
    r_V = np.linspace(0, 1, int(released_model.geometry.mask.sum()))
    picture = released_model.geometry.picture(r_V, label="r <x>", threshold=0.5)
    picture.save(tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert page.count("<img") >= 4 + 3 + 6 and "r &lt;x&gt;; not coloured below 0.5" in page
    assert picture._repr_html_().startswith("<iframe srcdoc=") and "<style>" not in picture._repr_html_()
    other_mesh = Geometry(SurfacePair(n_left=1, n_right=1), np.ones(2, bool))
    with pytest.raises(DataError, match="cannot be drawn"):
        other_mesh.picture(np.ones(2))


def test_measured_series_that_do_not_fit_are_refused(released_model, second_film, second_bold, tmp_path):
    image = nibabel.load(second_bold[1])
    values = np.asarray(image.dataobj)
    constant = np.ones_like(values)
    for name, array, affine, words in (
        ("half", values[: len(values) // 2], image.affine, "covers"),
        ("still", values[..., 0], image.affine, "has 3 dimensions"),
        ("constant", constant, image.affine, "never changes"),
    ):
        path = tmp_path / f"{name}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(array, affine), path)
        with pytest.raises(DataError, match=words):
            released_model.score(path, second_film, "1")
    short_file = tmp_path / "truncated.nii.gz"
    short_file.write_bytes(second_bold[1].read_bytes()[:20000])
    with pytest.raises(DataError, match=r"truncated|damaged|cannot be read"):
        released_model.score(short_file, second_film, "1")
    with pytest.raises(DataError, match=r"array has shape \(50, 3\)"):
        released_model.score(np.zeros((50, 3)), second_film, "1")
    with pytest.raises(DataError, match="does not hold numbers"):
        released_model.score(np.array([["a"]]), second_film, "1")
    broken_TV = values.astype(np.float32)
    broken_TV[(*np.argwhere(released_model.geometry.mask)[3], 6)] = np.nan
    nibabel.save(nibabel.Nifti1Image(broken_TV, image.affine), tmp_path / "nan.nii.gz")
    with pytest.raises(DataError, match=r"not finite in 1 of the model's \d+ voxels, first in volume 7"):
        released_model.score(tmp_path / "nan.nii.gz", second_film, "1")


def test_errors_name_options_instead_of_keys_of_a_configuration(released_model, pair, tmp_path):
    for name, text, words in (
        ("annex", "/annex/objects/SHA256E-s1--ab.nii.gz", "datalad get"),
        ("lfs", "version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    ):
        (tmp_path / f"{name}.nii.gz").write_text(text)
        with pytest.raises(DataError, match="is a pointer of") as error:
            released_model.score(tmp_path / f"{name}.nii.gz", pair.first, "1")
        assert error.value.remedy.startswith(words)
    with pytest.raises(DataError, match="is a folder"):
        released_model.score(tmp_path, pair.first, "1")
    with pytest.raises(DataError, match="does not exist") as error:
        released_model.score(tmp_path / "absent.nii.gz", pair.first, "1")
    assert error.value.remedy == "Check --bold."
    rows = "".join(f"{3 * n + at},{3 * n + at + 3},scene {n} {at}\n" for at in (0.0, 0.4) for n in range(60))
    (tmp_path / "restarting.csv").write_text(f"start_s,end_s,detail\n{rows}")
    with pytest.raises(DataError, match="--scan-lengths is not given") as error:
        released_model.predict(giblet.Film(pair.first, tmp_path / "restarting.csv"))
    assert "such as 946,1030" in error.value.remedy
    (tmp_path / "still.mp4").write_bytes(pair.first.read_bytes()[:5000])
    with pytest.raises(DataError, match="cannot be decoded") as error:
        released_model.predict(tmp_path / "still.mp4")
    assert "data." not in error.value.remedy


def test_a_new_head_beats_the_average_subject_on_held_out_rows(released_model, pair, model):
    film = giblet.Film(pair.first, pair.first.with_suffix(".csv"))
    image = nibabel.load(pair.folder / "bold" / "sub-02.nii.gz")
    bold_TV = np.asarray(image.dataobj)[model.mask].T[:FIRST_TRS].astype(np.float32)
    fitted = released_model.fit_subject(np.concatenate([bold_TV, bold_TV[:20]]), film, "07")
    result = fitted.result
    assert "of both are used" in fitted.notes[-1]
    assert result.head.r >= result.r_average - 0.01 and result.head.r > result.r_ridge and result.r_ridge > 0
    assert fitted.model.subjects == (*released_model.subjects, "sub-07") and "sub-07" not in released_model.subjects
    head, own, average = (fitted.model.file.head(s).ravel() for s in ("07", "2", "average"))
    assert np.corrcoef(head, own)[0, 1] > 0.5 and result.seconds == FIRST_TRS * 1.5
    assert np.isfinite(average).all()
    with pytest.raises(DataError, match="a head needs at least"):
        released_model.fit_subject(bold_TV[:60], film)
    with pytest.raises(ConfigError, match="cannot label a subject"):
        released_model.fit_subject(bold_TV, film, "a b")


def test_one_persons_brain_tells_which_film_it_saw(released_model, second_film, second_bold, tmp_path, monkeypatch):
    decoded = released_model.decode(second_bold[1], "1", film=second_film)
    assert decoded.features["video"].shape[0] == SECOND_TRS and decoded.pictures_THWC.shape == (SECOND_TRS, 36, 64, 3)
    assert decoded.mel_IM.shape == (SECOND_TRS * 15, 64)
    assert decoded.words and all(word.annotation and word.rank >= 1 for word in decoded.words)
    assert decoded.figures["audio"]["two_way"] > 0.5
    monkeypatch.setattr(griffin_lim, "N_ROUNDS", 1)  # how good the sound is, test_griffinlim asks
    monkeypatch.setattr(griffin_lim, "N_SPREADS", 1)
    features = FilmFeatures.of(released_model.file, second_film)
    lines = write_decoded(decoded, features, tmp_path / "decoded", lambda sentence, fraction: None)
    assert "two-way" in lines[1] and "not held out" in lines[-1]
    with browser(tmp_path / "profile") as window:
        for width in (390, 1280):
            assert window.faults(tmp_path / "decoded" / "index.html", width) == []
    unknown = released_model.decode(second_bold[1], sentences=("a red disc", "a blue cross"))
    assert not unknown.figures and {word.nearest for word in unknown.words} <= {"a red disc", "a blue cross"}


def test_the_notebook_runs_from_a_run_to_a_map(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(NOTEBOOK.read_text())
    assert all(not cell.get("outputs") for cell in notebook["cells"]), "outputs are made when it runs"
    arguments = {"RUN": pair.run_dir, "STUDY": pair.folder, "SCAN_LENGTHS": (FIRST_TRS, SECOND_TRS), "OUT": Path("map")}
    namespace = dict(arguments)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", []):
            exec(compile("".join(cell["source"]), cell["id"], "exec"), namespace)
    r_XYZ = nibabel.load(tmp_path / "map" / "r.nii.gz").get_fdata()
    mask = namespace["model"].geometry.mask
    assert r_XYZ.shape == mask.shape and r_XYZ.max() > 0.3 and not r_XYZ[~mask].any()
    assert isinstance(namespace["model"], Model) and "held-out r" in capsys.readouterr().out
