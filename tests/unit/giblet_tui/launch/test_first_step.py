"""Why a run ended before its first step, in its own words."""

from __future__ import annotations

import pytest

from giblet_tui.launch.first_step import LOG_LINES_SHOWN, failure
from tests import fleets

COMPLAINT = ("giblet: film.mp4 does not exist", "  Set data.video or data.data_dir.")


@pytest.mark.parametrize(
    "log",
    [
        ("reading the study", "error: film.mp4 does not exist", *COMPLAINT),
        (
            *(f"[default0]:{line}" for line in ("reading the study", *COMPLAINT)),
            *("Traceback (most recent call last):", '  File "run.py", line 1032, in <module>', "=" * 60),
        ),
    ],
)
def test_a_failure_shows_the_remedy_and_none_of_torchruns_own_trace(log):
    run = fleets.run(steps=0, state="failed", sentence="film.mp4 does not exist", log=log)
    assert failure(run).message.endswith("failed before its first step: film.mp4 does not exist.")
    assert failure(run).remedy == f"Set data.video or data.data_dir.\n  giblet logs {run.run.run_id}"


def test_a_failure_without_words_shows_the_end_of_the_log():
    log = [f"line {n}" for n in range(50)]
    remedy = failure(fleets.run(steps=0, state="died", sentence="killed by signal 9", log=log)).remedy.split("\n  ")
    assert remedy[:-1] == log[-LOG_LINES_SHOWN:]
