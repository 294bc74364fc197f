"""The keeper of an adopted run: reads the log that the training writes into metrics, beats for it, and notes its end.

It is no parent of the training and never touches it: how a process ended that is not one's child, nobody can know, and
the records say so. It stands in supervisor.json, where the supervisor of a run of giblet's own does.

Part of the agent, forked from it: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time
from pathlib import Path
from typing import Any

from giblet_tui.agent import run_processes
from giblet_tui.agent.proc import boot_id, start_ticks, stat_fields
from giblet_tui.agent.records import write_record

INTERVAL_S = 0.5
SEARCH_EVERY_S = 10.0
"""How often all of /proc is read for new processes of the session, while known ones live."""
LINE_BYTES = 64 * 1024
_PIECE_BYTES = 1024 * 1024
_GROWTHS_FOR_A_PACE = 5
_SHELLS = {"sh", "bash", "dash", "zsh", "fish", "tcsh", "csh", "ksh", "screen", "tmux", "tmux: server"}


def monitor_adopted_run(run_dir: Path) -> None:
    """Keep a run until no process of its session but idle shells is left."""
    log = os.open(str(run_dir / "keeper.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    run = run_processes.LocalRun(run_dir)
    pid, began_at = os.getpid(), time.time()
    record = {"run_id": run.run_id, "pid": pid, "start_ticks": start_ticks(pid), "boot_id": boot_id()}
    write_record(str(run_dir / "supervisor.json"), {**record, "started_at": began_at, "argv": []})
    log_path = run.adopted.get("log")
    patterns = run.record("keeper.json")
    reader = LogReader(Path(log_path), patterns["epoch"], patterns["escape"]) if log_path else None
    metrics = Metrics(run_dir / "metrics.jsonl")
    session = _Session(str(run.adopted["mark"]))
    while session.lives():
        if reader is not None:
            metrics.take(reader.new_lines(), known_at=began_at)
        _write_heartbeat(run, "training", metrics, reader, session.eldest)
        time.sleep(INTERVAL_S)
    if reader is not None:
        metrics.take(reader.new_lines(), known_at=began_at)
    _write_heartbeat(run, _end_state(run, metrics), metrics, reader, session.eldest)
    ending = {"run_id": run.run_id, "ended_at": time.time(), "code": None, "signal": None}
    stopped = {"killed": [], "survivors": [], "stop_requested": (run_dir / "stop").exists()}
    with contextlib.suppress(FileExistsError):
        write_record(str(run_dir / "exit.json"), {**ending, **stopped}, exclusive=True)


def trainers(pids: set[int]) -> set[int]:
    """Of a session's processes those that are at work: all but shells, multiplexers and this process."""
    return {pid for pid in pids if pid != os.getpid() and _name(pid) not in _SHELLS}


def started_at(pid: int) -> float:
    """When a process started, seconds since 1970; now when it is gone."""
    ticks = start_ticks(pid)
    if ticks is None:
        return time.time()
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - up_s + ticks / os.sysconf("SC_CLK_TCK")


class LogReader:
    """The epochs in a growing log. A log that is cut short or replaced is read from its start."""

    def __init__(self, path: Path, epoch: str, escape: str) -> None:
        """epoch: finds (epoch, of how many, train, validation, r, rate) in a line; escape: what is no text in one."""
        self._path = path
        self._epoch = re.compile(epoch, re.IGNORECASE)
        self._escape = re.compile(escape)
        self._offset, self._inode, self._rest = 0, -1, b""
        self._grew_at: float | None = None
        self._silences: list[float] = []

    @property
    def changed_at(self) -> float | None:
        """When the log last grew; None when it is not there."""
        try:
            return self._path.stat().st_mtime
        except OSError:
            return None

    @property
    def pace_s(self) -> float | None:
        """The longest silence of the log seen so far, once some were: what is longer by much is a stall."""
        return max(self._silences) if len(self._silences) >= _GROWTHS_FOR_A_PACE else None

    def new_lines(self) -> list[dict[str, Any]]:
        """The epochs told since the last look, as {epoch, n_epochs, train, validation, r, lr}."""
        found: list[dict[str, Any]] = []
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._offset, self._inode, self._rest = 0, status.st_ino, b""
                file.seek(self._offset)
                for piece in iter(lambda: file.read(_PIECE_BYTES), b""):
                    self._note_growth()
                    self._offset += len(piece)
                    *lines, rest = re.split(rb"[\r\n]", self._rest + piece)
                    self._rest = rest[-LINE_BYTES:]
                    found += filter(None, map(self._parse, lines))
        except OSError:
            pass
        return found

    def _note_growth(self) -> None:
        now = time.monotonic()
        if self._grew_at is not None:
            self._silences = [*self._silences[-99:], now - self._grew_at]
        self._grew_at = now

    def _parse(self, line: bytes) -> dict[str, Any] | None:
        found = self._epoch.search(self._escape.sub("", line[:LINE_BYTES].decode("utf-8", "replace")))
        if found is None:
            return None
        train, validation, r, lr = (_number(found.group(i)) for i in (3, 4, 5, 6))
        numbers = {"train": train, "validation": validation, "r": r, "lr": lr}
        return {"epoch": int(found.group(1)), "n_epochs": int(found.group(2)), **numbers}


