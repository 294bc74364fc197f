"""The watcher as its supervisor starts it: it judges records as they come, tells, and ends with the run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from giblet_train.monitoring.notify import send
from giblet_train.monitoring.watcher import Watcher
from giblet_train.schema.config import Criterion, dump
from giblet_train.schema.notify_target import parse_target
from giblet_train.schema.records import (
    Alert,
    AlertResponse,
    Command,
    Exit,
    RunMetric,
    SupervisorRecord,
    SweepCell,
    decode,
    decode_lines,
    encode,
)
from giblet_train.schema.run_dir import RunDir, write_record
from tests.collection.faults import nan
from tests.collection.healthy import draw, healthy_run
from tests.liveruns import append, beat, end, make_run


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return make_run(tmp_path, "demo")


@pytest.fixture
def watching(run_dir: RunDir) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "giblet_train", "watch", str(run_dir.path)]
        processes.append(subprocess.Popen(argv, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def until(condition: Callable[[], bool], limit_s: float = 300.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alerts_of(run_dir: RunDir) -> list[tuple[str, str]]:
    lines = run_dir.alerts.read_bytes().splitlines() if run_dir.alerts.exists() else []
    return [(alert.name, alert.state) for alert in decode_lines(lines, Alert)]


def catches_term(pid: int) -> bool:
    mask = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


def configure(run_dir: RunDir, curves_config: object, command: str | None = None) -> None:
    assert isinstance(curves_config, type(draw(0).config))
    run_dir.config.write_text(dump(replace(curves_config, watch=replace(curves_config.watch, notify=command))))


def test_it_reports_a_nan_while_the_run_continues_and_ends_with_it(
    run_dir: RunDir, watching: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    failing = nan(4)
    configure(run_dir, failing.curves.config, f"cat >> {tmp_path}/told")
    beat(run_dir)
    append(run_dir.metrics, b"".join(encode(m) + b"\n" for m in failing.metrics[:10]))
    process = watching()
    append(run_dir.metrics, b"".join(encode(m) + b"\n" for m in failing.metrics[10:]))
    until(lambda: (tmp_path / "told").exists() and (tmp_path / "told").read_text().endswith("}"))
    alert = json.loads((tmp_path / "told").read_text())
    assert (alert["run_id"], alert["name"], alert["level"], alert["state"]) == (
        run_dir.run_id,
        "nan",
        "error",
        "raised",
    )
    assert alerts_of(run_dir) == [("nan", "raised")]
    assert process.poll() is None
    end(run_dir, 1)
    assert process.wait(timeout=300) == 0


def test_told_to_end_it_looks_once_more(run_dir: RunDir, watching: Callable[[], subprocess.Popen[str]]) -> None:
    curves = draw(2)
    configure(run_dir, curves.config)
    beat(run_dir)
    metrics = [replace(m, device="cuda") if isinstance(m, RunMetric) else m for m in healthy_run(curves, 1)]
    append(run_dir.metrics, b"".join(encode(m) + b"\n" for m in metrics))
    process = watching()
    until(lambda: catches_term(process.pid))
    run_dir.log.write_text("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB.\n")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=300) == 0
    assert ("oom_gpu", "raised") in alerts_of(run_dir)


def test_a_hopeless_run_of_a_sweep_is_asked_to_stop_if_the_sweep_was_launched_so(run_dir: RunDir) -> None:
    curves = draw(2)
    criterion = Criterion(kind="loss_drop", threshold=0.999)
    run_dir.config.write_text(dump(replace(curves.config, criteria={"drop": criterion})))
    append(run_dir.metrics, b"".join(encode(metric) + b"\n" for metric in healthy_run(curves)))
    beat(run_dir)
    for stop_hopeless in (False, True):
        sweep = SweepCell(name="g", values={"seed": "1"}, number=1, n_runs=2, stop_hopeless=stop_hopeless)
        write_record(run_dir.run, replace(run_dir.read_run(), sweep=sweep))
        messages: list[str] = []
        Watcher(run_dir, messages.append).check()
        assert run_dir.stop.exists() == stop_hopeless
        assert any("can no longer pass: drop" in line for line in messages) == stop_hopeless
    assert json.loads(run_dir.stop.read_text())["by"] == "watcher"


def test_a_command_is_watched_without_a_configuration_and_its_exit_code_is_known(run_dir: RunDir) -> None:
    run_dir.config.unlink()
    write_record(run_dir.run, replace(run_dir.read_run(), command=Command(words=("python", "train.py"))))
    write_record(run_dir.supervisor, replace(decode(run_dir.supervisor.read_bytes(), SupervisorRecord), code=0))
    beat(run_dir)
    watcher = Watcher(run_dir, print)
    watcher.check(last=True)
    assert alerts_of(run_dir) == []
    write_record(run_dir.supervisor, replace(decode(run_dir.supervisor.read_bytes(), SupervisorRecord), code=3))
    watcher.check(last=True)
    assert alerts_of(run_dir) == [("crashed", "raised")]


def test_a_run_that_failed_as_it_was_being_stopped_has_failed(run_dir: RunDir) -> None:
    watcher = Watcher(run_dir, print)
    beat(run_dir, state="failed")
    run_dir.stop.touch()
    watcher.check(last=True)
    assert ("crashed", "raised") in alerts_of(run_dir)


def test_a_healthy_run_is_watched_in_silence(run_dir: RunDir) -> None:
    curves = draw(2)
    configure(run_dir, curves.config)
    messages: list[str] = []
    watcher = Watcher(run_dir, messages.append)
    lines = [encode(m) + b"\n" for m in healthy_run(curves)]
    for i in range(0, len(lines), 200):
        append(run_dir.metrics, b"".join(lines[i : i + 200]))
        beat(run_dir)
        watcher.check()
    assert len(watcher.metrics) == len(lines) and not messages and not run_dir.alerts.exists()


def test_a_line_half_written_is_read_when_it_is_whole(run_dir: RunDir) -> None:
    watcher = Watcher(run_dir, print)
    line = encode(healthy_run(draw(2), 1)[0]) + b"\n"
    append(run_dir.metrics, line[:20])
    watcher.check()
    assert watcher.metrics == []
    append(run_dir.metrics, line[20:])
    watcher.check()
    assert len(watcher.metrics) == 1


def test_a_heartbeat_that_stops_is_an_alert_and_is_cleared_when_it_continues(run_dir: RunDir) -> None:
    watcher = Watcher(run_dir, print)
    beat(run_dir, at=time.time() - 600)
    watcher.check()
    assert alerts_of(run_dir) == [("stalled", "raised")]
    for _ in range(watcher.config.watch.clear_looks):
        beat(run_dir)
        watcher.check()
    assert alerts_of(run_dir) == [("stalled", "raised"), ("stalled", "cleared")]


def test_an_alert_on_a_full_disk_is_written_once_there_is_room(run_dir: RunDir, tmp_path: Path) -> None:
    """/dev/full is a disk without room; the lab's own command needs none."""
    message_file = tmp_path / "told"
    config = run_dir.read_config()
    configure(run_dir, config, f"cat > {message_file}")

    def full(sentence: str) -> None:
        raise OSError(28, "No space left on device")

    watcher = Watcher(run_dir, full)
    run_dir.alerts.symlink_to("/dev/full")
    beat(run_dir, at=time.time() - 600)
    watcher.check()
    assert json.loads(message_file.read_text())["name"] == "stalled"
    run_dir.alerts.unlink()
    watcher.check()
    assert alerts_of(run_dir) == [("stalled", "raised")]


