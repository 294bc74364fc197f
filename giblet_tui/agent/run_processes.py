"""Finds everything that a run has on this node: records, supervisor, processes.

A process belongs to a run if its environment contains GIBLET_RUN_ID=<run id> (for an adopted run: its session's mark),
if its standard output or error is open for writing inside the run directory, or if it descends from such a process. An
editor, a pager or `tail -F` in the run directory matches none of these.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from giblet_tui.agent import layout, machine, process_list, sessions, slurm
from giblet_tui.agent.main import AgentRefusal, check_private, home_path
from giblet_tui.agent.proc import boot_id, descendants, start_ticks, stat_fields, user_name
from giblet_tui.agent.records import read_record

_MARK = layout.MARK_VARIABLE.encode() + b"="


class LocalRun:
    """A run directory of this user on this node."""

    def __init__(self, path: Path) -> None:
        """path: a resolved run directory, as checked by `find` or `all_runs`."""
        self.path = path
        self.run_id = path.name

    @property
    def session(self) -> str:
        return layout.session_name(self.run_id)

    @property
    def adopted(self) -> dict[str, Any]:
        """Return the adoption record of a run that was started by hand; empty for giblet's own runs."""
        adoption = self.record(layout.RUN).get("adopted")
        return adoption if isinstance(adoption, dict) else {}

    @property
    def mark(self) -> str:
        """Return the GIBLET_RUN_ID of its processes: the run id, plus @rank on the further nodes of a run."""
        rank = self.record(layout.RUN).get("node_rank")
        return f"{self.run_id}@{rank}" if rank else self.run_id

    def record(self, name: str) -> dict[str, Any]:
        """Return the content of one of its small JSON files; empty if it is missing or unreadable."""
        return read_record(str(self.path / name))

    @property
    def ended(self) -> bool:
        return (self.path / layout.EXIT).exists()

    @property
    def is_scheduled(self) -> bool:
        """Return True if it is a job of a scheduler, which runs it on a machine of its choice."""
        return sessions.starts_later(str(self.record(layout.RUN).get("multiplexer")))

    @property
    def has_job(self) -> bool:
        """Return True if a scheduler lists a live job of it, or does not answer."""
        if not self.is_scheduled or self.ended:
            return False
        jobs = slurm.jobs()
        job = jobs.get(self.session) if jobs is not None else None
        return jobs is None or (job is not None and job.is_live)

    @property
    def on_other_host(self) -> str:
        """Return the other machine, sharing this directory, that it was started on; empty if it was this one.

        A scheduled run is on no other host: any machine with the scheduler's programs can end it.
        """
        if self.is_scheduled:
            return ""
        run = self.record(layout.RUN)
        if machine.started_here(run, self.record(layout.SUPERVISOR)):
            return ""
        return str(run.get("hostname") or "another machine")

    @property
    def rebooted(self) -> bool:
        """Return True if it was started in an earlier boot."""
        here = boot_id()
        return not self.is_scheduled and bool(self.record(layout.SUPERVISOR).get("boot_id", here) != here)

    def supervisor(self) -> int | None:
        """Return the pid of its living supervisor, or None. Boot and start time must match, because pids are reused."""
        record = self.record(layout.SUPERVISOR)
        pid, ticks = record.get("pid"), record.get("start_ticks")
        if not isinstance(pid, int) or record.get("boot_id") != boot_id() or ticks is None:
            return None
        return pid if start_ticks(pid) == ticks else None

    @property
    def supervisor_lost(self) -> bool:
        """Return True if its supervisor was killed in this boot: it left neither itself nor an exit record."""
        started = bool(self.record(layout.SUPERVISOR)) and not (self.rebooted or self.adopted or self.is_scheduled)
        return started and not self.ended and self.supervisor() is None

    def processes_in(self, pids_by_mark: dict[str, set[int]]) -> set[int]:
        """Return its own processes: those in the result of `marks`, and those that its supervisor recorded."""
        pids = pids_by_mark.get(self.mark, set()) | pids_by_mark.get(f"{self.run_id}/", set())
        return pids | (process_list.recorded(str(self.path)) - _self_and_ancestors())

    def ended_pids(self) -> set[int]:
        """Return the recorded processes that have ended: a GPU may still count memory in their names."""
        if self.rebooted or not _all_are_seen():
            return set()
        ending = self.record(layout.EXIT)
        pids = [self.record(layout.HEARTBEAT).get("pid"), *ending.get("killed", ()), *ending.get("survivors", ())]
        return {pid for pid in pids if isinstance(pid, int) and start_ticks(pid) is None}

    def processes(self) -> dict[int, int]:
        """Return pid and start time of each of its living processes, found by mark and by descent."""
        pids = self.processes_in(marks(self.path.parent))
        supervisor = self.supervisor()
        if supervisor is not None:
            pids.add(supervisor)
        return with_descendants(pids)


