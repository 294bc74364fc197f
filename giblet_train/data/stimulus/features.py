"""Put the features of all stimuli on the rows of a study: frames, visual features, log-mel, embedded annotations.

T TRs, K frames in a TR, H W C rows, columns, colours, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.readers.row_plan import Span
from giblet_train.data.stimulus.audio import has_sound, read_log_mel
from giblet_train.data.stimulus.external import external_features
from giblet_train.data.stimulus.feature_cache import FeatureCache
from giblet_train.data.stimulus.film_timeline import FilmTimeline
from giblet_train.data.stimulus.pretrained import ModelRuns
from giblet_train.data.stimulus.text import embed_timeline
from giblet_train.data.stimulus.video import film_seconds, has_pictures, read_frames, video_features
from giblet_train.schema.config import Config, FeatureSource, ordered_spaces
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.progress import ProgressCallback

SHORTEST_S = 1e-6
"""Time that an annotation must share with a TR; less is rounding."""
MODELS_SHARE = 0.1
"""How much of the time of reading a stimulus its pretrained models take, for the progress."""


@dataclass(frozen=True)
class StimulusSource:
    """What is known about one stimulus."""

    film: Path | None
    """File with pictures, sound or both."""
    sound: Path | None = None
    """File of the sound, if it is not the film's."""
    segments: tuple[Segment, ...] = ()
    """Annotations in seconds of the stimulus."""
    features: Mapping[str, FeatureSource] = field(default_factory=dict)
    """Feature space -> source, of those that are not giblet's own."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Feature space -> file of its features, or folder of its model."""

    @property
    def sound_file(self) -> Path | None:
        """Return the file with the sound, or None if there is no sound."""
        candidate = self.sound or self.film
        return candidate if candidate is not None and has_sound(candidate) else None

    @property
    def seconds(self) -> float | None:
        """Return the duration of the film or sound, or None if there is neither."""
        media = self.film or self.sound
        return None if media is None else film_seconds(media)

    @property
    def picture_file(self) -> Path | None:
        """Return the file with the pictures, or None if there are none."""
        return self.film if self.film is not None and has_pictures(self.film) else None


@dataclass(frozen=True)
class Stimulus:
    """Stored arrays of the stimuli, one row per TR. See `Study`."""

    frames_TKHWC: NDArray[np.uint8] | None
    """None if no stimulus has pictures."""
    features: Mapping[str, NDArray[np.float32]]
    shown: Mapping[str, NDArray[np.bool_]]
    """Feature space -> (T,), True where the stimulus has it."""
    labels: tuple[str, ...]
    border_trs: tuple[int, ...]
    notes: tuple[str, ...] = ()


def read_stimuli(
    sources: Mapping[str, StimulusSource],
    spans: Sequence[Span],
    n_trs: int,
    tr_s: float,
    config: Config,
    progress: ProgressCallback,
    cache: FeatureCache | None = None,
) -> Stimulus:
    """Read every span of every stimulus. Raises DataError for a film that cannot be read or is too short.

    Raises ConfigError if `model.text_dim` is set and is not the width of the sentence embeddings.

    Args:
        sources: Stimulus -> its files.
        n_trs: T, rows of the study.
        cache: What pretrained models computed before.
    """
    runs = ModelRuns(config.data.fps, config.device, cache or FeatureCache())
    arrays: dict[str, _Rows] = {}
    labels = [""] * n_trs
    borders: set[int] = set()
    for n, span in enumerate(spans):
        source, where = sources[span.stimulus], slice(span.first, span.stop)
        name_of_film = span.stimulus if len({s.stimulus for s in spans}) > 1 else "the film"
        step = _step_of(progress, name_of_film, n, len(spans))
        for name, values in _read_span(source, span, tr_s, config, step, runs).items():
            arrays.setdefault(name, _Rows(name, n_trs)).put(where, values, span.stimulus)
        labels[where] = labels_at(source.segments, span.start_s, span.n_trs, tr_s)
        borders |= {span.first + b for b in annotation_borders(source.segments, span.start_s, span.n_trs, tr_s)}
        borders |= {b for b in (span.first, span.stop) if 0 < b < n_trs and len(spans) > 1}
    frames = arrays.pop("frames", None)
    modalities = ordered_spaces(arrays)
    if not modalities:
        clause = "" if config.data.spaces is None else f" that data.spaces uses ({', '.join(config.data.spaces)})"
        raise DataError(
            f"No stimulus has pictures, sound, annotations or features{clause}.",
            "Set data.video, data.stimuli or data.spaces.",
        )
    return Stimulus(
        frames_TKHWC=None if frames is None else frames.values,
        features={m: arrays[m].values for m in modalities},
        shown={m: arrays[m].filled_T for m in modalities},
        labels=tuple(labels),
        border_trs=tuple(sorted(borders)),
        notes=tuple(f"No stimulus has {m}; it is not trained on." for m in config.data.space_names if m not in arrays),
    )


