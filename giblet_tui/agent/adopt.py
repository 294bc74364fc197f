"""Adopting a training that somebody started by hand: a run directory that tells what can be known of it, and a keeper.

The session and its processes are not touched. The keeper (`keeper`) is forked from here and goes on by itself.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import secrets
import stat
import time
from pathlib import Path
from typing import Any

from giblet_tui.agent import adopted_run, gpu, run_processes, sessions, start_run, user_sessions
from giblet_tui.agent.main import AgentRefusal, Emit, home_path
from giblet_tui.agent.run_processes import LocalRun
from giblet_tui.agent.supervisor import start_ticks, write_json
from giblet_tui.agent.user_sessions import UserSession

UNKNOWN = "configuration, seed, losses of components, gradients, exit code"
"""What nobody can know of a run that giblet did not start."""
GRACE_S = 40.0
"""How long TERM gets at a stop: torchrun gives its workers 30 s of it. The stop file means nothing to such a run."""
_KEEPER_LIMIT_S = 10.0
_LOG_NAMES = re.compile(r"\.(log|txt|out)$|^training_")
_LOG_TRIES = 256 * 1024


def adopt(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Take in a session: {run_id, log, pids, again}; again: its run was there already and has a keeper anew.

    arguments: workdir; session; name, of the run; node and by, for run.json; log, a path, or None to look for it;
    patterns, how `keeper` reads the log; version, giblet's. Raises AgentRefusal; then nothing is written.
    """
    found = user_sessions.find(arguments["session"])
    workdir = Path(os.path.realpath(home_path(arguments["workdir"])))
    with start_run.refusing_full_disks(workdir):
        (workdir / "runs").mkdir(mode=0o700, parents=True, exist_ok=True)
        with start_run.lock(workdir, {"run_id": f"adopting {found.address}", "launched_by": arguments["by"]}):
            known = _known(str(workdir), found)
            if known is not None and known.supervisor() is not None:
                raise AgentRefusal(
                    f"{found.name} is adopted already, as {known.run_id}.", f"giblet status {known.run_id}", 5
                )
            pids = adopted_run.trainers(run_processes.with_mark(found.mark))
            if not pids:
                raise AgentRefusal(f"Nothing runs in {found.name} but an idle shell.", "Nothing to adopt.", 2)
            run = known or _write(workdir, found, pids, arguments)
            _keep(run, arguments["patterns"])
    log = str(run.adopted.get("log") or "")
    return {"run_id": run.run_id, "log": log, "pids": sorted(pids), "again": known is not None}


def _known(workdir: str, found: UserSession) -> LocalRun | None:
    """The run that this session already is."""
    runs = [run for run in run_processes.all_runs(workdir) if run.adopted.get("mark") == found.mark and not run.ended]
    return runs[-1] if runs else None


def _write(workdir: Path, found: UserSession, pids: set[int], arguments: dict[str, Any]) -> LocalRun:
    """The run directory: whole when it appears. Nothing in it is a guess."""
    eldest = min(pids, key=lambda pid: start_ticks(pid) or 0)
    began_at = adopted_run.started_at(eldest)
    run_id = f"{arguments['name']}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(began_at))}-{secrets.token_hex(2)}"
    if not run_processes.is_run_id(run_id):
        raise AgentRefusal(f"{str(arguments['name'])[:60]!r} cannot name a run.", "Name one with --name.", 2)
    log = _log(pids, arguments.get("log"))
    record = {
        "run_id": run_id,
        "name": arguments["name"],
        "node": arguments["node"],
        "session": found.name,
        "multiplexer": found.kind,
        "argv": run_processes.description(eldest)["cmdline"].split(),
        "config_hash": "",
        "giblet_version": arguments["version"],
        "launched_by": f"{getpass.getuser()}, by hand",
        "launched_at": began_at,
        "gpus": [g["uuid"] for g in gpu.query_gpus()["gpus"] if {p["pid"] for p in g["processes"]} & pids],
        "nodes": [arguments["node"]],
        "grace_s": GRACE_S,
        "note": f"adopted from the {found.kind} session {found.name}; not known: {UNKNOWN}",
        "hostname": os.uname().nodename,
        "adopted": {"address": found.address, "mark": found.mark, "log": log, "at": time.time(), "by": arguments["by"]},
    }
    target = workdir / "runs" / run_id
    aside = target.with_name(start_run.ASIDE + run_id)
    aside.mkdir(mode=0o700)
    (aside / "run.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
    if log:
        (aside / "train.log").symlink_to(log)
    aside.rename(target)
    return LocalRun(target)


def _log(pids: set[int], named: str | None) -> str | None:
    """The log's path: the one named, or the one that a process of the session writes and that looks most like one."""
    if named:
        path = Path(home_path(named))
        if not path.is_file():
            raise AgentRefusal(f"{path} is not a file on this node.", "Name the log that the training writes.", 2)
        return str(path.resolve())
    written = {path for pid in pids for path in _written_by(pid) if _LOG_NAMES.search(path.name)}
    ranked = sorted(written, key=lambda path: (_has_epochs(path), path.stat().st_mtime))
    return str(ranked[-1]) if ranked else None


def _written_by(pid: int) -> list[Path]:
    """Regular files that a process has open for writing."""
    found = []
    try:
        entries = [entry.name for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []
    for entry in entries:
        try:
            path = Path(os.readlink(f"/proc/{pid}/fd/{entry}"))
            if path.is_absolute() and stat.S_ISREG(path.stat().st_mode) and run_processes.writable(pid, int(entry)):
                found.append(path)
        except (OSError, ValueError):
            continue
    return found


def _has_epochs(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TRIES))
            return b"Epoch" in file.read()
    except OSError:
        return False


def _keep(run: LocalRun, patterns: dict[str, str]) -> None:
    """Start the run's keeper, and wait for its record."""
    write_json(str(run.path / "keeper.json"), patterns)
    pid = sessions.daemonize(lambda: adopted_run.monitor_adopted_run(run.path))
    deadline = time.monotonic() + _KEEPER_LIMIT_S
    while run.supervisor() != pid:
        if time.monotonic() > deadline:
            raise AgentRefusal("The keeper did not start.", f"See {run.path}/keeper.log on the node.", 5)
        time.sleep(0.02)


OPERATIONS = {"adopt": adopt}
