"""Lay the runs of a study on rows: one per TR of a stimulus, shared by all subjects who saw it at that clock.

A block of rows belongs to one order of presentations, and to one clock: subjects whose onsets differ by whole TRs share
it. Differences up to ROUNDED_TRS of a TR are rounded with a note, larger ones get a block of their own. A repeated
presentation has its own block. Nothing is ever stretched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

from giblet_train.data.readers.runs_table import RunEntry
from giblet_train.schema.errors import DataError

ROUNDED_TRS = 0.25
EXACT_TRS = 1e-3
SLACK_S = 0.1
"""How far a presentation may reach beyond its stimulus: durations of films are rounded."""


@dataclass(frozen=True)
class Span:
    """Rows that show one stretch of a stimulus."""

    stimulus: str
    first: int
    """First row."""
    n_trs: int
    start_s: float
    """Second of the stimulus at which the first row begins."""

    @property
    def stop(self) -> int:
        """Return the row after the last."""
        return self.first + self.n_trs


@dataclass(frozen=True)
class Piece:
    """Volumes of a run and the rows that they fill."""

    run: RunEntry
    first_volume: int
    n_trs: int
    first_row: int


@dataclass(frozen=True)
class RowPlan:
    """Rows of a study."""

    tr_s: float
    block_names: tuple[str, ...]
    block_lengths_trs: tuple[int, ...]
    spans: tuple[Span, ...]
    """Spans in order of rows; rows between them have no stimulus."""
    pieces: Mapping[str, tuple[Piece, ...]]
    """Subject -> its volumes in order of rows."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _StimulusSpan:
    """One presentation on the clock of its run."""

    stimulus: str
    offset_s: float
    """Second of the stimulus at which the scan begins."""
    first_volume: int
    stop_volume: int


@dataclass
class _Block:
    """A block in the making. Row n begins at `second_s + n·tr_s` of the first stimulus."""

    name: str
    stimuli: tuple[str, ...]
    offsets_s: tuple[float, ...]
    """Offset of each presentation relative to the first."""
    second_s: float
    runs: list[tuple[RunEntry, tuple[_StimulusSpan, ...], int]]
    """Run, its presentations, and the row of its volume 0."""


def plan_rows(
    runs: Sequence[RunEntry],
    lengths_trs: Mapping[str, int],
    stimulus_s: Mapping[str, float],
    tr_s: float,
    drop: int = 0,
) -> RowPlan:
    """Plan the rows of all runs.

    Raises DataError with the row of the table for a presentation outside its stimulus or scan, overlapping ones, and a
    stimulus that nobody saw.

    Args:
        lengths_trs: Path of a run's file -> its volumes.
        stimulus_s: Stimulus -> its duration.
        drop: Volumes at the start of each run that are not used.
    """
    blocks: list[_Block] = []
    notes: list[str] = []
    for run in runs:
        spans = _placed(run, lengths_trs[str(run.bold)], stimulus_s, tr_s, drop)
        if not spans:
            notes.append(f"{run.name} has no stimulus; it is not used.")
            continue
        block = _matching_block(blocks, run, spans, tr_s, notes)
        block.runs.append((run, spans, _row(spans, block, tr_s)))
    unseen = sorted(set(stimulus_s) - {s for block in blocks for s in block.stimuli})
    if unseen:
        notes.append(f"Nobody saw {', '.join(unseen)}.")
    if not blocks:
        raise DataError("No run shows a stimulus.", "Fill the column stimulus of the table of runs.")
    return _plan(blocks, tr_s, notes)


def _placed(
    run: RunEntry, n_volumes: int, stimulus_s: Mapping[str, float], tr_s: float, drop: int
) -> tuple[_StimulusSpan, ...]:
    """Return the presentations of a run with the volumes that are completely inside them."""
    scan_s = n_volumes * tr_s
    spans: list[_StimulusSpan] = []
    reached_s = -float("inf")
    for n, p in enumerate(run.presentations):
        where = f"{run.name}, row {p.row} of the table of runs"
        end_s = p.onset_s + (stimulus_s[p.stimulus] - p.start_s)
        if p.start_s >= stimulus_s[p.stimulus]:
            raise DataError(
                f"{where}: {p.stimulus} lasts {stimulus_s[p.stimulus]:.1f} s and cannot start at {p.start_s:g} s.",
                "Correct stimulus_start_s.",
            )
        if p.duration_s is not None:
            if p.onset_s + p.duration_s > end_s + SLACK_S:
                raise DataError(
                    f"{where}: {p.duration_s:g} s from second {p.start_s:g} on reach beyond the end of {p.stimulus} at "
                    f"{stimulus_s[p.stimulus]:.1f} s.",
                    "Correct duration_s.",
                )
            end_s = p.onset_s + p.duration_s
        elif n + 1 < len(run.presentations):
            end_s = min(end_s, run.presentations[n + 1].onset_s)
        first = max(drop, 0, ceil(p.onset_s / tr_s - EXACT_TRS))
        stop = min(n_volumes, floor(end_s / tr_s + EXACT_TRS))
        if stop <= first:
            raise DataError(
                f"{where}: {p.stimulus} from {p.onset_s:g} s to {end_s:g} s covers no volume of the scan, which lasts "
                f"{scan_s:g} s.",
                "Correct scan_onset_s, stimulus_start_s or duration_s.",
            )
        if p.onset_s < reached_s - EXACT_TRS * tr_s:
            raise DataError(
                f"{where}: {p.stimulus} begins at {p.onset_s:g} s, before the presentation before it ends at "
                f"{reached_s:g} s.",
                "Correct scan_onset_s or duration_s.",
            )
        reached_s = min(end_s, scan_s)
        spans.append(_StimulusSpan(p.stimulus, p.start_s - p.onset_s, first, stop))
    return tuple(spans)


