"""The lab's annotation workbook: its 23 columns, and segments written into them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from math import ceil, floor
from pathlib import Path

import xlsxwriter

from giblet_train.data.readers.annotation_cells import SHEET
from giblet_train.data.readers.annotation_table import COLUMNS, LAB_TR_S, Segment
from giblet_train.data.readers.scan_restarts import scan_starts_s
from giblet_train.schema.run_dir import replace_file

RATERS = (1, 2, 3, 4)
HEADERS = (
    "Segment Number",
    "Start Time (s) ",
    "End Time (s) ",
    "Start Time (TRs, 1.5s)",
    "End Time (TRs, 1.5s)",
    "Scene Segments",
    "Scene Details - A Level ",
    "Space-In/Outdoor",
    "Name - All",
    "Name - Focus",
    "Name - Speaking",
    "Location",
    "Camera Angle",
    "Music Presence ",
    "Words on Screen ",
    *(f"Arousal - Rater {n}" for n in RATERS),
    *(f"Valence - Rater {n}" for n in RATERS),
)
"""The lab's columns, trailing blanks and all."""

PLAIN = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False}

CREATED = datetime(2008, 5, 20, tzinfo=UTC)
"""A fixed date, so that the same segments give the same bytes."""


def write_annotations(
    path: Path, segments: Sequence[Segment], tr_s: float, scan_lengths_trs: Sequence[int] | None = None
) -> None:
    """Write the segments as the lab's workbook: seconds restart with every scan, TR columns are 1-based and continuous.

    The same segments give the same bytes. Raises OSError if `path` cannot be written; nothing is then left there.
    """
    borders_s = scan_starts_s(tr_s, scan_lengths_trs)
    memory = io.BytesIO()
    with xlsxwriter.Workbook(memory, PLAIN) as book:
        book.set_properties({"created": CREATED})
        sheet = book.add_worksheet(SHEET)
        sheet.write_row(0, 0, HEADERS)
        for n, segment in enumerate(segments, 1):
            scan_start_s = max((s for s in borders_s if s <= segment.start_s), default=0.0)
            sheet.write_row(n, 0, _cells(n, segment, scan_start_s))
    replace_file(path, memory.getvalue())


def _cells(number: int, segment: Segment, scan_start_s: float) -> list[float | str]:
    first_tr, last_tr = floor(segment.start_s / LAB_TR_S) + 1, ceil(segment.end_s / LAB_TR_S)
    return [
        number,
        round(segment.start_s - scan_start_s, 3),
        round(segment.end_s - scan_start_s, 3),
        first_tr,
        max(first_tr, last_tr),
        *(getattr(segment, field) for field in COLUMNS if field not in ("start_s", "end_s")),
    ]
