"""A long series of any format but GIFTI is written in little memory."""

import tracemalloc

import msgspec
import nibabel
import numpy as np
import pytest
from nibabel import cifti2

from giblet_train.data.geometry import Grayordinates, ParcelTable, VolumeGrid
from giblet_train.portable.model_file import ModelFile
from giblet_train.portable.series_file import series_file

N_POSITIONS, N_ROWS, PART = 1000, 1200, 20
SPACES = {
    "grayordinates": Grayordinates.of(
        cifti2.BrainModelAxis.from_surface(np.arange(N_POSITIONS), N_POSITIONS, "CIFTI_STRUCTURE_CORTEX_LEFT")
    ),
    "parcels": ParcelTable(names=tuple(f"p{n}" for n in range(N_POSITIONS))),
    "voxels": VolumeGrid.of((10, 10, 10), np.eye(4)),
}


@pytest.mark.parametrize("space", SPACES)
def test_memory_does_not_grow_with_the_length_of_the_film(space, model, tmp_path):
    geometry = SPACES[space]
    mask = (np.arange(N_POSITIONS) % 7 > 0).reshape(geometry.shape)
    model_file = ModelFile(msgspec.structs.replace(model.header, geometry=geometry), {"mask": mask})
    rng = np.random.default_rng(0)
    series = series_file(tmp_path / "s", model_file, N_ROWS, 1.5)
    tracemalloc.start()
    for _ in range(0, N_ROWS, PART):
        last_TV = rng.normal(size=(PART, mask.sum())).astype(np.float32)
        series.add(last_TV)
    paths = series.close()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.3 * N_ROWS * N_POSITIONS * 4
    if space == "grayordinates":
        written_N = nibabel.load(paths[0]).dataobj[-1]
        np.testing.assert_array_equal(written_N[mask], last_TV[-1])
        assert not written_N[~mask].any()
