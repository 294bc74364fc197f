"""Training, validation and test: contiguous blocks of TRs with gaps between them, or whole scans.

T: TRs of the whole study.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.row_plan import Span
from giblet_train.schema.config import SplitConfig
from giblet_train.schema.errors import DataError

SNAP_TRS = 10
MIN_TRAIN_TRS = 16
MIN_HELD_OUT_TRS = 4
SAME_SECOND = 1e-3
"""Part of a TR by which clocks of the same seconds may differ without overlapping."""

Block = tuple[int, int]
"""First TR and the TR after the last; never across a scan border."""


@dataclass(frozen=True)
class Split:
    """Training, validation and test TRs. TRs in no block are gap and are not used."""

    n_trs: int
    """TRs of the whole study."""
    fold: int
    gap_trs: int
    train_blocks: tuple[Block, ...]
    validation_blocks: tuple[Block, ...]
    test_blocks: tuple[Block, ...]

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Return the blocks of all three parts."""
        return (*self.train_blocks, *self.validation_blocks, *self.test_blocks)

    @property
    def other_blocks(self) -> tuple[Block, ...]:
        """Return the training and validation blocks in the order of the film."""
        return tuple(sorted((*self.train_blocks, *self.validation_blocks)))

    @property
    def joined(self) -> Split:
        """Return the split whose training blocks are the training and validation blocks, without validation."""
        return replace(self, train_blocks=self.other_blocks, validation_blocks=())

    @property
    def train(self) -> NDArray[np.intp]:
        """Return the indices of the training TRs, ascending."""
        return _indices(self.train_blocks)

    @property
    def validation(self) -> NDArray[np.intp]:
        """Return the indices of the inner validation TRs, ascending."""
        return _indices(self.validation_blocks)

    @property
    def test(self) -> NDArray[np.intp]:
        """Return the indices of the test TRs, ascending."""
        return _indices(self.test_blocks)


def make_split(
    scan_lengths_trs: Sequence[int],
    border_trs: Sequence[int],
    config: SplitConfig,
    spans: Sequence[Span] = (),
    tr_s: float = 1.0,
) -> Split:
    """Split the first usable TRs for one fold.

    kind `blocks`: n_folds test blocks of equal length. Borders move by up to SNAP_TRS to the nearest border of an
    annotation or a scan, so that no annotation is on both sides. Validation block 0 follows the gap on the longer side
    of the test block; the next ones are further out, then on the other side. The rest, beyond the gaps, is training.
    kind `scans` or `runs`: scan `fold` is the test. Validation block 0 is the end of the longest other scan, the next
    ones are the ends of shorter scans. No gap is needed between scans; the validation block has one within its scan.
    kind `stimuli`: all presentations of stimulus `fold`, in order of first rows, are the test.
    Whatever the kind, the same stimulus seconds are never on two sides: a second showing of held-out seconds is gap,
    and so are rows without a stimulus.
    Raises DataError, with the arithmetic, if too little is left or the scan does not exist.

    Args:
        spans: Stretches of stimuli on the rows; empty if one stimulus runs on over all rows.
        tr_s: Seconds per TR, to compare the seconds of stimuli.
    """
    by_stimulus = config.kind == "stimuli"
    split = (_by_stimulus if by_stimulus else _by_rows)(scan_lengths_trs, border_trs, config, spans)
    return separate_seconds(split, scan_lengths_trs, spans, tr_s) if by_stimulus or len(spans) > 1 else split


