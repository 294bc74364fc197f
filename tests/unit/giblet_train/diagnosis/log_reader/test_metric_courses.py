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


@pytest.mark.parametrize(
    "line",
    [
        '10.2.1.9 - - [12/Oct/2024:06:26:{k:02d} +0000] "GET /api/v1/loss HTTP/1.1" 500 61{k:03d} "-" "Mozilla/5.0"',
        'INFO: 127.0.0.1:55{k:03d} - "POST /train/loss/{k} HTTP/1.1" 200 OK',
        "fetching http://host:6006/loss/{k} 0.{k:02d} s",
    ],
)
def test_numbers_of_requests_and_addresses_are_no_losses(line: str) -> None:
    log = log_of([line.format(k=k) for k in range(60)])
    assert not log.has_course and not log.metrics


@pytest.mark.parametrize(("course", "expected"), [(learns, []), (constant, ["flat"])])
def test_a_metric_that_rises_refutes_a_flat_loss(course: Course, expected: list[str]) -> None:
    lines = [SELF_SUPERVISED["knn"](k, 5.4 + RNG.gauss(0, 0.01), course(k)) for k in range(60)]
    assert causes(log_of(lines)) == expected


@pytest.mark.parametrize(("last", "is_shown"), [(25, True), (130, False)])
def test_an_adversarial_training_is_judged_by_its_fid(last: float, is_shown: bool) -> None:
    lines = []
    for k in range(40):
        lines.append(f"[{k}/40][0/782] Loss_D: {RNG.gauss(0.7, 0.05):.4f} Loss_G: {RNG.gauss(2.3, 0.2):.4f}")
        if k % 4 == 3:
            fid = last + (130 - last) * math.exp(-k / 10) + RNG.gauss(0, 0.5)
            lines.append(f"   >> FID@10k: {fid:.2f}")
    log = log_of(lines)
    assert log.has_course == is_shown and not causes(log) and ("fid@10k" in "".join(log.notes)) == is_shown


@pytest.mark.parametrize(("growth", "expected"), [(0.4, ["diverging"]), (0.05, [])])
def test_values_that_grow_without_bound_diverge(growth: float, expected: list[str]) -> None:
    lines = []
    for k in range(100):
        lines += [f"global_step={20 * k + i}, episodic_return={RNG.gauss(20, 3):.1f}" for i in range(4)]
        lines.append(
            f"losses/td_loss={0.5 * math.exp(growth * k):.6g} losses/q_values={3.5 * math.exp(growth * k / 2):.6g}"
        )
    assert causes(log_of(lines)) == expected


def test_a_metric_that_only_leaves_a_poor_start_does_not_refute_a_flat_loss() -> None:
    line = "epoch {k} loss {loss:.4f} mae {mae:.4f} r2 {r2:.4f}"
    courses = ((0.999 + RNG.gauss(0, 0.003) + 2.4 * math.exp(-k), k) for k in range(100))
    lines = [line.format(k=k, loss=loss, mae=0.8 * math.sqrt(loss), r2=1 - loss) for loss, k in courses]
    assert causes(log_of(lines)) == ["flat"]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("| Epoch | Train acc | Valid acc | Valid kappa|", "| {k:5d} | {a:9.2f} % | {b:9.2f} % | {c:10.3f} |"),
        ("epoch   train_acc   val_acc   val_f1", "{k}   {a:.2f}   {b:.2f}   {c:.3f}"),
    ],
)
@pytest.mark.parametrize(("val", "expected"), [(learns, []), (turns, ["overfit"])])
def test_a_screen_table_of_metrics_only_is_read(header: str, row: str, val: Course, expected: list[str]) -> None:
    rows = [row.format(k=k, a=100 * learns(k), b=100 * val(k), c=val(k)) for k in range(1, 41)]
    log = log_of(["+-------+-----+", header, "+-------+-----+", *rows, "+-------+-----+"])
    assert log.has_course and causes(log) == expected


@pytest.mark.parametrize("line", ["Epoch {}/50 loss: {:.4f}", "Epoch: [{}][90/91] Loss {:.4f}"])
def test_a_negative_similarity_at_its_minimum_from_the_start_is_a_collapse(line: str) -> None:
    def causes(loss: Callable[[int], float]) -> list[str]:
        log = parse(line.format(k, loss(k)) for k in range(1, 31))
        return [cause.cause for cause in diagnose(None, log.metrics, log=log.log).causes]

    assert causes(lambda k: -1 + 0.4 * 0.02**k)[0] == "loss_without_learning"
    assert causes(lambda k: -0.95 + 0.9 * math.exp(-k / 10)) == []
    assert causes(lambda k: -0.9999 + 0.6 * math.exp(-k / 8)) == []


SATURATES = [0.95 - 0.4 * math.exp(-k / 4) for k in range(24)]
SCORES: dict[str, Callable[[int, float], str]] = {
    "mean reward": lambda k, r: f"[INFO] Crawler. Step: {500 * k}. Time Elapsed: {9.5 * k} s. Mean Reward: {r:.3f}.",
    "count of right answers": lambda k, r: f"Epoch #{k}: {int(400 * r)}/400",
    "count and share": lambda k, r: f"Epoch #{k}: {int(400 * r)}/400 ({100 * r:.5f}%)",
    "fitness": lambda k, r: f"Generation {k}: best fitness {40 * r:.4f} of individual 3",
    "fitness below its generation": lambda k, r: f"== Generation {k} ==\nBest fitness: {40 * r:.4f} - size: (2, 5)",
    "log-likelihood of a token": lambda k, r: f"<{10 * k + 10}> LL/token: {r - 9.6:.5f}",
    "log-likelihood of EM": lambda k, r: f"iteration {k}: average log-likelihood = {40 * r - 300:.4f}",
    "number of samples in a name": lambda k, r: f"epoch {k}\naccuracy of 300 samples: {r:.5f}",
    "accuracy on images": lambda k, r: f"epoch {k}\nAccuracy of the network on the 800 test images: {r:.4f}",
}


@pytest.mark.parametrize("kind", SCORES)
def test_a_score_that_rises_is_a_course_without_a_loss(kind: str) -> None:
    log = log_of([SCORES[kind](k, rise) for k, rise in enumerate(SATURATES)])
    assert log.has_course and not log.metrics and not log.unread and causes(log) == []


@pytest.mark.parametrize("line", ["Epoch 1: {}/400 read", "Epoch #3: {}/400 ({}%)"])
def test_progress_within_an_epoch_is_no_score(line: str) -> None:
    counts = [15 * k + k % 3 for k in range(24)]
    log = log_of([f"stamp {k} " + line.format(count, count / 4) for k, count in enumerate(counts)])
    assert not log.log.metric_courses and not log.has_course


def test_the_first_metric_of_a_line_counts() -> None:
    line = "Epoch {} | Loss: {:.3f} | Token Acc: {:.4f} | Seq Acc: 0.0000"
    log = log_of([line.format(k, 1.3 - rise, rise) for k, rise in enumerate(SATURATES)])
    assert log.log.metric_courses[0].values[-1] == pytest.approx(SATURATES[-1], abs=1e-4)
