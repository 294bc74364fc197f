"""The second collection, with other dynamics: faults are named, and odd healthy runs are not accused."""

from __future__ import annotations

import pytest

from giblet_train.diagnosis import replay
from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.log_parser import parse
from giblet_train.diagnosis.rules.noise import jitter
from giblet_train.schema.records import StepMetric
from tests.collection.foreign import records
from tests.collection.foreign_cases import HEALTHY, SICK

EVEN_SEEDS = (0, 2)


@pytest.mark.parametrize("name", SICK)
def test_the_first_cause_of_a_foreign_fault_is_right(name: str) -> None:
    cause, family = SICK[name]
    for seed in EVEN_SEEDS:
        case = family(seed)
        diagnosis = diagnose(case.study.config, records(case.study))
        assert not diagnosis.unevaluated
        assert diagnosis.causes and diagnosis.causes[0].cause == cause, diagnosis.causes
        assert not case.reason or diagnosis.causes[0].evidence["reason"] == case.reason


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_foreign_run_is_accused_at_no_point(name: str) -> None:
    case = HEALTHY[name](0)
    metrics = records(case.study)
    n_steps = sum(isinstance(metric, StepMetric) for metric in metrics)
    for n, diagnosis in replay.prefixes(case.study.config, metrics, 1, n_steps, max(10, n_steps // 12)):
        accused = [(n, c.cause, c.confidence, c.sentence) for c in diagnosis.causes if c.confidence > 0.5]
        assert not accused and not diagnosis.unevaluated


def epoch_log(losses: list[float], first: int = 1, of: int = 100) -> list[str]:
    return [f"Epoch {n}/{of} | Train Loss: {loss:.4f}" for n, loss in enumerate(losses, first)]


def log_causes(lines: list[str]) -> list[str]:
    log = parse(lines)
    diagnosis = diagnose(None, log.metrics, log=log.log)
    assert not diagnosis.unevaluated
    return [cause.cause for cause in diagnosis.causes]


def test_a_loss_of_zero_is_a_valid_number() -> None:
    for losses in ([1.2, *[0.0] * 12], [1.2 * 0.4**n for n in range(20)], [0.0] * 12):
        assert "diverging" not in log_causes(epoch_log(losses))
    assert log_causes(epoch_log([1.2 * 0.4**n for n in range(20)])) == []


def test_a_log_whose_beginning_is_missing_is_not_judged_from_its_first_line() -> None:
    converged = [0.8 + 0.0001 * (n % 3) for n in range(20)]
    assert "flat" in log_causes(epoch_log(converged))
    assert log_causes(epoch_log(converged, first=81)) == []


def test_a_low_noisy_loss_that_doubles_late_does_not_diverge() -> None:
    low = [0.46, 0.2, 0.11, 0.07, 0.05, 0.04, 0.035, 0.0297, 0.041, 0.0449, 0.043]
    assert log_causes(epoch_log(low)) == []
    rising = [*low, 0.2, 0.31, 0.42, 0.6]
    assert log_causes(epoch_log(rising))[0] == "diverging"


def test_jitter_ignores_trend_and_spikes() -> None:
    line = [10 - 0.3 * n for n in range(40)]
    assert jitter(line) == pytest.approx(0.0, abs=1e-9)
    assert jitter([*line[:20], 50.0, *line[21:]]) == pytest.approx(0.0, abs=1e-9)
    alternating = [v + (0.1 if n % 2 else -0.1) for n, v in enumerate(line)]
    assert 0.1 < jitter(alternating) < 0.3


def validation_log(losses: list[float]) -> list[str]:
    """Return the lines of a program that prints a validation loss and no other."""
    return [f"Epoch {n}/{len(losses)} | Validation Loss: {loss:.4f}" for n, loss in enumerate(losses, 1)]


def test_a_validation_loss_that_rises_alone_is_a_doubt_about_overfitting_and_no_divergence() -> None:
    log = parse(validation_log([0.52, 0.49, 0.55, 0.66, 0.79, 0.9, 1.02, 1.15, 1.24, 1.33]))
    (cause,) = diagnose(None, log.metrics, log=log.log).causes
    assert (cause.cause, cause.confidence) == ("overfit", 0.5) and "No training loss is printed" in cause.sentence


def test_a_validation_loss_alone_that_leaves_its_scale_diverges() -> None:
    assert (
        log_causes(validation_log([2.1, 1.9, 1.8, 45.0, 90.0, 240.0, 700.0, 900.0, 1500.0, 2600.0]))[0] == "diverging"
    )


def test_a_validation_loss_alone_that_falls_or_only_fluctuates_is_healthy() -> None:
    assert log_causes(validation_log([2.0 * 0.8**n + 0.1 for n in range(12)])) == []
    assert log_causes(validation_log([0.9, 0.6, 0.5, 0.46, 0.47, 0.45, 0.48, 0.46, 0.49, 0.47, 0.48])) == []


def test_a_large_loss_that_is_exactly_constant_is_flat_and_no_question_of_units() -> None:
    assert log_causes(epoch_log([52.1874] * 20))[0] == "flat"
    drift = [52187.4 - 0.3 * n for n in range(20)]
    assert log_causes(epoch_log(drift))[0] == "loss_not_unit_free"


def test_losses_at_chance_are_equal_on_all_data_and_show_no_leak_whatever_a_summary_adds() -> None:
    lines = [f"Epoch {n}: Train Loss: 1.0986, Val Loss: {1.0986 + 1e-4 * (n % 2):.4f}" for n in range(1, 21)]
    causes = log_causes([*lines, "  Initial train loss: 1.0986"])
    assert causes[0] == "flat" and "leak" not in causes
