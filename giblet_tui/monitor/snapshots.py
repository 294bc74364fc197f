"""Frozen snapshots of all nodes and runs at one moment, and pure functions on them.

`giblet_tui.monitor.watch` makes snapshots; the command line prints them; the dashboard draws them. No I/O here.
Texts in a snapshot are already sanitised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from giblet_train.diagnosis.eta import eta
from giblet_train.schema.config import Config
from giblet_train.schema.health import Health, State
from giblet_train.schema.records import (
    Alert,
    AlertResponse,
    AnyMetric,
    BrainRecord,
    CheckpointRecord,
    DataMetric,
    EpochMetric,
    EvaluationMetric,
    EventMetric,
    Exit,
    Heartbeat,
    NodeFailure,
    Run,
    RunMetric,
    StepMetric,
    ValuesMetric,
)
from giblet_train.schema.schedule import LrSchedule, lr_schedule

PACE_STEPS = 600
"""Number of recent steps from which the time left is estimated."""

LinkState = Literal["connecting", "live", "lost", "refused"]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Immutable facts, replaced whole."""


class Gpu(Snapshot, frozen=True, kw_only=True):
    """One GPU as nvidia-smi reports it. Memory in GiB, utilisation in percent, temperature in °C."""

    index: int
    uuid: str
    name: str
    memory_used_gib: float
    memory_total_gib: float
    utilisation: float | None = None
    temperature: float | None = None
    processes: tuple[tuple[int, str, float], ...] = ()
    """(pid, user, GiB) of each compute process."""
    slice: int | None = None
    """Number of a MIG slice on its GPU; None: the GPU itself."""
    n_slices: int = 0
    """MIG slices that it is divided into, and that runs get in its place."""
    not_free: str = ""
    """Why no run may take it now, as the node's agent judged; empty: it is free."""

    @property
    def label(self) -> str:
        """Return the index; of a MIG slice `0:1`, slice 1 of GPU 0."""
        return str(self.index) if self.slice is None else f"{self.index}:{self.slice}"


class NodeFacts(Snapshot, frozen=True, kw_only=True):
    """Hardware and load of a node at its agent's last look."""

    hostname: str = ""
    clock_skew_s: float = 0.0
    n_cpus: int = 0
    load_1m: float = 0.0
    ram_total_gib: float = 0.0
    ram_available_gib: float = 0.0
    disk_free_gib: float = 0.0
    gpus: tuple[Gpu, ...] = ()
    gpu_note: str = ""
    sessions: tuple[str, ...] = ()


class Part(Snapshot, frozen=True, kw_only=True):
    """State of a multi-node run on one of its nodes."""

    node: str
    state: State
    sentence: str


class RunSnapshot(Snapshot, frozen=True, kw_only=True):
    """One run: its small files, all its metrics so far, the end of its log."""

    run: Run
    health: Health
    owner: str = ""
    """Another user of the node whose run it is; empty: it is ours."""
    config: Config | None = None
    heartbeat: Heartbeat | None = None
    exit: Exit | None = None
    waiting_for: str = ""
    cause: NodeFailure | None = None
    brain: BrainRecord | None = None
    parts: tuple[Part, ...] = ()
    """State of a multi-node run on each node, in their order."""
    plan_record: RunMetric | None = None
    data: DataMetric | None = None
    steps: Sequence[StepMetric] = ()
    epochs: tuple[EpochMetric, ...] = ()
    values: tuple[ValuesMetric, ...] = ()
    """Named numbers of a command that are no losses."""
    events: tuple[EventMetric, ...] = ()
    evaluation: EvaluationMetric | None = None
    alerts: tuple[Alert, ...] = ()
    answers: tuple[AlertResponse, ...] = ()
    checkpoints: tuple[CheckpointRecord, ...] = ()
    log_tail: tuple[str, ...] = ()
    malformed_lines: int = 0
    unread: Mapping[str, str] = {}
    """Name of an unreadable file (run.json, config.yaml) -> reason."""
    metrics_offset: int = 0
    log_offset: int = 0

    @property
    def plan(self) -> LrSchedule | None:
        """Return the planned learning-rate schedule; None until the engine has reported the steps per epoch."""
        if self.config is None or self.plan_record is None:
            return None
        return lr_schedule(self.config, self.plan_record.steps_per_epoch)

    @property
    def steps_since_launch(self) -> Sequence[StepMetric]:
        """Return the steps made in this run directory, without those copied from a run that it resumed."""
        return self._since_launch(self.steps)

    def _since_launch(self, steps: Sequence[StepMetric]) -> Sequence[StepMetric]:
        resumed = self.run.resumed_from is not None
        return tuple(s for s in steps if s.at >= self.run.launched_at) if resumed else steps

    @property
    def eta_s(self) -> float | None:
        """Return the seconds left at the pace of recent steps; None while unknown, not moving, or ended."""
        if self.heartbeat is not None and self.heartbeat.state in ("finished", "stopped", "ended", "failed"):
            return None  # the loop is over, though its processes may still be ending
        recent = self._since_launch(self.steps[-PACE_STEPS:])
        estimate = eta(recent, self.plan, self.health) if self.plan else None
        return estimate.left_s if estimate and not estimate.frozen else None

    @property
    def metrics(self) -> tuple[AnyMetric, ...]:
        """Return the metrics of every kind, by sequence number: the input of the diagnosis rules."""
        first = [m for m in (self.plan_record, self.data) if m is not None]
        last = [self.evaluation] if self.evaluation else []
        records = [*first, *self.steps, *self.epochs, *self.values, *self.events, *last]
        return tuple(sorted(records, key=lambda m: m.seq))


