"""The time left: its interval holds the truth as often as it says, on steady and on loaded nodes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from giblet_train.diagnosis.eta import eta
from giblet_train.schema.health import Health
from giblet_train.schema.records import StepMetric
from giblet_train.schema.schedule import LrSchedule, lr_schedule
from tests.collection.healthy import draw

RUNNING = Health(state="running", sentence="training")
N_RUNS = 300


def steady(rng: random.Random, n: int) -> list[float]:
    return [0.5 * math.exp(rng.gauss(0, 0.1)) for _ in range(n)]


def loaded(rng: random.Random, n: int) -> list[float]:
    """Draw steps next to others' jobs: the pace wanders over some fifty steps, by a fifth."""
    load, durations_s = rng.gauss(0, 0.2), []
    for _ in range(n):
        load += -load / 50 + rng.gauss(0, 0.2 * math.sqrt(2 / 50))
        durations_s.append(0.5 * math.exp(load + rng.gauss(0, 0.05)))
    return durations_s


def plan(total: int, per_epoch: int = 20) -> LrSchedule:
    return lr_schedule(draw(0, num_epochs=total // per_epoch).config, per_epoch)


def steps_of(seconds: list[float], pause_s: float = 0.0, per_epoch: int = 20, first: int = 0) -> list[StepMetric]:
    at, steps = 0.0, []
    for i, s in enumerate(seconds, first):
        at += s + (pause_s if i % per_epoch == 0 and i > first else 0.0)
        steps.append(
            StepMetric(seq=i, step=i, epoch=1, at=at, lr=1e-3, total=1.0, loss={}, weight={}, share={}, step_s=s)
        )
    return steps


@pytest.mark.parametrize("pace", [steady, loaded])
@pytest.mark.parametrize("n_done", [200, 500])
def test_four_of_five_intervals_hold_what_comes(pace: Callable[[random.Random, int], list[float]], n_done: int) -> None:
    n_within = 0
    for seed in range(N_RUNS):
        seconds = pace(random.Random(seed), 1000)
        estimate = eta(steps_of(seconds[:n_done]), plan(1000), RUNNING)
        assert estimate is not None
        n_within += estimate.low_s <= sum(seconds[n_done:]) <= estimate.high_s
    assert 0.70 <= n_within / N_RUNS <= 0.92, n_within / N_RUNS


def test_pauses_between_epochs_are_distinguished() -> None:
    estimate = eta(steps_of([0.5] * 100, pause_s=7.0), plan(200), RUNNING)
    assert estimate is not None
    assert estimate.steps_s == pytest.approx(50.0) and estimate.pauses_s == pytest.approx(5 * 7.0)
    assert estimate.left_s == pytest.approx(85.0) and not estimate.frozen


def test_it_freezes_when_stalled_and_ends_with_the_run() -> None:
    steps = steps_of([0.5] * 100)
    stalled = eta(steps, plan(200), Health(state="stalled", sentence="no step for 10m"))
    assert stalled is not None and stalled.frozen and stalled.steps_s == pytest.approx(50.0)
    assert eta(steps, plan(200), Health(state="finished", sentence="finished")) is None
    assert eta(steps[:5], plan(200), RUNNING) is None
    assert eta([], plan(200), RUNNING) is None


def test_after_a_resume_only_its_own_steps_count() -> None:
    estimate = eta([*steps_of([5.0] * 60), *steps_of([0.5] * 50, first=40)], plan(200), RUNNING)
    assert estimate is not None and estimate.steps_s == pytest.approx(0.5 * 110)
