"""Check the values of a study: features that are no measurements, scales, annotations that do not fit the film.

T TRs, F features, N frames in a row, P pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.checks.findings import Finding
from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.stimulus.code_frequencies import looks_categorical
from giblet_train.data.stimulus.features import StimulusSource
from giblet_train.data.study import Study
from giblet_train.schema.config import Config
from giblet_train.schema.records import ModalityFacts

BYTE_RANGE = 16.0
MIN_COVERAGE = 0.5
OVERLAP_SHARE = 0.2
CUT_SDS = 3.0
CUT_WINDOW_S = 30.0
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
        covered = float(np.mean([label != "" for label in np.array(study.text_labels[rows])[annotated_T[rows]]]))
        if covered < MIN_COVERAGE:
            findings.append(
                Finding(
                    finding="annotations_missing",
                    severity="warning",
                    sentence=f"Only {covered:.0%} of {name} is annotated.",
                    evidence={"scan": scan, "share": covered},
                    action="Check the seconds of that scan: they may restart where data.scan_lengths_trs does not.",
                )
            )
    overlaps = (finding for stimulus in stimuli.values() for finding in _overlaps(stimulus.segments))
    return [*findings, *overlaps, *_annotations_off_cuts(study, stimuli)]


def _scans(study: Study) -> list[tuple[str, int, int]]:
    """Return name, first row and rows of each scan."""
    starts = np.cumsum([0, *study.scan_lengths_trs]).tolist()
    names = study.block_names or tuple(f"scan {n}" for n in range(1, len(study.scan_lengths_trs) + 1))
    return list(zip(names, starts, study.scan_lengths_trs, strict=False))


def _overlaps(segments: Sequence[Segment]) -> list[Finding]:
    ordered = sorted(segments, key=lambda s: (s.start_s, s.end_s))
    total_s = sum(s.end_s - s.start_s for s in ordered)
    over_s, reached_s = 0.0, -np.inf
    for segment in ordered:
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
    """Find annotations that do not begin at cuts, where the picture changes more than a little earlier or later."""
    if not study.has_pictures:
        return []
    per_tr = study.frames_TKHWC.shape[1]
    step_s = study.tr_s / per_tr
    change_N = _picture_change(study.frames_TKHWC)
    findings = []
    for scan, (name, first, length) in enumerate(_scans(study), 1):
        part_N = change_N[first * per_tr : (first + length) * per_tr]
        times = (_annotation_rows(study, stimuli) - first) * per_tr
        places = np.unique(np.rint(times[(times >= 1) & (times < length * per_tr - 1)]).astype(int))
        if len(places) < 10:
            continue
        reach = round(CUT_WINDOW_S / step_s)
        scores = np.array([part_N[(places + shift) % len(part_N)].mean() for shift in range(-reach, reach + 1)])
        chance = np.r_[scores[: reach - per_tr], scores[reach + per_tr + 1 :]]
        height = float((scores[reach - 1 : reach + 2].max() - chance.mean()) / max(chance.std(), 1e-9))
        best_s = float((scores.argmax() - reach) * step_s)
        if height < CUT_SDS and abs(best_s) > step_s:
            findings.append(
                Finding(
                    finding="annotations_misplaced",
                    severity="warning",
                    sentence=f"In {name} the picture does not change where annotations begin; "
                    f"{best_s:+.1f} s later fits best.",
                    evidence={"scan": scan, "height_sds": height, "best_shift_s": best_s},
                    action="The annotations may belong to another scan, or their seconds to another start of the film.",
                )
            )
    return findings


def _annotation_rows(study: Study, stimuli: Mapping[str, StimulusSource]) -> NDArray[np.float64]:
    """Return the fractional rows at which annotations begin."""
    rows: list[float] = []
    for span in study.spans:
        starts = [(s.start_s - span.start_s) / study.tr_s for s in stimuli[span.stimulus].segments]
        rows += [span.first + row for row in starts if 0 <= row < span.n_trs]
    return np.array(rows)


def _picture_change(frames_TKHWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (N,): mean absolute change of brightness since the previous frame, 0 for the first."""
    grey_NP = frames_TKHWC.mean(axis=-1, dtype=np.float32).reshape(frames_TKHWC.shape[0] * frames_TKHWC.shape[1], -1)
    return np.asarray(np.r_[0.0, np.abs(np.diff(grey_NP, axis=0)).mean(axis=1, dtype=np.float64)])
