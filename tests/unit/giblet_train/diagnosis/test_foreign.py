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
