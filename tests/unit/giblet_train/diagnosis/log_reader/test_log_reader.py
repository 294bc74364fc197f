"""The tolerant reader: numbers, names, epochs, restarts, ranks, unreadable lines, and noise that must not break it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.log_parser import parse, read_log
from giblet_train.diagnosis.log_reader.key_names import quantity_of
from giblet_train.diagnosis.log_reader.log_files import log_files, rank_of
from giblet_train.diagnosis.log_reader.number_format import parse_number, uses_decimal_comma
from giblet_train.diagnosis.log_reader.reader import LogReader
from giblet_train.schema.errors import DataError
from giblet_tui.reporting.why import of_path, why_json, why_lines
from tests.collection.log_ends import epochs, traceback


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,950.12", 1950.12), ("275,959.00", 275959.0), ("1,234,567", 1234567.0), ("1,950", 1950.0),
        ("0,4512", 0.4512), ("0,451", 0.451), ("1,65e-04", 1.65e-4), ("1.234,56", 1234.56), ("1.234.567,8", 1234567.8),
        ("1'950.5", 1950.5), ("1_950", 1950.0), ("1\u202f950,5", 1950.5), (".0012", 0.0012), ("-.0012", -0.0012),
        ("\u22120.5", -0.5), ("+3", 3.0), ("1.", 1.0), ("3E+05", 3e5), ("0.45,0.50", 0.45), ("-1e-3", -1e-3),
    ],
)  # fmt: skip
def test_numbers_are_read_as_people_print_them(text: str, value: float) -> None:
    assert parse_number(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "-inf", "Infinity", "nan.0"])
def test_numbers_may_be_not_finite(text: str) -> None:
    value = parse_number(text)
    assert value is not None and not math.isfinite(value)


def test_a_comma_with_three_digits_is_read_as_the_rest_of_the_log_shows() -> None:
    assert parse_number("1,950", decimal_comma=True) == 1.95
    assert uses_decimal_comma(["1,950", "0,4"]) is True
    assert uses_decimal_comma(["1,950", "3.1"]) is False
    assert uses_decimal_comma(["1,950", "7"]) is None


@given(st.floats(min_value=-1e12, max_value=1e12, allow_nan=False))
def test_every_usual_format_of_a_number_is_read_back(value: float) -> None:
    assert parse_number(repr(value)) == value
    assert parse_number(f"{value:.6e}") == pytest.approx(value, rel=1e-6, abs=1e-300)
    assert parse_number(f"{value:,.4f}") == pytest.approx(value, abs=1e-4)
    german = f"{value:,.4f}".translate(str.maketrans(",.", ".,"))
    assert parse_number(german) == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("text", ["1.2x", "45%", "0x12", "12abc"])
def test_a_number_with_a_unit_is_not_read(text: str) -> None:
    log = parse([*epochs(1, 3), f"Epoch 4/50 | Train Loss: {text}"])
    assert [m.epoch for m in log.metrics] == [1, 2, 3]
    assert log.unread == (f"Line 4 could not be read: Epoch 4/50 | Train Loss: {text}",)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("Train Loss", ("loss", "train", None)), ("val_loss", ("loss", "validation", None)),
        ("ValLoss", ("loss", "validation", None)), ("eval/loss", ("loss", "validation", None)),
        ("test loss", ("loss", "test", None)), ("fMRI Loss", ("loss", None, "fmri")),
        ("loss_video", ("loss", None, "video")), ("val/audio_loss", ("loss", "validation", "audio")),
        ("lm loss", ("loss", None, None)), ("Current learning rate", ("lr", None, None)),
        ("lr-AdamW", ("lr", None, None)),
        ("fMRI Corr", ("r", None, None)), ("val_pearson_r", ("r", "validation", None)),
        ("grad_norm", ("grad_norm", None, None)), ("train/box_loss", ("loss", "train", "box")),
    ],
)  # fmt: skip
def test_names_are_understood(name: str, meaning: tuple[str, str | None, str | None]) -> None:
    quantity = quantity_of(name)
    assert quantity is not None and (quantity.kind, quantity.split, quantity.part) == meaning


@pytest.mark.parametrize(
    "name", ["best val loss", "loss scale", "loss_weight", "val_loss improved from", "accuracy", "train_corr", "time"]
)
def test_other_quantities_are_not_taken_for_a_loss(name: str) -> None:
    assert quantity_of(name) is None


def test_components_of_old_logs_show_a_wrong_scale() -> None:
    """The fault of a lab's own trainer: one component starts a thousand times above the others."""
    line = (
        "Epoch {e}/50 | Train Loss: {total:.1f} | fmri_loss: {fmri:.1f} | video_loss: {part:.3f}"
        " | audio loss: {part:.3f} | Text Loss = {part:.3f} | LR: 3.00e-04"
    )
    lines = [line.format(e=e, total=2700 - e, fmri=2697 - e, part=1.0 - 0.01 * e) for e in range(1, 9)]
    log = parse(lines)
    assert log.metrics[0].train.loss == {"fmri": 2696.0, "video": 0.99, "audio": 0.99, "text": 0.99}
    causes = diagnose(None, log.metrics, log=log.log).causes
    assert causes[0].cause == "scale_mismatch" and causes[0].evidence["component"] == "fmri"
    assert "component_dominates" in {cause.cause for cause in causes}


