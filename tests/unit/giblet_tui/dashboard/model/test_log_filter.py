"""Severity of log lines: an error that later progress refutes is a warning."""

from giblet_tui.dashboard.model.log_filter import LogFilter, severities_of

EPOCH = "Epoch 10/300 | Train Loss: 1.2 | Val Loss: 1.3"
TRACEBACK = ["Traceback (most recent call last):", '  File "x.py", line 1', "RuntimeError: CUDA out of memory"]


def test_a_traceback_is_an_error_to_its_last_line() -> None:
    assert severities_of([*TRACEBACK, "fine"]) == ["error", "error", "error", "info"]


def test_progress_after_an_error_makes_it_a_warning() -> None:
    assert severities_of([*TRACEBACK, EPOCH, "saved"]) == ["warning", "warning", "warning", "info", "info"]


def test_progress_cuts_a_traceback_short() -> None:
    lines = ["Traceback (most recent call last):", "  File x", EPOCH]
    assert severities_of(lines)[-1] == "info"


def test_an_error_after_the_last_progress_stays_one() -> None:
    assert severities_of([EPOCH, *TRACEBACK]) == ["info", "error", "error", "error"]


def test_an_epoch_of_nan_is_an_error_and_no_progress() -> None:
    nan = "Epoch 11/300 | Train Loss: nan | Val Loss: nan"
    assert severities_of(["ValueError: bad", nan]) == ["error", "error"]


def test_survived_errors_are_listed_with_the_warnings_but_not_with_the_errors() -> None:
    lines = [*TRACEBACK, EPOCH]
    assert LogFilter(least="warning").matching(lines) == [0, 1, 2]
    assert LogFilter(least="error").matching(lines) == []
