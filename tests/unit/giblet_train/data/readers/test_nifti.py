"""BOLD files: what nibabel and nilearn read, we read; what is wrong with a file is said in a sentence."""

import gzip
import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.testing import data_path
from nilearn.maskers import NiftiMasker

from giblet_train.data.preprocessing.standardize import scan_moments
from giblet_train.data.readers import nifti
from giblet_train.data.readers.headers import read_header
from giblet_train.data.readers.maps import read_mask
from giblet_train.data.readers.sidecar import read_sidecar
from giblet_train.data.readers.volumes import Volumes, check_same_geometry, nonzero_voxels, stream
from giblet_train.schema.errors import DataError
from tests.made_study import AFFINE, made_volumes, write_nifti

FUNCTIONAL = Path(data_path) / "functional.nii"
EXAMPLE = Path(data_path) / "example4d.nii.gz"


def matrix(volumes: Volumes, mask=None, n_trs=None):
    mask = np.ones(volumes.geometry.shape, bool) if mask is None else mask
    chunks = list(stream(volumes, mask, n_trs))
    starts = np.cumsum([0, *(len(chunk) for _, chunk in chunks)])[:-1]
    assert [start for start, _ in chunks] == starts.tolist()
    return np.concatenate([chunk for _, chunk in chunks])


@pytest.mark.parametrize(("path", "tr_s"), [(FUNCTIONAL, 2.0), (EXAMPLE, 2.0)])
def test_reads_what_nibabel_reads(path, tr_s):
    volumes = read_header(path, tr_s)
    expected = nibabel.load(path).get_fdata(dtype=np.float32)
    np.testing.assert_allclose(matrix(volumes), expected.reshape(-1, expected.shape[3]).T, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64, ">i2"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_number_format_zipped_or_not(tmp_path, dtype, suffix):
    values = np.random.default_rng(0).integers(0, 100, (3, 4, 5, 6)).astype(dtype)
    volumes = read_header(write_nifti(tmp_path / f"a{suffix}", values), 1.5)
    np.testing.assert_array_equal(matrix(volumes), values.reshape(-1, 6).T.astype(np.float32))


def test_slope_and_intercept_are_applied(tmp_path):
    values = np.random.default_rng(0).uniform(-3, 9, (3, 4, 5, 6))
    image = nibabel.Nifti1Image(values, AFFINE)
    image.set_data_dtype(np.int16)
    image.header["pixdim"][4] = 1.5
    nibabel.save(image, tmp_path / "a.nii.gz")
    volumes = read_header(tmp_path / "a.nii.gz", 1.5)
    assert volumes.reader.slope != 1.0
    np.testing.assert_allclose(matrix(volumes), values.reshape(-1, 6).T, atol=volumes.reader.slope)


def test_chunks_and_masks_do_not_change_the_numbers(tmp_path, monkeypatch):
    values = made_volumes(n_trs=23)
    volumes = read_header(write_nifti(tmp_path / "a.nii.gz", values), 1.5)
    mask = nonzero_voxels(volumes)
    np.testing.assert_array_equal(mask, values.any(axis=3))
    whole = matrix(volumes, mask)
    monkeypatch.setattr(nifti, "CHUNK_BYTES", 5 * values[..., 0].nbytes)
    np.testing.assert_array_equal(matrix(volumes, mask), whole)
    np.testing.assert_array_equal(matrix(volumes, mask, n_trs=7), whole[:7])
    np.testing.assert_array_equal(whole, values[mask].T)


@pytest.mark.parametrize("source", ["functional", "generated"])
def test_equals_nileans_masker(tmp_path, source):
    if source == "functional":
        path, tr_s = FUNCTIONAL, 2.0
    else:
        path, tr_s = write_nifti(tmp_path / "a.nii.gz", made_volumes(n_trs=40)), 1.5
    volumes = read_header(path, tr_s)
    mask = nonzero_voxels(volumes)
    image = nibabel.Nifti1Image(mask.astype(np.int8), volumes.geometry.affine)
    raw = NiftiMasker(mask_img=image, standardize=None, dtype=np.float32).fit_transform(str(path))
    ours = matrix(volumes, mask)
    np.testing.assert_allclose(ours, raw, rtol=1e-6)
    standard = NiftiMasker(mask_img=image, standardize="zscore_sample", dtype=np.float32).fit_transform(str(path))
    n = len(ours)
    scale = scan_moments(ours - ours[0], np.arange(n), (n,)).scale()
    z = scale.apply(ours - ours[0], (n,), np.arange(ours.shape[1]))
    np.testing.assert_allclose(z * np.sqrt((n - 1) / n), standard, rtol=1e-4, atol=2e-5)


def test_milliseconds_are_converted_with_a_note(tmp_path):
    for tr, unit in ((1500.0, "msec"), (1500.0, "sec"), (1500.0, "unknown")):
        volumes = read_header(write_nifti(tmp_path / "a.nii", made_volumes(), tr, unit), 1.5)
        assert volumes.tr_s == 1.5
        assert "milliseconds" in volumes.notes[0].sentence


def test_missing_tr_takes_the_stated_one_with_a_note(tmp_path):
    volumes = read_header(write_nifti(tmp_path / "a.nii", made_volumes(), 0.0), 1.5)
    assert volumes.tr_s == 1.5
    assert "no TR" in volumes.notes[0].sentence


def test_another_tr_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"TR is 2 s, data\.tr is 1\.5 s") as error:
        read_header(write_nifti(tmp_path / "a.nii", made_volumes(), 2.0), 1.5)
    assert "data.tr: 2" in error.value.remedy


