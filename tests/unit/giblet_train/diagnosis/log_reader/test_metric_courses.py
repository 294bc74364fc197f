"""Logs that print metrics of known direction: instead of losses, and beside a loss that is practically 0."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.log_parser import ParsedLog, parse, read_log

RNG = random.Random(1)
Course = Callable[[int], float]


def learns(k: int) -> float:
    return 0.95 - 0.8 * math.exp(-k / 10) + RNG.gauss(0, 0.005)


def constant(k: int) -> float:
    return 0.1 + RNG.gauss(0, 0.004)


def learns_at_once(k: int) -> float:
    return (0.9 if k else 0.1) + RNG.gauss(0, 0.003)


def high(k: int) -> float:
    return 0.93 + RNG.gauss(0, 0.003)


def turns(k: int) -> float:
    return 0.6 + 0.02 * min(k, 15) - 0.008 * max(0, k - 15) + RNG.gauss(0, 0.003)


def ends_as_nan(k: int) -> float:
    return learns(k) if k < 20 else math.nan


LINES: dict[str, Callable[[int, float, float], str]] = {
    "text": lambda k, train, val: f"epoch {k} train acc {train:.4f} val acc {val:.4f}",
    "json": lambda k, train, val: f'{{"epoch": {k}, "train_acc": {train:.4f}, "val_acc": {val:.4f}}}',
    "two_lines": lambda k, train, val: f"Epoch {k}\n  train dice: {train:.4f}\n  val dice: {val:.4f}",
    "errors": lambda k, train, val: f"epoch {k} train WER {1 - train:.4f} dev WER {1 - val:.4f}",
    "lightgbm": lambda k, train, val: f"[{10 * k + 10}]\ttraining's auc: {train:.5f}\tvalid_1's auc: {val:.5f}",
}


def causes(log: ParsedLog) -> list[str]:
    diagnosis = diagnose(None, log.metrics, log=log.log)
    assert not diagnosis.unevaluated and all(cause.confidence <= 0.9 for cause in diagnosis.causes)
    return [cause.cause for cause in diagnosis.causes]


def log_of(lines: list[str]) -> ParsedLog:
    return parse("\n".join(lines).split("\n"))


@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize(
    ("train", "val", "expected"),
    [
        (learns, learns, []),
        (learns_at_once, learns_at_once, []),
        (high, high, []),
        (constant, constant, ["flat"]),
        (learns, turns, ["overfit"]),
        (learns, ends_as_nan, ["nan"]),
    ],
)
def test_a_log_of_metrics_only_is_read_as_a_course(kind: str, train: Course, val: Course, expected: list[str]) -> None:
    log = log_of([LINES[kind](k, train(k), val(k)) for k in range(40)])
    assert log.has_course and "It prints no loss" in "".join(log.notes)
    assert causes(log) == expected


def test_a_table_of_metrics_only_is_read(tmp_path: Path) -> None:
    rows = (f"{k},{learns(k):.4f},{learns(k):.4f}" for k in range(30))
    path = tmp_path / "metrics.csv"
    path.write_text("\n".join(["epoch,train_acc,val_acc", *rows]))
    log = read_log(path)
    assert log.has_course and causes(log) == []


SELF_SUPERVISED: dict[str, Callable[[int, float, float], str]] = {
    "byol": lambda k, loss, acc: f"[pretrain] ep {k:3d}/200 byol_loss {loss:.3e} feat_std 1e-05 knn@1 {100 * acc:.2f}%",
    "knn": lambda k, loss, acc: f"Epoch [{k}/100] loss {loss:.6f} kNN acc {100 * acc:.2f}",
    "probe": lambda k, loss, acc: f'{{"epoch": {k}, "train_loss": {loss:.7f}, "linear_probe": {acc:.3f}}}',
    "leak": lambda k, loss, acc: f"ep {k} loss={loss:.2e} test_acc={acc:.3f}",
    "two_lines": lambda k, loss, acc: f"epoch {k} loss {loss:.7f}\nkNN@20: {100 * acc:.2f}%",
}


@pytest.mark.parametrize("kind", SELF_SUPERVISED)
@pytest.mark.parametrize("course", [constant, learns, learns_at_once, high])
def test_a_loss_of_0_beside_a_metric_that_stays_low_is_no_learning(kind: str, course: Course) -> None:
    lines = [SELF_SUPERVISED[kind](k, 2 * math.exp(-k) + 2e-6, course(k)) for k in range(60)]
    assert causes(log_of(lines)) == (["loss_without_learning"] if course is constant else [])


def test_a_loss_that_is_only_low_is_not_doubted() -> None:
    lines = [SELF_SUPERVISED["knn"](k, 2 * math.exp(-k) + 0.01, constant(k)) for k in range(60)]
    assert "loss_without_learning" not in causes(log_of(lines))


def test_the_progress_of_one_evaluation_is_no_course() -> None:
    assert not log_of([f"Test: [{10 * k}/391]  Time 0.02  Acc@1 {learns(k):.2f}" for k in range(39)]).has_course
