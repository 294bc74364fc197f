"""State of a node, built from the agent's events. Pure: no clock, no network, no files.

`apply_event` takes one event of the agent's `observe` or `watch`; after a tick, `to_snapshot` is complete. Every text
is sanitised here, once, before anything else sees it.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from giblet_train.schema import config_loader, yaml_io
from giblet_train.schema.config import Config, WatchConfig
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.health import Health, Signals, health_of
from giblet_train.schema.history import latest_epochs
from giblet_train.schema.records import (
    Alert,
    AlertResponse,
    BrainRecord,
    CheckpointRecord,
    DataMetric,
    EpochMetric,
    EvaluationMetric,
    EventMetric,
    Exit,
    Heartbeat,
    NodeFailure,
    Record,
    Run,
    RunMetric,
    StepMetric,
    SupervisorRecord,
    ValuesMetric,
    decode,
    decode_lines,
    decode_metrics,
)
from giblet_train.schema.run_dir import config_name, session_name
from giblet_tui.agent import layout
from giblet_tui.agent.sessions import BACKENDS
from giblet_tui.connection import protocol
from giblet_tui.connection.protocol import Appended, Mark, RunNews, Tick, WatchEvent
from giblet_tui.connection.sanitize import sanitize, sanitize_json, sanitize_line, sanitize_table, sanitize_value
from giblet_tui.monitor.resumed import whole_run
from giblet_tui.monitor.snapshots import Gpu, LinkState, NodeFacts, NodeSnapshot, RunSnapshot
from giblet_tui.monitor.step_history import StepHistory, extended

LOG_LINES = 400
"""Number of lines kept from the end of a log."""

NOT_ALLOWED = "It went away, or we may not read it."

R = TypeVar("R", bound=Record)
FROM_THE_START = Mark()


class RunState(msgspec.Struct, frozen=True):
    """A run as far as its events have arrived."""

    snapshot: RunSnapshot
    marks: Mapping[str, Mark] = {}
    process: bool | None = None
    here: bool | None = None
    same_machine: bool | None = None
    """It was started on this machine, whatever the node is called."""
    pending: str = ""
    """What a scheduled run waits for."""
    job_end: str = ""
    """How a scheduler ended it."""
    started_at: float = 0.0
    """When its supervisor started; 0 before that."""

    @property
    def run_json_error(self) -> str:
        """Return the reason why its run.json cannot be read; empty if it can."""
        return self.snapshot.unread.get(layout.RUN, "")

    @property
    def is_final(self) -> bool:
        """Return True if it has ended and nothing about it will change."""
        return self.snapshot.exit is not None and not self.run_json_error and not self.pending


class NodeState(msgspec.Struct, frozen=True):
    """A node as far as its events have arrived."""

    node: str
    is_long_watch: bool = False
    """Old steps of the runs are moved to a file, so that memory does not grow with time."""
    runs: Mapping[str, RunState] = {}
    facts: NodeFacts = NodeFacts()
    sessions_known: bool = False
    now: float | None = None
    """The node's clock at the last tick."""
    heard_at: float | None = None
    """Our clock at the last tick."""

    @property
    def marks(self) -> dict[str, dict[str, Mark]]:
        """Read positions of each file, for continuing after a lost connection."""
        return {run_id: dict(run.marks) for run_id, run in self.runs.items()}


def apply_event(state: NodeState, event: WatchEvent, heard_at: float) -> NodeState:
    """Return the state after one event. heard_at: its arrival on our clock."""
    if event.run is not None:
        run_id = event.run.run_id
        run = _fold_run(state.runs.get(run_id) or _unread(run_id, state), event.run)
        if run.is_final:  # nothing will change its health: judged once, however many old runs there are
            run = replace(run, snapshot=_with_health(run, state, lost=False, elapsed_s=0.0))
        return replace(state, runs={**state.runs, run_id: run})
    if event.tick is not None:
        return _fold_tick(state, event.tick, heard_at)
    return state