def find(workdir: str, run_id: str) -> LocalRun:
    """Return the run with that id.

    Raises AgentRefusal if it does not exist, belongs to another user, or could have been changed by one: its records
    say which processes a stop ends.
    """
    run = _find_unchecked(workdir, run_id)
    check_private(str(run.path), str(run.path.parent.parent))
    return run


def _find_unchecked(workdir: str, run_id: str) -> LocalRun:
    """Return the run with that id. Raises AgentRefusal if its directory does not exist or belongs to another user."""
    if not layout.is_run_id(run_id):
        raise AgentRefusal(f"{run_id[:60]!r} is not a run id.", "`giblet ps -a` lists them.", 2)
    path = runs_folder(workdir) / run_id
    try:
        owner = path.lstat().st_uid
    except FileNotFoundError:
        if living := sorted(marks(path.parent).get(run_id, ())):
            pids = " ".join(map(str, living))
            raise AgentRefusal(
                f"The directory of {run_id} was removed, but its processes are still running: {pids}.",
                f"End them: kill {pids}",
                4,
            ) from None
        raise AgentRefusal(
            f"There is no run {run_id} in {path.parent} on this node.", "`giblet ps -a` lists them.", 2
        ) from None
    if owner != os.getuid():
        raise AgentRefusal(f"The run {run_id} belongs to {user_name(owner)}.", "Only its owner can do that.", 5)
    if path.is_symlink() or not (path / layout.RUN).is_file():
        raise AgentRefusal(f"{path} is not a run directory: it has no run.json.", "`giblet ps -a` lists runs.", 2)
    return LocalRun(path)


def all_runs(workdir: str) -> list[LocalRun]:
    """Return every run of this user in a working directory.

    Also those that others could have changed: what a live run needs must stay, and no list may hide it.
    """
    folder = runs_folder(workdir)
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    runs = []
    for name in names:
        with contextlib.suppress(AgentRefusal):
            runs.append(_find_unchecked(workdir, name))
    return runs


def waiting(workdir: str) -> list[LocalRun]:
    """Return the runs that wait for GPUs, in the order of their start."""
    queue = []
    for run in all_runs(workdir):
        supervisor = run.record(layout.SUPERVISOR)
        if run.record(layout.RUN).get("awaits") and not (run.ended or supervisor.get("gpus")) and run.supervisor():
            queue.append((supervisor["start_ticks"], run.run_id, run))
    return [run for _, _, run in sorted(queue, key=lambda each: each[:2])]


def runs_folder(workdir: str) -> Path:
    """Return <workdir>/runs with every link resolved. Raises AgentRefusal if workdir is not an absolute path."""
    return Path(os.path.realpath(home_path(workdir))) / layout.RUNS


def marks(folder: Path) -> dict[str, set[int]]:
    """Map each mark to this user's processes that carry it, and `<run id>/` to those that write in that run directory.

    folder: the parent of the run directories.
    """
    pids_by_mark: dict[str, set[int]] = {}
    by_hand = _adopted_marks(folder)
    for pid in _own_processes():
        for run_id in _marks_of(pid, f"{folder}/", by_hand):
            pids_by_mark.setdefault(run_id, set()).add(pid)
    return pids_by_mark


