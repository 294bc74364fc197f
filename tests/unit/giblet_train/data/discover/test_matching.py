"""Stimuli that runs follow: what a table of events states comes before an accidental likeness."""

from __future__ import annotations

import numpy as np

from giblet_train.data.discover.groups import Group
from giblet_train.data.discover.matching import CERTAIN_SDS, Expectation, Hit, _is_complete, _select_hits
from giblet_train.data.statistics.alignment import Curve, response_weights


def curve(lag_trs: int, height: float) -> Curve:
    lags_L = np.arange(-70, 71)
    scores_L = np.random.default_rng(lag_trs).standard_normal(len(lags_L)).clip(-2, 2)
    scores_L[lags_L == lag_trs] = height
    return Curve(lags_L, scores_L)


def test_a_weak_peak_at_an_odd_time_does_not_overrule_a_stated_onset() -> None:
    group = Group(("", "dune", ""), (), 0, np.zeros((76, 4), np.float32))
    stimuli = {name: np.zeros((60, 3)) for name in ("dune", "solaris")}
    expected = Expectation((Hit("dune", 7, 0.0, False),), (7,), is_stated=True)
    odd = Hit("solaris", 48, CERTAIN_SDS + 0.5, True)
    assert not _is_complete(odd, group, stimuli)
    curves = {"dune": curve(7, 5.5), "solaris": curve(48, 7.0)}
    assert [hit.stimulus for hit in _select_hits(group, expected, curves, stimuli, 1.5)] == ["dune"]
    assert [h.stimulus for h in _select_hits(group, Expectation((), ()), curves, stimuli, 1.5)] == ["solaris"]


def test_a_stimulus_that_never_changes_has_no_weights() -> None:
    assert not response_weights(np.zeros((70, 3)), np.ones((70, 4))).any()
