"""Check each subject's files, alone and against the others: readable, same grid, units, spikes, drift.

T TRs, B TRs of a chunk, V voxels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.checks.findings import Finding
from giblet_train.data.geometry import check_same_kind
from giblet_train.data.readers.headers import read_headers
from giblet_train.data.readers.maps import read_mask
from giblet_train.data.readers.volumes import Volumes, check_same_geometry, check_same_tr, nonzero_voxels, stream
from giblet_train.data.statistics.brain_signal import unsteady_trs
from giblet_train.schema.config import DataConfig
from giblet_train.schema.errors import DataError
from giblet_train.schema.progress import ProgressCallback

SPIKE_MADS = 12.0
DRIFT_SHARE = 0.05
CONSTANT_SHARE = 0.05
UNIT_RATIO = 3.0
HEADER_ACTIONS = {
    "orientation_unknown": "Write a qform or sform, if you know them; left and right of maps may be exchanged.",
    "orientation_conflict": "Look at the pictures of `data check --html`; write one affine for both if they are wrong.",
    "grid_size": "Compare its shape and voxel size with those of your scanner, and correct the file.",
}
"""Finding of a header -> remedy, where something has to be done."""


@dataclass(frozen=True)
class FileFacts:
    """Statistics of one subject's values over all TRs."""

    mean: float
    """Mean over voxels and TRs."""
    sd: float
    """Median over voxels of the standard deviation over time."""
    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    constant_share: float
    """Share of voxels that never change."""
    bad_voxels: int
    """Number of voxels with values that are not finite."""
    bad_tr: int
    """First TR with such a value, -1 if there is none."""
    global_T: NDArray[np.float64]
    """Mean over voxels at each TR."""
    run_lengths_trs: tuple[int, ...]
    """Volumes of each run; the mean level may differ between runs."""

    @property
    def runs(self) -> list[NDArray[np.float64]]:
        """Return the mean over voxels at each TR of each run."""
        return np.split(self.global_T, np.cumsum(self.run_lengths_trs)[:-1])


def check_files(
    bold: Mapping[str, Sequence[Path]], data: DataConfig, mask: Path | None, progress: ProgressCallback
) -> tuple[dict[str, Volumes], dict[str, FileFacts], list[Finding]]:
    """Return headers and facts of the subjects with usable files, and what is wrong with theirs and others' files."""
    findings: list[Finding] = []
    headers: dict[str, Volumes] = {}
    for subject, paths in bold.items():
        try:
            headers[subject] = read_headers(paths, data.tr, data.trust_tr)
        except DataError as error:
            findings.append(_from_error(getattr(error, "finding", "unreadable_file"), subject, error))
    headers = _with_the_common_tr(_on_the_common_grid(headers, findings), findings)
    data_mask = _read_data_mask(mask, headers, findings)
    facts: dict[str, FileFacts] = {}
    for n, (subject, volumes) in enumerate(headers.items()):
        progress(f"reading {subject}", n / len(headers))
        findings.extend(_header_notes(subject, volumes))
        try:
            facts[subject] = file_facts(volumes, data_mask)
        except DataError as error:
            findings.append(_from_error("truncated_file", subject, error))
            continue
        findings.extend(_about_values(subject, facts[subject]))
        findings.extend(_not_steady(subject, facts[subject]))
    findings.extend(_about_units(facts))
    usable = {s: v for s, v in headers.items() if s in facts and not facts[s].bad_voxels}
    return usable, facts, findings


def _read_data_mask(
    mask: Path | None, headers: Mapping[str, Volumes], findings: list[Finding]
) -> NDArray[np.bool_] | None:
    """Read the mask on the grid that the files share; None, with a finding, if it cannot be used."""
    if mask is None or not headers:
        return None
    try:
        return read_mask(mask, next(iter(headers.values())).geometry)
    except DataError as error:
        findings.append(_from_error("unusable_mask", "", error))
        return None


