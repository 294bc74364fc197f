"""Explain a run, a pulled run directory or a log: read it, diagnose it, and format the answer as text and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from giblet_train.diagnosis import log_parser
from giblet_train.diagnosis.diagnose import Diagnosis, diagnose
from giblet_train.diagnosis.log_reader.end_scan import ErrorLine, LogEnd
from giblet_train.diagnosis.log_reader.reader import TrainingLog
from giblet_train.diagnosis.rules.case import Finding
from giblet_train.schema.config import Config, WatchConfig
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.health import Signals, health_of
from giblet_train.schema.history import with_earlier_runs
from giblet_train.schema.records import AnyMetric, EpochMetric, Exit, Heartbeat, R, Run, decode, decode_metrics
from giblet_train.schema.run_dir import RunDir
from giblet_tui.connection.sanitize import sanitize, sanitize_json, sanitize_line
from giblet_tui.inventory import configs
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting import SCHEMA
from giblet_tui.reporting.json_output import nan_to_null
from giblet_tui.reporting.unreadable_files import damaged_record_message

FEWEST_EPOCHS = 3
"""Epochs of a log from which a course can be judged."""
BRING_AGAIN = "Bring it again: giblet pull {} --logs"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `giblet why`."""

    subject: str
    """Id of the run, or name of the file."""
    diagnosis: Diagnosis
    notes: tuple[str, ...] = ()
    """What could not be known, and how the plan was read."""
    begun: bool = True
    """False if no epoch or step was seen, so that the training cannot be called healthy."""
    too_short: str = ""
    """The few epochs that a log shows, such as `only epoch 1 of 50`; empty if its course can be judged."""
    balanced: bool = False
    """True if only losses were seen that balance each other, and therefore show neither progress nor failure."""
    unread: tuple[str, ...] = ()
    """A sentence for each line of a log, or file of a run, that could not be read."""

    @property
    def inconclusive(self) -> bool:
        """Return True if no cause was found, and not enough was read to call the training healthy."""
        is_unknown = not self.begun or bool(self.too_short) or bool(self.unread)
        return not self.diagnosis.causes and (is_unknown or not self.diagnosis.healthy)


def of_run(run: RunSnapshot, unread: Sequence[str] = (), log: TrainingLog | None = None) -> Answer:
    """Diagnose a run from its snapshot.

    Args:
        unread: Sentences about files of the run that could not be read.
        log: What its whole log shows of the end; without it, the last lines in the snapshot are read.
    """
    run_id = run.run.run_id
    diagnosis = diagnose(run.config, run.metrics, health=run.health, log_tail=run.log_tail, log=log, run_id=run_id)
    notes = (*unread, *_foreign_notes(run), *_empty_notes(run))
    return Answer(
        subject=run_id,
        diagnosis=diagnosis,
        notes=notes,
        begun=bool(run.steps or run.epochs),
        too_short="" if run.steps or run.config is not None else _few_epochs(run.epochs, 0),
    )


def is_path(text: str) -> bool:
    """Return True if a text names a file or folder on this machine, not a run."""
    return Path(text).expanduser().exists()


def of_path(path: Path, config: str | None) -> Answer:
    """Diagnose a run directory, a log, or a folder of logs on this machine. Raises ConfigError, DataError."""
    run_dir = RunDir(path.resolve())
    if path.is_dir() and (run_dir.run.exists() or run_dir.config.exists()):
        if config is not None:
            raise ConfigError("--config is for logs; a run directory contains its own configuration.")
        return _of_run_dir(run_dir)
    if path.is_char_device() or path.is_block_device():
        raise ConfigError(f"{path} is a device, not a log.", "Name a log that a training wrote.")
    log_records = log_parser.read_log(path)
    log = sanitize_log(log_records.log)
    plan, plan_notes = _plan(config)
    diagnosis = _with_folds(diagnose(plan, log_records.metrics, log=log), plan, log)
    plan_note = [] if plan else ["Without --config FILE nothing is compared with a plan, such as the learning rate."]
    return Answer(
        subject=path.name,
        diagnosis=diagnosis,
        notes=(*plan_notes, *plan_note, *map(sanitize, log_records.notes)),
        begun=log_records.has_course,
        too_short=_few_epochs(log_records.metrics, log_records.n_epochs, log.is_blocks),
        balanced=log.is_adversarial,
        unread=_unread_lines(log),
    )


