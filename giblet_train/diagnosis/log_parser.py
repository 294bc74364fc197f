"""Read training logs as giblet's records, with notes on what they do not show. Used by `giblet why LOG`."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from giblet_train.diagnosis.log_reader.epoch_table import EpochRow
from giblet_train.diagnosis.log_reader.log_files import read_file, read_folder
from giblet_train.diagnosis.log_reader.reader import TrainingLog, read_lines
from giblet_train.diagnosis.rules.adversarial import reward_change
from giblet_train.diagnosis.rules.metric_course import has_improved, improved_names, judged_courses
from giblet_train.diagnosis.run_start import format_loss
from giblet_train.schema import yaml_io
from giblet_train.schema.config import COMPONENTS, Config
from giblet_train.schema.config_loader import from_mapping
from giblet_train.schema.errors import DataError
from giblet_train.schema.records import EpochMetric, Number, SplitLoss

MAX_BYTES = 1024**3
MOST_PARTS = 12
BALANCED = (
    "Its losses balance each other (adversarial or reinforcement learning): they need not fall, so only their "
    "balance is judged."
)
REWARDED = "It is reinforcement learning: its losses need not fall, so its reward is judged."
_PLAN_KEYS = (
    *("num_epochs", "learning_rate", "min_lr", "warmup_epochs", "scheduler_type", "gradient_clip_val"),
    *("fmri_weight", "reconstruction_weight", "video_weight", "audio_weight", "text_weight"),
)
"""Keys of a configuration that a log can be compared with."""


class ParsedLog(msgspec.Struct, frozen=True, kw_only=True):
    """A log as records."""

    metrics: tuple[EpochMetric, ...]
    """One record per epoch; `step` counts epochs."""
    log: TrainingLog
    """The log as it was read: its end, and lines that could not be read."""
    notes: tuple[str, ...]
    """What was odd, and what the log does not show."""

    @property
    def n_epochs(self) -> int:
        """Return the planned number of epochs, as printed; 0 if not printed."""
        return self.log.n_epochs

    @property
    def steps_per_epoch(self) -> int | None:
        """Return the steps per epoch, as progress bars show them."""
        return self.log.steps_per_epoch

    @property
    def tail(self) -> tuple[str, ...]:
        """Return the last lines after the last sign of progress."""
        return self.log.end.tail

    @property
    def has_course(self) -> bool:
        """Return True if it shows whether the training learns: losses of epochs, or a reward that rises."""
        is_shown = bool(self.metrics) or bool(judged_courses(self.log)) or has_improved(self.log)
        return is_shown or reward_change(self.log.balanced_rows) is not None

    @property
    def unread(self) -> tuple[str, ...]:
        """Return a sentence for each line whose loss could not be read."""
        return tuple(f"Line {line.number} could not be read: {line.text}" for line in self.log.unread)


def read_log(path: Path) -> ParsedLog:
    """Read a log, or a folder of the logs of one training. Raises DataError if nothing can be read."""
    try:
        if path.is_dir():
            log = read_folder(path)
        else:
            _raise_if_too_big(path)
            log = read_file(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.", "Name a log that you may read.") from None
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}.", "Copy it again, or unpack it: zcat LOG > PLAIN") from None
    if log is None:
        raise DataError(
            f"{path} holds no log, and is no run directory: it has neither run.json nor config.yaml.",
            "Name a folder with the logs of a training, or bring a run directory here: giblet pull RUN",
        )
    if not log.n_lines:
        raise DataError(f"{path} is empty.", "Name a log that a training wrote.")
    return as_records(log)


def parse(lines: Iterable[str]) -> ParsedLog:
    """Read the lines of a log."""
    return as_records(read_lines(lines))


def as_records(log: TrainingLog) -> ParsedLog:
    """Convert a log to records. An epoch that is repeated after a restart counts as written last."""
    metrics = tuple(_metric(row) for row in log.rows)
    courses = judged_courses(log)
    missing = [] if courses or (log.is_adversarial and not metrics) else unavailable_from_log(metrics, log)
    return ParsedLog(metrics=metrics, log=log, notes=(*_reading_notes(log), *missing))


def unavailable_from_log(metrics: Sequence[EpochMetric], log: TrainingLog | None = None) -> list[str]:
    """Return sentences on what is unknown about a training whose log shows these epochs.

    Args:
        log: the log, which also shows durations and a learning rate of 0.
    """
    if not metrics:
        return ["It has no epoch with a loss: only its end can be read."]
    missing = []
    if not any(m.train.loss for m in metrics):
        missing.append("the components' losses (which one dominates, on what scale)")
    if not any(m.validation for m in metrics):
        missing.append("validation (overfitting, leaks)")
    if not any(m.lr for m in metrics) and not (log is not None and any(row.lr is not None for row in log.rows)):
        missing.append("the learning rate")
    gradients = "" if log is not None and any(row.grad_norm is not None for row in log.rows) else "gradients, "
    seconds = "" if log is not None and log.data_wait is not None else "the seconds of a step, "
    missing.append(f"{gradients}{seconds}memory")
    return [f"This log does not show {'; '.join(missing)}."]


def read_plan(mapping: Mapping[str, Any], name: str, where: str) -> Config:
    """Return the plan in a configuration that giblet cannot train on, to compare its log with. Raises ConfigError."""
    return from_mapping({"name": name} | {key: mapping[key] for key in _PLAN_KEYS if key in mapping}, where).config


def read_plan_file(path: Path) -> Config:
    """Read the plan in a configuration file of any name. Raises ConfigError."""
    return read_plan(yaml_io.load_file(path), "legacy", str(path))


def _raise_if_too_big(path: Path) -> None:
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path} has more than 1 GiB.", "Cut its end off: tail -c 1G LOG > END")


def _reading_notes(log: TrainingLog) -> list[str]:
    """Return sentences on how the log was read, and how it states its own end."""
    notes = ["It was restarted: epochs written twice count as last written."] if log.restarted else []
    if log.n_logs > 1:
        notes.append(f"It was resumed: {log.n_logs} logs of its starts are read as one training.")
    if log.folds:
        notes.append(
            f"It holds {len(log.folds) + 1} trainings, {log.folds[0][0]} to {log.fold}: each is judged by itself."
        )
    if log.is_blocks:
        few = "It counts no epochs" if log.last_epoch is None else "It has too few epochs to show a course"
        notes.append(f"{few}: {len(log.rows)} blocks of its steps are judged as epochs.")
    if log.summed_parts:
        notes.append(f"It prints no total loss: the sum of {', '.join(log.summed_parts)} is taken for it.")
    if log.is_adversarial:
        change = reward_change(log.balanced_rows)
        risen = f" Its reward rose from {format_loss(change[0])} to {format_loss(change[1])}." if change else ""
        has_reward = any(row.reward is not None for row in log.balanced_rows)
        notes.append(f"{REWARDED if has_reward else BALANCED}{risen}")
    courses = judged_courses(log)
    if log.is_adversarial and has_improved(log):
        notes.append(f"Its progress is judged by {', '.join(improved_names(log)[:4])}.")
    if courses:
        names = ", ".join(course.name for course in courses[:4])
        notes.append(f"It prints no loss: only {names} can be judged.")
    if log.unknown_names and not log.rows and not courses:
        notes.append(f"It prints numbers whose meaning is not known: {', '.join(log.unknown_names[:4])}.")
    if log.is_nameless and log.rows:
        second = " and the next for the validation loss" if log.rows[0].validation is not None else ""
        source = f"`{log.assumed_loss}`" if log.assumed_loss else "the first of each epoch"
        none = "No name in it is that of a loss" if log.assumed_loss else "Its numbers have no names"
        notes.append(f"{none}: {source} is taken for the training loss{second}.")
    if log.slowdown is not None:
        slow = log.slowdown
        notes.append(
            f"It became {slow.factor:.1f} times slower at {slow.where} (before: {slow.before}, since: {slow.after}): "
            f"look for a clock that heat has lowered (nvidia-smi -q -d PERFORMANCE), another job, or slow storage."
        )
    if log.cut_row:
        notes.append(f"Its last row is cut off, and is not read: {log.cut_row}")
    if log.validation_only:
        notes.append("It prints only validation losses: they are judged as training losses.")
    is_divided = not log.is_blocks and not log.is_adversarial
    if log.rows and is_divided and log.rows[0].epoch > 1 and log.rows[0].epoch != _step_between(log):
        first, last = log.rows[0].epoch, log.rows[-1].epoch
        notes.append(f"Its beginning is missing: only epochs {first} to {last} are seen.")
    return notes + _end_notes(log)


def _step_between(log: TrainingLog) -> int:
    """Return the distance of the first two epochs: a log may print every tenth epoch."""
    return log.rows[1].epoch - log.rows[0].epoch if len(log.rows) > 1 else 0


def _end_notes(log: TrainingLog) -> list[str]:
    last = log.rows[-1].epoch if log.rows else None
    of = f" of {log.n_epochs}" if log.n_epochs else ""
    where = f" after epoch {last}{of}" if last is not None and not log.is_blocks else ""
    statements = {
        "interrupted": f"It was stopped by hand{where}: {log.end.statement_line[:200]}{_only_cut_off(log)}",
        "early_stop": f"It ended by early stopping{where}: {log.end.statement_line[:200]}",
        "complete": f"It states that it is complete: {log.end.statement_line[:200]}",
    }
    if log.end.after_end and not log.end.statement and not log.end.errors:
        return [f"It printed while it exited: {log.end.after_end[:200]}"]
    if log.end.statement:
        after = f"After its end it printed: {log.end.after_end[:200]}"
        return [statements[log.end.statement], *([after] if log.end.after_end else [])]
    counts_steps = log.is_blocks and log.span is not None and log.span[1] != log.last_epoch
    step = log.span[1] if counts_steps and log.span is not None else log.n_steps
    if step < log.n_steps and not log.end.errors:
        return [f"It ends after step {step:.0f} of {log.n_steps}; the log does not say why."]
    is_unfinished = log.n_epochs and last is not None and not log.completed and not log.end.errors
    return [f"It ends{where}; the log does not say why."] if is_unfinished and not log.is_blocks else []


def _only_cut_off(log: TrainingLog) -> str:
    """Return a doubt about a stop by hand that only `^C` shows; empty if the log shows more."""
    doubt = ". A notebook also prints this when the machine's memory is full"
    return doubt if log.end.statement_line == "^C" else ""


def _metric(row: EpochRow) -> EpochMetric:
    return EpochMetric(
        seq=row.epoch,
        step=row.epoch,
        epoch=row.epoch,
        at=0.0,
        lr=_number(row.lr) or 0.0,
        train=SplitLoss(total=_number(row.train), loss=_components(row.train_parts)),
        validation=None
        if row.validation is None
        else SplitLoss(total=_number(row.validation), loss=_components(row.validation_parts)),
        fmri_r=_number(row.r),
    )


def _components(parts: Mapping[str, float]) -> dict[str, Number]:
    """Return the parts of a loss as records, those of giblet first."""
    names = sorted(parts, key=lambda name: COMPONENTS.index(name) if name in COMPONENTS else len(COMPONENTS))
    return {name: _number(parts[name]) for name in names[:MOST_PARTS]}


def _number(value: float | None) -> Number:
    return value if value is not None and math.isfinite(value) else None
