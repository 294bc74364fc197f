"""Check the values of a study: features that are no measurements, scales, annotations that do not fit the film.

T TRs, F features, N frames in a row, P pixels, V voxels of the store, X Y Z grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.checks.annotation_timing import (
    SHIFTED_SDS,
    WINDOW_S,
    onset_fit,
    picture_change,
    shifted_annotations,
    sound_change,
)
from giblet_train.data.checks.findings import Finding, Severity
from giblet_train.data.geometry import VolumeGrid
from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.statistics.brain_signal import DARK_LEVEL, DARK_SHARE, dark_voxels
from giblet_train.data.stimulus.audio import read_log_mel
from giblet_train.data.stimulus.code_frequencies import looks_categorical
from giblet_train.data.stimulus.features import StimulusSource
from giblet_train.data.study import Study
from giblet_train.schema.config import Config
from giblet_train.schema.records import ModalityFacts

BYTE_RANGE = 16.0
MIN_COVERAGE = 0.5
OVERLAP_SHARE = 0.2
STEPS, MEL_BANDS = 3, 24
"""Moments in a TR of a study without pictures, and bands of its sound, to see where it changes."""
IN_TRS_SHARE = 0.05
LOUD_RATIO = 10.0
OUTLIER_RATIO = 1000.0


def check_features(study: Study) -> list[Finding]:
    """Find values that no feature should have: bytes not scaled, and codes that are names, not amounts."""
    findings = []
    for modality, values_TF in study.features.items():
        values = np.asarray(values_TF, np.float64)
        if looks_categorical(values):
            findings.append(
                Finding(
                    finding="codes_as_numbers",
                    severity="error",
                    sentence=f"{modality} holds whole numbers from {values.min():g} to {values.max():g} that jump from "
                    "one TR to the next: they look like codes, whose distances mean nothing.",
                    evidence={"low": float(values.min()), "high": float(values.max())},
                    action=f"If they are codes, say so with data.features.{modality}.codes, the size of a book: they "
                    "are then learnt by a cross-entropy. Otherwise give the spectrogram or an embedding.",
                )
            )
        elif modality == "video" and BYTE_RANGE < values.max() <= 255 and values.min() >= 0:
            findings.append(
                Finding(
                    finding="video_in_bytes",
                    severity="error",
                    sentence=f"video runs from {values.min():g} to {values.max():g}: brightness in bytes, not 0 to 1.",
                    evidence={"low": float(values.min()), "high": float(values.max())},
                    action="Divide the pictures by 255 before features are made.",
                )
            )
        findings.extend(_outliers(modality, values))
    return findings


def check_mask(study: Study, mask_XYZ: NDArray[np.bool_]) -> list[Finding]:
    """Find voxels outside the brain, which unmasked scans have, among those that a split keeps, mask_XYZ."""
    if not isinstance(study.geometry, VolumeGrid):
        return []
    used_V = mask_XYZ[study.mask]
    dark_SV = np.stack([dark_voxels(study.reference[subject]) for subject in study.subjects])
    dark = float((dark_SV.mean(axis=0) > 0.5)[used_V].mean())
    if dark < DARK_SHARE:
        return []
    return [
        Finding(
            finding="outside_brain",
            severity="warning",
            sentence=f"{dark:.0%} of the {int(used_V.sum())} voxels have less than {DARK_LEVEL:.0%} of the signal of "
            "bright voxels: they are probably outside the brain.",
            evidence={"share": dark, "voxels": int(used_V.sum())},
            action="Set data.mask to a brain mask on the same grid, such as that of nilearn.masking.compute_epi_mask; "
            "figures over all voxels are otherwise mostly those of noise.",
        )
    ]


def _outliers(modality: str, values_TF: NDArray[np.float64]) -> list[Finding]:
    """Find a value beyond OUTLIER_RATIO times the range of nearly all values of the modality."""
    centred_TF = np.abs(values_TF - np.median(values_TF, axis=0))
    usual = float(np.percentile(centred_TF, 99))
    tr, worst = (int(n) for n in np.unravel_index(centred_TF.argmax(), centred_TF.shape))
    ratio = float(centred_TF[tr, worst]) / usual if usual else 0.0
    if ratio < OUTLIER_RATIO:
        return []
    return [
        Finding(
            finding="feature_outliers",
            severity="warning",
            sentence=f"Feature {worst} of {modality} is {values_TF[tr, worst]:.4g} at TR {tr}, "
            f"{ratio:.3g} times the usual range.",
            evidence={"feature": worst, "tr": tr, "ratio": ratio},
            action="Look for a missing value written as a number, such as 1e9 or -999, and replace it.",
        )
    ]


def check_scales(facts: dict[str, ModalityFacts], config: Config) -> list[Finding]:
    """Find components whose first loss will not be 1, and fMRI that was left in the scanner's units."""
    findings = []
    if not config.data.normalize_fmri:
        fmri = facts["fmri"]
        units = f"{fmri.raw_min:.4g} to {fmri.raw_max:.4g}, sd {fmri.raw_sd:.4g}"
        findings.append(
            Finding(
                finding="fmri_not_normalised",
                severity="error",
                sentence=f"The fMRI stays in scanner units ({units}).",
                evidence={"raw_mean": fmri.raw_mean or 0.0, "raw_sd": fmri.raw_sd or 0.0},
                action="Set data.normalize_fmri: true.",
            )
        )
    for component, fact in facts.items():
        first = fact.expected_first_loss
        if first is not None and (first > LOUD_RATIO or first < 1 / LOUD_RATIO):
            findings.append(
                Finding(
                    finding="first_loss_not_one",
                    severity="error",
                    sentence=f"The first {component} loss will be {first:.4g}, not 1: its targets are not centred.",
                    evidence={"expected_first_loss": first, "mean": fact.mean or 0.0, "sd": fact.sd or 0.0},
                    action="Normalise the component on the training TRs.",
                )
            )
    return findings


