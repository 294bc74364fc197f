"""Lines of particular programs that were once misread: each with what it shows, and what it must not be taken for."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.log_parser import ParsedLog, parse
from giblet_tui.reporting.why import of_path
from tests.collection.log_ends import traceback

FALL = [round(0.4 + 1.6 * math.exp(-i / 6), 4) for i in range(20)]
"""Training losses of a healthy run."""


def judged(lines: list[str]) -> tuple[ParsedLog, list[str]]:
    """Return a log and the causes that it shows with more than 50 % confidence."""
    log = parse(lines)
    causes = diagnose(None, log.metrics, log=log.log).causes
    return log, [cause.cause for cause in causes if cause.confidence > 0.5]


def totals(log: ParsedLog) -> list[float | None]:
    return [metric.train.total for metric in log.metrics]


WAITING = {
    "timm": "Train: 0 [{i:4d}/1251 (  0%)]  Loss: {v} ({v})  Time: {t:.3f}s,  165.57/s  LR: 8e-05  Data: {d:.3f} (1.4)",
    "mmengine": "Epoch(train)  [1][{i:4d}/1507]  lr: 2.0e-02  eta: 16:30  time: {t:.4f}  data_time: {d:.4f}  loss: {v}",
    "imagenet": "Epoch: [0][{i:4d}/5005]\tTime  {t:.3f} ( 2.140)\tData  {d:.3f} ( 1.910)\tLoss {v:.4e} ({v:.4e})",
    "paddle": "Epoch: [0] [{i:4d}/600] loss: {v} eta: 4:00:10 batch_cost: {t:.4f} data_cost: {d:.4f} ips: 25.8",
}


@pytest.mark.parametrize("name", WAITING)
def test_a_loader_that_is_too_slow_is_named_by_the_durations_in_the_log(name: str) -> None:
    steps = [(i, v) for i, v in enumerate(FALL)]
    log, causes = judged([WAITING[name].format(i=i, v=v, t=1.5, d=1.3) for i, v in steps])
    assert causes == ["loader_bound"] and log.log.data_wait is not None
    assert log.log.data_wait.share == pytest.approx(1.3 / 1.5)
    assert not any("the seconds of a step" in note for note in log.notes)
    assert judged([WAITING[name].format(i=i, v=v, t=1.5, d=0.1) for i, v in steps])[1] == []


@pytest.mark.parametrize(
    "line",
    [
        "Époque  {e}/20 : perte entraînement = {v} ; perte validation = {w} ; durée = 41,2 s",
        "Época {e}/20: pérdida de entrenamiento {v}, pérdida de validación {w}",
        "Epoch: {e}/20  训练损失: {v}  验证损失: {w}  学习率: 0.001000",
        "エポック {e}/20 訓練損失: {v} 検証損失: {w}",
    ],
    ids=["french", "spanish", "chinese", "japanese"],
)
def test_words_of_other_languages_are_understood(line: str) -> None:
    log, causes = judged([line.format(e=e, v=v, w=round(v + 0.1, 4)) for e, v in enumerate(FALL, 1)])
    assert totals(log) == FALL and all(metric.validation for metric in log.metrics) and causes == []


def bar(i: int, n: int, loss: float, title: str = "") -> str:
    return f"{title}{100 * i // n:3d}%|###   | {i}/{n} [00:10<00:20,  1.3it/s, {'' if title else f'loss={loss}'}]"


def test_a_bar_that_begins_again_in_the_next_epoch_is_no_restart() -> None:
    rng = random.Random(1)
    lines = [
        bar(i, 300, 0.0, f"{epoch}|{300 * (epoch - 1) + i}|Loss: {0.8 * math.exp(rng.gauss(0, 0.12)):.4f}: ")
        for epoch in (1, 2)
        for i in range(1, 301)
    ]
    log, causes = judged(lines)
    assert not log.log.restarted and len(log.metrics) == 40
    assert "diverging" not in causes


def test_the_loss_of_single_steps_with_heavy_tails_does_not_diverge() -> None:
    for seed in range(6):
        rng = random.Random(seed)
        steps = [bar(i, 1500, round(0.1 * math.exp(rng.gauss(0, 1.1)), 4)) for i in range(1, 1501)]
        assert "diverging" not in judged(steps)[1]


@pytest.mark.parametrize("title", ["", "Epochs: "])
def test_a_bar_over_the_epochs_counts_epochs(title: str) -> None:
    losses = "train/loss={v}, test/loss={w}" if not title else "loss={v}"
    line = "{t}{p}%|#| {e}/20 [00:47<1:58:15,  0.02it/s, " + losses + "]"
    log, _ = judged([line.format(t=title, p=5 * e, e=e, v=v, w=v + 1) for e, v in enumerate(FALL, 1)])
    assert totals(log) == FALL and not log.log.is_blocks and log.n_epochs == 20


def steps_of_epochs(values: list[float], n_per_epoch: int) -> list[str]:
    return [
        f"Epoch: [{i // n_per_epoch}] [{20 * (i % n_per_epoch):4d}/600] loss: {v:.6f} lr: 0.0003"
        for i, v in enumerate(values)
    ]


def test_the_steps_of_few_epochs_show_an_explosion() -> None:
    course = [0.9 + 2.5 * math.exp(-i / 10) for i in range(90)]
    exploding = [v if i < 60 else 1.9 * 1.45 ** (i - 60) for i, v in enumerate(course)]
    assert judged(steps_of_epochs(exploding, 30))[1] == ["diverging"]
    assert judged(steps_of_epochs(course, 30))[1] == []


def test_one_epoch_is_judged_in_blocks_of_its_steps() -> None:
    log, causes = judged(steps_of_epochs([2.2 + 0.001 * (i % 7) for i in range(120)], 120))
    assert log.log.is_blocks and causes == ["flat"]
    assert any(note.startswith("It has too few epochs to show a course: ") for note in log.notes)
    assert judged(steps_of_epochs([0.9 + 2.5 * math.exp(-i / 30) for i in range(120)], 120))[1] == []


ITERATIONS = [f"iteration: {1000 * i} loss: {v} lr: 0.005" for i, v in enumerate(FALL, 1)]


def test_numbers_printed_with_an_error_are_no_progress_after_it() -> None:
    error = traceback("FloatingPointError: Loss became infinite or NaN at iteration=1043!")
    _, causes = judged([*ITERATIONS, *error, "loss_dict = {'loss_cls': nan, 'loss_box_reg': 4129.5, 'loss_rpn': inf}"])
    assert causes == ["nan"]
    assert judged([*ITERATIONS, *error, "iteration: 21000 loss: 0.39 lr: 0.005"])[1] == []


@pytest.mark.parametrize(
    "message", ["NaN loss", "Loss became infinite or NaN", "non-finite loss at step 12", "loss exploded"]
)
def test_an_exception_about_a_loss_that_is_not_finite_is_nan(message: str) -> None:
    assert judged([*ITERATIONS, *traceback(f"ValueError: {message}")])[1] == ["nan"]


def test_a_step_with_nan_is_not_quoted_as_the_error() -> None:
    nan_steps = [f"Epoch: 0, Step: {i}, Rank: 0, loss = {'nan' if i > 30 else 2.1}" for i in range(40)]
    log = parse(nan_steps)
    assert [c.cause for c in diagnose(None, log.metrics, log=log.log).causes][:1] == ["nan"]
    assert "crashed" not in [c.cause for c in diagnose(None, log.metrics, log=log.log).causes]


def test_an_exception_of_a_thread_is_at_most_a_doubt() -> None:
    thread = [
        "Exception in thread Thread-1:",
        *traceback("tensorflow.errors.CancelledError: Enqueue operation was cancelled"),
    ]
    log, causes = judged([*ITERATIONS, *thread])
    assert causes == [] and log.log.end.complaint is not None
    log, causes = judged([*ITERATIONS, *traceback("CancelledError: Enqueue operation was cancelled"),
                             "The network is now trained and ready to evaluate."])  # fmt: skip
    assert causes == [] and log.log.end.statement == "complete"


def test_a_validation_part_that_is_no_number_is_named_without_a_total() -> None:
    lines = [
        f"Epoch {e} box_loss {v} cls_loss {v} val_box_loss {'nan' if e > 9 else v} val_cls_loss {v}"
        for e, v in enumerate(FALL)
    ]
    log = parse(lines)
    cause = diagnose(None, log.metrics, log=log.log).causes[0]
    assert cause.cause == "nan" and "The validation loss of box became nan in epoch 10" in cause.sentence


def test_the_loss_of_the_final_step_does_not_begin_the_log_again() -> None:
    lines = [f"INFO:tensorflow:loss = {v}, step = {100 * i} (12.284 sec)" for i, v in enumerate(FALL)]
    log = parse([*lines, "INFO:tensorflow:Loss for final step: 2.7712."])
    assert len(log.metrics) >= 20 and not log.log.restarted


def test_a_perplexity_is_read_as_its_logarithm() -> None:
    log = parse([f"Epoch {e} ppl: {math.exp(v):.6f}" for e, v in enumerate(FALL, 1)])
    assert totals(log) == pytest.approx(FALL, abs=1e-4)
    both = parse([f"Step {50 * e}/1000; ppl: {math.exp(v):.3f}; xent: {v}; lr: 1e-4" for e, v in enumerate(FALL, 1)])
    assert totals(both) == pytest.approx(FALL, abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_a_weak_correlation_with_a_constant_loss_is_hardly_better_than_the_mean(seed: int) -> None:
    def lines(r: float, tau: float) -> list[str]:
        rng = random.Random(seed)
        return [
            f"Epoch {e}/60 train_loss={0.985 + 0.3 * math.exp(-e / tau) + rng.gauss(0, 0.001):.4f} "
            f"r={r * (1 - math.exp(-e / tau)) + rng.gauss(0, 0.002):.3f}"
            for e in range(1, 61)
        ]

    assert judged(lines(0.05, 1.5))[1] == ["no_better_than_mean"]
    assert judged(lines(0.15, 1.5))[1] == judged(lines(0.06, 18))[1] == []


@pytest.mark.parametrize(
    "heading", ["Fold {f}/3: 960 train, 240 test", "==== sub-02 | fold {f}/3 ====", "--- Seed {f} ---"]
)
def test_each_fold_of_a_log_is_a_training_of_its_own(heading: str, tmp_path: Path) -> None:
    def write(nan_in: int) -> Path:
        lines = []
        for fold in (1, 2, 3):
            lines.append(heading.format(f=fold))
            lines += [f"  ep {e} loss {'nan' if fold == nan_in and e > 12 else v}" for e, v in enumerate(FALL, 1)]
        path = tmp_path / f"{nan_in}.log"
        path.write_text("\n".join([*lines, "Fold 3 accuracy: 0.8"]))
        return path

    healthy = of_path(write(0), None)
    assert healthy.diagnosis.healthy and any(note.startswith("It holds 3 trainings, ") for note in healthy.notes)
    assert not any("restarted" in note for note in healthy.notes)
    (cause,) = of_path(write(2), None).diagnosis.causes
    assert cause.cause == "nan" and cause.sentence.startswith("In ") and " 2: The training loss" in cause.sentence


NO_WAITS = {
    "loss": "Epoch {e}/20 loss: {v} data: {d:.4f} pde: 0.9239 time: 0.2310",
    "loss_with_average": "Epoch {e}/20 loss: {v} data: {d:.4f} ({d:.4f}) pde: 0.9239 time: 0.2310",
    "two_units": "Epoch {e}/20 loss: {v} data_time: 120.5 ms step_time: 1.2 s",
}


@pytest.mark.parametrize("name", NO_WAITS)
def test_a_loss_called_data_and_another_unit_are_no_wait(name: str) -> None:
    log, causes = judged([NO_WAITS[name].format(e=e, v=v, d=0.7 * v) for e, v in enumerate(FALL, 1)])
    assert causes == [] and log.log.data_wait is None


def test_a_wait_in_milliseconds_or_outside_the_step_is_measured() -> None:
    for line in ("data_time: 900.5 ms step_time: 1000.5 ms", "data: 0.9 s time: 1.0 s", "data_time: 9.0 time: 1.0"):
        log, causes = judged([f"Epoch {e}/20 loss: {v} {line}" for e, v in enumerate(FALL, 1)])
        assert causes == ["loader_bound"] and log.log.data_wait is not None, line
        assert log.log.data_wait.share == pytest.approx(0.9, abs=1e-3), line


DETAILS = {
    "results": ["Epoch {e}/20 loss {v}", "  Subject 1: accuracy 0.52", "  Subject 2: accuracy 0.53"],
    "splits": ["Epoch {e}/20 loss {v}", "Split 1: acc 0.8", "Split 2: acc 0.7"],
    "headings": ["Epoch {e}/20 loss {v}", "Subject 1 is evaluated", "Subject 2 is evaluated"],
    "alternating": [f"Training on subject {s}{{0}}Epoch {{e}}/20 loss {{v}}" for s in (1, 2, 3)],
}


@pytest.mark.parametrize("name", DETAILS)
def test_subjects_within_each_epoch_are_no_trainings_of_their_own(name: str) -> None:
    def log(losses: list[float]) -> list[str]:
        texts = [line.format("\n", e=e, v=v) for e, v in enumerate(losses, 1) for line in DETAILS[name]]
        return [line for text in texts for line in text.split("\n")]

    record, causes = judged(log(FALL))
    assert causes == [] and totals(record) == pytest.approx(FALL) and not record.log.folds
    assert judged(log([*FALL[:8], *(1.5**e for e in range(12))]))[1][0] == "diverging"


def test_the_folds_of_each_repetition_are_trainings_of_their_own() -> None:
    epochs = [f"Epoch {e} loss {v}" for e, v in enumerate(FALL, 1)]
    blocks = [[f"Repeat {r}", f"Fold {f}/2", *epochs] for r in (1, 2) for f in (1, 2)]
    for block in blocks[1::2]:
        del block[0]
    log, causes = judged([line for block in blocks for line in block])
    assert causes == [] and [name for name, _ in log.log.folds] == ["fold 1", "fold 2", "fold 1"]


COUNTS_OF_NAN = ["nan loss batches 0", "nan loss: 0", "nan loss count 2", "skipped a nan loss in one batch"]


@pytest.mark.parametrize("count", COUNTS_OF_NAN)
def test_a_count_of_lost_batches_is_no_loss_that_is_not_finite(count: str) -> None:
    lines = [f"Epoch {e}: train loss {v}, val loss {v + 0.1:.4f}, {count}" for e, v in enumerate(FALL, 1)]
    log, causes = judged(lines)
    assert causes == [] and totals(log) == FALL
    assert judged([*lines, lines[-1]])[1] == []  # another rank
    assert judged([*lines, "ERROR: nan loss encountered in step 900, stopping"])[1] == ["nan"]
    assert judged([*lines[:9], *[f"Epoch {e}: train loss nan, {count}" for e in range(10, 20)]])[1] == ["nan"]


SHORT_NAMES = {
    "cost_after": "Cost after iteration {s}: {v}",
    "loss_at": "loss at step {s} = {v}",
    "letters": "Ep {e:>3}/20: L={v} vL={w}",
    "script_letter": "epoch {e}: ℒ={v}",
    "errors": "Epoch {e}: training error {v}, test error {w}",
    "changes": "Epoch {e} loss: {v} (-0.1)",
    "of": "Iter {e} of 20 loss {v}",
}


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_losses_with_short_or_turned_names_are_read(name: str) -> None:
    lines = [SHORT_NAMES[name].format(e=e, s=100 * e, v=v, w=round(v + 0.1, 4)) for e, v in enumerate(FALL, 1)]
    log, causes = judged(lines)
    assert totals(log) == FALL and causes == []
    assert all((metric.validation is not None) == ("{w}" in SHORT_NAMES[name]) for metric in log.metrics)


def test_a_validation_that_repeats_to_the_last_digit_shows_weights_that_do_not_move() -> None:
    rng = random.Random(4)
    lines = [f"Epoch {e} train_loss {1.39 + rng.gauss(0, 0.003):.6f} val_loss 1.387104 lr 3e-4" for e in range(1, 31)]
    assert judged(lines)[1] == ["frozen_parameters"]
    moving = [f"Epoch {e} train_loss {v} val_loss {v + 0.1:.6f} lr 3e-4" for e, v in enumerate(FALL, 1)]
    ended = [f"Epoch {e} train_loss {0.43 + 0.001 * (e % 3)} val_loss 0.534600 lr 3e-4" for e in range(21, 27)]
    assert judged([*moving, *ended])[1] == []
    predicting = [f"{line} val_r {0.01 + 0.001 * (e % 5):.3f}" for e, line in enumerate(lines)]
    assert judged(predicting)[1] == ["flat"]
    few_digits = [line.replace("1.387104", "1.39") for line in lines]
    assert judged(few_digits)[1] == ["flat"]


def test_validation_that_rises_from_its_first_epoch_or_falls_a_little_again_is_overfitting() -> None:
    rng = random.Random(5)
    train = [0.4 + 0.6 * math.exp(-e / 8) for e in range(1, 41)]
    from_start = [
        f"Epoch {e}/40 train {t:.4f} val {1.02 + 0.012 * e + rng.gauss(0, 0.005):.4f}" for e, t in enumerate(train, 1)
    ]
    assert judged(from_start)[1] == ["overfit"]
    lowest = [0.2 + 1.8 * math.exp(-e / 3) + 0.006 * e for e in range(1, 41)]
    lowest[-4:] = [value - 0.02 for value in lowest[-4:]]
    again = [f"Epoch {e}/40 train {t:.4f} val {v:.4f}" for e, (t, v) in enumerate(zip(train, lowest, strict=True), 1)]
    assert judged(again)[1] == ["overfit"]


def test_a_metric_that_is_not_finite_is_no_early_stop() -> None:
    bars = [
        f"Epoch {e}: 100%|###| 87/87 [00:11<00:00,  7.33it/s, train_loss={v}, val_loss={v}]" for e, v in enumerate(FALL)
    ]
    last = "Epoch 20: 100%|###| 87/87 [00:11<00:00,  7.33it/s, train_loss=0.4, val_loss=nan]"
    stop = "Monitored metric val_loss = nan is not finite. Previous best value was 0.612. Signaling Trainer to stop."
    assert judged([*bars, last, stop])[1] == ["nan"]
    patience = "Monitored metric val_loss did not improve in the last 5 records. Signaling Trainer to stop."
    log, causes = judged([*bars, patience])
    assert causes == [] and log.log.end.statement == "early_stop"


def test_the_message_of_a_cpp_exception_is_the_error() -> None:
    thrown = "terminate called after throwing an instance of 'std::runtime_error'"
    log = parse([*ITERATIONS, thrown, "  what():  Encountered NaN."])
    causes = diagnose(None, log.metrics, log=log.log).causes
    assert causes[0].cause == "nan" and causes[0].sentence.endswith("not finite: Encountered NaN.")
    assert [error.text for error in log.log.end.errors] == ["Encountered NaN."]
    (crash,) = diagnose(None, (), log=parse([thrown, "  what():  cannot open the model"]).log).causes
    assert crash.sentence == "It crashed: cannot open the model." and crash.action.startswith("Read the first error")


def test_values_below_a_line_with_only_epoch_and_step_belong_to_that_step() -> None:
    lines = [
        text
        for i in range(160)
        for text in (
            f"[epoch=0][batch={10 * i}/1600]:",
            f"\t Train time/batch: {10 * i - 1}",
            f"\t Train loss/train/total: {2 + 8 * math.exp(-i / 30):.4f}",
            "\t Train lr-DecoupledAdamW/group0: 0.0006",
        )
    ]
    log, causes = judged(lines)
    assert log.log.is_blocks and len(log.metrics) >= 30 and causes == []
    assert log.metrics[0].train.total == pytest.approx(9.5, abs=0.5) and log.metrics[0].lr == 0.0006


def test_a_constant_loss_with_noise_of_single_steps_is_flat_with_a_doubt() -> None:
    rng = random.Random(6)
    steps = [f"Iter: {100 * i} Loss: {0.281 * (1 + rng.gauss(0, 0.03)):.6f}" for i in range(1, 151)]
    log = parse(steps)
    (flat,) = diagnose(None, log.metrics, log=log.log).causes
    assert (flat.cause, flat.confidence) == ("flat", 0.5) and "noise: ± 1." in flat.sentence


def test_a_test_of_learning_rates_is_no_training() -> None:
    exploding = [1.2 if i < 70 else 1.2 * 1.1 ** (i - 70) for i in range(1, 101)]
    rates = [
        f"Finding best initial lr: {i:3d}%|###| {i}/100 [00:10<00:20, 5it/s, loss={v:.3f}]"
        for i, v in enumerate(exploding, 1)
    ]
    log, causes = judged(rates)
    assert causes == [] and not log.metrics
    assert totals(judged([*rates, *(f"Epoch {e}/20 loss {v}" for e, v in enumerate(FALL, 1))])[0]) == FALL


def test_a_validation_that_is_carried_forward_is_no_frozen_weight() -> None:
    carried = [f"Epoch {e} train_loss {v} val_loss {0.531207 + 0.1 * (9 - e // 10):.6f}" for e, v in enumerate(FALL)]
    assert judged(carried)[1] == []
    # The training has converged, and its next validation is late.
    values = [0.9, 0.7, 0.6, 0.55, 0.531207, *[0.531207] * 5]
    late = [f"Epoch {e} train_loss {0.4 + 0.001 * (e % 3)} val_loss {values[e // 2]:.6f}" for e in range(20)]
    assert "frozen_parameters" not in judged(late)[1]
    learning = [f"Epoch {e} train_loss {v} val_loss 0.693147" for e, v in enumerate(FALL)]
    assert "frozen_parameters" not in judged(learning)[1]


def test_a_number_with_an_accuracy_behind_it_is_a_loss_and_need_not_fall() -> None:
    rng = random.Random(1)
    flat = [2.3 + rng.gauss(0, 0.003) for _ in range(24)]
    lines = [f"[{e:03d}/040] train: {v:.4f} acc 10.2% | valid: {v:.4f} acc 9.8%" for e, v in enumerate(flat, 1)]
    log, causes = judged(lines)
    assert totals(log) == pytest.approx(flat, abs=1e-4) and causes == ["flat"]
    accuracies = [f"[{e:03d}/040] train: {v / 3:.4f} | valid: {v / 3:.4f} best acc 0.8" for e, v in enumerate(flat, 1)]
    assert not judged(accuracies)[0].metrics


@pytest.mark.parametrize("seed", range(3))
def test_an_oscillation_that_grows_diverges_and_steady_noise_does_not(seed: int) -> None:
    rng = random.Random(seed)
    fall = [1.9, 1.73, 1.57, 1.45, 1.38]
    growing = [*fall, *(1.5 + (0.2 + 0.3 * i) * (1.1 + math.sin(2.4 * i) * rng.uniform(0.6, 0.9)) for i in range(18))]
    steady = [(v if v > 1.38 else 1.38) * math.exp(rng.gauss(0, 0.35)) for v in (*fall, *[1.38] * 18)]

    def rounds(curve: list[float]) -> list[str]:
        return [f"[{i}]\ttrain-rmse:{v:.5f}\teval-rmse:{v * 1.05:.5f}" for i, v in enumerate(curve)]

    assert judged(rounds(growing))[1] == ["diverging"]
    assert judged(rounds(steady))[1] == []


def test_a_flat_loss_below_zero_is_not_learnt_by_being_negative() -> None:
    rng = random.Random(2)
    lines = [
        f"Epoch {e}/40 train_loss: {-0.28 + rng.gauss(0, 0.01):.4f} val_loss: {-0.27 + rng.gauss(0, 0.01):.4f} "
        f"val_r {rng.gauss(0, 0.004):.4f}"
        for e in range(1, 31)
    ]
    assert "brain_unexplained" not in judged(lines)[1]


@pytest.mark.parametrize(
    "line",
    [
        "[{e:3d}/300] L={v:.4f} V={w:.4f}",
        "ep {e} tl {v:.4f} vl {w:.4f} tracc 0.1",
        "| epoch {e} | loss {v:.4f} |",
        "Epoche {e}: Verlust (Training) {v:.4f}; Verlust (Validierung) {w:.4f}",
        "ep {e} loss[train] {v} loss[val] {w}",
    ],
)
def test_short_names_of_losses_are_read(line: str) -> None:
    log, causes = judged([line.format(e=e, v=v, w=v + 0.1) for e, v in enumerate(FALL, 1)])
    assert totals(log) == FALL and causes == []
    validations = [m.validation.total for m in log.metrics if m.validation is not None]
    assert validations == ([] if "{w" not in line else pytest.approx([v + 0.1 for v in FALL]))


def test_a_gradient_norm_of_0_in_a_log_is_named() -> None:
    fall = [1.609 + 2 * 0.5**k for k in range(30)]
    dead = [
        f"it {20 * k} loss {v:.4f} gnorm={0.5 if k < 15 else 0.0:.2e}" for k, v in enumerate([*fall, *[1.609] * 90])
    ]
    log, causes = judged(dead)
    assert causes == ["frozen_parameters"] and not any("gradients" in note for note in log.notes)
    converged = [f"it {20 * k} loss {0.5**k:.4e} gnorm={0.5**k:.2e}" for k in range(90)]
    assert judged(converged)[1] == []


@pytest.mark.parametrize("digits", [2, 4])
def test_a_small_gradient_norm_that_is_rounded_to_0_is_not_named(digits: int) -> None:
    losses = [1.8 + 1.4 * math.exp(-e / 3) for e in range(60)]
    rounded = [f"epoch {e} loss {v:.4f} gnorm {0.3 * math.exp(-e / 3):.{digits}f}" for e, v in enumerate(losses)]
    assert judged(rounded)[1] == []
    dead = [f"epoch {e} loss {v:.4f} gnorm {(3.1234 + 0.1 * e) * (e < 20):.2f}" for e, v in enumerate(losses)]
    assert judged(dead)[1] == ["frozen_parameters"]


@pytest.mark.parametrize("others", ["V={v:.3f}", "V={w:.3f} R={v:.2f}"])
def test_a_v_that_is_no_loss_is_not_taken_for_the_validation(others: str) -> None:
    lines = [f"epoch {e} L={v:.4f} {others.format(v=3 * FALL[0] + e, w=v + 0.1 * e)}" for e, v in enumerate(FALL, 1)]
    log, causes = judged(lines)
    assert totals(log) == FALL and causes == [] and all(m.validation is None for m in log.metrics)


def test_an_l_that_is_a_norm_or_a_length_is_no_loss() -> None:
    log, causes = judged([f"step {10 * e} L_inf={132 + e} L_tr 3" for e in range(30)])
    assert causes == [] and not log.metrics


def test_the_best_round_that_xgboost_prints_once_more_is_no_restart() -> None:
    rounds = [f"[{i}]\ttrain-rmse:{v:.5f}\teval-rmse:{v * 1.05:.5f}" for i, v in enumerate(FALL)]
    log, _ = judged([*rounds, "Stopping. Best iteration:", rounds[12]])
    assert len(log.metrics) == len(FALL) and not log.log.restarted


def test_parts_that_begin_with_an_l_are_read_with_a_counter_of_steps() -> None:
    log, causes = judged(
        [
            f"[{e}/20] L_tot {4e5 + 10 * e + 3:.2f} | L_fMRI {4e5 + 10 * e:.2f} | L_vid 1.02 | L_txt 1.98"
            for e in range(20)
        ]
    )
    assert log.metrics and causes[:1] == ["scale_mismatch"]


def test_a_loss_scale_that_only_falls_is_exhausted() -> None:
    scales = [65536.0] * 20 + [65536.0 / 2**k for k in range(1, 30)]
    lines = [f"it {10 * i} loss {FALL[min(i, 8)]:.4f} scale {scale:.6g}" for i, scale in enumerate(scales)]
    assert judged(lines)[1][:1] == ["nan"]
    usual = [f"it {10 * i} loss {FALL[i % 20]:.4f} scale {0.5 if i % 7 else 1.0}" for i in range(40)]
    assert "nan" not in judged(usual)[1]


@pytest.mark.parametrize("name", ["noise scale", "lr scale:", "image scale", "scale", "kl loss scale"])
def test_a_scale_that_is_annealed_is_not_exhausted(name: str) -> None:
    lines = [f"epoch {e} loss {FALL[min(e, 19)]:.4f} {name} {0.9**e:.4f}" for e in range(40)]
    assert "nan" not in judged(lines)[1]
    halved = [f"epoch {e} loss {FALL[min(e, 19)]:.4f} noise scale {0.5**e:.3g}" for e in range(40)]
    assert "nan" not in judged(halved)[1]