def test_an_exit_for_want_of_memory_is_the_last_alert(run_dir: RunDir) -> None:
    beat(run_dir)
    write_record(run_dir.exit, Exit(run_id=run_dir.run_id, ended_at=time.time(), signal=9, oom_kills=1))
    watcher = Watcher(run_dir, print)
    assert watcher.ended
    watcher.check(last=True)
    assert alerts_of(run_dir) == [("oom_host", "raised")]


def test_a_command_that_hangs_or_fails_is_reported_and_survived(run_dir: RunDir) -> None:
    watcher = Watcher(run_dir, print)
    beat(run_dir, at=time.time() - 600)
    watcher.check()
    alert = watcher.watched.raised["stalled"]
    messages: list[str] = []
    send(parse_target("exec sleep 60"), "x", alert, messages.append, 0.2)
    send(parse_target("exit 3"), "x", alert, messages.append, 60.0)
    assert "did not end within 0.2 s" in messages[0] and "code 3" in messages[1]


def test_a_snoozed_alert_calls_again_when_its_time_is_over(run_dir: RunDir, tmp_path: Path) -> None:
    configure(run_dir, draw(0).config, f"echo x >> {tmp_path}/told")
    watcher = Watcher(run_dir, print)
    beat(run_dir, at=time.time() - 600)
    append(run_dir.answers, encode(AlertResponse(at=0.0, alert=0, name="stalled", until=time.time() + 600)) + b"\n")
    watcher.check()
    assert alerts_of(run_dir) == [("stalled", "raised")] and not (tmp_path / "told").exists()
    append(run_dir.answers, encode(AlertResponse(at=0.0, alert=0, name="stalled", until=0.0)) + b"\n")
    watcher.check()
    watcher.check()
    assert (tmp_path / "told").read_text() == "x\n"
