"""Runs averaged fold by fold, and the queue that trains those that are missing."""

import json
import os
import shutil
import signal
import sys
import threading
import time

import numpy as np
import pytest

from giblet_train.analysis.ensemble import (
    BOTH,
    ENSEMBLE,
    FIRST,
    MEMBER,
    POOLED,
    RIDGE,
    lines_of,
    report,
    score_folds,
    series_of,
)
from giblet_train.analysis.load_run import load_run
from giblet_train.distributed.local_queue import train_all, train_missing_members, visible
from giblet_train.schema.config import dump
from giblet_train.schema.errors import ConfigError, Preempted, RunFailed
from giblet_train.schema.run_dir import RunDir
from giblet_train.training import process
from tests.engine_study import config, load


def quiet(*_):
    pass


def run_dir_of(folder, name, **overrides):
    run_dir = RunDir(folder / "runs" / name)
    run_dir.path.mkdir(parents=True)
    run_dir.config.write_text(dump(config(**overrides)))
    return run_dir.path


def read_config(path):
    return RunDir(path).read_config()


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    paths = [run_dir_of(folder, f"seed-{seed}", seed=seed, num_epochs=1, steps_per_epoch=6) for seed in range(2)]
    for path in paths:
        assert process.train(path, load) == 0
    return paths


@pytest.fixture(scope="module")
def folds(members):
    return score_folds(members, "best", load, quiet)


def test_the_ensemble_is_the_mean_of_what_its_members_predict(members, folds):
    (fold,) = folds
    assert fold.members == ("seed-0", "seed-1")
    mean, runs = {}, [load_run(path, "best", load, quiet) for path in members]
    for run in runs:
        for subject, predicted_TV in run.evaluator.predicted(run.model):
            mean[subject] = mean.get(subject, 0.0) + predicted_TV / 2
    data = runs[0].data
    r = [
        [np.corrcoef(mean[s][:, v], data.bold[s][data.split.test, v])[0, 1] for v in np.flatnonzero(data.responsive_V)]
        for s in data.subjects
    ]
    assert fold.scores[ENSEMBLE].r_responsive == pytest.approx(np.mean(r), abs=1e-4)
    film = [run.evaluator.rebuilt(run.model)["measured"]["text"] for run in runs]
    np.testing.assert_allclose(fold.rebuilt["measured"]["text"], (film[0] + film[1]) / 2, atol=1e-5)


def test_it_is_reported_next_to_members_and_ridge_with_intervals(folds):
    figures = report(folds)
    assert set(figures["r"]) == {MEMBER, FIRST, ENSEMBLE, RIDGE, POOLED, BOTH}
    series = series_of(folds)
    assert figures["r"][MEMBER] == pytest.approx(np.mean([folds[0].scores[m].r_responsive for m in folds[0].members]))
    assert figures["r"][FIRST] == pytest.approx(folds[0].scores["seed-0"].r_responsive)
    gain = figures["gain"]["ensemble over member"]
    assert gain["low"] <= gain["mean"] <= gain["high"]
    assert gain["mean"] == pytest.approx((series[ENSEMBLE] - series[MEMBER]).sum())
    assert json.loads(json.dumps(figures)) == figures
    assert any(line.startswith("ensemble with ridge pooled") for line in lines_of(figures))


def test_runs_of_another_experiment_are_not_averaged(members, tmp_path):
    other = run_dir_of(tmp_path, "other", num_epochs=1, steps_per_epoch=6, learning_rate=1e-3)
    with pytest.raises(ConfigError, match="other differs from seed-0 by learning_rate"):
        score_folds([members[0], other], "best", load, quiet)


def test_missing_seeds_and_folds_are_made_next_to_the_first(members, monkeypatch):
    trained_paths = []
    monkeypatch.setattr(
        "giblet_train.distributed.local_queue.train_all", lambda paths, *rest: trained_paths.extend(paths)
    )
    assert train_missing_members(members, 2, False, 1, quiet) == members and not trained_paths
    member_paths = train_missing_members(members, 3, True, 1, quiet)
    configs = [read_config(path) for path in member_paths]
    assert sorted((c.split.fold, c.seed) for c in configs) == [(f, s) for f in range(5) for s in range(3)]
    assert len(trained_paths) == 13 and all(path.parent == members[0].parent for path in trained_paths)
    turns = {(c.split.fold, c.seed): c.split.validation_block for c in map(read_config, trained_paths)}
    assert [turns[fold, seed] for fold in (1, 4) for seed in range(3)] == [0, 1, 2] * 2