class NodeSnapshot(Snapshot, frozen=True, kw_only=True):
    """One node, the state of the connection to it, and its runs, newest first."""

    node: str
    link: LinkState
    observed_at: float | None = None
    """Time of the last look on this machine's clock, seconds since 1970: the age of everything here."""
    link_sentence: str = ""
    """Why the link is not live, with the remedy."""
    facts: NodeFacts = NodeFacts()
    runs: tuple[RunSnapshot, ...] = ()


class Fleet(Snapshot, frozen=True, kw_only=True):
    """All nodes."""

    nodes: tuple[NodeSnapshot, ...] = ()

    def with_node(self, node: NodeSnapshot) -> Fleet:
        """Return this fleet with one node's snapshot replaced or added, in the same order."""
        if node.node not in [n.node for n in self.nodes]:
            return Fleet(nodes=(*self.nodes, node))
        return Fleet(nodes=tuple(node if n.node == node.node else n for n in self.nodes))

    def runs(self) -> tuple[RunSnapshot, ...]:
        """Return every run once, newest first, even if several nodes report it."""
        copies: dict[str, list[tuple[str, RunSnapshot]]] = {}
        for node in self.nodes:
            for run in node.runs:
                copies.setdefault(run.run.run_id, []).append((node.node, run))
        runs = (one_run(reports) for reports in copies.values())
        return tuple(sorted(runs, key=lambda r: r.run.launched_at, reverse=True))

    def run(self, run_id: str) -> RunSnapshot | None:
        """Return the run of that id, or None."""
        return next((r for r in self.runs() if r.run.run_id == run_id), None)


def own_runs(runs: Sequence[RunSnapshot]) -> tuple[RunSnapshot, ...]:
    """Return the runs that are not another user's, in the same order."""
    return tuple(run for run in runs if not run.owner)


def one_run(copies: Sequence[tuple[str, RunSnapshot]]) -> RunSnapshot:
    """Merge what several nodes report about the same run; each copy comes with the reporting node.

    A run on one node is taken from that node, else from any that mounts the same home. In a multi-node run the first
    node has the records and the run's state; the states of all become its `parts`.
    """
    by_rank: dict[int, RunSnapshot] = {}
    for node, run in copies:
        rank = run.run.node_rank
        if rank not in by_rank or run.run.node == node:
            by_rank[rank] = run
    first = by_rank[min(by_rank)]
    if len(first.run.nodes) < 2:
        return first
    parts = [_part(name, by_rank.get(rank), first) for rank, name in enumerate(first.run.nodes)]
    return replace(first, parts=tuple(parts))


def _part(name: str, copy: RunSnapshot | None, first: RunSnapshot) -> Part:
    if copy is None:
        return Part(node=name, state="unknown", sentence="not looked at")
    if copy is not first and copy.health.state == "finished" and not first.health.live:
        return Part(node=copy.run.node, state=first.health.state, sentence="left with the first node")
    return Part(node=copy.run.node, state=copy.health.state, sentence=copy.health.sentence)


def nodes_of(run: RunSnapshot) -> tuple[str, ...]:
    """Return the nodes of the run, the one with the records first."""
    return run.run.nodes if len(run.run.nodes) > 1 else (run.run.node,)