def _matching_block(
    blocks: list[_Block], run: RunEntry, spans: tuple[_StimulusSpan, ...], tr_s: float, notes: list[str]
) -> _Block:
    """Return the block that shows the same stretch at the same clock; make one if there is none.

    Runs share a block if they overlap by at least half of the shorter one. A run that its subject has already seen, a
    repeat, never shares the rows of the first one.
    """
    stimuli = tuple(s.stimulus for s in spans)
    offsets_s = tuple(s.offset_s - spans[0].offset_s for s in spans)
    best: tuple[int, _Block] | None = None
    for block in blocks:
        if not _same_clock(block, stimuli, offsets_s, spans[0].offset_s, tr_s):
            continue
        first, stop = _extent(spans, _row(spans, block, tr_s))
        extents = [(entry.subject, _extent(others, row)) for entry, others, row in block.runs]
        if any(subject == run.subject and min(stop, b) > max(first, a) for subject, (a, b) in extents):
            continue
        lowest, highest = min(a for _, (a, _) in extents), max(b for _, (_, b) in extents)
        overlap = min(stop, highest) - max(first, lowest)
        if 2 * overlap >= min(stop - first, highest - lowest) and (best is None or overlap > best[0]):
            best = overlap, block
    if best is None:
        repeats = sum(block.stimuli == stimuli for block in blocks)
        name = "+".join(dict.fromkeys(stimuli)) + (f" ({repeats + 1})" if repeats else "")
        blocks.append(_Block(name, stimuli, offsets_s, spans[0].offset_s, []))
        return blocks[-1]
    block = best[1]
    off_s = spans[0].offset_s - block.second_s - _row(spans, block, tr_s) * tr_s
    if abs(off_s) > EXACT_TRS * tr_s:
        notes.append(f"{run.name}: its clock differs by {off_s:+.2f} s from the others of {block.name}; it is rounded.")
    return block


def _same_clock(
    block: _Block, stimuli: tuple[str, ...], offsets_s: tuple[float, ...], offset_s: float, tr_s: float
) -> bool:
    """Return True if the presentations of a run fall on the rows of a block, up to ROUNDED_TRS."""
    if block.stimuli != stimuli:
        return False
    rows = (offset_s - block.second_s) / tr_s
    return abs(rows - round(rows)) <= ROUNDED_TRS and all(
        abs(a - b) <= ROUNDED_TRS * tr_s for a, b in zip(block.offsets_s, offsets_s, strict=True)
    )


def _row(spans: tuple[_StimulusSpan, ...], block: _Block, tr_s: float) -> int:
    """Return the row of a run's volume 0 in a block."""
    return round((spans[0].offset_s - block.second_s) / tr_s)


def _extent(spans: tuple[_StimulusSpan, ...], row: int) -> tuple[int, int]:
    return row + spans[0].first_volume, row + spans[-1].stop_volume


def _plan(blocks: Sequence[_Block], tr_s: float, notes: Sequence[str]) -> RowPlan:
    row_spans: list[Span] = []
    lengths: list[int] = []
    pieces: dict[str, list[Piece]] = {}
    start = 0
    for block in blocks:
        lowest = min(row + s.first_volume for _, spans, row in block.runs for s in spans)
        highest = max(row + s.stop_volume for _, spans, row in block.runs for s in spans)
        for n, stimulus in enumerate(block.stimuli):
            first = min(row + spans[n].first_volume for _, spans, row in block.runs)
            stop = max(row + spans[n].stop_volume for _, spans, row in block.runs)
            second_s = block.second_s + first * tr_s + block.offsets_s[n]
            row_spans.append(Span(stimulus, start + first - lowest, stop - first, round(second_s, 6)))
        for run, spans, row in block.runs:
            for s in spans:
                first_row = start + row + s.first_volume - lowest
                pieces.setdefault(run.subject, []).append(
                    Piece(run, s.first_volume, s.stop_volume - s.first_volume, first_row)
                )
        lengths.append(highest - lowest)
        start += highest - lowest
    return RowPlan(
        tr_s=tr_s,
        block_names=tuple(block.name for block in blocks),
        block_lengths_trs=tuple(lengths),
        spans=_joined(sorted(row_spans, key=lambda s: s.first)),
        pieces={s: tuple(sorted(pieces[s], key=lambda p: p.first_row)) for s in sorted(pieces)},
        notes=tuple(notes),
    )


def _joined(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Cut spans that overlap in rows: with subjects' crops, one presentation may reach into the rows of the next."""
    result: list[Span] = []
    for span in spans:
        if result and span.first < result[-1].stop:
            result[-1] = replace(result[-1], n_trs=span.first - result[-1].first)
        result.append(span)
    return tuple(s for s in result if s.n_trs > 0)
