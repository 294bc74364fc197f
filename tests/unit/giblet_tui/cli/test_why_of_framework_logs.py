"""`giblet why` of logs that imitate public reports: what must never get worse."""

from __future__ import annotations

import pytest

from benchmarks.why_frameworks import Outcome, accused_early, verdicts
from tests.collection.frameworks import BATCHES

KNOWN_FAILURES: dict[Outcome, set[str]] = {}
"""Outcome -> logs that have it. No healthy log may be accused at its end."""

ACCUSED_EARLY = {"rate_test_before_training"}
"""Logs that are accused while only their learning-rate test is printed, which explodes by design."""


@pytest.mark.parametrize("batch", BATCHES)
def test_no_log_fails_beyond_the_known_ones(batch: str) -> None:
    failures = [v for v in verdicts(batch) if v.outcome != "right"]
    assert [str(v) for v in failures if v.log.name not in KNOWN_FAILURES.get(v.outcome, set())] == []


@pytest.mark.parametrize("batch", BATCHES)
def test_no_healthy_log_is_accused_while_its_training_runs(batch: str) -> None:
    accused = accused_early(batch, shares=(0.5,))
    assert [str(v) for v in accused if v.log.name not in ACCUSED_EARLY] == []
