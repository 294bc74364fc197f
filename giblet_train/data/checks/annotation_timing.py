"""Find annotations that begin earlier or later than pictures and sound change. N moments of a film, S signals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.checks.findings import Finding, Severity

Floats = NDArray[np.floating[Any]]

FITTING_SDS = 3.0
"""Height from which annotations begin at changes of the film."""
SHIFTED_SDS = 7.0
"""Height that another time must have for annotations to belong there. One in a hundred unrelated lists of shots has
5.4, none of 1,800 has 7; right annotations of shots have 11 to 16 at their own time."""
BETTER = 2.0
"""Times the height at their own time that it must have."""
FEWEST = 10
"""Annotations, and steps of a TR, that are needed."""
WINDOW_S = 60.0


@dataclass(frozen=True)
class OnsetFit:
    """Agreement of the onsets of annotations with changes of a film."""

    height: float
    """Standard deviations by which the film changes more where annotations begin than at other times."""
    best_s: float
    """Seconds by which they would have to begin later to fit best."""
    best_height: float
    """Height there."""

    @property
    def fits(self) -> bool:
        """Return True if annotations begin where the film changes, within one step."""
        return self.height >= FITTING_SDS

    @property
    def is_shifted(self) -> bool:
        """Return True if annotations certainly belong to another time of the film."""
        return self.best_s != 0.0 and self.best_height > max(SHIFTED_SDS, BETTER * self.height)


def onset_fit(onsets_s: Floats, changes_SN: Floats, step_s: float) -> OnsetFit | None:
    """Compare the changes of a film at the onsets of annotations with those at other times.

    Returns None with fewer than FEWEST onsets, or for a film that is too short.

    Args:
        onsets_s: Seconds from the first of the N moments on.
        changes_SN: How much each signal changes at a moment; signals that never change have no weight.
        step_s: Seconds between two moments.
    """
    n_moments = changes_SN.shape[1]
    places = np.unique(np.rint(onsets_s / step_s).astype(int))
    places = places[(places >= 1) & (places < n_moments - 1)]
    reach = min(round(WINDOW_S / step_s), n_moments // 3)
    near = max(1, round(1.0 / step_s))
    if len(places) < FEWEST or reach < 3 * near:
        return None
    shifts = np.arange(-reach, reach + 1)
    fits = [_heights(changes_N, places, shifts, near) for changes_N in changes_SN if changes_N.std() > 0]
    if not fits:
        return None
    score_L = np.sum(fits, axis=0) / np.sqrt(len(fits))
    best = int(score_L.argmax())
    at_zero = float(score_L[reach - 1 : reach + 2].max())
    return OnsetFit(at_zero, float(shifts[best] * step_s) if abs(shifts[best]) > 1 else 0.0, float(score_L[best]))


def shifted_annotations(where: str, fit: OnsetFit, severity: Severity) -> Finding:
    """Report annotations that belong to another time; `where` names their stimulus or scan."""
    early_late = "late" if fit.best_s < 0 else "early"
    return Finding(
        finding="annotations_shifted",
        severity=severity,
        sentence=f"The annotations {where} begin {abs(fit.best_s):g} s too {early_late}: picture and sound change "
        f"where they begin only if they are moved by {fit.best_s:+g} s ({fit.best_height:.1f} standard deviations "
        f"above other times; as they are, {fit.height:.1f}).",
        evidence={"shift_s": fit.best_s, "sds": fit.best_height, "height_sds": fit.height},
        action=f"Add {fit.best_s:+g} s to their seconds, which count from the start of the film.",
    )


def _heights(changes_N: Floats, places: NDArray[np.int_], shifts: NDArray[np.int_], near: int) -> Floats:
    """Return (L,): mean change at the onsets moved by each shift, in sd above the shifts that are not near the best."""
    score_L = np.array([changes_N[(places + shift) % len(changes_N)].mean() for shift in shifts])
    others = score_L[np.abs(shifts - shifts[score_L.argmax()]) > near]
    return np.asarray((score_L - others.mean()) / max(float(others.std()), 1e-9))


def picture_change(frames_TKHWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (N,): mean absolute change of brightness since the previous frame, 0 for the first."""
    grey_NP = frames_TKHWC.mean(axis=-1, dtype=np.float32).reshape(frames_TKHWC.shape[0] * frames_TKHWC.shape[1], -1)
    return np.asarray(np.r_[0.0, np.abs(np.diff(grey_NP, axis=0)).mean(axis=1, dtype=np.float64)])


def sound_change(mel_TAM: NDArray[np.float32], per_tr: int) -> NDArray[np.float64]:
    """Return (N,): largest mean increase of the spectrum, in decibels, within each of `per_tr` parts of a TR."""
    mel_IM = mel_TAM.reshape(-1, mel_TAM.shape[-1])
    rise_I = np.r_[0.0, np.maximum(np.diff(mel_IM, axis=0), 0.0).mean(axis=1)]
    parts = np.array_split(np.arange(mel_TAM.shape[1]), per_tr)
    rise_TA = rise_I.reshape(mel_TAM.shape[:2])
    return np.stack([rise_TA[:, part].max(axis=1) if len(part) else rise_TA.max(axis=1) for part in parts], 1).ravel()
