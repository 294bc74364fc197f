"""Films and sounds as a brain would follow them, in one basis for all. U TRs, F features."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.checks.annotation_timing import picture_change, sound_change
from giblet_train.data.discover.inventory import FILMS, Medium
from giblet_train.data.discover.names import stem, tokens
from giblet_train.data.readers.annotation_table import read_rows
from giblet_train.data.readers.scan_restarts import ends_of_parts
from giblet_train.data.statistics.hrf import convolve_causal, glover
from giblet_train.data.statistics.lag import FAST_S, highpass
from giblet_train.data.stimulus.audio import has_sound, read_log_mel
from giblet_train.data.stimulus.video import read_frames, video_features
from giblet_train.schema.errors import DataError
from giblet_train.schema.progress import ProgressCallback

FRAMES_HZ, HEIGHT, WIDTH, MEL_BANDS = 2.0, 18, 32, 24
COMPONENTS = 12
"""Leading components of pictures and of sound."""
SAME_LENGTH_S = 1.0
SHORTEST_S = 20.0
"""Shorter annotations describe no stimulus of their own."""
FORMATS = FILMS
"""Endings of films, the preferred one first."""
AS_SOUND = ("audio", "sound", "wav")
SOUND_ENDING = re.compile(r"[_-](?:audio|sound|wav)$", re.IGNORECASE)


@dataclass(frozen=True)
class Candidate:
    """A stimulus that a run may show: a film, a sound, a film with its sound in a file of its own, or annotations."""

    name: str
    film: Medium | None
    sound: Medium | None
    text: Medium | None = None
    """Annotations that are all that is known of it; None if it has a film or sound."""

    @property
    def seconds(self) -> float:
        """Return its duration."""
        return self.file.seconds

    @property
    def file(self) -> Medium:
        """Return the file by which people know it."""
        medium = self.film or self.sound or self.text
        assert medium is not None
        return medium


def candidates(media: Sequence[Medium]) -> list[Candidate]:
    """Return the stimuli of a folder.

    A sound with the name and the length of a film belongs to the film. Files of one folder with one name and length are
    one film in several formats.
    """
    films = _in_one_format([medium for medium in media if medium.has_pictures])
    sounds = {medium: _plain(medium) for medium in media if not medium.has_pictures}
    result: list[Candidate] = []
    names: set[str] = set()
    for film in films:
        own = [
            s for s, name in sounds.items() if name == _plain(film) and abs(s.seconds - film.seconds) < SAME_LENGTH_S
        ]
        for sound in own:
            del sounds[sound]
        result.append(Candidate(_unique(stem(film.path), names), film, own[0] if own else None))
    result += [Candidate(_unique(SOUND_ENDING.sub("", stem(sound.path)), names), None, sound) for sound in sounds]
    return result


def annotated_stimuli(texts: Sequence[Path]) -> list[Candidate]:
    """Return the stimuli of a folder without films and sounds: one for each part of its annotations."""
    names: set[str] = set()
    result: list[Candidate] = []
    for path in texts:
        try:
            ends_s = ends_of_parts(read_rows(path))
        except DataError:
            continue
        for number, end_s in enumerate(ends_s, 1):
            if end_s >= SHORTEST_S:
                name = f"{path.stem}_{number}" if len(ends_s) > 1 else path.stem
                result.append(Candidate(_unique(name, names), None, None, Medium(path, end_s, has_pictures=False)))
    return result


def _in_one_format(films: Sequence[Medium]) -> list[Medium]:
    first_by_stem: dict[tuple[str, int], Medium] = {}
    for film in sorted(films, key=lambda f: FORMATS.index(f.path.suffix.lower())):
        first_by_stem.setdefault((str(film.path.with_suffix("")), round(film.seconds / SAME_LENGTH_S)), film)
    return [film for film in films if film in first_by_stem.values()]


def _plain(medium: Medium) -> tuple[str, ...]:
    return tuple(token for token in tokens(stem(medium.path)) if token not in AS_SOUND)


def _unique(text: str, names: set[str]) -> str:
    """Return a name for the configuration that is not taken yet."""
    plain = "".join(c if c.isalnum() and c.isascii() else "_" for c in text).strip("_") or "stimulus"
    name = next(n for n in (plain, *(f"{plain}_{k}" for k in range(2, 1000))) if n not in names)
    names.add(name)
    return name


@dataclass(frozen=True)
class ReadStimuli:
    """Expected responses and scene changes of the stimuli that can be read."""

    series: Mapping[str, NDArray[np.float64]]
    """Name -> (U, F), features of picture and sound, delayed and smoothed as responses are."""
    changes: Mapping[str, NDArray[np.float64]]
    """Name -> (S, N), how much each signal changes at a moment."""
    per_tr: int
    """Moments in a TR."""
    problems: tuple[tuple[Candidate, DataError], ...]
    """Stimuli that cannot be read."""


def read_stimuli(stimuli: Sequence[Candidate], tr_s: float, progress: ProgressCallback) -> ReadStimuli:
    """Read all stimuli.

    Features are components of pictures and sound over all stimuli, convolved with the haemodynamic response, so that
    the lag at which a brain follows them is the onset of the stimulus in the scan.
    """
    features: dict[str, dict[str, NDArray[np.float32]]] = {}
    changes: dict[str, NDArray[np.float64]] = {}
    problems = []
    per_tr = max(1, round(FRAMES_HZ * tr_s))
    for n, stimulus in enumerate(s for s in stimuli if s.text is None):
        progress(f"reading {stimulus.file.path.name}", n / len(stimuli))
        try:
            features[stimulus.name], changes[stimulus.name] = _features(stimulus, tr_s, per_tr)
        except DataError as error:
            problems.append((stimulus, error))
    lengths = {name: len(next(iter(parts.values()))) for name, parts in features.items()}
    modalities = sorted({modality for parts in features.values() for modality in parts})
    blocks: dict[str, list[NDArray[np.float64]]] = {name: [] for name in features}
    for modality in modalities:
        for name, series_UC in _components({n: p[modality] for n, p in features.items() if modality in p}).items():
            blocks[name].append(series_UC)
        for name in features:
            if modality not in features[name]:
                blocks[name].append(np.zeros((lengths[name], COMPONENTS)))
    kernel_K = glover(tr_s)
    series = {
        name: highpass(convolve_causal(np.concatenate(parts, axis=1), kernel_K), tr_s, FAST_S)
        for name, parts in blocks.items()
    }
    return ReadStimuli(series, changes, per_tr, tuple(problems))


def _features(
    stimulus: Candidate, tr_s: float, per_tr: int
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float64]]:
    """Return features by modality, and how much picture and sound change, (S, N). Raises DataError."""
    n_trs = floor(stimulus.seconds / tr_s + 1e-6)
    parts: dict[str, NDArray[np.float32]] = {}
    changes = []
    if stimulus.film is not None:
        frames = read_frames(stimulus.film.path, tr_s, n_trs, FRAMES_HZ, HEIGHT, WIDTH)
        parts["pictures"] = video_features(frames)
        changes.append(picture_change(frames))
    medium = stimulus.sound or stimulus.film
    if medium is not None and has_sound(medium.path):
        mel_TAM = read_log_mel(medium.path, tr_s, n_trs, MEL_BANDS)
        parts["sound"] = np.concatenate([mel_TAM.mean(axis=1), mel_TAM.std(axis=1)], axis=1)
        changes.append(sound_change(mel_TAM, per_tr))
    if not parts:
        raise DataError(f"{stimulus.file.path} has neither pictures nor sound.", "Remove it from the folder.")
    return parts, np.stack(changes)


def _components(features: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float64]]:
    """Return name -> (U, COMPONENTS) leading components over all stimuli, each with variance 1; missing ones are 0."""
    joined_UF = np.concatenate([np.asarray(x, np.float64) for x in features.values()])
    mean_F, sd_F = joined_UF.mean(axis=0), joined_UF.std(axis=0)
    scaled_UF = np.divide(joined_UF - mean_F, sd_F, out=np.zeros_like(joined_UF), where=sd_F > 1e-9)
    values, vectors = np.linalg.eigh(scaled_UF.T @ scaled_UF)
    order = np.argsort(values)[::-1][:COMPONENTS]
    order = order[values[order] > 1e-9 * max(1e-12, float(values.max()))]
    scores_UC = np.zeros((len(scaled_UF), COMPONENTS))
    scores_UC[:, : len(order)] = scaled_UF @ vectors[:, order] / np.sqrt(values[order] / len(scaled_UF))
    parts = np.split(scores_UC, np.cumsum([len(x) for x in features.values()])[:-1])
    return dict(zip(features, parts, strict=True))
