"""Lay the files of a study on rows: from the short form of the configuration, or from a table of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from giblet_train.data.geometry import Geometry
from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.readers.annotations import check_unit, read_annotations, read_runs
from giblet_train.data.readers.headers import read_header, read_headers
from giblet_train.data.readers.repetition_time import TrustTr
from giblet_train.data.readers.row_plan import Piece, Span, plan_rows
from giblet_train.data.readers.runs_table import Presentation, RunEntry
from giblet_train.data.readers.study_files import FILM, Sources
from giblet_train.data.readers.timeline import Timeline, over_film, scan_timeline
from giblet_train.data.readers.volumes import Volumes, check_alike, joined
from giblet_train.data.stimulus.external import longest_s
from giblet_train.data.stimulus.features import StimulusSource
from giblet_train.data.store.feature_lengths import check_feature_lengths, file_seconds, stimulus_seconds
from giblet_train.schema.config import Config
from giblet_train.schema.errors import DataError

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Layout:
    """Rows of a store and the volumes that fill them."""

    volumes: Mapping[str, Volumes]
    """Subject -> its volumes, in the order of rows."""
    stored_trs: int | None
    """Volumes of each subject to store; None for all."""
    first_tr: int
    """First stored volume that is a row."""
    tr_s: float
    block_names: tuple[str, ...]
    block_lengths_trs: tuple[int, ...]
    spans: tuple[Span, ...]
    stimuli: Mapping[str, StimulusSource]
    presence: Mapping[str, Ranges] = field(default_factory=dict)
    """Subject -> row ranges that its volumes fill; empty if every subject fills all rows."""
    notes: tuple[str, ...] = ()

    @property
    def geometry(self) -> Geometry:
        """Return where the values of every subject are."""
        return next(iter(self.volumes.values())).geometry

    @property
    def n_trs(self) -> int:
        """Return T, the rows of the study."""
        return sum(self.block_lengths_trs)

    @property
    def film_start_s(self) -> float:
        """Return the second of the first stimulus at the first row."""
        return self.spans[0].start_s - self.spans[0].first * self.tr_s


def layout_of_files(sources: Sources, config: Config, offset_s: float | None = None) -> Layout:
    """Lay one film and the scans that all subjects share on rows.

    Raises DataError if the files do not fit each other.

    Args:
        offset_s: Measured offset; None for the configured one, or 0 with all volumes stored if that is `auto`.
    """
    data = config.data
    volumes = read_subjects(sources.bold, data.tr, data.trust_tr)
    scans = common_scans(list(volumes.values()), data.scan_lengths_trs)
    annotations = read_runs(sources.annotations, scans.tr_s, scans.scan_lengths_trs) if sources.annotations else None
    segments = annotations.segments if annotations else ()
    film_offset_s = 0.0 if data.stimulus_offset_s == "auto" else data.stimulus_offset_s
    source = StimulusSource(sources.film, sources.sound, segments, data.sources_of(), sources.features)
    film_s = _seconds_of_short_form(source, scans, film_offset_s)
    if segments:
        check_unit(segments, film_s, scans.n_trs * scans.tr_s, "data.annotations")
    timeline = over_film(scans, film_s, film_offset_s if offset_s is None else offset_s, config.split.usable_trs)
    notes = (*(annotations.notes if annotations else ()), *timeline.notes)
    if data.drop_first_trs and any(v.later_runs for v in volumes.values()):
        return _without_first_of_each(volumes, source, film_s, film_offset_s, config, notes)
    if data.drop_first_trs:
        timeline = _without_first(timeline, data.drop_first_trs)
    return Layout(
        volumes=volumes,
        stored_trs=scans.n_trs if data.stimulus_offset_s == "auto" else timeline.first_tr + timeline.n_trs,
        first_tr=timeline.first_tr,
        tr_s=timeline.tr_s,
        block_names=tuple(f"scan {n}" for n in range(1, len(timeline.scan_lengths_trs) + 1)),
        block_lengths_trs=timeline.scan_lengths_trs,
        spans=(Span(FILM, 0, timeline.n_trs, timeline.film_start_s),),
        stimuli={FILM: source},
        notes=(*(annotations.notes if annotations else ()), *timeline.notes),
    )


def _seconds_of_short_form(source: StimulusSource, scans: Timeline, offset_s: float) -> float:
    """Return how long the stimulus lasts: without film, sound and files of features, as long as the scans.

    Raises DataError for features that last much longer than the scans, as they do at a wrong rate.
    """
    if source.seconds is not None:
        return source.seconds
    shown_s = scans.n_trs * scans.tr_s + offset_s
    seconds = file_seconds(source, scans.tr_s)
    for space, length_s in seconds.items():
        if length_s > longest_s(shown_s, scans.tr_s):
            fitting = (source.features[space].rows_per_s or 1.0 / scans.tr_s) * length_s / shown_s
            raise DataError(
                f"The {space} features last {length_s:.1f} s, the scans {shown_s:.1f} s, and neither film nor sound "
                "states how long the stimulus is.",
                f"State their rate (data.features.{space}.rows_per_s: {fitting:.4g} would fit), or crop them.",
            )
    return max(seconds.values(), default=shown_s)


def _without_first_of_each(
    volumes: Mapping[str, Volumes],
    source: StimulusSource,
    film_s: float,
    offset_s: float,
    config: Config,
    notes: Sequence[str],
) -> Layout:
    """Leave out the first volumes of each run; each run continues the film. Raises DataError."""
    data = config.data
    if data.stimulus_offset_s == "auto" or config.split.usable_trs is not None:
        raise DataError(
            "data.drop_first_trs with several runs needs a number as data.stimulus_offset_s and no split.usable_trs.",
            "Set them, or write the table that `giblet data show` prints to a file and name it in data.runs.",
        )
    entries, headers = [], {}
    for subject, first in volumes.items():
        begin_s = offset_s
        for n, run in enumerate((first, *first.later_runs), 1):
            headers[str(run.path)] = run.part(0, run.file_trs)
            second_s = max(begin_s, 0.0)
            film = (Presentation(FILM, second_s - begin_s, second_s),) if second_s < film_s else ()
            entries.append(RunEntry(subject, run.path, run=str(n), presentations=film))
            begin_s += run.file_trs * run.tr_s
    note = f"The first {data.drop_first_trs} volumes of each run are not used: data.drop_first_trs."
    return _layout_of_runs(entries, headers, {FILM: source}, {FILM: film_s}, data.drop_first_trs, (*notes, note))


def _without_first(timeline: Timeline, drop: int) -> Timeline:
    """Leave out the first volumes; the film's time of the others stays. Raises DataError for several scans."""
    if len(timeline.scan_lengths_trs) > 1:
        raise DataError(
            "data.drop_first_trs with several scans in a file needs a table of runs: each begins with such volumes.",
            "Write the table that `giblet data show` prints to a file, and name it in data.runs.",
        )
    first = drop - timeline.first_tr
    if first <= 0:
        return timeline
    if first >= timeline.n_trs:
        raise DataError(f"data.drop_first_trs: {drop} leaves no volume.", "Lower it.")
    return timeline.cropped(first, timeline.n_trs, f"The first {drop} volumes are not used: data.drop_first_trs.")