def check_annotations(study: Study, stimuli: Mapping[str, StimulusSource]) -> list[Finding]:
    """Find scans without annotations, overlapping annotations, and annotations that do not begin at picture changes."""
    findings = []
    annotated_T = np.zeros(study.n_trs, bool)
    for span in study.spans:
        annotated_T[span.first : span.stop] = bool(stimuli[span.stimulus].segments)
    for scan, (name, start, length) in enumerate(_scans(study), 1):
        rows = slice(start, start + length)
        if not annotated_T[rows].any():
            continue
        coverage = float(np.mean([label != "" for label in np.array(study.text_labels[rows])[annotated_T[rows]]]))
        if coverage < MIN_COVERAGE:
            findings.append(
                Finding(
                    finding="annotations_missing",
                    severity="warning",
                    sentence=f"Only {coverage:.0%} of {name} is annotated.",
                    evidence={"scan": scan, "share": coverage},
                    action="Check the seconds of that scan: they may restart where data.scan_lengths_trs does not.",
                )
            )
    overlaps = (finding for stimulus in stimuli.values() for finding in _overlaps(stimulus.segments))
    off_cuts = _annotations_off_cuts(study, stimuli)
    if not any(finding.finding == "annotations_in_trs" for finding in off_cuts):
        findings.extend(_ends_in_trs(study, stimuli))
    return [*findings, *overlaps, *off_cuts]


def _ends_in_trs(study: Study, stimuli: Mapping[str, StimulusSource]) -> list[Finding]:
    """Report annotations that would end with their stimulus if their times were TRs instead of seconds."""
    findings = []
    for name in dict.fromkeys(span.stimulus for span in study.spans):
        last_s = max((segment.end_s for segment in stimuli[name].segments), default=0.0)
        seconds = stimuli[name].seconds
        is_near = seconds is not None and abs(last_s * study.tr_s - seconds) <= IN_TRS_SHARE * seconds
        if seconds is None or not is_near or abs(study.tr_s - 1.0) < 2 * IN_TRS_SHARE:
            continue
        ends = f"The annotations of {name} end at {last_s:.0f}, the stimulus at {seconds:.0f} s; they would end with it"
        findings.append(_in_trs(ends, study.tr_s, "warning"))
    return findings


def _in_trs(fact: str, tr_s: float, severity: Severity) -> Finding:
    return Finding(
        finding="annotations_in_trs",
        severity=severity,
        sentence=f"{fact} if their times are TRs of {tr_s:g} s instead of seconds.",
        action=f"If so, multiply them by {tr_s:g}.",
    )


