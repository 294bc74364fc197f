"""What is wrong with a run, a folder that was pulled, or a log: read, diagnosed, and put into words and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from giblet_train.diagnosis import log_parser
from giblet_train.diagnosis.diagnose import Diagnosis, diagnose
from giblet_train.schema.config import Config
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.health import Signals, health_of
from giblet_train.schema.records import AnyMetric, Exit, Heartbeat, R, decode, decode_metrics
from giblet_train.schema.run_dir import RunDir
from giblet_tui.connection.sanitize import sanitize_json, sanitize_line
from giblet_tui.inventory import configs
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting.json_output import SCHEMA, nan_to_null
from giblet_tui.reporting.unreadable_files import damaged_record_message

TAIL_BYTES = 64 * 1024
BRING_AGAIN = "Bring it again: giblet pull {} --logs"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A diagnosis, of what, and what was to be said on the way: what the records cannot show, how a plan was read.

    begun: anything of a training was seen.
    """

    subject: str
    diagnosis: Diagnosis
    notes: tuple[str, ...] = ()
    begun: bool = True


def of_run(run: RunSnapshot, unread: Sequence[str] = ()) -> Finding:
    """The diagnosis of a run as its node tells of it; of an adopted one also what its log cannot show.

    unread: what is to be said of files that could not be read.
    """
    found = diagnose(run.config, run.metrics, health=run.health, log_tail=run.log_tail)
    return Finding(subject=run.run.run_id, diagnosis=found, notes=(*unread, *_adopted_notes(run), *_empty_notes(run)))


def is_path(text: str) -> bool:
    """Does a text name something that lies here, rather than a run somewhere?"""
    return Path(text).expanduser().exists()


def of_path(path: Path, config: str | None) -> Finding:
    """The diagnosis of a run directory that lies here, or of a log. Raises ConfigError, DataError."""
    if path.is_dir():
        if config is not None:
            raise ConfigError("--config goes with a log; a run directory holds its own configuration.")
        return _of_folder(RunDir(path.resolve()))
    log = log_parser.read_log(path)
    plan, notes = _plan(config)
    found = diagnose(plan, log.metrics, log_tail=[sanitize_line(t) for t in log.tail])
    unplanned = [] if plan else ["Without --config FILE nothing can be held against a plan, the learning rate least."]
    notes = [*notes, *unplanned, *log.notes]
    return Finding(subject=path.name, diagnosis=found, notes=tuple(notes), begun=bool(log.metrics))


def why_json(finding: Finding) -> dict[str, Any]:
    """`why --json`."""
    causes = [nan_to_null(msgspec.to_builtins(cause)) for cause in finding.diagnosis.causes]
    return {
        "schema": SCHEMA,
        "run_id": finding.subject,
        "healthy": finding.diagnosis.healthy and finding.begun,
        "causes": causes,
        "notes": [*finding.notes, *finding.diagnosis.unevaluated],
    }


def why_lines(diagnosis: Diagnosis, unread: bool = False, begun: bool = True) -> list[str]:
    """Each cause with its sentence, how sure it is, and what to do; or that nothing is wrong.

    unread: not all of its files could be read. begun: anything of a training was seen, so that it can be well.
    """
    if diagnosis.healthy and not begun:
        return ["Nothing can be told: no training is seen in it, nor an error at its end."]
    if diagnosis.healthy:
        read = "what could be read shows" if unread else "the records show"
        return [f"Nothing is wrong, as far as {read}."]
    lines = []
    for number, cause in enumerate(diagnosis.causes, 1):
        reason = cause.evidence.get("reason")
        name = f"{cause.cause} ({reason})" if reason else cause.cause
        lines += [f"{number}. {name}, {cause.confidence:.0%} sure", f"   {cause.sentence}", f"   → {cause.action}"]
    return [*lines, *diagnosis.unevaluated]


def _of_folder(run_dir: RunDir) -> Finding:
    """From the files alone: whether a process of it still lives cannot be known here.

    Raises ConfigError when what lies there is no run, or has no configuration or metrics that can be read.
    """
    if not run_dir.run.exists() and not run_dir.config.exists():
        raise ConfigError(
            f"{run_dir.path} is no run directory: it has neither run.json nor config.yaml.",
            "`giblet pull RUN` brings one here; of a log name the file itself.",
        )
    try:
        config = run_dir.read_config()
    except ConfigError as error:
        raise ConfigError(error.message, BRING_AGAIN.format(run_dir.run_id)) from None
    metrics, notes = _metrics(run_dir)
    heartbeat, ended = _record(run_dir.heartbeat, Heartbeat), _record(run_dir.exit, Exit)
    now = metrics[-1].at if metrics else 0.0
    signals = Signals(now=now, launched_at=now, process=None, heartbeat=heartbeat, exit=ended)
    health = health_of(signals, config.watch)
    found = diagnose(config, metrics, health=health, log_tail=_tail(run_dir.log))
    return Finding(subject=run_dir.run_id, diagnosis=found, notes=tuple(notes))


def _metrics(run_dir: RunDir) -> tuple[list[AnyMetric], list[str]]:
    """The metrics, and what is to be said of lines that are none. Raises ConfigError when the file cannot be read."""
    try:
        lines = [sanitize_json(line) for line in run_dir.metrics.read_bytes().splitlines()]
    except OSError as error:
        remedy = f"A run has it from its start on. {BRING_AGAIN.format(run_dir.run_id)}"
        raise ConfigError(f"{run_dir.metrics} cannot be read: {error.strerror}.", remedy) from None
    metrics, n_malformed = decode_metrics(lines)
    first = next((f"the first is line {n}" for n, line in enumerate(lines, 1) if decode_metrics([line])[1]), "")
    return metrics, damaged_record_message(n_malformed, len(metrics), str(run_dir.path), first)


def _adopted_notes(run: RunSnapshot) -> tuple[str, ...]:
    adopted = run.run.adopted
    if adopted is None:
        return ()
    plan = "It was adopted, without a configuration: nothing can be held against a plan, the learning rate least."
    unseen = (
        log_parser.unavailable_from_log(run.epochs)
        if adopted.log
        else ["No log of it is known: only its processes are seen."]
    )
    return (plan, *unseen)


def _empty_notes(run: RunSnapshot) -> list[str]:
    if run.steps or run.epochs:
        return []
    return ["It has no records of steps or epochs: only its process, its end and its log could be looked at."]


def _plan(name: str | None) -> tuple[Config | None, list[str]]:
    """The plan to hold a log against; of a configuration that cannot be trained on, what plans the rate and weights."""
    if name is None:
        return None, []
    path = configs.find(name)
    try:
        loaded = configs.read(name)
        return loaded.config, list(loaded.notes)
    except ConfigError as error:
        return log_parser.read_plan_file(path), [f"Only the plan of {path.name} is read: {error.message}"]


def _tail(log: Path) -> Sequence[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            return [sanitize_line(line) for line in file.read().decode("utf-8", "replace").splitlines()]
    except OSError:
        return ()


def _record(path: Path, kind: type[R]) -> R | None:
    try:
        return decode(path.read_bytes(), kind)
    except (OSError, DataError):
        return None
