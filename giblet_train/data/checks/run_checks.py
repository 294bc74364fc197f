"""`data check`: find every data mistake that shows before training, each with a remedy.

All files are read, none is changed. A damaged file is reported and the checks continue with the intact ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from giblet_train import __version__
from giblet_train.data.checks.clock import check_clock
from giblet_train.data.checks.files import FileFacts, check_files
from giblet_train.data.checks.findings import Finding, by_severity
from giblet_train.data.checks.study import check_annotations, check_features, check_mask, check_scales
from giblet_train.data.manifest import Manifest, read_manifest
from giblet_train.data.preprocessing.split_data import prepare_split
from giblet_train.data.preprocessing.splits import make_split
from giblet_train.data.readers.study_files import Sources, find_sources
from giblet_train.data.readers.volumes import Volumes
from giblet_train.data.statistics.lag import LagRow, lag_table
from giblet_train.data.statistics.run_lags import run_lag_table
from giblet_train.data.store.layout import annotated_stimuli
from giblet_train.data.store.prepare import DataRequest
from giblet_train.data.store.store import build_store, open_store, study_folder
from giblet_train.data.study import Study
from giblet_train.schema.config import Config, content_hash
from giblet_train.schema.errors import DataError
from giblet_train.schema.progress import ProgressCallback
from giblet_train.schema.records import ModalityFacts


@dataclass(frozen=True)
class DataReport:
    """Result of all checks."""

    findings: list[Finding]
    files: dict[str, FileFacts]
    """Statistics of each readable subject."""
    components: dict[str, ModalityFacts]
    """Scales of each component; empty if the study could not be prepared."""
    lags: tuple[LagRow, ...]
    """Rows of the lag table; empty if the study could not be prepared."""
    study: Study | None = None
    """The prepared study, or None."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What was checked, when and by which version."""

    @property
    def failed(self) -> bool:
        """Return True if any finding is an error."""
        return any(f.severity == "error" for f in self.findings)


def check_study(request: DataRequest, progress: ProgressCallback) -> DataReport:
    """Look at the files, then at the study they make. Raises DataError or ConfigError when a file is not there."""
    folder, config = study_folder(request.config, request.data_dir, request.workdir, progress)
    sources = find_sources(config, folder)
    volumes, files, findings = check_files(sources.bold, config.data, sources.mask, progress)
    usable = list(volumes)
    if not sources.runs:
        usable, lengths = _of_common_length({s: v.n_trs for s, v in volumes.items()}, config)
        findings.extend(lengths)
    components: dict[str, ModalityFacts] = {}
    lags: tuple[LagRow, ...] = ()
    study: Study | None = None
    if usable:
        try:
            config = _with_subjects(config, usable)
            path = build_store(config, folder, request.workdir, progress)
            study = open_store(path)
            study_findings, components, lags = _check_study(
                study, read_manifest(path), config, sources, volumes, {f.sentence for f in findings}
            )
            findings.extend(study_findings)
        except DataError as error:
            if error.message not in {f.sentence for f in findings}:
                findings.append(
                    Finding(
                        finding=getattr(error, "finding", "cannot_prepare"),
                        severity="error",
                        sentence=error.message,
                        action=error.remedy,
                    )
                )
    about = _about(request, sources, list(volumes.values()), study)
    return DataReport(by_severity(findings), files, components, lags, study, about)


def _about(request: DataRequest, sources: Sources, volumes: Sequence[Volumes], study: Study | None) -> dict[str, str]:
    """Return the lines at the head of a report. Values of the files are in the units of the files."""
    config = request.config
    name = f"simulated, {config.data.simulate}" if config.data.simulate else config.data.data_dir
    brains = f"{volumes[0].geometry.description}, TR {volumes[0].tr_s:g} s" if volumes else "none that is readable"
    about = {
        "study": f"{Path(name).name or name}: {len(sources.bold)} subjects, {brains}",
        "configuration": f"{config.name} ({content_hash(config)})",
        "checked": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC with giblet {__version__}",
        "units": "brain values in the units of the files, features in their own, times in seconds or TRs",
    }
    return about | ({"store": study.key} if study else {})


def _check_study(
    study: Study,
    manifest: Manifest,
    config: Config,
    sources: Sources,
    volumes: Mapping[str, Volumes],
    known_findings: Collection[str],
) -> tuple[list[Finding], dict[str, ModalityFacts], tuple[LagRow, ...]]:
    split = make_split(study.scan_lengths_trs, study.border_trs, config.split, study.spans, study.tr_s)
    data = prepare_split(study, split, config)
    lags = lag_table(study)
    runs = run_lag_table(study) if len(study.scan_lengths_trs) > 1 else ()
    stimuli = annotated_stimuli(sources, config, _run_lengths(study, volumes), study.tr_s)
    clock = check_clock(lags, runs, study)
    is_stretched = any(finding.finding == "stimulus_stretched" for finding in clock)
    texts = check_annotations(study, stimuli)
    findings = [
        *_notes(manifest, known_findings),
        *check_mask(study, data.mask),
        *check_features(study),
        *check_scales(dict(data.facts), config),
        *clock,
        *(f for f in texts if not (is_stretched and f.finding == "annotations_misplaced")),
        *(Finding(finding="switched_off", severity="warning", sentence=n) for n in data.notes if "switched off" in n),
    ]
    return findings, dict(data.facts), (*lags, *runs)


def _run_lengths(study: Study, volumes: Mapping[str, Volumes]) -> Sequence[int]:
    """Return the volumes of each run, of which a study with dropped volumes has fewer rows."""
    first = next(iter(volumes.values()))
    return first.run_lengths_trs if first.later_runs else study.scan_lengths_trs


def _of_common_length(lengths_trs: Mapping[str, int], config: Config) -> tuple[list[str], list[Finding]]:
    """Select the subjects of the most common length, or of at least the length of the stated scans."""
    scan_lengths_trs = config.data.scan_lengths_trs
    usual = Counter(lengths_trs.values()).most_common(1)[0][0] if lengths_trs else 0
    subjects, findings = [], []
    for subject, n_trs in lengths_trs.items():
        if (sum(scan_lengths_trs) <= n_trs) if scan_lengths_trs else (n_trs == usual):
            subjects.append(subject)
            continue
        requirement = (
            f"the scans add up to {sum(scan_lengths_trs)}" if scan_lengths_trs else f"most subjects have {usual}"
        )
        findings.append(
            Finding(
                finding="other_length",
                severity="error",
                subject=subject,
                sentence=f"{subject} has {n_trs} TRs; {requirement}.",
                evidence={"trs": n_trs},
                action="State the scans that all share in data.scan_lengths_trs, or leave the subject out.",
            )
        )
    return subjects, findings


def _with_subjects(config: Config, labels: Sequence[str]) -> Config:
    subjects = tuple(label.removeprefix("sub-") for label in labels)
    return msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, subjects=subjects))


def _notes(manifest: Manifest, known_findings: Collection[str]) -> list[Finding]:
    """Turn the notes of the store into findings, except those that a check has reported."""
    return [
        Finding(
            finding="duplicate_annotations" if "duplicate" in note else "converted",
            severity="warning" if "duplicate" in note else "info",
            sentence=note,
        )
        for note in manifest.notes
        if note not in known_findings
    ]
