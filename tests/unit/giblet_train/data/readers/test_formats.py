"""Series that are no volumes: read, checked, and written back in their own format."""

import csv
import json

import msgspec
import nibabel
import numpy as np
import pandas as pd
import pytest

from giblet_train.data.geometry import Geometry, ParcelTable
from giblet_train.data.readers.headers import read_header, read_headers
from giblet_train.data.readers.study_files import find_sources
from giblet_train.data.readers.volumes import check_same_geometry, nonzero_voxels, stream
from giblet_train.schema.errors import DataError
from tests.brain_files import (
    WRITERS,
    N,
    brain_models,
    parcels_axis,
    write_cifti,
    write_dense,
    write_npy,
    write_surfaces,
    write_tsv,
)
from tests.made_study import made_config

VALUES = np.random.default_rng(0).normal(100, 10, (12, N)).astype(np.float32)
HAS_TR = ("dense", "parcellated", "surfaces")


def rows(volumes, mask=None):
    mask = np.ones(volumes.geometry.shape, bool) if mask is None else mask
    return np.concatenate([chunk for _, chunk in stream(volumes, mask)])


@pytest.mark.parametrize("form", WRITERS)
def test_values_are_those_of_the_file_at_any_mask_and_part(tmp_path, form):
    volumes = read_header(WRITERS[form](tmp_path / "a", VALUES, 1.5), 1.5)
    assert (volumes.n_trs, volumes.tr_s, volumes.geometry.shape) == (12, 1.5, (N,))
    mask = np.arange(N) % 3 == 0
    expected = np.round(VALUES, 6) if form == "tsv" else VALUES
    np.testing.assert_allclose(rows(volumes), expected, rtol=0 if form != "tsv" else 1e-6)
    np.testing.assert_array_equal(rows(volumes.part(3, 5), mask), rows(volumes)[3:8, mask])
    np.testing.assert_array_equal(nonzero_voxels(volumes), np.ones(N, bool))


@pytest.mark.parametrize("form", WRITERS)
def test_a_series_goes_round_through_its_own_format(tmp_path, form):
    first = read_header(WRITERS[form](tmp_path / "a", VALUES, 1.5), 1.5)
    geometry = msgspec.json.decode(msgspec.json.encode(first.geometry), type=Geometry)
    assert geometry == first.geometry and geometry.difference(first.geometry) == ""
    paths = geometry.write_series(tmp_path / "back", rows(first), np.ones(N, bool), 1.5)
    again = read_header(paths[0], None)
    assert again.tr_s == 1.5 and geometry.difference(again.geometry) == ""
    np.testing.assert_allclose(rows(again), VALUES, rtol=1e-6)
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("form", WRITERS)
def test_the_tr_is_the_files_own_or_that_of_a_sidecar_and_must_exist(tmp_path, form):
    path = WRITERS[form](tmp_path / "a", VALUES, 1.5)
    if form in HAS_TR:
        assert read_header(path, None).tr_s == 1.5
        with pytest.raises(DataError, match=r"header's TR is 1\.5 s, data\.tr is 2 s"):
            read_header(path, 2.0)
    else:
        with pytest.raises(DataError, match="has no TR") as error:
            read_header(path, None)
        assert "Set data.tr" in error.value.remedy
    stem = "a_hemi-L_bold" if form == "surfaces" else "a"
    (tmp_path / f"{stem}.json").write_text(json.dumps({"RepetitionTime": 1.5}))
    assert read_header(path, None).tr_s == 1.5


def test_maps_have_the_brain_models_of_the_input(tmp_path):
    geometry = read_header(write_dense(tmp_path / "a", VALUES), None).geometry
    mask = np.ones(N, bool)
    mask[[0, N - 1]] = False
    [path] = geometry.write_map(tmp_path / "r", np.arange(1.0, N - 1), mask)
    image = nibabel.load(path)
    assert path.name == "r.dscalar.nii" and image.header.get_axis(1) == brain_models()
    np.testing.assert_array_equal(image.get_fdata()[0], [0, *range(1, N - 1), 0])
    assert {n: (geometry.regions().labels == k).sum() for k, n in geometry.regions().names.items()} == {
        "CORTEX_LEFT": 14,
        "CORTEX_RIGHT": 10,
        "AMYGDALA_LEFT": 8,
    }