def to_snapshot(state: NodeState, link: LinkState = "live", sentence: str = "", elapsed_s: float = 0.0) -> NodeSnapshot:
    """Return the node elapsed_s after its last tick, runs newest first. sentence: why the link is not live."""
    lost = link != "live"
    runs = [run.snapshot if run.is_final else _with_health(run, state, lost, elapsed_s) for run in state.runs.values()]
    by_id = {run.run.run_id: run for run in runs}
    runs = [whole_run(run, by_id.get) for run in runs]
    return NodeSnapshot(
        node=state.node,
        link=link,
        observed_at=state.heard_at,
        link_sentence=sentence,
        facts=state.facts,
        runs=tuple(sorted(runs, key=lambda run: run.run.launched_at, reverse=True)),
    )


def _fold_tick(state: NodeState, tick: Tick, heard_at: float) -> NodeState:
    facts = msgspec.structs.asdict(state.facts)
    facts |= {key: value for key, value in tick.facts.items() if key in facts}
    facts["clock_skew_s"] = tick.now - heard_at
    if "gpus" in tick.facts:
        facts["gpus"] = tuple(_gpu(gpu) for gpu in tick.facts["gpus"])
    runs = state.runs
    if tick.present is not None:
        runs = {run_id: run for run_id, run in runs.items() if run_id in tick.present}
    return replace(
        state,
        runs=runs,
        facts=msgspec.convert(facts, NodeFacts, from_attributes=True),
        sessions_known=state.sessions_known or "sessions" in tick.facts,
        now=tick.now,
        heard_at=heard_at,
    )


def _gpu(device: protocol.Gpu) -> Gpu:
    processes = tuple((p["pid"], p.get("user", ""), p["memory_gib"]) for p in device.get("processes", ()))
    return msgspec.convert({**device, "processes": processes}, Gpu)


def _unread(run_id: str, state: NodeState) -> RunState:
    """Return a run of which only the id is known."""
    try:
        launched_at = time.mktime(time.strptime(run_id[-20:-5], "%Y%m%d-%H%M%S"))
    except ValueError:
        launched_at = 0.0
    run = Run(
        run_id=run_id,
        name=config_name(run_id),
        node=state.node,
        session=session_name(run_id),
        multiplexer="process",
        argv=(),
        config_hash="",
        giblet_version="",
        launched_by="",
        launched_at=launched_at,
    )
    steps = StepHistory() if state.is_long_watch else ()
    return RunState(RunSnapshot(run=run, health=Health(state="unknown", sentence="not read yet"), steps=steps))


def _fold_run(state: RunState, news: RunNews) -> RunState:
    snapshot, started_at = state.snapshot, state.started_at
    if news.owner:
        snapshot = replace(snapshot, owner=news.owner)
    for name, text in news.files.items():
        if name == layout.RUN:
            snapshot = _with_run(snapshot, text)
        elif name == layout.CONFIG:
            snapshot = _with_config(snapshot, text)
        elif name == layout.HEARTBEAT:
            snapshot = replace(snapshot, heartbeat=_record(text, Heartbeat))
        elif name == layout.SUPERVISOR:
            supervisor = _record(text, SupervisorRecord)
            snapshot = replace(snapshot, waiting_for=supervisor.waiting_for if supervisor else "")
            started_at = supervisor.started_at if supervisor else started_at
        elif name == layout.EXIT:
            snapshot = replace(snapshot, exit=_record(text, Exit))
        elif name == layout.BRAIN:
            snapshot = replace(snapshot, brain=_record(text, BrainRecord))
        elif name == layout.CAUSE:
            snapshot = replace(snapshot, cause=_record(text, NodeFailure))
    if news.checkpoints is not None:
        records = (_record(text, CheckpointRecord) for text in news.checkpoints)
        snapshot = replace(snapshot, checkpoints=tuple(record for record in records if record is not None))
    marks = dict(state.marks)
    for name, tail in news.appended.items():
        snapshot = _APPENDING[name](snapshot, tail)
        marks[name] = tail.mark
    process = state.process if isinstance(news.process, msgspec.UnsetType) else news.process
    here = state.here if isinstance(news.here, msgspec.UnsetType) else news.here
    same = state.same_machine if isinstance(news.same_machine, msgspec.UnsetType) else news.same_machine
    pending = state.pending if isinstance(news.pending, msgspec.UnsetType) else news.pending
    job_end = state.job_end if isinstance(news.job_end, msgspec.UnsetType) else news.job_end
    return RunState(snapshot, marks, process, here, same, pending, job_end, started_at)


