"""Stopping runs, and finding those that ought to be: what to ask of a node, and what its answer means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from giblet_train.schema import config_loader, yaml_io
from giblet_train.schema.config import WatchConfig
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.health import Signals, health_of
from giblet_train.schema.records import Exit, Heartbeat, R, Run, SupervisorRecord, decode
from giblet_tui.connection.base import Connection
from giblet_tui.connection.sanitize import sanitize, sanitize_value
from giblet_tui.control import gpu_memory
from giblet_tui.control.gpu_memory import Held
from giblet_tui.errors import TargetNotReached, Unreachable
from giblet_tui.inventory.nodes import Node

MARGIN_S = 120.0
"""For telling, killing and proving, beyond twice the grace."""
LONGEST_GRACE_S = 3600.0
STUCK = "Look at it on the node: a process stuck in the kernel (D) ends with its disk or GPU call, or a reboot."
STARTING_S = 60.0
"""A run may be without a supervisor for so long after its launch."""


class SurvivingProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A process that nothing ended. wchan: what it waits for in the kernel; holds: its GPU memory.

    gone: the process has ended; only its GPU memory is still counted.
    """

    pid: int
    cmdline: str = ""
    uid: int | None = None
    wchan: str = ""
    holds: tuple[Held, ...] = ()
    gone: bool = False

    @property
    def words(self) -> str:
        """Which process, with what is known of it."""
        facts = [
            self.cmdline.strip()[:80],
            f"waits in {self.wchan}" if self.wchan not in ("", "0") else "",
            f"holds {gpu_memory.format_held(self.holds)}" if self.holds else "",
        ]
        known = "" if self.gone else f" ({', '.join(fact for fact in facts if fact) or 'no further facts'})"
        return f"pid {self.pid}{known}"


class StopResult(msgspec.Struct, frozen=True, kw_only=True):
    """How stopping a run went. already: it had ended before; steps: what was done, a sentence each."""

    run_id: str
    node: str
    seconds: float
    already: bool = False
    steps: tuple[str, ...] = ()
    survivors: tuple[SurvivingProcess, ...] = ()

    @property
    def sentence(self) -> str:
        """What was reached, for a person."""
        if self.survivors:
            alive = ", ".join(each.words for each in self.survivors if not each.gone)
            said = [f"{self.run_id} cannot be ended: {alive} survives."] if alive else []
            gone = "; ".join(gpu_memory.format_orphaned(each.pid, each.holds) for each in self.survivors if each.gone)
            said += [f"{self.run_id} has ended, but on {self.node} {gone}."] if gone else []
            return " ".join(said)
        how = "had ended before" if self.already else f"ended in {self.seconds:.1f} s"
        return f"{self.run_id} {how}; no process, no session and no GPU memory of it is left on {self.node}."


class StaleRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that holds something, or claims to, without doing anything for it.

    why: the evidence, as a sentence; by: who launched it.
    """

    run_id: str
    node: str
    why: str
    by: str = ""
    processes: tuple[int, ...] = ()
    sessions: tuple[str, ...] = ()


def stop(
    node: Node,
    connection: Connection,
    run_id: str,
    say: Callable[[str], None],
    *,
    grace_s: float | None = None,
    force: bool = False,
) -> StopResult:
    """End a run and prove it. say: told each stage. grace_s: for a last checkpoint; None: what the run was given.

    Raises the node's refusal when the run is not there or not ours, Unreachable when the link breaks: the node finishes
    the job, and stopping again tells how it ended. Survivors are no exception here: see `require_gone`.
    """
    arguments = {"workdir": node.workdir, "run_id": run_id, "grace_s": grace_s, "force": force}
    limit_s = 2 * (LONGEST_GRACE_S if grace_s is None else grace_s) + MARGIN_S
    try:
        done = connection.call(
            "stop", arguments, timeout_s=limit_s, on_event=lambda event: say(sanitize(str(event.get("sentence", ""))))
        )
    except Unreachable as error:
        again = f"{node.name} finishes stopping it. Then: giblet stop {run_id}"
        raise type(error)(error.message, f"{error.remedy} {again}".strip()) from None
    done = sanitize_value(done)
    return StopResult(
        run_id=run_id,
        node=node.name,
        seconds=done["seconds"],
        already=done["already"],
        steps=tuple(step["sentence"] for step in done["steps"]),
        survivors=msgspec.convert(done["survivors"], tuple[SurvivingProcess, ...]),
    )


def raise_if_survivors(stopped: Sequence[StopResult]) -> None:
    """Raises TargetNotReached, naming each by its pid, when anything survived."""
    left = [each for each in stopped if each.survivors]
    if left:
        remedies = []
        if any(not survivor.gone for each in left for survivor in each.survivors):
            remedies.append(STUCK)
        holds = [held for each in left for survivor in each.survivors for held in survivor.holds]
        if holds:
            remedies.append(gpu_memory.advice(holds))
        raise TargetNotReached(" ".join(each.sentence for each in left), " ".join(remedies))


def probe_resources(node: Node, connection: Connection) -> dict[str, Any]:
    """What is still held on a node, as its agent tells it. Nothing is changed."""
    return connection.call("remains", {"workdir": node.workdir}, timeout_s=60.0)


def find_stale(node: Node, remains: Mapping[str, Any]) -> list[StaleRun]:
    """The runs of a node that hold on to something for nothing, with the evidence. remains: what `look` saw."""
    found = []
    for run in remains["runs"]:
        why = stale_reason(run, remains["now"])
        if why:
            found.append(
                StaleRun(
                    run_id=sanitize(run["run_id"]),
                    node=node.name,
                    why=why,
                    by=_launched_by(run),
                    processes=tuple(run["processes"]),
                    sessions=tuple(run["sessions"]),
                )
            )
    return found


def _launched_by(run: Mapping[str, Any]) -> str:
    record = _record(run, "run.json", Run)
    return sanitize(record.launched_by) if record else ""


def unowned_gpu_processes(remains: Mapping[str, Any]) -> list[str]:
    """GPU memory that no run of giblet's accounts for: this user's own, or of processes that have ended; a line each.

    Nothing here is giblet's by proof, so nothing is done about it.
    """
    lines = []
    for told in sanitize_value(list(remains.get("unclaimed", ()))):
        holder = msgspec.convert(told, SurvivingProcess)
        if holder.gone:
            said = gpu_memory.format_orphaned(
                holder.pid, holder.holds, "which is no process there and was of no run of giblet's"
            )
            lines.append(f"{said}. {gpu_memory.advice(holder.holds)}")
        else:
            lines.append(f"{holder.words} is yours, but of no run here: left alone. To end it there: kill {holder.pid}")
    return lines


def stale_reason(run: Mapping[str, Any], now: float) -> str:
    """Why a run of the agent's `remains` is stale, as a sentence; empty for one that is well, or belongs elsewhere.

    now: the node's clock, seconds since 1970.
    """
    record = _record(run, "run.json", Run)
    ended, heartbeat = _record(run, "exit.json", Exit), _record(run, "heartbeat.json", Heartbeat)
    pids = _processes(run)
    if ended is not None:
        return f"it has ended, but {_after_its_end(run, pids)}"
    if run["rebooted"]:
        return "the node rebooted while it ran; its record is still open"
    if run["supervised"] and record is not None and record.node_rank:
        return ""  # the first node of the run has its heartbeat
    if not run["supervised"]:
        started = run["files"].get("supervisor.json") is not None
        if not started and record is not None and now - record.launched_at < STARTING_S:
            return ""
        return _unsupervised(run, pids)
    supervisor = _record(run, "supervisor.json", SupervisorRecord)
    signals = Signals(
        now=now,
        launched_at=record.launched_at if record else now,
        process=True,
        heartbeat=heartbeat,
        waiting_for=supervisor.waiting_for if supervisor else "",
    )
    health = health_of(signals, _thresholds(run["files"].get("config.yaml")))
    return sanitize(health.sentence) if health.state == "stalled" else ""


def _processes(run: Mapping[str, Any]) -> str:
    """Its processes, and the GPU memory that they hold."""
    memory = gpu_memory.format_held(held for pid in run["processes"] for held in _holds(run, pid))
    return ", ".join(map(str, run["processes"])) + (f" (with {memory})" if memory else "")


def _after_its_end(run: Mapping[str, Any], pids: str) -> str:
    """What a run that ended holds all the same."""
    parts = [gpu_memory.format_orphaned(pid, _holds(run, pid)) for pid in run.get("gone", ())]
    if pids:
        parts.insert(0, f"pid {pids} lives on")
    elif run["sessions"]:
        parts.insert(0, f"its {' and '.join(run['sessions'])} session is still open")
    return "; ".join(parts)


def _holds(run: Mapping[str, Any], pid: int) -> tuple[Held, ...]:
    return msgspec.convert(run.get("holds", {}).get(str(pid), ()), tuple[Held, ...])


def _unsupervised(run: Mapping[str, Any], pids: str) -> str:
    if pids:
        return f"its supervisor is gone, but pid {pids} lives on"
    if run["sessions"]:
        return f"its {' and '.join(run['sessions'])} session is open without a process of it"
    return "its supervisor is gone without an exit record; its record is still open"


def _record(run: Mapping[str, Any], name: str, kind: type[R]) -> R | None:
    text = run["files"].get(name)
    try:
        return None if text is None else decode(text, kind)
    except DataError:
        return None


def _thresholds(text: str | None) -> WatchConfig:
    """The run's own; the defaults when its configuration cannot be read."""
    try:
        return config_loader.from_mapping(yaml_io.load_text(text or "", "config.yaml")).config.watch
    except ConfigError:
        return WatchConfig()
