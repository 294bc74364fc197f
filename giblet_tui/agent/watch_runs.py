"""Watches runs on this node: sends each run's changed files and new lines once, then repeatedly.

Events are `{"run": {...}}`, one for each change of a run, and `{"tick": {...}}` after each round. A run that has ended
and was read costs a few stat calls every half minute.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from giblet_tui.agent import host_info, lab, layout, machine, sessions, slurm
from giblet_tui.agent.main import INPUT, Emit, Operation, home_path
from giblet_tui.agent.proc import start_ticks
from giblet_tui.agent.records import read_bytes
from giblet_tui.agent.tail import read_new

SMALL_FILES = (layout.RUN, layout.SUPERVISOR, layout.HEARTBEAT, layout.EXIT, layout.CAUSE)
FULL_FILES = (layout.CONFIG, layout.BRAIN)
TAILED = {layout.METRICS: None, layout.ALERTS: None, layout.ANSWERS: None, layout.LOG: 64 * 1024}
"""File -> how much of its end is read at first; None = all."""

ENDED_PAUSE_S = 30.0
HEARTBEAT_S = 1.0
FACTS_S = 2.0
SLOW_FACTS_S = 5.0


def observe(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Read all runs once and send the node's facts.

    arguments: workdir; runs, ids to read (else all); n_full, how many ended runs, newest first, are read with
    configuration, metrics and log (only small files of older ones); marks {run id: {file: mark}}, how far each was
    read before; files, which of TAILED (else all); log_bytes, how much of a log's end; lab, a group whose members' runs
    are read too, as far as they are open to it.
    """
    rounds = RunPoller(arguments)
    rounds.poll(emit)
    emit({"tick": {**rounds.tick(), "facts": {**host_info.fast_facts(arguments["workdir"]), **host_info.slow_facts()}}})
    return {}


