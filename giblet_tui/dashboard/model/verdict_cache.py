"""Verdicts of runs, computed once per epoch rather than once per look."""

from __future__ import annotations

import threading

from giblet_train.diagnosis.criteria import Verdict, verdict_of
from giblet_tui.monitor.snapshots import NodeSnapshot, RunSnapshot

Key = tuple[int, bool, bool, bool]


class VerdictCache:
    """Judges the runs of a node; safe to call from the threads of several nodes."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Key, Verdict]] = {}
        self._lock = threading.Lock()

    def verdicts(self, node: NodeSnapshot) -> dict[str, Verdict]:
        """The verdict of every run that has criteria, by run id."""
        return {run.run.run_id: self._of(run) for run in node.runs if _judged(run)}

    def _of(self, run: RunSnapshot) -> Verdict:
        key = (
            len(run.epochs),
            run.health.live,
            run.evaluation is not None,
            bool(run.steps) and run.steps[-1].total is None,
        )
        with self._lock:
            known = self._known.get(run.run.run_id)
        if known is not None and known[0] == key:
            return known[1]
        assert run.config is not None
        verdict = verdict_of(run.config, run.metrics, run.health)
        with self._lock:
            self._known[run.run.run_id] = (key, verdict)
        return verdict


def _judged(run: RunSnapshot) -> bool:
    """Has it criteria, and are its records on this node? Of a run over several nodes, only the first has them."""
    return run.config is not None and bool(run.config.criteria) and not run.run.node_rank