def _with_run(snapshot: RunSnapshot, text: str | None) -> RunSnapshot:
    try:
        if text is None:
            raise DataError(NOT_ALLOWED)
        run = decode(_clean(text), Run)
        if run.run_id != snapshot.run.run_id:
            raise DataError(f"It is {run.run_id}'s: the folder was copied or renamed.")
        return _readable(replace(snapshot, run=run), layout.RUN)
    except DataError as error:
        return _unreadable(snapshot, layout.RUN, error)


def _with_config(snapshot: RunSnapshot, text: str | None) -> RunSnapshot:
    try:
        if text is None:
            raise DataError(NOT_ALLOWED)
        return _readable(replace(snapshot, config=_config(text)), layout.CONFIG)
    except ConfigError as error:
        return _unreadable(replace(snapshot, config=None), layout.CONFIG, error)


def _readable(snapshot: RunSnapshot, name: str) -> RunSnapshot:
    return replace(snapshot, unread={other: why for other, why in snapshot.unread.items() if other != name})


def _unreadable(snapshot: RunSnapshot, name: str, error: ConfigError) -> RunSnapshot:
    return replace(snapshot, unread={**snapshot.unread, name: sanitize(f"{error.message} {error.remedy}".strip())})


def _with_metrics(snapshot: RunSnapshot, tail: Appended) -> RunSnapshot:
    if tail.reset:
        steps = StepHistory() if isinstance(snapshot.steps, StepHistory) else ()
        snapshot = replace(
            snapshot,
            plan_record=None,
            data=None,
            steps=steps,
            epochs=(),
            values=(),
            events=(),
            evaluation=None,
            malformed_lines=0,
        )
    metrics, n_malformed = decode_metrics(map(sanitize_json, _lines(tail)))
    of_kind: dict[type, list[Any]] = {}
    for metric in metrics:
        of_kind.setdefault(type(metric), []).append(metric)
    return replace(
        snapshot,
        plan_record=_newest_plan(snapshot.plan_record, of_kind.get(RunMetric, [])),
        data=of_kind.get(DataMetric, [snapshot.data])[-1],
        steps=extended(snapshot.steps, of_kind.get(StepMetric, ())),
        epochs=tuple(latest_epochs((*snapshot.epochs, *of_kind.get(EpochMetric, ())))),
        values=tuple(latest_epochs((*snapshot.values, *of_kind.get(ValuesMetric, ())))),
        events=(*snapshot.events, *of_kind.get(EventMetric, ())),
        evaluation=of_kind.get(EvaluationMetric, [snapshot.evaluation])[-1],
        malformed_lines=snapshot.malformed_lines + n_malformed + tail.skipped,
        metrics_offset=tail.mark.offset,
    )


def _newest_plan(newest: RunMetric | None, records: Sequence[RunMetric]) -> RunMetric | None:
    """Return the record of the last start, with the first losses of the run's beginning: a resume measures none."""
    for record in records:
        newest = replace(record, first_loss=record.first_loss or (newest.first_loss if newest else {}))
    return newest


def _with_alerts(snapshot: RunSnapshot, tail: Appended) -> RunSnapshot:
    before = () if tail.reset else snapshot.alerts
    return replace(snapshot, alerts=(*before, *decode_lines(map(sanitize_json, _lines(tail)), Alert)))


def _with_answers(snapshot: RunSnapshot, tail: Appended) -> RunSnapshot:
    before = () if tail.reset else snapshot.answers
    return replace(snapshot, answers=(*before, *decode_lines(map(sanitize_json, _lines(tail)), AlertResponse)))


def _with_log(snapshot: RunSnapshot, tail: Appended) -> RunSnapshot:
    before = () if tail.reset else snapshot.log_tail
    lines = (*before, *log_lines(tail))[-LOG_LINES:]
    return replace(snapshot, log_tail=lines, log_offset=tail.mark.offset)


