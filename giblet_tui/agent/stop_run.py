"""Ending a run on this node, and proving it: asked, then told, then killed; then nothing of it is found, twice.

Part of the agent: standard library only, Python >= 3.8. It goes on when its client is gone, and may be repeated at any
point: each step looks at what is left, not at what was done before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

from giblet_tui.agent import adopted_run, gpu, layout, run_processes, sessions, user_sessions
from giblet_tui.agent.main import AgentRefusal, Emit
from giblet_tui.agent.proc import descendants, send, start_ticks
from giblet_tui.agent.records import write_record
from giblet_tui.agent.run_processes import LocalRun

DEFAULT_GRACE_S = 120.0
UNHEEDED_GRACE_S = 10.0
"""How long TERM gets where the stop file had its whole grace for nothing, or there is nothing to save yet."""
KILL_LIMIT_S = 10.0
_TOLD = (layout.RUN, layout.SUPERVISOR, layout.HEARTBEAT, layout.EXIT, layout.CONFIG)
QUIET_S = 0.1
"""Time between the two looks that must both find nothing."""
GPU_LIMIT_S = 5.0
_FIRST_REPORT_S, _REPORT_EVERY_S = 1.0, 5.0


def stop(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """End a run and all it started: {steps, survivors: [{pid, cmdline, uid, wchan, holds, gone}], seconds, already}.

    holds: parts of GPUs; gone: the process has ended, and GPU memory is still counted in its name.

    arguments: workdir; run_id; grace_s, for a checkpoint (else the run's own); force, to leave that grace out.
    Stopping what has ended is a success. Raises AgentRefusal when the run is not there or not this user's.
    """
    run = run_processes.find(arguments["workdir"], arguments["run_id"])
    if run.on_other_host:
        raise AgentRefusal(
            f"{run.run_id} runs on {run.on_other_host}, which shares this directory.", "Stop it there.", 2
        )
    given = arguments.get("grace_s")
    grace_s = float(run.record(layout.RUN).get("grace_s", DEFAULT_GRACE_S) if given is None else given)
    return _StopProcedure(run, emit).execute(0.0 if arguments.get("force") else grace_s)


def kill_tree(run: LocalRun, known: dict[int, int] | None = None) -> dict[int, int]:
    """KILL every process of a run (and those of `known` that still are who they were) until two looks find none.

    They are stopped first, so that none forks meanwhile. pid and start time of what survives KILL_LIMIT_S.
    """
    deadline = time.monotonic() + KILL_LIMIT_S
    known = dict(known or {})
    quiet = 0
    while True:
        left = surviving(run, known)
        known.update(left)
        quiet = 0 if left else quiet + 1
        if quiet == 2 or (left and time.monotonic() > deadline):
            return left
        if not left:
            time.sleep(QUIET_S)
            continue
        for pid in left:
            send(pid, signal.SIGSTOP)
        known.update(surviving(run, known))
        for pid, ticks in known.items():
            if start_ticks(pid) == ticks:
                send(pid, signal.SIGKILL)
        time.sleep(0.02)


def surviving(run: LocalRun, known: dict[int, int]) -> dict[int, int]:
    """pid and start time of what lives of a run: what is found now, and what was known as its and is the same still."""
    alive = {pid: ticks for pid, ticks in known.items() if start_ticks(pid) == ticks}
    return {**run.processes(), **alive}


def list_resources(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """What is still held on this node: {now, runs: [{run_id, files, supervised, rebooted, processes, sessions, holds,
    gone}], unclaimed: [{pid, cmdline, holds, gone}]}.

    arguments: workdir. Left out are runs that ended and hold nothing, and those of other machines. files: the texts of
    the run's records. holds: pid -> GPU memory; gone: those of its pids that have ended and are counted all the same.
    unclaimed: this user's processes, and ended ones, that hold GPU memory and are no run's.
    """
    folder = run_processes.runs_folder(arguments["workdir"])
    marked = run_processes.marks(folder)
    holders = gpu.memory_by_pid(gpu.query_gpus()["gpus"])
    gone_holders = {pid for pid in holders if start_ticks(pid) is None}
    claimed = set(run_processes.with_descendants(set().union(*marked.values())))
    open_sessions = {kind: backend.open_sessions() for kind, backend in sessions.BACKENDS.items()}
    found = []
    for run in run_processes.all_runs(arguments["workdir"]):
        held_by = [kind for kind, names in open_sessions.items() if run.session in names]
        gone = run.ended_pids() & gone_holders if gone_holders and not run.on_other_host else set()
        if run.on_other_host or (run.ended and not run.processes_in(marked) and not held_by and not gone):
            continue
        processes = sorted(run_processes.with_descendants(run.processes_in(marked)))
        claimed |= gone
        found.append(
            {
                "run_id": run.run_id,
                "files": {name: _text(run, name) for name in _TOLD},
                "supervised": run.supervisor() is not None,
                "rebooted": run.rebooted,
                "processes": processes,
                "sessions": held_by,
                "holds": {str(pid): holders[pid] for pid in (*processes, *sorted(gone)) if pid in holders},
                "gone": sorted(gone),
            }
        )
    unclaimed = [
        dict(run_processes.description(pid), holds=holders[pid], gone=pid in gone_holders)
        for pid in run_processes.unclaimed(holders, claimed)
    ]
    return {"now": time.time(), "runs": found, "unclaimed": unclaimed}


class _StopProcedure:
    """One run being ended, and what has been done so far."""

    def __init__(self, run: LocalRun, emit: Emit) -> None:
        self.run = run
        self.adopted = run.adopted
        self.emit = emit
        self.began = time.monotonic()
        self.steps: list[dict[str, Any]] = []
        self.known: dict[int, int] = {}
        self.failed = False

    def execute(self, grace_s: float) -> dict[str, Any]:
        self.failed = self.run.record(layout.HEARTBEAT).get("state") == "failed"
        already = not self._alive()
        if already:
            self._say("ended", "No process of it was left.")
        else:
            saves = not self.adopted and self._has_begun()
            asked = self._create_stop_file()
            if not saves or not asked or not grace_s or not self._wait_for_save(grace_s):
                self._send_signals(grace_s if self.adopted or (saves and not asked) else min(grace_s, UNHEEDED_GRACE_S))
        survivors = kill_tree(self.run, self.known)
        holders = self._gpu_holders()
        closed = user_sessions.close(self.adopted) if self.adopted else sessions.kill_session(self.run.session)
        if closed:
            self._say("session", f"Closed its {' and '.join(closed)} session.")
        self._record_end(survivors, requested=not already)
        left = sorted({*survivors, *holders})
        if not left:
            self._say("proved", "Nothing of it is left: no process, no session, no GPU memory.")
        return {
            "steps": self.steps,
            "survivors": [
                dict(run_processes.description(pid), holds=holders.get(pid, []), gone=start_ticks(pid) is None)
                for pid in left
            ],
            "seconds": time.monotonic() - self.began,
            "already": already,
        }

    def _has_begun(self) -> bool:
        """Is there something to save? A trainer that still loads does not look for the stop file either.

        What a run over several nodes has to save is on the first; a further node passes the stop file on to there.
        """
        if self.run.record(layout.RUN).get("node_rank"):
            return True
        return self.run.record(layout.HEARTBEAT).get("state") not in (None, "loading")

    def _wait_for_save(self, grace_s: float) -> bool:
        """Wait for the trainer to heed the stop file."""
        self._say("asked", f"Asked it to stop at its next step, and to save; it has {grace_s:.0f} s.")
        return self._wait(grace_s)

    def _create_stop_file(self) -> bool:
        """Create the stop file, if the disk has room for it; if not, TERM alone asks the run to save and end."""
        try:
            request = {"at": time.time(), "by": run_processes.user_name(os.getuid())}
            write_record(str(self.run.path / "stop"), request, exclusive=True)
        except FileExistsError:
            pass
        except OSError as error:
            self._say("no stop file", f"The stop file cannot be written ({error.strerror}); going on with TERM.")
            return False
        return True

    def _send_signals(self, grace_s: float) -> None:
        """TERM, and after the grace QUIT, to the supervisor; where it is gone, TERM to the first of what it left."""
        supervisor = None if self.adopted else self.run.supervisor()
        left = self._at_work()
        if not left:
            return
        targets = [supervisor] if supervisor else sorted(set(left) - descendants(left))
        if grace_s or not supervisor:
            self._say("TERM", f"Sent TERM to {_pids(targets)}; {grace_s:.0f} s to end.")
            self._signal(targets, signal.SIGTERM)
            if self._wait(grace_s):
                return
        if supervisor and self.run.supervisor() == supervisor:
            self._say("QUIT", f"Told the supervisor, pid {supervisor}, to kill the rest.")
            self._signal([supervisor], signal.SIGQUIT)
            if self._wait(KILL_LIMIT_S):
                return
        self._say("KILL", f"Killing {_pids(sorted(self._alive()))}.")

    def _signal(self, pids: list[int], number: int) -> None:
        for pid in pids:
            if start_ticks(pid) == self.known.get(pid):
                send(pid, number)

    def _alive(self) -> dict[int, int]:
        left = surviving(self.run, self.known)
        self.known.update(left)
        return left

    def _wait(self, limit_s: float) -> bool:
        """Until nothing of the run is left: True; or False when the limit has passed."""
        begun = time.monotonic()
        report_at = begun + _FIRST_REPORT_S
        supervisor = None if self.adopted else self.run.supervisor()
        while time.monotonic() - begun < limit_s:
            # Its end is the end of all else, and cheap to look for; only without it is all of /proc read each time.
            if (supervisor is None or self.run.supervisor() is None) and not self._at_work():
                return True
            if time.monotonic() >= report_at:
                report_at += _REPORT_EVERY_S
                seconds = time.monotonic() - self.began
                sentence = f"Waiting for its end, {seconds:.0f} s{_progress(self.run)}."
                self.emit({"step": "waiting", "seconds": seconds, "sentence": sentence})
            time.sleep(0.05 if supervisor else 0.25)
        return not self._at_work()

    def _at_work(self) -> dict[int, int]:
        """What is left and could end by itself: of an adopted session not its idle shells, nor its keeper."""
        left = self._alive()
        if not self.adopted:
            return left
        kept = adopted_run.trainers(set(left)) - {self.run.supervisor()}
        return {pid: left[pid] for pid in kept}

    def _gpu_holders(self) -> dict[int, list[dict[str, Any]]]:
        """Which of its processes still hold GPU memory; the driver may take some seconds to let go of a dead one's."""
        deadline = time.monotonic() + GPU_LIMIT_S
        while True:
            seen = gpu.memory_by_pid(gpu.query_gpus()["gpus"])
            known = {pid for pid, ticks in self.known.items() if start_ticks(pid) in (None, ticks)}
            holders = {pid: seen[pid] for pid in known | self.run.ended_pids() if pid in seen}
            if not holders or time.monotonic() > deadline:
                return holders
            time.sleep(0.25)

    def _record_end(self, survivors: dict[int, int], requested: bool) -> None:
        """Where no supervisor lived to write exit.json, close the run in its place; later, strike out survivors."""
        if self.run.supervisor() is not None:
            return
        known = self.run.record(layout.EXIT)
        if self.run.ended:
            if known.get("survivors") and not survivors:
                with contextlib.suppress(OSError):
                    write_record(str(self.run.path / layout.EXIT), dict(known, survivors=[]))
            return
        ending = {
            "run_id": self.run.run_id,
            "ended_at": time.time(),
            "code": None,
            "signal": None,
            "killed": sorted(set(self.known) - set(survivors)),
            "survivors": sorted(survivors),
            "stop_requested": requested or (self.run.path / "stop").exists(),
            "by_itself": self.failed,
            "oom_kills": 0,
        }
        try:
            write_record(str(self.run.path / layout.EXIT), ending, exclusive=True)
        except OSError as error:
            self._say("no exit record", f"Its end could not be recorded: {error.strerror}.")

    def _say(self, step: str, sentence: str) -> None:
        said = {"step": step, "seconds": time.monotonic() - self.began, "sentence": sentence}
        self.steps.append(said)
        self.emit(said)


def _progress(run: LocalRun) -> str:
    """What it does meanwhile, by its last heartbeat; empty when there is none."""
    heartbeat = run.record(layout.HEARTBEAT)
    return f": {heartbeat.get('phase') or heartbeat.get('state')}, step {heartbeat.get('step')}" if heartbeat else ""


def _pids(pids: list[int]) -> str:
    return ("pid " if len(pids) == 1 else "pids ") + ", ".join(map(str, pids))


def _text(run: LocalRun, name: str) -> str | None:
    try:
        return (run.path / name).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


OPERATIONS = {"stop": stop, "remains": list_resources}
