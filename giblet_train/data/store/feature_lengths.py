"""How long the features of a stimulus last, where neither a film nor a sound says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from giblet_train.data.readers.row_plan import Span
from giblet_train.data.readers.runs_table import RunEntry
from giblet_train.data.stimulus.external import longest_s, read_rows
from giblet_train.data.stimulus.features import StimulusSource
from giblet_train.schema.errors import DataError

UNLIMITED_S = 1e6
"""Duration of a stimulus of which only an extractor or a model knows anything: it lasts as long as it is shown."""


def stimulus_seconds(stimulus: StimulusSource, tr_s: float) -> float:
    """Return the duration of a stimulus: of its film or sound, else of what is known about it. Raises DataError."""
    if stimulus.seconds is not None:
        return stimulus.seconds
    ends_s = [segment.end_s for segment in stimulus.segments]
    ends_s += file_seconds(stimulus, tr_s).values()
    return max(ends_s, default=UNLIMITED_S if stimulus.features else 0.0)


def check_feature_lengths(
    stimuli: Mapping[str, StimulusSource], spans: Sequence[Span], runs: Sequence[RunEntry], tr_s: float
) -> None:
    """Raise DataError, with the row of the table, for features that go on well after the last second that is shown.

    A wrong rate would look like this. Nothing is refused if a film or sound states the duration, or the table states
    how much is shown.
    """
    for name, stimulus in stimuli.items():
        presentations = [p for run in runs for p in run.presentations if p.stimulus == name]
        if stimulus.seconds is not None or not presentations or any(p.duration_s for p in presentations):
            continue
        spoken_s = max((segment.end_s for segment in stimulus.segments), default=0.0)
        shown_s = max((s.start_s + s.n_trs * tr_s for s in spans if s.stimulus == name), default=0.0)
        known_s = max(spoken_s, shown_s)
        for space, seconds in file_seconds(stimulus, tr_s).items():
            if seconds > longest_s(known_s, tr_s):
                fitting = (stimulus.features[space].rows_per_s or 1.0 / tr_s) * seconds / shown_s
                raise DataError(
                    f"The {space} features of {name} last {seconds:.1f} s; row {presentations[0].row} of the table of "
                    f"runs shows {shown_s:.1f} s, and neither film nor sound states how long {name} is.",
                    f"State their rate (rows_per_s: {fitting:.4g} would fit what is shown), or duration_s in that row.",
                )


def file_seconds(stimulus: StimulusSource, tr_s: float) -> dict[str, float]:
    """Return feature space -> duration of its file."""
    seconds = {}
    for space, source in stimulus.features.items():
        if source.file is not None:
            rows_NF = read_rows(f"data.features.{space}", stimulus.files[space], source.layer)
            seconds[space] = len(rows_NF) / (source.rows_per_s or 1.0 / tr_s)
    return seconds