def file_facts(volumes: Volumes, mask_XYZ: NDArray[np.bool_] | None = None) -> FileFacts:
    """Stream one file once, within a mask if there is one. Raises DataError if the file is damaged."""
    mask = nonzero_voxels(volumes)
    if mask_XYZ is not None and (mask & mask_XYZ).any():
        mask &= mask_XYZ
    n_voxels = int(mask.sum())
    global_T = np.zeros(volumes.n_trs)
    first_V, sum_V, square_V = np.zeros((3, n_voxels))
    bad_V = np.zeros(n_voxels, bool)
    bad_tr, low, high = -1, np.inf, -np.inf
    for start, bold_BV in stream(volumes, mask):
        bad_BV = ~np.isfinite(bold_BV)
        if bad_BV.any():
            bad_V |= bad_BV.any(axis=0)
            bad_tr = start + int(bad_BV.any(axis=1).argmax()) if bad_tr < 0 else bad_tr
            bold_BV[bad_BV] = 0.0
        if start == 0:
            first_V = bold_BV[0].astype(np.float64)
        low, high = min(low, float(bold_BV.min())), max(high, float(bold_BV.max()))
        global_T[start : start + len(bold_BV)] = bold_BV.mean(axis=1, dtype=np.float64)
        centred_BV = bold_BV - first_V
        sum_V += centred_BV.sum(axis=0)
        square_V += (centred_BV**2).sum(axis=0)
    mean_V = sum_V / volumes.n_trs
    sd_V = np.sqrt(np.maximum(square_V / volumes.n_trs - mean_V**2, 0.0))
    return FileFacts(
        mean=float((mean_V + first_V).mean()),
        sd=float(np.median(sd_V)),
        low=low,
        high=high,
        constant_share=float((sd_V == 0).mean()),
        bad_voxels=int(bad_V.sum()),
        bad_tr=bad_tr,
        global_T=global_T,
        run_lengths_trs=volumes.run_lengths_trs,
    )


def _on_the_common_grid(headers: dict[str, Volumes], findings: list[Finding]) -> dict[str, Volumes]:
    """Return the headers on the grid that most subjects have."""
    if not headers:
        return headers
    groups: list[list[Volumes]] = []
    for volumes in headers.values():
        same = next((g for g in groups if not check_same_kind(g[0].geometry, volumes.geometry)), None)
        groups.append([volumes]) if same is None else same.append(volumes)
    model = max(groups, key=len)[0]
    matching = {}
    for subject, volumes in headers.items():
        try:
            check_same_geometry(model, volumes)
            matching[subject] = volumes
        except DataError as error:
            findings.append(_from_error("other_grid", subject, error))
    return matching


def _with_the_common_tr(headers: dict[str, Volumes], findings: list[Finding]) -> dict[str, Volumes]:
    """Return the headers with the TR that most subjects have; the others become findings."""
    if not headers:
        return headers
    n_subjects = Counter(volumes.tr_s for volumes in headers.values())
    model = max(headers.values(), key=lambda volumes: n_subjects[volumes.tr_s])
    matching = {}
    for subject, volumes in headers.items():
        try:
            check_same_tr(model, volumes)
            matching[subject] = volumes
        except DataError as error:
            findings.append(_from_error("tr_conflict", subject, error))
    return matching


def _from_error(name: str, subject: str, error: DataError) -> Finding:
    return Finding(finding=name, severity="error", subject=subject, sentence=error.message, action=error.remedy)


def _header_notes(subject: str, volumes: Volumes) -> list[Finding]:
    return [
        Finding(
            finding=note.finding,
            severity="warning",
            subject=subject,
            sentence=note.sentence,
            evidence={"tr_s": volumes.tr_s},
            action=HEADER_ACTIONS.get(
                note.finding, "Nothing has to be done here; other tools may read this header wrongly."
            ),
        )
        for note in volumes.notes
    ]


