"""The runs of a sweep as one table, and the best of them with the interval of its held-out figure. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from giblet_train.diagnosis.criterion_verdict import COMPLETED
from giblet_train.schema.health import GLYPHS
from giblet_train.schema.records import EpochMetric
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting import SCHEMA
from giblet_tui.reporting.formatting import number, verdict
from giblet_tui.reporting.json_output import nan_to_null, run_json
from giblet_tui.reporting.tables import fitted_table

FIGURE = "r_difference"
"""Held-out r of responsive minus null voxels, which every evaluation contains with its 95 % interval."""


_SPARE = ("TRAIN", "EPOCH", "VALIDATION", "VERDICT")


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A held-out figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def sweeps(runs: Sequence[RunSnapshot]) -> dict[str, list[RunSnapshot]]:
    """Return the runs of each sweep in the order of its grid; the newest sweep first. runs: newest first."""
    groups: dict[str, list[RunSnapshot]] = {}
    for run in runs:
        if run.run.sweep is not None:
            groups.setdefault(run.run.sweep.name, []).append(run)
    return {name: sorted(group, key=_number) for name, group in groups.items()}


def sweep_lines(runs: Sequence[RunSnapshot], width: int | None = None) -> list[str]:
    """Format the table of a sweep and sentences on the best run and on what is still open.

    Args:
        width: Columns of the terminal. A wider table first loses the least important columns.
    """
    first = runs[0].run.sweep
    assert first is not None
    keys = [key.rpartition(".")[2] for key in first.values]
    head = ("", *(key.upper() for key in keys), "RUN", "STATE", "EPOCH", "TRAIN", "VALIDATION", "VAL R", "HELD-OUT R",
            "VERDICT")  # fmt: skip
    best = best_run(runs)
    rows = [_row(run, run is best) for run in runs]
    missing = first.n_runs - len(runs)
    lines = fitted_table(head, rows, _SPARE, width).split("\n")
    lines += [f"{missing} of its {first.n_runs} runs are not there: not started, removed, or on another node."] * bool(
        missing
    )
    return [*lines, *(line for run in runs for line in _end_lines(run)), *_best_lines(runs, best)]


def best_run(runs: Sequence[RunSnapshot]) -> RunSnapshot | None:
    """Return the run with the highest validation r, or without any r the lowest validation loss; None without both.

    The held-out block chooses nothing: its figure would then be too good. Losses are not compared if an r is known,
    because a value of the grid may change their scale.
    """
    with_r = [(r, run) for run in runs if (r := _validation_r(run)) is not None]
    if with_r:
        return max(with_r, key=lambda pair: pair[0])[1]
    with_loss = [(loss, run) for run in runs if (loss := _validation_loss(run)) is not None]
    return min(with_loss, key=lambda pair: pair[0])[1] if with_loss else None


def held_out(run: RunSnapshot) -> Interval | None:
    """Return the run's held-out r with its interval; None before its evaluation."""
    figures: Mapping[str, Any] = run.evaluation.encoding if run.evaluation is not None else {}
    values = [figures.get(name) for name in (FIGURE, f"{FIGURE}_low", f"{FIGURE}_high")]
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return None
    value, low, high = (float(value) for value in values if value is not None)
    return Interval(value=value, low=low, high=high)


def sweep_json(name: str, runs: Sequence[RunSnapshot]) -> dict[str, Any]:
    """Return the object printed by `sweep --json`."""
    best = best_run(runs)
    return {
        "schema": SCHEMA,
        "sweep": name,
        "n_runs": runs[0].run.sweep.n_runs if runs[0].run.sweep else len(runs),
        "best": best.run.run_id if best else None,
        "runs": [_run_json(run) for run in runs],
    }


def _run_json(run: RunSnapshot) -> dict[str, Any]:
    interval = held_out(run)
    value = {
        **run_json(run),
        "values": run.run.sweep.values if run.run.sweep else {},
        "validation_r": _validation_r(run),
        "validation_loss": _validation_loss(run),
        "held_out_r": msgspec.to_builtins(interval) if interval else None,
    }
    return dict(nan_to_null(value))


def _row(run: RunSnapshot, is_best: bool) -> tuple[str, ...]:
    run_verdict, interval, cell = verdict(run), held_out(run), run.run.sweep
    epoch, r = run.epochs[-1] if run.epochs else None, _validation_r(run)
    of = f"/{run.config.num_epochs}" if run.config is not None else ""
    return (
        "★" if is_best else "",
        *(cell.values.values() if cell else ()),
        run.run.run_id,
        f"{GLYPHS[run.health.state]} {run.health.state}",
        f"{epoch.epoch}{of}" if epoch else "–",
        number(epoch.train.total) if epoch else "–",
        number(_validation_loss(run)),
        f"{r:.3f}" if r is not None else "–",
        str(interval) if interval else "–",
        run_verdict.word_for(run.health) if run_verdict else "–",
    )


def _end_lines(run: RunSnapshot) -> list[str]:
    """Return why a run ended before its time; nothing for any other."""
    cell, run_verdict = run.run.sweep, verdict(run)
    label = cell.label if cell else run.run.run_id
    if run.health.state in ("failed", "died"):
        return [f"{label}: {run.health.state}: {run.health.sentence}"]
    if run.health.state == "stopped" and cell is not None and cell.stop_hopeless and run_verdict is not None:
        unmet = [c for c in run_verdict.criteria if c.status == "fail" and c.name != COMPLETED]
        return [f"{label}: stopped: {unmet[0].name}: {unmet[0].sentence}"] if unmet else []
    return []


def _best_lines(runs: Sequence[RunSnapshot], best: RunSnapshot | None) -> list[str]:
    n_live = sum(run.health.live for run in runs)
    open_runs = f"{n_live} of {len(runs)} runs have not ended." if n_live else ""
    if best is None:
        return [f"No run has a validation result yet. {open_runs}".rstrip()]
    cell, r, interval = best.run.sweep, _validation_r(best), held_out(best)
    figure = f"validation r {r:.3f}" if r is not None else f"validation loss {number(_validation_loss(best))}"
    lines = [f"best{' so far' if n_live else ''}: {cell.label if cell else ''} ({best.run.run_id}), {figure}"]
    if interval is not None:
        lines.append(f"  its held-out r, responsive minus null voxels: {interval} (95 % interval)")
        others = [other for run in runs if run is not best and (other := held_out(run)) is not None]
        n_within = sum(interval.low <= other.value <= interval.high for other in others)
        lines += [f"  {n_within} of the {len(others)} others that were evaluated are within it"] if others else []
    return [*lines, *([open_runs] if open_runs else [])]


def _validation_r(run: RunSnapshot) -> float | None:
    """Return the validation r of the best epoch, else the highest one."""
    values = [epoch.fmri_r for epoch in _best_epochs(run) if epoch.fmri_r is not None]
    return max(values, default=None)


def _validation_loss(run: RunSnapshot) -> float | None:
    """Return the validation loss of the best epoch, else the lowest one."""
    totals = [epoch.validation.total for epoch in _best_epochs(run) if epoch.validation is not None]
    return min((total for total in totals if total is not None), default=None)


def _best_epochs(run: RunSnapshot) -> Sequence[EpochMetric]:
    """Return the epoch that the run itself calls its best; all of them if it names none."""
    return [epoch for epoch in run.epochs if epoch.best][-1:] or run.epochs


def _number(run: RunSnapshot) -> int:
    return run.run.sweep.number if run.run.sweep is not None else 0
