"""The Python API: `import giblet_train as giblet; model = giblet.load("model.giblet")`. See docs/api.md.

T volumes or rows, V voxels of the model, X Y Z grid, F features.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data import geometry as data_geometry
from giblet_train.evaluation.intervals import interval_of_sum
from giblet_train.evaluation.metrics import contributions_of, pearson
from giblet_train.portable.arguments import as_array, as_names, as_path, as_singles, as_tr_s
from giblet_train.portable.decode import Decoded, decode, known_film
from giblet_train.portable.film_features import Film, FilmFeatures
from giblet_train.portable.inference import Inference
from giblet_train.portable.map_picture import MapPicture, map_picture
from giblet_train.portable.measured import Measured, length_notes, read_measured
from giblet_train.portable.model_file import Card, ModelFile, default_subject, write_model
from giblet_train.portable.new_subject import NewSubject, fit_new_subject, label_of
from giblet_train.portable.open_model import open_model
from giblet_train.portable.predict import FilmLatents
from giblet_train.portable.publish import model_card
from giblet_train.portable.resample import resample
from giblet_train.schema.errors import ConfigError, DataError

FilmLike = str | Path | Film
BoldLike = str | Path | NDArray[Any]
FEWEST_TRS = 4
MAP_ENDINGS = (".nii.gz", ".dscalar.nii", ".pscalar.nii", ".nii", ".func.gii", ".tsv")
_SILENT = lambda sentence, fraction=None: None  # noqa: E731


@dataclass(frozen=True)
class Geometry:
    """Where the values of a model are."""

    space: data_geometry.Geometry
    """Grid, grayordinates, vertices or parcels."""
    mask: NDArray[np.bool_]
    """The V positions of the model in the shape of the space, (X, Y, Z) of a grid; values are in C order."""

    def volume(self, values_V: NDArray[Any]) -> NDArray[Any]:
        """Return values (..., V) in the shape of the space, such as (..., X, Y, Z); 0 outside the mask."""
        values_V = self._checked(values_V)
        volume = np.zeros((*values_V.shape[:-1], *self.mask.shape), values_V.dtype)
        volume[..., self.mask] = values_V
        return volume

    @property
    def affine(self) -> NDArray[np.float64]:
        """Return (4, 4), voxel to mm. Raises DataError if the space has no grid."""
        if not isinstance(self.space, data_geometry.VolumeGrid):
            raise DataError(f"{self.space.description} have no affine.", "Write maps with save_map.")
        return self.space.affine

    def picture(self, values_V: NDArray[Any], label: str = "r", threshold: float = 0.0) -> MapPicture:
        """Draw values (V,): a notebook shows the result, and its `save` writes an HTML page.

        label: what the values are. threshold: smaller absolute values are not coloured. Raises DataError for a space
        that cannot be drawn: grayordinates, parcels, and vertices that are not those of fsaverage5.
        """
        return map_picture(self.space, self.mask, self.volume(self._checked(values_V, n_axes=1)), label, threshold)

    def save_map(self, stem: str | Path, values_V: NDArray[Any]) -> tuple[Path, ...]:
        """Write one number for each position in the format of the study, whose ending is added to the path `stem`."""
        values_V, path = self._checked(values_V, n_axes=1), as_path(stem, "The stem")
        singles_V = as_singles(values_V, "The map", "Scale its values.")
        ending = next((e for e in MAP_ENDINGS if path.name.endswith(e)), "")
        name = path.name.removesuffix(ending)
        if name in ("", ".."):
            raise ConfigError(f"{stem} names no file.", "Give a path such as maps/r, to which the ending is added.")
        try:
            return self.space.write_map(path.with_name(name), singles_V, self.mask)
        except OSError as error:
            raise DataError(f"{stem} cannot be written: {error.strerror}.", "Name a folder that exists.") from None

    def _checked(self, values_V: NDArray[Any], n_axes: int | None = None) -> NDArray[Any]:
        """Return values (..., V) as an array. Raises DataError for another shape. n_axes: axes; None for any number."""
        n_positions, first = int(np.count_nonzero(self.mask)), "" if n_axes == 1 else "..., "
        remedy = f"Give ({first}{n_positions}{',' if n_axes == 1 else ''}), in C order of geometry.mask."
        array_V = as_array(values_V, "The map", remedy)
        if array_V.shape[-1:] != (n_positions,) or n_axes not in (None, array_V.ndim):
            raise DataError(
                f"The values have shape {array_V.shape}; the model has {n_positions} {self.space.noun.many}.", remedy
            )
        return array_V


@dataclass(frozen=True)
class Prediction:
    """Predicted responses to a film."""

    series_TV: NDArray[np.float32]
    """(T, V), in standard deviations of each voxel."""
    tr_s: float
    """Seconds per row."""
    subject: str
    """Label of the head."""
    geometry: Geometry
    notes: tuple[str, ...]
    """One sentence for each thing that differs from training."""


@dataclass(frozen=True)
class Score:
    """Correlation of predicted and measured responses."""

    r_V: NDArray[np.float64]
    """(V,)."""
    r: float
    """Mean over voxels that were responsive in training."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end of its 95 % interval."""
    n_rows: int
    """Rows that were compared."""
    geometry: Geometry
    notes: tuple[str, ...] = ()
    """One sentence for each thing that had to be done to fit film or scan to the model."""