def _by_rows(
    scan_lengths_trs: Sequence[int], border_trs: Sequence[int], config: SplitConfig, _spans: Sequence[Span]
) -> Split:
    """Split by blocks or by scans."""
    test, choices = _held_out(scan_lengths_trs, border_trs, config)
    validation = choices[config.validation_block % len(choices)]
    usable, scan_starts = _usable(scan_lengths_trs, config), np.cumsum([0, *scan_lengths_trs]).tolist()
    if config.kind == "blocks":
        held_out = [_widened(test, config.gap_trs), _widened(validation, config.gap_trs)]
    else:
        scan_start = max(start for start in scan_starts if start <= validation[0])
        held_out = [test, (max(scan_start, validation[0] - config.gap_trs), validation[1])]
    train = _without((0, usable), held_out)
    _check_enough(usable, test, validation, train, config)
    return Split(
        n_trs=sum(scan_lengths_trs),
        fold=config.fold,
        gap_trs=config.gap_trs,
        train_blocks=_cut(train, scan_starts),
        validation_blocks=_cut([validation], scan_starts),
        test_blocks=_cut([test], scan_starts),
    )


def _by_stimulus(
    scan_lengths_trs: Sequence[int], border_trs: Sequence[int], config: SplitConfig, spans: Sequence[Span]
) -> Split:
    """Leave one stimulus out; validation blocks are the ends of scans that do not show it."""
    names = list(dict.fromkeys(span.stimulus for span in spans))
    if len(names) < 2 or config.fold >= len(names):
        raise DataError(
            f"split.kind: stimuli with fold {config.fold} needs that many stimuli; the study has {len(names)}: "
            f"{', '.join(names)}.",
            "Lower split.fold, or use split.kind: blocks.",
        )
    test = [(s.first, s.stop) for s in spans if s.stimulus == names[config.fold]]
    starts = np.cumsum([0, *scan_lengths_trs]).tolist()
    others = [(a, b) for a, b in pairwise(starts) if not any(first < b and a < stop for first, stop in test)]
    if not others:
        raise DataError(f"Every run shows {names[config.fold]}; nothing is left to train on.", "Choose another fold.")
    choices = _ends_of_scans(others, (0, 0), border_trs, config)
    validation = choices[config.validation_block % len(choices)]
    scan_start = max(start for start in starts if start <= validation[0])
    held_out = [*test, (max(scan_start, validation[0] - config.gap_trs), validation[1])]
    train = _without((0, starts[-1]), held_out)
    return Split(
        n_trs=starts[-1],
        fold=config.fold,
        gap_trs=config.gap_trs,
        train_blocks=_cut(train, starts),
        validation_blocks=_cut([validation], starts),
        test_blocks=_cut(test, starts),
    )


def separate_seconds(split: Split, scan_lengths_trs: Sequence[int], spans: Sequence[Span], tr_s: float) -> Split:
    """Turn rows into gap that have no stimulus, or show seconds that are held out elsewhere.

    Raises DataError if too little is left.
    """
    parts = (split.test, split.validation, split.train)
    test_T, validation_T, train_T = (_row_mask(split.n_trs, rows) for rows in parts)
    shown_T = np.zeros(split.n_trs, bool)
    for span in spans:
        shown_T[span.first : span.stop] = True
    validation_T &= shown_T & ~_repeats(test_T, spans, tr_s)
    train_T &= shown_T & ~_repeats(test_T | validation_T, spans, tr_s)
    borders = sorted({*np.cumsum([0, *scan_lengths_trs]).tolist(), *(b for s in spans for b in (s.first, s.stop))})
    n_train, n_validation, n_test = (int(x.sum()) for x in (train_T, validation_T, test_T & shown_T))
    if n_train < MIN_TRAIN_TRS or min(n_validation, n_test) < MIN_HELD_OUT_TRS:
        raise DataError(
            f"Fold {split.fold} leaves {n_train} TRs to train on, {n_validation} for validation and {n_test} for the "
            "test, once seconds that are shown again are on one side only.",
            "Use another split.kind or split.fold.",
        )
    return replace(
        split,
        train_blocks=_blocks_of(train_T, borders),
        validation_blocks=_blocks_of(validation_T, borders),
        test_blocks=_blocks_of(test_T & shown_T, borders),
    )


