"""Ends a run that is a Slurm job. Slurm is the proof: this node sees none of the job's processes.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import time
from typing import Callable

from giblet_tui.agent import layout, slurm
from giblet_tui.agent.main import AgentRefusal
from giblet_tui.agent.run_processes import LocalRun

CANCEL_LIMIT_S = 120.0
"""Slurm waits KillWait (30 s by default) between TERM and KILL, and an epilog may take its time."""
TERM_LIMIT_S = 20.0
"""Time from TERM for a trainer, which had its grace before."""
EXIT_RECORD_LIMIT_S = 5.0
"""How long a network file system may hide what the compute node has written."""

Report = Callable[[str, str], None]


def live_job(run: LocalRun) -> slurm.SlurmJob | None:
    """Return the run's job unless it has ended. Raises AgentRefusal if Slurm does not answer."""
    job = slurm.job_of(run.session)
    return job if job is not None and job.is_live else None


def end_job(run: LocalRun, save_s: float, term_s: float, report: Report) -> None:
    """End the run's job: wait for it to save, then TERM to its supervisor, then scancel.

    Args:
        save_s: time to save and end by itself, seconds; 0 if it was not asked to or has nothing to save.
        term_s: time for its supervisor to end it.

    Raises AgentRefusal if Slurm does not answer, or does not end the job.
    """
    job = live_job(run)
    if job is not None and job.state != slurm.PENDING and save_s and _wait(run, save_s):
        return
    job = live_job(run)
    if job is not None and job.state != slurm.PENDING and term_s:
        report("TERM", f"Sent TERM to the supervisor of Slurm job {job.job_id}.")
        slurm.signal_supervisor(job.job_id)
        if _wait(run, term_s):
            return
    job = live_job(run)
    if job is None:
        return
    report("scancel", f"Cancelled Slurm job {job.job_id}.")
    slurm.cancel(job.job_id)
    if not _wait(run, CANCEL_LIMIT_S):
        raise AgentRefusal(
            f"Slurm has not ended job {job.job_id} within {CANCEL_LIMIT_S:.0f} s.", f"scontrol show job {job.job_id}", 4
        )


def await_exit_record(run: LocalRun) -> None:
    """Wait until the exit record of the compute node is visible, if its supervisor had started."""
    deadline = time.monotonic() + EXIT_RECORD_LIMIT_S
    while run.record(layout.SUPERVISOR) and not run.ended and time.monotonic() < deadline:
        time.sleep(0.1)


def proof_limits(run: LocalRun) -> str:
    """Return what is known of the job's end and what is not, as a sentence."""
    job = slurm.job_of(run.session)
    if job is None:
        return "Slurm no longer lists its job; giblet sees none of a compute node's processes itself."
    where = f" on {job.nodes}" if job.nodes else ""
    return f"Slurm reports job {job.job_id}{where} as {job.state}; giblet sees none of that node's processes itself."


def _wait(run: LocalRun, limit_s: float) -> bool:
    """Wait until Slurm lists no live job of the run. Returns False if the limit has passed."""
    deadline = time.monotonic() + limit_s
    while live_job(run) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True