def layout_of_table(sources: Sources, config: Config) -> Layout:
    """Lay the runs of a table on rows. Raises DataError as `plan_rows` does, and for files that do not fit."""
    data = config.data
    headers = {str(run.bold): read_header(run.bold, data.tr, data.trust_tr) for run in sources.runs}
    check_alike(list(headers.values()))
    tr_s = next(iter(headers.values())).tr_s
    stimuli, notes = read_stimulus_sources(sources, config, tr_s)
    seconds = {name: stimulus_seconds(stimulus, tr_s) for name, stimulus in stimuli.items()}
    empty = next((name for name, length_s in seconds.items() if not length_s), None)
    if empty is not None:
        raise DataError(
            f"data.stimuli.{empty} names no film, sound, annotations or features.", "Name one, or remove the stimulus."
        )
    layout = _layout_of_runs(sources.runs, headers, stimuli, seconds, data.drop_first_trs, notes)
    check_feature_lengths(stimuli, layout.spans, sources.runs, tr_s)
    return layout


def _layout_of_runs(
    runs: Sequence[RunEntry],
    headers: Mapping[str, Volumes],
    stimuli: Mapping[str, StimulusSource],
    stimulus_s: Mapping[str, float],
    drop: int,
    notes: Sequence[str],
) -> Layout:
    lengths = {path: v.n_trs for path, v in headers.items()}
    tr_s = next(iter(headers.values())).tr_s
    plan = plan_rows(runs, lengths, stimulus_s, tr_s, drop)
    presence = {s: tuple((p.first_row, p.first_row + p.n_trs) for p in pieces) for s, pieces in plan.pieces.items()}
    complete = all(_n_rows(ranges) == sum(plan.block_lengths_trs) for ranges in presence.values())
    return Layout(
        volumes={s: _volumes_of(pieces, headers) for s, pieces in plan.pieces.items()},
        stored_trs=None,
        first_tr=0,
        tr_s=tr_s,
        block_names=plan.block_names,
        block_lengths_trs=plan.block_lengths_trs,
        spans=plan.spans,
        stimuli=stimuli,
        presence={} if complete else presence,
        notes=(*notes, *plan.notes),
    )