def test_maps_of_parcels_and_surfaces_have_their_names_and_sides(tmp_path):
    table = ParcelTable(names=("V1", "A1", "M1"))
    [path] = table.write_map(tmp_path / "r", np.array([0.5, -0.25]), np.array([True, False, True]))
    assert path.read_text() == "parcel\tr\nV1\t0.5\nM1\t-0.25\n"
    pair = read_header(write_surfaces(tmp_path / "a", VALUES), None).geometry
    left, right = pair.write_map(tmp_path / "r", np.arange(N), np.ones(N, bool))
    assert (left.name, right.name) == ("r_hemi-L.func.gii", "r_hemi-R.func.gii")
    np.testing.assert_array_equal(nibabel.load(left).darrays[0].data, np.arange(N // 2))
    assert nibabel.load(right).meta["AnatomicalStructurePrimary"] == "CortexRight"


def test_other_brain_models_are_refused_with_the_structure_that_differs(tmp_path):
    first = read_header(write_dense(tmp_path / "a", VALUES), None)
    fewer = write_cifti(tmp_path / "b.dtseries.nii", VALUES[:, :-8], brain_models()[:-8])
    with pytest.raises(DataError, match=r"b\.dtseries\.nii does not fit .*AMYGDALA_LEFT: 0 instead of 8"):
        check_same_geometry(first, read_header(fewer, None))
    parcels = write_cifti(tmp_path / "c.ptseries.nii", VALUES, parcels_axis())
    with pytest.raises(DataError, match=f"{N} parcels instead of {N} grayordinates"):
        read_headers([first.path, parcels], None)


def test_parcels_of_other_numbers_or_names_are_refused(tmp_path):
    first, other = write_npy(tmp_path / "a", VALUES), write_npy(tmp_path / "b", VALUES.T)
    with pytest.raises(DataError, match=f"12 parcels instead of {N}"):
        read_headers([first, other], 1.5)
    paths = [write_tsv(tmp_path / n, VALUES, names=[f"{n}{k}" for k in range(N)]) for n in "ab"]
    with pytest.raises(DataError, match="parcel 1 called 'b0' instead of 'a0'"):
        read_headers(paths, 1.5)


def test_a_transposed_table_is_read_and_reported(tmp_path):
    plain = read_header(write_tsv(tmp_path / "a", VALUES), 1.5)
    lines = ["\t".join([f"P{n}", *map(str, VALUES[:, n].tolist())]) for n in range(N)]
    (tmp_path / "b.tsv").write_text("\n".join(lines))
    (tmp_path / "c.tsv").write_text("\n".join(["\t".join(["parcel", *map(str, range(12))]), *lines]))
    for name in ("b.tsv", "c.tsv"):
        header = read_header(tmp_path / name, 1.5)
        assert "transposed_table" in [note.finding for note in header.notes]
        assert header.geometry == plain.geometry
        np.testing.assert_array_equal(rows(header), rows(plain))


def test_a_table_may_be_separated_by_commas_or_semicolons(tmp_path):
    for name, separator in (("a.csv", ","), ("b.csv", ";"), ("c.tsv", ",")):
        (tmp_path / name).write_text("\n".join([f"V1{separator}A1", *(f"{n}.5{separator}{n}" for n in range(3))]))
        assert rows(read_header(tmp_path / name, 1.5)).tolist() == [[0.5, 0], [1.5, 1], [2.5, 2]]


def test_the_short_form_names_datasets_and_left_hemispheres(tmp_path):
    for subject in ("01", "anna"):
        WRITERS["h5"](tmp_path / f"sub-{subject}", VALUES, 1.5)
        write_surfaces(tmp_path / f"sub-{subject}", VALUES)
    (tmp_path / "film.mp4").touch()
    (tmp_path / "annotations.xlsx").touch()
    for pattern, n_files in (("sub-{subject}.h5::ses-1/film", 2), ("sub-{subject}_hemi-L_bold.func.gii", 4)):
        sources = find_sources(made_config(data={"video": "film.mp4", "bold": pattern}), tmp_path)
        assert list(sources.bold) == ["sub-01", "sub-anna"]
        assert rows(read_headers(sources.bold["sub-anna"], 1.5)).shape == VALUES.shape
        assert sum(role.startswith("sub-") for role in sources.named()) == n_files


def test_an_unnamed_first_column_is_an_index(tmp_path):
    lines = ["\tV1\tA1", *(f"{n}\t{n}.5\t{n}.25" for n in range(4))]
    (tmp_path / "a.tsv").write_text("\n".join(lines))
    volumes = read_header(tmp_path / "a.tsv", 1.5)
    assert volumes.geometry == ParcelTable(names=("V1", "A1"))
    np.testing.assert_array_equal(rows(volumes)[:, 0], [0.5, 1.5, 2.5, 3.5])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: p.parent / "a.h5::ses-1/fil", 'no dataset .ses-1/fil., did you mean "ses-1/film"'),
        (lambda p: p.with_name("a.h5"), "holds 2 datasets"),
        (lambda p: p.with_name("none.h5::x"), "does not exist"),
        (lambda p: np.save(p.with_name("cube.npy"), np.zeros((3, 3, 3))) or p.with_name("cube.npy"), "3 dimensions"),
        (lambda p: p.with_name("bad.npy").write_bytes(b"no") and p.with_name("bad.npy"), "not a readable array"),
        (lambda p: p.with_name("w.tsv").write_text("a\tb\n1\t2\n3\n") and p.with_name("w.tsv"), "row 3 has 1 cells"),
        (lambda p: p.with_name("x.tsv").write_text("a\tb\n1\tx\n2\t3\n") and p.with_name("x.tsv"), "'x' is not a num"),
        (lambda p: p.with_name("t.tsv").write_text("a\ta\n1\t2\n2\t3\n") and p.with_name("t.tsv"), "two parcels 'a'"),
    ],
)
def test_unreadable_parcels_are_refused(tmp_path, write, message):
    WRITERS["h5"](tmp_path / "a", VALUES, 1.5)
    with pytest.raises(DataError, match=message):
        read_header(write(tmp_path / "a"), 1.5)


