"""Stop runs and find stale ones: the requests to a node and the meaning of its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from giblet_train.schema import config_loader, yaml_io
from giblet_train.schema.config import WatchConfig
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.health import Signals, health_of
from giblet_train.schema.records import Exit, Heartbeat, R, Run, SupervisorRecord, decode
from giblet_tui.agent import layout
from giblet_tui.connection.base import Connection
from giblet_tui.connection.protocol import GpuMemory, GpuProcess, HeldRun, Resources, StopOutcome, progress_to
from giblet_tui.connection.sanitize import sanitize
from giblet_tui.control import gpu_memory
from giblet_tui.errors import TargetNotReached, Unreachable
from giblet_tui.inventory.nodes import Node

MARGIN_S = 120.0
"""Time for signals, kills and the proof, in addition to twice the grace."""
LONGEST_GRACE_S = 3600.0
STUCK = "Look at it on the node: a process stuck in the kernel (D) ends with its disk or GPU call, or a reboot."
STARTING_S = 60.0
"""How long after its launch a run may be without a supervisor."""


def describe_process(process: GpuProcess) -> str:
    """Return pid with command, kernel wait and GPU memory, for people."""
    facts = [
        process.cmdline.strip()[:80],
        f"waits in {process.wchan}" if process.wchan not in ("", "0") else "",
        f"holds {gpu_memory.format_held(process.holds)}" if process.holds else "",
    ]
    details = "" if process.gone else f" ({', '.join(fact for fact in facts if fact) or 'no further facts'})"
    return f"pid {process.pid}{details}"


class StopResult(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of stopping a run on one node."""

    run_id: str
    node: str
    seconds: float
    already: bool = False
    """It had ended before."""
    steps: tuple[str, ...] = ()
    """What was done, one sentence each."""
    survivors: tuple[GpuProcess, ...] = ()
    unproved: str = ""
    """What the node could not verify, as a sentence; empty if the end is proved."""

    @property
    def sentence(self) -> str:
        """Return the sentence that reports the outcome."""
        if self.survivors:
            alive = ", ".join(describe_process(process) for process in self.survivors if not process.gone)
            sentences = [f"{self.run_id} cannot be ended: {alive} survives."] if alive else []
            orphan_list = "; ".join(gpu_memory.format_orphaned(p.pid, p.holds) for p in self.survivors if p.gone)
            sentences += [f"{self.run_id} has ended, but on {self.node} {orphan_list}."] if orphan_list else []
            return " ".join(sentences)
        how = "had ended before" if self.already else f"ended in {self.seconds:.1f} s"
        if self.unproved:
            return f"{self.run_id} {how}. {self.unproved}"
        return f"{self.run_id} {how}; no process, no session and no GPU memory of it is left on {self.node}."


class StaleRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that holds GPUs, processes or sessions, or has an open record, but makes no progress."""

    run_id: str
    node: str
    why: str
    """The evidence, as a sentence."""
    by: str = ""
    """Who launched it."""
    processes: tuple[int, ...] = ()
    sessions: tuple[str, ...] = ()


def stop(
    node: Node,
    connection: Connection,
    run_id: str,
    report: Callable[[str], None],
    *,
    grace_s: float | None = None,
    force: bool = False,
) -> StopResult:
    """Stop a run and check that nothing of it is left.

    Args:
        report: receives each stage.
        grace_s: time for a last checkpoint; None: the run's own grace.

    Raises the node's refusal if the run does not exist or belongs to someone else, Unreachable if the connection breaks
    (the node finishes the stop; stopping again reports the outcome). Survivors do not raise: see `raise_if_survivors`.
    """
    arguments = {"workdir": node.workdir, "run_id": run_id, "grace_s": grace_s, "force": force}
    limit_s = 2 * (LONGEST_GRACE_S if grace_s is None else grace_s) + MARGIN_S
    try:
        outcome = connection.call("stop", arguments, StopOutcome, timeout_s=limit_s, on_event=progress_to(report))
    except Unreachable as error:
        remedy = f"{node.name} finishes stopping it. Then: giblet stop {run_id}"
        raise type(error)(error.message, f"{error.remedy} {remedy}".strip()) from None
    return StopResult(
        run_id=run_id,
        node=node.name,
        seconds=outcome.seconds,
        already=outcome.already,
        steps=tuple(step.sentence for step in outcome.steps),
        survivors=outcome.survivors,
        unproved=outcome.unproved,
    )


def raise_if_survivors(results: Sequence[StopResult]) -> None:
    """Raise TargetNotReached, which names each survivor by its pid, if anything survived."""
    failures = [result for result in results if result.survivors]
    if failures:
        remedies = []
        if any(not survivor.gone for result in failures for survivor in result.survivors):
            remedies.append(STUCK)
        holds = [share for result in failures for survivor in result.survivors for share in survivor.holds]
        if holds:
            remedies.append(gpu_memory.advice(holds))
        raise TargetNotReached(" ".join(result.sentence for result in failures), " ".join(remedies))


def probe_resources(node: Node, connection: Connection) -> Resources:
    """Ask a node which runs still hold processes, sessions or GPU memory; changes nothing."""
    return connection.call("remains", {"workdir": node.workdir}, Resources, timeout_s=60.0)


def find_stale(node: Node, resources: Resources) -> list[StaleRun]:
    """Return the stale runs of a node. resources: the answer of `probe_resources`."""
    stale_runs = []
    for run in resources.runs:
        why = stale_reason(run, resources.now)
        if why:
            stale_runs.append(
                StaleRun(
                    run_id=run.run_id,
                    node=node.name,
                    why=why,
                    by=_launched_by(run),
                    processes=run.processes,
                    sessions=run.sessions,
                )
            )
    return stale_runs


def _launched_by(run: HeldRun) -> str:
    record = _record(run, layout.RUN, Run)
    return sanitize(record.launched_by) if record else ""


def unowned_gpu_processes(resources: Resources) -> list[str]:
    """Describe this user's GPU memory that belongs to no run, and that of ended processes; one line each.

    giblet leaves it alone, because nothing proves that it is giblet's.
    """
    lines = []
    for holder in resources.unclaimed:
        if holder.gone:
            sentence = gpu_memory.format_orphaned(
                holder.pid, holder.holds, "which is no process there and was of no run of giblet's"
            )
            lines.append(f"{sentence}. {gpu_memory.advice(holder.holds)}")
        else:
            process = describe_process(holder)
            lines.append(f"{process} is yours, but of no run here: left alone. To end it there: kill {holder.pid}")
    return lines


def stale_reason(run: HeldRun, now: float) -> str:
    """Return why a run of the agent's `remains` is stale, as a sentence; empty if it is not, or is on another machine.

    now: the node's clock, seconds since 1970.
    """
    record = _record(run, layout.RUN, Run)
    exit_record, heartbeat = _record(run, layout.EXIT, Exit), _record(run, layout.HEARTBEAT, Heartbeat)
    pids = _processes(run)
    if exit_record is not None:
        return f"it has ended, but {_after_its_end(run, pids)}"
    if run.rebooted:
        return "the node rebooted while it ran; its record is still open"
    if run.supervised and record is not None and record.node_rank:
        return ""  # the first node of the run has its heartbeat
    if not run.supervised:
        started = run.files.get(layout.SUPERVISOR) is not None
        if not started and record is not None and now - record.launched_at < STARTING_S:
            return ""
        return _unsupervised(run, pids)
    supervisor = _record(run, layout.SUPERVISOR, SupervisorRecord)
    signals = Signals(
        now=now,
        launched_at=max(record.launched_at if record else now, supervisor.started_at if supervisor else 0.0),
        process=True,
        heartbeat=heartbeat,
        waiting_for=run.pending or (supervisor.waiting_for if supervisor else ""),
    )
    health = health_of(signals, _thresholds(run.files.get(layout.CONFIG)))
    return sanitize(health.sentence) if health.state == "stalled" else ""


def _processes(run: HeldRun) -> str:
    """Return its pids and the GPU memory that they hold."""
    memory = gpu_memory.format_held(share for pid in run.processes for share in _holds(run, pid))
    return ", ".join(map(str, run.processes)) + (f" (with {memory})" if memory else "")


def _after_its_end(run: HeldRun, pids: str) -> str:
    """Return what a run still holds after its end."""
    parts = [gpu_memory.format_orphaned(pid, _holds(run, pid)) for pid in run.gone]
    if pids:
        parts.insert(0, f"pid {pids} is still alive")
    elif run.sessions:
        parts.insert(0, f"its {' and '.join(run.sessions)} session is still open")
    return "; ".join(parts)


def _holds(run: HeldRun, pid: int) -> tuple[GpuMemory, ...]:
    return run.holds.get(str(pid), ())


def _unsupervised(run: HeldRun, pids: str) -> str:
    if pids:
        return f"its supervisor is gone, but pid {pids} is still alive"
    if run.sessions:
        return f"its {' and '.join(run.sessions)} session is open without a process of it"
    return "its supervisor is gone without an exit record; its record is still open"


def _record(run: HeldRun, name: str, kind: type[R]) -> R | None:
    text = run.files.get(name)
    try:
        return None if text is None else decode(text, kind)
    except DataError:
        return None


def _thresholds(text: str | None) -> WatchConfig:
    """Return the run's own alert thresholds; the defaults if its configuration cannot be read."""
    try:
        return config_loader.from_mapping(yaml_io.load_text(text or "", layout.CONFIG)).config.watch
    except ConfigError:
        return WatchConfig()
