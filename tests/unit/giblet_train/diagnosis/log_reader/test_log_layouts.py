"""Layouts of particular programs: which numbers are the loss, and which only look like it."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.log_parser import ParsedLog, parse, read_log
from giblet_train.diagnosis.log_reader.reader import read_lines
from giblet_tui.reporting.why import of_path, why_lines
from tests.collection.balanced_logs import BALANCED, balanced_log

FALL = [round(0.4 + 1.6 * math.exp(-i / 6), 4) for i in range(20)]
"""Training losses of a healthy run."""


def totals(log: ParsedLog) -> list[float | None]:
    """Return the training losses of a log."""
    return [metric.train.total for metric in log.metrics]


def yolo(names: str, width: int) -> list[str]:
    """Return the console of YOLO, whose losses are divided into columns, with its table of classes in between."""
    lines = []
    for i, loss in enumerate(FALL):
        cells = "  ".join(f"{loss / width:.6g}" for _ in range(width))
        bars = (
            f"  {i}/19  2.64G  {cells}  {12 + p}  640: {p}%|███| {p}/100 [00:15<00:00, 2it/s]" for p in (0, 50, 100)
        )
        lines += [
            names,
            "\r".join(bars),
            "     Class  Images  Labels      P      R  mAP@.5 mAP@.5:.95: 100%|███| 4/4 [00:01<00:00,  1.30it/s]",
            "       all     128     929    0.6    0.5    0.55    0.3",
        ]
    return lines


def darknet(n_finite: int) -> list[str]:
    """Return the lines of darknet, in which a layer without objects is nan also while all is well."""
    lines = []
    for i in range(40):
        loss = f"{FALL[i // 2]:.6f}" if i < n_finite else "-nan"
        lines += [
            "Region 106 Avg IOU: nan, Class: nan, Obj: nan, No Obj: 0.000000, .5R: nan, .75R: nan,  count: 0",
            "v3 (iou loss, Normalizer: (iou: 0.07) Region 161 Avg (IOU: 0.0), class_loss = 9.1, total_loss = 9.6",
            f" {i + 1}: {loss}, {loss} avg loss, 0.001000 rate, 3.430528 seconds, {64 * i} images",
        ]
    return lines


@pytest.mark.parametrize(
    ("names", "width"),
    [
        ("     Epoch   gpu_mem       box       obj       cls    labels  img_size", 3),
        ("      Epoch    GPU_mem   box_loss   cls_loss   dfl_loss  Instances       Size", 3),
    ],
)
def test_the_columns_of_yolo_are_summed(names: str, width: int) -> None:
    log = parse(yolo(names, width))
    assert totals(log) == pytest.approx(FALL, rel=1e-4) and log.n_epochs == 19


def test_a_layer_of_darknet_without_objects_is_no_loss() -> None:
    log = parse(darknet(40))
    assert totals(log)[0] == pytest.approx(FALL[0], rel=0.1) and None not in totals(log)
    assert log.log.collapse is None and log.metrics[0].lr == 0.001
    collapse = parse(darknet(30)).log.collapse
    assert collapse is not None and (collapse.value, collapse.step) == ("nan", 31)


def test_the_best_round_printed_again_is_no_restart() -> None:
    rounds = [f"[{i}]\ttraining's l2: {v}\tvalid_1's l2: {1.1 * v}" for i, v in enumerate(FALL)]
    log = parse([*rounds, "Early stopping, best iteration is:", rounds[12]])
    assert totals(log) == FALL and not log.log.restarted


def test_rounds_of_catboost_have_no_rank() -> None:
    log = parse([f"{i}:\tlearn: {v}\ttest: {1.1 * v}\tbest: {1.1 * v} ({i})\ttotal: 60ms" for i, v in enumerate(FALL)])
    assert totals(log) == FALL


def test_bare_numbers_that_rise_are_no_losses() -> None:
    lines = [f"Epoch {i + 1}/20 train: {v} val: {0.9 * v:.4f}" for i, v in enumerate(FALL)]
    assert totals(parse(lines)) == FALL
    assert parse(lines[::-1]).metrics == ()


def test_accuracies_behind_a_loss_are_no_losses() -> None:
    lines = [f"Epoch: {i:03d}, Loss: {v}, Train: {0.4 + i / 50}, Val: {0.3 + i / 50}" for i, v in enumerate(FALL)]
    assert totals(parse(lines)) == FALL and not any(metric.validation for metric in parse(lines).metrics)
    without_train = parse([f"Epoch: {i:03d}, Loss: {v}, Val: {0.3 + i / 50}" for i, v in enumerate(FALL)])
    assert not any(metric.validation for metric in without_train.metrics)


def test_a_bare_validation_that_falls_with_the_loss_is_one() -> None:
    log = parse([f"Epoch {i + 1}/20 | loss {v} | val {v + 0.1:.4f}" for i, v in enumerate(FALL)])
    validation = log.metrics[0].validation
    assert validation is not None and validation.total == pytest.approx(FALL[0] + 0.1)


@pytest.mark.parametrize(
    "line",
    [
        "Epoch {e}/20\n1875/1875 - 3s - loss: {v} - val_loss: {w} - 3s/epoch - 2ms/step",
        "Epoch: {e}\ntrain: 100%|██| 40/40 [00:10<00:00,  3.8it/s, dice_loss - {v}, iou_score - 0.6]",
        "INFO:root:Epoch[{e}] Batch [10] Speed: 9.1 samples/sec\nINFO:root:Epoch[{e}] Train-cross-entropy={v}",
        '{{"current_steps": {e}, "total_steps": 600, "loss": {v}, "lr": 1e-4, "epoch": 0.{e:02d}}}',
        "Epoch {e}/19 ━━━━━━━━━━━━ 100/100 0:00:12 • 0:00:00 8.10it/s v_num: 0.000 train_loss: {v}",
    ],
    ids=["keras_verbose_2", "segmentation_models", "mxnet", "llama_factory", "rich_bar"],
)
def test_every_epoch_of_a_layout_is_read(line: str) -> None:
    lines = [text for e, v in enumerate(FALL, 1) for text in line.format(e=e, v=v, w=v + 0.1).split("\n")]
    log = parse(lines)
    assert not log.unread and totals(log)[0] == pytest.approx(FALL[0], rel=0.1)
    if not log.log.is_blocks:
        assert totals(log) == FALL and len(log.metrics) == len(FALL)


LEADING_COUNTERS = (
    "({e}) train: {v} valid: {w}",
    "[{e}/20] {v} / {w}",
    "ep{e} tr {v} va {w}",
    "ep={e}, tr={v}, va={w}",
    "#{e}: loss={v} val_loss={w}",
    "e{e:02d} | train {v} | dev {w}",
    "{e}/20: {v}, {w}",
    "{e:3d} {v} {w}",
    "2025-11-05 10:00:00 [{e}] {v} {w}",
    "Epoch {e}: {v} {w}",
    "{e:3d} | trloss={v} | valoss={w}",
    "ep {e} t_loss {v} v_loss {w}",
)
"""Epoch lines whose counter or losses have no name, or an abbreviated one."""


@pytest.mark.parametrize("line", LEADING_COUNTERS)
def test_a_counter_at_the_beginning_of_a_line_counts_epochs(line: str) -> None:
    log = parse([line.format(e=e, v=v, w=round(v + 0.1, 4)) for e, v in enumerate(FALL, 1)])
    assert totals(log) == FALL and [metric.epoch for metric in log.metrics] == list(range(1, 21))
    assert [m.validation and m.validation.total for m in log.metrics] == pytest.approx([v + 0.1 for v in FALL])
    assert not log.log.is_blocks and diagnose(None, log.metrics, log=log.log).healthy


@pytest.mark.parametrize("line", LEADING_COUNTERS)
def test_overfitting_is_seen_behind_any_counter(line: str) -> None:
    validation = [v + 0.1 + 0.05 * max(0, i - 8) for i, v in enumerate(FALL)]
    log = parse([line.format(e=e, v=v, w=round(w, 4)) for e, (v, w) in enumerate(zip(FALL, validation, strict=True))])
    assert [c.cause for c in diagnose(None, log.metrics, log=log.log).causes] == ["overfit"]


def test_an_accuracy_without_a_name_is_no_validation_loss() -> None:
    log = parse([f"[{e}/20] {v} / {0.5 + 0.02 * e:.3f}" for e, v in enumerate(FALL, 1)])
    assert totals(log) == FALL and not any(metric.validation for metric in log.metrics)
    assert "Its numbers have no names: the first of each epoch is taken for the training loss." in log.notes


def test_a_sentence_with_a_number_is_no_row_of_a_table() -> None:
    assert totals(parse([*yolo("     Epoch   gpu_mem       box       obj       cls    labels  img_size", 3),
                         "50 epochs completed in 0.412 hours."])) == pytest.approx(FALL, rel=1e-4)  # fmt: skip


def test_a_counter_of_steps_inside_epochs_counts_no_epochs() -> None:
    lines = [text for e, v in enumerate(FALL, 1) for text in (f"Epoch {e}", f"[5/5] train {v} val {v + 0.1:.4f}")]
    assert [metric.epoch for metric in parse(lines).metrics] == list(range(1, 21))


@pytest.mark.parametrize(
    "header", ["epoch train valid", "ep\ttr\tva", "Epoch | Train | Val", "epoch,train_mse,val_mse"]
)
def test_a_table_may_name_splits_or_errors_only(header: str) -> None:
    separator = next((mark for mark in (",", "\t", "|") if mark in header), " ")
    rows = [separator.join((str(e), str(v), f"{v + 0.1:.4f}")) for e, v in enumerate(FALL, 1)]
    log = parse([header, *rows])
    assert totals(log) == FALL and all(metric.validation for metric in log.metrics)


def test_a_bare_number_after_another_metric_is_that_metric() -> None:
    log = parse(
        [f"Epoch {i + 1}/20 loss=(train {v}; val {v + 1}) acc=(train 0.6; val 0.5)" for i, v in enumerate(FALL)]
    )
    assert totals(log) == FALL
    validation = log.metrics[0].validation
    assert validation is not None and validation.total == FALL[0] + 1


def test_a_first_line_with_a_comma_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text("".join(f"Epoch {i + 1}/20 train loss {v}, val loss {v}\n" for i, v in enumerate(FALL)))
    assert totals(read_log(path)) == FALL


def test_a_best_loss_at_the_end_is_not_unread() -> None:
    log = parse([*(f"Epoch {i + 1}/20 loss: {v}" for i, v in enumerate(FALL)), "Best val loss: 0.5512"])
    assert not log.unread and totals(log) == FALL


def test_adversarial_losses_are_not_judged(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    line = "[{e}/20][0/1583]\tLoss_D: {d:.4f}\tLoss_G: {g:.4f}\tD(x): 0.6420"
    path.write_text("".join(line.format(e=i, d=v / 4, g=2 + 0.2 * i) + "\n" for i, v in enumerate(FALL)))
    assert of_path(path, None).inconclusive
    assert any("balance each other" in note for note in read_log(path).notes)


@pytest.mark.parametrize("name", BALANCED)
def test_a_log_of_balanced_losses_is_read_and_its_answer_says_why_it_is_not_judged(name: str, tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text(balanced_log(name))
    answer = of_path(path, None)
    assert answer.balanced and not answer.diagnosis.causes and not answer.unread
    rises = any("Its reward rose from" in note for note in answer.notes)
    assert rises == (name != "cycle") != answer.inconclusive
    assert answer.inconclusive == ("balance each other" in why_lines(answer)[0])


@pytest.mark.parametrize("name", BALANCED)
def test_balanced_losses_that_become_nan_are_reported(name: str, tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text(balanced_log(name, n_lost=3))
    assert [cause.cause for cause in of_path(path, None).diagnosis.causes][:1] == ["nan"]


FEW_NAMES = {
    "basicsr": [
        f"2025-11-05 10:00:00,001 INFO: [train..][epoch:{e:3d}, iter:{500 * e:8,d}, lr:(1.000e-04,)] l_pix: {v:.4e}"
        for e, v in enumerate(FALL, 1)
    ],
    "info_nce": [f"Epoch [{e}/20] InfoNCE {v:.4f} top1 {10 + e}" for e, v in enumerate(FALL, 1)],
    "spacy": [
        "E    #       LOSS NER  ENTS_F  SCORE ",
        "---  ------  --------  ------  ------",
        *(f"{e:3d}  {200 * e:6d}  {v:8.4f}  {50 + e:6.2f}    0.{50 + e}" for e, v in enumerate(FALL, 1)),
    ],
}
"""Logs whose loss has a name of its own."""


@pytest.mark.parametrize("name", FEW_NAMES)
def test_losses_with_a_name_of_their_own_are_read(name: str) -> None:
    assert totals(parse(FEW_NAMES[name])) == pytest.approx(FALL)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_no_number_is_seen_without_a_mark_between_name_and_value(value: str) -> None:
    lines = [f"epoch {e} step {i} loss {v if e < 9 else value} acc 0.1" for e, v in enumerate(FALL) for i in range(3)]
    log = parse(lines)
    assert totals(log)[9] is None
    assert [c.cause for c in diagnose(None, log.metrics, log=log.log).causes][:1] == ["nan"]


def test_the_loss_of_a_log_with_rewards_is_not_judged() -> None:
    lines = [str({"loss": 1e-4 * (1.5 + math.sin(i)), "reward": 0.004 * i, "epoch": 0.01 * i}) for i in range(1, 90)]
    log = parse(lines)
    assert log.log.is_adversarial and not log.metrics
    preferences = [str({"loss": v, "rewards/chosen": 0.1, "epoch": 0.5 * i}) for i, v in enumerate(FALL, 1)]
    assert len(parse(preferences).metrics) == 10


def test_numbers_without_a_name_that_fall_and_then_rise_are_losses() -> None:
    course = [0.4 + 1.6 * 0.85**e if e < 25 else 0.43 * 1.22 ** (e - 25) for e in range(1, 41)]
    log = parse([f"epoch {e:3d}  train {v:.4f}  val {v + 0.1:.4f}" for e, v in enumerate(course, 1)])
    assert [c.cause for c in diagnose(None, log.metrics, log=log.log).causes] == ["diverging"]


def test_an_accuracy_that_collapses_is_no_loss() -> None:
    course = [min(0.9, 0.1 + 0.08 * e) if e < 25 else 0.12 for e in range(40)]
    assert not parse([f"epoch {e:3d}  train {v:.4f}  val {v - 0.05:.4f}" for e, v in enumerate(course, 1)]).metrics


def test_losses_of_several_subjects_are_read() -> None:
    lines = [f"sub-0{s} epoch {i + 1}/20 train {v} val {v + 0.1:.4f} r=0.1" for i, v in enumerate(FALL) for s in (1, 2)]
    log = parse(lines)
    assert len(log.metrics) == 20 and log.metrics[-1].fmri_r == 0.1


@pytest.mark.parametrize(("pair", "r"), [("val_pearson 0.21", 0.21), ("va_r +0.210", 0.21), ("r 0.21", None)])
def test_a_correlation_needs_no_mark_if_its_name_is_clear(pair: str, r: float | None) -> None:
    log = parse([f"epoch {e} train_mse 0.9{9 - e} val_mse 0.96 {pair}" for e in range(1, 5)])
    assert [metric.fmri_r for metric in log.metrics] == [r] * 4


def test_settings_before_the_first_step_are_no_restart() -> None:
    steps = [f"iter {step}: loss {5 - step / 2000:.4f}" for step in range(0, 6000, 100)]
    assert not parse(
        ["Namespace(max_steps=100000, lr=0.001)", "config: {'steps': 100000, 'lr': 6e-4}", *steps]
    ).log.restarted
    assert parse([*steps, *steps[20:]]).log.restarted


LONG_LINES = {
    "word": "Epoch 1 train loss (" + "a" * 4000,
    "hyphens": "Epoch 1 train (loss) " + "ab-" * 1300,
    "path": "Epoch 1 train (loss) " + "a.b/" * 1000,
    "addresses": "Epoch 1 train/loss " + "a@" * 2000,
    "splits": "Epoch 1 " + "train/" * 670 + " loss (",
    "spaces": "Epoch 1 train (loss " + " " * 4000 + "x",
    "words": "train loss (" + "a b c d e f " * 330,
}


@pytest.mark.parametrize("name", LONG_LINES)
def test_a_long_line_takes_time_in_proportion_to_its_length(name: str) -> None:
    begin = time.process_time()
    read_lines([LONG_LINES[name]])
    assert time.process_time() - begin < 0.2
