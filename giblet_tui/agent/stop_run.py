"""Stops a run on this node and proves it: stop file, TERM, QUIT, KILL; then two looks find nothing of it.

Part of the agent: standard library only, Python >= 3.8. It continues when its client is gone, and may be repeated at
any point: each step looks at what is left, not at what was done before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Sequence

from giblet_tui.agent import gpu, layout, process_list, run_processes, sessions, stop_job, user_sessions
from giblet_tui.agent.kill import KILL_LIMIT_S, kill_tree, surviving
from giblet_tui.agent.main import AgentRefusal, Emit
from giblet_tui.agent.proc import descendants, is_paused, send, start_ticks, user_name
from giblet_tui.agent.records import write_record
from giblet_tui.agent.run_processes import LocalRun

DEFAULT_GRACE_S = 120.0
UNHEEDED_GRACE_S = 10.0
"""Grace of TERM after the whole grace of the stop file was in vain, or if there is nothing to save yet."""
GPU_LIMIT_S = 5.0
_FIRST_REPORT_S, _REPORT_EVERY_S = 1.0, 5.0


@dataclass
class Step:
    """One stage of a stop."""

    step: str
    """Short name."""
    seconds: float
    """Time since the stop began."""
    sentence: str


@dataclass
class StopOutcome:
    """Result of a stop; `protocol.StopOutcome` on the other side."""

    seconds: float
    already: bool
    """The run had ended before."""
    steps: list[Step]
    survivors: list[dict[str, Any]]
    """Processes that live, and ended ones in whose name GPU memory is still counted."""
    unproved: str = ""
    """What could not be verified, as a sentence; empty if the end is proved."""


def stop(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Stop a run and everything it started. Returns a `StopOutcome`. Stopping an ended run is a success.

    arguments: workdir; run_id; grace_s, for a checkpoint (else the run's own); force, to skip that grace.
    Raises AgentRefusal if the run does not exist here or belongs to another user.
    """
    run = run_processes.find(arguments["workdir"], arguments["run_id"])
    if run.on_other_host:
        raise AgentRefusal(
            f"{run.run_id} runs on {run.on_other_host}, which shares this directory.", "Stop it there.", 2
        )
    grace_s = arguments.get("grace_s")
    if grace_s is None:
        grace_s = run.record(layout.RUN).get("grace_s", DEFAULT_GRACE_S)
    procedure = _StopProcedure(run, emit)
    execute = procedure.execute_job if run.is_scheduled else procedure.execute
    return asdict(execute(0.0 if arguments.get("force") else float(grace_s)))


