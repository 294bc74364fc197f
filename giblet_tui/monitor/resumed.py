"""Put the records of resumed runs together: what one of several starts has trained is judged with what it continued."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from giblet_train.diagnosis.run_start import newest_plan
from giblet_train.schema.history import source_names, stitched
from giblet_train.schema.records import DataMetric, EpochMetric, EventMetric, StepMetric
from giblet_tui.monitor.snapshots import RunSnapshot

FindRun = Callable[[str], RunSnapshot | None]
"""Id -> run; None if it is not there."""


def lacks_beginning(run: RunSnapshot) -> bool:
    """Return True if a run resumed another one and has no copy of its records, as of older versions.

    A snapshot of only the newest records has no plan, and is left as it is.
    """
    is_whole = run.run.resumed_from is None or run.plan_record is None
    return not is_whole and bool(run.steps) and run.steps[0].step > 0


def whole_run(run: RunSnapshot, find: FindRun, later_ids: frozenset[str] = frozenset()) -> RunSnapshot:
    """Return a run with the records of the runs that it resumed, as far as they are found.

    later_ids: ids of the runs that continued it, so that runs which name each other end the search.
    """
    if not lacks_beginning(run):
        return run
    later_ids = later_ids | {run.run.run_id}
    candidates = (find(name) for name in source_names(run.run.resumed_from) if name not in later_ids)
    earlier = next((other for other in candidates if other is not None and other.plan_record is not None), None)
    return _continued(whole_run(earlier, find, later_ids), run) if earlier is not None else run


def _continued(earlier: RunSnapshot, later: RunSnapshot) -> RunSnapshot:
    """Return the later run with the records of the earlier one in front of its own."""
    records = stitched(earlier.metrics, later.metrics)
    return replace(
        later,
        plan_record=newest_plan(records),
        data=next((m for m in reversed(records) if isinstance(m, DataMetric)), None),
        steps=tuple(m for m in records if isinstance(m, StepMetric)),
        epochs=tuple(m for m in records if isinstance(m, EpochMetric)),
        events=tuple(m for m in records if isinstance(m, EventMetric)),
    )
