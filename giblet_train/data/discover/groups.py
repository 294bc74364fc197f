"""Bring the runs of one name into step: who saw the same at the same time, who started earlier or later, who did not.

T TRs of a scan, R rows of a group, V voxels. Row r of a group is TR r + shift of a scan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.discover.responses import Scan
from giblet_train.data.readers.bids import natural
from giblet_train.data.statistics.alignment import NO_PEAK, Peak, agreement

AGREES_SDS = 5.0
"""Height from which a run agrees with others of its name. Unrelated runs reach 2 to 4."""
MOST_ANCHORS = 12
ROUNDS = 4
LEAST_APART_TRS, LEAST_APART_S = 2, 3.0
"""Smallest shift that counts: responses differ between people by a TR and by a second or two."""

GroupKey = tuple[str, str, str]
"""Session, task and run."""


@dataclass(frozen=True)
class Member:
    """A run in step with others, after its shift."""

    scan: Scan
    shift_trs: int
    """TRs by which its stimulus begins later in the scan than in most of the group."""
    peak: Peak
    """Agreement with the others; none for a single run."""


@dataclass(frozen=True)
class Group:
    """Runs that saw the same at the same time."""

    key: GroupKey
    members: tuple[Member, ...]
    first_row: int
    """Earliest row that a member has; 0 unless some started earlier."""
    mean_RV: NDArray[np.float32]
    """Mean response in the group's rows."""

    @property
    def usual_trs(self) -> int:
        """Return the length that most members have."""
        usual = [m for m in self.members if not m.shift_trs] or self.members
        return Counter(m.scan.n_trs for m in usual).most_common(1)[0][0]


@dataclass(frozen=True)
class Grouping:
    """Runs of one name."""

    key: GroupKey
    group: Group
    strangers: tuple[Scan, ...]
    """Runs that do not agree with the others, though these agree with each other."""
    is_coherent: bool
    """True if the runs agree, or if there is only one."""


def grouped(scans: Sequence[Scan], tr_s: float) -> list[Grouping]:
    """Return the runs of each name, in step and in order of names."""
    by_key: dict[GroupKey, list[Scan]] = {}
    for scan in scans:
        by_key.setdefault(scan.name.group, []).append(scan)
    order = sorted(by_key, key=lambda key: (natural(key[0]), key[1], natural(key[2])))
    return [_grouping(key, by_key[key], tr_s) for key in order]


def recentred(group: Group, usual_trs: int) -> Group:
    """Return the group with another shift as its usual one."""
    members = tuple(replace(m, shift_trs=m.shift_trs - usual_trs) for m in group.members)
    return replace(group, members=members, first_row=group.first_row + usual_trs)


def agreement_with(scan: Scan, group: Group, tr_s: float) -> Peak:
    """Return how well a run agrees with a group it is no member of; the lag is its shift."""
    peak = agreement(scan.fast_TV, group.mean_RV).peak(tr_s)
    return Peak(peak.lag_trs - group.first_row, peak.height)


def _grouping(key: GroupKey, scans: list[Scan], tr_s: float) -> Grouping:
    if len(scans) == 1:
        return Grouping(key, _group(key, {0: 0}, scans, {}), (), True)
    core, shifts = _in_step_with_anchor(scans, tr_s)
    for start in (core, range(len(scans))):
        own, peaks = _agreeing({n: shifts[n] for n in start}, shifts, scans, tr_s)
        if 2 * len(own) > len(scans):
            strangers = tuple(scan for n, scan in enumerate(scans) if n not in own)
            return Grouping(key, _group(key, own, scans, peaks), strangers, True)
    return Grouping(key, _group(key, dict.fromkeys(shifts, 0), scans, {}), (), False)


