"""Evaluates a trained run on this node: the engine works in the background; its output and result are streamed.

A job has a folder of its own, `<workdir>/inspections/<run id>/<name>/`, outside the run directory, so that nothing
that watches or stops runs meets it. It continues when its client is gone. A later request for the same job joins it,
or returns its result.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from giblet_tui.agent import gpu_choice, layout, private_dirs, run_processes, tail
from giblet_tui.agent.main import INPUT, AgentRefusal, Emit, check_private, home_path
from giblet_tui.agent.proc import boot_id, descendants, start_ticks
from giblet_tui.agent.records import read_bytes, read_record, write_record

RECORD = "inspection.json"
ON_CPU = "cpu"
NICENESS = 10
_NAME = r"[a-z]+-step\d{1,12}-[0-9a-f]{8}"
_SCRIPT = 'cd "$1" || exit; shift; "$@" </dev/null >/dev/null 2>said; echo $? >code.part; mv code.part code'
"""What the folder's process is: it outlives the command for as long as it takes to write down how that ended."""
_POLL_S = 0.1
_END_LIMIT_S = 10.0


def start_evaluation(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Start an evaluation job, or join the running or finished one of that name, and stream its output until it ends.

    Events: {state: begun | joined | kept, on}, {said: [line], mark}. Returns {code, out, files: [{name, bytes,
    sha256}]}; code is None if its process was ended. Raises AgentRefusal.

    arguments: workdir; run_id; name; python, an interpreter that has the engine; argv, of the engine, where [path] is
    a path below workdir; gpu, an index, "cpu", or None for any free one; asked, an id of the request, so that a client
    that reconnects does not restart a job that failed; mark, how far the client has read the output.
    """
    INPUT.end_without_client()
    workdir = Path(os.path.realpath(home_path(arguments["workdir"])))
    folder = _folder(workdir, arguments)
    with _locked(folder):
        state, record = _state(folder), _record(folder)
        if state == "none" or (state == "failed" and record.get("asked") != arguments["asked"]):
            record = _begin(workdir, folder, arguments)
            state = "begun"
    emit({"state": {"at work": "joined", "done": "kept"}.get(state, state), "on": record.get("on", "")})
    if state != "done" or arguments.get("mark") is not None:
        _send_output(folder, arguments.get("mark"), emit)
    return {"code": _code(folder), "out": str(folder / "out"), "files": _files(folder / "out")}


def end_inspection(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """End an evaluation job and remove its files. Returns {was}, its state. arguments: workdir, run_id, name."""
    workdir = Path(os.path.realpath(home_path(arguments["workdir"])))
    folder = _folder(workdir, arguments)
    with _locked(folder):
        state = _state(folder)
        if state == "at work":
            _end(int(_record(folder)["pid"]))
        shutil.rmtree(str(folder), ignore_errors=True)
    return {"was": state}


def jobs_dir(workdir: Path, run_id: str) -> Path:
    """Return the folder of a run's evaluation jobs; it is removed with the run."""
    return workdir / layout.INSPECTIONS / run_id


def running_jobs(workdir: Path) -> list[dict[str, Any]]:
    """Return {run_id, python} of each running job."""
    records = [
        path for path in (workdir / layout.INSPECTIONS).glob("*/*/" + RECORD) if _state(path.parent) == "at work"
    ]
    return [{"run_id": path.parent.parent.name, "python": str(_record(path.parent).get("python"))} for path in records]


def _folder(workdir: Path, arguments: dict[str, Any]) -> Path:
    run, name = run_processes.find(str(workdir), arguments["run_id"]), str(arguments["name"])
    if not re.fullmatch(_NAME, name):
        raise AgentRefusal(f"{name[:60]!r} cannot name an inspection.", "", 2)
    folder = jobs_dir(workdir, run.run_id) / name
    private_dirs.make(str(folder))
    check_private(str(folder), str(workdir))
    return folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock under which jobs start: two requests at once start one job. It ends with its holder."""
    with open(os.open(str(folder.parent / ".lock"), os.O_RDWR | os.O_CREAT, 0o600), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _state(folder: Path) -> str:
    """Return "none", "at work", "done" (exit code 0) or "failed" (another exit code, or killed)."""
    record = _record(folder)
    ticks = start_ticks(record["pid"]) if record.get("boot_id") == boot_id() else None
    # Its code is read after its process was looked for: it writes that before it ends.
    code = _code(folder)
    if code is not None:
        return "failed" if code else "done"
    if not record:
        return "none"
    return "failed" if ticks is None or ticks != record.get("start_ticks") else "at work"


def _begin(workdir: Path, folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Start the engine as a process of its own with low priority, and return its record."""
    shutil.rmtree(str(folder / "out"), ignore_errors=True)
    for name in ("said", "code", RECORD):
        (folder / name).unlink(missing_ok=True)
    claim, on = None, "the CPU"
    if arguments.get("gpu") != ON_CPU:
        claim, on = gpu_choice.claim_for_evaluation(str(workdir), folder.parent.name, arguments.get("gpu"))
    devices = "" if claim is None else claim.record["gpus"][0]
    words = [word if isinstance(word, str) else str(workdir / word[0]) for word in arguments["argv"]]
    engine = ["nice", "-n", str(NICENESS), home_path(arguments["python"]), "-m", "giblet_train", *words]
    process = subprocess.Popen(
        ["/bin/sh", "-c", "umask 077; " + _SCRIPT, "giblet-inspection", str(folder), *engine],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # No stop of a run matches this mark. It shows that the process belongs to giblet.
        env=dict(os.environ, GIBLET_RUN_ID=f"{folder.parent.name}:{folder.name}", CUDA_VISIBLE_DEVICES=devices),
        start_new_session=True,
        # The job keeps the claim for as long as any of its processes lives.
        pass_fds=() if claim is None else (claim.fd,),
    )
    if claim is not None:
        claim.add_process(process.pid)
        claim.close()
    record = {
        "pid": process.pid,
        "start_ticks": start_ticks(process.pid),
        "boot_id": boot_id(),
        "begun_at": time.time(),
        "asked": arguments["asked"],
        "on": on,
        "python": engine[3],
    }
    write_record(str(folder / RECORD), record)
    return record


def _send_output(folder: Path, mark: Any, emit: Emit) -> None:
    """Stream the job's output, line by line, until it has ended."""
    ended = False
    while not ended:
        # The state is read before the output, so that the last lines are complete.
        ended = _state(folder) != "at work"
        more = True
        while more:
            piece = tail.read_new(folder / "said", mark, None, ended)
            more = bool(piece and piece["more"])
            if piece is not None:
                mark = piece["mark"]
                emit({"said": piece["text"].splitlines(), "mark": mark})
        if not ended:
            time.sleep(_POLL_S)


def _end(pid: int) -> None:
    """End the process and all its descendants. Raises AgentRefusal if one survives."""
    whole = {member: start_ticks(member) for member in {pid} | descendants([pid])}
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)
        deadline = time.monotonic() + _END_LIMIT_S
        while time.monotonic() < deadline:
            survivors = [
                process for process, ticks in whole.items() if ticks is not None and start_ticks(process) == ticks
            ]
            if not survivors:
                return
            time.sleep(_POLL_S)
    raise AgentRefusal(f"It cannot be ended: pid {', '.join(map(str, survivors))} survives.", "", 4)


def _files(out: Path) -> list[dict[str, Any]]:
    files = []
    for path in sorted(out.iterdir()) if out.is_dir() else ():
        if path.is_file() and not path.is_symlink():
            digest = hashlib.sha256()
            with path.open("rb") as file:
                for piece in iter(lambda: file.read(1 << 20), b""):
                    digest.update(piece)
            files.append({"name": path.name, "bytes": path.stat().st_size, "sha256": digest.hexdigest()})
    return files


def _record(folder: Path) -> dict[str, Any]:
    record = read_record(str(folder / RECORD))
    return record if isinstance(record.get("pid"), int) else {}


def _code(folder: Path) -> int | None:
    text = (read_bytes(str(folder / "code")) or b"").decode("ascii", "replace").strip()
    return int(text) if text.isdigit() else None


OPERATIONS = {"inspect": start_evaluation, "end_inspection": end_inspection}
