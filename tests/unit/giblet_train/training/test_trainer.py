"""Training runs in full on a small synthetic study: its records, its end, and its exact resumption."""

import json
import math
import os
import shutil
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from giblet_train.analysis.load_run import load_run
from giblet_train.components.build import TrainingSetup
from giblet_train.components.loss_terms import LossTerms
from giblet_train.components.overfit_batch import overfit_one_batch
from giblet_train.components.train_step import GRADIENT, TrainStep, parameters_without_gradient
from giblet_train.diagnosis.criteria import verdict_of
from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.distributed.process_group import ranks_of
from giblet_train.monitoring.run_end import recorded_end
from giblet_train.schema.config import WatchConfig, content_hash, dump
from giblet_train.schema.errors import ConfigError, DataError, Preempted, PreflightRefused, RunFailed
from giblet_train.schema.records import (
    DataMetric,
    EpochMetric,
    EvaluationMetric,
    EventMetric,
    Heartbeat,
    RunMetric,
    StepMetric,
    decode,
    decode_metrics,
)
from giblet_train.schema.run_dir import RunDir
from giblet_train.schema.schedule import lr_at, lr_schedule
from giblet_train.training import checkpoint_files, trainer
from giblet_train.training import process as train_process
from giblet_train.training.sanity_check import ONE_BATCH_STEPS
from giblet_train.training.stop_signals import StopSignals
from giblet_train.training.train_state import TrainState
from tests.engine_study import ALONE, config, load, split_data
from tests.fork_server import engine_server


def run_dir_of(folder, name="run", **overrides):
    run_dir = RunDir(folder / "runs" / name)
    run_dir.path.mkdir(parents=True)
    run_dir.config.write_text(dump(config(**overrides)))
    return run_dir


def metrics_of(run_dir, kind):
    metrics, n_malformed = decode_metrics(run_dir.metrics.read_bytes().splitlines())
    assert n_malformed == 0
    return [m for m in metrics if isinstance(m, kind)]


def heartbeat_of(run_dir):
    return decode(run_dir.heartbeat.read_bytes(), Heartbeat)


def weights_of(run_dir, step):
    record = next(r for r in checkpoint_files.records_in(run_dir.checkpoints) if r.step == step)
    return checkpoint_files.read(run_dir.checkpoints, record).tensors


def start(run_dir, **environment):
    return engine_server().start([str(run_dir.path)], [os.environ | {"OMP_NUM_THREADS": "1"} | environment])


