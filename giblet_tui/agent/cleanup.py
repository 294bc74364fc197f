"""Frees disk space on this node: lists what giblet left there, its size and whether it is needed, and removes it.

Part of the agent: standard library only, Python >= 3.8. Each item is checked again under the start lock right before
its removal. It is renamed out of sight first and then deleted file by file.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from giblet_tui.agent import evaluation_jobs, layout, proc, run_processes, sessions, start_run
from giblet_tui.agent.main import AgentRefusal, Emit, check_private, home_path
from giblet_tui.agent.run_processes import LocalRun

_ENDED_FILES = (layout.EXIT, layout.HEARTBEAT, layout.RUN)
_GONE = ".giblet-gone"
_DAY_S = 86400.0


def holdings(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """List removable items. Returns {runs, environments: [{name, bytes, idle_days, kept}], free_bytes}.

    `kept` is the reason why an item must stay, or empty.

    arguments: workdir; keep, the environment of this giblet's own version; promoted {run id: by}, runs that runs on
    other nodes were promoted from.
    """
    workdir = _workdir(arguments)
    uses = _References(str(workdir), arguments.get("promoted") or {})
    runs = [_holding(run.path, uses.of_run(run), _ended_at(run), _inspections_dir(run.path)) for run in uses.runs]
    environments = []
    for path in _environments(workdir):
        reason = "this giblet's own" if path.name == arguments.get("keep") else uses.of_environment(path)
        environments.append(_holding(path, reason, path.stat().st_mtime))
    free = shutil.disk_usage(str(workdir)).free if workdir.is_dir() else 0
    return {"runs": runs, "environments": environments, "free_bytes": free}


def remove(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Remove runs and environments that nothing needs. Returns {removed: [{name, bytes}], refused: [{name, why}]}.

    arguments: workdir; runs, their ids; environments, their names; keep and promoted, as for `holdings`.
    """
    workdir = _workdir(arguments)
    check_private(str(workdir / layout.RUNS), str(workdir))
    removed_runs: list[dict[str, Any]] = []
    refusals: list[dict[str, Any]] = []
    with start_run.lock(workdir, {"run_id": "clearing space", "launched_by": proc.user_name(os.getuid())}):
        uses = _References(str(workdir), arguments.get("promoted") or {})
        candidates = []
        for run_id in arguments.get("runs") or ():
            run = run_processes.find(str(workdir), run_id)
            candidates.append((run.path, uses.of_run(run)))
        present = {path.name: path for path in _environments(workdir)}
        for name in arguments.get("environments") or ():
            if name in present and name != arguments.get("keep"):
                candidates.append((present[name], uses.of_environment(present[name])))
        for path, reason in candidates:
            if reason:
                refusals.append({"name": path.name, "why": reason})
                continue
            emit({"step": f"removing {path.name}"})
            n_bytes = _remove(path)
            if layout.is_run_id(path.name):
                n_bytes += _remove(_inspections_dir(path))
            removed_runs.append({"name": path.name, "bytes": n_bytes})
    return {"removed": removed_runs, "refused": refusals}


class _References:
    """What the runs and evaluation jobs of this node need, collected once."""

    def __init__(self, workdir: str, next_runs: dict[str, str]) -> None:
        self.runs = run_processes.all_runs(workdir)
        pids_by_mark = run_processes.marks(run_processes.runs_folder(workdir))
        open_sessions = sessions.open_names()
        self.live = {
            run.run_id
            for run in self.runs
            if (run.on_other_host and not run.ended)
            or run.processes_in(pids_by_mark)
            or run.session in open_sessions
            or run.supervisor() is not None
            or run.has_job
        }
        self.inspections = evaluation_jobs.running_jobs(Path(workdir))
        self.records = {run.run_id: run.record(layout.RUN) for run in self.runs}
        self.promoted = {**next_runs, **{_promoted_from(record): run_id for run_id, record in self.records.items()}}

    def of_run(self, run: LocalRun) -> str:
        """Return the reason why a run must stay, or an empty string."""
        if run.run_id in self.live:
            return f"it has not ended (it runs on {run.on_other_host})" if run.on_other_host else "it has not ended"
        if any(job["run_id"] == run.run_id for job in self.inspections):
            return "it is being inspected"
        if run.run_id in self.promoted:
            return f"{self.promoted[run.run_id]} was promoted from it"
        for other, record in self.records.items():
            if other in self.live and run.run_id in str(record.get("resumed_from") or ""):
                return f"{other}, which is running, resumes from it"
        return ""

    def of_environment(self, path: Path) -> str:
        """Return the reason why an environment must stay (a live run uses its interpreter), or an empty string."""
        for run_id in sorted(self.live):
            argv = self.records[run_id].get("argv") or [""]
            if str(argv[0]).startswith(f"{path}/"):
                return f"{run_id} is running in it"
        for job in self.inspections:
            if job["python"].startswith(f"{path}/"):
                return f"{job['run_id']} is being inspected with it"
        return ""


def _promoted_from(record: dict[str, Any]) -> str:
    promotion = record.get("promotion")
    return str(promotion.get("from_run")) if isinstance(promotion, dict) else ""


def _workdir(arguments: dict[str, Any]) -> Path:
    workdir = Path(os.path.realpath(home_path(arguments["workdir"])))
    if not workdir.is_dir():
        raise AgentRefusal(f"There is no {workdir} on this node: nothing of giblet's takes space there.", "", 2)
    return workdir


def _environments(workdir: Path) -> list[Path]:
    """Return this user's complete environments: `setup` writes their marker file last."""
    folder = workdir / layout.ENVIRONMENTS
    marker_files = sorted(folder.glob("*/.ready")) if folder.is_dir() else []
    return [m.parent for m in marker_files if not m.parent.is_symlink() and m.parent.lstat().st_uid == os.getuid()]


def _ended_at(run: LocalRun) -> float:
    """Return the time at which the run's records last changed."""
    stamps = [(run.path / name).stat().st_mtime for name in _ENDED_FILES if (run.path / name).exists()]
    return max(stamps, default=time.time())


def _inspections_dir(run_dir: Path) -> Path:
    """Return the folder of a run's evaluation jobs, which is useless without the run."""
    return evaluation_jobs.jobs_dir(run_dir.parent.parent, run_dir.name)


def _holding(path: Path, reason: str, since: float, *further: Path) -> dict[str, Any]:
    idle_days = max(0.0, time.time() - since) / _DAY_S
    n_bytes = sum(map(_size, (path, *further)))
    return {"name": path.name, "bytes": n_bytes, "idle_days": idle_days, "kept": reason}


def _size(path: Path) -> int:
    """Return the bytes on disk below a folder. Links are not followed; a file with several names counts once."""
    total, inodes = 0, set()
    for folder, _, names in os.walk(str(path)):
        for name in names:
            try:
                status = os.lstat(os.path.join(folder, name))
            except OSError:
                continue
            if (status.st_dev, status.st_ino) not in inodes:
                inodes.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total


def _remove(path: Path) -> int:
    if not path.exists():
        return 0
    n_bytes = _size(path)
    aside = path.with_name(f".{path.name}{_GONE}")
    path.rename(aside)
    shutil.rmtree(str(aside))
    return n_bytes


OPERATIONS = {"holdings": holdings, "remove": remove}
