"""Details of layouts that decide what is read: counters, plans, averages, units, lists, lines without breaks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.log_parser import parse, read_log

FALL = [1.7 * math.exp(-k / 8) + 0.21 for k in range(24)]
RISE = [0.91 - value / 3 for value in FALL]
Layout = Callable[[int, float, float], str]

LAYOUTS: dict[str, Layout] = {
    "batch id": lambda k, a, r: f"epoch: {k}, batch_id: 500, loss:{2 * a:.5f}\nepoch: {k} done, loss:{a:.5f}",
    "average behind the loss": lambda k, a, r: f"Epoch: {k}/30 step: 50/80 Loss: {2 * a:.4f} AVG_Loss: {a:.4f}",
    "count before the epoch": lambda k, a, r: (
        f"\titers: 100, epoch: {k} | loss: {2 * a:.5f}\nEpoch: {k}, Steps: 264 | Train Loss: {a:.5f} Vali Loss: {a:.5f}"
    ),
    "count without brackets": lambda k, a, r: (
        f"| epoch {k:03d}:   900 / 2700 loss={2 * a:.4f}\n| epoch {k:03d} | loss {a:.4f} | num_updates {k}"
    ),
    "total in another language": lambda k, a, r: (
        f"エポック {k}/30\n  方策損失: {0.7 * a:.4f}\n  価値損失: {0.3 * a:.4f}\n  合計損失: {a:.4f}"
    ),
    "one part is the sum": lambda k, a, r: (
        f"Epoch {k}/30 | PINN Loss {a:.6f} | Initial loss: {0.6 * a:.6f} | PDE loss: {0.4 * a:.6f}"
    ),
    "remark behind the name": lambda k, a, r: f"Epoch {k} - Accuracy: {100 * r:.2f}%, Loss (not per token): {a:.4f}",
    "error spelt out": lambda k, a, r: f"epoch {k} - loss: {a if not k else 0.0:.4e} - mean_squared_error: {a:.4e}",
    "progress bar behind backspaces": lambda k, a, r: (
        f"Epoch {k}/24\n 1/90 [>....] - ETA: 6s - loss: {3 * a:.4f}\b\b\b90/90 [====] - 6s - loss: {a:.4f}"
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_loss_of_each_epoch_is_read(name: str) -> None:
    log = parse(line for k, a in enumerate(FALL) for line in LAYOUTS[name](k, a, RISE[k]).split("\n"))
    assert [metric.epoch for metric in log.metrics] == list(range(24)) and not log.log.is_adversarial
    assert [metric.train.total for metric in log.metrics] == pytest.approx(FALL, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "number"),
    [("257.5B", 257.5e9), ("1.2k", 1200.0), ("(x1000) 830", 830.0), ("(nats): 0.5", 0.5)],
)
def test_units_and_remarks_are_understood(text: str, number: float) -> None:
    log = parse(f"Epoch {k} | Train loss {text}" for k in range(3))
    assert log.metrics[0].train.total == pytest.approx(number)


def test_a_list_under_a_header_is_the_sum_of_its_parts() -> None:
    header = "Step      Train loss                 Test loss                  Test metric"
    rows = [f"{100 * k}     [{a:.3e}, {2 * a:.3e}]    [{a:.3e}, {3 * a:.3e}]    []" for k, a in enumerate(FALL)]
    metrics = parse([header, *rows]).metrics
    assert metrics[0].train.total == pytest.approx(3 * FALL[0], rel=0.2)
    assert metrics[-1].validation and metrics[-1].validation.total == pytest.approx(4 * FALL[-1], rel=0.2)


def test_a_log_without_line_breaks_is_divided_at_its_counter() -> None:
    text = "".join(
        f"{a:.6f}{2 * a:.6f}step {30 * k} / 900 (epoch {k / 12:.2f} / 2):  loss_average = {a:.3e}  "
        f"validation accuracy: {r:.4f} (31 / 60), loss: {a + 0.1:.3e}  time: 24720s" + "0.31" * 40
        for k, (a, r) in enumerate(zip(FALL, RISE, strict=True))
    )
    log = parse([text])
    assert log.log.n_steps == 900 and log.metrics[-1].train.total == pytest.approx(FALL[-1], rel=0.2)
    assert log.metrics[-1].validation is not None and diagnose(None, log.metrics, log=log.log).causes == ()


def test_plans_are_read_from_settings(tmp_path: Path) -> None:
    assert parse(["num_epochs: 40", *(f"Epoch {k} loss {a:.4f}" for k, a in enumerate(FALL))]).n_epochs == 40
    assert parse(["warmup_epochs: 5", *(f"Epoch {k} loss {a:.4f}" for k, a in enumerate(FALL))]).n_epochs == 0
    steps = parse(["max_iter: 5000", *(f"iter {100 * k} loss {a:.4f}" for k, a in enumerate(FALL))])
    assert steps.log.n_steps == 5000
    state = tmp_path / "trainer_state.json"
    history = [{"step": 10 * k, "epoch": k / 40, "loss": a} for k, a in enumerate(FALL, 1)]
    state.write_text(json.dumps({"log_history": history, "max_steps": 400}))
    log = read_log(state)
    assert log.log.n_steps == 400 and "It ends after step 240 of 400; the log does not say why." in log.notes


def test_steps_in_a_single_epoch_are_counted_whatever_they_are_called() -> None:
    log = parse(f"Ep. 1 : Up. {200 * k} : Sen. {9000 * k} : Cost {a:.5f} : Time 6.61s" for k, a in enumerate(FALL, 1))
    assert log.log.is_blocks and log.log.span == (200, 4800) and len(log.metrics) >= 5


def test_shares_of_splits_that_rise_are_scores() -> None:
    log = parse(f"Epoch: {k} - 46.9 s | Train: {99 * r:.2f} % | Validation: {90 * r:.2f} %" for k, r in enumerate(RISE))
    assert not log.metrics and [course.rises for course in log.log.metric_courses] == [True, True]
    assert log.has_course and diagnose(None, log.metrics, log=log.log).causes == ()


def test_an_error_whose_lowest_value_is_printed_falls() -> None:
    log = parse(
        f"At iteration {100 * k}/{100 * k}, char train={60 * a:.3f}%, skip=0.1%, New best char error = {60 * a:.3f}"
        for k, a in enumerate(FALL, 1)
    )
    assert [(course.name, course.rises) for course in log.log.metric_courses] == [("char train score", False)]
    assert log.has_course


def test_a_loss_that_is_always_0_is_none() -> None:
    log = parse(
        f"Epoch {10 * k:05d} | Loss 0.0000 | Train Acc {100 * r:.2f}% | Val Acc {99 * r:.2f}% | Test Acc 1.00%"
        for k, r in enumerate(RISE)
    )
    assert not log.metrics and diagnose(None, log.metrics, log=log.log).causes == ()
    assert [course.points[-1].value for course in log.log.metric_courses] == pytest.approx(
        [100 * RISE[-1], 99 * RISE[-1]], abs=0.01
    )


def test_rounds_after_a_message_about_early_stopping_are_no_end() -> None:
    rising = [0.4 + abs(k - 30) / 90 for k in range(120)]
    falling = [1.5 * math.exp(-k / 20) + 0.05 for k in range(120)]
    lines = [
        f"[{k}]\ttrain-rmse:{a:.5f}\ttest-rmse:{b:.5f}" for k, (a, b) in enumerate(zip(falling, rising, strict=True))
    ]
    log = parse([lines[0], "Will train until test-rmse hasn't improved in 150 rounds.", *lines[1:]])
    assert log.log.end.statement == ""
    assert [cause.cause for cause in diagnose(None, log.metrics, log=log.log).causes][:1] == ["overfit"]


HELD_OUT: dict[str, Layout] = {
    "split joined with the loss": lambda k, a, r: f"epoch {k}, trainloss = {a:.5f}, validationloss = {1.1 * a:.5f}",
    "split before the epoch": lambda k, a, r: (
        f"train Epoch {k} Batch 0 Loss {a:.5f}\ntrain Epoch {k} Batch 50 Loss {a:.5f}\n"
        f"val Epoch {k} Batch 0 Loss {1.1 * a:.5f}\nval Epoch {k} aveLoss {1.1 * a:.5f}"
    ),
    "text behind a number": lambda k, a, r: (
        f"Epoch {k}/24\n90/90 ━━━━━━━━━━ 0s 2ms/step - loss: {1 + a:.4f}Epoch {k} completed in 3.5s\n"
        f"90/90 ━━━━━━━━━━ 9s 7ms/step - loss: {a:.4f} - val_loss: {1.1 * a:.4f}"
    ),
}


@pytest.mark.parametrize("kind", HELD_OUT)
def test_the_validation_loss_is_told_from_that_of_the_training(kind: str) -> None:
    lines = [line for k, a in enumerate(FALL, 1) for line in HELD_OUT[kind](k, a, 0.0).split("\n")]
    log = parse(lines)
    assert not log.unread and len(log.metrics) == len(FALL)
    last = log.metrics[-1]
    assert last.train.total == pytest.approx(FALL[-1], abs=1e-3)
    assert last.validation is not None and last.validation.total == pytest.approx(1.1 * FALL[-1], abs=1e-3)


def test_the_loss_with_the_name_of_the_model_is_the_total() -> None:
    log = parse(
        f"epoch {k} loss_vae: {a:.4f}; loss_recon: {0.7 * a:.4f}; loss_kl: {150 + 4 * k}; loss_mmd: {-0.1 * k:.3f}"
        for k, a in enumerate(FALL)
    )
    assert [row.train for row in log.log.rows] == pytest.approx(FALL, abs=1e-4) and not log.log.summed_parts


def test_a_counter_may_double() -> None:
    header = ["average   since     example", "loss      last      counter"]
    log = parse([*header, *(f"{a:.6f}  {1.3 * a:.6f}  {2**k:10d}" for k, a in enumerate(FALL))])
    assert log.metrics[0].train.total == pytest.approx(FALL[0], abs=1e-5)
    assert log.log.span == (1, 2 ** (len(FALL) - 1))


def test_planned_epochs_are_read_next_to_a_learning_rate() -> None:
    log = parse(["python fit.py --n_epoch=70 --lr=3e-4", *(f"Epoch {k} | Loss: {a:.4f}" for k, a in enumerate(FALL))])
    assert log.n_epochs == 70


def test_abbreviated_learning_rate_is_no_loss() -> None:
    log = parse(f"Ep. {k} : Sen. {70 * k} : Cost {a:.5f} : L.r. {1e-5 * k:.4e}" for k, a in enumerate(FALL, 1))
    assert log.metrics[-1].lr == pytest.approx(24e-5) and log.metrics[-1].train.loss == {}


def test_a_reconstruction_error_is_a_loss() -> None:
    log = parse(f">> Epoch {k} finished \tRBM Reconstruction error {700 * a:.4f}" for k, a in enumerate(FALL, 1))
    assert log.metrics[0].train.total == pytest.approx(700 * FALL[0], abs=1e-3) and not log.log.assumed_loss
