"""Faults are hooks of the trainer: each begins at its step and is announced in the records."""

import pytest

from giblet_train.diagnosis.fault_catalog import FAULTS
from giblet_train.schema.errors import ConfigError, RunFailed
from giblet_train.schema.records import EventMetric, StepMetric
from giblet_train.schema.schedule import lr_at, lr_schedule
from giblet_train.training.fault_injection import DATA_FAULTS, ENGINE_FAULTS, train_with_fault
from tests.engine_study import load
from tests.unit.giblet_train.training.test_trainer import metrics_of, run_dir_of


def drill_of(run_dir):
    return [e for e in metrics_of(run_dir, EventMetric) if e.name == "drill"]


def test_every_fault_of_the_catalog_is_implemented_or_a_setting():
    faults = {*ENGINE_FAULTS, *DATA_FAULTS}
    assert faults <= set(FAULTS)
    assert all(FAULTS[name].settings for name in set(FAULTS) - faults)


def test_an_unknown_fault_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no drill 'flood'"):
        train_with_fault("flood", tmp_path, load)


def test_targets_turn_into_nan_at_the_announced_step(tmp_path):
    run_dir = run_dir_of(tmp_path, num_epochs=5)
    with pytest.raises(RunFailed, match="loss of audio is not finite at step 40"):
        train_with_fault("nan", run_dir.path, load)
    [event] = drill_of(run_dir)
    assert event.step == 40 and [s.step for s in metrics_of(run_dir, StepMetric)][-1] == 40


def test_the_rate_moves_once_per_epoch(tmp_path):
    run_dir = run_dir_of(tmp_path)
    assert train_with_fault("lr", run_dir.path, load) == 0
    plan = lr_schedule(run_dir.read_config(), 10)
    assert [s.lr for s in metrics_of(run_dir, StepMetric)] == [lr_at(s // 10, plan) for s in range(20)]
    assert len(drill_of(run_dir)) == 1


def test_a_delay_counts_as_the_stage_in_which_it_happens(tmp_path):
    run_dir = run_dir_of(tmp_path, num_epochs=1, steps_per_epoch=5, warmup_steps=2, on_sanity_fail="warn")
    assert train_with_fault("loader", run_dir.path, load) == 0
    assert all(s.times.data_s > 0.19 for s in metrics_of(run_dir, StepMetric))


def test_a_full_disk_is_reported_and_the_run_fails_at_its_end(tmp_path):
    run_dir = run_dir_of(tmp_path, num_epochs=5)
    with pytest.raises(RunFailed, match="no checkpoint could be written: the disk is full"):
        train_with_fault("disk", run_dir.path, load)
    assert "checkpoint_failed" in [e.name for e in metrics_of(run_dir, EventMetric)]
