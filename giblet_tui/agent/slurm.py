"""Slurm as a session backend: a run is a batch job. Slurm decides where and when it runs, and knows whether it lives.

The job script is the run's launch.sh, so the supervisor runs on the compute node as everywhere else. This module runs
on the login node, which sees none of the job's processes: it asks `squeue`. Part of the agent: standard library only,
Python >= 3.8.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from giblet_tui.agent import layout
from giblet_tui.agent.main import AgentRefusal
from giblet_tui.agent.run_command import answer
from giblet_tui.agent.session_backend import SessionBackend, session_environment

KIND = "slurm"
PENDING = "PENDING"
_ENDED_STATES = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT",
}  # fmt: skip
_END_REASONS = {
    "TIMEOUT": "its time limit was reached (TIMEOUT)",
    "OUT_OF_MEMORY": "it used more memory than it had asked for (OUT_OF_MEMORY)",
    "NODE_FAIL": "its node failed (NODE_FAIL)",
    "PREEMPTED": "it was preempted (PREEMPTED)",
    "CANCELLED": "it was cancelled (CANCELLED)",
}
CONFIGURATIONS = ("/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf", "/run/slurm/conf/slurm.conf")
_LIMIT_S = 20.0
_LIST_EVERY_S = 2.0
"""squeue is a load on the controller of the whole cluster."""


class SlurmJob(NamedTuple):
    """A job of giblet, as squeue lists it."""

    job_id: str
    name: str
    """Name of the run's session."""
    state: str
    """PENDING, RUNNING and so on."""
    reason: str
    """Why it is pending; `None` otherwise."""
    nodes: str
    """Where it runs; empty while it is pending."""

    @property
    def is_live(self) -> bool:
        """Return True if the job has not ended."""
        return self.state not in _ENDED_STATES


class Slurm(SessionBackend):
    """Runs as batch jobs of Slurm."""

    kind = KIND
    phrase = "a Slurm job"
    has_terminal = False
    has_shell = True
    is_automatic = False
    starts_later = True

    def program(self) -> str | None:
        return shutil.which("sbatch")

    def start(self, session: str, command: list[str]) -> Callable[[], bool]:
        script = command[-1]
        run_dir = os.path.dirname(script)
        argv = ["sbatch", "--parsable", f"--job-name={session}", f"--output={run_dir}/{layout.SLURM_OUTPUT}"]
        # Only giblet's own trainer continues where it was; a command of the user's would begin again from nothing.
        is_command = os.path.exists(os.path.join(run_dir, layout.ENVIRONMENT))
        argv += [f"--chdir={os.path.dirname(os.path.dirname(run_dir))}", "--open-mode=append"]
        argv += ["--no-requeue" if is_command else "--requeue", *_directives(script), script]
        result = answer(argv, _LIMIT_S, _environment(session_environment()))
        if result is None:
            raise AgentRefusal(f"sbatch gave no answer within {_LIMIT_S:.0f} s.", "See whether `sinfo` answers.", 5)
        if result.returncode != 0:
            raise AgentRefusal(
                f"Slurm refuses the job: {_reason(result.stderr)}.",
                "Partitions and their limits: sinfo. Options: --partition, --time, --sbatch KEY=VALUE.",
                5,
            )
        forget_list()
        return lambda: session in self.open_sessions()

    def open_sessions(self) -> dict[str, str]:
        """Map the name of each live job of giblet to its id; nothing if Slurm does not answer."""
        job_by_name = jobs() or {}
        return {name: job.job_id for name, job in job_by_name.items() if job.is_live}

    def attach_argv(self, address: str, write: bool = False) -> list[str]:
        """Return the command that opens a shell on the job's first node, within what the job was given."""
        job = next((job for job in (jobs() or {}).values() if job.job_id == address), None)
        if not write or job is None or job.state == PENDING:
            reason = (pending_sentence(job) if job else "") or self.phrase
            raise AgentRefusal(f"This run has no terminal: {reason}.", "giblet logs RUN -f", 1)
        place = [f"--jobid={address}", "--overlap", "--nodes=1", "--ntasks=1"]
        return ["srun", *place, "--pty", os.environ.get("SHELL") or "/bin/sh", "-l"]

    def kill(self, address: str) -> None:
        """Cancel a job. Slurm sends TERM to its processes, then KILL."""
        cancel(address)