class Model:
    """A model that predicts responses to films. Made by `load`."""

    def __init__(self, file: ModelFile) -> None:
        self.file = file

    def __str__(self) -> str:
        """Return the model card as text."""
        return "\n".join(model_card(self.file))

    @property
    def subjects(self) -> tuple[str, ...]:
        """Return the labels of the heads."""
        return self.file.header.subjects

    @property
    def card(self) -> Card:
        """Return the model card."""
        return self.file.header.card

    @property
    def tr_s(self) -> float:
        """Return the seconds per row."""
        return self.file.header.tr_s

    @property
    def geometry(self) -> Geometry:
        """Return where the values are."""
        return Geometry(self.file.header.geometry, self.file.mask)

    @property
    def responsive_V(self) -> NDArray[np.bool_]:
        """Return (V,): voxels whose responses the training subjects shared."""
        return np.asarray(self.file.arrays["responsive_V"], bool)

    @cached_property
    def _inference(self) -> Inference:
        return Inference.of(self.file)

    def predict(
        self,
        film: FilmLike,
        subject: str | None = None,
        *,
        annotations: str | Path | None = None,
        features: Mapping[str, str | Path] | None = None,
        without: Sequence[str] = (),
        tr_s: float | None = None,
    ) -> Prediction:
        """Predict the responses to a film.

        Args:
            film: file with pictures, sound or both, or a `Film`, which also names what follows.
            subject: head, such as `1`; None for the average subject.
            annotations: table of the film's annotations.
            features: modality -> .npy file of features that giblet does not compute.
            without: modalities to predict without, as if they were at their training mean.
            tr_s: seconds per row of the result; None for the model's.

        Raises ConfigError and DataError, which have a message and a remedy.
        """
        label = self._label(subject)
        film_features = FilmFeatures.of(self.file, _film(film, annotations, features, without))
        z_TK = FilmLatents(self._inference, film_features).all()
        to_s = self.tr_s if tr_s is None else as_tr_s(tr_s)
        series_TV = resample(self._inference.predict(z_TK, label), self.tr_s, to_s)
        return Prediction(series_TV, to_s, label, self.geometry, film_features.notes)

    def score(
        self,
        bold: BoldLike,
        film: FilmLike,
        subject: str | None = None,
        *,
        annotations: str | Path | None = None,
        features: Mapping[str, str | Path] | None = None,
        without: Sequence[str] = (),
        tr_s: float | None = None,
    ) -> Score:
        """Correlate predicted with measured responses; the first volume belongs to the beginning of the film.

        Args:
            bold: series in the model's space, or an array (T, V).
            tr_s: seconds per volume, if the file does not state it.
        """
        measured = read_measured(self.file, _bold(bold), tr_s)
        predicted = self.predict(
            film, subject, annotations=annotations, features=features, without=without, tr_s=measured.tr_s
        )
        n_rows = min(len(predicted.series_TV), len(measured.bold_TV))
        if n_rows < FEWEST_TRS:
            raise DataError(f"Film and scan share {n_rows} volumes.", f"Give at least {FEWEST_TRS}.")
        block = [(0, n_rows)]
        predicted_TV = measured.drift.apply(predicted.series_TV[:n_rows], block)
        measured_TV = measured.parts(block, slice(None))
        responsive_V = self.responsive_V if self.responsive_V.any() else np.ones_like(self.responsive_V)
        contributions_T = contributions_of(predicted_TV[:, responsive_V], measured_TV[:, responsive_V])
        low, high = interval_of_sum(contributions_T)
        r_V = pearson(predicted_TV, measured_TV)
        notes = _notes(predicted.notes, measured, len(predicted.series_TV) * measured.tr_s)
        return Score(r_V, float(contributions_T.sum()), low, high, n_rows, self.geometry, notes)

    def decode(
        self,
        bold: BoldLike,
        subject: str | None = None,
        *,
        film: FilmLike | None = None,
        annotations: str | Path | None = None,
        sentences: Sequence[str] = (),
        tr_s: float | None = None,
    ) -> Decoded:
        """Reconstruct the film from one person's responses.

        Args:
            bold: series in the model's space, or an array (T, V).
            subject: head that reads the responses; None for the average subject's.
            film: the film that was shown, if it is known: what is decoded is then compared with it.
            annotations: annotations of that film; without them, its text is not compared.
            sentences: sentences among which the nearest is searched; those of the annotations if empty.
            tr_s: seconds per volume, if the file does not state it.
        """
        measured = read_measured(self.file, _bold(bold), tr_s)
        film_features = None if film is None else known_film(self.file, _film(film, annotations, None, ()))
        texts = as_names(sentences, "sentences")
        decoded = decode(self._inference, measured, self._label(subject), film_features, texts)
        return replace(decoded, notes=measured.notes if film_features is None else _film_notes(film_features, measured))

    def fit_subject(
        self,
        bold: BoldLike,
        film: FilmLike,
        name: str = "new",
        *,
        annotations: str | Path | None = None,
        features: Mapping[str, str | Path] | None = None,
        without: Sequence[str] = (),
        tr_s: float | None = None,
    ) -> FittedSubject:
        """Fit a head for a new person in closed form; the model itself is not changed.

        Args:
            bold: series in the model's space, or an array (T, V).
            film: the film that was shown.
            name: label of the new head.
            tr_s: seconds per volume, if the file does not state it.
        """
        measured = read_measured(self.file, _bold(bold), tr_s)
        film_features = FilmFeatures.of(self.file, _film(film, annotations, features, without))
        fitted = fit_new_subject(self._inference, film_features, measured, label_of(str(name)), _SILENT)
        return FittedSubject(Model(fitted.model), fitted, _film_notes(film_features, measured))

    def save(self, path: str | Path) -> None:
        """Write the model to a file, whole or not at all."""
        write_model(self.file, as_path(path, "The model file"))

    def _label(self, subject: str | None) -> str:
        return default_subject(self.file) if subject is None else self.file.label(str(subject))


