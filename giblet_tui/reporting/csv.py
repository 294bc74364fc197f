"""Format a run's records as a CSV table, one row per step, epoch, and set of other numbers. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from giblet_train.schema.config import COMPONENTS
from giblet_train.schema.records import EpochMetric, Number, SplitLoss, StepMetric, ValuesMetric
from giblet_tui.monitor.snapshots import RunSnapshot

Cells = dict[str, str | int | Number]


def fields(components: Sequence[str] = COMPONENTS) -> tuple[str, ...]:
    """Return the names of the columns for a run with these components of the loss."""
    return (
        *("kind", "seq", "step", "epoch", "at", "lr", "total", *components),
        *("validation_total", *(f"validation_{c}" for c in components), "fmri_r"),
        *(f"weight_{c}" for c in components),
        *(f"share_{c}" for c in components),
        *("gradient_norm", "step_s"),
    )


def csv_text(run: RunSnapshot) -> str:
    """Return the table with its header.

    `kind` is `step`, `epoch` or `values` (numbers of a command that are no losses). A cell is empty if the row does not
    measure the value, and `nan` if the measured value was not finite. Times are seconds since 1970 on the node's clock.
    """
    out = io.StringIO()
    names = dict.fromkeys(name for record in run.values for name in record.values)
    held_out_names = dict.fromkeys(name for record in run.values for name in record.validation)
    columns = (
        *fields(COMPONENTS if run.config is None else run.config.components),
        *(f"metric_{name}" for name in names),
        *(f"validation_metric_{name}" for name in held_out_names),
    )
    writer = csv.DictWriter(out, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    records: list[StepMetric | EpochMetric | ValuesMetric] = [*run.steps, *run.epochs, *run.values]
    for record in sorted(records, key=lambda record: record.seq):
        writer.writerow(_row(record))
    return out.getvalue()


def _row(record: StepMetric | EpochMetric | ValuesMetric) -> Cells:
    if isinstance(record, StepMetric):
        return _step(record)
    return _epoch(record) if isinstance(record, EpochMetric) else _values(record)


def _values(record: ValuesMetric) -> Cells:
    place: Cells = {"kind": "values", "seq": record.seq, "step": record.step, "epoch": record.epoch, "at": record.at}
    values = {f"metric_{name}": _number(value) for name, value in record.values.items()}
    return {**place, **values, **{f"validation_metric_{name}": _number(v) for name, v in record.validation.items()}}


def _step(step: StepMetric) -> Cells:
    return {
        **_common("step", step),
        **_losses("", step.total, step.loss),
        **{f"weight_{c}": _number(v) for c, v in step.weight.items()},
        **{f"share_{c}": _number(v) for c, v in step.share.items()},
        "gradient_norm": "" if step.gradient_norm is None else step.gradient_norm,
        "step_s": "" if step.step_s is None else step.step_s,
    }


def _epoch(epoch: EpochMetric) -> Cells:
    held_out: SplitLoss | None = epoch.validation
    return {
        **_common("epoch", epoch),
        **_losses("", epoch.train.total, epoch.train.loss),
        **(_losses("validation_", held_out.total, held_out.loss) if held_out else {}),
        "fmri_r": "" if epoch.fmri_r is None else epoch.fmri_r,
    }


def _common(kind: str, record: StepMetric | EpochMetric) -> Cells:
    return {
        "kind": kind,
        "seq": record.seq,
        "step": record.step,
        "epoch": record.epoch,
        "at": record.at,
        "lr": record.lr,
    }


def _losses(prefix: str, total: Number, loss: Mapping[str, Number]) -> Cells:
    return {f"{prefix}{name}": _number(v) for name, v in {"total": total, **loss}.items()}


def _number(value: Number) -> str | float:
    return "nan" if value is None else value