def test_hemispheres_must_both_be_there_and_agree(tmp_path):
    left = write_surfaces(tmp_path / "a", VALUES)
    right = left.with_name("a_hemi-R_bold.func.gii")
    with pytest.raises(DataError, match="not named as a left hemisphere"):
        read_header(right, None)
    write_surfaces(tmp_path / "b", VALUES[:9])
    right_bytes = right.read_bytes()
    right.write_bytes(left.with_name("b_hemi-R_bold.func.gii").read_bytes())
    with pytest.raises(DataError, match="have 12 and 9 volumes"):
        read_header(left, None)
    right.write_bytes(right_bytes[: len(right_bytes) // 2])
    with pytest.raises(DataError, match="not a readable image"):
        read_header(left, None)
    right.unlink()
    with pytest.raises(DataError, match=r"a_hemi-R_bold\.func\.gii does not exist"):
        read_header(left, None)


def test_a_cut_or_timeless_cifti_file_is_refused(tmp_path):
    whole = write_dense(tmp_path / "a", VALUES)
    (tmp_path / "cut.dtseries.nii").write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"cut\.dtseries\.nii is truncated or damaged"):
        rows(read_header(tmp_path / "cut.dtseries.nii", None))
    [scalar] = read_header(whole, None).geometry.write_map(tmp_path / "r", VALUES[0], np.ones(N, bool))
    with pytest.raises(DataError, match="has no time axis"):
        read_header(scalar, None)


def test_grayordinates_that_are_nan_or_zero_are_left_out(tmp_path):
    values = VALUES.copy()
    values[:, 1], values[:, 2] = np.nan, 0.0
    inside = nonzero_voxels(read_header(write_dense(tmp_path / "a", values), None))
    assert np.flatnonzero(~inside).tolist() == [1, 2]


def scanner_units(random):
    return random.normal(1000, 200, 40) + random.normal(0, 8, (40, 40)).cumsum(axis=0)


def centred(random):
    values = scanner_units(random)
    return values - values.mean(axis=0)


def standardised(random):
    values = centred(random)
    return values / values.std(axis=0)


def without_global_mean(random):
    values = scanner_units(random)
    return values - values.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("scale", [scanner_units, centred, standardised, without_global_mean])
def test_a_transposed_array_with_as_many_volumes_as_parcels_is_refused(tmp_path, scale):
    values = scale(np.random.default_rng(0)).astype(np.float32)
    np.save(tmp_path / "right.npy", values)
    np.save(tmp_path / "turned.npy", values.T)
    np.testing.assert_array_equal(rows(read_header(tmp_path / "right.npy", 1.5)), values)
    with pytest.raises(DataError, match="40 rows and 40 columns, but its rows vary as parcels do over time"):
        read_header(tmp_path / "turned.npy", 1.5)


@pytest.mark.parametrize(("name", "first"), [("Unnamed: 0", 0), ("volume", 1), ("time", 0.0), ("", 0)])
def test_a_column_that_counts_volumes_is_no_parcel(tmp_path, name, first):
    step = 1.5 if name == "time" else 1
    lines = [f"{name}\tV1\tA1", *(f"{first + n * step}\t{7 + (n % 3)}\t{n % 4}" for n in range(12))]
    (tmp_path / "a.tsv").write_text("\n".join(lines))
    volumes = read_header(tmp_path / "a.tsv", 1.5)
    assert volumes.geometry.names == ("V1", "A1")
    np.testing.assert_array_equal(rows(volumes), [[7 + (n % 3), n % 4] for n in range(12)])
    assert "index_column" in [note.finding for note in volumes.notes]


def test_a_table_may_have_decimal_commas(tmp_path):
    (tmp_path / "a.csv").write_text("\n".join(["V1;A1", *(f"{n % 3},5;{n % 4},25" for n in range(6))]))
    np.testing.assert_array_equal(
        rows(read_header(tmp_path / "a.csv", 1.5)), [[n % 3 + 0.5, n % 4 + 0.25] for n in range(6)]
    )


@pytest.mark.parametrize("n_decimals", [0, 3])
@pytest.mark.parametrize("n_parcels", [1, 2, 3, 12])
def test_the_default_table_of_pandas_has_an_index_and_numbered_parcels(tmp_path, n_parcels, n_decimals):
    values = (100 * np.random.default_rng(0).normal(size=(12, n_parcels))).round(n_decimals).astype(np.float32)
    pd.DataFrame(values).to_csv(tmp_path / "a.csv")
    volumes = read_header(tmp_path / "a.csv", 1.5)
    assert volumes.geometry.names == tuple(map(str, range(n_parcels)))
    np.testing.assert_array_equal(rows(volumes), pd.read_csv(tmp_path / "a.csv", index_col=0).to_numpy(np.float32))
    np.testing.assert_array_equal(rows(volumes), values)


@pytest.mark.parametrize("is_quoted", [False, True])
@pytest.mark.parametrize("labels", [(11, 205), (11, 12, 205)])
def test_an_index_or_quotation_marks_show_that_few_numbers_are_labels(tmp_path, labels, is_quoted):
    values = np.random.default_rng(0).normal(size=(12, len(labels))).round(3).astype(np.float32)
    frame = pd.DataFrame(values, columns=list(map(str, labels)))
    frame.to_csv(tmp_path / "a.csv", index=not is_quoted, quoting=csv.QUOTE_NONNUMERIC if is_quoted else 0)
    volumes = read_header(tmp_path / "a.csv", 1.5)
    assert volumes.geometry.names == tuple(map(str, labels))
    np.testing.assert_array_equal(rows(volumes), values)


def test_a_table_of_pandas_with_a_row_per_parcel_is_read_transposed(tmp_path):
    pd.DataFrame(VALUES.T, index=[f"P{n}" for n in range(N)]).to_csv(tmp_path / "a.csv")
    volumes = read_header(tmp_path / "a.csv", 1.5)
    assert volumes.geometry.names == tuple(f"P{n}" for n in range(N))
    np.testing.assert_array_equal(rows(volumes), VALUES)


@pytest.mark.parametrize("labels", [(0, 1), (0, 1, 2), (1, 2, 3), (11, 12, 205, 310)])
def test_numbers_of_parcels_are_no_volume(tmp_path, labels):
    values = np.random.default_rng(0).normal(size=(9, len(labels))).round(3).astype(np.float32)
    pd.DataFrame(values, columns=labels).to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    volumes = read_header(tmp_path / "a.tsv", 1.5)
    assert volumes.geometry.names == tuple(map(str, labels))
    np.testing.assert_array_equal(rows(volumes), values)
    assert "numbered_parcels" in [note.finding for note in volumes.notes]


@pytest.mark.parametrize("first", [(812, 934), (812, 934, 951)])
def test_a_first_volume_of_whole_numbers_is_not_taken_for_labels(tmp_path, first):
    values = np.array([first, *([812.5 + n % 3, 930.25, 950.5][: len(first)] for n in range(9))], np.float32)
    (tmp_path / "a.csv").write_text("\n".join(",".join(f"{value:g}" for value in row) for row in values))
    volumes = read_header(tmp_path / "a.csv", 1.5)
    np.testing.assert_array_equal(rows(volumes), np.loadtxt(tmp_path / "a.csv", np.float32, delimiter=","))
    assert [note.finding for note in volumes.notes if note.finding != "tr_missing"] == ["no_header"]


def test_a_volume_without_any_value_keeps_its_place(tmp_path):
    values = np.where(np.arange(12)[:, None] == 5, np.nan, np.random.default_rng(0).normal(size=(12, 3)).round(3))
    pd.DataFrame(values, columns=["a", "b", "c"]).to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    volumes = read_header(tmp_path / "a.tsv", 1.5)
    assert volumes.n_trs == 12


def test_a_row_of_zero_and_one_is_a_volume_where_all_values_are_whole(tmp_path):
    (tmp_path / "a.csv").write_text("0,1\n1,3\n2,0\n1,1")
    assert rows(read_header(tmp_path / "a.csv", 1.5)).tolist() == [[0, 1], [1, 3], [2, 0], [1, 1]]
