"""Real BOLD, fetched through pip: what nilearn's masker gives, we give. Asked for with GIBLET_TEST_DOWNLOADS=1."""

import os
import subprocess
import sys
import zipfile

import nibabel
import numpy as np
import pytest
from nilearn.maskers import NiftiMasker

from giblet_train.data.bold import nonzero_voxels, read_header, stream
from giblet_train.data.bold_array import write_bold_array
from giblet_train.data.film import default_cache_dir
from giblet_train.data.standardize import scan_moments

pytestmark = [
    pytest.mark.skipif("GIBLET_TEST_DOWNLOADS" not in os.environ, reason="downloads 4 MB: set GIBLET_TEST_DOWNLOADS=1"),
    pytest.mark.timeout(300),
]
PACKAGE = "nitime==0.12.1"
TR_S = 1.35


@pytest.fixture(scope="module", params=["fmri1.nii.gz", "fmri2.nii.gz"])
def real(request):
    """A series of nitime's, kept in giblet's cache once it was downloaded."""
    folder = default_cache_dir() / PACKAGE.replace("==", "-")
    path = folder / request.param
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run([*argv, "--dest", str(folder), PACKAGE], capture_output=True, text=True, timeout=240)
        if done.returncode:
            pytest.skip(f"pip cannot download {PACKAGE}: {done.stderr.strip().splitlines()[-1]}")
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            path.write_bytes(wheel.read(f"nitime/data/{request.param}"))
    return path


def test_real_series_equal_nilearns_masker(real, tmp_path):
    volumes = read_header(real, TR_S)
    mask = nonzero_voxels(volumes)
    image = nibabel.Nifti1Image(mask.astype(np.int8), volumes.affine)
    raw = NiftiMasker(mask_img=image, standardize=None, dtype=np.float32).fit_transform(str(real))
    standard = NiftiMasker(mask_img=image, standardize="zscore_sample", dtype=np.float32).fit_transform(str(real))
    assert raw.shape[0] == volumes.n_trs > 20
    ours = np.concatenate([bold_BV for _, bold_BV in stream(volumes, mask)])
    np.testing.assert_allclose(ours, raw, rtol=1e-6)
    n, voxels = len(ours), np.arange(ours.shape[1])
    correction = np.sqrt((n - 1) / n)
    every = np.arange(n)
    scaled = scan_moments(ours - ours[0], every, (n,)).scale().apply(ours - ours[0], (n,), voxels)
    np.testing.assert_allclose(scaled * correction, standard, rtol=1e-4, atol=2e-5)
    reference = write_bold_array(tmp_path / "a.npy", volumes, mask, n)
    stored = np.load(tmp_path / "a.npy", mmap_mode="r")
    np.testing.assert_array_equal(reference, raw[0])
    through = scan_moments(stored, every, (n,)).scale().apply(stored, (n,), voxels)
    np.testing.assert_allclose(through * correction, standard, rtol=2e-3, atol=2e-3)