def test_a_training_that_fails_is_named(tmp_path):
    path = tmp_path / "one"
    path.mkdir()
    (path / "config.yaml").write_text("name: x\nunheard_of: 1\n")
    with pytest.raises(RunFailed, match=r"1 of 1 runs failed: one\."):
        train_all([path], 2, [], quiet)
    assert "unheard_of" in (path / "train.log").read_text()


def test_the_same_call_continues_with_what_was_left_half_done(tmp_path, members, monkeypatch):
    run_dir = tmp_path / "runs" / "seed-0"
    shutil.copytree(members[0], run_dir)
    training_calls = []

    def broken_off(paths, *rest):
        training_calls.append(list(paths))
        shutil.copy(members[1] / "heartbeat.json", paths[0])
        raise RunFailed("1 of 2 runs failed.")

    monkeypatch.setattr("giblet_train.distributed.local_queue.train_all", broken_off)
    with pytest.raises(RunFailed):
        train_missing_members([run_dir], 3, False, 1, quiet)
    [[complete, half]] = training_calls
    monkeypatch.setattr(
        "giblet_train.distributed.local_queue.train_all", lambda paths, *rest: training_calls.append(list(paths))
    )
    messages = []
    assert train_missing_members([run_dir], 3, False, 1, messages.append) == [run_dir, complete, half]
    assert training_calls[1:] == [[half]] and f"{half.name} has not finished" in messages[-1]
    (half / "run.json").write_text("{}")  # as launched by someone, who may go on with it
    assert train_missing_members([run_dir], 3, False, 1, quiet)[2] != half


def test_members_are_trained_by_one_process_whatever_the_first_was(tmp_path, monkeypatch):
    monkeypatch.setattr("giblet_train.distributed.local_queue.train_all", lambda *_: None)
    first = run_dir_of(tmp_path, "wide", distributed={"world_size": 8}, threads=None)
    (first / "run.json").write_text("{}")
    _, second = train_missing_members([first], 2, False, 1, quiet)
    assert read_config(second).distributed.world_size == 1 and read_config(second).seed == 1


def test_places_have_the_gpus_that_this_process_may_use():
    assert visible({}, 2) == ["0", "1"]
    assert visible({"CUDA_VISIBLE_DEVICES": "4, 6"}, 2) == ["4", "6"]
    assert visible({"CUDA_VISIBLE_DEVICES": "GPU-8a,GPU-9b,-1,3"}, 2) == ["GPU-8a", "GPU-9b"]


def test_asked_to_end_it_lets_running_trainings_save_and_starts_no_more(tmp_path, monkeypatch):
    trainer_like = tmp_path / "stand-in"
    trainer_like.write_text(
        f"#!{sys.executable} -S\nimport os, signal, sys, time\n"
        # The first one saves longest: an interrupted wait that forgets it would return before it has saved.
        "def save(*_):\n    time.sleep(0.5 if sys.argv[-1].endswith('a') else 0)\n"
        "    print('saved', flush=True)\n    sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, save)\nprint('up', os.environ['LOCAL_WORLD_SIZE'], flush=True)\n"
        "while True:\n    time.sleep(60)\n"
    )
    trainer_like.chmod(0o755)
    monkeypatch.setattr("giblet_train.distributed.local_queue.sys.executable", str(trainer_like))
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.mkdir()

    def end_once_two_work():
        while not all((path / "train.log").exists() and "up" in (path / "train.log").read_text() for path in paths[:2]):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_once_two_work, daemon=True).start()
    with pytest.raises(Preempted, match="0 of 3 trainings are done"):
        train_all(paths, 2, [], quiet)
    assert [(path / "train.log").read_text() for path in paths[:2]] == ["up 2\nsaved\n"] * 2
    assert not (paths[2] / "train.log").exists()
