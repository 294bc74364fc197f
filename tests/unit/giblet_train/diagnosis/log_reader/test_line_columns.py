"""Layouts whose words mean nothing to the reader are read by their structure."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator

import pytest

from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.log_parser import ParsedLog, parse
from giblet_train.diagnosis.log_reader.line_columns import MAX_NUMBERS, MAX_ROWS, LineColumns

N = 36
RNG = random.Random(23)
FALL = [1.9 * math.exp(-k / 9) + 0.2 + RNG.gauss(0, 0.008) for k in range(N)]
HELD_OUT = [value + 0.13 + RNG.gauss(0, 0.008) for value in FALL]
Layout = Callable[[int, float, float], str]

EPOCHS: dict[str, Layout] = {
    "plain columns": lambda k, a, b: f"{k} {a:.5f} {b:.5f}",
    "more plain columns": lambda k, a, b: f"{k:4d}   {a:.4e}   {b:.4e}   {1 - a / 3:.3f}   1.0e-03",
    "lines per split": lambda k, a, b: f"[tr] <{k}> crit={a:.4f}\n[va] <{k}> crit={b:.4f}",
    "block below its counter": lambda k, a, b: (
        f"--- sweep {k} ---\n  misfit, tr : {a:.4f}\n  misfit, val : {b:.4f}\n  took 4.1 s"
    ),
    "block above a bar": lambda k, a, b: (
        f" eval loss: {b:.4f}\n train loss: {a:.4f}\n {k * 2}%|{'█' * (k % 5)}  | {k}/{N} [0{k % 9}:21<09:11, 21.2s/it]"
    ),
    "boosting without a metric": lambda k, a, b: (
        f"{k}:\tlearn: {a:.6f}\ttest: {b:.6f}\tbest: {min(HELD_OUT[: k + 1]):.6f} ({k})\ttotal: {61 * k}ms"
    ),
}


def lines(layout: Layout, train: list[float] = FALL, held_out: list[float] = HELD_OUT) -> Iterator[str]:
    for k, (a, b) in enumerate(zip(train, held_out, strict=True)):
        yield from layout(k, a, b).split("\n")


def causes(log: ParsedLog) -> list[str]:
    return [cause.cause for cause in diagnose(None, log.metrics, log=log.log).causes if cause.confidence > 0.5]


@pytest.mark.parametrize("name", EPOCHS)
def test_epochs_are_counted_by_what_counts_up(name: str) -> None:
    log = parse(lines(EPOCHS[name]))
    assert [metric.epoch for metric in log.metrics] == list(range(N)) and not log.log.is_blocks
    assert [metric.train.total for metric in log.metrics] == pytest.approx(FALL, abs=1e-3)
    totals = [metric.validation.total if metric.validation else None for metric in log.metrics]
    assert totals == pytest.approx(HELD_OUT, abs=1e-3) and causes(log) == []


@pytest.mark.parametrize("name", EPOCHS)
def test_what_is_wrong_is_seen_in_any_layout(name: str) -> None:
    lost = [*FALL[:25], *[math.nan] * (N - 25)]
    assert causes(parse(lines(EPOCHS[name], lost, lost)))[:1] == ["nan"]
    explodes = [*FALL[:20], *(FALL[20] * 1.5**k for k in range(N - 20))]
    assert causes(parse(lines(EPOCHS[name], explodes, explodes)))[:1] == ["diverging"]


STEPS: dict[str, Layout] = {
    "it": lambda k, a, b: f"it {50 * k:6d}  total {a:.4e}  pde {0.6 * a:.4e}  bc {0.3 * a:.4e}  data {0.1 * a:.4e}",
    "header and tabs": lambda k, a, b: (
        ("it\ttotal\tpde\tbc\n" if not k else "") + f"{50 * k}\t{a:.5f}\t{0.6 * a:.5f}\t{0.4 * a:.5f}"
    ),
    "header again": lambda k, a, b: (
        ("   iter     f-train     f-out    secs\n" if k % 12 == 0 else "")
        + f"{50 * k:7d}  {a:10.5f}  {b:8.5f}  {k * 0.7:6.1f}"
    ),
    "sum under any name": lambda k, a, b: f"({50 * k}) J={a + b:.5f} alpha={a:.5f} beta={b:.5f}",
    "no word of a loss": lambda k, a, b: f"tick {50 * k} | wobble={a:.4f} | spin={RNG.random():.3f}",
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_are_counted_too(name: str) -> None:
    log = parse(lines(STEPS[name]))
    assert log.log.is_blocks and log.log.span == (0, 50 * (N - 1)) and log.log.n_steps == 0
    first, last = log.metrics[0].train.total, log.metrics[-1].train.total
    assert first is not None and last is not None and first > 3 * last and causes(log) == []


def test_a_step_that_restarts_with_each_epoch_divides_it() -> None:
    log = parse(f"{e:3d} {step:5d}   {FALL[4 * e + step // 100]:.4f}" for e in range(9) for step in range(0, 400, 100))
    assert [metric.epoch for metric in log.metrics] == list(range(9))
    assert log.metrics[2].train.total == pytest.approx(sum(FALL[8:12]) / 4, abs=1e-3)


def test_a_number_that_is_only_taken_for_the_loss_is_named() -> None:
    notes = " ".join(parse(lines(STEPS["no word of a loss"])).notes)
    assert "`wobble` is taken for the training loss" in notes
    assert "taken for the training loss" not in " ".join(parse(lines(STEPS["it"])).notes)


def test_the_addends_of_a_total_are_its_parts() -> None:
    log = parse(lines(STEPS["sum under any name"]))
    assert set(log.metrics[0].train.loss) == {"alpha", "beta"}


@pytest.mark.parametrize(
    "layout",
    [
        lambda k, a, b: f"tick {50 * k} | wobble={0.5 + RNG.gauss(0, 0.02):.4f}",
        lambda k, a, b: f"tick {50 * k} | wobble={3 - a:.4f}",
        lambda k, a, b: f"copied {k} of {N}, {20 * RNG.random():.1f} MB at {80 + RNG.random():.1f} MB/s",
        lambda k, a, b: f"request {RNG.randrange(900)} took {RNG.random():.3f} s, load {a:.2f}",
    ],
)
def test_numbers_without_meaning_are_no_losses_unless_they_fall(layout: Layout) -> None:
    log = parse(lines(layout))
    assert not log.metrics and not log.has_course
    if "wobble" in layout(0, 1.0, 1.0):
        assert "It prints numbers whose meaning is not known: wobble." in log.notes


def test_the_highest_score_so_far_shows_that_more_is_better() -> None:
    rising = [0.93 - 0.1 * math.exp(-k / 9) + RNG.gauss(0, 1e-4) for k in range(60)]
    turning = [0.8 + 0.05 * math.exp(-(((k - 14) / 12) ** 2)) + RNG.gauss(0, 1e-4) for k in range(60)]
    log = parse(
        f"{k}:\tlearn: {a:.6f}\ttest: {b:.6f}\tbest: {max(round(v, 6) for v in turning[: k + 1]):.6f} (9)\ttotal: {k}s"
        for k, (a, b) in enumerate(zip(rising, turning, strict=True))
    )
    assert not log.metrics and [course.rises for course in log.log.metric_courses] == [True, True]
    assert causes(log) == ["overfit"]


def test_an_error_that_unknown_lines_survive_is_not_the_end() -> None:
    layout = lines(STEPS["it"])
    log = parse([*(next(layout) for _ in range(12)), "RuntimeError: a worker was lost, retrying", *layout])
    assert not log.log.end.errors


def test_long_words_before_numbers_are_not_searched_for_names_from_each_letter() -> None:
    lines = [f"{'a' * 1800}! {k} {'b' * 1800}; {value:.4f}" for k, value in enumerate(FALL * 4)]
    start = time.process_time()
    parse(lines)
    assert time.process_time() - start < 1.5  # 5 s if each letter may begin the name


def test_wide_lines_are_kept_in_constant_memory() -> None:
    columns = LineColumns()
    for k in range(MAX_ROWS // 3):
        columns.add(f"q {k} " + " ".join(f"c{j}x 0.{(j * k) % 997:03d}" for j in range(60)), None)
    [kind] = columns._kinds.values()
    n_numbers = len(kind.rows) * kind.n_columns
    assert 0.4 * MAX_NUMBERS < n_numbers <= MAX_NUMBERS
