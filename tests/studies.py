"""Simulated studies in the layouts of public data sets, and faults planted into copies of them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.annotation_table import LAB_TR_S, read_rows
from giblet_train.data.readers.lab_workbook import write_annotations
from giblet_train.data.readers.scan_restarts import scan_starts_s, scans_of_rows

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


def standardised(volumes: Volumes) -> Volumes:
    """Return each voxel with mean 0 and variance 1."""
    values = volumes.astype(np.float32)
    centred = values - values.mean(axis=-1, keepdims=True)
    sd = centred.std(axis=-1, keepdims=True)
    return np.where(sd > 0, centred / np.where(sd > 0, sd, 1), 0)


def move_annotations(path: Path, seconds: float, scan_lengths_trs: Sequence[int] = ()) -> None:
    """Move the seconds of a workbook, a table or subtitles; the seconds of a workbook restart with each scan."""
    if path.suffix == ".xlsx":
        rows = read_rows(path)
        starts_s = scan_starts_s(LAB_TR_S, scan_lengths_trs)
        segments = [
            replace(
                row.segment,
                start_s=row.segment.start_s + starts_s[n] + seconds,
                end_s=row.segment.end_s + starts_s[n] + seconds,
            )
            for row, n in zip(rows, scans_of_rows(rows), strict=True)
        ]
        path.unlink()
        write_annotations(path, segments, LAB_TR_S, scan_lengths_trs)
        return
    text = path.read_text()
    path.unlink()
    if path.suffix == ".srt":
        path.write_text(re.sub(r"(\d\d):(\d\d):(\d\d),(\d{3})", lambda m: _clock(m, seconds), text))
        return
    separator = "," if path.suffix == ".csv" else "\t"
    head, *lines = [line.split(separator) for line in text.splitlines()]
    columns = [n for n, name in enumerate(head) if name in ("start_s", "end_s", "onset")]
    for cells in lines:
        for n in columns:
            cells[n] = f"{float(cells[n]) + seconds:.3f}"
    path.write_text("\n".join(separator.join(cells) for cells in (head, *lines)) + "\n")


def _clock(match: re.Match[str], seconds: float) -> str:
    hour, minute, second, millisecond = map(int, match.groups())
    clock_ms = round(1000 * (3600 * hour + 60 * minute + second + seconds)) + millisecond
    minutes, milliseconds = divmod(clock_ms, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d},{milliseconds % 1000:03d}"


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