def _agreeing(
    start: Mapping[int, int], shifts: Mapping[int, int], scans: Sequence[Scan], tr_s: float
) -> tuple[dict[int, int], dict[int, Peak]]:
    """Return the runs that agree with the mean of the others of their kind -> shift, and how well.

    Args:
        start: The runs, and their shifts, of which the first mean is made.
        shifts: Those of all runs, for runs that do not agree.
    """
    own, peaks = dict(start), dict[int, Peak]()
    for _ in range(ROUNDS):
        peaks = {n: _peak_with_others(n, own, scans, tr_s) for n in range(len(scans))}
        agrees = {n for n, peak in peaks.items() if peak.height > AGREES_SDS}
        shift_by_name = _usual_is_zero({n: peaks[n].lag_trs for n in agrees}, tr_s) if agrees else {}
        if shift_by_name == own:
            break
        own = shift_by_name
        if len(own) < 2:
            break
    return own, peaks


def _in_step_with_anchor(scans: Sequence[Scan], tr_s: float) -> tuple[list[int], dict[int, int]]:
    """Return the runs that agree with the run that agrees best with all, and the shift of each run against it."""
    step = -(-len(scans) // MOST_ANCHORS)
    best: tuple[float, list[int], dict[int, int]] = (-1.0, [], {})
    for anchor in range(0, len(scans), step):
        peaks = {
            n: agreement(scan.fast_TV, scans[anchor].fast_TV).peak(tr_s) for n, scan in enumerate(scans) if n != anchor
        }
        agreeing = {n: p.lag_trs for n, p in peaks.items() if p.height > AGREES_SDS}
        total = sum(peaks[n].height for n in agreeing)
        if total > best[0]:
            core = sorted([anchor, *agreeing]) if agreeing else list(range(len(scans)))
            best = total, core, {n: agreeing.get(n, 0) for n in range(len(scans))}
    return best[1], _usual_is_zero(best[2], tr_s)


def _usual_is_zero(shifts: Mapping[int, int], tr_s: float) -> dict[int, int]:
    """Return shifts against what most runs have; what people's responses differ by is none."""
    counts = Counter(shifts.values())
    usual = max(counts, key=lambda shift: (counts[shift] + 0.5 * (counts[shift - 1] + counts[shift + 1]), -abs(shift)))
    apart = {n: shift - usual for n, shift in shifts.items()}
    least = max(LEAST_APART_TRS, LEAST_APART_S / tr_s - 1e-6)
    return {n: shift if abs(shift) >= least else 0 for n, shift in apart.items()}


def _peak_with_others(own: int, shifts: Mapping[int, int], scans: Sequence[Scan], tr_s: float) -> Peak:
    others = {n: shift for n, shift in shifts.items() if n != own}
    if not others:
        return NO_PEAK
    first, mean_RV = _mean(others, scans)
    peak = agreement(scans[own].fast_TV, mean_RV).peak(tr_s)
    return Peak(peak.lag_trs - first, peak.height)


def _group(key: GroupKey, shifts: Mapping[int, int], scans: Sequence[Scan], peaks: Mapping[int, Peak]) -> Group:
    first, mean_RV = _mean(shifts, scans)
    members = tuple(Member(scans[n], shift, peaks.get(n, NO_PEAK)) for n, shift in sorted(shifts.items()))
    return Group(key, members, first, mean_RV)


def _mean(shifts: Mapping[int, int], scans: Sequence[Scan]) -> tuple[int, NDArray[np.float32]]:
    """Return the first row and the mean response of runs after their shifts."""
    first = min(-shift for shift in shifts.values())
    stop = max(scans[n].n_trs - shift for n, shift in shifts.items())
    total_RV = np.zeros((stop - first, scans[0].fast_TV.shape[1]), np.float32)
    n_R = np.zeros((stop - first, 1), np.float32)
    for n, shift in shifts.items():
        start = -shift - first
        total_RV[start : start + scans[n].n_trs] += scans[n].fast_TV
        n_R[start : start + scans[n].n_trs] += 1
    return first, np.asarray(total_RV / np.maximum(n_R, 1), np.float32)
