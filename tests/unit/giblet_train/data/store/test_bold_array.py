"""A subject in the store: centred by its first TR, in half precision only where that is fine enough."""

import numpy as np
import pytest

from giblet_train.data.readers.headers import read_header
from giblet_train.data.readers.volumes import nonzero_voxels
from giblet_train.data.store.bold_array import write_bold_array
from giblet_train.schema.errors import DataError
from tests.made_study import made_volumes, write_nifti


def written(tmp_path, values, n_trs=None):
    volumes = read_header(write_nifti(tmp_path / "a.nii.gz", values), 1.5)
    mask = nonzero_voxels(volumes)
    reference = write_bold_array(tmp_path / "a.npy", volumes, mask, n_trs or volumes.n_trs)
    return np.load(tmp_path / "a.npy", mmap_mode="r"), reference, values[mask].T.astype(np.float64)


def test_scanner_units_fit_half_precision(tmp_path):
    bold_TV, reference, raw = written(tmp_path, made_volumes(n_trs=60))
    assert bold_TV.dtype == np.float16
    np.testing.assert_array_equal(reference, raw[0])
    np.testing.assert_allclose(bold_TV.astype(float) + reference, raw, atol=1e-3 * raw.std())


def test_only_the_first_trs_are_written(tmp_path):
    bold_TV, _, raw = written(tmp_path, made_volumes(n_trs=60), n_trs=25)
    np.testing.assert_allclose(bold_TV.astype(float), raw[:25] - raw[0], atol=0.2)


@pytest.mark.parametrize(
    ("scale", "first"), [(1e4, 0.0), (1e-9, 0.0), (1.0, 5000.0)], ids=["overflow", "subnormal", "bright-first-volume"]
)
def test_what_half_precision_would_spoil_is_kept_in_single(tmp_path, scale, first):
    values = made_volumes(n_trs=60).astype(np.float32)
    values[1:, 1:, 1:, 0] += first
    bold_TV, reference, raw = written(tmp_path, (values * scale).astype(np.float32))
    assert bold_TV.dtype == np.float32
    np.testing.assert_allclose(bold_TV + reference, raw, rtol=1e-5)


def test_values_that_are_not_numbers_are_refused(tmp_path):
    values = made_volumes(n_trs=30).astype(np.float32)
    values[3, 3, 2, 17] = np.nan
    with pytest.raises(DataError, match="not numbers in 1 voxels, first in TR 17"):
        written(tmp_path, values)