def header_with(path, tr_s, sidecar=None, unit="sec"):
    """Return a file whose header says tr_s in `unit`, with a sidecar next to it."""
    image = nibabel.Nifti1Image(made_volumes(n_trs=8), AFFINE)
    image.header.set_xyzt_units("mm", unit)
    image.header["pixdim"][4] = tr_s
    nibabel.save(image, path)
    if sidecar is not None:
        Path(str(path).replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
    return path


@pytest.mark.parametrize(
    ("header_s", "sidecar_s", "stated_s", "trust", "finding"),
    [
        (1.5, 1.5, 1.5, None, None),
        (1.0, 1.5, 1.5, "sidecar", "tr_overruled"),
        (1.0, 1.5, 1.0, "header", "tr_overruled"),
        (1.0, None, 1.5, "config", "tr_overruled"),
        (1.0, 2.0, 1.5, "config", "tr_overruled"),
        (0.0, 1.5, 1.5, None, None),
    ],
)
def test_the_trusted_source_decides_the_tr(tmp_path, header_s, sidecar_s, stated_s, trust, finding):
    sidecar = None if sidecar_s is None else {"RepetitionTime": sidecar_s}
    volumes = read_header(header_with(tmp_path / "a_bold.nii.gz", header_s, sidecar), stated_s, trust)
    assert volumes.tr_s == stated_s
    assert {note.finding for note in volumes.notes} == ({finding} if finding else set())


@pytest.mark.parametrize(
    ("header_s", "sidecar_s", "stated_s", "trust", "remedy"),
    [
        (1.0, 1.5, 1.5, None, "data.trust_tr: sidecar"),
        (1.5, 2.0, 1.5, None, "data.trust_tr: header"),
        (1.5, 2.0, 1.5, "sidecar", "data.tr: 2"),
        (1.0, None, 1.5, None, "data.trust_tr: config"),
        (1.5, None, 1.5, "sidecar", "data.trust_tr: header or config"),
    ],
)
def test_a_tr_that_disagrees_is_refused_with_the_key_that_decides(
    tmp_path, header_s, sidecar_s, stated_s, trust, remedy
):
    sidecar = None if sidecar_s is None else {"RepetitionTime": sidecar_s}
    path = header_with(tmp_path / "a_bold.nii.gz", header_s, sidecar)
    with pytest.raises(DataError) as error:
        read_header(path, stated_s, trust)
    assert remedy in error.value.remedy


def test_seconds_with_the_unit_of_milliseconds_are_read_as_seconds(tmp_path):
    volumes = read_header(header_with(tmp_path / "a.nii.gz", 1.5, unit="msec"), 1.5)
    assert [note.finding for note in volumes.notes] == ["tr_unit_wrong"]


def test_milliseconds_in_a_sidecar_are_read_with_a_note(tmp_path):
    volumes = read_header(header_with(tmp_path / "a_bold.nii.gz", 1.5, {"RepetitionTime": 1500}), None)
    assert volumes.tr_s == 1.5 and [note.finding for note in volumes.notes] == ["tr_in_milliseconds"]


def test_a_sidecar_without_content_matters_only_if_nothing_else_states_the_tr(tmp_path):
    (tmp_path / "dataset_description.json").write_text("{}")
    path = header_with(tmp_path / "sub-1_task-dune_bold.nii.gz", 1.0)
    (tmp_path / "sub-1_task-dune_bold.json").symlink_to("gone")
    with pytest.raises(DataError, match="not on this machine"):
        read_sidecar(path)
    (tmp_path / "task-dune_bold.json").write_text('{"RepetitionTime": 2.0}')
    assert read_sidecar(path) == {"RepetitionTime": 2.0}


def test_a_sidecar_that_is_a_pipe_is_refused_at_once(tmp_path):
    path = header_with(tmp_path / "a_bold.nii.gz", 1.5)
    os.mkfifo(tmp_path / "a_bold.json")
    with pytest.raises(DataError, match="a named pipe or socket, not a file"):
        read_sidecar(path)


def test_a_sidecar_is_inherited_from_the_root_of_the_dataset(tmp_path):
    (tmp_path / "dataset_description.json").write_text("{}")
    func = tmp_path / "sub-01" / "func"
    func.mkdir(parents=True)
    (tmp_path / "task-film_bold.json").write_text('{"RepetitionTime": 2.0, "StartTime": 1.0}')
    (tmp_path / "task-rest_bold.json").write_text('{"RepetitionTime": 9.0}')
    path = header_with(func / "sub-01_task-film_bold.nii.gz", 0.0)
    assert read_sidecar(path) == {"RepetitionTime": 2.0, "StartTime": 1.0}
    (func / "sub-01_task-film_bold.json").write_text('{"RepetitionTime": 1.5}')
    assert read_sidecar(path) == {"RepetitionTime": 1.5, "StartTime": 1.0}


@pytest.mark.parametrize(
    ("sidecar", "tr_s"),
    [
        ({"RepetitionTime": 1.5, "VolumeTiming": [0, 1.5, 9]}, 1.5),
        ({"RepetitionTime": 1.5, "VolumeTiming": ["0", "2"]}, 1.5),
        ({"RepetitionTime": None, "VolumeTiming": [0, 2, 4]}, 2.0),
        ({"VolumeTiming": [1, 3.5, 6]}, 2.5),
    ],
)
def test_volume_timing_states_the_tr_where_the_sidecar_has_none(tmp_path, sidecar, tr_s):
    assert read_header(header_with(tmp_path / "a_bold.nii.gz", 0.0, sidecar), None).tr_s == tr_s


@pytest.mark.parametrize(
    ("onsets_s", "says"),
    [
        ([0, 1.5, 9], "1.5 to 7.5 s apart"),
        (["0", "2"], "not a list of growing numbers"),
        ([0, None], "not a list of growing numbers"),
        ([4, 2, 0], "not a list of growing numbers"),
        ([0, 40000, 80000], "distance of VolumeTiming of its sidecar is 40000"),
    ],
)
def test_volume_timing_without_one_distance_is_refused(tmp_path, onsets_s, says):
    with pytest.raises(DataError, match=says):
        read_header(header_with(tmp_path / "a_bold.nii.gz", 0.0, {"VolumeTiming": onsets_s}), None)


@pytest.mark.parametrize(("start_s", "is_noted"), [(0.0, True), (0.75, False), (0.7, False)])
def test_a_slice_time_reference_far_from_the_middle_is_noted(tmp_path, start_s, is_noted):
    path = header_with(tmp_path / "a_bold.nii.gz", 1.5, {"RepetitionTime": 1.5, "StartTime": start_s})
    notes = read_header(path, 1.5).notes
    assert bool(notes) == is_noted
    if is_noted:
        assert "data.stimulus_offset_s -0.75 s" in notes[0].sentence


@pytest.mark.parametrize(
    ("qform_code", "sform_code", "flip", "finding"),
    [
        (1, 1, True, "orientation_conflict"),
        (1, 1, False, None),
        (0, 0, False, "orientation_unknown"),
        (0, 2, False, None),
    ],
)
def test_an_orientation_that_is_unknown_or_contradictory_is_noted(tmp_path, qform_code, sform_code, flip, finding):
    image = nibabel.Nifti1Image(made_volumes(n_trs=8), AFFINE)
    image.header.set_zooms((*image.header.get_zooms()[:3], 1.5))
    image.set_sform(AFFINE, sform_code)
    image.set_qform(AFFINE * [[-1, 1, 1, -1]] if flip else AFFINE, qform_code)
    nibabel.save(image, tmp_path / "a.nii.gz")
    volumes = read_header(tmp_path / "a.nii.gz", 1.5)
    assert [note.finding for note in volumes.notes] == ([finding] if finding else [])


@pytest.mark.parametrize(
    ("value", "says"), [(0.0, "puts voxels at one place"), (np.nan, "values that are not numbers")]
)
def test_an_affine_without_places_is_refused(tmp_path, value, says):
    path = write_nifti(tmp_path / "a.nii", made_volumes(n_trs=4))
    content = bytearray(path.read_bytes())
    content[312:328] = np.full(4, value, np.float32).tobytes()  # the third row of the sform
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=says):
        read_header(path, 1.5)