def _with_folds(diagnosis: Diagnosis, plan: Config | None, log: TrainingLog) -> Diagnosis:
    """Add what is wrong with the earlier folds that the same log holds; each is a training of its own."""
    if not log.folds:
        return diagnosis
    causes = [_in_fold(cause, log.fold) for cause in diagnosis.causes]
    unevaluated_rules = list(diagnosis.unevaluated)
    for heading, fold in log.folds:
        own = diagnose(plan, log_parser.as_records(fold).metrics, log=fold._replace(end=LogEnd()))
        causes += [_in_fold(cause, heading) for cause in own.causes]
        unevaluated_rules += own.unevaluated
    return Diagnosis(
        causes=tuple(sorted(causes, key=lambda cause: -cause.confidence)), unevaluated=tuple(unevaluated_rules)
    )


def _in_fold(cause: Finding, heading: str) -> Finding:
    return msgspec.structs.replace(cause, sentence=f"In {heading}: {cause.sentence}")


def sanitize_log(log: TrainingLog) -> TrainingLog:
    """Return a log whose quoted lines are safe to print on a terminal."""

    def safe(line: ErrorLine) -> ErrorLine:
        return ErrorLine(sanitize(line.text), line.rank, *map(sanitize, line[2:]))

    end = log.end._replace(
        causes={cause: safe(line) for cause, line in log.end.causes.items()},
        errors=tuple(map(safe, log.end.errors)),
        echoes=tuple(map(safe, log.end.echoes)),
        tail=tuple(map(sanitize_line, log.end.tail)),
        complaint=safe(log.end.complaint) if log.end.complaint is not None else None,
        statement_line=sanitize(log.end.statement_line),
        after_end=sanitize(log.end.after_end),
        failed_after_end=safe(log.end.failed_after_end) if log.end.failed_after_end is not None else None,
        killed=sanitize(log.end.killed),
        remedy=sanitize(log.end.remedy),
    )
    unread = tuple(line._replace(text=sanitize(line.text)) for line in log.unread)
    return log._replace(end=end, unread=unread)


def why_json(answer: Answer) -> dict[str, Any]:
    """Return the object printed by `why --json`."""
    causes = [nan_to_null(msgspec.to_builtins(cause)) for cause in answer.diagnosis.causes]
    return {
        "schema": SCHEMA,
        "run_id": answer.subject,
        "healthy": not causes and not answer.inconclusive,
        "causes": causes,
        "notes": [*answer.notes, *answer.unread, *answer.diagnosis.unevaluated],
    }


def why_lines(answer: Answer, has_unread_files: bool = False) -> list[str]:
    """Format each cause with its confidence, sentence and action; or that nothing is wrong, or unknown.

    Args:
        has_unread_files: Some files of the run could not be read.
    """
    causes = answer.diagnosis.causes
    lines = [line for number, cause in enumerate(causes, 1) for line in _cause_lines(number, cause)]
    if not causes and not answer.begun and answer.balanced:
        lines = [
            "Nothing can be concluded: its losses balance each other (adversarial or reinforcement learning), so they "
            "show neither progress nor failure. None of them is nan, and no error is at the end."
        ]
    elif not causes and not answer.begun:
        lines = ["Nothing can be concluded: no loss of a training was found, and no error at the end."]
    elif not causes and answer.too_short:
        lines = [f"It cannot be judged yet: {answer.too_short} can be seen, and no error."]
    elif not causes and answer.unread:
        lines = ["Nothing can be concluded: lines that print a loss could not be read."]
    elif not causes:
        source = "what could be read shows" if has_unread_files else "the records show"
        lines = [f"Nothing is wrong, as far as {source}."] if answer.diagnosis.healthy else []
    return [*lines, *answer.unread, *answer.diagnosis.unevaluated]


def _few_epochs(epochs: Sequence[EpochMetric], n_planned: int, is_blocks: bool = False) -> str:
    """Describe the epochs that were seen if they are too few to show a course; empty if they are enough, or none."""
    if not epochs or len(epochs) >= FEWEST_EPOCHS:
        return ""
    if is_blocks:
        return f"only {len(epochs)} logged step{'s' if len(epochs) > 1 else ''}"
    of = f" of {n_planned}" if n_planned else ""
    numbers = " and ".join(str(epoch.epoch) for epoch in epochs)
    return f"only epoch{'s' if len(epochs) > 1 else ''} {numbers}{of}"