def test_values_of_all_ranks_are_one_epoch() -> None:
    lines = [f"Epoch {e}/9 | Train Loss: {3 - 0.1 * e + 0.01 * r:.3f}" for e in range(1, 6) for r in range(4)]
    log = parse(lines)
    assert [m.epoch for m in log.metrics] == [1, 2, 3, 4, 5] and not log.log.restarted
    assert log.metrics[0].train.total == pytest.approx(2.915)


def test_two_epoch_lines_in_one_are_read_apart() -> None:
    log = parse(["Epoch 1/9 | Train Loss: 1.0Epoch 1/9 | Train Loss: 3.0", "Epoch 2/9 | Train Loss: 0.5"])
    assert [(m.epoch, m.train.total) for m in log.metrics] == [(1, 2.0), (2, 0.5)]


def test_ranks_may_be_out_of_step() -> None:
    order = [1, 1, 2, 1, 2, 2, 3, 2, 3, 3]
    log = parse(f"Epoch {e}/9 | Train Loss: {2 - 0.1 * e}" for e in order)
    assert [m.epoch for m in log.metrics] == [1, 2, 3] and not log.log.restarted


def test_epochs_of_a_resumed_training_replace_the_first_ones() -> None:
    again = [line.replace("Train Loss: ", "Train Loss: 7") for line in epochs(11, 14)]
    log = parse([*epochs(1, 12), "Loaded checkpoint, resumed from epoch 10", *again])
    assert [m.epoch for m in log.metrics] == list(range(1, 15)) and log.log.restarted
    assert (log.metrics[10].train.total or 0) > 70


def test_a_heading_of_an_earlier_epoch_begins_a_restart() -> None:
    def lines(epoch: int, loss: float) -> list[str]:
        return [f"Epoch {epoch}", f"train_loss {loss}", f"val_loss {loss + 0.1}"]

    text = [*lines(0, 3.0), *lines(1, 2.0), *lines(2, 1.5), "resuming from checkpoint", *lines(1, 9.0)]
    log = parse(text)
    assert [(m.epoch, m.train.total) for m in log.metrics] == [(0, 3.0), (1, 9.0)]


def test_steps_without_epochs_are_judged_in_blocks() -> None:
    lines = [f"iter {k}: loss {3 * 0.97**k + 0.02 * (k % 3):.4f}, time 120.00ms, mfu 10%" for k in range(120)]
    log = parse(lines)
    assert log.log.is_blocks and 6 <= len(log.metrics) <= 40
    assert any("counts no epochs" in note for note in log.notes)
    totals = [m.train.total or 0.0 for m in log.metrics]
    assert totals == sorted(totals, reverse=True)


def test_a_loss_that_becomes_exactly_0_is_not_a_number() -> None:
    lines = [f"{{'loss': {2 - 0.001 * k:.4f}, 'learning_rate': 2e-05, 'epoch': {k / 100:.2f}}}" for k in range(70)]
    lines += [f"{{'loss': 0.0, 'learning_rate': 2e-05, 'epoch': {k / 100:.2f}}}" for k in range(70, 90)]
    log = parse(lines)
    first = diagnose(None, log.metrics, log=log.log).causes[0]
    assert first.cause == "nan" and "exactly 0" in first.sentence


def test_a_gradient_that_is_never_a_number_is_named() -> None:
    lines = [f"{{'loss': 0.0, 'grad_norm': nan, 'learning_rate': 1e-4, 'epoch': {k / 1000}}}" for k in range(40)]
    log = parse(lines)
    first = diagnose(None, log.metrics, log=log.log).causes[0]
    assert first.cause == "nan" and "gradient norm" in first.sentence


def test_a_validation_loss_that_is_never_a_number_is_named() -> None:
    log = parse(f"Epoch {e} train_loss {2 * 0.9**e:.4f} val_loss nan" for e in range(20))
    first = diagnose(None, log.metrics, log=log.log).causes[0]
    assert first.cause == "nan" and "validation loss" in first.sentence


def test_a_loss_that_falls_to_0_is_a_number() -> None:
    falling = [1.2 * 0.3**e for e in range(12)]
    log = parse(f"Epoch {e}/12 | Train Loss: {v:.4f} | Val Loss: {v:.4f}" for e, v in enumerate(falling, 1))
    diagnosis = diagnose(None, log.metrics, log=log.log)
    assert not diagnosis.unevaluated and "nan" not in {cause.cause for cause in diagnosis.causes}


