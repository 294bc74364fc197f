"""An atlas: labels on the grid of the brains, names from the table beside it, and what is no atlas refused."""

import nibabel
import numpy as np
import pytest

from giblet_train.data.preprocessing.split_data import prepare_split
from giblet_train.data.preprocessing.splits import make_split
from giblet_train.data.readers.atlas import parcel_names, read_parcels
from giblet_train.data.readers.headers import read_header
from giblet_train.data.store.store import build_store, open_store
from giblet_train.schema.errors import ConfigError, DataError
from tests.made_study import AFFINE, TINY_DATA, made_config, made_volumes, write_nifti


def write_labels(path, labels_XYZ, names=None):
    nibabel.save(nibabel.Nifti1Image(labels_XYZ, AFFINE), path)
    if names is not None:
        lines = ["index\tname", *(f"{n}\t{name}" for n, name in names.items())]
        path.with_name(path.name.split(".")[0] + ".tsv").write_text("\n".join(lines))
    return path


@pytest.fixture
def volumes(tmp_path):
    return read_header(write_nifti(tmp_path / "bold.nii.gz", made_volumes()), 1.5)


def test_labels_and_names_are_read(tmp_path, volumes):
    labels = np.random.default_rng(0).integers(0, 4, volumes.geometry.shape).astype(np.int16)
    path = write_labels(tmp_path / "aal.nii.gz", labels, {1: "left V1", 3: "right V1"})
    np.testing.assert_array_equal(read_parcels(path, volumes.geometry).values, labels)
    assert parcel_names(path, [1, 2, 3]) == {1: "left V1", 2: "parcel 2", 3: "right V1"}
    np.testing.assert_array_equal(
        read_parcels(write_labels(tmp_path / "f.nii", labels.astype(np.float32)), volumes.geometry).values, labels
    )


def test_what_is_no_atlas_is_refused(tmp_path, volumes):
    labels = np.ones(volumes.geometry.shape, np.float32)
    with pytest.raises(DataError, match=r"no labels, such as 0\.5"):
        read_parcels(write_labels(tmp_path / "probabilities.nii.gz", labels / 2), volumes.geometry)
    small = read_parcels(write_labels(tmp_path / "small.nii.gz", labels[1:]), volumes.geometry)
    assert small.values.sum() == labels[1:].sum() and "its nearest voxels are taken" in small.notes[0]
    twice = write_labels(tmp_path / "twice.nii.gz", labels, {1: "V1", 2: "V1"})
    with pytest.raises(DataError, match="more than one parcel 'V1'"):
        parcel_names(twice, [1, 2])
    twice.with_name("twice.tsv").write_text("number\tname\n1\tV1\n")
    with pytest.raises(DataError, match="no table of parcels"):
        parcel_names(twice, [1])
    with pytest.raises(ConfigError, match=r"data\.mask: atlas uses the voxels of data\.atlas"):
        made_config(data={"mask": "atlas"})


def test_the_demo_studys_regions_come_through_the_store(tiny_study, tmp_path):
    config = made_config(data={**TINY_DATA, "atlas": "atlas.nii.gz"}, split={"gap_trs": 4})
    study = open_store(build_store(config, tiny_study, tmp_path, lambda *_: None))
    data = prepare_split(study, make_split(study.scan_lengths_trs, study.border_trs, config.split), config)
    truth = np.load(tiny_study / "truth.npz")["region_XYZ"][study.mask]
    assert list(data.parcels)[:2] == ["early_visual", "higher_visual"]
    for number, where in enumerate(data.parcels.values(), 1):
        assert set(truth[data.voxels_V[where]]) == {number}