def _repeats(held_T: NDArray[np.bool_], spans: Sequence[Span], tr_s: float) -> NDArray[np.bool_]:
    """Return (T,): rows that show, at least in part, the same seconds as a held-out row."""
    second_T, stimulus_T = np.full(len(held_T), np.nan), np.full(len(held_T), -1)
    names = list(dict.fromkeys(span.stimulus for span in spans))
    for span in spans:
        second_T[span.first : span.stop] = span.start_s + tr_s * np.arange(span.n_trs)
        stimulus_T[span.first : span.stop] = names.index(span.stimulus)
    repeats_T = np.zeros(len(held_T), bool)
    for n in range(len(names)):
        held_s = np.sort(second_T[held_T & (stimulus_T == n)])
        rows = np.flatnonzero(stimulus_T == n)
        if not len(held_s):
            continue
        after = np.searchsorted(held_s, second_T[rows])
        nearest_s = np.minimum(
            np.abs(second_T[rows] - held_s[np.minimum(after, len(held_s) - 1)]),
            np.abs(second_T[rows] - held_s[np.maximum(after - 1, 0)]),
        )
        repeats_T[rows] = nearest_s < tr_s * (1 - SAME_SECOND)
    return repeats_T


def _row_mask(n_trs: int, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    mask_T = np.zeros(n_trs, bool)
    mask_T[rows] = True
    return mask_T


def _blocks_of(rows_T: NDArray[np.bool_], borders: Sequence[int]) -> tuple[Block, ...]:
    """Return the contiguous blocks of some rows, cut at the borders."""
    edges = np.flatnonzero(np.diff(np.r_[False, rows_T, False].astype(int)))
    return _cut([(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)], borders)


def _held_out(
    scan_lengths_trs: Sequence[int], border_trs: Sequence[int], config: SplitConfig
) -> tuple[Block, list[Block]]:
    """Return the test block of a fold and the validation blocks that go with it."""
    usable, scan_starts = _usable(scan_lengths_trs, config), np.cumsum([0, *scan_lengths_trs]).tolist()
    borders = sorted({*border_trs, *scan_starts})
    if config.kind == "blocks":
        test = _fold(usable, borders, config)
        return test, _blocks_around_test(usable, test, borders, config)
    scans = [(start, min(stop, usable)) for start, stop in pairwise(scan_starts) if start < usable]
    test = _scan(scans, config)
    return test, _ends_of_scans(scans, test, borders, config)


def _usable(scan_lengths_trs: Sequence[int], config: SplitConfig) -> int:
    n_trs = sum(scan_lengths_trs)
    usable = n_trs if config.usable_trs is None else config.usable_trs
    if usable > n_trs:
        raise DataError(f"split.usable_trs is {usable}, but the study has {n_trs} TRs.", "Lower it, or set it to null.")
    return usable


def _fold(usable: int, borders: Sequence[int], config: SplitConfig) -> Block:
    length = usable // config.n_folds
    edges = [round(i * usable / config.n_folds) for i in range(config.n_folds + 1)]
    start, stop = (
        edge if edge in (0, usable) else _snapped(edge, borders, min(SNAP_TRS, length // 4))
        for edge in edges[config.fold : config.fold + 2]
    )
    return start, stop


def _blocks_around_test(usable: int, test: Block, borders: Sequence[int], config: SplitConfig) -> list[Block]:
    """Return blocks outwards from the test block's gaps, the longer side first; the first shares the test's gap."""
    length = min(config.validation_trs, round(config.validation_fraction * (usable - (test[1] - test[0]))))
    before, after = test[0] - config.gap_trs, test[1] + config.gap_trs
    later = _cut_outwards(after, usable, 1, length, borders)
    earlier = _cut_outwards(before, 0, -1, length, borders)
    longer, shorter = (later, earlier) if usable - after >= before else (earlier, later)
    return longer + [block for block in shorter if block[1] - block[0] >= length // 2]


def _cut_outwards(edge: int, end: int, way: int, length: int, borders: Sequence[int]) -> list[Block]:
    """Cut blocks of about `length` TRs outwards from an edge, each snapped to a border; drop a shorter remainder."""
    stretches: list[Block] = []
    while not stretches or 0 < length <= way * (end - edge):
        far = _snapped(edge + way * length, borders, min(SNAP_TRS, length // 4))
        far = min(end, far) if way > 0 else max(end, far)
        stretches.append((edge, far) if way > 0 else (far, edge))
        edge = far
    return stretches


def _scan(scans: Sequence[Block], config: SplitConfig) -> Block:
    if len(scans) < 2:
        raise DataError(
            "split.kind: scans leaves one scan out, but the usable TRs have only one.",
            "State the scans in data.scan_lengths_trs, or use split.kind: blocks.",
        )
    if config.fold >= len(scans):
        raise DataError(
            f"split.fold {config.fold} does not exist; the {len(scans)} scans are folds 0 to {len(scans) - 1}.",
            "Lower split.fold.",
        )
    return scans[config.fold]


def _ends_of_scans(scans: Sequence[Block], test: Block, borders: Sequence[int], config: SplitConfig) -> list[Block]:
    """Return a validation block at the end of each scan that is not the test, longest scan first."""
    others = sorted((scan for scan in scans if scan != test), key=lambda scan: (scan[1] - scan[0], scan[0]))
    n_rest = sum(last - first for first, last in others)
    ends = []
    for start, stop in reversed(others):
        length = min(config.validation_trs, round(config.validation_fraction * n_rest), stop - start)
        ends.append((max(start, _snapped(stop - length, borders, min(SNAP_TRS, length // 4))), stop))
    return ends


def _snapped(edge: int, borders: Sequence[int], reach: int) -> int:
    near = [b for b in borders if abs(b - edge) <= reach]
    return min(near, key=lambda border: (abs(border - edge), border)) if near else edge


def _widened(block: Block, gap: int) -> Block:
    return block[0] - gap, block[1] + gap


def _without(whole: Block, other_blocks: Iterable[Block]) -> list[Block]:
    remainder: list[Block] = []
    start = whole[0]
    for first, last in sorted(other_blocks):
        if first > start:
            remainder.append((start, first))
        start = max(start, last)
    if start < whole[1]:
        remainder.append((start, whole[1]))
    return remainder


def _cut(blocks: Iterable[Block], scan_starts: Sequence[int]) -> tuple[Block, ...]:
    """Cut the blocks at scan starts."""
    pieces: list[Block] = []
    for start, stop in blocks:
        edges = [start, *(s for s in scan_starts if start < s < stop), stop]
        pieces.extend(pairwise(edges))
    return tuple(pieces)


def _check_enough(usable: int, test: Block, validation: Block, train: list[Block], config: SplitConfig) -> None:
    n_test, n_validation = test[1] - test[0], validation[1] - validation[0]
    n_train = sum(stop - start for start, stop in train)
    if min(n_test, n_validation) >= MIN_HELD_OUT_TRS and n_train >= MIN_TRAIN_TRS:
        return
    n_gap = usable - n_test - max(0, n_validation) - n_train
    of_folds = f" of {config.n_folds}" if config.kind == "blocks" else ""
    raise DataError(
        f"The study is too short for this split: of {usable} TRs, fold {config.fold}{of_folds} takes "
        f"{n_test} for the test, {max(0, n_validation)} for validation, {n_gap} for gaps of {config.gap_trs}, which "
        f"leaves {n_train} to train on; {MIN_HELD_OUT_TRS}, {MIN_HELD_OUT_TRS} and {MIN_TRAIN_TRS} are the least.",
        "Use a longer study, a smaller split.gap_trs, or other split.n_folds and split.validation_trs.",
    )


def _indices(blocks: tuple[Block, ...]) -> NDArray[np.intp]:
    return np.concatenate([np.arange(*block, dtype=np.intp) for block in blocks] or [np.empty(0, np.intp)])
