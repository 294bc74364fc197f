"""The monitor of a command: where losses are found, how they become records, when a silent command is stalled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.schema.config import WatchConfig
from giblet_train.schema.health import Signals, health_of, stall_after_s
from giblet_train.schema.records import EpochMetric, Heartbeat, ValuesMetric, decode, decode_metrics
from giblet_tui.agent import followed_log
from giblet_tui.agent.command_monitor import CommandMonitor, Sources
from giblet_tui.connection.agent_bundle import command_monitor_script
from tests.cluster.nodes import wait_until
from tests.collection.log_ends import epochs
from tests.collection.log_formats import course, tensorboard
from tests.paths import ROOT


class CommandRun:
    """A run directory of a command, and the directory that the command works in."""

    def __init__(self, folder: Path, log: str = "") -> None:
        self.path, self.cwd = folder / "run", folder / "work"
        self.path.mkdir()
        self.cwd.mkdir()
        command = {"words": ["python"], "cwd": str(self.cwd), "log": log}
        (self.path / "run.json").write_text(json.dumps({"run_id": "r", "command": command}))
        (self.path / "supervisor.json").write_text(json.dumps({"pid": 1, "started_at": time.time() - 60.0}))

    def prints(self, *lines: str) -> None:
        with (self.path / "train.log").open("a") as file:
            file.writelines(line + "\n" for line in lines)

    def writes(self, name: str, text: str) -> Path:
        path = self.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def metrics(self) -> list[EpochMetric]:
        metrics, n_malformed = decode_metrics((self.path / "metrics.jsonl").read_bytes().splitlines())
        assert not n_malformed
        return [metric for metric in metrics if isinstance(metric, EpochMetric)]

    def losses(self) -> list[tuple[int, float | None]]:
        return [(metric.epoch, metric.train.total) for metric in self.metrics()]

    def heartbeat(self) -> Heartbeat:
        return decode((self.path / "heartbeat.json").read_bytes(), Heartbeat)


@pytest.fixture
def run(tmp_path: Path) -> CommandRun:
    return CommandRun(tmp_path)


def test_epochs_of_its_output_become_records_when_they_are_complete(run: CommandRun) -> None:
    monitor = CommandMonitor(run.path)
    run.prints(
        "lab trainer", "Epoch 1/3 | Train Loss: 2.0 | Val Loss: 2.5 | LR: 1.00e-04", "Epoch 2/3 | Train Loss: 1.5"
    )
    monitor.look()
    assert run.losses() == [(1, 2.0)]
    assert run.heartbeat().phase == "epoch 1 of 3 has ended, by its log"
    run.prints("Epoch 3/3 | Train Loss: nan")
    monitor.look(ended=True)
    assert run.losses() == [(1, 2.0), (2, 1.5), (3, None)]
    first = run.metrics()[0]
    assert first.lr == 1e-4 and first.validation is not None and first.validation.total == 2.5


def values_of(run: CommandRun) -> list[tuple[int, dict[str, float | None], dict[str, float | None]]]:
    metrics, malformed = decode_metrics((run.path / "metrics.jsonl").read_bytes().splitlines())
    seqs = [metric.seq for metric in metrics]
    assert not malformed and sorted(seqs) == list(range(len(seqs)))
    return [(m.step, m.values, m.validation) for m in metrics if isinstance(m, ValuesMetric)]


def test_numbers_that_are_no_losses_become_records_next_to_the_epochs(run: CommandRun) -> None:
    monitor = CommandMonitor(run.path)
    run.prints("Epoch 1/3 | Train Loss: 2.0 | Val Acc: 0.25", "Epoch 2/3 | Train Loss: 1.5 | Val Acc: 0.5")
    monitor.look()
    assert run.losses() == [(1, 2.0)] and values_of(run) == [(1, {}, {"Acc": 0.25})]
    run.prints("Epoch 3/3 | Train Loss: 1.0 | Val Acc: nan")
    monitor.look(ended=True)
    assert run.losses()[1:] == [(2, 1.5), (3, 1.0)]
    assert values_of(run)[1:] == [(2, {}, {"Acc": 0.5}), (3, {}, {"Acc": None})]


@pytest.mark.parametrize(
    ("lines", "phase", "expected"),
    [
        (["epoch 1 psnr 20.5", "epoch 2 psnr 21.5"], "epoch 2 has ended, by its log", [1, 2]),
        (["Episode 10 reward: 1.5", "Episode 20 reward: 2.5"], "no loss, but other numbers up to step 20", [10, 20]),
    ],
)
def test_a_command_without_a_loss_has_the_records_of_its_other_numbers(
    run: CommandRun, lines: list[str], phase: str, expected: list[int]
) -> None:
    monitor = CommandMonitor(run.path)
    run.prints(*lines)
    monitor.look(ended=True)
    assert [step for step, _, _ in values_of(run)] == expected and run.losses() == []
    assert phase in run.heartbeat().phase and run.heartbeat().step == expected[-1]


def test_a_restart_replaces_the_numbers_of_repeated_epochs(run: CommandRun) -> None:
    monitor = CommandMonitor(run.path)
    run.prints(*(f"Epoch {k} loss: {3 - k}.5 acc: 0.{k}" for k in (1, 2)))
    monitor.look(ended=True)
    run.prints("resumed from epoch 1", "Epoch 2 loss: 0.25 acc: 0.75")
    monitor.look(ended=True)
    assert values_of(run) == [(1, {"acc": 0.1}, {}), (2, {"acc": 0.75}, {})]


def test_without_a_loss_it_only_lives(run: CommandRun) -> None:
    monitor = CommandMonitor(run.path)
    run.prints("loading", "still loading")
    monitor.look(ended=True)
    assert not (run.path / "metrics.jsonl").exists()
    assert (run.heartbeat().state, run.heartbeat().step_s) == ("training", None)
    assert "no loss was read" in run.heartbeat().phase


def test_its_own_metrics_count_before_its_output(run: CommandRun) -> None:
    monitor = CommandMonitor(run.path)
    run.prints("Epoch 1/2 | Train Loss: 9.0")
    calls = "for e in (1, 2): log(10 * e, epoch=e, train_loss=1 / e, val_loss=float('nan'))"
    program = f"from giblet_train.log import log\n{calls}"
    own = os.environ | {"GIBLET_LOG": str(run.path / "giblet_log.jsonl"), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], env=own, check=True)
    monitor.look(ended=True)
    assert run.losses() == [(1, 1.0), (2, 0.5)]
    assert run.metrics()[1].validation is not None and run.metrics()[1].validation.total is None


def test_lines_of_an_earlier_run_in_the_same_directory_are_not_its_own(run: CommandRun) -> None:
    path = run.writes("giblet_log.jsonl", '{"step": 1, "epoch": 1, "loss": 7.0}\n')
    os.utime(path, (1e9, 1e9))
    monitor = CommandMonitor(run.path)
    monitor.look()
    with path.open("a") as file:
        file.write('{"step": 1, "epoch": 1, "loss": 0.7}\n{"step": 2, "epoch": 2, "loss": 0.6}\n')
    monitor.look(ended=True)
    assert run.losses() == [(1, 0.7), (2, 0.6)]


CSV = "epoch,step,train_loss,val_loss\n0,9,1.5,1.6\n1,19,1.25,1.4\n"


@pytest.mark.parametrize("name", ["lightning_logs/version_0/metrics.csv", "results.csv"])
def test_a_table_next_to_it_is_read_if_its_output_shows_nothing(run: CommandRun, name: str) -> None:
    old = run.writes("old/metrics.csv", CSV.replace("1.5", "8.5"))
    os.utime(old, (1e9, 1e9))
    monitor = CommandMonitor(run.path)
    run.prints("quiet")
    run.writes(name, CSV)
    monitor.look(ended=True)
    assert run.losses() == [(0, 1.5), (1, 1.25)]
    assert run.heartbeat().phase == "epoch 1 has ended, by its log"


def test_an_event_file_is_read(run: CommandRun) -> None:
    monitor = CommandMonitor(run.path)
    run.prints("quiet")
    (run.cwd / "runs").mkdir()
    tensorboard(course("healthy", 6), run.cwd / "runs")
    monitor.look(ended=True)
    assert [epoch for epoch, _ in run.losses()] == [1, 2, 3, 4, 5, 6]


def test_the_output_kept_by_wandb_is_read(run: CommandRun) -> None:
    monitor = CommandMonitor(run.path)
    run.writes("wandb/offline-run-20261122_101500-ab12/files/output.log", "\n".join(epochs(1, 3)) + "\n")
    monitor.look(ended=True)
    assert [epoch for epoch, _ in run.losses()] == [1, 2, 3]


def test_a_named_file_is_the_only_one_that_counts(tmp_path: Path) -> None:
    run = CommandRun(tmp_path, log="logs/a.log")
    monitor = CommandMonitor(run.path)
    run.prints("Epoch 1/2 | Train Loss: 9.0", "Epoch 2/2 | Train Loss: 9.0")
    run.writes("giblet_log.jsonl", '{"epoch": 1, "loss": 8.0}\n')
    monitor.look()
    run.writes("logs/a.log", "\n".join(epochs(1, 4)) + "\n")
    monitor.look(ended=True)
    assert [epoch for epoch, _ in run.losses()] == [1, 2, 3, 4] and run.losses()[0][1] != 9.0


def test_steps_without_epochs_become_blocks_and_the_file_is_replaced(run: CommandRun) -> None:
    monitor = CommandMonitor(run.path)
    lines = [json.dumps({"step": step, "loss": 2.0 / (1 + step), "lr": 1e-3}) for step in range(60)]
    log = run.path / "giblet_log.jsonl"
    log.write_text("\n".join(lines[:20]) + "\n")
    monitor.look()
    assert len(run.losses()) == 20, "few points are a row each"
    before = (run.path / "metrics.jsonl").read_bytes()
    with log.open("a") as file:
        file.write("\n".join(lines[20:]) + "\n")
    monitor.look(ended=True)
    assert len(run.losses()) == 12 and "blocks of steps" in run.heartbeat().phase
    after = (run.path / "metrics.jsonl").read_bytes()
    assert before[:64] != after[:64], "a reader sees by its first bytes that it is another file"
    assert run.metrics()[0].lr == 1e-3


def test_a_restart_replaces_the_epochs_that_it_repeats(run: CommandRun) -> None:
    monitor = CommandMonitor(run.path)
    run.prints(*epochs(1, 4), "Traceback (most recent call last):", "KeyError: 'a'", "resumed from epoch 2")
    monitor.look()
    run.prints("Epoch 3/9 | Train Loss: 0.3", "Epoch 4/9 | Train Loss: 0.2")
    monitor.look(ended=True)
    assert run.losses()[2:] == [(3, 0.3), (4, 0.2)]


def test_silence_counts_only_once_the_pace_of_an_epoch_is_known(
    run: CommandRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed_log, "SETTLE_S", 0.0)
    monitor = CommandMonitor(run.path)
    log = run.path / "train.log"
    for number in range(7):
        run.prints(*epochs(number, number) if number else ["start"])
        os.utime(log, (1000.0 + number, 1000.0 + number))
        monitor.look()
        has_pace = run.heartbeat().step_s is not None
        assert has_pace == (number >= 5), number
    beat = run.heartbeat()
    assert beat.at == 1006.0
    watch = WatchConfig()
    now = 1006.0 + stall_after_s(beat.step_s, watch) + 1.0
    health = health_of(Signals(now=now, launched_at=0.0, process=True, heartbeat=beat), watch)
    assert health.state == "stalled" and diagnose(None, run.metrics(), health=health).causes[0].cause == "stalled"


def test_a_monitor_that_is_held_up_takes_no_log_for_silent(run: CommandRun, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, read_sources = [0.0], Sources.read
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def read_and_pause(self: Sources, ended: bool) -> None:
        read_sources(self, ended)
        clock[0] += 10.0

    monkeypatch.setattr(Sources, "read", read_and_pause)
    monitor = CommandMonitor(run.path)
    run.prints("Epoch 1/3 | Train Loss: 2.0", "Epoch 2/3 | Train Loss: 1.5")
    monitor.look()
    assert run.losses() == [(1, 2.0)]
    monitor.look()
    assert run.losses() == [(1, 2.0), (2, 1.5)]


def test_a_file_that_never_ends_or_answers_is_not_read(tmp_path: Path) -> None:
    run = CommandRun(tmp_path, log="pipe.log")
    os.mkfifo(run.cwd / "pipe.log")
    CommandMonitor(run.path).look(ended=True)
    assert "no loss was read" in run.heartbeat().phase
    for name in ("results.csv", "events.out.tfevents.1"):
        os.mkfifo(run.cwd / name)
    CommandMonitor(run.path).look(ended=True)


def test_it_ends_with_its_supervisor(run: CommandRun) -> None:
    script = run.path / "monitor.py"
    script.write_text(command_monitor_script())
    supervisor = (
        "import os, subprocess, sys, time\n"
        "process = subprocess.Popen([sys.executable, '-I', sys.argv[1], sys.argv[2]])\n"
        "while not os.path.exists(sys.argv[2] + '/heartbeat.json'): time.sleep(0.02)\n"
        "print(process.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    argv = [sys.executable, "-c", supervisor, str(script), str(run.path)]
    result = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    wait_until(lambda: not Path(f"/proc/{result.stdout.strip()}/cmdline").exists(), what="the monitor's end")


def test_the_script_of_the_run_directory_is_complete(tmp_path: Path) -> None:
    script = tmp_path / "monitor.py"
    script.write_text(command_monitor_script())
    result = subprocess.run([sys.executable, "-I", script], capture_output=True, text=True, cwd="/")
    assert (result.returncode, result.stderr) == (2, "usage: python3 monitor.py RUN_DIR [WATCHER...]\n")
