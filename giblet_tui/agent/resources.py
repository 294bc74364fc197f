"""Lists what runs still hold on this node: processes, sessions, GPU memory.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import time
from typing import Any

from giblet_tui.agent import gpu, layout, run_processes, sessions, slurm
from giblet_tui.agent.main import Emit
from giblet_tui.agent.proc import start_ticks
from giblet_tui.agent.records import read_bytes
from giblet_tui.agent.run_processes import LocalRun

_RECORDS = (layout.RUN, layout.SUPERVISOR, layout.HEARTBEAT, layout.EXIT, layout.CONFIG)


def list_resources(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """List what is still held on this node. Returns {now, runs, unclaimed}, see `protocol.Resources`.

    Runs that ended and hold nothing, and those of other machines, are left out. `unclaimed` are this user's processes,
    and ended ones, that hold GPU memory and belong to no run. arguments: workdir.
    """
    folder = run_processes.runs_folder(arguments["workdir"])
    pids_by_mark = run_processes.marks(folder)
    holders = gpu.memory_by_pid(gpu.query_gpus()["gpus"])
    ended_holders = {pid for pid in holders if start_ticks(pid) is None}
    run_pids = set(run_processes.with_descendants(set().union(*pids_by_mark.values())))
    open_sessions = {kind: backend.open_sessions() for kind, backend in sessions.BACKENDS.items()}
    runs = []
    for run in run_processes.all_runs(arguments["workdir"]):
        session_kinds = [kind for kind, names in open_sessions.items() if run.session in names]
        orphans = run.ended_pids() & ended_holders if ended_holders and not run.on_other_host else set()
        if run.on_other_host or (
            run.ended and not run.processes_in(pids_by_mark) and not session_kinds and not orphans
        ):
            continue
        processes = sorted(run_processes.with_descendants(run.processes_in(pids_by_mark)))
        run_pids |= orphans | set(processes)
        runs.append(
            {
                "run_id": run.run_id,
                "files": {name: _text(run, name) for name in _RECORDS},
                "supervised": run.supervisor() is not None or run.has_job,
                "pending": pending_reason(run),
                "rebooted": run.rebooted,
                "processes": processes,
                "sessions": session_kinds,
                "holds": {str(pid): holders[pid] for pid in (*processes, *sorted(orphans)) if pid in holders},
                "gone": sorted(orphans),
            }
        )
    other_holders = [
        dict(run_processes.description(pid), holds=holders[pid], gone=pid in ended_holders)
        for pid in run_processes.unclaimed(holders, run_pids)
    ]
    return {"now": time.time(), "runs": runs, "unclaimed": other_holders}


def pending_reason(run: LocalRun) -> str:
    """Return what a scheduled run waits for; empty for any other run."""
    job = (slurm.jobs() or {}).get(run.session) if run.is_scheduled else None
    return slurm.pending_sentence(job) if job is not None else ""


def _text(run: LocalRun, name: str) -> str | None:
    content = read_bytes(str(run.path / name))
    return None if content is None else content.decode("utf-8", "replace")


OPERATIONS = {"remains": list_resources}
