"""Give each run its stimuli and their onsets in seconds of its scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from giblet_train.data.discover.expectation import EventPresentation, likely_onsets_s, shown_by_events
from giblet_train.data.discover.groups import Group, Grouping, recentred
from giblet_train.data.discover.inventory import Timing
from giblet_train.data.discover.matching import Expectation, Hit
from giblet_train.data.discover.responses import Scan
from giblet_train.data.discover.stimuli import Candidate
from giblet_train.data.readers.bids import natural
from giblet_train.data.readers.runs_table import Presentation

NEAR_TRS = 1.05
NEAR_S = 1.6
STATED_TRS = 3
"""An onset that a table of events states at most this far from the measured one is the true one."""
"""A likely onset at this distance from the measured one is the true one: the measured one is a whole number of TRs."""


@dataclass(frozen=True)
class PlacedRun:
    """A run with what it shows."""

    scan: Scan
    presentations: tuple[Presentation, ...]
    shift_trs: int
    """TRs by which its stimuli begin later than in most runs of its name."""
    hits: tuple[Hit, ...]
    """Evidence for the presentations."""
    is_stranger: bool
    """True if it does not agree with the other runs of its name."""


def place_runs(
    groupings: Sequence[Grouping],
    units: Sequence[Group],
    hits_by_unit: Sequence[tuple[Hit, ...]],
    expected: Sequence[Expectation],
    stimuli: Sequence[Candidate],
    timings: Sequence[Timing],
    tr_s: float,
) -> list[PlacedRun]:
    """Return every run with its presentations, in order of subject and name.

    Args:
        units: The group of each grouping, then each stranger alone.
        expected: What is known about each unit without its responses.
    """
    runs = []
    for n, (group, group_hits) in enumerate(zip(units, hits_by_unit, strict=True)):
        unit, hits = _recentred(group, group_hits, stimuli, tr_s)
        onsets_s = onsets_of(unit, hits, expected[n], stimuli, timings, tr_s)
        for member in unit.members:
            own = shown_by_events(unit.key, [member.scan.name.path], stimuli, timings)
            presentations = tuple(
                Presentation(hit.stimulus, _stated(round(onset_s + member.shift_trs * tr_s, 3), hit, own, tr_s))
                for hit, onset_s in zip(hits, onsets_s, strict=True)
            )
            runs.append(PlacedRun(member.scan, presentations, member.shift_trs, hits, n >= len(groupings)))
    return sorted(runs, key=_order)


def _stated(onset_s: float, hit: Hit, events: Sequence[EventPresentation], tr_s: float) -> float:
    """Return the onset that a run's own table of events states near the measured one, else that."""
    near = [e.onset_s for e in events if e.stimulus in ("", hit.stimulus) and _is_near(onset_s, e.onset_s, tr_s)]
    return min(near, key=lambda stated_s: abs(stated_s - onset_s), default=onset_s)


def _recentred(
    unit: Group, hits: tuple[Hit, ...], stimuli: Sequence[Candidate], tr_s: float
) -> tuple[Group, tuple[Hit, ...]]:
    """Return group and hits such that the usual run begins at a likely time, if some of its runs do."""
    shifts = {m.shift_trs for m in unit.members}
    if not hits or len(shifts) < 2:
        return unit, hits
    seconds = next(s.seconds for s in stimuli if s.name == hits[0].stimulus)
    for shift in sorted(shifts, key=abs):
        lengths = [m.scan.n_trs * tr_s for m in unit.members if m.shift_trs == shift]
        begins_s = (hits[0].onset_trs + shift) * tr_s
        if any(_is_near(begins_s, s, tr_s) for length_s in lengths for s in likely_onsets_s(length_s, seconds)):
            return recentred(unit, shift), tuple(replace(h, onset_trs=h.onset_trs + shift) for h in hits)
    return unit, hits


def _is_near(measured_s: float, likely_s: float, tr_s: float) -> bool:
    return abs(likely_s - measured_s) <= max(NEAR_S, NEAR_TRS * tr_s)


def _order(run: PlacedRun) -> tuple[object, ...]:
    name = run.scan.name
    return natural(name.subject), natural(name.session), name.task, natural(name.run)


def onsets_of(
    unit: Group,
    hits: Sequence[Hit],
    expected: Expectation,
    stimuli: Sequence[Candidate],
    timings: Sequence[Timing],
    tr_s: float,
) -> list[float]:
    """Return the second at which each stimulus begins: a likely one near the measured one, else the measured one."""
    seconds = {s.name: s.seconds for s in stimuli}
    events = shown_by_events(unit.key, [m.scan.name.path for m in unit.members], stimuli, timings)
    onsets_s = []
    for hit in hits:
        event_onsets_s = [s.onset_s for s in events if s.stimulus in ("", hit.stimulus)]
        parts_s = [e.onset_trs * tr_s for e in expected.hits if e.stimulus == hit.stimulus and e.onset_trs < 0]
        likely = [*event_onsets_s, *parts_s, *likely_onsets_s(unit.usual_trs * tr_s, seconds[hit.stimulus])]
        measured_s = hit.onset_trs * tr_s
        stated_s = [s for s in event_onsets_s if abs(s - measured_s) <= STATED_TRS * tr_s]
        if stated_s:
            onsets_s.append(min(stated_s, key=lambda s: abs(s - measured_s)))
            continue
        near = [onset_s for onset_s in likely if _is_near(measured_s, onset_s, tr_s)]
        onsets_s.append(round(near[0] if near else measured_s, 3))
    return onsets_s
