"""Stopping runs, and finding those that ought to be: what to ask of a node, and what its answer means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from giblet_train.contract import config as configs
from giblet_train.contract import yamlfile
from giblet_train.contract.config import WatchConfig
from giblet_train.contract.errors import ConfigError, DataError
from giblet_train.contract.health import Signals, health_of
from giblet_train.contract.records import Exit, Heartbeat, R, Run, SupervisorRecord, decode
from giblet_tui.errors import TargetNotReached, Unreachable
from giblet_tui.nodes import Node
from giblet_tui.remote.connection import Connection
from giblet_tui.remote.sanitize import sanitize, sanitize_value

MARGIN_S = 120.0
"""For telling, killing and proving, beyond twice the grace."""
LONGEST_GRACE_S = 3600.0


STARTING_S = 60.0
"""A run may be without a supervisor for so long after its launch."""


class Survivor(msgspec.Struct, frozen=True, kw_only=True):
    """A process that nothing ended. gpu: it holds GPU memory; wchan: what it waits for in the kernel."""

    pid: int
    cmdline: str = ""
    uid: int | None = None
    wchan: str = ""
    gpu: bool = False


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """How stopping a run went. already: it had ended before; steps: what was done, a sentence each."""

    run_id: str
    node: str
    seconds: float
    already: bool = False
    steps: tuple[str, ...] = ()
    survivors: tuple[Survivor, ...] = ()

    @property
    def sentence(self) -> str:
        """What was reached, for a person."""
        if self.survivors:
            return f"{self.run_id} cannot be ended: {', '.join(map(_named, self.survivors))} survives."
        how = "had ended before" if self.already else f"ended in {self.seconds:.1f} s"
        return f"{self.run_id} {how}; no process, no session and no GPU memory of it is left on {self.node}."


class Stale(msgspec.Struct, frozen=True, kw_only=True):
    """A run that holds something, or claims to, without doing anything for it. why: the evidence, as a sentence."""

    run_id: str
    node: str
    why: str
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
) -> Stopped:
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
    return Stopped(
        run_id=run_id,
        node=node.name,
        seconds=done["seconds"],
        already=done["already"],
        steps=tuple(step["sentence"] for step in done["steps"]),
        survivors=msgspec.convert(done["survivors"], tuple[Survivor, ...]),
    )


def require_gone(stopped: Sequence[Stopped]) -> None:
    """Raises TargetNotReached, naming each by its pid, when anything survived."""
    left = [each for each in stopped if each.survivors]
    if left:
        remedy = (
            "Look at it on the node: a process stuck in the kernel (D) ends with its disk or GPU call, or a reboot."
        )
        raise TargetNotReached(" ".join(each.sentence for each in left), remedy)


def find_stale(node: Node, connection: Connection) -> list[Stale]:
    """The runs of a node that hold on to something for nothing, with the evidence. Nothing is changed."""
    remains = connection.call("remains", {"workdir": node.workdir}, timeout_s=60.0)
    found = []
    for run in remains["runs"]:
        why = why_stale(run, remains["now"])
        if why:
            found.append(
                Stale(
                    run_id=sanitize(run["run_id"]),
                    node=node.name,
                    why=why,
                    processes=tuple(run["processes"]),
                    sessions=tuple(run["sessions"]),
                )
            )
    return found


def why_stale(run: Mapping[str, Any], now: float) -> str:
    """Why a run of the agent's `remains` is stale, as a sentence; empty for one that is well, or belongs elsewhere.

    now: the node's clock, seconds since 1970.
    """
    record = _record(run, "run.json", Run)
    ended, heartbeat = _record(run, "exit.json", Exit), _record(run, "heartbeat.json", Heartbeat)
    pids = ", ".join(map(str, run["processes"]))
    if ended is not None:
        held = f"pid {pids} lives on" if pids else f"its {' and '.join(run['sessions'])} session is still open"
        return f"it has ended, but {held}"
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
        return configs.from_mapping(yamlfile.load_text(text or "", "config.yaml")).config.watch
    except ConfigError:
        return WatchConfig()


def _named(survivor: Survivor) -> str:
    facts = [survivor.cmdline.strip()[:80], f"waits in {survivor.wchan}" if survivor.wchan not in ("", "0") else ""]
    facts.append("holds GPU memory" if survivor.gpu else "")
    return f"pid {survivor.pid} ({', '.join(fact for fact in facts if fact) or 'no further facts'})"
