"""Lines with a bare number in front, and losses under the name of their function."""

from __future__ import annotations

import math

import pytest

from giblet_train.diagnosis.log_parser import parse

COURSE = [(k, 2 * math.exp(-k / 8) + 0.3) for k in range(30)]


@pytest.mark.parametrize(
    "line",
    [
        "{0:02d}: lr=0.001  train={1:.4f}  test={2:.4f}",
        "{0}. train {1:.4f} val {2:.4f}",
        "{0}) loss {1:.4f} val_loss {2:.4f}",
        "{0} | train_loss {1:.4f} | test_loss {2:.4f}",
        "{0}: ce={1:.4f}",
        "{0:3d}  train huber {1:.4f}  val huber {2:.4f}",
    ],
)
def test_a_number_that_counts_up_in_front_of_losses_is_the_epoch(line: str) -> None:
    log = parse(line.format(k, loss, loss + 0.1) for k, loss in COURSE)
    assert [metric.epoch for metric in log.metrics] == list(range(30)) and not log.log.is_blocks
    assert log.metrics[3].train.total == pytest.approx(COURSE[3][1], abs=1e-3)
    validation = log.metrics[3].validation
    assert ("ce=" in line) == (validation is None)


def test_a_number_in_constant_steps_is_the_step() -> None:
    log = parse(f"{50 * k}: train={loss:.4f} test={loss + 0.1:.4f}" for k, loss in COURSE)
    assert log.log.is_blocks and log.metrics and log.log.span == (0, 1450)


def test_the_rank_that_a_launcher_puts_in_front_is_no_epoch() -> None:
    log = parse(f"{rank}: loss {loss:.4f}" for _, loss in COURSE for rank in range(4))
    assert log.log.is_blocks or all(metric.epoch not in range(4) for metric in log.metrics)


@pytest.mark.parametrize("name", ["ce", "xent", "nll", "bce", "l1", "huber", "kl", "ctc", "elbo", "bpc", "bpb", "mse"])
def test_a_loss_may_be_called_by_its_function(name: str) -> None:
    log = parse(f"step={50 * k} {name}={loss:.3f}" for k, loss in COURSE)
    assert log.metrics and log.metrics[0].train.total > log.metrics[-1].train.total


def test_a_function_next_to_the_loss_is_no_second_loss() -> None:
    log = parse(f"epoch {k} loss {loss:.3f} kl {9 + k}" for k, loss in COURSE)
    assert [metric.train.total for metric in log.metrics] == pytest.approx([loss for _, loss in COURSE], abs=1e-3)


@pytest.mark.parametrize(
    "start", ["[2023-03-09 07:15:02,118 NOTE] begin,", "2nd stage:", "16-bit weights,", "3h since start,"]
)
def test_a_number_within_a_word_or_date_is_no_counter(start: str) -> None:
    lines = [f"Step {50 * k}/4000; xent: {loss:.4f}" for k, loss in COURSE[1:]]
    log = parse([f"{start} validation loss follows", *lines]).log
    assert log.last_epoch is None and log.n_steps == 4000 and log.span == (50, 1450)
