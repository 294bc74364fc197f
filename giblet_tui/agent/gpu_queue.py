"""The queue of runs that wait for free GPUs: each supervisor polls it until its run may take GPUs.

Part of the supervisor: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from typing import Any

from giblet_tui.agent import gpu_allocation, gpu_claims, gpu_state, layout
from giblet_tui.agent.proc import boot_id, start_ticks
from giblet_tui.agent.records import read_record


class GpuQueue:
    """One waiting run's place in the queue of its working directory."""

    def __init__(self, run_dir: str, run_id: str, awaits: dict[str, Any], update_record: Callable[..., bool]) -> None:
        """Prepare to wait.

        Args:
            awaits: `n_gpus`, how many; `among`, which UUIDs; `every_s`, the time between two polls.
            update_record: adds fields to supervisor.json; returns False if the disk has no room for them.
        """
        self.every_s = float(awaits["every_s"])
        self._folder = os.path.dirname(run_dir)
        self._run_id = run_id
        self._n_gpus = int(awaits["n_gpus"])
        self._among = set(awaits["among"])
        self._update_record = update_record
        self._free_before: list[str] = []
        self._sentence = ""

    def poll(self) -> gpu_claims.GpuClaim | None:
        """Claim enough GPUs that were free at two polls in a row; return the claim, or None for now."""
        with open(layout.gpu_lock(os.path.dirname(self._folder)), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = gpu_state.observe_gpus()
            ahead, n_behind = self._other_waiting_runs()
            free = [card["uuid"] for card in gpu_allocation.choose(state["gpus"], len(state["gpus"]))]
            available = gpu_allocation.free_after_queue(free, ahead)
            steady = [uuid for uuid in available if uuid in self._among and uuid in self._free_before]
            claim = self._claim(steady[: self._n_gpus]) if len(steady) >= self._n_gpus else None
            if claim is not None:
                return claim
        place = len(ahead) + 1 if ahead or n_behind else 0
        n_free = sum(uuid in self._among for uuid in free)
        self._report(waiting_sentence(self._n_gpus, n_free, len(self._among), str(state["gpu_note"]), place))
        self._free_before = free
        return None

    def _claim(self, uuids: list[str]) -> gpu_claims.GpuClaim | None:
        """Claim the GPUs and record them; None if another start was faster or a disk is full: then it waits longer."""
        try:
            claim = gpu_claims.claim(self._run_id, uuids)
        except OSError:
            return None
        if gpu_claims.conflicting(claim) or not self._update_record(gpus=uuids):
            claim.release()
            return None
        return claim

    def _report(self, sentence: str) -> None:
        if sentence != self._sentence and self._update_record(waiting_for=sentence):
            self._sentence = sentence

    def _other_waiting_runs(self) -> tuple[list[dict[str, Any]], int]:
        """Return what runs of this folder wait for that came earlier, in their order, and the number that came later.

        Only runs that wait for some of the same GPUs count.
        """
        ahead: list[tuple[tuple[int, str], dict[str, Any]]] = []
        n_behind = 0
        own = (start_ticks(os.getpid()) or 0, self._run_id)
        for run, supervisor in living_runs(self._folder):
            awaits, key = run.get("awaits"), (supervisor["start_ticks"], str(run.get("run_id")))
            if key == own or not awaits or supervisor.get("gpus") or not self._among & set(awaits["among"]):
                continue
            if key > own:
                n_behind += 1
            elif not os.path.exists(os.path.join(self._folder, key[1], layout.STOP)):
                ahead.append((key, awaits))
        return [awaits for _, awaits in sorted(ahead, key=lambda entry: entry[0])], n_behind


def living_runs(folder: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield run.json and supervisor.json of each run in a folder whose supervisor lives on this machine."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.exists(os.path.join(path, layout.EXIT)):
            continue
        supervisor = read_record(os.path.join(path, layout.SUPERVISOR))
        run = read_record(os.path.join(path, layout.RUN))
        pid = supervisor.get("pid")
        if not run or not isinstance(pid, int) or supervisor.get("boot_id") != boot_id():
            continue
        if start_ticks(pid) == supervisor.get("start_ticks"):
            yield run, supervisor


def waiting_sentence(n_gpus: int, n_free: int, n_among: int, note: str, place: int = 0) -> str:
    """Describe for people what a run waits for.

    Args:
        note: why no GPU can be seen, or empty.
        place: place in the queue, from 1; 0 if no other run waits.
    """
    state = note or "%d of %d are free" % (n_free, n_among)
    line = "; number %d in line" % place if place else ""
    return "%d free %s (%s%s)" % (n_gpus, "GPU" if n_gpus == 1 else "GPUs", state, line)
