"""The pen: whole lines whatever happens, a heartbeat that is replaced, nothing from other ranks."""

import contextlib
import errno
import os

import pytest

from giblet_train.monitoring.run_logger import RunLogger
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.records import EventMetric, Heartbeat, decode, decode_metrics
from giblet_train.schema.run_dir import RunDir


def lines_of(run_dir):
    metrics, n_malformed = decode_metrics(run_dir.metrics.read_bytes().splitlines())
    assert n_malformed == 0
    return metrics


def test_records_count_on_and_carry_the_position_of_the_run(tmp_path):
    run_dir = RunDir(tmp_path)
    logger = RunLogger(run_dir)
    logger.log_event("one", "info", "First.")
    logger.step, logger.epoch = 7, 2
    logger.log_event("two", "info", "Second.", bytes=3)
    logger.close()
    logger = RunLogger(run_dir)
    logger.log_event("three", "info", "After a restart.")
    logger.close()
    metrics = lines_of(run_dir)
    assert [(m.seq, m.step, m.epoch, m.name) for m in metrics] == [
        (0, 0, 1, "one"),
        (1, 7, 2, "two"),
        (2, 0, 1, "three"),
    ]
    assert metrics[1].facts == {"bytes": 3}


def test_a_torn_last_line_is_cut_off(tmp_path):
    run_dir = RunDir(tmp_path)
    logger = RunLogger(run_dir)
    logger.log_event("whole", "info", "Stays.")
    logger.close()
    whole = run_dir.metrics.read_bytes()
    run_dir.metrics.write_bytes(whole + b'{"kind":"event","seq":1,"st')
    logger = RunLogger(run_dir)
    logger.log_event("next", "info", "Follows.")
    logger.close()
    assert [(m.seq, m.name) for m in lines_of(run_dir)] == [(0, "whole"), (1, "next")]


def test_what_a_full_disk_refuses_is_written_later_in_order(tmp_path, monkeypatch, capsys):
    run_dir, write, full = RunDir(tmp_path), os.write, True

    def failing(file, data):
        if not full:
            return write(file, data)
        if b"torn" in data:
            return write(file, data[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    logger = RunLogger(run_dir)
    monkeypatch.setattr("giblet_train.monitoring.run_logger.os.write", failing)
    logger.log_event("torn", "info", "Half of it fits.")
    assert run_dir.metrics.read_bytes() == b""
    logger.log_event("refused", "info", "None of it fits.")
    full = False
    logger.log_event("later", "info", "There is space again.")
    logger.close()
    assert [m.name for m in lines_of(run_dir)] == ["torn", "refused", "later"]


def test_a_log_without_room_ends_nothing(tmp_path, monkeypatch):
    """/dev/full is a disk without room: what the run prints goes to a file beside its records."""
    logger = RunLogger(RunDir(tmp_path))
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        monkeypatch.setattr(
            "giblet_train.monitoring.run_logger.write_record", lambda *_: full.write("x") and full.flush()
        )
        logger.print_line("A line.")
        logger.log_event("told", "warning", "A warning is said too.")
        logger.heartbeat("training")
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()
    logger.close()
    assert [m.name for m in lines_of(RunDir(tmp_path))] == ["told"]


def test_the_heartbeat_says_who_and_where(tmp_path):
    run_dir = RunDir(tmp_path)
    logger = RunLogger(run_dir)
    logger.step, logger.epoch = 12, 3
    logger.set_last_checkpoint("step-00000010.safetensors", 10)
    logger.heartbeat("training", step_s=0.25)
    beat = decode(run_dir.heartbeat.read_bytes(), Heartbeat)
    assert (beat.state, beat.step, beat.epoch, beat.step_s, beat.pid) == ("training", 12, 3, 0.25, os.getpid())
    assert (beat.last_checkpoint, beat.last_checkpoint_step) == ("step-00000010.safetensors", 10)
    assert beat.start_ticks > 0 and beat.boot_id
    logger.step = 13
    logger.heartbeat("training")
    assert decode(run_dir.heartbeat.read_bytes(), Heartbeat).step == 12, "within a second it is not written again"
    logger.heartbeat("failed", why="The disk melted.")
    beat = decode(run_dir.heartbeat.read_bytes(), Heartbeat)
    assert (beat.state, beat.step, beat.why) == ("failed", 13, "The disk melted.")
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".tmp")] == []


def test_two_processes_never_write_one_runs_records(tmp_path):
    """A lock belongs to an open file, so a second one of this process stands for another process."""
    first = RunLogger(RunDir(tmp_path))
    with pytest.raises(ConfigError, match="Another process is training in"):
        RunLogger(RunDir(tmp_path))
    first.close()
    RunLogger(RunDir(tmp_path)).close()


def test_other_ranks_write_nothing(tmp_path, capsys):
    logger = RunLogger(RunDir(tmp_path), active=False)
    logger.log_metric(EventMetric, name="n", level="info", sentence="s")
    logger.log_event("warned", "warning", "Not here.")
    logger.heartbeat("training")
    logger.print_line("Nothing.")
    logger.close()
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr().out == ""


def test_warnings_are_also_reported(tmp_path, capsys):
    logger = RunLogger(RunDir(tmp_path))
    logger.log_event("w", "warning", "Mind this.")
    logger.close()
    assert capsys.readouterr().out == "warning: Mind this.\n"