@pytest.mark.parametrize(("scale", "says"), [(1.0, None), (50.0, "larger than a head"), (1e-3, "smaller than a head")])
def test_a_grid_of_another_size_than_a_head_is_noted(tmp_path, scale, says):
    """As with time for the first axis, or metres for millimetres."""
    affine = AFFINE @ np.diag([scale, scale, scale, 1.0])
    image = nibabel.Nifti1Image(made_volumes(n_trs=4), affine)
    image.header["pixdim"][4] = 1.5
    nibabel.save(image, tmp_path / "a.nii.gz")
    notes = [note for note in read_header(tmp_path / "a.nii.gz", 1.5).notes if note.finding == "grid_size"]
    assert bool(notes) == bool(says) and all(says in note.sentence for note in notes)


@pytest.mark.parametrize("shape", [(1, 12), (12, 1)])
def test_a_fifth_dimension_of_one_is_dropped(tmp_path, shape):
    values = made_volumes(n_trs=12)
    image = nibabel.Nifti1Image(values.reshape(*values.shape[:3], *shape), AFFINE)
    image.header["pixdim"][4:6] = 1.5
    nibabel.save(image, tmp_path / "a.nii.gz")
    volumes = read_header(tmp_path / "a.nii.gz", 1.5)
    np.testing.assert_array_equal(matrix(volumes), values.reshape(-1, 12).T)
    assert [note.finding for note in volumes.notes] == ["extra_dimension"]


