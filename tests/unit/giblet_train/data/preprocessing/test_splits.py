"""Splits: disjoint, gaps kept, every usable TR accounted for, whatever the study's length and scans."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from giblet_train.data.preprocessing.splits import Split, make_split
from giblet_train.data.readers.row_plan import Span
from giblet_train.schema.config import SplitConfig
from giblet_train.schema.errors import DataError


@st.composite
def studies(draw):
    scans = draw(st.lists(st.integers(20, 400), min_size=1, max_size=4))
    n_trs = sum(scans)
    n_folds = draw(st.integers(2, 8))
    borders = draw(st.lists(st.integers(1, n_trs - 1), max_size=60))
    config = SplitConfig(
        n_folds=n_folds,
        fold=draw(st.integers(0, n_folds - 1)),
        gap_trs=draw(st.integers(0, 20)),
        validation_trs=draw(st.integers(5, 120)),
        validation_fraction=draw(st.floats(0.05, 0.4)),
        usable_trs=draw(st.one_of(st.none(), st.integers(n_trs // 2, n_trs))),
    )
    return scans, borders, config


def split_of(study) -> Split:
    try:
        return make_split(*study)
    except DataError as error:
        assume("too short" not in error.message)
        raise


@given(studies())
def test_parts_are_disjoint_and_inside_the_usable_trs(study):
    split = split_of(study)
    parts = [split.train, split.validation, split.test]
    together = np.concatenate(parts)
    assert len(np.unique(together)) == len(together)
    assert together.min() >= 0
    assert together.max() < (study[2].usable_trs or split.n_trs)


@given(studies())
def test_the_gap_is_between_any_two_parts(study):
    split = split_of(study)
    held_out = [split.test, split.validation]
    for part in held_out:
        for other in (split.train, *[p for p in held_out if p is not part]):
            assert np.abs(part[:, None] - other[None]).min() > split.gap_trs


@given(studies())
def test_no_more_is_left_out_than_the_gaps(study):
    split = split_of(study)
    usable = study[2].usable_trs or split.n_trs
    n_used = len(split.train) + len(split.validation) + len(split.test)
    edges = 2 * (len(runs(split.test)) + len(runs(split.validation)))
    assert usable - n_used <= edges * split.gap_trs


@given(studies())
def test_blocks_never_cross_a_scan_border(study):
    split = split_of(study)
    scan_of = np.repeat(np.arange(len(study[0])), study[0])
    for start, stop in (*split.train_blocks, *split.validation_blocks, *split.test_blocks):
        assert stop > start
        assert len(set(scan_of[start:stop])) == 1


@given(studies())
def test_the_test_blocks_of_all_folds_cover_the_usable_trs_once(study):
    scans, borders, config = study
    test_trs = []
    for fold in range(config.n_folds):
        fold_config = SplitConfig(
            n_folds=config.n_folds,
            fold=fold,
            gap_trs=0,
            validation_trs=5,
            validation_fraction=0.4,
            usable_trs=config.usable_trs,
        )
        test_trs.append(split_of((scans, borders, fold_config)).test)
    np.testing.assert_array_equal(np.concatenate(test_trs), np.arange(config.usable_trs or sum(scans)))


def test_edges_move_to_the_nearest_annotation_within_ten_trs():
    split = make_split((500,), (93, 204), SplitConfig(fold=1))
    assert split.test_blocks == ((93, 204),)
    split = make_split((500,), (89, 111), SplitConfig(fold=1))
    assert split.test_blocks == ((100, 200),)


def test_validation_is_the_smaller_of_length_and_share():
    long = make_split((2000,), (), SplitConfig(fold=0))
    assert len(long.validation) == 90
    short = make_split((300,), (), SplitConfig(fold=0))
    assert len(short.validation) == round(0.15 * 240)


def in_turn(scans, borders, config) -> list[Split]:
    """Return the splits of all the validation blocks that a fold has."""
    splits = [make_split(scans, borders, config)]
    while (following := make_split(scans, borders, replace(config, validation_block=len(splits)))) != splits[0]:
        splits.append(following)
    return splits


@given(studies(), st.sampled_from(["blocks", "scans"]))
def test_the_validation_blocks_of_a_fold_do_not_overlap_and_leave_its_test_block_alone(study, kind):
    scans, borders, config = study
    config = replace(config, kind=kind, fold=min(config.fold, len(scans) - 1) if kind == "scans" else config.fold)
    assume(kind == "blocks" or len(scans) > 1)
    try:
        splits = in_turn(scans, borders, config)
    except DataError as error:
        assume(not any(words in error.message for words in ("too short", "only one", "does not exist")))
        raise
    assert len({split.test_blocks for split in splits}) == 1
    validation_trs = np.concatenate([split.validation for split in splits])
    assert len(np.unique(validation_trs)) == len(validation_trs)
    for split in splits:
        for part in (split.validation, split.train):
            assert not np.isin(part, split.test).any()


def test_validation_blocks_lie_from_the_test_block_outwards_on_its_longer_side_first():
    blocks = [split.validation_blocks for split in in_turn((300,), (), SplitConfig(fold=1))]
    assert blocks == [((134, 170),), ((170, 206),), ((206, 242),), ((242, 278),), ((10, 46),)]
    assert make_split((300,), (), SplitConfig(fold=1, validation_block=7)).validation_blocks == blocks[2]


def test_members_that_validate_elsewhere_learn_from_every_tr_beyond_the_gaps_of_the_test_block():
    splits = in_turn((327,), (), SplitConfig(fold=2))
    start, stop = splits[0].test_blocks[0]
    beyond = np.setdiff1d(np.arange(327), np.arange(start - 14, stop + 14))
    np.testing.assert_array_equal(np.unique(np.concatenate([split.train for split in splits])), beyond)


def test_the_lab_study_uses_its_first_scan():
    split = make_split((946,), (), SplitConfig(usable_trs=946, fold=2))
    assert len(split.test) == 190
    assert len(split.train) == 946 - 190 - 90 - 3 * 14


def test_leaving_a_scan_out_holds_that_scan_out_whole():
    split = make_split((300, 200, 250), (), SplitConfig(kind="scans", fold=1))
    assert split.test_blocks == ((300, 500),)
    assert split.validation_blocks == ((300 - 82, 300),)
    assert split.train_blocks == ((0, 300 - 82 - 14), (500, 750))
    assert make_split((300, 200, 250), (), SplitConfig(kind="scans", fold=0)).validation_blocks == ((750 - 68, 750),)


def test_the_fold_of_scans_is_independent_of_n_folds():
    lengths = (60,) * 7
    tests = [make_split(lengths, (), SplitConfig(kind="scans", fold=fold)).test for fold in range(7)]
    np.testing.assert_array_equal(np.concatenate(tests), np.arange(420))
    with pytest.raises(DataError, match=r"split\.fold 7 does not exist; the 7 scans are folds 0 to 6"):
        make_split(lengths, (), SplitConfig(kind="scans", fold=7))


@given(studies())
def test_scans_left_out_keep_the_gap_inside_a_scan_and_nothing_is_used_twice(study):
    scans, borders, blocks = study
    config = SplitConfig(kind="scans", fold=min(blocks.fold, len(scans) - 1), gap_trs=blocks.gap_trs)
    assume(len(scans) > 1)
    split = split_of((scans, borders, config))
    together = np.concatenate([split.train, split.validation, split.test])
    assert len(np.unique(together)) == len(together) >= sum(scans) - config.gap_trs
    scan_of = np.repeat(np.arange(len(scans)), scans)
    assert set(scan_of[split.test]) == {config.fold}
    assert not set(scan_of[split.test]) & set(scan_of[np.r_[split.train, split.validation]])
    same = scan_of[split.train][:, None] == scan_of[split.validation]
    assert (np.abs(split.train[:, None] - split.validation)[same] > config.gap_trs).all()


def seconds_of(rows, spans, tr_s):
    """Return {(stimulus, second of it)} that rows show, by whole TRs."""
    return {
        (span.stimulus, round((span.start_s + (row - span.first) * tr_s) / tr_s))
        for span in spans
        for row in rows
        if span.first <= row < span.stop
    }


@pytest.mark.parametrize("kind", ["blocks", "runs", "stimuli"])
@pytest.mark.parametrize("fold", [0, 1])
def test_the_same_seconds_are_never_on_two_sides_of_a_split(kind, fold):
    """Film a is shown twice, the second time in part; film b once."""
    tr_s = 2.0
    spans = [Span("a", 0, 120, 0.0), Span("b", 120, 150, 0.0), Span("a", 270, 60, 80.0), Span("b", 330, 90, 300.0)]
    config = SplitConfig(kind=kind, fold=fold, n_folds=4, gap_trs=4, validation_trs=20)
    split = make_split([120, 150, 60, 90], [], config, spans, tr_s)
    train, validation, test = (seconds_of(rows, spans, tr_s) for rows in (split.train, split.validation, split.test))
    assert train and validation and test
    assert not train & test and not train & validation and not validation & test
    if kind == "stimuli":
        assert {stimulus for stimulus, _ in test} == {"ab"[fold]} and {s for s, _ in train} == {"ba"[fold]}


def test_one_scan_cannot_be_left_out():
    with pytest.raises(DataError, match="have only one"):
        make_split((300, 200), (), SplitConfig(kind="scans", usable_trs=300))


def test_a_short_study_is_refused_with_the_arithmetic():
    with pytest.raises(DataError, match=r"of 60 TRs, fold 2 of 5 takes 12 for the test, 7 for validation, 31 for gaps"):
        make_split((30, 30), (), SplitConfig(fold=2))


def test_more_usable_trs_than_there_are_is_refused():
    with pytest.raises(DataError, match=r"usable_trs is 400, but the study has 397"):
        make_split((200, 197), (), SplitConfig(usable_trs=400))


def runs(indices):
    return np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1)
