"""Map TRs to seconds of the scan and of the film.

Nothing is ever stretched: TRs that film and scan do not share are cropped, with a note.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

from giblet_train.schema.errors import DataError

ROUNDING_TRS = 1e-3
SPARE_FILM_TRS = 20


@dataclass(frozen=True)
class Timeline:
    """TRs of a store: first_tr to first_tr + n_trs of the concatenated scans.

    TR t of the store begins at (first_tr + t)·tr_s in the scans and at `film_s(t)` in the film.
    """

    tr_s: float
    scan_lengths_trs: tuple[int, ...]
    stimulus_offset_s: float = 0.0
    """Film second at which the first scan begins."""
    first_tr: int = 0
    """First used TR of the scans."""
    notes: tuple[str, ...] = ()
    """A sentence for each crop."""

    @property
    def n_trs(self) -> int:
        """Return T, the TRs of all scans together."""
        return sum(self.scan_lengths_trs)

    @property
    def film_start_s(self) -> float:
        """Return the film's second at which the first TR of the store begins."""
        return self.film_s(0)

    def film_s(self, tr: float) -> float:
        """Return the film's second at which TR `tr` of the store begins."""
        return (self.first_tr + tr) * self.tr_s + self.stimulus_offset_s

    def tr_at(self, film_s: float) -> float:
        """Return the fractional TR of the store at second `film_s` of the film."""
        return (film_s - self.stimulus_offset_s) / self.tr_s - self.first_tr

    def cropped(self, first: int, stop: int, note: str) -> Timeline:
        """Return the timeline of TRs `first` up to `stop`."""
        lengths, start = [], 0
        for length in self.scan_lengths_trs:
            n_shared = min(stop, start + length) - max(first, start)
            lengths.append(n_shared)
            start += length
        return replace(
            self,
            scan_lengths_trs=tuple(n for n in lengths if n > 0),
            first_tr=self.first_tr + first,
            notes=(*self.notes, note),
        )


def scan_timeline(n_trs: int, tr_s: float, scan_lengths_trs: Sequence[int] | None, file: str) -> Timeline:
    """Return the timeline of n_trs volumes. Raises DataError if the stated scans are longer."""
    if scan_lengths_trs is None:
        return Timeline(tr_s, (n_trs,))
    n_trs_of_scans = sum(scan_lengths_trs)
    if n_trs_of_scans > n_trs:
        raise DataError(
            f"data.scan_lengths_trs {list(scan_lengths_trs)} adds up to {n_trs_of_scans} TRs, but {file} has {n_trs}.",
            "Set the lengths of the scans that the files hold, or null.",
        )
    timeline = Timeline(tr_s, tuple(scan_lengths_trs))
    if n_trs_of_scans == n_trs:
        return timeline
    return replace(
        timeline, notes=(f"The first {n_trs_of_scans} of {n_trs} volumes are used: data.scan_lengths_trs says so.",)
    )


def over_film(timeline: Timeline, film_s: float, offset_s: float, usable_trs: int | None) -> Timeline:
    """Crop the timeline to the TRs that the film covers, given its second offset_s at the start of the first scan.

    A film shorter than the scans is accepted if the overlap is stated: by usable_trs, or by scan lengths of which the
    film covers the first ones completely and at most a few TRs of the next. Raises DataError otherwise.
    """
    timeline_of_film = replace(timeline, stimulus_offset_s=offset_s)
    first = max(0, ceil(-offset_s / timeline.tr_s - ROUNDING_TRS))
    film_trs = floor((film_s - offset_s) / timeline.tr_s + ROUNDING_TRS)
    stop = min(timeline.n_trs, film_trs)
    if stop - first < 1:
        raise DataError(
            f"The stimulus lasts {film_s:.1f} s and is at {offset_s:g} s when the scan begins: they share no TR.",
            "Correct data.stimulus_offset_s.",
        )
    if stop < timeline.n_trs:
        stop = _stated_overlap(timeline, film_s, stop, usable_trs)
    if (first, stop) == (0, timeline.n_trs):
        return timeline_of_film
    return timeline_of_film.cropped(
        first,
        stop,
        f"The stimulus ({film_s:.1f} s) and the scans ({timeline.n_trs} TRs) share TRs {first} to {stop - 1}; "
        "the rest is cropped.",
    )


def _stated_overlap(timeline: Timeline, film_s: float, film_trs: int, usable_trs: int | None) -> int:
    if usable_trs is not None and usable_trs <= film_trs:
        return film_trs
    whole = 0
    for length in timeline.scan_lengths_trs:
        if whole + length > film_trs:
            break
        whole += length
    if whole and film_trs - whole <= SPARE_FILM_TRS:
        return whole
    raise DataError(
        f"The stimulus covers {film_trs} TRs ({film_s:.1f} s), the scans have {timeline.n_trs} "
        f"({timeline.n_trs * timeline.tr_s:.1f} s).",
        f"If only the first {film_trs} TRs are to be used, say so: split.usable_trs: {film_trs}. "
        "It is never stretched.",
    )