@dataclass
class _StopProcedure:
    """One stop, and what has been done so far."""

    run: LocalRun
    emit: Emit
    began: float = field(default_factory=time.monotonic)
    steps: list[Step] = field(default_factory=list)
    processes: dict[int, int] = field(default_factory=dict)
    """Pid and start time of every process of the run that was ever seen."""

    def __post_init__(self) -> None:
        self.adopted = self.run.adopted
        self.had_failed = self.run.record(layout.HEARTBEAT).get("state") == "failed"
        self.supervisor_lost = self.run.supervisor_lost

    def execute(self, grace_s: float) -> StopOutcome:
        already = not self._alive()
        if already:
            self._report("ended", "No process of it was left.")
        else:
            self._end(grace_s)
        survivors = kill_tree(self.run, self.processes)
        gpu_holders = self._gpu_holders()
        closed_sessions = user_sessions.close(self.adopted) if self.adopted else sessions.kill_session(self.run.session)
        if closed_sessions:
            self._report("session", f"Closed its {' and '.join(closed_sessions)} session.")
        self._record_end(survivors, requested=not already)
        remaining = sorted({*survivors, *gpu_holders})
        proof_limit = "" if remaining else self._unproved()
        if proof_limit:
            self._report("unproved", proof_limit)
        elif not remaining:
            self._report("proved", "Nothing of it is left: no process, no session, no GPU memory.")
        return StopOutcome(
            seconds=time.monotonic() - self.began,
            already=already,
            steps=self.steps,
            survivors=[
                dict(run_processes.description(pid), holds=gpu_holders.get(pid, []), gone=start_ticks(pid) is None)
                for pid in remaining
            ],
            unproved=proof_limit,
        )

    def execute_job(self, grace_s: float) -> StopOutcome:
        """Stop a run that is a job of a scheduler. Raises AgentRefusal if the scheduler does not end it."""
        already = stop_job.live_job(self.run) is None
        if already:
            self._report("ended", "Slurm lists no live job of it.")
        else:
            was_asked = self._has_begun() and self._create_stop_file()
            can_save = was_asked and not self._is_foreign
            if can_save and grace_s:
                self._report("asked", f"Asked it to stop at its next step, and to save; it has {grace_s:.0f} s.")
            term_s = grace_s if self._is_foreign else min(grace_s, stop_job.TERM_LIMIT_S)
            stop_job.end_job(self.run, grace_s if can_save else 0.0, term_s, self._report)
            stop_job.await_exit_record(self.run)
        self._record_end({}, requested=not already)
        proof_limit = stop_job.proof_limits(self.run)
        self._report("unproved", proof_limit)
        return StopOutcome(time.monotonic() - self.began, already, self.steps, [], proof_limit)

    def _end(self, grace_s: float) -> None:
        """Ask for a last checkpoint if there is anything to save; then send signals."""
        can_save = not self._is_foreign and self._has_begun()
        was_asked = self._create_stop_file()
        self._continue_paused()
        if can_save and was_asked and grace_s and self._wait_for_save(grace_s):
            return
        keeps_grace = self._is_foreign or (can_save and not was_asked)
        self._send_signals(grace_s if keeps_grace else min(grace_s, UNHEEDED_GRACE_S))

    @property
    def _is_foreign(self) -> bool:
        """Return True if what runs is no trainer of giblet: it knows no stop file, and has its grace from TERM on."""
        return bool(self.adopted or self.run.record(layout.RUN).get("command"))

    def _has_begun(self) -> bool:
        """Return True if there is something to save. A trainer that still loads does not check the stop file either.

        The first node of a run has everything to save; a further node passes the stop file on to it.
        """
        if self.run.record(layout.RUN).get("node_rank"):
            return True
        return self.run.record(layout.HEARTBEAT).get("state") not in (None, "loading")

    def _wait_for_save(self, grace_s: float) -> bool:
        """Wait for the trainer to act on the stop file."""
        self._report("asked", f"Asked it to stop at its next step, and to save; it has {grace_s:.0f} s.")
        return self._wait(grace_s)

    def _create_stop_file(self) -> bool:
        """Create the stop file. Returns False if the disk is full; then TERM alone asks the run to save and end.

        Where there is no room for its content, a second name for run.json needs none.
        """
        path = str(self.run.path / layout.STOP)
        try:
            request = {"at": time.time(), "by": user_name(os.getuid())}
            write_record(path, request, exclusive=True)
        except FileExistsError:
            pass
        except OSError as error:
            try:
                os.link(str(self.run.path / layout.RUN), path)
            except OSError:
                self._report("no stop file", f"The stop file cannot be written ({error.strerror}); sending TERM.")
                return False
        return True

    def _continue_paused(self) -> None:
        """Continue processes that a signal stopped, so that they can save and end."""
        pids = [pid for pid in sorted(self._alive()) if is_paused(pid)]
        if pids:
            self._report("continued", f"Continued {_pids(pids)}: paused, it could not save.")
            self._signal(pids, signal.SIGCONT)

    def _send_signals(self, grace_s: float) -> None:
        """Send TERM, and after the grace QUIT, to the supervisor.

        Without one, TERM goes to the roots of what it left, then to what outlives them.
        """
        supervisor = None if self.adopted else self.run.supervisor()
        alive = self._at_work()
        if not alive:
            return
        targets = [supervisor] if supervisor else sorted(set(alive) - descendants(alive))
        if grace_s or not supervisor:
            self._report("TERM", f"Sent TERM to {_pids(targets)}; {grace_s:.0f} s to end.")
            self._signal(targets, signal.SIGTERM)
            waits_until = time.monotonic() + grace_s
            if self._wait(grace_s, roots=() if supervisor else targets):
                return
            orphans = [] if supervisor else sorted(self._at_work())
            if orphans and time.monotonic() < waits_until:
                self._report("TERM", f"Sent TERM to {_pids(orphans)} too: left behind by what has ended.")
                self._signal(orphans, signal.SIGTERM)
                if self._wait(waits_until - time.monotonic()):
                    return
        if supervisor and self.run.supervisor() == supervisor:
            self._report("QUIT", f"Asked the supervisor, pid {supervisor}, to kill the rest.")
            self._signal([supervisor], signal.SIGQUIT)
            if self._wait(KILL_LIMIT_S):
                return
        if not self._at_work():  # it may have ended since the last look
            return
        self._report("KILL", f"Killing {_pids(sorted(self._alive()))}.")

    def _signal(self, pids: list[int], number: int) -> None:
        for pid in pids:
            if start_ticks(pid) == self.processes.get(pid):
                send(pid, number)

    def _alive(self) -> dict[int, int]:
        alive = surviving(self.run, self.processes)
        self.processes.update(alive)
        return alive

    def _wait(self, limit_s: float, roots: Sequence[int] = ()) -> bool:
        """Wait until nothing of the run is left, all roots have ended, or the limit has passed.

        Returns True if nothing is left.
        """
        began = time.monotonic()
        report_at = began + _FIRST_REPORT_S
        supervisor = None if self.adopted else self.run.supervisor()
        while time.monotonic() - began < limit_s:
            # The supervisor ends last and is cheap to look for; without one, all of /proc is read each time.
            if (supervisor is None or self.run.supervisor() is None) and not self._at_work():
                return True
            if roots and all(start_ticks(pid) != self.processes.get(pid) for pid in roots):
                break
            if time.monotonic() >= report_at:
                report_at += _REPORT_EVERY_S
                seconds = time.monotonic() - self.began
                sentence = f"Waiting for its end, {seconds:.0f} s{_progress(self.run)}."
                self.emit(asdict(Step("waiting", seconds, sentence)))
            time.sleep(0.05 if supervisor else 0.25)
        return not self._at_work()

    def _at_work(self) -> dict[int, int]:
        """Return what is left and could end by itself: of an adopted session not its idle shells, nor its monitor."""
        alive = self._alive()
        if not self.adopted:
            return alive
        working = user_sessions.trainers(set(alive)) - {self.run.supervisor()}
        return {pid: alive[pid] for pid in working}

    def _gpu_holders(self) -> dict[int, list[dict[str, Any]]]:
        """Return its processes that still hold GPU memory; the driver may release a dead one's seconds later."""
        deadline = time.monotonic() + GPU_LIMIT_S
        while True:
            memory = gpu.memory_by_pid(gpu.query_gpus()["gpus"])
            own = {pid for pid, ticks in self.processes.items() if start_ticks(pid) in (None, ticks)}
            holders = {pid: memory[pid] for pid in own | self.run.ended_pids() if pid in memory}
            if not holders or time.monotonic() > deadline:
                return holders
            time.sleep(0.25)

    def _unproved(self) -> str:
        """Return what cannot be verified: what a killed supervisor no longer knew of."""
        run_dir = str(self.run.path)
        if self.adopted or process_list.has_cgroup(run_dir):
            return ""
        if not self.supervisor_lost and not (process_list.is_left(run_dir) and self.run.supervisor() is None):
            return ""
        return (
            "Nothing of it is found. But its supervisor was killed, so this cannot be proved: a process that detached"
            f" itself in the last {process_list.EVERY_S:.0f} s before that leaves no trace."
        )

    def _record_end(self, survivors: dict[int, int], requested: bool) -> None:
        """Write exit.json if no supervisor lived to do so; if it exists, remove survivors that have ended since."""
        if self.run.supervisor() is not None:
            return
        record = self.run.record(layout.EXIT)
        if self.run.ended:
            if record.get("survivors") and not survivors:
                with contextlib.suppress(OSError):
                    write_record(str(self.run.path / layout.EXIT), dict(record, survivors=[]))
            return
        ending = {
            "run_id": self.run.run_id,
            "ended_at": time.time(),
            "code": None,
            "signal": None,
            "killed": sorted(set(self.processes) - set(survivors)),
            "survivors": sorted(survivors),
            "stop_requested": requested or (self.run.path / layout.STOP).exists(),
            "by_itself": self.had_failed,
            "oom_kills": 0,
        }
        try:
            write_record(str(self.run.path / layout.EXIT), ending, exclusive=True)
        except OSError as error:
            self._report("no exit record", f"Its end could not be recorded: {error.strerror}.")

    def _report(self, step: str, sentence: str) -> None:
        self.steps.append(Step(step, time.monotonic() - self.began, sentence))
        self.emit(asdict(self.steps[-1]))


def _progress(run: LocalRun) -> str:
    """Return what the run does meanwhile, by its last heartbeat; empty if there is none."""
    heartbeat = run.record(layout.HEARTBEAT)
    return f": {heartbeat.get('phase') or heartbeat.get('state')}, step {heartbeat.get('step')}" if heartbeat else ""


def _pids(pids: list[int]) -> str:
    return ("pid " if len(pids) == 1 else "pids ") + ", ".join(map(str, pids))


OPERATIONS = {"stop": stop}
