"""The TRs that an extractor of features describes, and what it describes them from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from giblet_train.data.readers.annotation_table import Segment


@dataclass(frozen=True)
class FilmTimeline:
    """Input of an extractor: the TRs to describe and the stimulus."""

    film: Path | None
    """Path of the film; None if the stimulus has none."""
    tr_s: float
    """Seconds per TR."""
    n_trs: int
    """TRs to describe."""
    start_s: float
    """Second of the stimulus at which the first TR begins."""
    segments: tuple[Segment, ...]
    """Annotations, words or subtitles, in seconds of the stimulus."""
    sound: Path | None = None
    """Path of the sound, which may be the film; None if the stimulus has none."""
    seconds: float | None = None
    """Duration of the stimulus; None without film and sound."""
