"""`giblet why` of logs that imitate public reports: what must never get worse."""

from __future__ import annotations

import pytest

from benchmarks.why_frameworks import Outcome, verdicts
from tests.collection.frameworks import BATCHES

KNOWN_FAILURES: dict[Outcome, set[str]] = {}


@pytest.mark.parametrize("batch", BATCHES)
def test_no_log_fails_beyond_the_known_ones(batch: str) -> None:
    failures = [v for v in verdicts(batch) if v.outcome != "right"]
    assert [str(v) for v in failures if v.log.name not in KNOWN_FAILURES.get(v.outcome, set())] == []
