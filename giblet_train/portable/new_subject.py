"""Fit a head for a new person in closed form, from minutes of responses to a known film.

The head is the average subject's plus a ridge regression of what it leaves unexplained on the model's latents. Rows are
split into training, validation and held-out rows with gaps between them; the head that is kept uses all rows.
T rows, K latents, V voxels.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from giblet_train.evaluation.baselines import ALPHAS, ridge_of
from giblet_train.evaluation.intervals import interval_of_sum
from giblet_train.evaluation.metrics import contributions_of, pearson
from giblet_train.portable.film_features import FilmFeatures
from giblet_train.portable.inference import Inference
from giblet_train.portable.measured import Measured
from giblet_train.portable.model_file import AVERAGE, HeadFigures, ModelFile
from giblet_train.portable.predict import FilmLatents
from giblet_train.portable.resample import resample
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.progress import ProgressCallback

Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]
TRAIN_SHARE, VALIDATION_SHARE = 0.6, 0.15
FEWEST_TRAIN, FEWEST_VALIDATION, FEWEST_TEST = 40, 10, 20
LABEL_PATTERN = r"sub-[A-Za-z0-9]+"


@dataclass(frozen=True)
class Parts:
    """Row ranges of one series, with gaps between them."""

    train: tuple[int, int]
    validation: tuple[int, int]
    test: tuple[int, int]

    @classmethod
    def of(cls, n_trs: int, gap_trs: int, tr_s: float) -> Parts:
        """Split n_trs rows. Raises DataError if they are too few."""
        usable = n_trs - 2 * gap_trs
        n_train, n_validation = math.floor(TRAIN_SHARE * usable), math.floor(VALIDATION_SHARE * usable)
        n_test = usable - n_train - n_validation
        if n_train < FEWEST_TRAIN or n_validation < FEWEST_VALIDATION or n_test < FEWEST_TEST:
            least = max(FEWEST_TRAIN / TRAIN_SHARE, FEWEST_VALIDATION / VALIDATION_SHARE)
            least = max(least, FEWEST_TEST / (1 - TRAIN_SHARE - VALIDATION_SHARE)) + 2 * gap_trs
            raise DataError(
                f"Film and scan share {n_trs * tr_s:.0f} s; a head needs at least {least * tr_s:.0f} s.",
                "Give a longer scan, or use the average subject.",
            )
        first = n_train + gap_trs
        second = first + n_validation + gap_trs
        return cls((0, n_train), (first, first + n_validation), (second, n_trs))

    def rows(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Return the rows of training, validation and test."""
        train, validation, test = (np.arange(*part) for part in (self.train, self.validation, self.test))
        return train, validation, test


@dataclass(frozen=True)
class NewSubject:
    """A head for a new person, and how well it predicts held-out rows, mean r over responsive voxels."""

    model: ModelFile
    """The model with the new head."""
    label: str
    """Label of the head."""
    head: HeadFigures
    """Held-out r of the new head, fitted without the held-out rows."""
    r_average: float
    """Held-out r of the average subject."""
    r_ridge: float
    """Held-out r of ridge regression on the film's features alone."""
    gain_low: float
    """Lower end of the 95 % interval of the gain over the average subject."""
    gain_high: float
    """Upper end of that interval."""
    seconds: float
    """Seconds of data that film and scan share."""


def label_of(name: str) -> str:
    """Return the label of a head for a person's name. Raises ConfigError if it cannot be part of a file name."""
    label = f"sub-{name.removeprefix('sub-')}"
    if not re.fullmatch(LABEL_PATTERN, label) or name == AVERAGE:
        raise ConfigError(f"{name!r} cannot label a subject.", "Use letters and digits, such as 07.")
    return label


def fit_new_subject(
    inference: Inference, features: FilmFeatures, measured: Measured, label: str, report_progress: ProgressCallback
) -> NewSubject:
    """Fit a head and return the model with it.

    Raises ConfigError if the model has no average subject or already has the label, DataError for too little data.
    """
    model = inference.file
    if AVERAGE not in model.header.subjects:
        raise ConfigError("The model has no average subject, which a new head starts from.", "Use another model.")
    if label in model.header.subjects:
        raise ConfigError(f"The model has a head {label} already.", "Choose another label.")
    from_s, to_s = model.header.tr_s, measured.tr_s
    report_progress("computing the latents of the film", 0.1)
    z_TK = resample(FilmLatents(inference, features).all(), from_s, to_s)
    n_trs = min(len(z_TK), len(measured.bold_TV))
    parts = Parts.of(n_trs, math.ceil(model.header.gap_s / to_s), to_s)
    train, validation, test = parts.rows()
    blocks = (parts.train, parts.validation, parts.test)
    bold_TV = np.zeros((n_trs, measured.bold_TV.shape[1]), np.float32)
    bold_TV[np.concatenate([train, validation, test])] = measured.parts(blocks, slice(0, len(train)))
    responsive_V = _responsive(model)
    average_TV = z_TK[:n_trs] @ model.head(AVERAGE)
    report_progress("fitting the head", 0.6)
    alpha = _best_alpha(z_TK, bold_TV, average_TV, train, validation, responsive_V)
    rows = np.concatenate([train, validation])
    own_TV = average_TV + z_TK[:n_trs] @ _ridge(z_TK, bold_TV - average_TV, rows, alpha)
    plain_TV = _plain_ridge(features, bold_TV, train, validation, test, to_s, responsive_V)

    def products(predicted_NV: Singles, rows: NDArray[np.intp], block: tuple[int, int]) -> Doubles:
        predicted_NV = measured.drift.apply(predicted_NV[:, responsive_V], [block])
        return contributions_of(predicted_NV, bold_TV[rows][:, responsive_V])

    own_T, average_T = products(own_TV[test], test, parts.test), products(average_TV[test], test, parts.test)
    low, high = interval_of_sum(own_T)
    gain_low, gain_high = interval_of_sum(own_T - average_T)
    figures = HeadFigures(
        r=float(own_T.sum()),
        low=low,
        high=high,
        r_training=float(products(own_TV[train], train, parts.train).sum()),
    )
    every = np.arange(n_trs)
    all_TV = Measured(measured.bold_TV[:n_trs], to_s, measured.drift).whole()
    head_KV = model.head(AVERAGE) + _ridge(z_TK, all_TV - average_TV, every, alpha)
    return NewSubject(
        model=_with_head(model, label, head_KV, figures),
        label=label,
        head=figures,
        r_average=float(average_T.sum()),
        r_ridge=float(products(plain_TV, test, parts.test).sum()),
        gain_low=gain_low,
        gain_high=gain_high,
        seconds=n_trs * to_s,
    )