_APPENDING = {
    layout.METRICS: _with_metrics,
    layout.ALERTS: _with_alerts,
    layout.ANSWERS: _with_answers,
    layout.LOG: _with_log,
}


def log_lines(tail: Appended) -> list[str]:
    """Return a piece of a log as lines safe for a terminal; missing parts are marked."""
    gap_notice = ["(the log was cut short or replaced here: lines may be missing)"] * tail.gap
    text = _bytes(tail.text).decode("utf-8", "replace")
    lines = [sanitize_line(line) for line in text.removesuffix("\n").split("\n")] if text else []
    return [*gap_notice, *lines, *["(a line of more than 1 MiB is left out here)"] * tail.skipped]


def _with_health(state: RunState, node: NodeState, lost: bool, elapsed_s: float) -> RunSnapshot:
    """Return the run's snapshot with its health, under our name for its node."""
    snapshot = state.snapshot
    if state.run_json_error:
        return replace(
            snapshot,
            health=Health(state="unknown", sentence=f"its run.json cannot be read: {state.run_json_error.rstrip('.')}"),
        )
    is_ours = state.here or state.same_machine
    run = replace(snapshot.run, node=node.node) if is_ours else snapshot.run
    elsewhere = state.here is False and not state.same_machine
    has_session = BACKENDS[run.multiplexer].is_listed and node.sessions_known
    now = (node.now or 0.0) + elapsed_s
    signals = Signals(
        now=now,
        launched_at=max(run.launched_at, state.started_at),
        process=None if elsewhere else state.process,
        supervised=state.here is not None,
        session=run.session in node.facts.sessions if has_session else None,
        # A job that Slurm has put back into its queue has both from its last start.
        heartbeat=None if state.pending else snapshot.heartbeat,
        exit=None if state.pending else snapshot.exit,
        waiting_for=state.pending or snapshot.waiting_for,
        job_end=state.job_end,
        rebooted=state.here is False and not elsewhere,
        unreachable_since=node.now if lost else None,
    )
    watch = snapshot.config.watch if snapshot.config else WatchConfig()
    return replace(snapshot, run=run, health=_of_several(snapshot, health_of(signals, watch)))


def _of_several(snapshot: RunSnapshot, health: Health) -> Health:
    """Return the health of a multi-node run on one node: only the first has a heartbeat; all know what failed first."""
    if snapshot.cause is not None and health.state in ("failed", "died"):
        return replace(health, state="failed", sentence=snapshot.cause.whole, reason=snapshot.cause.sentence)
    if snapshot.run.node_rank and snapshot.heartbeat is None and health.state in ("starting", "stalled"):
        return Health(state="running", sentence="its processes live")
    return health


def _lines(tail: Appended) -> list[bytes]:
    return [line for line in _bytes(tail.text).split(b"\n") if line]


def _record(text: str | None, kind: type[R]) -> R | None:
    """Return the record, or None if it cannot be read; the next look may find it complete."""
    if text is None:
        return None
    try:
        return decode(_clean(text), kind)
    except DataError:
        return None


@functools.lru_cache(maxsize=256)
def _config(text: str) -> Config:
    """Decode a config.yaml; cached by text. Raises ConfigError.

    The table in data.runs keeps its lines and tabs: a promotion launches this configuration again.
    """
    mapping = yaml_io.load_text(text, layout.CONFIG)
    value = sanitize_value(mapping)
    data = mapping.get("data") if isinstance(mapping, dict) else None
    if isinstance(data, dict) and isinstance(table := data.get("runs"), str):
        value["data"]["runs"] = sanitize_table(table)
    return config_loader.from_mapping(value, layout.CONFIG).config


def _clean(text: str) -> bytes:
    return sanitize_json(_bytes(text))


def _bytes(text: str) -> bytes:
    """Return the file's own bytes; invalid UTF-8 in it was sent as surrogate escapes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # other surrogates come from no file
        return _NO_ESCAPE.sub("\ufffd", text).encode("utf-8", "surrogateescape")


_NO_ESCAPE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
