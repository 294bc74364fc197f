"""Starts a run on this node: its directory, its session, its supervisor; all of it or nothing.

Part of the agent: standard library only, Python >= 3.8. Only one start runs at a time per node and working directory.
The kernel releases the lock with its holder, so the holder may remove the remains of an interrupted start.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from giblet_tui.agent import (
    gpu_choice,
    gpu_claims,
    lab,
    layout,
    machine,
    private_dirs,
    run_processes,
    sessions,
    stop_run,
    user_command,
)
from giblet_tui.agent.kill import kill_tree
from giblet_tui.agent.main import AgentRefusal, Emit, check_private, home_path
from giblet_tui.agent.records import read_bytes

FILES = (layout.CONFIG, layout.SUPERVISOR_SCRIPT)
COMMAND_FILES = (layout.ENVIRONMENT, layout.SUPERVISOR_SCRIPT, layout.COMMAND_MONITOR_SCRIPT)
"""Files of a run of the user's own command."""
_OURS = {
    *(*FILES, *COMMAND_FILES, layout.RUN, layout.LAUNCH_SCRIPT, layout.LOG),
    *(layout.WORK, layout.PUSHED, layout.UNCOMMITTED),
}
ASIDE = f".new-{os.uname().nodename}-"
_LOCK_LIMIT_S = 60.0
_SUPERVISOR_LIMIT_S = 30.0
_ABSENT_LIMIT_S = 2.0
"""A new session counts as gone when it was not seen for so long: a busy screen lists itself late."""


