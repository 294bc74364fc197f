"""The learning rate as a pure function of the step, against a table and the closed form."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from giblet_train.schema.config import Config
from giblet_train.schema.schedule import (
    LrSchedule,
    default_steps_per_epoch,
    lr_at,
    lr_mismatch_at,
    lr_schedule,
    warmup_at,
)


def plan(**changes: object) -> LrSchedule:
    values: dict[str, object] = {
        "steps_per_epoch": 10, "total_steps": 101, "warmup_steps": 20, "learning_rate": 1.0, "min_lr": 0.2,
        "warmup_start_factor": 0.1, "scheduler_type": "cosine", "step_decay_steps": 30, "step_decay_factor": 0.5,
    }  # fmt: skip
    return LrSchedule(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "table"),
    [
        ({}, {0: 0.1, 10: 0.55, 19: 0.955, 20: 1.0, 60: 0.6, 100: 0.2, 500: 0.2}),
        ({"scheduler_type": "none"}, {0: 0.1, 20: 1.0, 100: 1.0}),
        ({"scheduler_type": "step"}, {19: 0.955, 20: 1.0, 49: 1.0, 50: 0.5, 80: 0.25, 110: 0.2}),
        ({"warmup_steps": 0}, {0: 1.0, 50: 0.6, 100: 0.2}),
        ({"warmup_steps": 101}, {0: 0.1, 100: 0.1 + 0.9 * 100 / 101}),
        ({"total_steps": 21}, {20: 1.0}),
    ],
)
def test_the_rate_follows_the_table(changes: dict[str, object], table: dict[int, float]) -> None:
    assert {s: lr_at(s, plan(**changes)) for s in table} == pytest.approx(table)


@given(
    warmup=st.integers(0, 200),
    total=st.integers(1, 2000),
    base=st.floats(1e-6, 1.0),
    floor=st.floats(0.0, 1.0),
    step=st.integers(0, 3000),
)
def test_cosine_equals_its_closed_form_and_stays_in_bounds(
    warmup: int, total: int, base: float, floor: float, step: int
) -> None:
    p = plan(warmup_steps=warmup, total_steps=total, learning_rate=base, min_lr=floor * base)
    rate = lr_at(step, p)
    assert 0.1 * min(base, p.min_lr or base) <= rate * (1 + 1e-12) + 1e-30 or rate >= p.min_lr
    assert rate <= base * (1 + 1e-12)
    if step >= warmup and total - 1 > warmup:
        phase = min(1.0, (step - warmup) / (total - 1 - warmup))
        assert rate == pytest.approx(p.min_lr + (base - p.min_lr) * (1 + math.cos(math.pi * phase)) / 2)


def test_epochs_and_warmup_are_counted_in_steps() -> None:
    config = Config(name="x", num_epochs=50, warmup_epochs=2, learning_rate=3e-4)
    p = lr_schedule(config, 25)
    assert (p.total_steps, p.warmup_steps) == (1250, 50)
    assert lr_at(50, p) == 3e-4
    assert [p.epoch_of(s) for s in (0, 24, 25, 1249)] == [1, 1, 2, 50]
    assert lr_schedule(Config(name="x", warmup_steps=7), 25).warmup_steps == 7


def test_an_epoch_sees_each_training_tr_about_once() -> None:
    assert default_steps_per_epoch(640, 464) == 20
    assert default_steps_per_epoch(12000, 100) == 120
    assert default_steps_per_epoch(2401, 100) == 25


def test_the_warmup_clock() -> None:
    p = plan()
    halfway = warmup_at(10, p)
    assert (halfway.fraction, halfway.steps_left, halfway.finished) == (0.5, 10, False)
    assert halfway.lr_planned == pytest.approx(0.55)
    assert warmup_at(20, p).finished
    assert warmup_at(0, plan(warmup_steps=0)).fraction == 1.0


def test_a_rate_on_plan_is_no_departure() -> None:
    the_plan = plan()
    for step in range(101):
        assert lr_mismatch_at(step, lr_at(step, the_plan) * 1.005, the_plan, 0.01) is None


def test_a_rate_off_plan_says_by_how_much() -> None:
    departure = lr_mismatch_at(50, 0.2, plan(scheduler_type="none"), 0.01)
    assert departure is not None
    assert (departure.planned, departure.ratio, departure.cause) == (1.0, pytest.approx(0.2), "")


def test_a_schedule_stepped_once_per_epoch_is_named() -> None:
    the_plan = plan()
    departure = lr_mismatch_at(55, lr_at(5, the_plan), the_plan, 0.01)
    assert departure is not None and departure.cause == "stepped_per_epoch"
