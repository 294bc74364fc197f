"""A workbook divides files that hold all its scans, and no file that holds one of them."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import pytest

from giblet_train.data.discover.borders import borders_in_files
from giblet_train.data.readers.annotation_table import LAB_TR_S, Segment
from giblet_train.data.readers.lab_workbook import write_annotations

PART_TRS = (946, 1030)
"""Both scans of Sherlock."""


@pytest.fixture(scope="module")
def workbook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("borders") / "annotations.xlsx"
    border_s, end_s = PART_TRS[0] * LAB_TR_S, sum(PART_TRS) * LAB_TR_S
    segments = [
        Segment(start_s + n * 9.0, min(start_s + n * 9.0 + 9.0, stop_s), "A shot.")
        for start_s, stop_s in ((0.0, border_s), (border_s, end_s))
        for n in range(ceil((stop_s - start_s) / 9.0))
    ]
    write_annotations(path, segments, LAB_TR_S, PART_TRS)
    return path


@pytest.mark.parametrize(
    ("n_trs", "borders"),
    [(1976, (946,)), (1956, (946,)), (1990, (946,)), (946, ()), (1030, ()), (980, ()), (1050, ())],
    ids=["both", "both_cropped", "both_longer", "part_1", "part_2", "part_2_cropped", "part_2_longer"],
)
def test_only_a_file_with_both_parts_is_divided(workbook: Path, n_trs: int, borders: tuple[int, ...]) -> None:
    assert borders_in_files([workbook], [])(n_trs, LAB_TR_S) == borders


def test_a_file_with_another_tr_is_divided_at_the_same_second(workbook: Path) -> None:
    assert borders_in_files([workbook], [])(988, 3.0) == (473,)