def test_losses_that_cannot_be_read_are_shown_and_never_called_healthy(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("".join(f"Epoch {e}: {0.3 + 0.1 * e:.3f} {0.4 + 0.1 * e:.3f} 0.1\n" for e in range(1, 9)))
    answer = of_path(log, None)
    assert answer.inconclusive and not why_json(answer)["healthy"]
    assert why_lines(answer)[-1] == "Line 1 could not be read: Epoch 1: 0.400 0.500 0.1"


@pytest.mark.parametrize("text", ["", "   \n", "Loading dataset\nBuilding model\n"])
def test_a_log_without_a_training_concludes_nothing(text: str, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text(text)
    if not text.strip():
        with pytest.raises(DataError, match="empty"):
            read_log(log)
    else:
        assert of_path(log, None).inconclusive


def test_a_folder_is_one_training_with_the_earliest_error_first(tmp_path: Path) -> None:
    at = "2025-11-05 10:00:{:02d},000 "
    for rank, second in ((0, 9), (1, 3), (2, 7)):
        folder = tmp_path / "logs" / str(rank)
        folder.mkdir(parents=True)
        error = "KeyError: 'sub-04'" if rank == 1 else "RuntimeError: something of a peer broke"
        (folder / "stderr.log").write_text("\n".join(traceback(error, at.format(second))) + "\n")
    (tmp_path / "logs" / "0" / "stdout.log").write_text("\n".join(epochs(1, 8)))
    log = read_log(tmp_path / "logs")
    assert len(log.metrics) == 8
    first = diagnose(None, log.metrics, log=log.log).causes[0]
    assert first.evidence["error"] == "rank 1: KeyError: 'sub-04'"


@pytest.mark.parametrize(
    ("path", "rank"), [("3/stderr.log", 3), ("rank_12.log", 12), ("logs/rank5.txt", 5), ("train.log", None)]
)
def test_a_path_names_the_rank(path: str, rank: int | None) -> None:
    assert rank_of(Path(path)) == rank


def test_only_logs_of_a_folder_are_read(tmp_path: Path) -> None:
    for name in ("a.log", "model.pt", "notes.md", "nohup.out", "b.log.2.gz"):
        (tmp_path / name).write_text("x")
    assert [file.name for file in log_files(tmp_path)] == ["a.log", "b.log.2.gz", "nohup.out"]


PIECES = st.sampled_from(
    [
        *("Epoch", "3/50", "loss", ":", "=", "nan", "1,2", "{'loss':", "}", "%|", "|", "[", "9" * 400, "1e999", "val"),
        *("Traceback (most recent call last)", "rank3", "Root Cause (first observed failure):", "train", "\r", "lr"),
        *(
            "KeyError: x",
            "exitcode : -9",
            "epoch",
            "step",
            "-",
            ".",
            "[rank2]:",
            "Killed",
            "{",
            '"epoch": 1',
            "\x1b[3m",
        ),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.one_of(PIECES, st.text(max_size=12)), max_size=12).map(" ".join), max_size=30))
def test_noise_never_breaks_the_reader_or_a_rule(lines: list[str]) -> None:
    log = parse(lines)
    assert not diagnose(None, log.metrics, log=log.log).unevaluated


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=20), st.integers(0, 20))
def test_noise_between_epochs_changes_no_epoch(noise: list[str], at: int) -> None:
    harmless = [text for text in noise if not any(map(str.isalnum, text))]
    clean = epochs(1, 20)
    log = parse([*clean[:at], *harmless, *clean[at:]])
    assert [m.train.total for m in log.metrics] == [m.train.total for m in parse(clean).metrics]


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=400))
def test_bytes_of_any_kind_are_read_or_refused(data: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".log") as file:
        file.write(data)
        file.flush()
        try:
            read_log(Path(file.name))
        except DataError:
            pass


def test_memory_does_not_grow_with_the_log() -> None:
    reader = LogReader()
    for number in range(20_000):
        reader.feed(f"iter {number}: loss {1.5 + number % 7}")
        reader.feed(f"RuntimeError: repeated {number}")
    assert len(reader.table.points) <= 8193
    assert len(reader.result().end.errors) <= 40 and len(reader.result().end.tail) <= 200


def test_text_glued_to_a_progress_bar_is_read() -> None:
    """The streams of progress bars and of prints are not synchronised."""
    bar = "  6%|█████▉    | {k}/625 [47:47<13:21:36, 81.52s/it]"
    record = (
        "[INFO|2025-02-09 07:05:39] callbacks:157 >> {{'loss': {loss:.4f}, 'learning_rate': 1e-05, 'epoch': {e:.2f}}}"
    )
    lines = [bar.format(k=k) + record.format(loss=2 * 0.99**k, e=k / 100) for k in range(60)]
    log = parse([*lines, bar.format(k=60) + "Traceback (most recent call last):", "  File x", "KeyError: 'a'"])
    assert len(log.metrics) >= 6 and log.log.end.root_error is not None
    assert log.log.end.root_error.text == "KeyError: 'a'"


def test_a_wrapper_of_a_killed_process_shows_the_kill() -> None:
    error = "torch.multiprocessing.spawn.ProcessExitedException: process 0 terminated with signal SIGKILL"
    log = parse([*epochs(1, 5), *traceback(error)])
    assert diagnose(None, log.metrics, log=log.log).causes[0].cause == "oom_host"