def test_a_pair_of_header_and_image_is_read(tmp_path):
    image = nibabel.Nifti1Pair(made_volumes(n_trs=12), AFFINE)
    image.header.set_zooms((*image.header.get_zooms()[:3], 1.5))
    nibabel.save(image, tmp_path / "a.img")
    for name in ("a.img", "a.hdr"):
        volumes = read_header(tmp_path / name, 1.5)
        np.testing.assert_array_equal(matrix(volumes), made_volumes(n_trs=12).reshape(-1, 12).T)


def test_a_link_without_content_is_named(tmp_path):
    (tmp_path / "a.nii.gz").symlink_to(tmp_path / ".git" / "annex" / "none")
    with pytest.raises(DataError, match="content is not on this machine") as error:
        read_header(tmp_path / "a.nii.gz", 1.5)
    assert "datalad get" in error.value.remedy


def test_first_volumes_that_are_zero_hide_no_voxel(tmp_path):
    values = made_volumes(n_trs=24)
    usual = nonzero_voxels(read_header(write_nifti(tmp_path / "a.nii.gz", values), 1.5))
    values[..., :12] = 0
    late = nonzero_voxels(read_header(write_nifti(tmp_path / "b.nii.gz", values), 1.5))
    np.testing.assert_array_equal(late, usual)
    nothing = read_header(write_nifti(tmp_path / "c.nii.gz", np.zeros_like(values)), 1.5)
    with pytest.raises(DataError, match="zero throughout"):
        nonzero_voxels(nothing)


def test_three_dimensions_are_refused(tmp_path):
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(made_volumes()[..., 0], AFFINE), path)
    with pytest.raises(DataError, match="3 dimensions"):
        read_header(path, 1.5)


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_header(tmp_path / "none.nii.gz", 1.5)
    (tmp_path / "text.nii.gz").write_bytes(b"not an image at all")
    with pytest.raises(DataError, match="not a readable image"):
        read_header(tmp_path / "text.nii.gz", 1.5)