def new_subject_lines(fitted: NewSubject) -> list[str]:
    """Format the result as text."""
    head = fitted.head
    return [
        f"{fitted.label}: head from {fitted.seconds / 60:.1f} min of data; r over responsive "
        f"{fitted.model.header.geometry.noun.many} of held-out rows",
        f"  own head         {head.r:.3f} [{head.low:.3f}, {head.high:.3f}]",
        f"  average subject  {fitted.r_average:.3f}; gain of the own head {head.r - fitted.r_average:+.3f} "
        f"[{fitted.gain_low:+.3f}, {fitted.gain_high:+.3f}]",
        f"  ridge            {fitted.r_ridge:.3f}",
    ]


def new_subject_facts(fitted: NewSubject) -> dict[str, Any]:
    """Return the figures of the result."""
    return {
        "subject": fitted.label,
        "seconds": fitted.seconds,
        "own_head": msgspec.to_builtins(fitted.head),
        "r_average": fitted.r_average,
        "r_ridge": fitted.r_ridge,
        "gain_over_average": {"low": fitted.gain_low, "high": fitted.gain_high},
    }


def _responsive(model: ModelFile) -> NDArray[np.bool_]:
    responsive_V = np.asarray(model.arrays["responsive_V"], bool)
    return responsive_V if responsive_V.any() else np.ones_like(responsive_V)


def _best_alpha(
    z_TK: Singles,
    bold_TV: Singles,
    average_TV: Singles,
    train: NDArray[np.intp],
    validation: NDArray[np.intp],
    responsive_V: NDArray[np.bool_],
) -> float:
    """Return the ridge that predicts responsive voxels of the validation rows best; infinity leaves the average."""
    measured_NV = bold_TV[validation][:, responsive_V]
    residual_TV = (bold_TV[: len(average_TV)] - average_TV)[:, responsive_V]
    average_NV = average_TV[validation][:, responsive_V]
    r = {math.inf: float(pearson(average_NV, measured_NV).mean())}
    for alpha in ALPHAS:
        head_KV = _ridge(z_TK, residual_TV, train, alpha)
        r[alpha] = float(pearson(average_NV + z_TK[validation] @ head_KV, measured_NV).mean())
    return max(r, key=lambda alpha: r[alpha])


def _ridge(z_TK: Singles, target_TV: Singles, rows: NDArray[np.intp], alpha: float) -> Singles:
    """Return the ridge regression (K, V) of targets on latents over some rows; alpha: relative to their mean square."""
    z_NK = z_TK[rows].astype(np.float64)
    z_NK = z_NK - z_NK.mean(axis=0)
    if math.isinf(alpha):
        return np.zeros((z_TK.shape[1], target_TV.shape[1]), np.float32)
    normal_KK = z_NK.T @ z_NK
    # Latents have one unit in common: alpha counts as many rows of prior data as it would for features of variance 1.
    normal_KK += alpha * float((z_NK**2).mean()) * np.eye(len(normal_KK))
    return np.asarray(np.linalg.solve(normal_KK, z_NK.T @ target_TV[rows]), np.float32)


def _plain_ridge(
    features: FilmFeatures,
    bold_TV: Singles,
    train: NDArray[np.intp],
    validation: NDArray[np.intp],
    test: NDArray[np.intp],
    tr_s: float,
    responsive_V: NDArray[np.bool_],
) -> Singles:
    """Return the prediction (N, V) of test rows by ridge on delayed features, without the model."""
    [inputs] = features.parts(features.n_trs)
    same_clock = {m: resample(x_TF, features.model.header.tr_s, tr_s)[: len(bold_TV)] for m, x_TF in inputs.items()}
    return ridge_of(same_clock, train, validation, (len(bold_TV),)).predict(bold_TV, test, responsive_V)


def _with_head(model: ModelFile, label: str, head_KV: Singles, figures: HeadFigures) -> ModelFile:
    header, card = model.header, model.header.card
    sentence = f"{label} was added later, from data that the run did not have."
    card = msgspec.structs.replace(
        card, heads={**card.heads, label: figures}, limitations=(*card.limitations, sentence)
    )
    header = msgspec.structs.replace(header, subjects=(*header.subjects, label), card=card)
    return ModelFile(header, {**model.arrays, f"heads.{label}": head_KV})
