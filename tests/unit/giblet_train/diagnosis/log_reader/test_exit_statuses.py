"""Ends that schedulers and launchers state, and text below tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.log_parser import ParsedLog, parse, read_log
from giblet_train.diagnosis.log_reader.exit_status import exit_status_of
from giblet_train.diagnosis.rules.case import Finding

COURSE = [f"epoch {k} loss {0.3 + 2 * 0.9**k:.4f} val_loss {0.4 + 2 * 0.9**k:.4f}" for k in range(1, 31)]
TABLE = ["epoch;train_loss;val_loss;lr", *(f"{k:03d};{2 * 0.9**k:.5f};{2.1 * 0.9**k:.5f};3.0e-4" for k in range(30))]


def causes(log: ParsedLog) -> tuple[Finding, ...]:
    return diagnose(None, log.metrics, log=log.log).causes


@pytest.mark.parametrize(
    ("line", "cause", "words"),
    [
        ("\t(1) Normal termination (return value 1)", "crashed", "It crashed"),
        ("\t(0) Abnormal termination (signal 9)", "oom_host", "SIGKILL"),
        ("Exit_status=1 resources_used.walltime=00:10:00", "crashed", "It crashed"),
        ("exit_status  137", "oom_host", "SIGKILL"),
        ("failed       100 : assumedly after job", "crashed", "It crashed"),
        ("failed       37  : qmaster enforced h_rt limit", "crashed", "Its scheduler ended it"),
        ("   Requeue=1 Restarts=0 ExitCode=1:0", "crashed", "It crashed"),
        ("JobState=TIMEOUT Reason=TimeLimit", "crashed", "Its scheduler ended it"),
        ("State: TIMEOUT (exit code 0)", "crashed", "Its scheduler ended it"),
        ("4411   train  gpu  FAILED      1:0", "crashed", "It crashed"),
        ("      Reason:       OOMKilled", "oom_host", "ran out of memory"),
        ("      Reason:       Error", "crashed", "It crashed"),
        ("      Exit Code:    1", "crashed", "It crashed"),
        ("TrainingJobStatus: Failed", "crashed", "It crashed"),
        ('"status": "FAILED",', "crashed", "It crashed"),
        ("training finished, rc=1", "crashed", "It crashed"),
    ],
)
def test_an_exit_status_is_an_end(line: str, cause: str, words: str) -> None:
    first, *_ = causes(parse([*COURSE, line]))
    assert first.cause == cause and words in first.sentence


@pytest.mark.parametrize(
    "line",
    [
        "\t(1) Normal termination (return value 0)",
        "    Exit_status = 0",
        "   Requeue=1 Restarts=0 ExitCode=0:0",
        "4411   train  gpu  COMPLETED      0:0",
        "State: COMPLETED (exit code 0)",
    ],
)
def test_an_exit_status_of_0_is_a_normal_end(line: str) -> None:
    log = parse([*COURSE, line])
    assert causes(log) == () and log.log.end.statement == "complete"


def test_a_step_that_fails_outweighs_one_that_ends_well() -> None:
    first, *_ = causes(parse([*COURSE, "4411.ext  COMPLETED  0:0", "4411.batch  FAILED  1:0"]))
    assert first.cause == "crashed"


@pytest.mark.parametrize("line", ["job done rc=0", "epoch 3 state=training", "failed       0", "Reason: slow loader"])
def test_other_words_are_no_exit_status(line: str) -> None:
    assert exit_status_of(line) is None


@pytest.mark.parametrize(
    ("separator", "below", "cause"),
    [
        (";", ["exit status 1"], "crashed"),
        (",", ["RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB, 3 in use"], "oom_gpu"),
        ("\t", ["Traceback (most recent call last):", '  File "t.py", line 3, in f', "KeyError: 3"], "crashed"),
        (",", ["OSError: [Errno 28] No space left on device"], "disk_full"),
        (";", [], None),
    ],
)
def test_text_below_a_table_is_scanned_for_its_end(
    tmp_path: Path, separator: str, below: list[str], cause: str | None
) -> None:
    path = tmp_path / "run.log"
    path.write_text("\n".join([*TABLE, "030;0.4", *below]).replace(";", separator) + "\n")
    log = read_log(path)
    assert [finding.cause for finding in causes(log)][:1] == ([cause] if cause else [])
    assert len(log.metrics) == 30 and "Its last row is cut off" in log.notes[0]


def test_an_error_between_rows_is_survived(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text("\n".join([*TABLE[:20], "RuntimeError: CUDA out of memory", TABLE[0], *TABLE[20:]]))
    log = read_log(path)
    assert causes(log) == () and len(log.metrics) == 30


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["OSError: Unable to open file (truncated file: eof = 96, stored_eof = 2048)"], "copy or write it again"),
        (["RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory"], "damaged"),
        (["_pickle.UnpicklingError: Weights only load failed. This file can still be loaded"], "weights_only=False"),
        (["requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: https://h.co/x"], "Log in"),
        (["OSError: [Errno 116] Stale file handle: '/nfs/u/ckpt/last.pt'"], "The file system failed"),
        (["RuntimeError: connect() to 10.0.0.1: Connection refused"], "NCCL_SOCKET_IFNAME"),
        (["[rank2]: IndexError: list index out of range", "Received signal: 15 SIGTERM"], "Read the first error"),
        (["Received SIGTERM, got signal: 15"], "Find out who ended it"),
        (["slurmstepd: error: *** JOB 5 CANCELLED AT 2025-01-01T00:00:00 DUE TO TIME LIMIT ***"], "more time"),
    ],
)
def test_the_action_belongs_to_the_error_that_is_quoted(lines: list[str], words: str) -> None:
    first, *_ = causes(parse([*COURSE, *lines]))
    assert words in first.action


@pytest.mark.parametrize(
    "line",
    [
        '{{"severity": "INFO", "message": "{}"}}',
        '{{"log": "{}\\n", "stream": "stdout", "time": "2025-01-01T10:00:00.5Z"}}',
        '{{"asctime": "2025-01-01 10:00:00,123", "levelname": "INFO", "lineno": 12, "msg": "{}"}}',
    ],
)
def test_messages_of_loggers_that_write_json_are_read(line: str) -> None:
    pod = ["    State:          Terminated", "      Reason:       OOMKilled", "      Exit Code:    137"]
    log = parse([*(line.format(text) for text in COURSE), *pod])
    first, *_ = causes(log)
    assert len(log.metrics) == 30 and first.cause == "oom_host" and first.confidence > 0.9