def _about_values(subject: str, facts: FileFacts) -> list[Finding]:
    findings = []
    if facts.bad_voxels:
        findings.append(
            Finding(
                finding="not_numbers",
                severity="error",
                subject=subject,
                sentence=f"{facts.bad_voxels} voxels have values that are not numbers, first in TR {facts.bad_tr}.",
                evidence={"voxels": facts.bad_voxels, "first_tr": facts.bad_tr},
                action="Interpolate them, mask the voxels out, or leave the subject out by data.subjects.",
            )
        )
    if facts.constant_share > CONSTANT_SHARE:
        findings.append(
            Finding(
                finding="constant_voxels",
                severity="warning",
                subject=subject,
                sentence=f"{facts.constant_share:.0%} of the voxels that are not zero never change.",
                evidence={"share": facts.constant_share},
                action="They are left out by the mask; a fill value outside the brain is the usual cause.",
            )
        )
    return [*findings, *_spikes(subject, facts), *_drift(subject, facts)]


def _not_steady(subject: str, facts: FileFacts) -> list[Finding]:
    n_trs = max(unsteady_trs(run_T) for run_T in facts.runs)
    if not n_trs:
        return []
    where = " of a run" if len(facts.runs) > 1 else ""
    return [
        Finding(
            finding="not_steady",
            severity="warning",
            subject=subject,
            sentence=f"The first {n_trs} volumes{where} are not in the steady state: their mean signal is far from the "
            "rest.",
            evidence={"volumes": n_trs},
            action=f"Set data.drop_first_trs: {n_trs}; the film's time stays that of the remaining volumes.",
        )
    ]


def _spikes(subject: str, facts: FileFacts) -> list[Finding]:
    steps_by_run = [np.abs(np.diff(run_T)) for run_T in facts.runs]
    limit = float(np.median(np.concatenate(steps_by_run))) * SPIKE_MADS if len(facts.global_T) > 1 else 0.0
    starts = np.cumsum((0, *facts.run_lengths_trs[:-1]))
    spikes = np.concatenate(
        [
            start + trs[trs > unsteady_trs(run_T)]
            for start, steps, run_T in zip(starts, steps_by_run, facts.runs, strict=True)
            for trs in [np.flatnonzero(steps > limit) + 1]
        ]
    )
    if not spikes.size or limit <= 0:
        return []
    return [
        Finding(
            finding="spikes",
            severity="warning",
            subject=subject,
            sentence=f"The mean signal jumps at {len(spikes)} TRs, first at TR {spikes[0]}.",
            evidence={"trs": spikes[:20].tolist(), "limit": float(limit)},
            action="Look for motion or for a scan border that data.scan_lengths_trs does not name.",
        )
    ]


def _drift(subject: str, facts: FileFacts) -> list[Finding]:
    changes = [
        float(np.polyfit(np.arange(len(run_T)), run_T, 1)[0] * len(run_T)) for run_T in facts.runs if len(run_T) > 1
    ]
    change = max(changes, key=abs, default=0.0)
    if abs(change) <= max(DRIFT_SHARE * abs(facts.mean), facts.sd):
        return []
    return [
        Finding(
            finding="drift",
            severity="warning",
            subject=subject,
            sentence=f"The mean signal drifts by {change:.3g} over the scan, about its mean of {facts.mean:.3g}.",
            evidence={"change": change, "mean": facts.mean, "voxel_sd": facts.sd},
            action="Detrend in preprocessing; the z-score does not remove a drift.",
        )
    ]


def _about_units(facts: Mapping[str, FileFacts]) -> list[Finding]:
    sds = {s: f.sd for s, f in facts.items() if f.sd > 0}
    if len(sds) < 2 or max(sds.values()) < UNIT_RATIO * min(sds.values()):
        return []
    large, small = max(sds, key=lambda s: sds[s]), min(sds, key=lambda s: sds[s])
    return [
        Finding(
            finding="units_differ",
            severity="info",
            sentence=(
                f"The scale of the fMRI differs {sds[large] / sds[small]:.1f} times between subjects: a median voxel's "
                f"sd is {sds[large]:.3g} in {large} and {sds[small]:.3g} in {small}."
            ),
            evidence={"largest_sd": sds[large], "smallest_sd": sds[small]},
            action="The z-score of data.normalize_fmri: true removes it; never train without.",
        )
    ]