@pytest.mark.parametrize("keep", [0.3, 0.8, 0.999])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_truncated_file_is_named(tmp_path, keep, suffix):
    whole = write_nifti(tmp_path / f"whole{suffix}", np.random.default_rng(0).integers(0, 99, (9, 9, 9, 30), np.int16))
    data = whole.read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * keep)])
    volumes = read_header(path, 1.5)
    with pytest.raises(DataError, match=r"truncated|damaged") as error:
        matrix(volumes)
    assert "Copy it again" in error.value.remedy


def test_a_flipped_byte_is_found_by_the_checksum(tmp_path):
    path = write_nifti(tmp_path / "a.nii", np.random.default_rng(0).integers(0, 99, (9, 9, 9, 30), np.int16))
    content = bytearray(gzip.compress(path.read_bytes()))
    content[-6] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"damaged|truncated"):
        matrix(read_header(tmp_path / "a.nii.gz", 1.5))


def test_other_grids_are_refused(tmp_path):
    first = read_header(write_nifti(tmp_path / "a.nii", made_volumes()), 1.5)
    smaller = read_header(write_nifti(tmp_path / "b.nii", made_volumes(shape=(5, 6, 3))), 1.5)
    with pytest.raises(DataError, match=r"b\.nii does not fit a\.nii: a grid of 5 x 6 x 3 voxels instead of 5 x 6 x 4"):
        check_same_geometry(first, smaller)
    image = nibabel.load(tmp_path / "a.nii")
    affine = AFFINE.copy()
    affine[0, 3] += 1.5
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine, image.header), tmp_path / "c.nii")
    with pytest.raises(DataError, match=r"1\.5 mm apart"):
        check_same_geometry(first, read_header(tmp_path / "c.nii", 1.5))
    check_same_geometry(first, first)


def test_matrix_and_volumes_go_round(tmp_path):
    values = made_volumes()
    image = nibabel.Nifti1Image(values, AFFINE)
    image.set_sform(AFFINE, "mni")
    image.header["pixdim"][4] = 1.5
    nibabel.save(image, tmp_path / "a.nii.gz")
    first = read_header(tmp_path / "a.nii.gz", 1.5)
    mask = nonzero_voxels(first)
    first.geometry.write_series(tmp_path / "back", matrix(first, mask), mask, 1.5)
    again = read_header(tmp_path / "back.nii.gz", 1.5)
    assert again.notes == ()
    assert again.geometry.space_code == first.geometry.space_code == 4
    np.testing.assert_array_equal(again.geometry.affine, first.geometry.affine)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "back.nii.gz").get_fdata(), values)
    first.geometry.write_map(tmp_path / "map", np.arange(mask.sum(), dtype=float), mask)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "map.nii.gz").get_fdata()[mask], np.arange(mask.sum()))


@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.float32])
def test_a_mask_that_is_stored_with_a_header_of_integers_stays_a_mask(tmp_path, kind):
    volumes = read_header(write_nifti(tmp_path / "a.nii.gz", made_volumes()), 1.5)
    mask = np.zeros(volumes.geometry.shape)
    mask[2:4, 2, 1] = 1
    bold = nibabel.Nifti1Image(np.zeros((*mask.shape, 2), kind), AFFINE)
    nibabel.save(nibabel.Nifti1Image(mask, bold.affine, bold.header), tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz", volumes.geometry), mask == 1)
    nibabel.save(nibabel.Nifti1Image(mask * 0.9999 + (1 - mask) * 1e-5, AFFINE), tmp_path / "scaled.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "scaled.nii.gz", volumes.geometry), mask == 1)


def test_a_mask_file_must_share_the_grid(tmp_path):
    volumes = read_header(write_nifti(tmp_path / "a.nii.gz", made_volumes()), 1.5)
    mask = np.zeros(volumes.geometry.shape, np.uint8)
    mask[2:4, 2, 1] = 1
    nibabel.save(nibabel.Nifti1Image(mask, AFFINE), tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz", volumes.geometry), mask == 1)
    nibabel.save(nibabel.Nifti1Image(mask[:-1], AFFINE), tmp_path / "other.nii.gz")
    with pytest.raises(DataError, match="not on the grid"):
        read_mask(tmp_path / "other.nii.gz", volumes.geometry)
    nibabel.save(nibabel.Nifti1Image(mask * np.float32(0.4), AFFINE), tmp_path / "probabilities.nii.gz")
    with pytest.raises(DataError, match="between 0 and 1"):
        read_mask(tmp_path / "probabilities.nii.gz", volumes.geometry)
