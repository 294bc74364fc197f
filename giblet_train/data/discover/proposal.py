"""Propose the table of runs of a folder, verified by what the brains follow, with a finding for whatever is unusual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from giblet_train.data.checks.findings import Finding, by_severity
from giblet_train.data.discover.annotations import StimulusText, annotations_of, shifted_texts
from giblet_train.data.discover.borders import borders_in_files
from giblet_train.data.discover.expectation import expectations, with_orders
from giblet_train.data.discover.faults import (
    crop_findings,
    duplicates,
    file_findings,
    group_name,
    missing_findings,
    placement_findings,
    stimulus_findings,
    tr_findings,
)
from giblet_train.data.discover.groups import Group, Grouping, Member, grouped
from giblet_train.data.discover.identity import with_own_brains
from giblet_train.data.discover.inventory import FILMS, SOUNDS, Inventory, explain_absence, take_inventory
from giblet_train.data.discover.matching import Hit, match
from giblet_train.data.discover.names import ECHO, stem
from giblet_train.data.discover.placement import PlacedRun, place_runs
from giblet_train.data.discover.responses import Scan, Scans, read_scans
from giblet_train.data.discover.stimuli import Candidate, annotated_stimuli, candidates, read_stimuli
from giblet_train.data.readers.folder import require_folder
from giblet_train.data.readers.runs_table import RunEntry
from giblet_train.data.statistics.alignment import NO_PEAK
from giblet_train.schema.errors import DataError
from giblet_train.schema.progress import ProgressCallback, subrange

STIMULI_ABOVE = 3
"""Levels of folders above the scans where films are searched."""
FOLDERS_OF_STIMULI = ("stimuli", "stimulus", "stim", "movies", "films", "videos")


@dataclass(frozen=True)
class GroupSummary:
    """One line of the report: the runs of one name."""

    name: str
    n_subjects: int
    n_trs: int
    hits: tuple[Hit, ...]
    onsets_s: tuple[float, ...]
    agreement: float
    """Median height of the agreement between subjects; 0 for a single one."""


@dataclass(frozen=True)
class Proposal:
    """A study as its files and its brains describe it."""

    folder: Path
    tr_s: float
    trust_tr: str | None
    """Source of the TR if files disagree, None if they do not."""
    stimuli: tuple[Candidate, ...]
    """Stimuli that somebody saw."""
    texts: Mapping[str, StimulusText]
    runs: tuple[RunEntry, ...]
    groups: tuple[GroupSummary, ...]
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        """Return True if any finding is an error, or if no run follows a stimulus."""
        return not self.stimuli or any(finding.severity == "error" for finding in self.findings)


def discover(folder: Path, progress: ProgressCallback, tr_s: float | None = None) -> Proposal:
    """Propose the table of runs of a folder.

    Raises ConfigError if there is no folder, DataError if it has no readable scan or stimulus.

    Args:
        tr_s: TR of files that state none.
    """
    require_folder(folder)
    inventory = take_inventory(folder)
    _check_complete(folder, inventory)
    stimuli = candidates(inventory.media) or annotated_stimuli(inventory.texts)
    if not stimuli:
        raise _no_stimulus(folder)
    scans = read_scans(
        inventory.scans, borders_in_files(inventory.texts, inventory.media), tr_s, subrange(progress, 0.0, 0.5)
    )
    copies = duplicates(scans.scans)
    usable = [scan for scan in scans.scans if scan.name.path not in {copy.copied for copy in copies}]
    usable, brain_findings = with_own_brains(with_orders(usable, stimuli, inventory.timings))
    media = read_stimuli(stimuli, scans.tr_s, subrange(progress, 0.5, 0.9))
    stimuli = [s for s in stimuli if s.name in media.series or s.text is not None]
    if not stimuli:
        raise DataError(media.problems[0][1].message, media.problems[0][1].remedy)
    progress("comparing brains and stimuli", 0.9)
    groupings = grouped(usable, scans.tr_s)
    units = [g.group for g in groupings] + [_alone(scan) for g in groupings for scan in g.strangers]
    expected = expectations(units, stimuli, inventory.timings, scans.tr_s)
    hits_by_unit = match(units, expected, media.series, scans.tr_s)
    runs = place_runs(groupings, units, hits_by_unit, expected, stimuli, inventory.timings, scans.tr_s)
    stimulus_names = {p.stimulus for run in runs for p in run.presentations}
    used_stimuli = [s for s in stimuli if s.name in stimulus_names]
    idle = [s.name for s in (*stimuli, *(s for s, _ in media.problems)) if s.name not in stimulus_names]
    idle += [stem(path) for path in inventory.broken]
    texts, text_findings = annotations_of(inventory.texts, used_stimuli, idle, folder)
    placements = list(placement_findings(runs, groupings, expected, stimuli, scans.tr_s))
    if any(finding.finding == "stimulus_swapped" for finding in placements):
        # Annotations of films with exchanged names fit once the names are corrected.
        text_findings = [f for f in text_findings if f.finding != "unplaced_annotations"]
    findings = [
        *file_findings(inventory, scans, media.problems, folder),
        *(copy.finding for copy in copies),
        *brain_findings,
        *tr_findings(scans, groupings),
        *placements,
        *crop_findings(runs, stimuli, scans.tr_s),
        *missing_findings(runs),
        *stimulus_findings(stimuli, stimulus_names, expected),
        *text_findings,
        *shifted_texts(texts, media, scans.tr_s),
    ]
    return Proposal(
        folder=folder,
        tr_s=scans.tr_s,
        trust_tr=_trusted(scans),
        stimuli=tuple(used_stimuli),
        texts=texts,
        runs=tuple(_entry(run) for run in runs),
        groups=tuple(_summary(g, hits, runs) for g, hits in zip(groupings, hits_by_unit, strict=False)),
        findings=tuple(by_severity(findings)),
    )


def _check_complete(folder: Path, inventory: Inventory) -> None:
    if not inventory.scans:
        raise explain_absence(inventory, folder)
    echo = next((name for name in inventory.scans if ECHO in dict(name.version)), None)
    if echo is not None:
        raise DataError(
            f"{echo.path} is one echo of {echo.text}, and the folder has no combination of its echoes.",
            "Combine them (fMRIPrep, tedana), or give a folder that has one echo, without the echo in its name.",
        )
    if inventory.broken and not inventory.media:
        raise DataError(
            f"{folder} has no readable film or sound. {inventory.problems[0].message}", inventory.problems[0].remedy
        )


def _no_stimulus(folder: Path) -> DataError:
    """Return the error for scans without a stimulus: it names a folder of films above, if there is one."""
    sentence = f"{folder} has no film, no sound and no annotations"
    for above in list(folder.resolve().parents)[:STIMULI_ABOVE]:
        for name in FOLDERS_OF_STIMULI:
            films = (p for pattern in ("*", "*/*") for p in (above / name).glob(pattern))
            if any(path.suffix.lower() in (*FILMS, *SOUNDS) for path in films):
                return DataError(
                    f"{sentence}, but there are films or sounds in {above / name}.",
                    f"Start from {above}, which has both.",
                )
    return DataError(f"{sentence}.", "Put one of them next to the scans.")


def _alone(scan: Scan) -> Group:
    return Group(scan.name.group, (Member(scan, 0, NO_PEAK),), 0, scan.fast_TV)


def _trusted(scans: Scans) -> str | None:
    """Return which TR to trust where a header or sidecar differs from the usual TR."""
    headers = {round(s.header_s, 4) for s in scans.scans if s.header_s}
    sidecars = {round(s.sidecar_s, 4) for s in scans.scans if s.sidecar_s}
    if headers | sidecars <= {scans.tr_s}:
        return None
    return "sidecar" if sidecars == {scans.tr_s} and all(s.sidecar_s for s in scans.scans) else "config"


def _entry(run: PlacedRun) -> RunEntry:
    name = run.scan.name
    return RunEntry(f"sub-{name.subject}", name.path, name.session, name.task, name.run, run.presentations)


def _summary(grouping: Grouping, hits: tuple[Hit, ...], runs: Sequence[PlacedRun]) -> GroupSummary:
    members = grouping.group.members
    own = min((p for p in runs if any(p.scan is m.scan for m in members)), key=lambda p: abs(p.shift_trs))
    return GroupSummary(
        name=group_name(grouping.key),
        n_subjects=len(members) + len(grouping.strangers),
        n_trs=grouping.group.usual_trs,
        hits=hits,
        onsets_s=tuple(p.onset_s for p in own.presentations),
        agreement=median(m.peak.height for m in members),
    )
