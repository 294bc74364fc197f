"""Curves of healthy trainings in logs, which must accuse nobody, next to those that must be named."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.log_parser import parse
from giblet_train.diagnosis.rules.case import Finding

Curve = Callable[[int, random.Random], tuple[float, float]]
"""(epoch, random numbers) -> (training loss, validation loss)"""


def falling(start: float, floor: float, tau: float, noise: float = 0.0, gap: float = 1.05) -> Curve:
    """Return an exponential fall with relative noise."""

    def at(epoch: int, rng: random.Random) -> tuple[float, float]:
        level = floor + (start - floor) * math.exp(-epoch / tau)
        return level * (1 + rng.gauss(0, noise)), level * gap * (1 + rng.gauss(0, noise))

    return at


def late_drop(epoch: int, rng: random.Random) -> tuple[float, float]:
    level = 2.0 - 0.002 * epoch if epoch <= 30 else 0.4 + 1.54 * math.exp(-(epoch - 30) / 5)
    return level, 1.05 * level


def last_spike(epoch: int, rng: random.Random) -> tuple[float, float]:
    level = falling(2.0, 0.5, 20)(epoch, rng)[0] * (1.9 if epoch in (13, 31, 49) else 1.0)
    return level, 1.05 * level


def fine_tuning(epoch: int, rng: random.Random) -> tuple[float, float]:
    return 0.3 - 0.0001 * epoch, 0.4 - 0.004 * epoch


def overfitting(epoch: int, rng: random.Random) -> tuple[float, float]:
    train = falling(0.5, 0.03, 9, 0.03)(epoch, rng)[0]
    return train, (0.22 + 0.25 * abs(epoch - 16) / 16) * (1 + rng.gauss(0, 0.02))


def stuck_after_the_first_epoch(epoch: int, rng: random.Random) -> tuple[float, float]:
    return (1.173 - 0.0004 * epoch if epoch else 1.333), 1.16 * (1 + rng.gauss(0, 0.001))


def straight_to_zero(epoch: int, _: random.Random) -> tuple[float, float]:
    train = max(0.0, 0.9 - 0.15 * epoch)
    return train, train + 0.01


def noisy_drift(epoch: int, rng: random.Random) -> tuple[float, float]:
    return (0.412 - 0.00015 * epoch) * (1 + rng.gauss(0, 0.003)), 0.398 * (1 + rng.gauss(0, 0.005))


def rising(epoch: int, rng: random.Random) -> tuple[float, float]:
    level = falling(2.0, 1.0, 6, 0.01)(epoch, rng)[0] * (1.0 if epoch < 22 else 1.25 ** (epoch - 21))
    return level, 1.05 * level


def rising_from_a_high_loss(epoch: int, rng: random.Random) -> tuple[float, float]:
    level = (6.9 - 0.35 * epoch if epoch < 7 else 4.8 + 0.7 * (epoch - 7)) * (1 + rng.gauss(0, 0.005))
    return level, 1.02 * level


def overfitting_below_zero(epoch: int, rng: random.Random) -> tuple[float, float]:
    train = falling(120.0, -90.0, 12)(epoch, rng)[0] + rng.gauss(0, 0.8)
    return train, falling(125.0, -65.0, 9)(epoch, rng)[0] + 1.1 * max(0, epoch - 22) + rng.gauss(0, 1)


def stopped_long_ago(epoch: int, rng: random.Random) -> tuple[float, float]:
    level = max(0.8, 1.6 - 0.06 * epoch)
    return level * (1 + rng.gauss(0, 0.004)), 1.03 * level * (1 + rng.gauss(0, 0.005))


def stuck_at_chance(epoch: int, rng: random.Random) -> tuple[float, float]:
    return 2.3026 + rng.gauss(0, 0.0002), 2.3025 + rng.gauss(0, 0.0002)


def power_law(epoch: int, rng: random.Random) -> tuple[float, float]:
    level = 0.3 + 2.0 * epoch**-0.5
    return level * (1 + rng.gauss(0, 0.002)), 1.04 * level * (1 + rng.gauss(0, 0.002))


HEALTHY: dict[str, tuple[Curve, range]] = {
    "smooth": (falling(2.0, 0.6, 12), range(1, 61)),
    "noisy_validation": (falling(2.0, 0.6, 15, 0.06, 1.08), range(1, 61)),
    "low_noisy_loss": (falling(0.4, 0.01, 5, 0.15, 1.3), range(1, 31)),
    "spike_in_the_last_epoch": (last_spike, range(1, 50)),
    "late_drop": (late_drop, range(1, 61)),
    "summed_loss": (falling(182.0, 104.0, 8), range(1, 41)),
    "thousands": (falling(1950.0, 600.0, 14), range(1, 16)),
    "power_law": (power_law, range(1, 80)),
    "every_tenth_epoch": (falling(60.0, 1.5, 18), range(10, 101, 10)),
    "converged_end_of_a_rotated_log": (falling(2.0, 0.6, 9, 0.002), range(81, 101)),
    "beginning_missing": (falling(2.0, 0.6, 12, 0.01), range(21, 41)),
    "one_epoch": (falling(2.0, 0.6, 12), range(1, 2)),
    "two_epochs": (falling(2.0, 0.6, 12), range(1, 3)),
    "500_epochs": (falling(2.0, 0.6, 90, 0.01), range(1, 501)),
    "10,000_epochs": (falling(2.0, 0.6, 2000, 0.02), range(1, 10_001)),
    "negative_loss": (falling(-0.3, -0.9, 6, 0.003), range(1, 61)),
    "slow_descent": (lambda epoch, _: (3.05 - 0.006 * epoch, 3.1 - 0.006 * epoch), range(1, 41)),
    "straight_to_zero": (straight_to_zero, range(1, 21)),
    "falls_to_zero": (falling(1.2, 0.0, 0.8), range(1, 20)),
}
NAMED: dict[str, tuple[str, Curve, range]] = {
    "overfitting": ("overfit", overfitting, range(1, 41)),
    "flat": ("flat", falling(1.8, 1.795, 20, 0.001), range(1, 41)),
    "slow_drift": ("flat", lambda epoch, _: (1.1735 - 0.0004 * epoch, 1.1635 - 0.0004 * epoch), range(40)),
    "first_epoch_apart": ("flat", stuck_after_the_first_epoch, range(40)),
    "noisy_drift": ("flat", noisy_drift, range(1, 41)),
    "diverging": ("diverging", rising, range(1, 31)),
    "diverging_from_a_high_loss": ("diverging", rising_from_a_high_loss, range(12)),
    "overfitting_below_zero": ("overfit", overfitting_below_zero, range(60)),
    "stopped_long_ago": ("plateau", stopped_long_ago, range(1, 91)),
    "at_chance_on_all_data": ("flat", stuck_at_chance, range(1, 51)),
}


def log_of(curve: Curve, numbers: range, seed: int) -> list[str]:
    rng = random.Random(seed)
    values = [(number, *curve(number, rng)) for number in numbers]
    last = max(numbers[-1], 100 if numbers[0] > 10 else numbers[-1])
    return [f"Epoch {e}/{last} | Train Loss: {t:.4f} | Val Loss: {v:.4f} | LR: 3.00e-04" for e, t, v in values]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", HEALTHY)
def test_a_healthy_curve_is_not_accused(kind: str, seed: int) -> None:
    curve, numbers = HEALTHY[kind]
    log = parse(log_of(curve, numbers, seed))
    causes = diagnose(None, log.metrics, log=log.log).causes
    assert [(c.cause, c.confidence, c.sentence) for c in causes if c.confidence > 0.5] == []


def test_a_fine_tuning_whose_validation_improves_is_at_most_tentatively_flat() -> None:
    log = parse(log_of(fine_tuning, range(1, 13), 0))
    causes = diagnose(None, log.metrics, log=log.log).causes
    assert {c.cause for c in causes} <= {"flat"} and all(c.confidence <= 0.5 for c in causes)


@pytest.mark.parametrize(("first", "confidence"), [(1, 0.88), (21, 0.5)])
def test_the_size_of_a_loss_is_a_doubt_where_its_beginning_is_missing(first: int, confidence: float) -> None:
    lines = [f"Epoch {e}/100 train_loss {104 + 5 * math.exp(-e / 30):.3f}" for e in range(first, first + 20)]
    log = parse(lines)
    (cause,) = diagnose(None, log.metrics, log=log.log).causes
    assert (cause.cause, cause.confidence) == ("loss_not_unit_free", confidence)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", NAMED)
def test_a_curve_that_goes_wrong_is_named(kind: str, seed: int) -> None:
    cause, curve, numbers = NAMED[kind]
    log = parse(log_of(curve, numbers, seed))
    assert [c.cause for c in diagnose(None, log.metrics, log=log.log).causes][:1] == [cause]


@pytest.mark.parametrize("seed", range(3))
def test_an_encoding_model_that_converges_at_once_is_not_flat(seed: int) -> None:
    rng = random.Random(seed)
    mse = [0.945 + 0.04 * math.exp(-e / 2) + rng.gauss(0, 0.0012) for e in range(1, 61)]
    lines = [f"epoch {e} train_mse {v:.4f} val_mse {v + 0.007:.4f}" for e, v in enumerate(mse, 1)]
    (flat,) = judged(lines)
    assert (flat.cause, flat.confidence) == ("flat", 0.5) and "after the first epochs hardly" in flat.sentence
    r = [0.2 * (1 - math.exp(-e / 2)) for e in range(1, 61)]
    predicted = [f"{line} val_pearson {value:.3f}" for line, value in zip(lines, r, strict=True)]
    assert "flat" not in [c.cause for c in judged(predicted)]
    constant = [f"epoch {e} train_mse {0.96 + rng.gauss(0, 0.0012):.4f} val_pearson 0.2" for e in range(1, 61)]
    assert [(c.cause, c.confidence) for c in judged(constant)] == [("flat", 0.85)]


@pytest.mark.parametrize("seed", range(3))
def test_a_model_that_only_finds_the_mean_is_flat(seed: int) -> None:
    rng = random.Random(seed)
    mse = [1.0004 + 0.04 * (e == 1) + rng.gauss(0, 0.001) for e in range(1, 51)]
    lines = [f"epoch {e} train_mse {v:.4f} val_pearson={rng.gauss(0, 0.003):.3f}" for e, v in enumerate(mse, 1)]
    assert [(c.cause, c.confidence) for c in judged(lines)] == [("flat", 0.85)]


def test_the_sentence_about_a_flat_loss_states_the_medians_that_it_compares() -> None:
    values = [1.803, 1.8, 1.804, 1.801, 1.802, 1.8, 1.8, 1.799, 1.799, 1.7985, 1.83]
    (flat,) = judged([f"Epoch {e}/40 train loss {v}" for e, v in enumerate(values, 1)])
    assert flat.sentence == (
        "The median training loss of epochs 7 to 11 is 1.799, 0.14% below that of epochs 1 to 2 (1.801): nothing is "
        "learnt."
    )
    (same,) = judged([f"Epoch {e}/40 train loss {2.30260 + 1e-5 * (e < 9)}" for e in range(1, 21)])
    assert "is 2.3026, within 0.01% of that of epochs 1 to 3 (2.30261)" in same.sentence


def test_early_stopping_is_no_plateau() -> None:
    values = [max(0.45, falling(1.0, 0.35, 6)(e, random.Random(e))[0]) for e in range(1, 25)]
    lines = [f"Epoch {e}/200 loss {v:.4f} val_loss {1.05 * v:.4f}" for e, v in enumerate(values, 1)]
    assert [c.cause for c in judged(lines)] == ["plateau"]
    assert judged([*lines, "Epoch 00024: early stopping"]) == ()


def test_one_number_under_two_names_is_only_a_possible_leak() -> None:
    values = [falling(1.0, 0.2, 8)(e, random.Random(0))[0] for e in range(1, 25)]
    (leak,) = judged([f"Epoch {e}/24 loss {v:.4f} val_loss {v:.4f}" for e, v in enumerate(values, 1)])
    assert leak.cause == "leak" and leak.confidence <= 0.5 and "logged under both names" in leak.sentence
    (leak,) = judged([f"Epoch {e}/24 loss {v:.5f} val_loss {1.0001 * v:.5f}" for e, v in enumerate(values, 1)])
    assert leak.cause == "leak" and leak.confidence > 0.9


def judged(lines: list[str]) -> tuple[Finding, ...]:
    """Return the causes that a log shows."""
    log = parse(lines)
    return diagnose(None, log.metrics, log=log.log).causes


def test_a_sharp_plateau_is_likely_without_a_rate_and_a_saddle_is_not() -> None:
    stopped = [line.partition(" | LR")[0] for line in log_of(stopped_long_ago, range(1, 91), 0)]
    log = parse(stopped)
    first = diagnose(None, log.metrics, log=log.log).causes[0]
    assert (first.cause, first.confidence) == ("plateau", 0.7)
    saddle = parse([line.partition(" | LR")[0] for line in log_of(late_drop, range(1, 91), 0)])
    assert all(c.confidence <= 0.5 for c in diagnose(None, saddle.metrics, log=saddle.log).causes)


def test_a_loss_that_jumps_and_falls_again_has_another_task_and_one_that_stays_high_diverges() -> None:
    stages = [0.5 + 0.35 * (e // 20) + 0.8 * math.exp(-(e % 20) / 4) for e in range(55)]
    stuck = [*stages[:20], *(2.6 - 0.002 * e for e in range(20))]

    def causes(totals: list[float]) -> list[tuple[str, bool]]:
        log = parse(f"epoch {e} loss {v:.4f}" for e, v in enumerate(totals, 1))
        return [(c.cause, c.confidence > 0.5) for c in diagnose(None, log.metrics, log=log.log).causes]

    assert causes(stages) == [("diverging", False)]
    assert causes(stuck) == [("diverging", True)]
