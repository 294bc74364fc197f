"""Named numbers that are no losses: which are read, of which split, at which epoch or step, where more is better."""

from __future__ import annotations

import math

import pytest

from giblet_train.diagnosis.log_reader import value_watch
from giblet_train.diagnosis.log_reader.metric_names import rises
from giblet_train.diagnosis.log_reader.reader import TrainingLog, read_lines

Row = tuple[int, dict[str, float], dict[str, float]]


def rows_of(*lines: str) -> list[Row]:
    return [(row.step, row.values, row.validation) for row in read_lines(lines).value_rows]


CASES: dict[str, tuple[list[str], list[Row]]] = {
    "one line per epoch": (
        [
            "Epoch 1/9 train_loss: 0.9 train_acc: 0.31 val_loss: 1.1 val_acc: 0.28 lr: 1e-3 time: 3.2s",
            "Epoch 2/9 train_loss: 0.7 train_acc: 0.42 val_loss: 1.0 val_acc: 0.37 lr: 1e-3 time: 3.1s",
        ],
        [(1, {"acc": 0.31}, {"acc": 0.28}), (2, {"acc": 0.42}, {"acc": 0.37})],
    ),
    "no loss at all": (
        ["epoch 4 psnr 21.5 ssim 0.71", "epoch 5 psnr 22.25 ssim 0.73"],
        [(4, {"psnr": 21.5, "ssim": 0.71}, {}), (5, {"psnr": 22.25, "ssim": 0.73}, {})],
    ),
    "below a heading": (
        ["Epoch 0", "  Train Accuracy: 61.5%", "  Validation PSNR: 18.25 dB SSIM: 0.6"],
        [(0, {"Accuracy": 61.5}, {"PSNR": 18.25, "SSIM": 0.6})],
    ),
    "episodes": (
        ["Episode 10 reward: 7.5 epsilon: 0.9", "Episode 20 reward: 9.25 epsilon: 0.8"],
        [(10, {"reward": 7.5, "epsilon": 0.9}, {}), (20, {"reward": 9.25, "epsilon": 0.8}, {})],
    ),
    "steps": (
        ["step 100/900 | loss 4.1 | ppl 60.3 | tok/s 51000", "step 200/900 | loss 3.9 | ppl 49.4 | tok/s 52000"],
        [(100, {"ppl": 60.3}, {}), (200, {"ppl": 49.4}, {})],
    ),
    "JSON": (
        ['{"step": 3, "cosine_sim": 0.25, "eval/recall@5": 0.5}'],
        [(3, {"cosine_sim": 0.25}, {"recall@5": 0.5})],
    ),
    "the test set has a curve of its own": (
        ["epoch 1 loss: 1.5 val acc: 0.5 test acc: 0.25"],
        [(1, {"test acc": 0.25}, {"acc": 0.5})],
    ),
    "a number of a whole epoch is printed again by another rank": (
        ["Epoch 1 loss: 1.0 f1: 0.5", "Epoch 1 loss: 1.0 f1: 0.5"],
        [(1, {"f1": 0.5}, {})],
    ),
    "settings, the best value, and sentences": (
        ["hidden_dim: 256, dropout: 0.1", "epoch 1 loss: 1.0", "best acc: 0.9 at epoch 1", "saved 3 files"],
        [],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_named_numbers_are_read(name: str) -> None:
    lines, expected = CASES[name]
    assert rows_of(*lines) == expected


def test_an_error_is_another_number_only_next_to_a_loss() -> None:
    assert rows_of("epoch 1 rmse: 3.5", "epoch 2 rmse: 3.0") == []
    assert rows_of("epoch 1 loss: 0.5 rmse: 3.5") == [(1, {"rmse": 3.5}, {})]


def test_parts_of_the_loss_are_not_repeated() -> None:
    lines = [f"epoch {k} loss: {3 / k:.4f} recon: {2 / k:.4f} kl: {1 / k:.4f} fid: {90 / k:.1f}" for k in range(1, 7)]
    assert rows_of(*lines)[-1] == (6, {"fid": 15.0}, {})


def test_a_restarted_epoch_counts_as_printed_last() -> None:
    lines = [
        "epoch 1 acc: 0.1",
        "epoch 2 acc: 0.2",
        "resuming from a checkpoint",
        "epoch 2 acc: 0.3",
        "epoch 3 acc: nan",
    ]
    steps, values = zip(*((step, value["acc"]) for step, value, _ in rows_of(*lines)), strict=True)
    assert steps == (1, 2, 3) and values[:2] == (0.1, 0.3) and math.isnan(values[2])


def test_what_is_kept_of_many_steps_and_names_is_bounded() -> None:
    n_steps = 6 * value_watch.ROWS_PER_STRIDE
    log: TrainingLog = read_lines(f"step: {k} score: {k}.5" for k in range(n_steps))
    assert value_watch.ROWS_PER_STRIDE < len(log.value_rows) < 4 * value_watch.ROWS_PER_STRIDE
    steps = [row.step for row in log.value_rows]
    assert steps == sorted(steps) and steps[-1] > n_steps - 10
    assert [row.values for row in log.value_rows] == [{"score": step + 0.5} for step in steps]
    many = read_lines(["step: 1 " + " ".join(f"layer{k}_norm: 1.5" for k in range(99))])
    assert len(many.value_rows[0].values) == value_watch.MOST_NAMES


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, True) for name in ("accuracy", "Top1 Acc", "PSNR", "f1_macro", "mean reward", "Pearson", "mAP@50")),
        *((name, False) for name in ("ppl", "WER", "fid", "rmse", "top1_error")),
        *((name, None) for name in ("epsilon", "grad_norm", "score", "length", "best acc", "sparsity")),
    ],
)
def test_direction_is_known_by_name_and_never_guessed(name: str, expected: bool | None) -> None:
    assert rises(name) is expected


def test_a_log_of_very_many_epochs_takes_constant_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_watch, "MOST_EPOCHS", 50)
    log = read_lines(f"Epoch {epoch} acc: {epoch / 1000:.3f}" for epoch in range(1000))
    epochs = [row.step for row in log.value_rows]
    assert 25 <= len(epochs) <= 50
    assert epochs[0] == 0
    assert epochs[-1] >= 998


def test_the_steps_of_an_evaluation_do_not_end_the_course_of_the_training() -> None:
    lines = [f"step {step} loss {9 / step:.4f} accuracy {step / 3000:.4f}" for step in range(100, 2100, 100)]
    lines.insert(10, "eval step: 5 accuracy: 0.9")
    assert {row.step for row in read_lines(lines).value_rows} >= set(range(100, 2100, 100))
