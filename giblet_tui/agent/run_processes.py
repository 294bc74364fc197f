"""What a run still has on this node: its records, its supervisor, its processes, the GPUs they hold.

A process belongs to a run when its environment has GIBLET_RUN_ID=<run id> (an adopted run's: the mark of its session),
or its standard output or error is open for writing inside the run directory, or it descends from one of these. An
editor, a pager or `tail -F` there has none.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from giblet_tui.agent.main import AgentRefusal, home_path
from giblet_tui.agent.supervisor import boot_id, descendants, start_ticks, stat_fields

RUN_ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,39}-\d{8}-\d{6}-[0-9a-f]{4}$"
_MARK = b"GIBLET_RUN_ID="


class LocalRun:
    """A run directory of this user on this node."""

    def __init__(self, path: Path) -> None:
        """path: a resolved run directory that `find` or `all_runs` has vouched for."""
        self.path = path
        self.run_id = path.name

    @property
    def session(self) -> str:
        return f"gib-{self.run_id}"

    @property
    def adopted(self) -> dict[str, Any]:
        """The session that somebody started by hand, as `adopting` recorded it; empty for a run of giblet's own."""
        found = self.record("run.json").get("adopted")
        return found if isinstance(found, dict) else {}

    @property
    def mark(self) -> str:
        """What its processes have as GIBLET_RUN_ID: its id; on the further nodes of a run, with their place."""
        rank = self.record("run.json").get("node_rank")
        return f"{self.run_id}@{rank}" if rank else self.run_id

    def record(self, name: str) -> dict[str, Any]:
        """One of its small JSON files; empty when there is none, or none that can be read."""
        try:
            value = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def ended(self) -> bool:
        return (self.path / "exit.json").exists()

    @property
    def on_other_host(self) -> str:
        """The other machine, sharing this directory, that it was started on; empty when it was this one."""
        host = str(self.record("run.json").get("hostname") or os.uname().nodename)
        return "" if host == os.uname().nodename else host

    @property
    def rebooted(self) -> bool:
        """Was it started in an earlier boot?"""
        here = boot_id()
        return bool(self.record("supervisor.json").get("boot_id", here) != here)

    def supervisor(self) -> int | None:
        """The pid of its living supervisor: of this boot, and started when the record says, for pids are reused."""
        found = self.record("supervisor.json")
        pid, ticks = found.get("pid"), found.get("start_ticks")
        if not isinstance(pid, int) or found.get("boot_id") != boot_id() or ticks is None:
            return None
        return pid if start_ticks(pid) == ticks else None

    def processes_in(self, found: dict[str, set[int]]) -> set[int]:
        """Its own among the processes that `marks` found."""
        return found.get(self.mark, set()) | found.get(f"{self.run_id}/", set())

    def ended_pids(self) -> set[int]:
        """Processes that its records name, and that have ended since: a GPU may still count memory in their names."""
        if self.rebooted or not _all_are_seen():
            return set()
        ending = self.record("exit.json")
        named = [self.record("heartbeat.json").get("pid"), *ending.get("killed", ()), *ending.get("survivors", ())]
        return {pid for pid in named if isinstance(pid, int) and start_ticks(pid) is None}

    def processes(self) -> dict[int, int]:
        """pid and start time of every living process of it, by its marks and by descent."""
        marked = self.processes_in(marks(self.path.parent))
        supervisor = self.supervisor()
        if supervisor is not None:
            marked.add(supervisor)
        return with_descendants(marked)


def find(workdir: str, run_id: str) -> LocalRun:
    """The run of that id. Raises AgentRefusal when there is none, or it is not this user's."""
    if not is_run_id(run_id):
        raise AgentRefusal(f"{run_id[:60]!r} is not a run id.", "`giblet ps -a` lists them.", 2)
    path = runs_folder(workdir) / run_id
    try:
        owner = path.lstat().st_uid
    except FileNotFoundError:
        raise AgentRefusal(
            f"There is no run {run_id} in {path.parent} on this node.", "`giblet ps -a` lists them.", 2
        ) from None
    if owner != os.getuid():
        raise AgentRefusal(f"The run {run_id} belongs to {user_name(owner)}.", "Only its owner can do that.", 5)
    if path.is_symlink() or not (path / "run.json").is_file():
        raise AgentRefusal(f"{path} is not a run directory: it has no run.json.", "`giblet ps -a` lists runs.", 2)
    return LocalRun(path)


def is_run_id(text: str) -> bool:
    """Can a run be called that? Only such text may become part of a path, or a session's name."""
    return re.fullmatch(RUN_ID_PATTERN.rstrip("$"), text) is not None


def all_runs(workdir: str) -> list[LocalRun]:
    """Every run of this user in a working directory."""
    folder = runs_folder(workdir)
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    found = []
    for name in names:
        with contextlib.suppress(AgentRefusal):
            found.append(find(workdir, name))
    return found


def waiting(workdir: str) -> list[LocalRun]:
    """The runs that wait for GPUs, whoever came first first."""
    found = []
    for run in all_runs(workdir):
        supervisor = run.record("supervisor.json")
        if run.record("run.json").get("awaits") and not (run.ended or supervisor.get("gpus")) and run.supervisor():
            found.append((supervisor["start_ticks"], run.run_id, run))
    return [run for _, _, run in sorted(found, key=lambda each: each[:2])]


