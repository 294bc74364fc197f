"""Maps on the cortex: what is at the back of the left hemisphere is drawn there, and only there."""

import re
import subprocess
import sys
from base64 import b64decode
from importlib.machinery import ModuleSpec
from io import BytesIO

import av
import numpy as np
import pytest

from giblet_train.analysis import cortex
from giblet_train.analysis.cortex import N_VERTICES, Cortex
from giblet_train.data.geometry import SurfacePair, VolumeGrid
from giblet_train.pages.brain import BrainCanvas, Overlay

GRID = VolumeGrid.of((46, 55, 46), np.array([[4, 0, 0, -90], [0, 4, 0, -126], [0, 0, 4, -72], [0, 0, 0, 1.0]]), 4)
BACK_MM = (-30.0, -90.0, 0.0)


def pictures(html):
    """Return (label, rgba) of each panel."""
    panels = re.findall(r'src="data:image/png;base64,([^"]+)".*?</div>([^<]+)</div>', html)
    for data, label in panels:
        with av.open(BytesIO(b64decode(data)), format="png_pipe") as container:
            yield label, next(container.decode(video=0)).to_ndarray(format="rgba").astype(int)


def coloured(rgba):
    return np.argwhere((rgba[..., 0] > rgba[..., 2] + 40) & (rgba[..., 3] > 0))


def overlays():
    """Return the same spot as a volume and as vertices."""
    mm = np.moveaxis(np.indices(GRID.shape), 0, -1) @ GRID.affine[:3, :3].T + GRID.affine[:3, 3]
    in_volume = np.exp(-((mm - BACK_MM) ** 2).sum(axis=-1) / 400)
    place_N3 = np.concatenate([h.depths_N3[1] for h in cortex.fsaverage5()])
    on_vertices = np.exp(-((place_N3 - BACK_MM) ** 2).sum(axis=-1) / 400)
    canvas = BrainCanvas(np.ones(GRID.shape, bool), GRID.affine)
    return {
        "volume": (GRID, canvas, in_volume),
        "vertices": (SurfacePair(n_left=N_VERTICES, n_right=N_VERTICES), None, on_vertices),
    }


@pytest.mark.parametrize("kind", ["volume", "vertices"])
def test_a_spot_at_the_back_of_the_left_hemisphere_is_drawn_there(kind):
    geometry, canvas, values = overlays()[kind]
    views = dict(pictures(Cortex.of(geometry, canvas).draw(Overlay(values, 0.5, 1.0), "r")))
    assert list(views) == ["left, lateral", "left, medial", "right, medial", "right, lateral"]
    spot = coloured(views["left, lateral"])
    assert len(spot) > 50 and spot[:, 1].min() > 0.7 * views["left, lateral"].shape[1], "posterior is on the right"
    assert not len(coloured(views["right, lateral"])) and not len(coloured(views["right, medial"]))


def test_the_files_of_nilearn_are_read_without_importing_it():
    program = (
        "import sys; from giblet_train.analysis.cortex import fsaverage5; "
        "assert fsaverage5() is not None and 'nilearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_cannot_be_placed_is_not_drawn(monkeypatch):
    canvas = BrainCanvas(np.ones(GRID.shape, bool), GRID.affine)
    assert Cortex.of(VolumeGrid.of(GRID.shape, GRID.affine, 1), canvas) is None, "not in MNI space"
    assert Cortex.of(SurfacePair(n_left=642, n_right=642), None) is None, "another mesh"
    cortex.fsaverage5.cache_clear()
    monkeypatch.setattr(cortex, "find_spec", lambda name: None)
    assert Cortex.of(GRID, canvas) is None, "without nilearn"
    cortex.fsaverage5.cache_clear()


def test_a_nilearn_without_a_file_of_the_mesh_draws_no_cortex(monkeypatch, tmp_path):
    for name in ("pial", "white"):
        (tmp_path / "datasets" / "data" / "fsaverage5").mkdir(parents=True, exist_ok=True)
        (tmp_path / "datasets" / "data" / "fsaverage5" / f"{name}_left.gii.gz").write_bytes(b"no mesh")
    package = ModuleSpec("nilearn", None, is_package=True)
    package.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(cortex, "find_spec", lambda name: package)
    assert cortex.fsaverage5.__wrapped__() is None
    (tmp_path / "datasets" / "data" / "fsaverage5" / "pial_left.gii.gz").unlink()
    assert cortex.fsaverage5.__wrapped__() is None