def start(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Start a run. Returns its supervisor's record, the session's kind and the run directory's path.

    Raises AgentRefusal; then nothing of the run is left.

    arguments: workdir; record, which becomes run.json (the node adds time and host); files, a text for each of FILES
    or COMMAND_FILES; archive, the path of what was sent with a command; gpus, what the run needs (see
    `gpu_choice.claim_for_run`), or nothing for the CPU; replaces, live runs to stop once all else is checked; again, to
    allow a second live run of one config hash; force, to allow GPUs that are in use.
    """
    record = dict(arguments["record"])
    run_id, files = str(record["run_id"]), dict(arguments["files"])
    is_command = record.get("command") is not None
    if not layout.is_run_id(run_id) or set(files) != set(COMMAND_FILES if is_command else FILES):
        raise AgentRefusal(f"{run_id[:60]!r} is not a run that can be started.", "", 2)
    workdir = Path(os.path.realpath(home_path(arguments["workdir"])))
    with refusing_full_disks(workdir):
        private_dirs.make(str(workdir / layout.RUNS))
        check_private(str(workdir / layout.RUNS), str(workdir))
        if not is_command:
            check_private(str(record["argv"][0]), str(workdir))
        if arguments.get("archive"):
            check_private(os.path.realpath(home_path(arguments["archive"])), str(workdir))
        if record.get("lab"):
            lab.open_workdir(str(workdir), str(record["lab"]))
        with lock(workdir, record):
            emit({"step": "checking the node"})
            _clear_leftovers(str(workdir))
            replaced_runs = [run_processes.find(str(workdir), run_id) for run_id in arguments.get("replaces") or ()]
            replaced_ids = {run.run_id for run in replaced_runs}
            _reject_duplicate(str(workdir), record, replaced_ids, bool(arguments.get("again")))
            sessions.check_installed(record["multiplexer"])
            sessions.check_name_free(layout.session_name(run_id))
            record.update(launched_at=time.time(), hostname=os.uname().nodename, machine_id=machine.machine_id())
            with _claimed_gpus(str(workdir), record, arguments, replaced_runs, emit):
                emit({"step": "writing the run directory"})
                run_dir = _write(workdir / layout.RUNS / run_id, record, files, emit, arguments.get("archive") or "")
                try:
                    for run in replaced_runs:
                        _stop_replaced(run, str(workdir), emit)
                    return _start_in(run_dir, record, emit)
                except BaseException:
                    _rollback(run_dir)
                    raise


@contextlib.contextmanager
def _claimed_gpus(
    workdir: str,
    record: dict[str, Any],
    arguments: dict[str, Any],
    replaced_runs: Sequence[run_processes.LocalRun],
    emit: Emit,
) -> Iterator[None]:
    """Hold a claim on the run's GPUs until its supervisor holds one of its own."""
    record.update(gpus=[], awaits=None)
    demand = arguments.get("gpus")
    force = bool(arguments.get("force"))
    claim = gpu_choice.claim_for_run(workdir, record, demand, replaced_runs, force, emit) if demand else None
    try:
        yield
    finally:
        if claim is not None:
            claim.release()


def _stop_replaced(run: run_processes.LocalRun, workdir: str, emit: Emit) -> None:
    """Stop a run that a new one replaces. Raises AgentRefusal if something of it survives."""
    emit({"step": f"stopping {run.run_id}, which this run replaces"})
    outcome = stop_run.stop({"workdir": workdir, "run_id": run.run_id}, emit)
    if outcome["survivors"]:
        pids = ", ".join(str(process["pid"]) for process in outcome["survivors"])
        raise AgentRefusal(f"{run.run_id} cannot be ended: pid {pids} survives.", "Nothing was started.", 4)


def rollback(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Undo the start of a run that failed to start on another of its nodes. arguments: workdir, run_id.

    Raises AgentRefusal if training has begun.
    """
    run = run_processes.find(arguments["workdir"], arguments["run_id"])
    if (run.path / layout.HEARTBEAT).exists():
        raise AgentRefusal(f"{run.run_id} has begun; it is not taken back.", f"giblet stop {run.run_id}", 4)
    _rollback(run.path)
    return {}


def free_port(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Return a TCP port that is free at the moment on all addresses of this node."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("", 0))
        return {"port": probe.getsockname()[1]}


def checkpoint(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Find the checkpoint that a run here resumes from. Returns {place, bytes, sha256, record}; empty if there is none.

    place: a full path if `resume_from` was one, else relative to the runs' folder. record: the text of its JSON file.

    arguments: workdir; resume_from, a run id, a run directory or a checkpoint, as the engine accepts it.
    """
    name = str(arguments["resume_from"])
    runs = run_processes.runs_folder(arguments["workdir"])
    is_whole = name.startswith(("/", "~"))
    path = Path(name).expanduser() if is_whole else runs / name
    is_file = path.suffix in (".safetensors", ".json")
    records = [path.with_suffix(".json")] if is_file else sorted(path.glob(f"{layout.CHECKPOINTS}/step-*.json"))
    for record in reversed(records):
        weights = record.with_suffix(".safetensors")
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            text = (read_bytes(str(record)) or b"").decode("utf-8")
            answer = {"bytes": weights.stat().st_size, "sha256": str(json.loads(text)["sha256"]), "record": text}
            return {**answer, "place": str(weights) if is_whole else str(weights.relative_to(runs))}
    return {}


def script(python: str, run_dir: str, node_rank: int = 0, sbatch: Sequence[str] = (), group: str = "") -> str:
    """Return launch.sh, which the session runs. It sets the mark, because a session has its server's environment.

    sbatch: options of the job, `partition=gpu`, if Slurm runs it. group: who may read
    what the run writes; empty: nobody.
    """
    directives = "".join(f"#SBATCH --{option}\n" for option in sbatch)
    variables = {layout.MARK_VARIABLE: Path(run_dir).name + (f"@{node_rank}" if node_rank else "")}
    if gpu_claims.DIRECTORY_VARIABLE in os.environ:
        variables[gpu_claims.DIRECTORY_VARIABLE] = os.environ[gpu_claims.DIRECTORY_VARIABLE]
    assignments = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    return (
        f"#!/bin/sh\n{directives}"
        "# What this run's session runs. What goes wrong before the supervisor is there, the log says.\n"
        f"umask {lab.UMASK if group else '077'}\n"
        f"exec 2>>{shlex.quote(f'{run_dir}/{layout.LOG}')}\n"
        f"exec env {assignments} {shlex.quote(python)} -I"
        f" {shlex.quote(f'{run_dir}/{layout.SUPERVISOR_SCRIPT}')} {shlex.quote(run_dir)}\n"
    )


@contextlib.contextmanager
def refusing_full_disks(workdir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "Make room, or a writable `workdir:` for this node in nodes.yaml."
        if error.errno in (errno.ENOLCK, errno.ENOTSUP):
            remedy = "Its file system has no locks: name a `workdir:` on a local disk for this node in nodes.yaml."
        raise AgentRefusal(f"{error.filename or workdir}: {error.strerror}; nothing was started.", remedy, 5) from None


@contextlib.contextmanager
def lock(workdir: Path, record: dict[str, Any]) -> Iterator[None]:
    """Hold this node's start lock. Raises AgentRefusal naming the holder if it is not free in time."""
    path = workdir / f".start-{os.uname().nodename}.lock"
    deadline = time.monotonic() + _LOCK_LIMIT_S
    with open(os.open(str(path), os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise AgentRefusal(
                        f"Another start holds this node since {_LOCK_LIMIT_S:.0f} s: {file.read(200)}",
                        "Wait for it, then launch again.",
                        5,
                    ) from None
            time.sleep(0.05)
        file.truncate(0)
        file.write(f"{record['run_id']} by {record.get('launched_by', '?')}")
        file.flush()
        yield


def _clear_leftovers(workdir: str) -> None:
    """Remove the remains of starts that were interrupted before a supervisor ran and that hold nothing."""
    for aside in run_processes.runs_folder(workdir).glob(ASIDE + "*"):
        shutil.rmtree(aside, ignore_errors=True)
    for run in run_processes.all_runs(workdir):
        if run.on_other_host or run.is_scheduled:
            continue
        names = {entry.name for entry in run.path.iterdir()}
        if names <= _OURS and not run.processes() and not sessions.find_session(run.session):
            _remove(run.path)


def _reject_duplicate(workdir: str, record: dict[str, Any], replaced_ids: set[str], again: bool) -> None:
    """Raise AgentRefusal if a live run has this configuration (unless `again`)."""
    for run in run_processes.all_runs(workdir):
        if run.run_id in replaced_ids or run.ended or not (run.has_job or run.processes()):
            continue
        other = run.record(layout.RUN)
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(other.get("launched_at", 0)))
        who = f"{run.run_id}, launched by {other.get('launched_by', '?')} at {since}"
        if other.get("config_hash") == record["config_hash"] and not again:
            what = "command" if other.get("command") else "configuration"
            raise AgentRefusal(
                f"This {what} already runs here: {who}.",
                f"Watch it (giblet logs {run.run_id} -f), or launch a second one with --again.",
                5,
            )


def _write(target: Path, record: dict[str, Any], files: dict[str, str], emit: Emit, archive: str) -> Path:
    """Write the run directory aside and rename it into place, complete. archive: what was sent with a command."""
    if target.exists():
        remedy = "Launch again: the id is new."
        if record.get("node_rank"):
            remedy = "Does it share a home with another node of the run? Give it a `workdir:` of its own in nodes.yaml."
        raise AgentRefusal(f"{target} exists already; nothing was started.", remedy, 5)
    aside = target.with_name(ASIDE + target.name)
    group = str(record.get("lab") or "")
    begin = script(sys.executable, str(target), record.get("node_rank", 0), record.get("sbatch") or (), group)
    try:
        aside.mkdir(mode=0o700)
        if record.get("command") is not None:
            environment = json.loads(files[layout.ENVIRONMENT])
            user_command.prepare(aside, target, record, archive, environment)
            files = {**files, layout.ENVIRONMENT: json.dumps(environment)}
            user_command.clear_archives(target.parent.parent, os.path.realpath(home_path(archive)) if archive else "")
        texts = {**files, layout.RUN: json.dumps(record), layout.LAUNCH_SCRIPT: begin}
        for name, text in texts.items():
            with open(os.open(str(aside / name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(text.encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
        if group:
            lab.share(str(aside), group)
        aside.rename(target)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return target


def _start_in(run_dir: Path, record: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Open the session and wait for the supervisor's record."""
    run = run_processes.LocalRun(run_dir)
    kind = record["multiplexer"]
    backend = sessions.backend_of(kind)
    emit({"step": f"starting {backend.phrase}"})
    is_open = backend.start(run.session, ["/bin/sh", str(run_dir / layout.LAUNCH_SCRIPT)])
    if backend.starts_later:
        return {"run_id": run.run_id, "multiplexer": kind, "session": run.session, "run_dir": str(run_dir)}
    emit({"step": "waiting for the supervisor"})
    seen_at = began = time.monotonic()
    while not run.record(layout.SUPERVISOR):
        now = time.monotonic()
        if now - began > _SUPERVISOR_LIMIT_S or now - seen_at > _ABSENT_LIMIT_S:
            _check_room(run_dir)
            raise AgentRefusal(
                f"The supervisor did not start: {_last_log_line(run_dir)}.", "See whether python3 works there.", 5
            )
        if is_open() or run.processes():
            seen_at = now
        time.sleep(0.02)
    emit({"step": "the supervisor is running"})
    return {**run.record(layout.SUPERVISOR), "multiplexer": kind, "session": run.session, "run_dir": str(run_dir)}


def _check_room(run_dir: Path) -> None:
    """Raise OSError if no file can be written there: then a supervisor cannot even say why it does not start."""
    probe = run_dir / ".room"
    try:
        with open(os.open(str(probe), os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        probe.unlink()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(run_dir)) from None


def _last_log_line(run_dir: Path) -> str:
    lines = (read_bytes(str(run_dir / layout.LOG)) or b"").decode("utf-8", "replace").split("\n")
    last = [line.strip() for line in lines if line.strip()]
    return last[-1][:300] if last else "it printed nothing"


def _rollback(run_dir: Path) -> None:
    """Undo a start: its processes, its session, its directory."""
    run = run_processes.LocalRun(run_dir)
    survivors = kill_tree(run)
    sessions.kill_session(run.session)
    if not survivors:
        _remove(run_dir)


def _remove(run_dir: Path) -> None:
    """Remove a run directory: rename it out of sight, then delete it file by file."""
    aside = run_dir.with_name(f"{ASIDE}{run_dir.name}.gone")
    run_dir.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


OPERATIONS = {"start": start, "discard": rollback, "free_port": free_port, "checkpoint": checkpoint}
