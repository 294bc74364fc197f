"""Learning rates that a log shows to be as good as 0, next to schedules that are meant to end there."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.log_parser import parse
from giblet_train.schema.records import EpochMetric

EPOCHS = 60


def cosine(epoch: int, n: int = EPOCHS) -> float:
    return 0.5e-3 * (1 + math.cos(math.pi * min(1.0, (epoch - 1) / (n - 1))))


def falling(epoch: int) -> float:
    return 0.6 + 1.4 * math.exp(-epoch / 9)


def stuck(epoch: int) -> float:
    return falling(min(epoch, 12))


Course = tuple[Callable[[int], float], Callable[[int], float], str]
"""(epoch -> loss, epoch -> rate, format of the rate)"""
VANISHED: dict[str, tuple[str, Course]] = {
    "schedule_too_short": ("ended_early", (stuck, lambda e: cosine(e, 12), ".2e")),
    "rate_of_zero": ("never_reaches_peak", (lambda _: 2.2, lambda _: 0.0, ".1f")),
    "rate_without_effect": ("never_reaches_peak", (lambda _: 2.2, lambda _: 1e-10, ".0e")),
    "warm_up_never_ends": ("never_reaches_peak", (lambda _: 2.2, lambda e: 1e-9 * e, ".2e")),
    "warm_up_of_the_whole_log": ("never_reaches_peak", (lambda _: 2.2, lambda e: 1e-6 * e, ".2e")),
    "faded_while_it_fell": ("ended_early", (stuck, lambda e: 1e-3 if e < 12 else 5e-7, ".2e")),
}
HEALTHY: dict[str, Course] = {
    "cosine": (falling, cosine, ".2e"),
    "few_decimals": (falling, lambda e: cosine(e) / 4, ".4f"),
    "reduced_on_a_plateau": (falling, lambda e: 1e-3 * 0.1 ** (e // 20), ".1e"),
    "reduced_to_0_after_convergence": (
        lambda e: 0.2 + 1.8 * math.exp(-e / 4),
        lambda e: 1e-1 if e < 25 else max(1e-8, 10 ** -(2.0 + (e - 25) // 3)),
        ".1e",
    ),
    "exponential": (falling, lambda e: 1e-3 * 0.9**e, ".2e"),
    "warm_up": (falling, lambda e: 1e-5 * min(e, 10), ".2e"),
    "printed_as_0_by_few_decimals": (falling, lambda _: 0.0, ".4f"),
}


def causes_of(course: Course, seed: int = 0) -> list[tuple[str, float, object, str]]:
    loss, rate, digits = course
    rng = random.Random(seed)
    lines = [
        f"Epoch {e}/{EPOCHS} loss {loss(e) * (1 + rng.gauss(0, 0.002)):.4f} lr {rate(e):{digits}}"
        for e in range(1, EPOCHS + 1)
    ]
    log = parse(lines)
    causes = diagnose(None, log.metrics, log=log.log).causes
    return [(c.cause, c.confidence, c.evidence.get("reason"), c.sentence) for c in causes]


@pytest.mark.parametrize("kind", VANISHED)
def test_a_rate_as_good_as_0_is_named_while_the_loss_is_constant(kind: str) -> None:
    reason, course = VANISHED[kind]
    first = causes_of(course)[0]
    assert first[0] == "lr_off_plan" and first[1] > 0.5 and first[2] == reason


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", HEALTHY)
def test_a_schedule_that_ends_at_0_accuses_nobody(kind: str, seed: int) -> None:
    assert [cause for cause in causes_of(HEALTHY[kind], seed) if cause[1] > 0.5] == []


def test_a_warm_up_of_noisy_steps_accuses_nobody() -> None:
    for seed in range(5):
        rng = random.Random(seed)
        steps = [f"step {10 * i} loss {2.2 * (1 + rng.gauss(0, 0.08)):.4f} lr {1e-7 * i:.2e}" for i in range(1, 16)]
        log = parse(steps)
        assert [c for c in diagnose(None, log.metrics, log=log.log).causes if c.confidence > 0.5] == []


def test_the_sentence_has_the_epoch_since_which_the_rate_is_0() -> None:
    sentence = causes_of(VANISHED["schedule_too_short"][1])[0][3]
    assert sentence.startswith("The learning rate is 0 since epoch 12 of 60 (its highest was 1.0e-03)")
    assert sentence.endswith("although it was still falling before.")


def test_a_rate_that_was_reduced_after_convergence_is_a_doubt_with_its_reason() -> None:
    (cause,) = causes_of(HEALTHY["reduced_to_0_after_convergence"])
    assert cause[1] == 0.5 and cause[3].endswith("so the rate may have been lowered because of that.")


def test_a_printed_rate_of_0_is_not_said_to_be_missing() -> None:
    log = parse([f"Epoch {e} loss 2.2 lr 0.0" for e in range(1, 20)])
    assert not any("the learning rate" in note for note in log.notes)


@pytest.mark.parametrize("digits", [2, 4, 6])
def test_a_rate_that_may_be_rounded_to_0_is_only_a_doubt(digits: int) -> None:
    rounded = f"{0:.{digits}f}"
    (cause,) = [c for c in causes_of((lambda _: 2.2, lambda _: 0.0, f".{digits}f")) if c[0] == "lr_off_plan"]
    assert cause[1] == 0.5 and f"is printed as {rounded} in all 60 epochs" in cause[3]
    assert cause[3].endswith(f"A rate below {0.5 * 10**-digits:.0e} is rounded to that too.")


@pytest.mark.parametrize("digits", [".1f", ".9f", ".2e"])
def test_a_rate_of_0_whose_digits_would_show_a_small_one_is_named(digits: str) -> None:
    assert causes_of((lambda _: 2.2, lambda _: 0.0, digits))[0][:2] == ("lr_off_plan", 0.85)


def test_a_log_without_epochs_speaks_of_its_blocks() -> None:
    steps = [f"step {20 * i} loss {stuck(i // 3):.4f} lr {cosine(i // 3, 12):.2e} of 4 epochs" for i in range(3, 183)]
    log = parse(steps)
    (cause,) = [c for c in diagnose(None, log.metrics, log=log.log).causes if c.cause == "lr_off_plan"]
    assert log.log.is_blocks and f"of {len(log.log.rows)} (its highest" in cause.sentence
    assert " since block " in cause.sentence and "epoch" not in cause.sentence


@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize(("digits", "n_causes"), [(4, 0), (9, 1)])
def test_a_rate_that_the_program_rounds_itself_is_not_0(digits: int, n_causes: int, noise: float) -> None:
    rng = random.Random(1)
    course = [max(4e-5 if digits == 4 else 0.0, cosine(min(e, 12), 12)) for e in range(1, EPOCHS + 1)]
    lines = [
        f"epoch {e} loss {stuck(e) * (1 + rng.gauss(0, noise)):.4f} lr {round(rate, digits)}"
        for e, rate in enumerate(course, 1)
    ]
    log = parse(lines)
    causes = diagnose(None, log.metrics, log=log.log).causes
    assert len([c for c in causes if c.cause == "lr_off_plan" and c.confidence > 0.5]) == n_causes


@pytest.mark.parametrize("zero", ["0", "0.0", "0.0000e+00", "1.0e-09"])
def test_a_rate_that_vanishes_after_few_noisy_epochs_is_named(zero: str) -> None:
    rng = random.Random(4)
    losses = [(1.6 if e == 1 else 1.19) * (1 + rng.gauss(0, 0.012)) for e in range(1, 21)]
    lines = [f"epoch {e}/40 loss {v:.4f} lr {zero if e > 1 else 0.001}" for e, v in enumerate(losses, 1)]
    log = parse(lines)
    first = diagnose(None, log.metrics, log=log.log).causes[0]
    assert (first.cause, first.evidence["reason"]) == ("lr_off_plan", "ended_early") and first.confidence > 0.5
    rounded = parse(line.replace(f"lr {zero}", "lr 0.0000") for line in lines)
    assert not [c for c in diagnose(None, rounded.metrics, log=rounded.log).causes if c.cause == "lr_off_plan"]


@pytest.mark.parametrize("words", ["Adjusting learning rate of group 0 to", "reducing learning rate of group 1 to"])
def test_the_number_of_a_group_of_parameters_is_no_rate(words: str) -> None:
    lines = [
        line
        for e in range(1, 13)
        for line in (f"Epoch [{e}/12], Train Loss: {stuck(e):.4f}", f"Epoch {e:05d}: {words} {2e-3 * 0.7**e:.4e}.")
    ]
    log = parse(lines)
    assert [metric.lr for metric in log.metrics if isinstance(metric, EpochMetric)][-1] == pytest.approx(
        2e-3 * 0.7**12, rel=1e-3
    )
    assert not [c for c in diagnose(None, log.metrics, log=log.log).causes if c.cause == "lr_off_plan"]


def test_the_improvement_of_a_boosted_model_is_no_part_of_its_loss() -> None:
    rows = [f"{i:6d} {36.6 - i / 52:.4f} {34.7 - i / 95:.4f} 0.0010 {0.003 + i % 3 / 1000:.4f}" for i in range(1, 101)]
    log = parse(["Iter   TrainDeviance   ValidDeviance   StepSize   Improve", *rows])
    causes = diagnose(None, log.metrics, log=log.log).causes
    assert not [c for c in causes if c.cause == "scale_mismatch"]