def is_configured() -> bool:
    """Return True if jobs of a Slurm cluster can be submitted from this machine."""
    own_file = os.environ.get("SLURM_CONF") or ""
    return Slurm().program() is not None and any(map(os.path.exists, (own_file, *CONFIGURATIONS)))


def job_of(session: str) -> SlurmJob | None:
    """Return the job of a run's session; None if Slurm lists none. Raises AgentRefusal if it does not answer."""
    job_by_name = jobs()
    if job_by_name is None:
        raise AgentRefusal("Slurm does not answer (squeue).", "Try again; see whether `sinfo` answers.", 4)
    return job_by_name.get(session)


def jobs() -> dict[str, SlurmJob] | None:
    """Return this user's jobs of giblet by session name, those that ended minutes ago too; None without an answer."""
    global _list
    if shutil.which("squeue") is None:  # a PATH without Slurm says nothing about its jobs
        return None
    if _list is None or time.monotonic() - _list[0] > _LIST_EVERY_S:
        argv = ["squeue", "--noheader", f"--user={os.getuid()}", "--states=all", "--format=%i|%j|%T|%r|%N"]
        result = answer(argv, _LIMIT_S, _environment(os.environ))
        is_answer = result is not None and result.returncode == 0
        _list = time.monotonic(), parse_jobs(result.stdout) if result and is_answer else None
    return _list[1]


_list: tuple[float, dict[str, SlurmJob] | None] | None = None


def forget_list() -> None:
    """Make the next question go to squeue itself."""
    global _list
    _list = None


def parse_jobs(output: str) -> dict[str, SlurmJob]:
    """Parse `squeue --format=%i|%j|%T|%r|%N`: the jobs of giblet by name, of two with one name the live one."""
    by_name: dict[str, SlurmJob] = {}
    for line in output.splitlines():
        fields = line.split("|")
        if len(fields) != 5 or not fields[1].startswith(layout.SESSION_PREFIX):
            continue
        job = SlurmJob(*(field.strip() for field in fields))
        if job.name not in by_name or job.is_live:
            by_name[job.name] = job
    return by_name


def pending_sentence(job: SlurmJob) -> str:
    """Return what a pending job waits for, as `Slurm to start job 12 (Resources)`; empty if it is not pending."""
    if job.state != PENDING:
        return ""
    remedy = f"; scontrol release {job.job_id}" if "held" in job.reason.lower() else ""
    return f"Slurm to start job {job.job_id} ({job.reason}{remedy})"


def end_sentence(job: SlurmJob) -> str:
    """Return how Slurm ended a job that left no exit record; empty if it has not ended."""
    if job.is_live:
        return ""
    where = f" on {job.nodes}" if job.nodes else ""
    return f"Slurm ended job {job.job_id}{where}: {_END_REASONS.get(job.state, job.state)}"


def signal_supervisor(job_id: str) -> None:
    """Send TERM to the job's batch process, which is the run's supervisor."""
    answer(["scancel", "--batch", "--signal=TERM", job_id], _LIMIT_S, _environment(os.environ))
    forget_list()


def cancel(job_id: str) -> None:
    """Cancel a job, whatever its state."""
    answer(["scancel", job_id], _LIMIT_S, _environment(os.environ))
    forget_list()


def _directives(script: str) -> list[str]:
    """Return the options in a job script, for the command line: there they win over variables (SBATCH_PARTITION)."""
    mark = "#SBATCH "
    with open(script, encoding="utf-8") as file:
        return [line[len(mark) :].strip() for line in file if line.startswith(mark)]


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables without the user's own settings of squeue and scancel: filters that hide jobs, questions.

    Those of sbatch are defaults of the user's jobs and stay, except for what makes sbatch wait or submit several jobs.
    """
    return {
        name: value
        for name, value in variables.items()
        if not name.startswith(("SQUEUE_", "SCANCEL_")) and name not in ("SBATCH_WAIT", "SBATCH_ARRAY_INX")
    }


def _reason(stderr: str) -> str:
    """Return sbatch's errors without their prefix."""
    lines = [line.replace("sbatch: error: ", "").strip().rstrip(".") for line in stderr.splitlines()]
    return "; ".join(line for line in lines if line)[:300] or "it gives no reason"
