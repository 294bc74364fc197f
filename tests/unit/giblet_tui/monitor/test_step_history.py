"""A long watch holds the newest steps in memory; what it gives out are all steps, exactly as they were."""

from __future__ import annotations

import errno
import os
import tracemalloc
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec.structs import replace

from giblet_train.diagnosis.criteria import verdict_of
from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.schema.records import StepMetric
from giblet_tui.connection.protocol import Appended, Mark, RunNews, WatchEvent
from giblet_tui.monitor import cache
from giblet_tui.monitor.metric_columns import StepColumns
from giblet_tui.monitor.node_state import NodeState, apply_event, to_snapshot
from giblet_tui.monitor.step_history import BLOCK_STEPS, RECENT_STEPS, StepHistory, thinned
from tests import fleets
from tests.liveruns import step_line

RUN = fleets.run(steps=3000)
STEPS = tuple(RUN.steps)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def history_of(steps: Sequence[StepMetric], n_at_once: int = 97) -> StepHistory:
    history = StepHistory()
    for begin in range(0, len(steps), n_at_once):
        history = history.extended(steps[begin : begin + n_at_once])
    return history


@pytest.mark.parametrize("n_at_once", [97, BLOCK_STEPS, 3000])
def test_every_step_comes_back_as_it_was(n_at_once: int) -> None:
    history = history_of(STEPS, n_at_once)
    assert len(history._recent) < RECENT_STEPS + BLOCK_STEPS, "the others are in the file"
    assert history == STEPS and tuple(history) == STEPS
    for index in (0, 1, BLOCK_STEPS - 1, BLOCK_STEPS, 1999, -1, -3000):
        assert history[index] == STEPS[index]
    for part in (
        slice(None),
        slice(1),
        slice(-600, None),
        slice(500, 1500),
        slice(None, None, 7),
        slice(None, None, -700),
    ):
        assert history[part] == STEPS[part]
    with pytest.raises(IndexError):
        history[3000]
    assert not StepHistory() and StepHistory()[-1:] == ()


def test_an_earlier_history_stays_as_it_was() -> None:
    early = history_of(STEPS[:2000])
    others = [replace(step, lr=9.0) for step in STEPS[:1500]]
    late, other_history = early.extended(STEPS[2000:]), early.extended(others)
    again = early.extended(STEPS[2000:])
    assert early == STEPS[:2000] and late == STEPS and again == STEPS
    assert other_history == (*STEPS[:2000], *others) and late == STEPS, "the fork has blocks of its own"


def test_many_runs_share_one_open_file(monkeypatch: pytest.MonkeyPatch) -> None:
    first = history_of(STEPS[:1700], 1700)
    n_open = len(os.listdir("/proc/self/fd"))
    others = [history_of(STEPS[n : n + 1700], 1700) for n in range(10)]
    assert len(os.listdir("/proc/self/fd")) == n_open
    assert first == STEPS[:1700] and all(history == STEPS[n : n + 1700] for n, history in enumerate(others))
    monkeypatch.setattr(StepHistory, "__iter__", None)
    assert first == first, "nothing is read"


def test_a_full_disk_loses_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    history = history_of(STEPS[:1700])

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    assert history.extended(STEPS[1700:]) == STEPS
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert history_of(STEPS) == STEPS


def test_rules_and_curves_are_those_of_all_steps() -> None:
    run = replace(RUN, steps=history_of(STEPS))
    assert run.config is not None
    assert verdict_of(run.config, run.metrics, run.health) == verdict_of(run.config, RUN.metrics, RUN.health)
    assert diagnose(run.config, run.metrics, health=run.health) == diagnose(RUN.config, RUN.metrics, health=RUN.health)
    assert run.eta_s == RUN.eta_s
    columns = StepColumns().curves(run.steps, ())
    assert columns.step_N.tolist() == [step.step for step in STEPS]


def test_the_first_screen_gets_evenly_spaced_steps() -> None:
    sparse = thinned(history_of(STEPS), cache.MAX_STEPS)
    assert sparse[-1] == STEPS[-1] and cache.MAX_STEPS // 2 <= len(sparse) <= cache.MAX_STEPS
    gaps = {later.step - earlier.step for earlier, later in pairwise(sparse[:-1])}
    assert max(gaps) <= 2 * min(gaps)


def test_ten_times_the_steps_need_no_more_memory() -> None:
    """Watched through the agent's events, as the dashboard does."""
    run_id = RUN.run.run_id
    state, n_steps, traced_bytes = NodeState("tensor01", is_long_watch=True), 0, []
    tracemalloc.start()
    try:
        for n_until in (3_000, 30_000):
            while n_steps < n_until:
                lines = b"".join(step_line(step) for step in range(n_steps, n_steps + 250)).decode()
                n_steps += 250
                news = RunNews(
                    run_id=run_id, appended={"metrics.jsonl": Appended(text=lines, mark=Mark(inode=1, offset=n_steps))}
                )
                state = apply_event(state, WatchEvent(run=news), 1.0)
            [run] = to_snapshot(state).runs
            assert len(run.steps) == n_steps and run.steps[-1].step == n_steps - 1
            traced_bytes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert traced_bytes[1] < 1.2 * traced_bytes[0], f"{traced_bytes} bytes"