def runs_folder(workdir: str) -> Path:
    """<workdir>/runs, every link resolved. Raises AgentRefusal when workdir is not an absolute path."""
    return Path(os.path.realpath(home_path(workdir))) / "runs"


def marks(folder: Path) -> dict[str, set[int]]:
    """Mark -> this user's processes that carry it, and `<run id>/` -> those that write into that run's directory.

    folder: where the run directories are.
    """
    found: dict[str, set[int]] = {}
    by_hand = _adopted_marks(folder)
    for pid in _own_processes():
        for run_id in _marks_of(pid, f"{folder}/", by_hand):
            found.setdefault(run_id, set()).add(pid)
    return found


def with_mark(variable: str) -> set[int]:
    """This user's processes that have exactly this `NAME=value` in their environment."""
    return {
        pid for pid in _own_processes() if variable.encode("utf-8", "surrogateescape") in _environment(_thread(pid))
    }


def _own_processes() -> Iterator[int]:
    spared = _self_and_ancestors()
    for name in (entry.name for entry in Path("/proc").iterdir()):
        pid = int(name) if name.isdigit() else 0
        if pid and pid not in spared and _is_ours(pid):
            yield pid


def _adopted_marks(folder: Path) -> dict[bytes, str]:
    """Environment variable -> the adopted run of this boot that it marks, while that has not ended."""
    found: dict[bytes, str] = {}
    for path in folder.glob("*/keeper.json"):
        run = LocalRun(path.parent)
        mark = run.adopted.get("mark")
        if mark and not run.ended and not run.rebooted and not run.on_other_host:
            found[str(mark).encode("utf-8", "surrogateescape")] = run.run_id
    return found


def with_descendants(pids: set[int]) -> dict[int, int]:
    """pid and start time of these processes and all below them, those that live."""
    everyone = (pids | descendants(pids)) - _self_and_ancestors() if pids else set()
    ticks = {pid: start_ticks(pid) for pid in everyone}
    return {pid: started for pid, started in ticks.items() if started is not None}


def description(pid: int) -> dict[str, Any]:
    """What to tell a person about a process: pid, uid, cmdline, and what it waits for in the kernel."""
    facts: dict[str, Any] = {"pid": pid, "uid": None, "cmdline": "", "wchan": ""}
    thread = _thread(pid)
    with contextlib.suppress(OSError):
        facts["uid"] = Path(f"/proc/{pid}").stat().st_uid
        facts["cmdline"] = (thread / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        facts["wchan"] = (thread / "wchan").read_text()
    return facts


def unclaimed(holders: Mapping[int, Any], claimed: set[int]) -> list[int]:
    """Of the processes that hold GPU memory those of this user, or ended, that no run of giblet's accounts for."""
    seen_all = _all_are_seen()
    found = []
    for pid in sorted(set(holders) - claimed):
        gone = start_ticks(pid) is None
        marked = any(variable.startswith(_MARK) for variable in _environment(_thread(pid)))
        if (seen_all if gone else _is_ours(pid)) and not marked:
            found.append(pid)
    return found


def user_name(uid: int) -> str:
    """The login name of a user id, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _environment(thread: Path) -> list[bytes]:
    """A process' variables as it was started with them; none when it cannot be looked at."""
    try:
        return (thread / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _marks_of(pid: int, inside: str, by_hand: Mapping[bytes, str]) -> set[str]:
    found: set[str] = set()
    thread = _thread(pid)
    for variable in _environment(thread):
        if variable.startswith(_MARK):
            found.add(variable[len(_MARK) :].decode("utf-8", "replace"))
        elif variable in by_hand:
            found.add(by_hand[variable])
    for stream in (1, 2):
        with contextlib.suppress(OSError, ValueError):
            target = os.readlink(str(thread / f"fd/{stream}"))
            if target.startswith(inside) and writable(pid, stream):
                found.add(target[len(inside) :].partition("/")[0] + "/")
    return found


def writable(pid: int, stream: int) -> bool:
    """Has the process this stream open for writing? Raises OSError, ValueError when it cannot be looked at."""
    info = (_thread(pid) / f"fdinfo/{stream}").read_text()
    flags = next((line.split()[1] for line in info.splitlines() if line.startswith("flags:")), "0")
    return int(flags, 8) & (os.O_WRONLY | os.O_RDWR) != 0


def _all_are_seen() -> bool:
    """Are other users' processes visible? With hidepid, one that is not seen need not have ended."""
    return start_ticks(1) is not None


def _thread(pid: int) -> Path:
    """Where a living thread of a process is looked at: the process itself, unless its first thread has ended."""
    process = Path(f"/proc/{pid}")
    fields = stat_fields(pid)
    if fields is None or fields[0] != "Z":
        return process
    others = (thread for thread in process.glob("task/*") if thread.name != str(pid))
    return next(others, process)


def _is_ours(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}").stat().st_uid == os.getuid() and stat_fields(pid) is not None
    except OSError:
        return False


def _self_and_ancestors() -> set[int]:
    found: set[int] = set()
    pid = os.getpid()
    while pid > 1 and pid not in found:
        found.add(pid)
        fields = stat_fields(pid)
        pid = int(fields[1]) if fields else 0
    return found