class Metrics:
    """metrics.jsonl of an adopted run: an `epoch` record for each epoch in the log, `step` counting epochs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.seq = path.read_bytes().count(b"\n")
        except OSError:
            self.seq = 0
        self._to_skip = self.seq
        self.epoch, self.n_epochs = 0, 0

    def take(self, epochs: list[dict[str, Any]], known_at: float) -> None:
        """Append what was not written before a keeper's death.

        known_at: when reading began; an epoch's own time is not in the log, so it is when its line was read.
        """
        now = time.time()
        for told in epochs:
            self.epoch, self.n_epochs = told["epoch"], told["n_epochs"]
            if self._to_skip:
                self._to_skip -= 1
                continue
            self._append(told, max(now, known_at))

    def _append(self, told: dict[str, Any], at: float) -> None:
        line = {
            "kind": "epoch",
            "seq": self.seq,
            "step": told["epoch"],
            "epoch": told["epoch"],
            "at": at,
            "lr": told["lr"] or 0.0,
            "train": {"total": told["train"], "loss": {}},
            "validation": None if told["validation"] is None else {"total": told["validation"], "loss": {}},
            "fmri_r": told["r"],
        }
        descriptor = os.open(str(self._path), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, json.dumps(line).encode("ascii") + b"\n")
        finally:
            os.close(descriptor)
        self.seq += 1


class _Session:
    """The processes of a session that are at work."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._known: dict[int, int] = {}
        self._search_at = 0.0
        self.eldest = 0

    def lives(self) -> bool:
        self._known = {pid: ticks for pid, ticks in self._known.items() if start_ticks(pid) == ticks}
        if not self._known or time.monotonic() >= self._search_at:
            self._search_at = time.monotonic() + SEARCH_EVERY_S
            self._known = run_processes.with_descendants(trainers(run_processes.with_mark(self._mark)))
            self._known.pop(os.getpid(), None)
        if self._known:
            self.eldest = min(self._known, key=lambda pid: self._known[pid])
        return bool(self._known)


def _write_heartbeat(
    run: run_processes.LocalRun, state: str, metrics: Metrics, reader: LogReader | None, pid: int
) -> None:
    """Its heartbeat: when the log last grew once its pace is known; before that, when its processes were seen."""
    pace_s = reader.pace_s if reader else None
    changed_at = reader.changed_at if reader else None
    done = f"epoch {metrics.epoch} of {metrics.n_epochs} has ended"
    told = f"{done}, by its log" if metrics.epoch else "no epoch told yet"
    beat = {
        "state": state,
        "step": metrics.epoch,
        "epoch": metrics.epoch,
        "phase": told if reader else "no log is known; its processes live",
        "at": changed_at if pace_s is not None and changed_at is not None else time.time(),
        "pid": pid,
        "boot_id": boot_id(),
        "start_ticks": start_ticks(pid) or 0,
        "step_s": pace_s,
        "why": f"{told}; adopted, so its exit code is not known" if state in ("finished", "failed") else "",
    }
    with contextlib.suppress(OSError):  # a full disk: the next beat may have room
        write_record(str(run.path / "heartbeat.json"), beat)


def _end_state(run: run_processes.LocalRun, metrics: Metrics) -> str:
    if (run.path / "stop").exists():
        return "stopped"
    return "finished" if metrics.n_epochs and metrics.epoch >= metrics.n_epochs else "failed"


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip().lower() if stat_fields(pid) else ""
    except OSError:
        return ""


def _number(text: str | None) -> float | None:
    value = float(text) if text else math.nan
    return value if math.isfinite(value) else None
