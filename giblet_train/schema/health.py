"""Derive the health of a run from four signals: exit record, process, age of the heartbeat, session. Pure.

Health is never stored. All times are on the node's clock. An unreachable run is never called dead, and a late
heartbeat alone never closes a run.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from giblet_train.schema.config import WatchConfig
from giblet_train.schema.errors import PREEMPTED
from giblet_train.schema.records import Exit, Heartbeat

State = Literal[
    "waiting", "starting", "running", "stalled", "finished", "stopped", "ended", "failed", "died", "unknown"
]
GLYPHS: dict[State, str] = {
    "running": "●",
    "waiting": "◌",
    "starting": "◐",
    "unknown": "○",
    "finished": "✔",
    "failed": "✖",
    "died": "✖",
    "stopped": "■",
    "ended": "□",
    "stalled": "!",
}
LIVE: frozenset[State] = frozenset({"waiting", "starting", "running", "stalled", "unknown"})
BY_SCHEDULER = "ended by the scheduler"
"""Reason of a run that its scheduler ended."""
START_LIMIT_S = 900.0
PHASE_LIMIT_S = 900.0
"""A checkpoint of many gigabytes on a network file system takes minutes."""


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """Everything observed about one run at one moment, on its node."""

    now: float
    """Time of the observation."""
    launched_at: float
    """Time of the launch."""
    process: bool | None
    """The supervisor is alive (same pid, start time and boot); None if that could not be checked."""
    supervised: bool = False
    """The supervisor left its record, so it was alive once."""
    session: bool | None = None
    """The tmux or screen session exists; None if the run has none or it could not be checked."""
    heartbeat: Heartbeat | None = None
    """Last heartbeat."""
    exit: Exit | None = None
    """Exit record."""
    rebooted: bool = False
    """The node rebooted since the start."""
    waiting_for: str = ""
    """What it waits for before the trainer starts: GPUs, or a scheduler."""
    job_end: str = ""
    """How a scheduler ended its job, as a sentence."""
    unreachable_since: float | None = None
    """Last contact with the node, if there is none now."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """State of a run."""

    state: State
    """The state."""
    sentence: str
    """Evidence for people."""
    reason: str = ""
    """Cause of the state, where there is one."""
    since: float | None = None
    """Time since when."""

    @property
    def live(self) -> bool:
        """Return True if this run may still use a process or a GPU."""
        return self.state in LIVE


def health_of(signals: Signals, watch: WatchConfig) -> Health:
    """Return the health that the signals show. First match wins: exit record, reachability, process, heartbeat."""
    heartbeat = signals.heartbeat
    if signals.exit is not None:
        return _ended(signals.exit, heartbeat)
    if signals.unreachable_since is not None:
        age = signals.now - signals.unreachable_since
        return Health(state="unknown", sentence=f"not heard for {duration(age)}", since=signals.unreachable_since)
    if signals.rebooted:
        return Health(state="died", sentence="the node rebooted while it ran", reason="rebooted")
    if signals.process is False:
        return _without_process(signals)
    if heartbeat is None and signals.waiting_for:
        wait = duration(signals.now - signals.launched_at)
        return Health(state="waiting", sentence=f"for {signals.waiting_for}; {wait} so far")
    if heartbeat is None:
        return _starting(signals)
    age = max(0.0, signals.now - heartbeat.at)
    limit = stall_after_s(heartbeat.step_s, watch)
    if heartbeat.state in ("finished", "stopped", "ended", "failed"):
        return Health(state="running", sentence=f"{heartbeat.state}; its processes are ending")
    # A heartbeat that names a phase begins work that takes longer than a step: the last fit, evaluation, report.
    has_own_pace = heartbeat.state == "saving" or (heartbeat.state == "validating" and heartbeat.phase)
    if has_own_pace:
        limit = max(limit, PHASE_LIMIT_S)
    if has_own_pace and age > limit:
        return Health(
            state="stalled",
            sentence=f"{heartbeat.phase or heartbeat.state} for {duration(age)}, and may take {duration(limit)}",
            reason="no heartbeat",
            since=heartbeat.at,
        )
    if heartbeat.state in ("training", "validating") and age > limit:
        return Health(
            state="stalled",
            sentence=f"no step for {duration(age)}; at its own pace one was due within {duration(limit)}",
            reason="no heartbeat",
            since=heartbeat.at,
        )
    if heartbeat.state == "loading":
        return Health(state="starting", sentence=heartbeat.phase or "loading")
    return Health(state="running", sentence=f"{heartbeat.phase or heartbeat.state}, heartbeat {duration(age)} ago")


def stall_after_s(step_s: float | None, watch: WatchConfig) -> float:
    """Return the seconds without a heartbeat after which a run is stalled: from its own pace, with a lower limit."""
    return max(watch.stall_min_s, watch.stall_factor * (step_s or 0.0))


def duration(seconds: float) -> str:
    """Format seconds with at most two units: `8s`, `4m`, `3h 05m`, `2d 4h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s" if whole < 600 else f"{whole // 60}m"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def _ended(exit_record: Exit, heartbeat: Heartbeat | None) -> Health:
    last = heartbeat.state if heartbeat else None
    if exit_record.survivors:
        pids = ", ".join(map(str, exit_record.survivors))
        return Health(
            state="died", sentence=f"ended, but pid {pids} survives", reason="survivors", since=exit_record.ended_at
        )
    if last == "finished" and exit_record.signal is None and not exit_record.code:
        sentence = (heartbeat.why if heartbeat else "") or "finished all its steps"
        return Health(state="finished", sentence=sentence, since=exit_record.ended_at)
    if last == "ended" and exit_record.code is None and exit_record.signal is None and not exit_record.stop_requested:
        why = heartbeat.why if heartbeat else ""
        return Health(state="ended", sentence=why or "its processes have ended", since=exit_record.ended_at)
    failed = last == "failed" or exit_record.signal is not None or exit_record.code not in (None, 0, PREEMPTED)
    failed_first = exit_record.by_itself and failed
    if last == "stopped" or (exit_record.stop_requested and not failed_first):
        why = heartbeat.why if heartbeat and last == "stopped" and heartbeat.phase != "preempted" else ""
        return Health(state="stopped", sentence=why or "stopped on request", since=exit_record.ended_at)
    if exit_record.oom_kills:
        return Health(
            state="died", sentence="killed by the node for want of memory", reason="oom", since=exit_record.ended_at
        )
    if last == "failed" and heartbeat is not None:
        return Health(
            state="failed", sentence=heartbeat.why or "failed", reason=heartbeat.why, since=exit_record.ended_at
        )
    if exit_record.signal is not None:
        return Health(
            state="died", sentence=f"killed by signal {exit_record.signal}", reason="signal", since=exit_record.ended_at
        )
    if exit_record.code is None:
        return Health(
            state="died",
            sentence="its supervisor was gone without an exit record",
            reason="supervisor gone",
            since=exit_record.ended_at,
        )
    if exit_record.code == 0:
        return Health(state="finished", sentence="ended with code 0", since=exit_record.ended_at)
    return Health(
        state="failed",
        sentence=f"ended with code {exit_record.code}; see `giblet logs`",
        reason="exit",
        since=exit_record.ended_at,
    )


def _without_process(signals: Signals) -> Health:
    heartbeat = signals.heartbeat
    if heartbeat is not None and heartbeat.state in ("finished", "stopped", "ended"):
        return Health(state=heartbeat.state, sentence=f"{heartbeat.state}; no exit record", since=heartbeat.at)
    if signals.job_end:
        return Health(state="died", sentence=signals.job_end, reason=BY_SCHEDULER)
    if heartbeat is None and not signals.supervised and signals.now - signals.launched_at < 10.0:
        return Health(state="starting", sentence="launched, its supervisor is not seen yet")
    where = "; its session is still open" if signals.session else ""
    return Health(
        state="died",
        sentence=f"its supervisor is gone without an exit record{where}",
        reason="supervisor gone",
        since=heartbeat.at if heartbeat else None,
    )


def _starting(signals: Signals) -> Health:
    age = signals.now - signals.launched_at
    if age > START_LIMIT_S:
        return Health(
            state="stalled", sentence=f"no heartbeat {duration(age)} after its launch", reason="never started"
        )
    return Health(state="starting", sentence=f"launched {duration(age)} ago, no heartbeat yet")
