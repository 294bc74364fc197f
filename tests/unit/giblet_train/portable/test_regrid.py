"""A series on another grid gives the model's voxels what it shows at their places."""

import msgspec
import nibabel
import numpy as np
import pytest

from giblet_train.data.geometry import VolumeGrid
from giblet_train.portable.measured import read_measured
from giblet_train.portable.model_file import ModelFile
from giblet_train.portable.regrid import Regridding
from giblet_train.schema.errors import DataError

N_TRS = 6


def waves(grid, n_trs=N_TRS):
    """Return volumes (X, Y, Z, T) of a pattern that is smooth in millimetres, wherever the voxels are."""
    at_3XYZ = (
        np.einsum("ij,jxyz->ixyz", grid.affine[:3, :3], np.indices(grid.shape)) + grid.affine[:3, 3, None, None, None]
    )
    phase_T = np.arange(n_trs) / n_trs * 2 * np.pi
    return sum(np.sin(0.02 * at[..., None] + axis + phase_T) for axis, at in enumerate(at_3XYZ)).astype(np.float32)


def write(path, grid, volumes, code=4):
    image = nibabel.Nifti1Image(volumes, grid.affine)
    image.set_sform(grid.affine, code)
    image.header.set_zooms((*image.header.get_zooms()[:3], 1.5))
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(path)
    return path


def other_grid(grid, zoom, margin=2, turn=0.0):
    """Return a grid over the same millimetres whose voxels are `zoom` times as large, and turned about the z axis."""
    c, s = np.cos(turn), np.sin(turn)
    rotation = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    shape = np.ceil(np.array(grid.shape) / zoom).astype(int) + 2 * margin
    affine = np.eye(4)
    affine[:3, :3] = rotation @ grid.affine[:3, :3] * zoom
    centre = grid.affine[:3, :3] @ ((np.array(grid.shape) - 1) / 2) + grid.affine[:3, 3]
    affine[:3, 3] = centre - affine[:3, :3] @ ((shape - 1) / 2)
    return VolumeGrid.of(shape, affine, 4)


@pytest.fixture(scope="module")
def mni_model(model):
    geometry = msgspec.structs.replace(model.header.geometry, space_code=4)
    return ModelFile(msgspec.structs.replace(model.header, geometry=geometry), model.arrays)


@pytest.mark.parametrize(("zoom", "turn"), [(0.5, 0.0), (0.8, 0.2), (1.3, 0.0)])
def test_a_smooth_pattern_is_the_same_on_any_grid(mni_model, tmp_path, zoom, turn):
    own, other = mni_model.header.geometry, other_grid(mni_model.header.geometry, zoom, turn=turn)
    path = write(tmp_path / "bold.nii.gz", other, waves(other))
    measured = read_measured(mni_model, path, None)
    expected_TV = waves(own)[mni_model.mask].T
    assert np.abs(measured.bold_TV - expected_TV).max() < 0.1 * expected_TV.std()
    assert measured.tr_s == 1.5 and "interpolated to the model's voxels." in measured.notes[0]


def test_a_finer_series_is_averaged_over_each_voxel():
    coarse = VolumeGrid.of((4, 4, 4), np.diag([4.0, 4.0, 4.0, 1.0]))
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -1.0
    fine = VolumeGrid.of((8, 8, 8), affine)
    noise = np.random.default_rng(0).normal(size=fine.shape)
    regridding = Regridding.of(fine, coarse, np.ones(coarse.shape, bool))
    values_V = (noise[regridding.mask_XYZ][regridding.index_VK] * regridding.weight_VK).sum(axis=1)
    blocks = noise.reshape(4, 2, 4, 2, 4, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(values_V.reshape(4, 4, 4), blocks, atol=1e-6)


def test_a_series_with_time_as_its_first_axis_is_refused(mni_model, tmp_path):
    image = nibabel.Nifti1Image(np.random.default_rng(0).random((60, 20, 20, 20)), np.diag([8.0, 8, 8, 1]))
    image.header.set_zooms((8, 8, 8, 1.5))
    nibabel.save(image, tmp_path / "bold.nii.gz")
    with pytest.raises(DataError, match="larger than a head; time may be"):
        read_measured(mni_model, tmp_path / "bold.nii.gz", None)


def test_another_space_or_a_part_of_the_brain_is_refused(mni_model, tmp_path):
    grid = mni_model.header.geometry
    other = other_grid(grid, 0.8)
    talairach = write(tmp_path / "talairach.nii.gz", other, waves(other), code=3)
    with pytest.raises(DataError, match="is in Talairach space; the model is in MNI space"):
        read_measured(mni_model, talairach, None)
    affine = grid.affine.copy()
    affine[:3, 3] += grid.affine[:3, :3] @ (np.array(grid.shape) / 2)
    beside = VolumeGrid.of(grid.shape, affine, 4)
    with pytest.raises(DataError, match=r"affine: corners are up to .* mm apart, and covers \d+% of its"):
        read_measured(mni_model, write(tmp_path / "beside.nii.gz", beside, waves(beside)), None)