def with_mark(variable: str) -> set[int]:
    """Return this user's processes that have exactly this `NAME=value` in their environment."""
    return {
        pid for pid in _own_processes() if variable.encode("utf-8", "surrogateescape") in _environment(_thread(pid))
    }


def _own_processes() -> Iterator[int]:
    own_pids = _self_and_ancestors()
    for name in (entry.name for entry in Path("/proc").iterdir()):
        pid = int(name) if name.isdigit() else 0
        if pid and pid not in own_pids and _is_ours(pid):
            yield pid


def _adopted_marks(folder: Path) -> dict[bytes, str]:
    """Map environment variables to the live adopted runs of this boot that they mark."""
    run_ids: dict[bytes, str] = {}
    for path in folder.glob(f"*/{layout.MONITOR}"):
        run = LocalRun(path.parent)
        mark = run.adopted.get("mark")
        if mark and not run.ended and not run.rebooted and not run.on_other_host:
            run_ids[str(mark).encode("utf-8", "surrogateescape")] = run.run_id
    return run_ids


def with_descendants(pids: set[int]) -> dict[int, int]:
    """Return pid and start time of these processes and all their descendants, if alive."""
    everyone = (pids | descendants(pids)) - _self_and_ancestors() if pids else set()
    ticks = {pid: start_ticks(pid) for pid in everyone}
    return {pid: start for pid, start in ticks.items() if start is not None}


def description(pid: int) -> dict[str, Any]:
    """Describe a process for a person: pid, uid, cmdline, and what it waits for in the kernel."""
    details: dict[str, Any] = {"pid": pid, "uid": None, "cmdline": "", "wchan": ""}
    thread = _thread(pid)
    with contextlib.suppress(OSError):
        details["uid"] = Path(f"/proc/{pid}").stat().st_uid
        details["cmdline"] = (thread / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        details["wchan"] = (thread / "wchan").read_text()
    return details


def unclaimed(holders: Mapping[int, Any], run_pids: set[int]) -> list[int]:
    """Return this user's (or ended) processes that hold GPU memory and belong to no run of giblet."""
    seen_all = _all_are_seen()
    pids = []
    for pid in sorted(set(holders) - run_pids):
        has_ended = start_ticks(pid) is None
        marked = any(variable.startswith(_MARK) for variable in _environment(_thread(pid)))
        if (seen_all if has_ended else _is_ours(pid)) and not marked:
            pids.append(pid)
    return pids


def _environment(thread: Path) -> list[bytes]:
    """Return a process's initial environment variables; none if they cannot be read."""
    try:
        return (thread / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _marks_of(pid: int, inside: str, by_hand: Mapping[bytes, str]) -> set[str]:
    marks_found: set[str] = set()
    thread = _thread(pid)
    for variable in _environment(thread):
        if variable.startswith(_MARK):
            marks_found.add(variable[len(_MARK) :].decode("utf-8", "replace"))
        elif variable in by_hand:
            marks_found.add(by_hand[variable])
    for stream in (1, 2):
        with contextlib.suppress(OSError, ValueError):
            target = os.readlink(str(thread / f"fd/{stream}"))
            if target.startswith(inside) and writable(pid, stream):
                marks_found.add(target[len(inside) :].partition("/")[0] + "/")
    return marks_found


def writable(pid: int, stream: int) -> bool:
    """Return True if the process has this stream open for writing. Raises OSError or ValueError if that is unknown."""
    info = (_thread(pid) / f"fdinfo/{stream}").read_text()
    flags = next((line.split()[1] for line in info.splitlines() if line.startswith("flags:")), "0")
    return int(flags, 8) & (os.O_WRONLY | os.O_RDWR) != 0


def _all_are_seen() -> bool:
    """Return True if other users' processes are visible. With hidepid, an invisible process need not have ended."""
    return start_ticks(1) is not None


def _thread(pid: int) -> Path:
    """Return the /proc directory of a living thread: the process itself, unless its first thread has ended."""
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
    pids: set[int] = set()
    pid = os.getpid()
    while pid > 1 and pid not in pids:
        pids.add(pid)
        fields = stat_fields(pid)
        pid = int(fields[1]) if fields else 0
    return pids
