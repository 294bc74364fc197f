"""The queue of a sweep's runs on a node without GPUs: as many at once as fit, the others wait in their order.

Part of the supervisor: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import Any

from giblet_tui.agent import layout
from giblet_tui.agent.gpu_queue import living_runs
from giblet_tui.agent.proc import start_ticks


class SlotQueue:
    """One waiting run's place in the queue of its sweep."""

    def __init__(self, run_dir: str, run: dict[str, Any], update_record: Callable[..., bool]) -> None:
        """Prepare to wait.

        Args:
            run: run.json; its `sweep` names the sweep, its `awaits_slot` says how many of its runs may train at once.
            update_record: adds fields to supervisor.json; returns False if the disk has no room for them.
        """
        self.every_s = float(run["awaits_slot"]["every_s"])
        self._folder = os.path.dirname(run_dir)
        self._run_id = str(run["run_id"])
        self._sweep = str(run["sweep"]["name"])
        self._n_slots = int(run["awaits_slot"]["n_slots"])
        self._update_record = update_record
        self._sentence = ""

    def poll(self) -> bool:
        """Take a slot if one is left for this run. Returns False while it has to wait."""
        with open(layout.gpu_lock(os.path.dirname(self._folder)), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            n_training, n_ahead = self._others()
            if n_training + n_ahead < self._n_slots and self._update_record(has_slot=True):
                return True
        sentence = "%d of its sweep to end; %d at once" % (n_ahead + 1, self._n_slots)
        if sentence != self._sentence and self._update_record(waiting_for=sentence):
            self._sentence = sentence
        return False

    def _others(self) -> tuple[int, int]:
        """Return how many runs of the sweep train now, and how many wait and came earlier."""
        n_training = n_ahead = 0
        own = (start_ticks(os.getpid()) or 0, self._run_id)
        for run, supervisor in living_runs(self._folder):
            run_id = str(run.get("run_id"))
            if run_id == self._run_id or (run.get("sweep") or {}).get("name") != self._sweep:
                continue
            if supervisor.get("has_slot"):
                n_training += 1
            elif (supervisor["start_ticks"], run_id) < own and not self._is_stopping(run_id):
                n_ahead += 1
        return n_training, n_ahead

    def _is_stopping(self, run_id: str) -> bool:
        return os.path.exists(os.path.join(self._folder, run_id, layout.STOP))
