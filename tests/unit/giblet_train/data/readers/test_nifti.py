"""BOLD files: what nibabel and nilearn read, we read; what is wrong with a file is said in a sentence."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.testing import data_path
from nilearn.maskers import NiftiMasker

from giblet_train.data.preprocessing.standardize import scan_moments
from giblet_train.data.readers import nifti
from giblet_train.schema.errors import DataError
from tests.made_study import AFFINE, made_volumes, write_nifti

FUNCTIONAL = Path(data_path) / "functional.nii"
EXAMPLE = Path(data_path) / "example4d.nii.gz"


def matrix(volumes: nifti.Volumes, mask=None, n_trs=None):
    mask = np.ones(volumes.shape_XYZ, bool) if mask is None else mask
    chunks = list(nifti.stream(volumes, mask, n_trs))
    starts = np.cumsum([0, *(len(chunk) for _, chunk in chunks)])[:-1]
    assert [start for start, _ in chunks] == starts.tolist()
    return np.concatenate([chunk for _, chunk in chunks])


@pytest.mark.parametrize(("path", "tr_s"), [(FUNCTIONAL, 2.0), (EXAMPLE, 2.0)])
def test_reads_what_nibabel_reads(path, tr_s):
    volumes = nifti.read_header(path, tr_s)
    expected = nibabel.load(path).get_fdata(dtype=np.float32)
    np.testing.assert_allclose(matrix(volumes), expected.reshape(-1, expected.shape[3]).T, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64, ">i2"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_number_format_zipped_or_not(tmp_path, dtype, suffix):
    values = np.random.default_rng(0).integers(0, 100, (3, 4, 5, 6)).astype(dtype)
    volumes = nifti.read_header(write_nifti(tmp_path / f"a{suffix}", values), 1.5)
    np.testing.assert_array_equal(matrix(volumes), values.reshape(-1, 6).T.astype(np.float32))


def test_slope_and_intercept_are_applied(tmp_path):
    values = np.random.default_rng(0).uniform(-3, 9, (3, 4, 5, 6))
    image = nibabel.Nifti1Image(values, AFFINE)
    image.set_data_dtype(np.int16)
    image.header["pixdim"][4] = 1.5
    nibabel.save(image, tmp_path / "a.nii.gz")
    volumes = nifti.read_header(tmp_path / "a.nii.gz", 1.5)
    assert volumes.slope != 1.0
    np.testing.assert_allclose(matrix(volumes), values.reshape(-1, 6).T, atol=volumes.slope)


def test_chunks_and_masks_do_not_change_the_numbers(tmp_path, monkeypatch):
    values = made_volumes(n_trs=23)
    volumes = nifti.read_header(write_nifti(tmp_path / "a.nii.gz", values), 1.5)
    mask = nifti.nonzero_voxels(volumes)
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
    volumes = nifti.read_header(path, tr_s)
    mask = nifti.nonzero_voxels(volumes)
    image = nibabel.Nifti1Image(mask.astype(np.int8), volumes.affine)
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
        volumes = nifti.read_header(write_nifti(tmp_path / "a.nii", made_volumes(), tr, unit), 1.5)
        assert volumes.tr_s == 1.5
        assert "milliseconds" in volumes.notes[0]


def test_missing_tr_takes_the_stated_one_with_a_note(tmp_path):
    volumes = nifti.read_header(write_nifti(tmp_path / "a.nii", made_volumes(), 0.0), 1.5)
    assert volumes.tr_s == 1.5
    assert "no TR" in volumes.notes[0]


def test_another_tr_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"TR is 2 s, data\.tr is 1\.5 s") as caught:
        nifti.read_header(write_nifti(tmp_path / "a.nii", made_volumes(), 2.0), 1.5)
    assert "data.tr: 2" in caught.value.remedy


def test_three_dimensions_are_refused(tmp_path):
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(made_volumes()[..., 0], AFFINE), path)
    with pytest.raises(DataError, match="3 dimensions"):
        nifti.read_header(path, 1.5)


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        nifti.read_header(tmp_path / "none.nii.gz", 1.5)
    (tmp_path / "text.nii.gz").write_bytes(b"not an image at all")
    with pytest.raises(DataError, match="not a readable NIfTI"):
        nifti.read_header(tmp_path / "text.nii.gz", 1.5)


@pytest.mark.parametrize("keep", [0.3, 0.8, 0.999])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_truncated_file_is_named(tmp_path, keep, suffix):
    whole = write_nifti(tmp_path / f"whole{suffix}", np.random.default_rng(0).integers(0, 99, (9, 9, 9, 30), np.int16))
    data = whole.read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * keep)])
    volumes = nifti.read_header(path, 1.5)
    with pytest.raises(DataError, match=r"truncated|damaged") as caught:
        matrix(volumes)
    assert "Copy it again" in caught.value.remedy


def test_a_flipped_byte_is_found_by_the_checksum(tmp_path):
    path = write_nifti(tmp_path / "a.nii", np.random.default_rng(0).integers(0, 99, (9, 9, 9, 30), np.int16))
    zipped = bytearray(gzip.compress(path.read_bytes()))
    zipped[-6] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(zipped)
    with pytest.raises(DataError, match=r"damaged|truncated"):
        matrix(nifti.read_header(tmp_path / "a.nii.gz", 1.5))


def test_other_grids_are_refused(tmp_path):
    first = nifti.read_header(write_nifti(tmp_path / "a.nii", made_volumes()), 1.5)
    smaller = nifti.read_header(write_nifti(tmp_path / "b.nii", made_volumes(shape=(5, 6, 3))), 1.5)
    with pytest.raises(DataError, match=r"5 x 6 x 3 voxels, a\.nii of 5 x 6 x 4"):
        nifti.check_same_grid(first, smaller)
    image = nibabel.load(tmp_path / "a.nii")
    moved = AFFINE.copy()
    moved[0, 3] += 1.5
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), moved, image.header), tmp_path / "c.nii")
    with pytest.raises(DataError, match=r"1\.5 mm apart"):
        nifti.check_same_grid(first, nifti.read_header(tmp_path / "c.nii", 1.5))
    nifti.check_same_grid(first, first)


def test_matrix_and_volumes_go_round(tmp_path):
    values = made_volumes()
    image = nibabel.Nifti1Image(values, AFFINE)
    image.set_sform(AFFINE, "mni")
    image.header["pixdim"][4] = 1.5
    nibabel.save(image, tmp_path / "a.nii.gz")
    first = nifti.read_header(tmp_path / "a.nii.gz", 1.5)
    mask = nifti.nonzero_voxels(first)
    nifti.write_bold(tmp_path / "back.nii.gz", matrix(first, mask), mask, first.affine, 1.5, first.space_code)
    again = nifti.read_header(tmp_path / "back.nii.gz", 1.5)
    assert again.notes == ()
    assert again.space_code == first.space_code == 4
    np.testing.assert_array_equal(again.affine, first.affine)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "back.nii.gz").get_fdata(), values)
    nifti.write_map(tmp_path / "map.nii.gz", np.arange(mask.sum(), dtype=float), mask, first.affine)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "map.nii.gz").get_fdata()[mask], np.arange(mask.sum()))


def test_a_mask_file_must_share_the_grid(tmp_path):
    volumes = nifti.read_header(write_nifti(tmp_path / "a.nii.gz", made_volumes()), 1.5)
    mask = np.zeros(volumes.shape_XYZ, np.uint8)
    mask[2:4, 2, 1] = 1
    nibabel.save(nibabel.Nifti1Image(mask, AFFINE), tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(nifti.read_mask(tmp_path / "mask.nii.gz", volumes), mask == 1)
    nibabel.save(nibabel.Nifti1Image(mask[:-1], AFFINE), tmp_path / "other.nii.gz")
    with pytest.raises(DataError, match="not on the grid"):
        nifti.read_mask(tmp_path / "other.nii.gz", volumes)


def test_a_surface_is_refused_by_name(tmp_path):
    series = nibabel.gifti.GiftiDataArray(np.zeros((10, 4), np.float32))
    nibabel.save(nibabel.gifti.GiftiImage(darrays=[series]), tmp_path / "left.func.gii")
    with pytest.raises(DataError, match="is a GiftiImage, which holds a surface; giblet reads volumes only"):
        nifti.read_header(tmp_path / "left.func.gii", 1.5)
    axes = (nibabel.cifti2.SeriesAxis(0, 1.5, 5), nibabel.cifti2.ScalarAxis(["one", "two"]))
    nibabel.save(nibabel.Cifti2Image(np.zeros((5, 2), np.float32), axes), tmp_path / "a.dtseries.nii")
    with pytest.raises(DataError, match="is a Cifti2Image, which holds a surface"):
        nifti.read_header(tmp_path / "a.dtseries.nii", 1.5)
