"""The sample of voxels in which scans are compared."""

import numpy as np

from giblet_train.data.discover.responses import _sample
from giblet_train.data.readers.headers import read_header
from tests.made_study import write_nifti


def test_a_sample_of_a_scan_that_is_not_masked_is_of_the_brain(tmp_path):
    rng = np.random.default_rng(0)
    brain = np.zeros((8, 9, 7), bool)
    brain[2:6, 2:7, 2:5] = True
    volumes = np.where(brain[..., None], 900.0, 8.0) + rng.standard_normal((*brain.shape, 10))
    raw = write_nifti(tmp_path / "raw.nii.gz", volumes.astype(np.float32))
    np.testing.assert_array_equal(_sample(read_header(raw, 1.5)), brain)
    scores = write_nifti(tmp_path / "z.nii.gz", rng.standard_normal((*brain.shape, 10)).astype(np.float32))
    assert _sample(read_header(scores, 1.5)).all(), "values without their mean do not tell where the brain is"
