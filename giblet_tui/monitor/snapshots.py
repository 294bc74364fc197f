"""What is known of all nodes and runs at one moment: frozen snapshots, and pure questions about them.

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
)
from giblet_train.schema.schedule import LrSchedule, lr_schedule

PACE_STEPS = 600
"""So many of the last steps say how fast a run is."""

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
    not_free: str = ""
    """Why no run may take it now, as the node's agent judged; empty: it is free."""


class NodeFacts(Snapshot, frozen=True, kw_only=True):
    """The node itself, as its agent saw it last."""

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
    """How a run over several nodes stands on one of them."""

    node: str
    state: State
    sentence: str


class RunSnapshot(Snapshot, frozen=True, kw_only=True):
    """All that is known of one run: its small files, all its metrics so far, the end of its log."""

    run: Run
    health: Health
    config: Config | None = None
    heartbeat: Heartbeat | None = None
    exit: Exit | None = None
    waiting_for: str = ""
    cause: NodeFailure | None = None
    parts: tuple[Part, ...] = ()
    """A run over several nodes: how it stands on each, in their order."""
    plan_record: RunMetric | None = None
    data: DataMetric | None = None
    steps: tuple[StepMetric, ...] = ()
    epochs: tuple[EpochMetric, ...] = ()
    events: tuple[EventMetric, ...] = ()
    evaluation: EvaluationMetric | None = None
    alerts: tuple[Alert, ...] = ()
    answers: tuple[AlertResponse, ...] = ()
    checkpoints: tuple[CheckpointRecord, ...] = ()
    log_tail: tuple[str, ...] = ()
    malformed_lines: int = 0
    unread: Mapping[str, str] = {}
    """Of run.json and config.yaml: the file that is not readable -> what is wrong with it."""
    metrics_offset: int = 0
    log_offset: int = 0

    @property
    def plan(self) -> LrSchedule | None:
        """The planned schedule, once the engine has said how many steps an epoch has."""
        if self.config is None or self.plan_record is None:
            return None
        return lr_schedule(self.config, self.plan_record.steps_per_epoch)

    @property
    def eta_s(self) -> float | None:
        """Seconds still to go at the pace of recent steps; None while unknown, not moving, or ended."""
        if self.heartbeat is not None and self.heartbeat.state in ("finished", "stopped", "failed"):
            return None  # the loop is over, though its processes may still be ending
        left = eta(self.steps[-PACE_STEPS:], self.plan, self.health) if self.plan else None
        return left.left_s if left and not left.frozen else None

    @property
    def metrics(self) -> tuple[AnyMetric, ...]:
        """Every metric, by sequence number: what the rules of `contract` take."""
        first = [m for m in (self.plan_record, self.data) if m is not None]
        last = [self.evaluation] if self.evaluation else []
        return tuple(sorted([*first, *self.steps, *self.epochs, *self.events, *last], key=lambda m: m.seq))


class NodeSnapshot(Snapshot, frozen=True, kw_only=True):
    """One node: whether it is heard, when it was last, and its runs, newest first.

    observed_at is on the laptop's clock (seconds since 1970): the age of everything here. link_sentence says why the
    link is not live, with the remedy.
    """

    node: str
    link: LinkState
    observed_at: float | None = None
    link_sentence: str = ""
    facts: NodeFacts = NodeFacts()
    runs: tuple[RunSnapshot, ...] = ()


class Fleet(Snapshot, frozen=True, kw_only=True):
    """All nodes."""

    nodes: tuple[NodeSnapshot, ...] = ()

    def with_node(self, node: NodeSnapshot) -> Fleet:
        """This fleet with one node's snapshot replaced or added, order kept."""
        known = [n.node for n in self.nodes]
        if node.node not in known:
            return Fleet(nodes=(*self.nodes, node))
        return Fleet(nodes=tuple(node if n.node == node.node else n for n in self.nodes))

    def runs(self) -> tuple[RunSnapshot, ...]:
        """Every run once, newest first, however many nodes tell of it."""
        copies: dict[str, list[tuple[str, RunSnapshot]]] = {}
        for node in self.nodes:
            for run in node.runs:
                copies.setdefault(run.run.run_id, []).append((node.node, run))
        runs = (one_run(told) for told in copies.values())
        return tuple(sorted(runs, key=lambda r: r.run.launched_at, reverse=True))

    def run(self, run_id: str) -> RunSnapshot | None:
        """The run of that id."""
        return next((r for r in self.runs() if r.run.run_id == run_id), None)


def one_run(copies: Sequence[tuple[str, RunSnapshot]]) -> RunSnapshot:
    """One snapshot out of what nodes told of the same run, each with the node that told it.

    A run of one node is as that node sees it, else as any that mounts the same home does. Of several, the first holds
    the records, and says how the run stands; the others' states become its `parts`.
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


def _part(name: str, seen: RunSnapshot | None, first: RunSnapshot) -> Part:
    if seen is None:
        return Part(node=name, state="unknown", sentence="not looked at")
    if seen is not first and seen.health.state == "finished" and not first.health.live:
        return Part(node=seen.run.node, state=first.health.state, sentence="left with the first node")
    return Part(node=seen.run.node, state=seen.health.state, sentence=seen.health.sentence)


def nodes_of(run: RunSnapshot) -> tuple[str, ...]:
    """The nodes that have a part of the run, the one with the records first."""
    return run.run.nodes if len(run.run.nodes) > 1 else (run.run.node,)