def wait_for(condition, process, deadline_s=300.0):
    end = time.monotonic() + deadline_s
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    run_dir = run_dir_of(tmp_path_factory.mktemp("work"), num_epochs=3, balance={"every_steps": 5})
    assert train_process.train(run_dir.path, load) == 0
    return run_dir


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Return an uninterrupted run of the default configuration: what an interrupted one must end as."""
    run_dir = run_dir_of(tmp_path_factory.mktemp("work"), "straight")
    assert train_process.train(run_dir.path, load) == 0
    return run_dir


def test_each_step_is_recorded_with_the_planned_rate(finished_run):
    plan = lr_schedule(finished_run.read_config(), 10)
    steps = metrics_of(finished_run, StepMetric)
    assert [s.step for s in steps] == list(range(30))
    assert [s.lr for s in steps] == [lr_at(s, plan) for s in range(30)]
    assert [s.epoch for s in steps] == [plan.epoch_of(s) for s in range(30)]
    for s in steps:
        assert set(s.loss) == set(s.weight) == set(s.share) == {"fmri", "video", "audio", "text"}
        assert sum(s.share.values()) == pytest.approx(1.0)
        assert s.total == pytest.approx(sum(s.weight[c] * s.loss[c] for c in s.loss))
        assert s.gradient_norm >= 0 and s.rss_gib > 0
        laps = (s.times.data_s, s.times.forward_s, s.times.backward_s, s.times.communication_s, s.times.optimizer_s)
        assert sum(laps) == pytest.approx(s.step_s) and min(laps) >= 0


def test_gradient_shares_are_null_until_balancing_begins(finished_run):
    shares = {s.step: s.gradient_share for s in metrics_of(finished_run, StepMetric)}
    assert [step for step, share in shares.items() if share] == [5, 10, 15, 20, 25]
    assert all(sum(s.values()) == pytest.approx(1.0) for s in shares.values() if s)


def test_every_component_starts_at_one_and_falls(finished_run):
    run = metrics_of(finished_run, RunMetric)[0]
    assert run.first_loss == pytest.approx(dict.fromkeys(("fmri", "video", "audio", "text"), 1.0), rel=1e-5)
    assert run.start_total == pytest.approx(2.0)
    assert run.steps_per_epoch == 10 and run.total_steps == 30 and run.warmup_steps == 4
    epochs = metrics_of(finished_run, EpochMetric)
    assert [e.epoch for e in epochs] == [1, 2, 3]
    assert epochs[-1].train.total < epochs[0].train.total < 2.05
    steps = metrics_of(finished_run, StepMetric)
    assert epochs[1].train.loss["fmri"] == pytest.approx(np.mean([s.loss["fmri"] for s in steps[10:20]]))


def test_a_checkpoint_at_the_end_of_an_epoch_belongs_to_it(finished_run):
    records = checkpoint_files.records_in(finished_run.checkpoints)
    assert records
    assert {r.step: r.epoch for r in records} == {r.step: r.step // 10 for r in records}


def test_the_order_of_records_and_the_end(finished_run):
    metrics, _ = decode_metrics(finished_run.metrics.read_bytes().splitlines())
    kinds = [type(m) for m in metrics]
    assert kinds.index(DataMetric) < kinds.index(RunMetric) < kinds.index(StepMetric)
    assert [m.seq for m in metrics] == list(range(len(metrics)))
    beat = heartbeat_of(finished_run)
    assert (beat.state, beat.step, beat.epoch, beat.last_checkpoint_step) == ("finished", 30, 3, 30)
    evaluation = metrics_of(finished_run, EvaluationMetric)[0]
    figures = {"r_responsive", "r_null", "r_difference_low", "null_r_99", "null_stretches", "r_ridge", "r_ceiling"}
    assert figures | {"r_average_subject"} <= set(evaluation.encoding)
    assert set(evaluation.decoding) == {"predicted", "measured", "linear", "ridge"}
    assert all(math.isfinite(v) for v in evaluation.skill.values())


def test_the_best_checkpoint_has_the_best_encoding_and_the_best_film(finished_run):
    epochs = metrics_of(finished_run, EpochMetric)
    record = checkpoint_files.newest(finished_run.checkpoints, checkpoint_files.BEST)
    # The first checkpoint carries the weights before training, if no epoch is better than these.
    assert record.step == [epochs[0].step, *(e.step for e in epochs if e.best)][-1]
    state = checkpoint_files.read(finished_run.checkpoints, record).state
    first = state["start_scores"]
    gains = [sum(max(-e.validation.loss[m] / 3 - first[m], 0.0) for m in ("video", "audio", "text")) for e in epochs]
    assert state["best_scores"]["film"] == pytest.approx(max(0.0, *gains), rel=1e-4)
    start = next(e for e in metrics_of(finished_run, EventMetric) if e.name == "ridge_start")
    assert state["best_scores"]["fmri"] >= start.facts["validation_r"]
    assert record.config_hash == content_hash(finished_run.read_config()) and record.store_key == "synthetic"


def test_the_human_log_has_the_labs_lines(tmp_path, capsys):
    train_process.train(run_dir_of(tmp_path, num_epochs=1, warmup_steps=2).path, load)
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("Epoch 1/1"))
    assert [part.split(":")[0] for part in line.split(" | ")[1:5]] == ["Train Loss", "Val Loss", "fMRI Corr", "LR"]


def test_it_learns_what_follows_the_film(tmp_path):
    run_dir = run_dir_of(
        tmp_path,
        num_epochs=15,
        steps_per_epoch=20,
        learning_rate=5e-3,
        model={"bottleneck_dim": 12},
        criteria={"drop": {"kind": "loss_drop", "threshold": 0.1}, "null": {"kind": "beats_null", "threshold": 0.05}},
    )
    train_process.train(run_dir.path, load)
    evaluation = metrics_of(run_dir, EvaluationMetric)[0]
    assert evaluation.encoding["r_responsive"] > 0.25
    assert evaluation.encoding["r_difference_low"] > 0.05
    assert abs(evaluation.encoding["r_null"]) < 0.06
    metrics, _ = decode_metrics(run_dir.metrics.read_bytes().splitlines())
    assert verdict_of(run_dir.read_config(), metrics, recorded_end(run_dir, WatchConfig())).status == "pass"


def test_a_stop_file_ends_it_at_a_step_with_a_checkpoint(tmp_path):
    run_dir = run_dir_of(tmp_path, num_epochs=400)
    process = start(run_dir)
    wait_for(lambda: run_dir.heartbeat.exists() and heartbeat_of(run_dir).step > 3, process)
    run_dir.stop.touch()
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    beat = heartbeat_of(run_dir)
    assert beat.state == "stopped" and checkpoint_files.newest(run_dir.checkpoints).step == beat.step
    assert "stopped" in [e.name for e in metrics_of(run_dir, EventMetric)]


def test_a_rank_that_has_finished_does_not_fail_if_a_request_made_another_leave(tmp_path):
    def closed():
        raise RunFailed("Another process of this run is gone.", "Run `giblet why`.")

    run_dir = RunDir(tmp_path)
    ranks = SimpleNamespace(barrier=closed)
    finished_trainer = SimpleNamespace(ranks=ranks, stop_signals=StopSignals(run_dir, ALONE))
    with pytest.raises(RunFailed):
        trainer.Trainer._await_other_ranks(finished_trainer)
    run_dir.stop.touch()
    trainer.Trainer._await_other_ranks(finished_trainer)


@pytest.mark.parametrize(("phase", "ends"), [("refit", "stop"), ("evaluation", "terminate")])
def test_a_stop_request_after_the_last_step_is_obeyed_and_resumed(tmp_path, monkeypatch, phase, ends):
    """The last fit and the evaluation may take long; an endless loop stands for them."""
    run_dir = run_dir_of(tmp_path, num_epochs=1)
    began = []

    def last_without_end(*arguments):
        began.append(time.monotonic())
        run_dir.stop.touch() if ends == "stop" else os.kill(os.getpid(), signal.SIGTERM)
        while time.monotonic() < began[0] + 60.0:
            time.sleep(0.01)
        pytest.fail("the request was not obeyed")

    with monkeypatch.context() as patch:
        place = (trainer, "refit") if phase == "refit" else (trainer.Evaluator, "evaluation")
        patch.setattr(*place, last_without_end)
        assert train_process.train(run_dir.path, load) == (0 if ends == "stop" else trainer.PREEMPTED)
    assert heartbeat_of(run_dir).state == "stopped"
    assert "before the evaluation had ended; all 10 steps are saved" in heartbeat_of(run_dir).why
    assert not metrics_of(run_dir, EvaluationMetric)
    run_dir.stop.unlink(missing_ok=True)
    assert train_process.train(run_dir.path, load) == 0
    assert metrics_of(run_dir, EvaluationMetric) and heartbeat_of(run_dir).state == "finished"


def test_told_to_terminate_and_resumed_it_ends_with_the_same_bits(tmp_path):
    overrides = {"num_epochs": 4, "early_stopping_patience": None}
    straight = run_dir_of(tmp_path, "straight", **overrides)
    assert train_process.train(straight.path, load) == 0
    broken_run = run_dir_of(tmp_path, "broken", **overrides)
    process = start(broken_run)
    wait_for(lambda: broken_run.metrics.exists() and b'"kind":"step"' in broken_run.metrics.read_bytes(), process)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == trainer.PREEMPTED, out
    at = checkpoint_files.newest(broken_run.checkpoints).step
    assert 0 < at < 40
    resumed_run = run_dir_of(tmp_path, "resumed", **overrides, resume_from="broken")
    assert train_process.train(resumed_run.path, load) == 0
    ours, theirs = weights_of(straight, 40), weights_of(resumed_run, 40)
    assert set(ours) == set(theirs)
    assert [n for n in ours if not torch.equal(ours[n], theirs[n])] == []
    losses = {s.step: (s.total, s.loss, s.gradient_norm) for s in metrics_of(straight, StepMetric)}
    assert {s.step: (s.total, s.loss, s.gradient_norm) for s in metrics_of(resumed_run, StepMetric)} == losses
    assert [run.resumed_from_step for run in metrics_of(resumed_run, RunMetric)] == [None, at]
    epochs = {
        name: [(e.epoch, e.train, e.validation, e.best) for e in metrics_of(run_dir, EpochMetric)]
        for name, run_dir in (("straight", straight), ("resumed", resumed_run))
    }
    assert epochs["straight"] == epochs["resumed"]
    lines = decode_metrics(resumed_run.metrics.read_bytes().splitlines())[0]
    assert [metric.seq for metric in lines] == list(range(len(lines)))


def test_a_restart_in_its_own_directory_continues_mid_epoch(tmp_path, monkeypatch, straight):
    broken_run = run_dir_of(tmp_path, "broken")
    note = trainer.Trainer._log_step

    def interrupted(self, stepped):
        note(self, stepped)
        self.stop_signals.terminate_requested = self.state.step >= 10

    monkeypatch.setattr(trainer.Trainer, "_log_step", interrupted)
    assert train_process.train(broken_run.path, load) == trainer.PREEMPTED
    assert checkpoint_files.newest(broken_run.checkpoints).step == 12
    monkeypatch.undo()
    assert train_process.train(broken_run.path, load) == 0
    assert all(torch.equal(weights_of(straight, 20)[n], t) for n, t in weights_of(broken_run, 20).items())


def test_killed_it_resumes_from_the_checkpoint_before(tmp_path, straight):
    broken_run = run_dir_of(tmp_path, "broken", save_every=1)
    process = start(broken_run, GIBLET_CRASH_AT="checkpoint-retired")
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert train_process.train(broken_run.path, load) == 0
    assert all(torch.equal(weights_of(straight, 20)[n], t) for n, t in weights_of(broken_run, 20).items())


def test_other_threads_are_reported_as_rounding(tmp_path, straight):
    run_dir = run_dir_of(tmp_path, "threads", threads=2)
    shutil.copytree(straight.checkpoints, run_dir.checkpoints)
    assert train_process.train(run_dir.path, load) == 0
    [sentence] = [e.sentence for e in metrics_of(run_dir, EventMetric) if e.name == "resumed"]
    assert "It ran with threads: 1: from here on results are equal within rounding" in sentence


def test_another_configuration_is_not_resumed(tmp_path):
    train_process.train(run_dir_of(tmp_path, "old", num_epochs=1, warmup_steps=2).path, load)
    new = run_dir_of(tmp_path, "new", num_epochs=1, warmup_steps=2, learning_rate=1e-4, resume_from="old")
    with pytest.raises(ConfigError, match=r"learning_rate: 0\.002 there, 0\.0001 here"):
        train_process.train(new.path, load)
    assert heartbeat_of(new).state == "failed" and "learning_rate" in heartbeat_of(new).why


def test_a_loss_that_is_not_finite_is_named_and_the_weights_stay_good(tmp_path, monkeypatch):
    run_dir = run_dir_of(tmp_path)
    terms = LossTerms.terms
    calls = []

    def poisoned(self, forward, *rest):
        losses = terms(self, forward, *rest)
        if forward.z_BWK.requires_grad:
            calls.append(1)
        return losses | {"audio": losses["audio"] * math.nan} if len(calls) == 13 + ONE_BATCH_STEPS else losses

    monkeypatch.setattr(LossTerms, "terms", poisoned)
    with pytest.raises(RunFailed, match=r"loss of audio is not finite at step 12 on rank 0; the checkpoint of step 10"):
        train_process.train(run_dir.path, load)
    beat = heartbeat_of(run_dir)
    assert beat.state == "failed" and "audio" in beat.why and beat.step == 12
    assert metrics_of(run_dir, StepMetric)[-1].loss["audio"] is None
    checkpoint = checkpoint_files.read(run_dir.checkpoints, checkpoint_files.newest(run_dir.checkpoints))
    assert all(torch.isfinite(t).all() for t in checkpoint.tensors.values())


def test_a_gradient_that_is_not_finite_is_not_called_a_loss(tmp_path, monkeypatch):
    run_dir = run_dir_of(tmp_path)
    descent = TrainStep._descent
    monkeypatch.setattr(
        TrainStep,
        "_descent",
        lambda self, batch, step, *rest: replace(
            descent(self, batch, step, *rest), not_finite=((GRADIENT, 0),) if step == 3 else ()
        ),
    )
    with pytest.raises(RunFailed, match=r"^The gradient is not finite at step 3, though every loss is\."):
        train_process.train(run_dir.path, load)


def test_minute_one_stops_what_cannot_work(tmp_path):
    def raw_units(config, workdir, progress):
        data = split_data()
        bold = {s: x + 1000.0 for s, x in data.bold.items()}
        object.__setattr__(data, "bold", bold)
        return data

    run_dir = run_dir_of(tmp_path, "stops")
    with pytest.raises(RunFailed, match="fmri starts at"):
        train_process.train(run_dir.path, raw_units)
    assert metrics_of(run_dir, StepMetric) == []
    warning_run = run_dir_of(tmp_path, "warns", num_epochs=1, warmup_steps=2, on_sanity_fail="warn")
    assert train_process.train(warning_run.path, raw_units) == 0
    assert [e.level for e in metrics_of(warning_run, EventMetric) if e.name == "sanity"] == ["warning"]


def test_minute_one_reports_what_it_saw_and_leaves_no_trace(tmp_path):
    data, cfg = split_data(), config()
    train_step = TrainingSetup.build(cfg, data, ALONE).train_step
    before = {name: tensor.clone() for name, tensor in train_step.tensors().items()}
    overfit = overfit_one_batch(train_step, 10)
    assert 1.5 < overfit.first < 2.1, "ridge, which it starts from, is better than the mean"
    assert overfit.last < 0.999 * overfit.first
    assert all(torch.equal(tensor, before[name]) for name, tensor in train_step.tensors().items())
    run_dir = run_dir_of(tmp_path, "tells", num_epochs=1, warmup_steps=2)
    train_process.train(run_dir.path, load)
    [sentence] = [e.sentence for e in metrics_of(run_dir, EventMetric) if e.name == "minute_one"]
    for part in ("audio: 1 targets", "rate: 2.00e-04", "disk:", "one batch, 10 times"):
        assert part in sentence
    slow = run_dir_of(tmp_path, "slow", learning_rate=1e-9)
    with pytest.raises(RunFailed, match="Not even one batch is learnt"):
        train_process.train(slow.path, load)


def test_a_step_without_gradient_names_its_parameters():
    model = torch.nn.ModuleDict({"used": torch.nn.Linear(2, 1), "idle": torch.nn.Linear(2, 1)})
    model["used"](torch.ones(1, 2)).sum().backward()
    assert parameters_without_gradient(model) == ["idle.weight", "idle.bias"]


def test_what_is_held_out_and_trained_on_stops_in_minute_one(tmp_path):
    def leaky(config, workdir, progress):
        data = split_data()
        return replace(data, split=replace(data.split, validation_blocks=data.split.train_blocks[:1]))

    run_dir = run_dir_of(tmp_path, "leaks")
    with pytest.raises(RunFailed, match="90 TRs are both trained on and held out"):
        train_process.train(run_dir.path, leaky)
    [data] = metrics_of(run_dir, DataMetric)
    assert [c.cause for c in diagnose(config(), [data]).causes] == ["leak"]


def test_an_end_that_could_not_be_saved_is_a_failure(tmp_path, monkeypatch):
    run_dir = run_dir_of(tmp_path, num_epochs=2)
    save = checkpoint_files.CheckpointDir.save

    def full_later(self, *args, **kwargs):
        if kwargs["step"] > 10:
            raise OSError(28, "No space left on device")
        return save(self, *args, **kwargs)

    monkeypatch.setattr(checkpoint_files.CheckpointDir, "save", full_later)
    with pytest.raises(RunFailed, match="ended, but since step 10 no checkpoint could be written: the disk is full"):
        train_process.train(run_dir.path, load)


def test_a_disk_that_is_full_is_reported_and_survived(tmp_path, monkeypatch):
    run_dir = run_dir_of(tmp_path)
    save, calls = checkpoint_files.CheckpointDir.save, []

    def full_once(self, *args, **kwargs):
        calls.append(kwargs["step"])
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        return save(self, *args, **kwargs)

    monkeypatch.setattr(checkpoint_files.CheckpointDir, "save", full_once)
    assert train_process.train(run_dir.path, load) == 0
    event = next(e for e in metrics_of(run_dir, EventMetric) if e.name == "checkpoint_failed")
    assert event.level == "error" and "the disk is full" in event.sentence and "Training continues" in event.sentence
    assert checkpoint_files.newest(run_dir.checkpoints).step == 20


def test_early_stopping_ends_it_and_the_best_is_judged(tmp_path):
    run_dir = run_dir_of(tmp_path, num_epochs=30, early_stopping_patience=1, early_stopping_delta=10.0, save_every=30)
    assert train_process.train(run_dir.path, load) == 0
    # The untrained network was the first candidate.
    assert [e.epoch for e in metrics_of(run_dir, EpochMetric)] == [1]
    assert "early_stop" in [e.name for e in metrics_of(run_dir, EventMetric)]
    assert heartbeat_of(run_dir).why.startswith("stopped early at step 10: ")
    assert metrics_of(run_dir, EvaluationMetric)
    # Killed while it was judged and started again, it has no more patience than before.
    assert train_process.train(run_dir.path, load) == 0
    assert [s.step for s in metrics_of(run_dir, StepMetric)] == list(range(10))
    assert heartbeat_of(run_dir).why.startswith("stopped early at step 10: ")
    first, second = metrics_of(run_dir, EvaluationMetric)
    assert second.encoding == first.encoding


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: data[:-1] + bytes([data[-1] ^ 1])])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_ends_in_the_same_bits(tmp_path, straight, damage):
    run_dir = run_dir_of(tmp_path, "damaged")
    shutil.copytree(straight.checkpoints, run_dir.checkpoints)
    for record in checkpoint_files.records_in(run_dir.checkpoints):
        if record.step == 20:
            path = run_dir.checkpoints / record.file
            path.write_bytes(damage(path.read_bytes()))
    assert train_process.train(run_dir.path, load) == 0
    [event] = [e for e in metrics_of(run_dir, EventMetric) if e.name == "checkpoint_damaged"]
    assert event.level == "error" and "checksum differs" in event.sentence and "Resumed from step 10" in event.sentence
    assert all(torch.equal(weights_of(straight, 20)[n], t) for n, t in weights_of(run_dir, 20).items())


def test_without_a_whole_checkpoint_it_is_refused_and_nothing_is_removed(tmp_path, straight):
    run_dir = run_dir_of(tmp_path, "damaged")
    shutil.copytree(straight.checkpoints, run_dir.checkpoints)
    files = sorted(run_dir.checkpoints.glob("*.safetensors"))
    for path in files:
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"no checkpoint to resume from: .*step-00000020\.safetensors is damaged"):
        train_process.train(run_dir.path, load)
    assert sorted(run_dir.checkpoints.glob("*.safetensors")) == files


def test_asked_to_leave_where_an_epoch_ends_its_checkpoint_stays_the_best(tmp_path, monkeypatch):
    overrides = {"num_epochs": 3, "early_stopping_delta": 10.0, "early_stopping_patience": None}
    straight = run_dir_of(tmp_path, "straight", **overrides)
    assert train_process.train(straight.path, load) == 0
    broken_run = run_dir_of(tmp_path, "broken", **overrides)
    note = trainer.Trainer._log_step

    def interrupted(self, stepped):
        note(self, stepped)
        stepped.stop_requests["terminate"] = self.state.step == 9

    monkeypatch.setattr(trainer.Trainer, "_log_step", interrupted)
    assert train_process.train(broken_run.path, load) == trainer.PREEMPTED
    monkeypatch.undo()
    [record] = checkpoint_files.records_in(broken_run.checkpoints)
    assert (record.step, set(record.roles)) == (
        10,
        {"last", "best", "periodic"},
    ) and record.validation_total is not None
    assert train_process.train(broken_run.path, load) == 0
    [ours], [theirs] = metrics_of(broken_run, EvaluationMetric), metrics_of(straight, EvaluationMetric)
    assert ours.encoding == theirs.encoding


@pytest.mark.parametrize("lost_file", [10, 20])
def test_a_checkpoint_whose_record_is_damaged_is_reported(tmp_path, straight, lost_file):
    run_dir = run_dir_of(tmp_path, "damaged")
    shutil.copytree(straight.checkpoints, run_dir.checkpoints)
    (run_dir.checkpoints / f"step-000000{lost_file}.json").write_text("{")
    assert train_process.train(run_dir.path, load) == 0
    [event] = [e for e in metrics_of(run_dir, EventMetric) if e.name == "checkpoint_damaged"]
    assert f"step-000000{lost_file}.json cannot be read" in event.sentence
    assert f"Resumed from step {30 - lost_file}" in event.sentence
    assert all(torch.equal(weights_of(straight, 20)[n], t) for n, t in weights_of(run_dir, 20).items())


def test_where_no_record_can_be_read_nothing_starts_from_zero(tmp_path, straight):
    run_dir = run_dir_of(tmp_path, "damaged")
    shutil.copytree(straight.checkpoints, run_dir.checkpoints)
    for path in run_dir.checkpoints.glob("*.json"):
        path.write_text("{")
    with pytest.raises(DataError, match=r"no checkpoint to resume from: .*step-00000010\.json cannot be read"):
        train_process.train(run_dir.path, load)
    assert not metrics_of(run_dir, StepMetric)


def encoding_scores(monkeypatch, scores):
    """Replace the validation score of the encoding at some steps."""
    record = TrainState.record_validation

    def recorded(self, validation, delta):
        new_scores = dict.fromkeys(validation.scores, 0.0) | {"fmri": scores[self.step]}
        return record(self, replace(validation, scores=new_scores), delta)

    monkeypatch.setattr(TrainState, "record_validation", recorded)


def test_every_checkpoint_carries_the_best_weights(tmp_path, monkeypatch):
    """The checkpoint of the best step is gone, and a resumed run still ends with its weights."""
    encoding_scores(monkeypatch, {0: 0.1, 10: 0.3, 20: 0.2, 30: 0.2})
    old = run_dir_of(tmp_path, "old", num_epochs=3)
    assert train_process.train(old.path, load) == 0
    new = run_dir_of(tmp_path, "new", num_epochs=3, resume_from=str(old.checkpoints / "step-00000020.safetensors"))
    for path in old.checkpoints.glob("step-00000010.*"):
        path.unlink()
    assert train_process.train(new.path, load) == 0
    ours, theirs = weights_of(old, 30), weights_of(new, 30)
    assert all(torch.equal(ours[n], theirs[n]) for n in ours)
    [ours], [theirs] = metrics_of(old, EvaluationMetric), metrics_of(new, EvaluationMetric)
    assert ours.encoding == theirs.encoding
    assert checkpoint_files.newest(new.checkpoints, checkpoint_files.BEST).step == 30


def test_a_modality_that_overfits_does_not_keep_the_others_at_their_start(tmp_path, monkeypatch):
    """Text is never better than at the start, and audio no more at step 30."""
    gains = {10: (1.0, -1.0, -2.0), 20: (1.2, 0.5, -2.0), 30: (3.0, -0.5, -2.0)}
    record = TrainState.record_validation

    def recorded(self, validation, delta):
        own = dict(zip(("video", "audio", "text"), gains.get(self.step, (0.0, 0.0, 0.0)), strict=True))
        return record(self, replace(validation, scores=own | {"fmri": 0.0}), delta)

    monkeypatch.setattr(TrainState, "record_validation", recorded)
    run_dir = run_dir_of(tmp_path, num_epochs=3)
    assert train_process.train(run_dir.path, load) == 0
    best, averages = weights_of(run_dir, 30), {step: weights_of(run_dir, step) for step in (10, 20, 30)}
    for modality, step in (("video", 30), ("audio", 20)):
        names = [n for n in best if n.startswith("best.decoders.") and f".{modality}." in n]
        assert len(names) == 4
        for name in names:
            same = {s: torch.equal(best[name], averages[s][name.replace("best.", "average.")]) for s in averages}
            assert same == {s: s == step for s in averages}
    start = TrainingSetup.build(config(num_epochs=3), split_data(), ALONE).train_step.model.decoders.state_dict()
    assert torch.equal(best["best.decoders.maps.text.weight"], start["maps.text.weight"])


def test_a_best_that_a_full_disk_did_not_take_is_in_the_next_checkpoint(tmp_path, monkeypatch):
    run_dir = run_dir_of(tmp_path, num_epochs=4, early_stopping_patience=None)
    encoding_scores(monkeypatch, {0: 0.1, 10: 0.2, 20: 0.4, 30: 0.3, 40: 0.35})
    save = checkpoint_files.CheckpointDir.save

    def full_at_20(self, *args, **kwargs):
        if kwargs["step"] == 20:
            raise OSError(28, "No space left on device")
        return save(self, *args, **kwargs)

    monkeypatch.setattr(checkpoint_files.CheckpointDir, "save", full_at_20)
    assert train_process.train(run_dir.path, load) == 0
    assert [e.best for e in metrics_of(run_dir, EpochMetric)] == [True, True, False, False]
    record = checkpoint_files.newest(run_dir.checkpoints, checkpoint_files.BEST)
    checkpoint = checkpoint_files.read(run_dir.checkpoints, record)
    assert (record.step, checkpoint.state["best_step"]) == (30, 20)


def test_a_run_whose_training_does_not_help_ends_as_its_start(tmp_path, monkeypatch):
    run_dir = run_dir_of(tmp_path, learning_rate=0.05)
    encoding_scores(monkeypatch, {0: 0.5, 10: 0.3, 20: 0.2})
    assert train_process.train(run_dir.path, load) == 0
    tensors = weights_of(run_dir, 20)
    heads = [n for n in tensors if n.startswith("best.heads.parts.")]
    assert heads and not any(tensors[n].any() for n in heads)
    assert any(tensors[n.replace("best.", "average.")].any() for n in heads)


def loaded_r(run_dir, role="best"):
    """Return the TRs of the refit and r on the test block of a run as `evaluate` loads it."""
    run = load_run(run_dir.path, role, load, lambda *_: None)
    return run.setup.refit_trs, run.evaluator.evaluation(run.model, lambda: None)["encoding"]["r_responsive"]


def best_of(run_dir):
    return checkpoint_files.newest(run_dir.checkpoints, checkpoint_files.BEST)


def test_a_run_that_ends_is_refitted_and_loaded_as_it_was_evaluated(finished_run):
    [event] = [e for e in metrics_of(finished_run, EventMetric) if e.name == "refit"]
    [evaluation] = metrics_of(finished_run, EvaluationMetric)
    assert event.facts["trs"] == best_of(finished_run).refit_trs == 212
    assert evaluation.encoding["refit_trs"] == 212
    assert loaded_r(finished_run) == (212, evaluation.encoding["r_responsive"])
    assert loaded_r(finished_run, "last")[0] == 0


def test_a_run_that_does_not_end_keeps_the_initialisation_of_its_training_trs(tmp_path, monkeypatch, straight):
    broken_run = run_dir_of(tmp_path, "broken")

    def interrupted(*_):
        raise RunFailed("Killed while it refits.", "")

    monkeypatch.setattr(trainer, "refit", interrupted)
    with pytest.raises(RunFailed):
        train_process.train(broken_run.path, load)
    monkeypatch.undo()
    assert best_of(broken_run).refit_trs is None
    assert loaded_r(broken_run)[0] == 0
    assert train_process.train(broken_run.path, load) == 0
    (ours,), (theirs,) = (metrics_of(run_dir, EvaluationMetric) for run_dir in (straight, broken_run))
    assert (ours.encoding, ours.decoding) == (theirs.encoding, theirs.decoding)


def test_a_run_that_continues_from_a_finished_one_has_not_ended(finished_run, tmp_path):
    folder = checkpoint_files.CheckpointDir(tmp_path / "checkpoints", 1)
    folder.import_best(finished_run.checkpoints, best_of(finished_run))
    assert checkpoint_files.newest(folder.folder, checkpoint_files.BEST).refit_trs is None


def test_without_an_initialisation_the_best_weights_are_evaluated_as_they_are(tmp_path):
    run_dir = run_dir_of(tmp_path, model={"start": "zero"})
    assert train_process.train(run_dir.path, load) == 0
    assert best_of(run_dir).refit_trs is None
    assert not [e for e in metrics_of(run_dir, EventMetric) if e.name == "refit"]
    [evaluation] = metrics_of(run_dir, EvaluationMetric)
    assert "refit_trs" not in evaluation.encoding
    assert loaded_r(run_dir) == (0, evaluation.encoding["r_responsive"])


def test_told_to_terminate_while_it_loads_it_leaves_as_preempted(tmp_path):
    def told(config, workdir, progress):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)  # the signal ends it
        raise AssertionError

    run_dir = run_dir_of(tmp_path)
    with pytest.raises(Preempted) as error:
        train_process.train(run_dir.path, told)
    assert error.value.exit_code == trainer.PREEMPTED
    beat = heartbeat_of(run_dir)
    assert (beat.state, beat.phase) == ("stopped", "preempted") and "before the first step" in beat.why
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints"])
def test_a_run_directory_that_cannot_be_written_is_refused_in_words(tmp_path, name):
    run_dir = run_dir_of(tmp_path)
    (run_dir.path / name).symlink_to("/proc/nothing/there")
    with pytest.raises(PreflightRefused, match=rf"{name} cannot be written: "):
        train_process.train(run_dir.path, load)


@pytest.mark.parametrize(
    "overrides",
    [
        {"model": {"compress": "none"}, "fmri_loss_type": "mae"},
        {"model": {"compress": "none"}, "fmri_loss_type": "correlation"},
        {"model": {"compress": "per_subject"}, "accumulate_steps": 2},
        {"balance": {"kind": "gradnorm", "every_steps": 2}},
        {"balance": {"kind": "uncertainty"}},
        {"scheduler_type": "step", "gradient_clip_val": None, "ema_decay": 0.0, "validate_every": 2},
        {"model": {"kind": "dense", "compress": "none", "start": "zero", "head_width": 32, "context_trs": 0}},
        {"losses": {"scale": "std"}, "model": {"n_layers": 0}},
    ],
    ids=str,
)
def test_each_variant_trains_and_falls(tmp_path, overrides):
    run_dir = run_dir_of(tmp_path, **overrides)
    assert train_process.train(run_dir.path, load) == 0
    epochs = metrics_of(run_dir, EpochMetric)
    assert epochs[-1].train.total < epochs[0].train.total
    first = metrics_of(run_dir, RunMetric)[0].first_loss
    assert first == pytest.approx(dict.fromkeys(first, 1.0), abs=0.02)


@pytest.mark.parametrize("balance", ["fixed", "uncertainty"])
def test_accumulation_changes_nothing(tmp_path, balance):
    overrides = {"balance": {"kind": balance}}
    whole = run_dir_of(tmp_path, "whole", **overrides)
    pieces = run_dir_of(tmp_path, "pieces", **overrides, accumulate_steps=3)
    for run_dir in (whole, pieces):
        train_process.train(run_dir.path, load)
    np.testing.assert_allclose(
        [s.total for s in metrics_of(pieces, StepMetric)], [s.total for s in metrics_of(whole, StepMetric)], rtol=1e-4
    )


def test_more_ranks_and_passes_than_windows_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="batch_size 4 cannot be shared by 1 rank"):
        train_process.train(run_dir_of(tmp_path, accumulate_steps=5).path, load)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"batch_size": 100_000}, r"batch_size 100000 is more windows than the 186 training TRs can begin\."),
        ({"model": {"fir_trs": 1000}}, r"model\.fir_trs 1000 is longer than all 186 training TRs\."),
    ],
)
def test_what_is_larger_than_the_data_is_refused_before_any_work(tmp_path, overrides, sentence):
    with pytest.raises(ConfigError, match=sentence):
        train_process.train(run_dir_of(tmp_path, **overrides).path, load)


def test_gpus_cannot_be_linked_where_none_is(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    two_ranks = config(device="cpu", distributed={"world_size": 2, "backend": "nccl"})
    with pytest.raises(ConfigError, match="nccl links GPUs"), ranks_of(two_ranks):
        pass


def test_a_window_too_short_to_correlate_is_refused(tmp_path):
    model = {"compress": "none", "context_trs": 0, "window_trs": 1}
    with pytest.raises(ConfigError, match=r"a window here has 1 scored TR\(s\)"):
        train_process.train(run_dir_of(tmp_path, model=model, fmri_loss_type="correlation").path, load)


@pytest.mark.parametrize(("scale", "above_variance"), [("variance", False), ("std", True), ("none", True)])
def test_an_absolute_error_is_scaled_as_configured(scale, above_variance):
    """Of z-scored responses the mean absolute deviation is below the standard deviation, which is 1."""
    data = split_data()
    setup = TrainingSetup.build(
        config(model={"compress": "none"}, fmri_loss_type="mae", losses={"scale": scale}), data, ALONE
    )
    targets, divisor = setup.train_step.objective.targets, setup.train_step.objective.scales["fmri"]
    assert (divisor > targets.deviation) == above_variance
    assert divisor == pytest.approx(1.0 if above_variance else targets.deviation, rel=1e-3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this node has a GPU")
def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="torch sees 0"):
        train_process.train(run_dir_of(tmp_path, device="cuda").path, load)


def test_checkpoints_carry_what_they_need_to_be_read_alone(finished_run):
    checkpoint = checkpoint_files.read(finished_run.checkpoints, checkpoint_files.newest(finished_run.checkpoints))
    assert checkpoint.config == finished_run.read_config()
    assert {name.split(".")[0] for name in checkpoint.tensors} == {"model", "average", "best", "optimizer", "balance"}
    assert json.loads(json.dumps(checkpoint.state))["step"] == 30
