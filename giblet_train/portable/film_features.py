"""Features of a new film for a published model, standardised as in training, a part at a time.

T rows of the model, F features of a modality.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.preprocessing.standardize import ColumnScale
from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.readers.annotations import check_unit, read_annotations
from giblet_train.data.readers.model_folder import model_folder
from giblet_train.data.statistics.hrf import convolve_causal, glover
from giblet_train.data.stimulus.audio import has_sound, read_log_mel_in_parts
from giblet_train.data.stimulus.external import external_features, identity
from giblet_train.data.stimulus.features import labels_at
from giblet_train.data.stimulus.film_timeline import FilmTimeline
from giblet_train.data.stimulus.frame_pca import FramePca
from giblet_train.data.stimulus.pretrained import ModelRuns
from giblet_train.data.stimulus.text import embed_timeline
from giblet_train.data.stimulus.video import film_seconds, has_pictures, opened, read_frames_in_parts, video_features
from giblet_train.portable.arguments import as_names, as_number, as_path
from giblet_train.portable.model_file import FeatureSpace, ModelFile
from giblet_train.portable.option_words import options_for_keys
from giblet_train.schema.config import FeatureSource
from giblet_train.schema.errors import ConfigError, DataError

Singles = NDArray[np.float32]
SOURCES = {"video": "pictures", "audio": "sound", "text": "annotations"}


@dataclass(frozen=True)
class Film:
    """A film to predict responses to."""

    path: Path
    """File with pictures, sound or both."""
    annotations: Path | None = None
    """Table of annotations, as in docs/data.md."""
    features: Mapping[str, Path] = field(default_factory=dict)
    """Modality -> .npy file of features that giblet does not compute, with the rate of the training features."""
    without: frozenset[str] = frozenset()
    """Modalities to predict without, as if they were at their training mean."""
    start_s: float = 0.0
    """Second of the film at which the first row begins."""
    seconds: float | None = None
    """Seconds to predict; None to the end of the film."""
    scan_lengths_trs: tuple[int, ...] | None = None
    """Rows of each part of the film whose annotations count from its own start; None if they count from the film's."""

    def __post_init__(self) -> None:
        """Take text for paths and numbers, one modality for a list of one, and None for nothing."""
        annotations = None if self.annotations is None else as_path(self.annotations, "annotations")
        features: Any = {} if self.features is None else self.features
        if not isinstance(features, Mapping):
            raise ConfigError(
                f"features is a {type(features).__name__}, not a file for each modality.",
                'Give a dictionary, such as {"audio": "features.npy"}.',
            )
        values = {
            "path": as_path(self.path, "The film"),
            "annotations": annotations,
            "features": {m: as_path(file, f"The {m} features") for m, file in features.items()},
            "without": frozenset(as_names(self.without, "without")),
            "start_s": as_number(self.start_s),
            "seconds": None if self.seconds is None else as_number(self.seconds),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class FilmFeatures:
    """The features of one film that a model needs."""

    model: ModelFile
    film: Film
    segments: tuple[Segment, ...]
    n_trs: int
    notes: tuple[str, ...] = ()
    """One sentence for each thing that differs from training."""

    @classmethod
    def of(cls, model: ModelFile, film: Film) -> FilmFeatures:
        """Check that the film has what the model needs.

        Raises ConfigError for a modality that the model does not know and an impossible start or length, DataError if
        the film cannot be read, is shorter than a row, or lacks a feature space of the model.
        """
        spaces = model.header.features
        unknown = sorted({*film.features, *film.without} - set(spaces))
        if unknown:
            raise ConfigError(
                f"The model has no modality {unknown[0]}; it has {', '.join(spaces)}.", "Name one of these."
            )
        if not film.path.is_file():
            raise DataError(f"There is no film {film.path}.", "Name a film on this machine.")
        if film.without >= set(spaces):
            raise ConfigError(
                f"Without {', '.join(spaces)}, nothing is left to predict from.", "Keep at least one of them."
            )
        if not 0.0 <= film.start_s < math.inf or not (film.seconds is None or 0.0 < film.seconds < math.inf):
            length = "" if film.seconds is None else f" for {film.seconds:g} s"
            raise ConfigError(
                f"A film cannot be read from {film.start_s:g} s on{length}.",
                "Start at 0 s or later, and give a length above 0.",
            )
        with options_for_keys():
            seconds = _film_seconds(film.path, spaces, film)
            segments = _segments(film, model.header.tr_s)
            if segments:
                check_unit(segments, seconds, seconds, str(film.annotations))
        n_trs = int(
            (min(seconds, film.start_s + (seconds if film.seconds is None else film.seconds)) - film.start_s)
            / model.header.tr_s
            + 1e-6
        )
        if n_trs < 1:
            raise DataError(
                f"{film.path.name} lasts {seconds:.1f} s: no row of {model.header.tr_s:g} s is left "
                f"from {film.start_s:g} s on.",
                "Give a longer film or an earlier start.",
            )
        features = cls(model, film, segments, n_trs, tuple(_version_notes(spaces, film)))
        with options_for_keys():
            features._check_spaces()
        return features

    @property
    def seconds(self) -> float:
        """Return the seconds of film that the rows cover."""
        return self.n_trs * self.model.header.tr_s

    @property
    def labels(self) -> list[str]:
        """Return the annotation of each row, "" if there is none."""
        return labels_at(self.segments, self.film.start_s, self.n_trs, self.model.header.tr_s)

    def parts(self, part_trs: int) -> Iterator[dict[str, Singles]]:
        """Yield modality -> standardised features (n, F) of consecutive rows, at most part_trs at a time."""
        settings, scales = self.model.header.settings, self.model.under("input.")
        series = {m: self._raw_parts(m, part_trs) for m in self.model.header.features if m not in self.film.without}
        if settings.apply_hrf:
            kernel_L = glover(self.model.header.tr_s, self.model.header.shape.fir_trs * self.model.header.tr_s)
            series = {m: _convolved(parts, kernel_L) for m, parts in series.items()}
        for first in range(0, self.n_trs, part_trs):
            n_trs = min(part_trs, self.n_trs - first)
            part = {}
            for modality, space in self.model.header.features.items():
                if modality in self.film.without:
                    part[modality] = np.zeros((n_trs, space.n_features), np.float32)
                    continue
                scale = ColumnScale(scales[f"{modality}.mean_F"], scales[f"{modality}.sd_F"])
                raw_TF = next(series[modality])
                _check_width(modality, raw_TF, scale, space)
                part[modality] = scale.apply(raw_TF)
            yield part

    def targets(self) -> dict[str, Singles]:
        """Return modality -> features (T, F) as decoders reconstruct them: standardised, or shares of codes."""
        arrays = self.model.under("target.")
        targets = {}
        for modality, space in self.model.header.features.items():
            is_target = any(name.startswith(f"{modality}.") for name in arrays)
            if modality in self.film.without or not is_target:
                continue
            [raw_TF] = self._raw_parts(modality, self.n_trs)
            unigram_BQ = arrays.get(f"{modality}.unigram")
            if unigram_BQ is not None:
                targets[modality] = raw_TF[:, : unigram_BQ.size]
                continue
            scale = ColumnScale(arrays[f"{modality}.mean_F"], arrays[f"{modality}.sd_F"])
            _check_width(modality, raw_TF, scale, space)
            targets[modality] = scale.apply(raw_TF)
        return targets

    def frames_in_parts(self, part_trs: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames (n, K, H, W, 3) of consecutive rows."""
        tr_s, settings = self.model.header.tr_s, self.model.header.settings
        return read_frames_in_parts(
            self.film.path,
            tr_s,
            self.n_trs,
            settings.fps,
            settings.video_height,
            settings.video_width,
            self.film.start_s,
            part_trs,
        )

    def _raw_parts(self, modality: str, part_trs: int) -> Iterator[Singles]:
        """Yield features (n, F) of consecutive rows before they are scaled."""
        space = self.model.header.features[modality]
        if modality in self.film.features or space.source != "giblet":
            with options_for_keys():
                external_features: Iterator[Singles] = _sliced(self._external(modality, space), part_trs)
        elif modality == "text":
            external_features = self._text_parts(space, part_trs)
        elif modality == "audio":
            external_features = self._audio_parts(part_trs)
        else:
            return self._video_parts(part_trs)
        pca = frame_components(self.model)
        if modality == "video" and pca is not None:
            frames = self.frames_in_parts(part_trs)
            return (np.concatenate([x, pca.scores(f)], axis=1) for x, f in zip(external_features, frames, strict=True))
        return external_features

    def _video_parts(self, part_trs: int) -> Iterator[Singles]:
        pca = frame_components(self.model)
        before: NDArray[np.uint8] | None = None
        for frames in self.frames_in_parts(part_trs):
            # The motion of a row is the change since the row before it.
            all_frames = frames if before is None else np.concatenate([before, frames])
            features_TF = video_features(all_frames)[len(all_frames) - len(frames) :]
            before = frames[-1:].copy()
            yield features_TF if pca is None else np.concatenate([features_TF, pca.scores(frames)], axis=1)

    def _audio_parts(self, part_trs: int) -> Iterator[Singles]:
        tr_s, n_mels = self.model.header.tr_s, self.model.header.settings.n_mels
        for mel in read_log_mel_in_parts(self.film.path, tr_s, self.n_trs, n_mels, self.film.start_s, part_trs):
            yield mel.reshape(len(mel), -1)

    def _text_parts(self, space: FeatureSpace, part_trs: int) -> Iterator[Singles]:
        tr_s, model_name = self.model.header.tr_s, self.model.header.settings.text_model
        for first in range(0, self.n_trs, part_trs):
            n_trs = min(part_trs, self.n_trs - first)
            start_s = self.film.start_s + first * tr_s
            stop_s = start_s + n_trs * tr_s
            here = [s for s in self.segments if s.text and s.start_s < stop_s and s.end_s > start_s]
            if here:
                yield embed_timeline(here, tr_s, n_trs, start_s, model_name)
            else:
                yield np.zeros((n_trs, space.n_features), np.float32)

    def _external(self, modality: str, space: FeatureSpace) -> Singles:
        file = self.film.features.get(modality)
        is_model = space.source == "model" and file is None
        source = FeatureSource(
            extractor=None if file or is_model else space.extractor,
            file=str(file) if file else None,
            model=space.extractor if is_model else None,
            reads=space.reads if is_model else None,
            layer=space.layer if is_model else None,
            context_words=space.context_words if is_model else None,
            rows_per_s=space.rows_per_s if file else None,
            codes=space.codes,
        )
        path = self.film.path
        timeline = FilmTimeline(
            path if has_pictures(path) else None,
            self.model.header.tr_s,
            self.n_trs,
            self.film.start_s,
            self.segments,
            path if has_sound(path) else None,
            film_seconds(path),
        )
        folder = model_folder(space.extractor, Path.cwd(), f"--features {modality}") if is_model else file
        runs = ModelRuns(self.model.header.settings.fps)
        features_TF = external_features(modality, source, folder, timeline, runs)
        if features_TF is None:
            raise DataError(
                f"The model needs {modality}, and {path.name} has nothing that {space.extractor} reads.",
                f"Predict as if it were at its mean: --without {modality}.",
            )
        return features_TF

    def _check_spaces(self) -> None:
        for modality, space in self.model.header.features.items():
            if modality in self.film.without or modality in self.film.features:
                continue
            missing = self._missing(modality, space)
            if missing:
                raise DataError(
                    f"The model needs {modality}, but {missing}.",
                    f"Give it, or predict as if it were at its mean: --without {modality}.",
                )

    def _missing(self, modality: str, space: FeatureSpace) -> str:
        """Return what is missing for a modality; "" if nothing is."""
        if space.source == "file":
            return f"its features come from a file and none is given with --features {modality}=FILE"
        if space.source == "model":
            return ""
        if space.source == "extractor":
            identity(FeatureSource(extractor=space.extractor))
            return ""
        if modality == "text":
            return "" if any(s.text for s in self.segments) else f"{self.film.path.name} comes without annotations"
        has = has_sound(self.film.path) if modality == "audio" else has_pictures(self.film.path)
        return "" if has else f"{self.film.path.name} has no {SOURCES[modality]}"


def film_of(
    path: Path,
    annotations: Path | None = None,
    features: Sequence[str] = (),
    without: Sequence[str] = (),
    start_s: float = 0.0,
    seconds: float | None = None,
    scan_lengths: str = "",
) -> Film:
    """Return the film of a command line. Raises ConfigError for a feature file that is not MODALITY=FILE.

    Args:
        features: each MODALITY=FILE.
        scan_lengths: rows of each part, such as `200,197`; "" if times never restart.
    """
    files = {}
    for word in features:
        modality, equals, file = word.partition("=")
        if not equals or not file:
            raise ConfigError(f"{word!r} does not name a modality and a file.", "Use --features audio=features.npy.")
        files[modality] = Path(file)
    words = [word.strip() for word in scan_lengths.split(",") if word.strip()]
    if not all(word.isdigit() and int(word) for word in words):
        raise ConfigError(f"{scan_lengths!r} is not a list of row counts.", "Use --scan-lengths 946,1030.")
    lengths = tuple(map(int, words)) or None
    return Film(path, annotations, files, frozenset(without), start_s, seconds, lengths)


def frame_components(model: ModelFile) -> FramePca | None:
    """Return the components of frames; None if the model has none."""
    arrays = model.under("frames.")
    if not arrays:
        return None
    return FramePca(arrays["mean_P"], arrays["components_FP"], arrays["variance_F"])


def _segments(film: Film, tr_s: float) -> tuple[Segment, ...]:
    if film.annotations is None:
        return ()
    return read_annotations(film.annotations, tr_s, film.scan_lengths_trs).segments


def _film_seconds(path: Path, spaces: Mapping[str, FeatureSpace], film: Film) -> float:
    """Return the seconds that pictures and, if it is needed, sound of the film both have."""
    seconds = film_seconds(path)
    audio = spaces.get("audio")
    if audio is None or audio.source != "giblet" or {"audio"} & {*film.without, *film.features}:
        return seconds
    with opened(path) as container:
        for stream in container.streams.audio[:1]:
            if stream.duration is not None and stream.time_base is not None:
                return min(seconds, float(stream.duration * stream.time_base))
    return seconds


def _check_width(modality: str, raw_TF: Singles, scale: ColumnScale, space: FeatureSpace) -> None:
    if raw_TF.shape[1] != len(scale.mean_F):
        raise DataError(
            f"The {modality} features of the film have {raw_TF.shape[1]} columns; the model has {len(scale.mean_F)}.",
            f"Use the extractor of the model: {space.extractor} {space.version}.",
        )


def _version_notes(spaces: Mapping[str, FeatureSpace], film: Film) -> Iterator[str]:
    for modality, space in spaces.items():
        if space.source == "extractor" and modality not in {*film.without, *film.features}:
            package = identity(FeatureSource(extractor=space.extractor))["package"]
            if package not in (None, space.version):
                yield (
                    f"{modality} features of the model are of {space.version}; those of this film are of {package}: "
                    "they may differ."
                )


def _convolved(parts: Iterator[Singles], kernel_L: NDArray[np.float64]) -> Iterator[Singles]:
    """Convolve consecutive parts as one series."""
    before: NDArray[np.float64] | None = None
    for part_TF in parts:
        own = part_TF.astype(np.float64)
        features_TF = own if before is None else np.concatenate([before, own])
        before = features_TF[max(0, len(features_TF) - len(kernel_L) + 1) :]
        yield convolve_causal(features_TF, kernel_L)[len(features_TF) - len(own) :].astype(np.float32)


def _sliced(x_TF: Singles, part_trs: int) -> Iterator[Singles]:
    for first in range(0, len(x_TF), part_trs):
        yield x_TF[first : first + part_trs]
