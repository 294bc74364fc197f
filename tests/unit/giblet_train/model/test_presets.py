"""Lengths of windows, context and kernel that a configuration leaves to giblet."""

import pytest

from giblet_train.model.presets import shape_of
from giblet_train.schema.config import ModelConfig


def lengths(tr_s=1.5, train_trs=300, **model):
    shape = shape_of(ModelConfig(**model), tr_s, train_trs)
    return shape.window_trs, shape.context_trs, shape.fir_trs


def test_the_kernel_is_40_s_at_any_tr_and_no_longer_than_the_training_trs():
    assert {tr_s: lengths(tr_s)[2] for tr_s in (0.5, 0.8, 1.5, 2.0, 6.0)} == {
        0.5: 64,
        0.8: 50,
        1.5: 27,
        2.0: 20,
        6.0: 8,
    }
    assert lengths(train_trs=14)[2] == 14
    assert lengths(train_trs=14, fir_trs=20)[2] == 20


@pytest.mark.parametrize(("preset", "scored_trs"), [("tiny", 52), ("lab", 116), ("large", 180)])
@pytest.mark.parametrize("tr_s", [0.8, 1.5, 6.0])
def test_a_longer_context_takes_no_scored_tr_of_a_preset(preset, scored_trs, tr_s):
    window_trs, context_trs, fir_trs = lengths(tr_s, preset=preset)
    assert (window_trs - context_trs, context_trs) == (scored_trs, max(12, fir_trs - 1))


@pytest.mark.parametrize("context_trs", [0, 12, 20])
def test_a_configuration_of_an_older_run_keeps_its_windows(context_trs):
    assert lengths(context_trs=context_trs, fir_trs=13) == (64, context_trs, 13)
    assert lengths(context_trs=context_trs, fir_trs=13, window_trs=40) == (40, context_trs, 13)


@pytest.mark.parametrize(("window_trs", "context_trs"), [(1, 0), (13, 6), (24, 12), (64, 26)])
def test_at_most_half_of_a_window_that_is_set_is_context(window_trs, context_trs):
    assert lengths(window_trs=window_trs) == (window_trs, context_trs, 27)
