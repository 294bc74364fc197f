"""Decide a file's repetition time from its header, its sidecar and the configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from giblet_train.schema.errors import DataError

TrustTr = Literal["header", "sidecar", "config"] | None
TR_TOLERANCE = 1e-3
LONGEST_TR_S = 30.0
SHORTEST_TR_S = 0.02


class HeaderNote(NamedTuple):
    """A property of a header that had to be interpreted."""

    finding: str
    """Name of the finding in `data check`."""
    sentence: str


def checked_tr(
    value: float, unit: str, sidecar: Mapping[str, Any], stated_s: float, trust: TrustTr, path: Path
) -> tuple[float, tuple[HeaderNote, ...]]:
    """Return the repetition time and notes on whatever disagrees. Raises DataError.

    Without `trust`, header and sidecar must agree with the configuration as far as they have a TR. With it, the named
    source must agree, and the others only get a note.
    """
    header_s, notes = header_seconds(value, unit, path)
    sidecar_s = _sidecar_seconds(sidecar, path)
    if header_s is None and sidecar_s is None:
        notes.append(HeaderNote("tr_missing", f"{path.name}: the header has no TR; data.tr = {stated_s:g} s is used."))
    if trust == "sidecar" and sidecar_s is None:
        raise DataError(f"{path} has no sidecar with RepetitionTime.", "Set data.trust_tr: header or config.")
    sources = {"header": header_s, "sidecar": sidecar_s}
    for name, seconds in sources.items():
        if seconds is None or math.isclose(seconds, stated_s, rel_tol=TR_TOLERANCE):
            continue
        if trust in (None, name):
            raise DataError(_conflict(path, sources, stated_s), _remedy(name, seconds, sources, stated_s))
        notes.append(HeaderNote("tr_overruled", f"{path.name}: the {name}'s TR {seconds:g} s is not used."))
    return stated_s, (*notes, *_slice_time_notes(sidecar, stated_s, path))


def header_seconds(value: float, unit: str, path: Path) -> tuple[float | None, list[HeaderNote]]:
    """Return the header's TR in seconds, None if it has none, with notes.

    Headers in milliseconds often have the unit of seconds, and the reverse.
    """
    if not math.isfinite(value) or value <= 0:
        return None, []
    seconds = value * {"msec": 1e-3, "usec": 1e-6}.get(unit, 1.0)
    if seconds > LONGEST_TR_S:
        seconds /= 1000.0
    if seconds < SHORTEST_TR_S <= value:
        sentence = f"{path.name}: the header's TR {value:g} is read as seconds, though its unit is {unit}."
        return value, [HeaderNote("tr_unit_wrong", sentence)]
    if seconds == value:
        return seconds, []
    name = "microseconds" if unit == "usec" else "milliseconds"
    sentence = f"{path.name}: the header's TR {value:g} is read as {name}, {seconds:g} s."
    return seconds, [HeaderNote("tr_in_milliseconds", sentence)]


def _sidecar_seconds(sidecar: Mapping[str, Any], path: Path) -> float | None:
    value = sidecar.get("RepetitionTime")
    if value is None:
        return None
    if not isinstance(value, int | float) or not value > 0:
        raise DataError(f"{path.name}: RepetitionTime of its sidecar is {value!r}.", "Give it in seconds.")
    return float(value)


def _conflict(path: Path, sources: Mapping[str, float | None], stated_s: float) -> str:
    found = [f"the {name}'s TR is {seconds:g} s" for name, seconds in sources.items() if seconds is not None]
    return f"{path}: {', '.join(found)}, data.tr is {stated_s:g} s."


def _remedy(name: str, seconds: float, sources: Mapping[str, float | None], stated_s: float) -> str:
    other = next(n for n in sources if n != name)
    other_s = sources[other]
    if other_s is not None and math.isclose(other_s, stated_s, rel_tol=TR_TOLERANCE):
        return f"If the {other} is right, set data.trust_tr: {other}; if the {name} is right, set data.tr: {seconds:g}."
    return f"If the {name} is right, set data.tr: {seconds:g}; if not, set data.trust_tr: config."


def _slice_time_notes(sidecar: Mapping[str, Any], tr_s: float, path: Path) -> tuple[HeaderNote, ...]:
    """Note if slice timing was corrected to a moment far from the middle of the TR, which giblet assumes."""
    start_s = sidecar.get("StartTime")
    if not isinstance(start_s, int | float) or abs(start_s - tr_s / 2) <= tr_s / 4:
        return ()
    sentence = (
        f"{path.name}: slices are corrected to {start_s:g} s of each TR (StartTime of the sidecar); giblet takes the "
        f"middle. data.stimulus_offset_s {start_s - tr_s / 2:+g} s would correct for it."
    )
    return (HeaderNote("slice_time_reference", sentence),)
