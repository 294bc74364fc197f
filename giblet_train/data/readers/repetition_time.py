"""Decide a file's repetition time from its header, its sidecar and the configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

from giblet_train.schema.errors import DataError

TrustTr = Literal["header", "sidecar", "config"] | None
TR_TOLERANCE = 1e-3
LONGEST_TR_S = 30.0
SHORTEST_TR_S = 0.02


class MissingTrError(DataError):
    """A file has no repetition time, and nothing else states one."""

    finding = "tr_missing"


class TrConflictError(DataError):
    """Repetition times of one file, or of several, contradict each other."""

    finding = "tr_conflict"


class HeaderNote(NamedTuple):
    """A property of a header that had to be interpreted."""

    finding: str
    """Name of the finding in `data check`."""
    sentence: str


def checked_tr(
    value: float, unit: str, sidecar: Mapping[str, Any], stated_s: float | None, trust: TrustTr, path: Path
) -> tuple[float, tuple[HeaderNote, ...]]:
    """Return the repetition time and notes on whatever disagrees. Raises DataError.

    Without `trust`, header, sidecar and configuration must agree as far as they have a TR, and one must have it. With
    it, the named source must agree, and the others only get a note.

    Args:
        value: TR of the header in `unit`; 0 if the format or file has none.
        stated_s: TR of the configuration; None if it has none.
    """
    header_s, notes = header_seconds(value, unit, path)
    sidecar_s, sidecar_notes = sidecar_seconds(sidecar, path)
    notes += sidecar_notes
    sources = {"header": header_s, "sidecar": sidecar_s, "config": stated_s}
    if trust is not None and sources[trust] is None:
        name = "data.tr" if trust == "config" else f"TR in the {trust}"
        others = [n for n, seconds in sources.items() if seconds is not None] or ["config"]
        remedy = f"Set data.trust_tr: {' or '.join(others)}."
        raise MissingTrError(f"{path} has no {name}, which data.trust_tr: {trust} asks for.", remedy)
    by_source: dict[str, float] = {name: seconds for name, seconds in sources.items() if seconds is not None}
    if not by_source:
        raise MissingTrError(
            f"{path} has no TR, neither in its header nor in a sidecar.",
            "Set data.tr in seconds, or write RepetitionTime to the .json file next to it.",
        )
    reference_s = (
        by_source["config"] if "config" in by_source else by_source[trust] if trust else next(iter(by_source.values()))
    )
    if list(by_source) == ["config"]:
        sentence = f"{path.name}: the header has no TR; data.tr = {reference_s:g} s is used."
        notes.append(HeaderNote("tr_missing", sentence))
    for name, seconds in by_source.items():
        if math.isclose(seconds, reference_s, rel_tol=TR_TOLERANCE):
            continue
        if trust in (None, name):
            raise TrConflictError(_conflict(path, by_source), _remedy(name, by_source))
        notes.append(HeaderNote("tr_overruled", f"{path.name}: the {name}'s TR {seconds:g} s is not used."))
    return reference_s, (*notes, *_slice_time_notes(sidecar, reference_s, path))


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


def sidecar_seconds(sidecar: Mapping[str, Any], path: Path) -> tuple[float | None, list[HeaderNote]]:
    """Return the TR of a sidecar, None if it has none, with notes.

    A value that is possible in milliseconds only is read as such. Raises DataError, also for volumes at uneven
    distances.
    """
    value, name = sidecar.get("RepetitionTime"), "RepetitionTime"
    if value is None:
        value, name = _even_spacing(sidecar.get("VolumeTiming"), path), "the distance of VolumeTiming"
    if value is None:
        return None, []
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1000 * LONGEST_TR_S:
        raise DataError(f"{path.name}: {name} of its sidecar is {value!r}.", "Give it in seconds.")
    if value <= LONGEST_TR_S:
        return float(value), []
    sentence = f"{path.name}: {name} of its sidecar, {value:g}, is read as milliseconds, {value / 1000:g} s."
    return value / 1000.0, [HeaderNote("tr_in_milliseconds", sentence)]


def _even_spacing(onsets_s: Any, path: Path) -> float | None:
    """Return the distance between the volumes of VolumeTiming; None without it. Raises DataError if it varies."""
    if not isinstance(onsets_s, list) or len(onsets_s) < 2:
        return None
    are_numbers = all(isinstance(onset_s, int | float) and math.isfinite(onset_s) for onset_s in onsets_s)
    steps_s = [after - before for before, after in pairwise(onsets_s)] if are_numbers else []
    if not are_numbers or min(steps_s) <= 0:
        raise DataError(
            f"{path.name}: VolumeTiming of its sidecar is not a list of growing numbers.",
            "Give the onset of each volume in seconds, or RepetitionTime.",
        )
    if max(steps_s) - min(steps_s) > TR_TOLERANCE * max(steps_s):
        raise DataError(
            f"{path.name}: its volumes are {min(steps_s):g} to {max(steps_s):g} s apart (VolumeTiming of the sidecar).",
            "giblet needs one volume per TR: interpolate the series, or give parts of it as runs of their own.",
        )
    return float(steps_s[0])


def _conflict(path: Path, by_source: Mapping[str, float]) -> str:
    parts = [f"the {name}'s TR is {seconds:g} s" for name, seconds in by_source.items() if name != "config"]
    statements = [f"data.tr is {by_source['config']:g} s"] if "config" in by_source else []
    return f"{path}: {', '.join([*parts, *statements])}."


def _remedy(name: str, by_source: Mapping[str, float]) -> str:
    seconds = by_source[name]
    if "config" not in by_source:
        return "Set data.trust_tr: header or data.trust_tr: sidecar, whichever is right."
    other = next(n for n in ("header", "sidecar") if n != name)
    if other in by_source and math.isclose(by_source[other], by_source["config"], rel_tol=TR_TOLERANCE):
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