class _Rows:
    """An array of all rows that is filled span by span; the rest stays 0."""

    def __init__(self, name: str, n_trs: int) -> None:
        self.name = name
        self.values: NDArray[Any] = np.empty((n_trs, 0))
        self.filled_T = np.zeros(n_trs, bool)

    def put(self, where: slice, values: NDArray[Any], stimulus: str) -> None:
        """Store the rows of a span. Raises DataError if spans have other numbers of features."""
        if not self.filled_T.any():
            whole = len(values) == len(self.filled_T)
            self.values = values if whole else np.zeros((len(self.filled_T), *values.shape[1:]), values.dtype)
        if values.shape[1:] != self.values.shape[1:]:
            raise DataError(
                f"{stimulus} has {self.name} features of shape {values.shape[1:]}, others {self.values.shape[1:]}.",
                "Use the same features for all stimuli.",
            )
        self.values[where] = values
        self.filled_T[where] = True


def _step_of(progress: ProgressCallback, film: str, n: int, n_spans: int) -> Callable[[str, float], None]:
    """Return a function that reports a step of reading one span: what is read of it, and the share of it done."""
    return lambda sentence, share: progress(sentence.format(film=film), (n + share) / n_spans)


def _read_span(
    source: StimulusSource,
    span: Span,
    tr_s: float,
    config: Config,
    step: Callable[[str, float], None],
    runs: ModelRuns,
) -> dict[str, NDArray[Any]]:
    """Return feature space -> (n, F) of what the stimulus has, and its frames."""
    data, model = config.data, config.model
    start_s, n_trs = span.start_s, span.n_trs
    timeline = FilmTimeline(
        source.picture_file, tr_s, n_trs, start_s, source.segments, source.sound_file, source.seconds
    )
    arrays: dict[str, NDArray[Any]] = {}
    for m, feature in source.features.items():
        own_runs = replace(runs, report=partial(_report_model, step, m))
        values = external_features(m, feature, source.files.get(m), timeline, own_runs)
        if values is not None:
            arrays[m] = values
    own = [m for m in data.space_names if m not in source.features]
    if "text" in own and any(segment.text for segment in source.segments):
        step("embedding the annotations of {film}", 0.0)
        arrays["text"] = embed_timeline(source.segments, tr_s, n_trs, start_s, data.text_model)
        _check_text_width(arrays["text"].shape[1] - 1, config)
    if source.picture_file is not None and data.uses("video"):
        step("reading the pictures of {film}", 0.1)
        frames = read_frames(source.picture_file, tr_s, n_trs, data.fps, model.video_height, model.video_width, start_s)
        arrays["frames"] = frames
        if "video" in own:
            arrays["video"] = video_features(frames)
    if "audio" in own and source.sound_file is not None:
        step("reading the sound of {film}", 0.8)
        arrays["audio"] = read_log_mel(source.sound_file, tr_s, n_trs, model.n_mels, start_s).reshape(n_trs, -1)
    return arrays


def _report_model(step: Callable[[str, float], None], space: str, share: float) -> None:
    step(f"computing {space} of {{film}}", MODELS_SHARE * share)


def labels_at(segments: Sequence[Segment], start_s: float, n_trs: int, tr_s: float) -> list[str]:
    """Return the annotation at the middle of each TR, the later one if two overlap.

    Without one, it is the annotation that is longest within the TR, such as a short word; "" if there is none.
    """
    labels = [""] * n_trs
    for segment in sorted(segments, key=lambda s: s.start_s):
        first = max(0, int(np.ceil((segment.start_s - start_s) / tr_s - 0.5)))
        stop = min(n_trs, int(np.ceil((segment.end_s - start_s) / tr_s - 0.5)))
        labels[first:stop] = [segment.text] * max(0, stop - first)
    longest_s = [0.0] * n_trs
    empty = {tr for tr, text in enumerate(labels) if not text}
    for segment in segments:
        begin, end = (segment.start_s - start_s) / tr_s, (segment.end_s - start_s) / tr_s
        for tr in empty.intersection(range(max(0, int(np.floor(begin))), min(n_trs, int(np.ceil(end))))):
            length_s = (min(end, tr + 1) - max(begin, tr)) * tr_s
            if length_s > max(longest_s[tr], SHORTEST_S) and segment.text:
                labels[tr], longest_s[tr] = segment.text, length_s
    return labels


def annotation_borders(segments: Sequence[Segment], start_s: float, n_trs: int, tr_s: float) -> tuple[int, ...]:
    """Return the TRs nearest to the start and end of annotations, ascending."""
    times_s = [time for segment in segments for time in (segment.start_s, segment.end_s)]
    borders = {round((time_s - start_s) / tr_s) for time_s in times_s}
    return tuple(sorted(b for b in borders if 0 < b < n_trs))


def _check_text_width(width: int, config: Config) -> None:
    if config.model.text_dim not in (None, width):
        raise ConfigError(
            f"model.text_dim is {config.model.text_dim}, but {config.data.text_model} gives {width} numbers.",
            "Set model.text_dim: null; the width follows from data.text_model.",
        )