def _cause_lines(number: int, cause: Finding) -> list[str]:
    reason = cause.evidence.get("reason")
    name = f"{cause.cause} ({reason})" if reason else cause.cause
    return [f"{number}. {name}, {cause.confidence:.0%} sure", f"   {cause.sentence}", f"   → {cause.action}"]


def _unread_lines(log: TrainingLog) -> tuple[str, ...]:
    lines = [f"Line {line.number} could not be read: {line.text}" for line in log.unread]
    more = log.n_unread - len(lines)
    return (*lines, f"{more} more lines like these could not be read.") if more > 0 else tuple(lines)


def _of_run_dir(run_dir: RunDir) -> Answer:
    """Diagnose a run directory from its files. Whether a process of the run lives cannot be known from them.

    Raises ConfigError if it has no configuration or no metrics that can be read; a command of the user's need not.
    """
    run = _record(run_dir.run, Run)
    is_foreign = run is not None and bool(run.foreign)
    try:
        config = None if is_foreign else run_dir.read_config()
    except ConfigError as error:
        raise ConfigError(error.message, BRING_AGAIN.format(run_dir.run_id)) from None
    own, notes = _metrics(run_dir) if run_dir.metrics.exists() or not is_foreign else ([], [])
    metrics = with_earlier_runs(run_dir, own)
    heartbeat, exit_record = _record(run_dir.heartbeat, Heartbeat), _record(run_dir.exit, Exit)
    now = metrics[-1].at if metrics else 0.0
    signals = Signals(now=now, launched_at=now, process=None, heartbeat=heartbeat, exit=exit_record)
    health = health_of(signals, config.watch if config is not None else WatchConfig())
    diagnosis = diagnose(config, metrics, health=health, log=_read_train_log(run_dir.log), run_id=run_dir.run_id)
    return Answer(subject=run_dir.run_id, diagnosis=diagnosis, notes=tuple(notes))


def _read_train_log(path: Path) -> TrainingLog | None:
    """Return all of a run's log; None if it cannot be read."""
    try:
        return sanitize_log(log_parser.read_log(path).log)
    except DataError:
        return None


def _metrics(run_dir: RunDir) -> tuple[list[AnyMetric], list[str]]:
    """Return the metrics, and a note on damaged lines. Raises ConfigError if the file cannot be read."""
    try:
        lines = [sanitize_json(line) for line in run_dir.metrics.read_bytes().splitlines()]
    except OSError as error:
        remedy = f"A run has it from its start on. {BRING_AGAIN.format(run_dir.run_id)}"
        raise ConfigError(f"{run_dir.metrics} cannot be read: {error.strerror}.", remedy) from None
    metrics, n_malformed = decode_metrics(lines)
    first = next((f"the first is line {n}" for n, line in enumerate(lines, 1) if decode_metrics([line])[1]), "")
    return metrics, damaged_record_message(n_malformed, len(metrics), str(run_dir.path), first)


def _foreign_notes(run: RunSnapshot) -> tuple[str, ...]:
    facts = run.run
    if not facts.foreign:
        return ()
    plan = f"There is no plan to compare with, because {facts.foreign}."
    unseen = (
        log_parser.unavailable_from_log(run.epochs)
        if facts.command is not None or (facts.adopted is not None and facts.adopted.log)
        else ["No log of it is known: only its processes are seen."]
    )
    return (plan, *unseen)


def _empty_notes(run: RunSnapshot) -> list[str]:
    if run.steps or run.epochs:
        return []
    return ["It has no records of steps or epochs: only its process, its end and its log could be looked at."]


def _plan(name: str | None) -> tuple[Config | None, list[str]]:
    """Return the plan to compare a log with, and notes.

    Of a configuration that cannot be trained on, only the learning rate and the weights are read.
    """
    if name is None:
        return None, []
    path = configs.find(name)
    try:
        source = configs.read(name)
        return source.config, list(source.notes)
    except ConfigError as error:
        return log_parser.read_plan_file(path), [f"Only the plan of {path.name} is read: {error.message}"]


def _record(path: Path, kind: type[R]) -> R | None:
    try:
        return decode(path.read_bytes(), kind)
    except (OSError, DataError):
        return None
