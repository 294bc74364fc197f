"""Simulated studies in the layouts of public data sets, and faults planted into copies of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

Volumes = NDArray[Any]


def copied(study: Path, to: Path) -> Path:
    """Return a copy of a study; its files are links until they are edited."""
    shutil.copytree(study, to, copy_function=os.link)
    return to


def edit(path: Path, change: Callable[[Volumes], Volumes], tr_s: float | None = None) -> None:
    """Replace the volumes of a scan (X, Y, Z, T), and the TR of its header if one is given."""
    image: Any = nibabel.load(path)
    volumes = change(np.asarray(image.dataobj))
    header = image.header.copy()
    path.unlink()
    edited: Any = nibabel.Nifti1Image(volumes, image.affine, header)
    if tr_s is not None:
        edited.header.set_zooms((*header.get_zooms()[:3], tr_s))
    nibabel.save(edited, path)


def late(n_trs: int) -> Callable[[Volumes], Volumes]:
    """Return the change of a scan that was started n_trs too early: other volumes come first, the last are lost."""
    return lambda volumes: np.concatenate([volumes[..., : -n_trs - 1 : -1], volumes[..., :-n_trs]], axis=-1)


def exchange(first: Path, second: Path) -> None:
    """Exchange two files."""
    aside = first.with_name("aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def cut(path: Path, share: float = 0.5) -> None:
    """Keep only the first part of a file, as a broken copy does."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: int(share * len(data))])
