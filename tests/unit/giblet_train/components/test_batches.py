"""Windows: drawn from seed and step alone, inside blocks, with context from the gap and never from beyond."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from giblet_train.components.batches import windows_of

BLOCKS, SCANS = ((0, 90), (104, 150), (150, 200)), (150, 150)


def windows(blocks=BLOCKS, window_trs=40):
    return windows_of(blocks, SCANS, gap_trs=14, context_trs=12, window_trs=window_trs)


def test_the_same_seed_and_step_give_the_same_windows():
    first, again = windows().sample(1, 7, 16), windows().sample(1, 7, 16)
    assert np.array_equal(first.index_BW, again.index_BW)
    assert not np.array_equal(first.index_BW, windows().sample(1, 8, 16).index_BW)
    assert not np.array_equal(first.index_BW, windows().sample(2, 7, 16).index_BW)


@given(st.integers(0, 2**31), st.integers(0, 10**6), st.integers(14, 80))
def test_scored_trs_lie_in_one_block_and_context_right_before_it(seed, step, window_trs):
    batch = windows(window_trs=window_trs).sample(seed, step, 5)
    for index_W, seen_W, scored_W in zip(batch.index_BW, batch.seen_BW, batch.scored_BW, strict=True):
        scored_trs = index_W[scored_W]
        block = next(b for b in BLOCKS if b[0] <= scored_trs[0] < b[1])
        assert scored_trs[-1] < block[1] and np.array_equal(np.diff(scored_trs), np.ones(len(scored_trs) - 1))
        context = index_W[seen_W & ~scored_W]
        scan_start = 150 if block[0] >= 150 else 0
        assert (context >= max(scan_start, block[0] - 14)).all()
        assert len(context) == 0 or context[-1] == scored_trs[0] - 1


def test_every_training_tr_is_scored_about_as_often():
    counts = np.zeros(300)
    for step in range(2000):
        batch = windows().sample(0, step, 4)
        np.add.at(counts, batch.index_BW[batch.scored_BW], 1)
    inside = np.concatenate([counts[a:b] for a, b in BLOCKS])
    assert counts.sum() == inside.sum()
    assert inside.min() > 0.4 * inside.mean()
    assert inside.max() < 2.0 * inside.mean()


def test_whole_blocks_score_each_tr_once_in_order():
    index = np.concatenate([b.index_BW[b.scored_BW] for b in windows().sequential()])
    assert np.array_equal(index, np.concatenate([np.arange(*b) for b in BLOCKS]))


def test_a_window_longer_than_every_block_is_cut_to_the_longest():
    assert windows(window_trs=500).scored_trs == 90
    short = windows(blocks=((0, 20), (150, 158)), window_trs=500).sample(0, 0, 20)
    assert set(short.scored_BW.sum(axis=1)) == {8, 20}
