"""Find which tables of a folder annotate which stimulus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from giblet_train.data.checks.annotation_timing import onset_fit, shifted_annotations
from giblet_train.data.checks.findings import Finding
from giblet_train.data.discover.expectation import texts_of_stimuli
from giblet_train.data.discover.names import tokens
from giblet_train.data.discover.stimuli import Candidate, ReadStimuli
from giblet_train.data.readers.annotation_table import read_rows
from giblet_train.data.readers.bids import natural
from giblet_train.data.readers.scan_restarts import ends_of_parts, scans_of_rows
from giblet_train.schema.errors import DataError

SURELY_TEXT = (".xlsx", ".srt", ".vtt")
"""Endings of files that are nothing but annotations."""
BEYOND = 1.2
"""Annotations may end this many times later than the stimulus."""


@dataclass(frozen=True)
class StimulusText:
    """Annotations of one stimulus."""

    path: Path
    scan: int | None
    """Number, from 1, of the part of the file whose seconds restart; None if it describes this stimulus alone."""


def annotations_of(
    texts: Sequence[Path], stimuli: Sequence[Candidate], others: Sequence[str], folder: Path
) -> tuple[dict[str, StimulusText], list[Finding]]:
    """Return stimulus -> its annotations, and findings about tables that cannot be read or placed.

    Args:
        others: Names of films that are not used; what belongs to them is not missed.
    """
    assignment: dict[str, StimulusText] = {}
    findings: list[Finding] = []
    stimulus_by_path = texts_of_stimuli(texts, stimuli, folder)
    for path in texts:
        try:
            rows = read_rows(path)
        except DataError as error:
            if path.suffix.lower() in SURELY_TEXT:
                findings.append(_unreadable(error))
            continue
        parts = ends_of_parts(rows)
        places = _placed(parts, stimuli, stimulus_by_path.get(path))
        new = {name: number for name, number in places.items() if name not in assignment}
        assignment |= {name: StimulusText(path, number if len(parts) > 1 else None) for name, number in new.items()}
        if not places and not any(set(tokens(other)) <= set(tokens(path.stem)) for other in others):
            findings.append(_unplaced(path.relative_to(folder), parts, stimuli))
    return assignment, findings


def shifted_texts(texts: Mapping[str, StimulusText], media: ReadStimuli, tr_s: float) -> Iterator[Finding]:
    """Report annotations that begin earlier or later than picture and sound of their stimulus change.

    Args:
        texts: Annotations that can be read, by stimulus.
    """
    for name, text in texts.items():
        if name not in media.changes:
            continue
        rows = read_rows(text.path)
        numbers = scans_of_rows(rows)
        onsets_s = [
            row.segment.start_s
            for row, number in zip(rows, numbers, strict=True)
            if text.scan is None or number == text.scan - 1
        ]
        fit = onset_fit(np.array(onsets_s), media.changes[name], tr_s / media.per_tr)
        if fit is not None and fit.is_shifted:
            yield shifted_annotations(f"of {name} ({text.path.name})", fit, "warning")


def _placed(parts: Sequence[float], stimuli: Sequence[Candidate], stimulus_name: str | None) -> dict[str, int]:
    """Return stimulus -> number of the part that describes it, from 1.

    A file with one part goes by its name. Of several parts, those that are as many as the stimuli are in their order;
    else each stimulus has the part that ends nearest to its own end.
    """
    if not parts:
        return {}
    if len(parts) == 1:
        return {s.name: 1 for s in stimuli if s.name == stimulus_name and parts[0] <= BEYOND * s.seconds}
    sorted_stimuli = sorted(stimuli, key=lambda s: [natural(t) for t in s.name.replace("_", " ").split()])
    in_order = dict(zip((s.name for s in sorted_stimuli), range(1, len(sorted_stimuli) + 1), strict=True))
    if len(parts) == len(stimuli) and all(parts[in_order[s.name] - 1] <= BEYOND * s.seconds for s in stimuli):
        return in_order
    nearest = {s.name: min(range(len(parts)), key=lambda n: abs(parts[n] - s.seconds)) for s in stimuli}
    return {
        s.name: nearest[s.name] + 1
        for s in stimuli
        if s.seconds / BEYOND <= parts[nearest[s.name]] <= BEYOND * s.seconds
    }


def _unreadable(error: DataError) -> Finding:
    return Finding(
        finding="unreadable_annotations", severity="error", sentence=error.message, action=error.remedy or "Correct it."
    )


def _unplaced(path: Path, parts: Sequence[float], stimuli: Sequence[Candidate]) -> Finding:
    lengths = ", ".join(f"{s.name} {s.seconds:.0f} s" for s in stimuli) or "none"
    return Finding(
        finding="unplaced_annotations",
        severity="warning",
        sentence=f"{path} ends at second {', '.join(f'{p:.0f}' for p in parts) or '0'}; neither its name nor its "
        f"length fits one stimulus ({lengths}).",
        action="Name it after its stimulus, or write it into data.stimuli.",
    )
