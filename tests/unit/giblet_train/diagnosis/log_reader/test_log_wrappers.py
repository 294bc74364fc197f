"""What scripts, shells, containers and other ranks put around a program's error does not hide it."""

from __future__ import annotations

from pathlib import Path

import pytest

from giblet_train.diagnosis.diagnose import Diagnosis, diagnose
from giblet_train.diagnosis.log_parser import parse, read_log
from tests.collection.log_ends import epochs, log_of, traceback


def judged(lines: list[str]) -> Diagnosis:
    log = parse(lines)
    return diagnose(None, log.metrics, log=log.log)


@pytest.mark.parametrize(
    "line",
    [
        "python returned 1",
        "returned 1",
        "return code: 1",
        "+ ret=1",
        "ret=1",
        "finished with code 1",
        "ended with status 1",
        "train.sh: attempt 1 ended unexpectedly, giving up (num_boost_round was 20000)",
        "process terminated unexpectedly",
        "run.sh: training failed",
        "Run failed",
    ],
)
def test_a_wrapper_that_reports_a_failure_shows_an_end_without_a_reason(line: str) -> None:
    causes = judged(log_of([line])).causes
    assert [cause.cause for cause in causes] == ["crashed"]
    assert "does not show why" in causes[0].sentence
    assert not judged([*log_of([line]), *epochs(31, 36)]).causes


@pytest.mark.parametrize(
    "line",
    [
        "python returned 0",
        "ret=0",
        "finished with code 0",
        "search returned 12 candidates",
        "upload finished with status 404",
        "The previous run ended unexpectedly",
        "connection terminated unexpectedly",
        "evaluate() returned 3",
        "If training ended unexpectedly, resume it",
    ],
)
def test_a_code_of_0_and_other_words_are_no_failure(line: str) -> None:
    assert not judged(log_of([line])).causes


@pytest.mark.parametrize("place", ["At line:1 char:1", "In Zeile:1 Zeichen:1", "At C:\\jobs\\run.ps1:12 char:5"])
def test_the_remark_of_powershell_is_not_the_error(place: str) -> None:
    remark = [
        place,
        "+ python train.py 2>&1 | Tee-Object log.txt",
        "+ ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~",
        "    + CategoryInfo          : NotSpecified: (Traceback (most recent call last)::String) [], Remote",
        "   Exception",
        "    + FullyQualifiedErrorId : NativeCommandError",
        " ",
    ]
    first, *rest = traceback("RuntimeError: Sizes of tensors must match except in dimension 1.")
    causes = judged(log_of([f"python : {first}", *remark, *rest])).causes
    error = "RuntimeError: Sizes of tensors must match except in dimension 1"
    assert causes[0].sentence == f"It crashed: {error} (proj/main.py, line 40)."


def test_the_prefix_of_kubernetes_is_not_quoted() -> None:
    warning = ["A module that was compiled using NumPy 1.x cannot be run in", "NumPy 2.0.0 as it may crash."]
    lines = log_of([*warning, "", *traceback("RuntimeError: Numpy is not available")])
    causes = judged([f"2024-06-18T09:12:05.001733Z stderr F {line}" for line in lines]).causes
    assert causes[0].sentence == "It crashed: RuntimeError: Numpy is not available (proj/main.py, line 40)."
    assert "numpy<2" in causes[0].action


@pytest.mark.parametrize("has_times", [True, False])
def test_the_exception_of_a_rank_comes_before_the_timeouts_of_the_others(tmp_path: Path, has_times: bool) -> None:
    for rank in range(4):
        error = (
            traceback("ValueError: need at least one array to stack")
            if rank == 2
            else [
                f"{'2024-05-21 13:43:23,653 ' if has_times else ''}[rank {rank}] [E ProcessGroupNCCL.cpp:523] "
                f"[Rank {rank}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=92111)"
            ]
        )
        steps = [
            f"{f'2024-05-21 12:{i:02}:00,000 ' if has_times else ''}[rank {rank}] step {i * 20} loss {3 - i / 20:.4f}"
            for i in range(1, 21)
        ]
        (tmp_path / f"out.{rank:02}.txt").write_text("\n".join([*steps, *error]), encoding="utf-8")
    log = read_log(tmp_path)
    causes = diagnose(None, log.metrics, log=log.log).causes
    assert [cause.cause for cause in causes] == ["crashed"]
    assert "rank 2: ValueError: need at least one array to stack" in causes[0].sentence