def watch(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Repeat rounds, interval_s apart, for ever: send only changes, and a tick at least every second."""
    INPUT.end_without_client()
    rounds = RunPoller(arguments)
    slow = host_info.BackgroundFacts(SLOW_FACTS_S)
    last_facts: dict[str, Any] = {}
    ticked_at = facts_at = -SLOW_FACTS_S
    while True:
        began = time.monotonic()
        news = rounds.poll(emit)
        if news or began - ticked_at >= HEARTBEAT_S:
            tick = rounds.tick()
            if began - facts_at >= FACTS_S or slow.latest() is not last_facts:
                last_facts, facts_at = slow.latest(), began
                tick["facts"] = {**host_info.fast_facts(arguments["workdir"]), **last_facts}
            emit({"tick": tick})
            ticked_at = began
        time.sleep(max(0.01, arguments["interval_s"] - (time.monotonic() - began)))


def runs(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Return {runs: [run id]}, newest first. arguments: workdir."""
    return {"runs": _run_ids(Path(home_path(arguments["workdir"])) / layout.RUNS)}


class RunPoller:
    """All run directories of a working directory, and what was sent of each."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._folder = Path(home_path(arguments["workdir"])) / layout.RUNS
        self._members = _members(arguments)
        self._only = arguments.get("runs")
        self._n_full = arguments.get("n_full", 20)
        self._marks = arguments.get("marks") or {}
        self._files = {name: TAILED[name] for name in arguments.get("files") or TAILED}
        if layout.LOG in self._files and arguments.get("log_bytes") is not None:
            self._files[layout.LOG] = arguments["log_bytes"]
        self._watched: dict[str, RunWatcher] = {}
        self._boot_id = host_info.this_boot()
        self._last_sent: list[str] | None = None

    def poll(self, emit: Emit) -> bool:
        """Send what is new. Returns True if anything was."""
        places = _places(self._folder, self._members)
        present = [run_id for run_id in places if self._only is None or run_id in self._only]
        for run_id in set(self._watched) - set(present):
            del self._watched[run_id]
        n_ended = 0
        news = False
        for run_id in present:
            if run_id not in self._watched:
                self._watched[run_id] = RunWatcher(*places[run_id], self._marks.get(run_id, {}), self._boot_id)
            run = self._watched[run_id]
            pieces: Iterable[dict[str, Any]] = run.poll() if run.is_due else ()
            n_ended += run.ended
            if run.is_due and (not run.ended or n_ended <= self._n_full):
                pieces = itertools.chain(pieces, run.read(self._files))
            for piece in pieces:
                emit({"run": piece})
                news = True
            run.schedule_next()
        return news

    def tick(self) -> dict[str, Any]:
        """Return the end of a round: the node's clock and boot, and the list of runs if it changed."""
        tick = {"now": time.time(), "boot_id": self._boot_id}
        present = [run_id for run_id, run in self._watched.items() if run.is_run]
        if present != self._last_sent:
            self._last_sent = tick["present"] = present
        return tick


class RunWatcher:
    """One run directory, and what was sent of it. A directory without run.json is no run."""

    def __init__(self, path: Path, owner: str, marks: dict[str, Any], boot_id: str) -> None:
        """owner: another user whose run it is; empty: this user's."""
        self.path = path
        self._owner = owner
        self.is_run = False
        self.ended = False
        self._due_at = 0.0
        self._marks = dict(marks)
        self._boot_id = boot_id
        self._stamps: dict[str, Any] = {}
        self._supervisor: dict[str, Any] = {}
        self._run: dict[str, Any] = {}
        self._last_sent: dict[str, Any] = {}

    @property
    def is_due(self) -> bool:
        """Return True if it is time to look at the run again."""
        return time.monotonic() >= self._due_at

    def schedule_next(self) -> None:
        """Plan the next look; a run that has ended is looked at seldom."""
        if self.is_due:
            self._due_at = time.monotonic() + (ENDED_PAUSE_S if self.ended else 0.0)

    def poll(self) -> list[dict[str, Any]]:
        """Return what changed except growing files: [{run_id, files, checkpoints, process, here}], or nothing."""
        files = self._changed(SMALL_FILES)
        self.is_run = self._stamps[layout.RUN] is not None
        self.ended = self._stamps[layout.EXIT] is not None
        if layout.SUPERVISOR in files:
            self._supervisor = _mapping(files[layout.SUPERVISOR])
        if layout.RUN in files:
            self._run = _mapping(files[layout.RUN])
        news: dict[str, Any] = {**({"files": files} if files else {}), **self._checkpoints()}
        alive = self._process()
        if alive != self._last_sent:
            self._last_sent = alive
            news.update(alive)
        owner = {"owner": self._owner} if self._owner else {}
        return [{"run_id": self.path.name, **owner, **news}] if news and self.is_run else []

    def read(self, offsets: dict[str, int | None]) -> Iterator[dict[str, Any]]:
        """Yield its configuration and appended lines: {run_id, files} and {run_id, appended: {file: piece}}."""
        if not self.is_run:
            return
        if files := self._changed(FULL_FILES):
            yield {"run_id": self.path.name, "files": files}
        for name, last_bytes in offsets.items():
            while True:
                piece = read_new(self.path / name, self._marks.get(name), last_bytes, self.ended)
                if piece is None:
                    break
                self._marks[name] = piece["mark"]
                yield {"run_id": self.path.name, "appended": {name: piece}}
                if not piece["more"]:
                    break

    def _changed(self, names: tuple[str, ...]) -> dict[str, str | None]:
        """Return the texts of changed files; None for a deleted one."""
        changes: dict[str, str | None] = {}
        for name in names:
            stamp = _stamp(self.path / name)
            if name not in self._stamps or stamp != self._stamps[name]:
                changes.update({name: _text(self.path / name)} if stamp or self._stamps.get(name) else {})
                self._stamps[name] = stamp
        return changes

    def _checkpoints(self) -> dict[str, Any]:
        folder = self.path / layout.CHECKPOINTS
        stamp = _stamp(folder)
        if stamp == self._stamps.get("checkpoints"):
            return {}
        self._stamps["checkpoints"] = stamp
        try:
            names = sorted(entry.name for entry in folder.iterdir() if entry.suffix == ".json")
        except OSError:
            names = []
        return {"checkpoints": [text for text in (_text(folder / name) for name in names) if text is not None]}

    def _process(self) -> dict[str, Any]:
        """Return {process, here, same_machine}; None = unknown.

        process: its supervisor lives. here: it was started in this boot of this machine; same_machine: in any boot.
        """
        if sessions.starts_later(str(self._run.get("multiplexer"))):
            return self._job()
        same_machine = machine.started_here(self._run, self._supervisor)
        pid, boot = self._supervisor.get("pid"), self._supervisor.get("boot_id")
        if not isinstance(pid, int):
            return {"process": False, "here": None, "same_machine": same_machine}
        here = boot == self._boot_id
        is_alive = here and start_ticks(pid) == self._supervisor.get("start_ticks")
        return {"process": is_alive, "here": here, "same_machine": same_machine}

    def _job(self) -> dict[str, Any]:
        """Return {process, here, same_machine, pending, job_end} of a run that is a job of a scheduler."""
        jobs = slurm.jobs()
        job = jobs.get(layout.session_name(self.path.name)) if jobs is not None else None
        return {
            "process": None if jobs is None else job is not None and job.is_live,
            "here": True if self._supervisor else None,
            "same_machine": True,
            "pending": slurm.pending_sentence(job) if job is not None else "",
            "job_end": slurm.end_sentence(job) if job is not None else "",
        }


def find_directory(arguments: dict[str, Any]) -> Path | None:
    """Return the directory of a colleague's run that this user may read; None for other runs.

    arguments: workdir; run_id; lab.
    """
    own = Path(home_path(arguments["workdir"])) / layout.RUNS
    path, owner = _places(own, _members(arguments)).get(arguments["run_id"], (None, ""))
    return path if owner else None


def _members(arguments: dict[str, Any]) -> list[lab.Member]:
    return lab.other_members(arguments["workdir"], arguments["lab"]) if arguments.get("lab") else []


def _places(own: Path, members: list[lab.Member]) -> dict[str, tuple[Path, str]]:
    """Map each run id to its directory and its owner, "" for this user, whose runs hide others of the same id."""
    places = {run_id: (own / run_id, "") for run_id in _run_ids(own)}
    for member in members:
        folder = Path(member.workdir) / layout.RUNS
        for run_id in _run_ids(folder):
            if run_id not in places and lab.is_owned_by(str(folder / run_id), member.uid):
                places[run_id] = folder / run_id, member.user
    return places


def _run_ids(folder: Path) -> list[str]:
    """List run ids, newest first: the launch time is at a fixed distance from the end of every id."""
    try:
        with os.scandir(str(folder)) as entries:
            names = [entry.name for entry in entries if layout.is_run_id(entry.name)]
    except OSError:
        return []
    return sorted(names, key=lambda name: name[-20:], reverse=True)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _text(path: Path) -> str | None:
    content = read_bytes(str(path))
    return None if content is None else content.decode("utf-8", "surrogateescape")


def _mapping(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


OPERATIONS: dict[str, Operation] = {"observe": observe, "watch": watch, "runs": runs}
