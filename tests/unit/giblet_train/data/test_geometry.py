"""What the positions of each geometry are called."""

import numpy as np
import pytest

from giblet_train.data.geometry import ParcelTable, SurfacePair, VolumeGrid

AFFINE = np.array([[-3.0, 0, 0, 30], [0, 3, 0, -40], [0, 0, 3, -20], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("geometry", "position", "place"),
    [
        (VolumeGrid.of((5, 6, 7), AFFINE), 7 + 2, "voxel at (30, -37, -14) mm"),
        (SurfacePair(n_left=2, n_right=3), 1, "vertex 1, left hemisphere"),
        (SurfacePair(n_left=2, n_right=3), 2, "vertex 0, right hemisphere"),
        (ParcelTable(names=("V1", "A1")), 1, "A1"),
    ],
)
def test_a_position_is_named_as_its_users_find_it(geometry, position, place):
    assert geometry.place(position) == place
    assert geometry.noun.many in geometry.description
