"""Numbers of a command that are no losses, in exports."""

from __future__ import annotations

import csv
from pathlib import Path

from msgspec.structs import replace

from giblet_train.schema.records import ValuesMetric
from giblet_tui.reporting.csv import csv_text
from giblet_tui.reporting.trackers import mlflow_files, scalars_of
from tests import fleets


def test_a_table_has_a_row_for_each_set_of_values() -> None:
    rows = [row for row in csv.DictReader(csv_text(fleets.command_run()).splitlines()) if row["kind"] == "values"]
    assert len(rows) == 23 and rows[-1]["metric_grad_norm"].startswith("0.746")
    assert rows[-1]["validation_metric_PSNR"] == "24.6" and rows[-1]["total"] == ""


def test_trackers_get_them_under_names_that_leave_no_folder() -> None:
    run = fleets.command_run()
    evil = ValuesMetric(seq=99, step=1, epoch=1, at=0.0, values={"a/../../../b": 1.5})
    run = replace(run, values=(*run.values, evil))
    tags = {scalar.tag for scalar in scalars_of(run)}
    assert {"metric/accuracy", "metric_validation/PSNR", "metric/a_b"} <= tags
    assert all(".." not in str(path) for path in mlflow_files(run, Path("there")))