def _scans(study: Study) -> list[tuple[str, int, int]]:
    """Return name, first row and rows of each scan."""
    starts = np.cumsum([0, *study.scan_lengths_trs]).tolist()
    names = study.block_names or tuple(f"scan {n}" for n in range(1, len(study.scan_lengths_trs) + 1))
    return list(zip(names, starts, study.scan_lengths_trs, strict=False))


def _overlaps(segments: Sequence[Segment]) -> list[Finding]:
    sorted_segments = sorted(segments, key=lambda s: (s.start_s, s.end_s))
    total_s = sum(s.end_s - s.start_s for s in sorted_segments)
    over_s, reached_s = 0.0, -np.inf
    for segment in sorted_segments:
        over_s += max(0.0, min(segment.end_s, reached_s) - segment.start_s)
        reached_s = max(reached_s, segment.end_s)
    if not total_s or over_s / total_s < OVERLAP_SHARE:
        return []
    return [
        Finding(
            finding="annotations_overlap",
            severity="error",
            sentence=f"{over_s / total_s:.0%} of the annotated time is annotated more than once.",
            evidence={"share": float(over_s / total_s)},
            action="The annotations of two scans overlap: their seconds restart; state data.scan_lengths_trs.",
        )
    ]


def _annotations_off_cuts(study: Study, stimuli: Mapping[str, StimulusSource]) -> list[Finding]:
    """Find annotations that do not begin where shots or sounds do: there the film changes more than a little later."""
    per_tr = study.frames_TKHWC.shape[1] if study.has_pictures else STEPS
    step_s = study.tr_s / per_tr
    picture_N = picture_change(study.frames_TKHWC) if study.has_pictures else np.zeros(study.n_trs * per_tr)
    onsets_s = _annotation_rows(study, stimuli) * study.tr_s
    sound_N: NDArray[np.float64] | None = None
    findings = []
    for scan, (name, first, length) in enumerate(_scans(study), 1):
        moments = slice(first * per_tr, (first + length) * per_tr)
        own_s = onsets_s - first * study.tr_s
        fit, in_trs = onset_fit(own_s, picture_N[None, moments], step_s), None
        if fit is None or not fit.fits:
            sound_N = _sound_change(study, stimuli, per_tr) if sound_N is None else sound_N
            changes_SN = np.stack([picture_N[moments], sound_N[moments]])
            fit = onset_fit(own_s, changes_SN, step_s)
            is_whole = any(span.first == first and span.start_s == 0.0 for span in study.spans)
            in_trs = onset_fit(own_s * study.tr_s, changes_SN, step_s) if is_whole else None
        if fit is None or fit.fits:
            continue
        if in_trs is not None and in_trs.height > SHIFTED_SDS:
            findings.append(
                _in_trs(f"In {name}, picture and sound change where annotations begin", study.tr_s, "error")
            )
        elif fit.is_shifted:
            findings.append(shifted_annotations(f"in {name}", fit, "error"))
        elif study.has_pictures:
            findings.append(
                Finding(
                    finding="annotations_misplaced",
                    severity="warning",
                    sentence=f"In {name}, neither picture nor sound changes where annotations begin, and at no time "
                    f"within {WINDOW_S:g} s.",
                    evidence={"scan": scan, "height_sds": fit.height, "best_shift_s": fit.best_s},
                    action="The annotations may belong to another scan or film. Words and subtitles may be right: they "
                    "need not begin with a shot.",
                )
            )
    return findings


def _sound_change(study: Study, stimuli: Mapping[str, StimulusSource], per_tr: int) -> NDArray[np.float64]:
    """Return (N,): how much the sound of all stimuli changes, `per_tr` moments in a TR; 0 without sound."""
    change_N = np.zeros(study.n_trs * per_tr)
    for span in study.spans:
        path = stimuli[span.stimulus].sound_file
        if path is not None:
            mel_TAM = read_log_mel(path, study.tr_s, span.n_trs, MEL_BANDS, span.start_s)
            change_N[span.first * per_tr : span.stop * per_tr] = sound_change(mel_TAM, per_tr)
    return change_N


def _annotation_rows(study: Study, stimuli: Mapping[str, StimulusSource]) -> NDArray[np.float64]:
    """Return the fractional rows at which annotations begin."""
    rows: list[float] = []
    for span in study.spans:
        starts = [(s.start_s - span.start_s) / study.tr_s for s in stimuli[span.stimulus].segments]
        rows += [span.first + row for row in starts if 0 <= row < span.n_trs]
    return np.array(rows)
