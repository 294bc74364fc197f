"""Stop requests during work that may end anywhere."""

import signal
import sys
import time

import pytest

from giblet_train.schema.run_dir import RunDir
from giblet_train.training import stop_signals
from giblet_train.training.stop_signals import StopRequested, StopSignals
from tests.engine_study import ALONE


class SlowFinaliser:
    """Takes long to be deleted, so that a tick falls into it and Python drops the exception."""

    def __del__(self):
        deadline = time.monotonic() + 30.0
        while time.monotonic() < deadline:
            time.sleep(0.001)


def test_a_request_that_a_finaliser_swallows_is_raised_again(tmp_path, monkeypatch):
    drops = []
    monkeypatch.setattr(stop_signals, "POLL_S", 0.02)
    monkeypatch.setattr(sys, "unraisablehook", lambda event: drops.append(event.exc_type))
    run_dir, deadline = RunDir(tmp_path), time.monotonic() + 30.0
    with pytest.raises(StopRequested), StopSignals(run_dir, ALONE) as signals, signals.obeyed_at_once():
        run_dir.stop.touch()
        SlowFinaliser()
        while time.monotonic() < deadline:
            time.sleep(0.001)
    assert drops == [StopRequested]


@pytest.fixture
def rings():
    """Yield the signals of the caller's timer that have arrived, as of the one by which pytest-timeout ends a test."""
    rings = []
    handler = signal.signal(signal.SIGALRM, lambda number, frame: rings.append(number))
    timer = signal.setitimer(signal.ITIMER_REAL, 0.0)
    yield rings
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, *timer)


def test_a_timer_of_the_caller_goes_on_after_the_block(tmp_path, rings):
    signal.setitimer(signal.ITIMER_REAL, 600.0)
    with StopSignals(RunDir(tmp_path), ALONE) as signals, signals.obeyed_at_once():
        time.sleep(0.05)
    assert 0.0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 600.0 - 0.05
    assert rings == []


def test_a_timer_of_the_caller_that_runs_out_in_the_block_rings_after_it(tmp_path, rings):
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    with StopSignals(RunDir(tmp_path), ALONE) as signals, signals.obeyed_at_once():
        time.sleep(0.1)
    deadline = time.monotonic() + 30.0
    while not rings and time.monotonic() < deadline:
        time.sleep(0.01)
    assert rings == [signal.SIGALRM]
