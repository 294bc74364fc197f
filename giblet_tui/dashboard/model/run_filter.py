"""Filter and sort the runs of the list. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from giblet_tui.dashboard.model.judgement import Judgement
from giblet_tui.dashboard.model.run_status import health_now, verdict_words
from giblet_tui.monitor.metric_columns import number
from giblet_tui.monitor.snapshots import NodeSnapshot, RunSnapshot

Order = Literal["launch", "state", "name", "loss"]
ORDERS: tuple[Order, ...] = ("launch", "state", "name", "loss")
STATES = ("stalled", "unknown", "running", "starting", "waiting", "died", "failed", "stopped", "finished")
"""The order of states: what needs attention first."""


def matches(run: RunSnapshot, node: NodeSnapshot, words: str, judgements: Mapping[str, Judgement], now: float) -> bool:
    """Return True if each of the words is in the run's id, node, state, verdict, stage or note; case is ignored."""
    if not words:
        return True
    health = health_now(run, node, now)
    verdict = verdict_words(judgements.get(run.run.run_id, Judgement()).verdict, health).text
    stage = run.config.stage if run.config is not None else ""
    text = " ".join((run.run.run_id, node.node, health.state, verdict, stage, run.run.note)).lower()
    return all(word in text for word in words.lower().split())


def sort_runs(runs: Sequence[RunSnapshot], order: Order) -> list[RunSnapshot]:
    """Return the runs in this order; within equal ones, newest first, as snapshots have them.

    In the order of launch, the runs of a sweep stay together, in the order of its grid.
    """
    if order == "launch":
        return _with_sweeps_together(runs)
    return sorted(runs, key=_KEYS[order])


def _with_sweeps_together(runs: Sequence[RunSnapshot]) -> list[RunSnapshot]:
    """Return the runs with all of a sweep at the place of its newest one."""
    first: dict[str, int] = {}
    places: list[tuple[int, int, RunSnapshot]] = []
    for place, run in enumerate(runs):
        sweep = run.run.sweep
        places.append((place, 0, run) if sweep is None else (first.setdefault(sweep.name, place), sweep.number, run))
    return [run for _, _, run in sorted(places, key=lambda entry: entry[:2])]


def _state_place(run: RunSnapshot) -> int:
    return STATES.index(run.health.state) if run.health.state in STATES else 0


def _loss(run: RunSnapshot) -> float:
    total = number(run.steps[-1].total) if run.steps else math.inf
    return total if math.isfinite(total) else math.inf


_KEYS = {"state": _state_place, "name": lambda run: run.run.name, "loss": _loss}