def annotated_stimuli(
    sources: Sources, config: Config, scan_lengths_trs: Sequence[int], tr_s: float
) -> dict[str, StimulusSource]:
    """Return the stimuli with their annotations. Raises DataError."""
    if sources.runs:
        return read_stimulus_sources(sources, config, tr_s)[0]
    lengths = config.data.scan_lengths_trs or scan_lengths_trs
    segments = read_runs(sources.annotations, tr_s, lengths).segments if sources.annotations else ()
    return {FILM: StimulusSource(sources.film, sources.sound, segments)}


def read_stimulus_sources(
    sources: Sources, config: Config, tr_s: float
) -> tuple[dict[str, StimulusSource], tuple[str, ...]]:
    """Read the annotations of each stimulus of `data.stimuli`. Returns the stimuli and notes. Raises DataError."""
    stimuli: dict[str, StimulusSource] = {}
    notes: list[str] = []
    for name, files in sources.stimuli.items():
        segments: tuple[Segment, ...] = ()
        if files.annotations is not None:
            annotations = read_annotations(files.annotations, tr_s, scan=files.annotations_scan)
            segments = annotations.segments
            notes += annotations.notes
        source = StimulusSource(files.film, files.sound, segments, files.features, files.feature_files)
        if segments:
            seconds = stimulus_seconds(source, tr_s)
            check_unit(segments, seconds, seconds, f"data.stimuli.{name}.annotations")
        stimuli[name] = source
    return stimuli, tuple(notes)


def _volumes_of(pieces: Sequence[Piece], headers: Mapping[str, Volumes]) -> Volumes:
    """Return the volumes of all pieces as one series."""
    return joined(tuple(headers[str(piece.run.bold)].part(piece.first_volume, piece.n_trs) for piece in pieces))


def _n_rows(ranges: Ranges) -> int:
    return sum(stop - first for first, stop in ranges)


def read_subjects(bold: Mapping[str, Sequence[Path]], tr_s: float | None, trust: TrustTr = None) -> dict[str, Volumes]:
    """Read every subject's headers and check that all share one geometry and TR. Raises DataError."""
    volumes = {subject: read_headers(paths, tr_s, trust) for subject, paths in bold.items()}
    check_alike(list(volumes.values()))
    return volumes


def common_scans(volumes: Sequence[Volumes], scan_lengths_trs: Sequence[int] | None) -> Timeline:
    """Return the scans that every subject has: the runs of multi-file subjects, else the stated lengths.

    Raises DataError if lengths differ and no scan lengths are stated, or if these differ from the runs.
    """
    first = volumes[0]
    if first.later_runs:
        return _common_runs(volumes, scan_lengths_trs)
    shortest = min(volumes, key=lambda v: v.n_trs)
    longest = max(volumes, key=lambda v: v.n_trs)
    if scan_lengths_trs is None and shortest.n_trs != longest.n_trs:
        raise DataError(
            f"{shortest.path.name} has {shortest.n_trs} TRs, {longest.path.name} has {longest.n_trs}.",
            "State the scans that all share in data.scan_lengths_trs, or leave the subject out by data.subjects.",
        )
    return scan_timeline(shortest.n_trs, shortest.tr_s, scan_lengths_trs, shortest.path.name)


def _common_runs(volumes: Sequence[Volumes], run_numbers: Sequence[int] | None) -> Timeline:
    first = volumes[0]
    lengths = tuple(run_numbers) if run_numbers else first.run_lengths_trs
    other = next((v for v in volumes if v.run_lengths_trs != lengths), None)
    if other is not None:
        whose = "data.scan_lengths_trs says" if run_numbers else f"{first.path.name} has"
        raise DataError(
            f"The runs of {other.path.name} have {list(other.run_lengths_trs)} volumes; {whose} {list(lengths)}.",
            "Choose runs of equal length with data.bids.runs, or leave the subject out by data.subjects.",
        )
    return Timeline(first.tr_s, lengths)
