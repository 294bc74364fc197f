"""Studies in every format from their files to maps: the same numbers give the same store, and maps in the same kind."""

import nibabel
import numpy as np
import pytest
from nibabel import cifti2

from giblet_train.analysis.evaluation_folder import evaluate_into
from giblet_train.analysis.lesions import lesion_study
from giblet_train.analysis.load_run import load_run
from giblet_train.data.checks.html_report import page
from giblet_train.data.checks.run_checks import check_study
from giblet_train.data.preprocessing.parcels import parcels_of_atlas
from giblet_train.data.store.prepare import DataRequest
from giblet_train.data.store.show import show_table
from giblet_train.data.store.store import build_store, open_store
from giblet_train.schema.errors import DataError
from giblet_train.training import process
from giblet_train.training.load_split import load_split
from tests.brain_files import WRITERS, N, brain_models, parcels_axis, write_dense, write_study
from tests.made_study import AFFINE, made_config, write_nifti
from tests.unit.giblet_train.training.test_trainer import run_dir_of

SPLIT = {"gap_trs": 8, "n_folds": 3, "validation_trs": 12}
MODEL = {"width": 16, "n_layers": 1, "bottleneck_dim": 6, "window_trs": 30}


def quiet(*_):
    pass


def config_of(data, **changes):
    return made_config(data={**data, **changes}, split=SPLIT, model=MODEL, threads=1)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Format -> folder and `data:` section, written once."""
    root = tmp_path_factory.mktemp("formats")
    return {form: (root / form, write_study(root / form, form)) for form in WRITERS}


def stored(studies, form, **changes):
    folder, data = studies[form]
    study = open_store(build_store(config_of(data, **changes), folder, folder.parent, quiet))
    return study, {s: study.bold[s][:] + study.reference[s] for s in study.subjects}


@pytest.mark.parametrize("form", WRITERS)
def test_each_format_gives_the_same_store(studies, form):
    study, raw = stored(studies, form)
    _, reference = stored(studies, "npy")
    assert study.geometry.shape == study.mask.shape == (N,) and study.n_voxels == N
    for subject in ("sub-01", "sub-02"):
        np.testing.assert_array_equal(raw[subject], reference[subject])
    data = load_split(config_of(studies[form][1]), studies[form][0].parent, quiet)
    assert data.n_voxels == N, "no position is voted out"
    assert data.isc_V[data.voxels_V < N // 2].mean() > 0.5 > 0.2 > data.isc_V[data.voxels_V >= N // 2].mean()
    assert any("model.start_near is not used" in note for note in data.notes)


@pytest.mark.parametrize("form", ["dense", "h5"])
def test_check_and_show_accept_it(studies, form):
    folder, data = studies[form]
    report = check_study(DataRequest(config_of(data), folder.parent), quiet)
    assert not report.failed, report.findings
    assert "tSNR median" in page(report)
    table = show_table(DataRequest(config_of(data), folder.parent), quiet)
    assert "bold/sub-01.h5::ses-1/film" in table or form == "dense"


def test_a_run_trains_and_its_maps_are_grayordinates(studies, tmp_path):
    folder, data = studies["dense"]
    run_dir = run_dir_of(folder.parent, data=data, split=SPLIT, model=MODEL, num_epochs=1, on_sanity_fail="warn")
    assert process.train(run_dir.path, load_split) == 0
    run = load_run(run_dir.path, "last", load_split, quiet, folder.parent)
    figures, _ = evaluate_into(run, tmp_path, quiet)
    image = nibabel.load(tmp_path / "r.dscalar.nii")
    r_N = image.get_fdata()[0]
    assert image.header.get_axis(1) == brain_models()
    assert r_N[: N // 2].mean() > 0.3 and abs(r_N[N // 2 :].mean()) < 0.3
    assert "32 grayordinates, which this page does not draw" in (tmp_path / "report.html").read_text()
    assert {"q.dscalar.nii", "sub-01_r.dscalar.nii", "ceiling.dscalar.nii"} <= {p.name for p in tmp_path.iterdir()}
    assert set(figures["encoding"]["by_region"]) == {"CORTEX_LEFT", "CORTEX_RIGHT", "AMYGDALA_LEFT"}
    lesion = lesion_study(run, run.parcels(["CORTEX_LEFT"], None, None), "measured", "missing", 3, quiet)
    assert lesion["lesions"][0]["n_voxels"] == 14


def test_parcel_means_are_those_of_the_label_file(studies):
    """CIFTI labels of the cortex only, on all vertices of the mesh: matched by vertex; the rest is in no parcel."""
    folder, _ = studies["dense"]
    cortex = cifti2.BrainModelAxis.from_surface(np.arange(20), 20, name="CortexLeft")
    labels = np.zeros((1, 20), np.float32)
    labels[0, 2:6], labels[0, 6:9], labels[0, 17:] = 7, 3, 9
    table = {0: ("none", (0, 0, 0, 0)), 3: ("V1", (1, 0, 0, 1)), 7: ("A1", (0, 1, 0, 1)), 9: ("edge", (0, 0, 1, 1))}
    image = cifti2.Cifti2Image(labels, (cifti2.LabelAxis(["a"], [table]), cortex))
    nibabel.save(image, folder / "areas.dlabel.nii")
    study, raw = stored(studies, "dense", atlas="areas.dlabel.nii", parcellate=True)
    _, voxels = stored(studies, "dense")
    assert study.geometry.names == ("V1", "A1") and dict(study.parcel_names) == {1: "V1", 2: "A1"}
    expected = np.stack([voxels["sub-01"][:, 4:7].mean(axis=1), voxels["sub-01"][:, 0:4].mean(axis=1)], axis=1)
    np.testing.assert_allclose(raw["sub-01"], expected, atol=0.05)
    assert any("covers 14 of 32 grayordinates" in note for note in study.notes)
    assert any("means of 2 parcels are used instead of 7 voxels" in note for note in study.notes)
    plain, _ = stored(studies, "dense", atlas="areas.dlabel.nii")
    assert dict(plain.parcel_names) == {3: "V1", 7: "A1"} and plain.parcel_V.tolist() == [7] * 4 + [3] * 3 + [0] * 25


def test_parcel_means_of_volumes_use_an_atlas_on_another_grid(tmp_path):
    data = write_study(tmp_path / "study", "npy")
    folder = tmp_path / "study"
    values = np.load(folder / "bold" / "sub-01.npy")
    lines = (folder / "runs.tsv").read_text().replace(".npy", ".nii.gz")
    (folder / "runs.tsv").write_text(lines)
    for subject in ("sub-01", "sub-02"):
        series = np.load(folder / "bold" / f"{subject}.npy").T.reshape(4, 4, 2, -1)
        write_nifti(folder / "bold" / f"{subject}.nii.gz", series)
    fine = np.repeat(np.repeat(np.repeat(np.arange(32).reshape(4, 4, 2) // 2 % 8, 2, 0), 2, 1), 2, 2)
    affine = AFFINE @ np.diag([0.5, 0.5, 0.5, 1.0])
    affine[:3, 3] -= 0.25 * 3
    nibabel.save(nibabel.Nifti1Image(fine.astype(np.int16), affine), folder / "atlas.nii.gz")
    (folder / "atlas.tsv").write_text("index\tname\n1\tone\n2\ttwo\n")
    study = open_store(build_store(config_of(data, atlas="atlas.nii.gz", parcellate=True), folder, tmp_path, quiet))
    assert study.geometry.names[:3] == ("one", "two", "parcel 3") and study.geometry.labels == (1, 2, 3, 4, 5, 6, 7)
    raw = study.bold["sub-01"][:] + study.reference["sub-01"]
    expected = np.stack([values[:, np.arange(32) // 2 % 8 == n].mean(axis=1) for n in range(1, 8)], axis=1)
    np.testing.assert_allclose(raw, expected, atol=0.05)
    assert any("atlas.nii.gz is on another grid (8 x 8 x 4 voxels)" in note for note in study.notes)
    [map_path] = study.geometry.write_map(tmp_path / "r", np.arange(7.0), study.mask)
    assert map_path.read_text().splitlines()[:2] == ["parcel\tr", "one\t0"]


def test_groups_of_parcels_are_regions(studies, tmp_path):
    folder, data = studies["tsv"]
    data = load_split(config_of(data), folder.parent, quiet)
    (tmp_path / "networks.tsv").write_text("parcel\tnetwork\nP3\tvisual\nP1\tvisual\nP9\tmotor\n")
    regions = {p.name: data.voxels_V[p.voxels_V].tolist() for p in parcels_of_atlas(tmp_path / "networks.tsv", data)}
    assert regions == {"visual": [1, 3], "motor": [9]}


def test_another_geometry_is_refused_before_anything_is_written(studies, tmp_path):
    folder, data = studies["dense"]
    write_dense(folder / "bold" / "short", np.ones((120, N)))
    from tests.brain_files import write_cifti

    write_cifti(folder / "bold" / "parcels.ptseries.nii", np.ones((120, N)), parcels_axis())
    rows = "subject\tbold\tstimulus\n01\tbold/sub-01.dtseries.nii\tstory\n02\tbold/parcels.ptseries.nii\tstory\n"
    (folder / "mixed.tsv").write_text(rows)
    with pytest.raises(DataError, match=r"parcels\.ptseries\.nii does not fit sub-01\.dtseries\.nii"):
        build_store(config_of(data, runs="mixed.tsv"), folder, tmp_path, quiet)
    assert not [p for p in (tmp_path / "stores").iterdir() if p.is_dir()]
