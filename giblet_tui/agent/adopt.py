"""Adopts a training that somebody started by hand: writes a run directory for it and starts a monitor.

The run directory holds only what can be known of the training. The session and its processes are not touched. The
monitor (`adopted_run`) is forked from here and keeps running by itself.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import time
from pathlib import Path
from typing import Any

from giblet_tui.agent import (
    adopted_run,
    gpu,
    lab,
    layout,
    machine,
    plain_process,
    private_dirs,
    run_processes,
    start_run,
    user_sessions,
)
from giblet_tui.agent.main import AgentRefusal, Emit, check_private, home_path
from giblet_tui.agent.proc import start_ticks, user_name
from giblet_tui.agent.records import write_record
from giblet_tui.agent.run_processes import LocalRun
from giblet_tui.agent.session_backend import UserSession

UNKNOWN = "configuration, seed, losses of components, gradients, exit code"
"""What nobody can know of a run that giblet did not start."""
GRACE_S = 40.0
"""How long TERM gets at a stop: torchrun gives its workers 30 s of it. The stop file means nothing to such a run."""
_KEEPER_LIMIT_S = 10.0
_LOG_NAMES = re.compile(r"\.(log|txt|out)$|^training_")
_LOG_TRIES = 256 * 1024


def adopt(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Adopt a session. Returns {run_id, log, pids, again}.

    `again` is true if the session was adopted before and only its monitor was started again.

    arguments: workdir; session; name, of the run; node and by, for run.json; log, a path, or None to search for one;
    version, giblet's; lab, the group that may read the run. Raises AgentRefusal; then nothing is written.
    """
    session = user_sessions.find(arguments["session"])
    workdir = Path(os.path.realpath(home_path(arguments["workdir"])))
    with start_run.refusing_full_disks(workdir):
        private_dirs.make(str(workdir / layout.RUNS))
        if arguments.get("lab"):
            lab.open_workdir(str(workdir), str(arguments["lab"]))
        check_private(str(workdir / layout.RUNS), str(workdir))
        with start_run.lock(workdir, {"run_id": f"adopting {session.address}", "launched_by": arguments["by"]}):
            adopted_before = _find_adopted_run(str(workdir), session)
            if adopted_before is not None and adopted_before.supervisor() is not None:
                raise AgentRefusal(
                    f"{session.name} is adopted already, as {adopted_before.run_id}.",
                    f"giblet status {adopted_before.run_id}",
                    5,
                )
            pids = user_sessions.trainers(run_processes.with_mark(session.mark))
            if not pids:
                raise AgentRefusal(f"Nothing runs in {session.name} but an idle shell.", "Nothing to adopt.", 2)
            run = adopted_before or _write_run_dir(workdir, session, pids, arguments)
            _start_monitor(run)
    log = str(run.adopted.get("log") or "")
    return {"run_id": run.run_id, "log": log, "pids": sorted(pids), "again": adopted_before is not None}


def _find_adopted_run(workdir: str, session: UserSession) -> LocalRun | None:
    """Return the run that this session was adopted as before, or None."""
    runs = [run for run in run_processes.all_runs(workdir) if run.adopted.get("mark") == session.mark and not run.ended]
    return runs[-1] if runs else None


def _write_run_dir(workdir: Path, session: UserSession, pids: set[int], arguments: dict[str, Any]) -> LocalRun:
    """Write the run directory aside and rename it into place. Unknown values stay empty."""
    eldest = min(pids, key=lambda pid: start_ticks(pid) or 0)
    began_at = adopted_run.started_at(eldest)
    run_id = f"{arguments['name']}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(began_at))}-{secrets.token_hex(2)}"
    if not layout.is_run_id(run_id):
        raise AgentRefusal(f"{str(arguments['name'])[:60]!r} cannot name a run.", "Name one with --name.", 2)
    log = _find_log(pids, arguments.get("log"))
    record = {
        "run_id": run_id,
        "name": arguments["name"],
        "node": arguments["node"],
        "session": session.name,
        "multiplexer": session.kind,
        "argv": run_processes.description(eldest)["cmdline"].split(),
        "config_hash": "",
        "giblet_version": arguments["version"],
        "launched_by": f"{user_name(os.getuid())}, by hand",
        "launched_at": began_at,
        "gpus": [g["uuid"] for g in gpu.query_gpus()["gpus"] if {p["pid"] for p in g["processes"]} & pids],
        "nodes": [arguments["node"]],
        "grace_s": GRACE_S,
        "lab": str(arguments.get("lab") or ""),
        "note": f"adopted from the {session.kind} session {session.name}; not known: {UNKNOWN}",
        "hostname": os.uname().nodename,
        "machine_id": machine.machine_id(),
        "adopted": {
            "address": session.address,
            "mark": session.mark,
            "log": log,
            "at": time.time(),
            "by": arguments["by"],
        },
    }
    target = workdir / layout.RUNS / run_id
    aside = target.with_name(start_run.ASIDE + run_id)
    aside.mkdir(mode=0o700)
    (aside / layout.RUN).write_text(json.dumps(record) + "\n", encoding="utf-8")
    if log:
        (aside / layout.LOG).symlink_to(log)
    if record["lab"]:
        lab.share(str(aside), str(record["lab"]))
    aside.rename(target)
    return LocalRun(target)


def _find_log(pids: set[int], log_path: str | None) -> str | None:
    """Return the log's path: `named`, or the file written by the session that most looks like a log."""
    if log_path:
        path = Path(home_path(log_path))
        if not path.is_file():
            raise AgentRefusal(f"{path} is not a file on this node.", "Name the log that the training writes.", 2)
        return str(path.resolve())
    open_logs = {path for pid in pids for path in _files_written_by(pid) if _LOG_NAMES.search(path.name)}
    logs = sorted(open_logs, key=lambda path: (_has_epochs(path), path.stat().st_mtime))
    return str(logs[-1]) if logs else None


def _files_written_by(pid: int) -> list[Path]:
    """Return the regular files that a process has open for writing."""
    log_paths = []
    try:
        entries = [entry.name for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []
    for entry in entries:
        try:
            path = Path(os.readlink(f"/proc/{pid}/fd/{entry}"))
            if path.is_absolute() and stat.S_ISREG(path.stat().st_mode) and run_processes.writable(pid, int(entry)):
                log_paths.append(path)
        except (OSError, ValueError):
            continue
    return log_paths


def _has_epochs(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TRIES))
            return re.search(rb"epoch|loss", file.read(), re.IGNORECASE) is not None
    except OSError:
        return False


def _start_monitor(run: LocalRun) -> None:
    """Start the run's monitor and wait for its record."""
    write_record(str(run.path / layout.MONITOR), {"log": run.adopted.get("log")})
    pid = plain_process.daemonize(lambda: adopted_run.monitor_adopted_run(run.path))
    deadline = time.monotonic() + _KEEPER_LIMIT_S
    while run.supervisor() != pid:
        if time.monotonic() > deadline:
            raise AgentRefusal("The monitor did not start.", f"See {run.path}/keeper.log on the node.", 5)
        time.sleep(0.02)


OPERATIONS = {"adopt": adopt}
