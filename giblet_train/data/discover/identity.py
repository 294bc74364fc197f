"""Find scans that show another person's brain: mean volumes of one person resemble each other.

Mean volumes are compared after the mean over all subjects of a run is removed, so that what all brains have in common
counts for nothing. Scans whose voxels were standardised have no mean volume and are not compared.
V voxels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.checks.findings import Finding
from giblet_train.data.discover.groups import GroupKey
from giblet_train.data.discover.responses import Scan

ALIKE = 0.3
"""Correlation, and lead in correlation, from which a mean volume belongs to a person."""
UNLIKE = 0.15
"""Correlation below which it does not, where those of most scans exceed TYPICAL."""
TYPICAL = 0.5

Key = tuple[str, GroupKey]
"""Subject, and name of the run."""


@dataclass(frozen=True)
class Likeness:
    """Correlation of a scan's mean volume with those of the other runs of each subject."""

    own: float
    best: float
    """Highest correlation with another subject."""
    whose: str
    """That subject; empty if there is none."""

    @property
    def is_other(self) -> bool:
        """Return True if the scan certainly shows another subject."""
        return bool(self.whose) and self.best > ALIKE and self.best - self.own > ALIKE


def with_own_brains(scans: Sequence[Scan]) -> tuple[list[Scan], list[Finding]]:
    """Return the scans, each under the subject whose brain it shows, and findings about those that moved."""
    current = list(scans)
    findings: list[Finding] = []
    n_runs = Counter(scan.name.subject for scan in scans)
    for _ in {scan.name.group for scan in scans}:
        likenesses = _likenesses(current)
        moves = _largest_exchange(likenesses)
        if not moves:
            break
        for n, scan in enumerate(current):
            key = scan.name.subject, scan.name.group
            if key in moves:
                findings.append(_exchanged(scan, likenesses[key], moves, n_runs[scan.name.subject]))
                current[n] = replace(scan, name=replace(scan.name, subject=moves[key]))
    return current, [*findings, *_strange_brains(current)]


def _likenesses(scans: Sequence[Scan]) -> dict[Key, Likeness]:
    """Return the likeness of each scan of a subject with several runs."""
    maps = {(s.name.subject, s.name.group): s.mean_V for s in scans}
    own_maps = _without_common(maps)
    subjects = sorted({subject for subject, _ in own_maps})
    result: dict[Key, Likeness] = {}
    for (subject, group), map_V in own_maps.items():
        similar: dict[str, float] = {}
        for other in subjects:
            others = [m for (s, g), m in own_maps.items() if s == other and g != group]
            if others:
                similar[other] = float(np.mean([map_V @ other_V for other_V in others]))
        if subject in similar:
            own = similar.pop(subject)
            whose = max(similar, key=lambda s: similar[s], default="")
            result[subject, group] = Likeness(own, similar.get(whose, -1.0), whose)
    return result


def _without_common(maps: Mapping[Key, NDArray[np.float32]]) -> dict[Key, NDArray[np.float64]]:
    """Return the maps of length 1, without what all subjects of a run have in common. Empty ones are left out."""
    scaled = {key: z_V for key, map_V in maps.items() if (z_V := _unit(map_V)) is not None}
    result: dict[Key, NDArray[np.float64]] = {}
    for group in dict.fromkeys(group for _, group in scaled):
        members = {key: z_V for key, z_V in scaled.items() if key[1] == group}
        common_V = np.mean(list(members.values()), axis=0)
        for key, z_V in members.items():
            if len(members) > 1 and (rest_V := _unit(z_V - common_V)) is not None:
                result[key] = rest_V
    return result


def _unit(map_V: NDArray[np.floating[Any]]) -> NDArray[np.float64] | None:
    centred_V = np.asarray(map_V, np.float64) - np.mean(map_V, dtype=np.float64)
    length = float(np.linalg.norm(centred_V))
    return centred_V / length if np.isfinite(length) and length > 1e-6 * max(1.0, float(np.abs(map_V).max())) else None


def _largest_exchange(likenesses: Mapping[Key, Likeness]) -> dict[Key, str]:
    """Return the scans of one run that must change their subject -> that subject: the run with the clearest exchange.

    Nobody gets two scans of a run.
    """
    by_group: dict[GroupKey, dict[str, str]] = {}
    for (subject, group), likeness in likenesses.items():
        if likeness.is_other:
            by_group.setdefault(group, {})[subject] = likeness.whose
    lead: dict[GroupKey, float] = {}
    for group, moves in by_group.items():
        having = {subject for subject, g in likenesses if g == group}
        while wrong := [
            s for s, to in moves.items() if list(moves.values()).count(to) > 1 or to in having - set(moves)
        ]:
            for subject in wrong:
                del moves[subject]
        if moves:
            lead[group] = sum(likenesses[s, group].best - likenesses[s, group].own for s in moves) / len(moves)
    if not lead:
        return {}
    clearest = max(lead, key=lambda group: lead[group])
    return {(subject, clearest): to for subject, to in by_group[clearest].items()}


def _exchanged(scan: Scan, likeness: Likeness, moves: Mapping[Key, str], n_runs: int) -> Finding:
    name, to = scan.name, moves[scan.name.subject, scan.name.group]
    partner = moves.get((to, name.group))
    fact = (
        f"{name.text} shows the brain of sub-{to}: its mean volume correlates {likeness.best:.2f} with those of "
        f"sub-{to}'s other runs, and {likeness.own:.2f} with those of sub-{name.subject}'s"
    )
    exchange = ": the two are exchanged." if partner == name.subject else "."
    doubt = " Two runs do not show which of them is exchanged." if n_runs < 3 else ""
    return Finding(
        finding="subject_swapped",
        severity="warning",
        subject=f"sub-{name.subject}",
        sentence=f"{fact}{exchange}{doubt}",
        evidence={"r_other": likeness.best, "r_own": likeness.own},
        action="Exchange the files. The table lists each under the subject whose brain it shows.",
    )


def _strange_brains(scans: Sequence[Scan]) -> list[Finding]:
    """Report subjects with a scan that resembles nobody's, where those of most subjects resemble their own."""
    likenesses = _likenesses(scans)
    if not likenesses:
        return []
    typical = median(likeness.own for likeness in likenesses.values())
    strange: dict[str, list[Scan]] = {}
    for scan in scans:
        likeness = likenesses.get((scan.name.subject, scan.name.group))
        if likeness is not None and typical > TYPICAL and likeness.own < UNLIKE and likeness.best < ALIKE:
            strange.setdefault(scan.name.subject, []).append(scan)
    return [
        Finding(
            finding="other_brain",
            severity="warning",
            subject=f"sub-{subject}",
            sentence=f"{' and '.join(scan.name.text for scan in own)}: the mean volume does not resemble those of the "
            f"subject's other runs (r = {max(likenesses[subject, s.name.group].own for s in own):.2f}; usual is "
            f"{typical:.2f}).",
            evidence={"r_typical": typical},
            action="Check the files: axes in another order, another space, or another person.",
        )
        for subject, own in strange.items()
    ]