@dataclass(frozen=True)
class FittedSubject:
    """A new person's head."""

    model: Model
    """The model with the new head."""
    result: NewSubject
    """Held-out r of the head, of the average subject and of ridge."""
    notes: tuple[str, ...] = ()
    """One sentence for each thing that had to be done to fit film or scan to the model."""


def load(path: str | Path, workdir: str | Path | None = None) -> Model:
    """Open a published model, or a run directory whose study is on this machine.

    Args:
        path: `.giblet` file, or run directory; the heads of all its subjects are then available.
        workdir: folder of the run's study and store; None for the run's own.

    Raises ConfigError, DataError.
    """
    folder = None if workdir is None else as_path(workdir, "workdir")
    return Model(open_model(as_path(path, "The model"), _SILENT, folder))


def _film(
    film: FilmLike,
    annotations: str | Path | None,
    features: Mapping[str, str | Path] | None,
    without: Sequence[str],
) -> Film:
    if isinstance(film, Film):
        return film
    # The film takes text for paths.
    return Film(film, annotations, {} if features is None else features, without)  # type: ignore[arg-type]


def _film_notes(film: FilmFeatures, measured: Measured) -> tuple[str, ...]:
    return _notes(film.notes, measured, film.seconds)


def _notes(film_notes: tuple[str, ...], measured: Measured, film_s: float) -> tuple[str, ...]:
    """Return the notes on a film, on a scan, and on their lengths. film_s: seconds of the film."""
    return (*film_notes, *measured.notes, *length_notes(measured, film_s))


def _bold(bold: BoldLike) -> Path | NDArray[Any]:
    return as_path(bold, "bold") if isinstance(bold, str | os.PathLike) else bold
