"""The film on the scan's clock: small frames, their features, log-mel, embedded annotations, or what a lab brings.

T TRs, K frames in a TR, H W C rows, columns, colours, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.readers.study_files import Progress, Sources
from giblet_train.data.readers.timeline import Timeline
from giblet_train.data.stimulus.audio import read_log_mel
from giblet_train.data.stimulus.external import FilmTimeline, external_features
from giblet_train.data.stimulus.text import embed_timeline
from giblet_train.data.stimulus.video import read_frames, video_features
from giblet_train.schema.config import Config
from giblet_train.schema.errors import ConfigError


@dataclass(frozen=True)
class Stimulus:
    """Stored arrays of the film, one row per TR of the timeline. See `Study`."""

    frames_TKHWC: NDArray[np.uint8]
    video_TF: NDArray[np.float32]
    audio_TF: NDArray[np.float32]
    text_TF: NDArray[np.float32]
    labels: tuple[str, ...]
    border_trs: tuple[int, ...]


def read_stimulus(
    sources: Sources, segments: Sequence[Segment], timeline: Timeline, config: Config, progress: Progress
) -> Stimulus:
    """Everything about the film on `timeline`. Raises DataError for a film that cannot be read or is too short.

    Raises ConfigError when `model.text_dim` is named and is not the width of the sentence embeddings.
    """
    data, model = config.data, config.model
    start_s, n_trs = timeline.film_start_s, timeline.n_trs
    film = FilmTimeline(sources.film, timeline.tr_s, n_trs, start_s, tuple(segments))
    external = {
        m: external_features(m, source, sources.features.get(m), film) for m, source in data.features.brought().items()
    }
    text_TF = external.get("text")
    if text_TF is None:
        progress("embedding the annotations", 0.0)
        text_TF = embed_timeline(segments, timeline.tr_s, n_trs, start_s, data.text_model)
        _check_text_width(text_TF.shape[1] - 1, config)
    progress("reading the film's pictures", 0.1)
    frames_TKHWC = read_frames(
        sources.film, timeline.tr_s, n_trs, data.fps, model.video_height, model.video_width, start_s
    )
    audio_TF = external.get("audio")
    if audio_TF is None:
        progress("reading the film's sound", 0.8)
        audio_TF = read_log_mel(sources.film, timeline.tr_s, n_trs, model.n_mels, start_s).reshape(n_trs, -1)
    return Stimulus(
        frames_TKHWC=frames_TKHWC,
        video_TF=external["video"] if "video" in external else video_features(frames_TKHWC),
        audio_TF=audio_TF,
        text_TF=text_TF,
        labels=labels_at(segments, timeline),
        border_trs=annotation_borders(segments, timeline),
    )


def labels_at(segments: Sequence[Segment], timeline: Timeline) -> tuple[str, ...]:
    """Return the annotation at the middle of each TR, "" if there is none, the later one if two overlap."""
    labels = [""] * timeline.n_trs
    for segment in sorted(segments, key=lambda s: s.start_s):
        first = max(0, int(np.ceil(timeline.tr_at(segment.start_s) - 0.5)))
        stop = min(timeline.n_trs, int(np.ceil(timeline.tr_at(segment.end_s) - 0.5)))
        labels[first:stop] = [segment.text] * max(0, stop - first)
    return tuple(labels)


def annotation_borders(segments: Sequence[Segment], timeline: Timeline) -> tuple[int, ...]:
    """Return the TRs nearest to the start and end of annotations, ascending."""
    times_s = [time for segment in segments for time in (segment.start_s, segment.end_s)]
    borders = {round(timeline.tr_at(time_s)) for time_s in times_s}
    return tuple(sorted(b for b in borders if 0 < b < timeline.n_trs))


def _check_text_width(width: int, config: Config) -> None:
    if config.model.text_dim not in (None, width):
        raise ConfigError(
            f"model.text_dim is {config.model.text_dim}, but {config.data.text_model} gives {width} numbers.",
            "Set model.text_dim: null; the width follows from data.text_model.",
        )
