"""Diagnosis on the second collection, from records and from the same runs as logs in every format. Part of `why.py`.

A run is named in time if its cause comes first within 200 steps or 5 epochs after it could be seen. A healthy run is
accused if any cause has more than 50 % confidence, at its end or at any of 25 points before.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from statistics import median

import msgspec

from giblet_train.diagnosis import replay
from giblet_train.diagnosis.diagnose import Diagnosis, diagnose
from giblet_train.diagnosis.log_parser import read_log
from giblet_train.schema.records import AnyMetric, EpochMetric, SplitLoss, StepMetric
from tests.collection.cases import Part
from tests.collection.foreign import records
from tests.collection.foreign_cases import HEALTHY, SICK, Foreign
from tests.collection.log_formats import FORMATS, OTHER_LOSSES, Course, Epoch

LIMIT_STEPS, LIMIT_EPOCHS = 200, 5
N_POINTS = 25
STRIDE_STEPS = 20
LOOK_STEPS = 800
ACCUSED = 0.5
IN_EPOCHS = frozenset({"nan", "diverging", "overfit", "plateau", "flat"})
"""Causes whose evidence is in the losses of epochs, which every format contains."""


@dataclass
class Row:
    """Results of one family."""

    cause: str
    n: int = 0
    right: int = 0
    accused: int = 0
    delays: list[int | None] = field(default_factory=list)
    in_time: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass
class FormatRow:
    """Results of one log format."""

    n: int = 0
    equal: int = 0
    cannot_show: int = 0
    failures: list[str] = field(default_factory=list)


def seeds(part: Part, n: int) -> list[int]:
    """Return even seeds for tuning, odd ones for testing."""
    return [2 * k + (part == "test") for k in range(n)]


def first_cause(diagnosis: Diagnosis) -> str:
    """Return the most likely cause; `healthy` without causes above 50 %."""
    likely = [cause for cause in diagnosis.causes if cause.confidence > ACCUSED] or diagnosis.causes
    return likely[0].cause if likely else "healthy"


def run(part: Part, n_seeds: int) -> tuple[dict[str, Row], dict[str, FormatRow]]:
    """Diagnose every run from its records and from its logs."""
    rows: dict[str, Row] = {}
    formats: dict[str, FormatRow] = {name: FormatRow() for name in FORMATS}
    for name, cause, case, seed in _cases(part, n_seeds):
        row = rows.setdefault(name, Row(cause))
        metrics = records(case.study)
        _judge_records(row, case, metrics, f"{name}-{seed}")
        if seed < 4:
            for format_name, format_row in formats.items():
                _judge_format(format_row, format_name, cause, metrics, f"{name}-{seed}")
        print(f"{name}-{seed}", file=sys.stderr)
    return rows, formats


def _cases(part: Part, n_seeds: int) -> Iterator[tuple[str, str, Foreign, int]]:
    for name, family in HEALTHY.items():
        for seed in seeds(part, n_seeds):
            yield name, "", family(seed), seed
    for name, (cause, family) in SICK.items():
        for seed in seeds(part, n_seeds):
            yield name, cause, family(seed), seed


def _judge_records(row: Row, case: Foreign, metrics: list[AnyMetric], label: str) -> None:
    config, n_steps = case.study.config, sum(isinstance(m, StepMetric) for m in metrics)
    diagnosis = diagnose(config, metrics)
    row.n += 1
    if not row.cause:
        points = replay.prefixes(config, metrics, 1, n_steps, max(10, n_steps // N_POINTS))
        accused = [
            (n, cause)
            for n, prefix_diagnosis in (*points, (n_steps, diagnosis))
            for cause in prefix_diagnosis.causes
            if cause.confidence > ACCUSED
        ]
        row.right += not any(n == n_steps for n, _ in accused)
        row.accused += bool(accused)
        row.failures += [f"{label}: {cause.cause} at step {n}" for n, cause in accused[:1]]
        return
    first = diagnosis.causes[0] if diagnosis.causes else None
    right = first is not None and first.cause == row.cause and first.evidence.get("reason", "") in (case.reason, "")
    row.right += right
    limit = max(LIMIT_STEPS, LIMIT_EPOCHS * case.study.steps_per_epoch)
    delay = _delay(case, metrics, row.cause, limit)
    row.delays.append(delay)
    in_time = delay is not None and delay <= limit
    row.in_time += in_time
    if not right:
        row.failures.append(f"{label}: {first.cause if first else 'nothing'} instead of {row.cause}")
    elif not in_time:
        row.failures.append(f"{label}: named after {delay} steps")


def _delay(case: Foreign, metrics: list[AnyMetric], cause: str, limit: int) -> int | None:
    """Return the steps from the onset to the first of several looks that names the cause first.

    Looks are every STRIDE_STEPS steps, and at the limit, so that what is named in time does not count as late.
    """
    looks: list[int] = sorted({*range(1, LOOK_STEPS + 1, STRIDE_STEPS), limit})
    for delay in looks:
        n = case.onset + delay
        diagnoses = [diagnosis for _, diagnosis in replay.prefixes(case.study.config, metrics, n, n)]
        if any(d.causes and d.causes[0].cause == cause for d in diagnoses):
            return delay
    return None


def course_of(metrics: list[AnyMetric]) -> Course:
    """Return the epochs of a run as a log prints them."""
    epochs = [m for m in metrics if isinstance(m, EpochMetric)]

    def loss(value: float | None) -> float:
        return math.nan if value is None else value

    return [
        Epoch(e.epoch, len(epochs), loss(e.train.total), loss(e.validation.total if e.validation else None), e.lr)
        for e in epochs
    ]


def _as_printed(metrics: list[AnyMetric], loss: Callable[[float], float] | None) -> list[EpochMetric]:
    """Return the epochs of a run with the losses that a format prints.

    Args:
        loss: loss of the run -> loss that is printed; None if they are the same.
    """
    epochs = [m for m in metrics if isinstance(m, EpochMetric)]
    if loss is None:
        return epochs

    def printed(split: SplitLoss | None) -> SplitLoss | None:
        if split is None or split.total is None:
            return split
        return msgspec.structs.replace(split, total=loss(split.total), loss={})

    return [
        msgspec.structs.replace(e, train=printed(e.train) or e.train, validation=printed(e.validation)) for e in epochs
    ]


def _judge_format(row: FormatRow, name: str, cause: str, metrics: list[AnyMetric], label: str) -> None:
    """Compare the first cause from a log with the true one and with that from records without steps.

    A log without the evidence must name no other cause, and say what it does not show.
    """
    course = course_of(metrics)
    if len(course) < 2 or len(course) > 250:
        return
    with tempfile.TemporaryDirectory() as folder:
        log = read_log(FORMATS[name](course, Path(folder)))
    diagnosis = diagnose(None, log.metrics, log=log.log)
    named = first_cause(diagnosis) if any(c.confidence > ACCUSED for c in diagnosis.causes) else "healthy"
    row.n += 1
    if cause in IN_EPOCHS or not cause:
        expected = diagnose(None, _as_printed(metrics, OTHER_LOSSES.get(name)))
        likely = [c.cause for c in expected.causes if c.confidence > ACCUSED]
        first_of_records = likely[0] if likely else "healthy"
        equal = named in (first_of_records, cause)
        row.equal += equal
        if not equal:
            row.failures.append(f"{label}: {named} instead of {first_of_records}")
        return
    if named == cause:
        row.equal += 1
        return
    silent = named == "healthy" or named in IN_EPOCHS
    row.cannot_show += silent and any("does not show" in note for note in log.notes)
    if not silent:
        row.failures.append(f"{label}: {named}")


def page(part: Part, n_seeds: int) -> str:
    """Return the tables as Markdown."""
    rows, formats = run(part, n_seeds)
    sick, healthy = [r for r in rows.values() if r.cause], [r for r in rows.values() if not r.cause]
    n, right, in_time = sum(r.n for r in sick), sum(r.right for r in sick), sum(r.in_time for r in sick)
    n_healthy, accused = sum(r.n for r in healthy), sum(r.accused for r in healthy)
    lines = [
        f"First cause right: {right} of {n} failing runs ({right / n:.1%}). Healthy runs accused with more than 50 % "
        f"confidence at any point: {accused} of {n_healthy}. Named within {LIMIT_STEPS} steps or {LIMIT_EPOCHS} "
        f"epochs: {in_time} of {n} ({in_time / n:.1%}).",
        "",
        "| family | cause | runs | right | accused | named in time | median delay, steps | failures |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, r in rows.items():
        delays = [d for d in r.delays if d is not None]
        delay = f"{median(delays):g}" if delays else "–"
        in_time_text = f"{r.in_time}/{len(r.delays)}" if r.delays else "–"
        cells = (name, r.cause or "healthy", r.n, r.right, r.accused, in_time_text, delay, "; ".join(r.failures) or "–")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    n_logs, equal = sum(f.n for f in formats.values()), sum(f.equal for f in formats.values())
    cannot = sum(f.cannot_show for f in formats.values())
    lines += [
        "",
        "## The same runs as logs",
        "",
        f"{n_logs} logs in {len(formats)} formats. In {equal} the first cause is the true one, or that from the "
        f"epochs' records with the losses that the format prints. In {cannot} the evidence is not in the format, no "
        f"other cause is named, and the report lists what this log does not show. {n_logs - equal - cannot} failed.",
        "",
        "| format | logs | equal | cannot show | failures |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for name, f in formats.items():
        failures = "; ".join(takewhile(bool, f.failures[:3])) + ("; …" if len(f.failures) > 3 else "")
        lines.append(f"| {name} | {f.n} | {f.equal} | {f.cannot_show} | {failures or '–'} |")
    return "\n".join(lines)
