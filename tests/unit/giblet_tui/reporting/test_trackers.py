"""Exports for experiment trackers have every number of the run, and the trackers read them."""

import io
import math
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from giblet_train.diagnosis.log_reader import tensorboard
from giblet_tui.reporting.trackers import event_file, event_file_name, masked_crc, mlflow_files, scalars_of
from giblet_tui.reporting.wandb_file import BLOCK_BYTES, wandb_files
from tests import fleets

RUN = fleets.run("demo", steps=40, nan_from=30)


def test_every_step_and_epoch_is_exported():
    by_tag = {}
    for scalar in scalars_of(RUN):
        by_tag.setdefault(scalar.tag, []).append(scalar)
    assert [s.step for s in by_tag["train/total"]] == [step.step for step in RUN.steps]
    assert by_tag["train/loss/fmri"][3].value == RUN.steps[3].loss["fmri"]
    assert math.isnan(by_tag["train/loss/audio"][-1].value), "a loss that was not finite is not left out"
    assert len(by_tag["validation/total"]) == sum(e.validation is not None for e in RUN.epochs) > 0


def test_an_event_file_is_read_back():
    assert masked_crc(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF
    data = event_file(RUN)
    assert tensorboard.is_event_file(data[:64])
    scalars = [(s.tag, s.step, s.value) for s in tensorboard.scalars(io.BytesIO(data))]
    expected = [(s.tag, s.step, s.value) for s in scalars_of(RUN)]
    assert [r[:2] for r in scalars] == [e[:2] for e in expected]
    assert [r[2] for r in scalars] == pytest.approx([e[2] for e in expected], rel=1e-6, nan_ok=True)


def test_tensorboard_itself_reads_it(tmp_path):
    (tmp_path / event_file_name(RUN)).write_bytes(event_file(RUN))
    reader = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0}).Reload()
    assert [s.step for s in reader.Scalars("train/total")] == [step.step for step in RUN.steps]
    assert reader.Scalars("train/lr")[5].value == pytest.approx(RUN.steps[5].lr, rel=1e-6)


def write_mlflow(folder):
    for path, text in mlflow_files(RUN, folder).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_file_store_has_a_file_per_metric(tmp_path):
    write_mlflow(tmp_path)
    (folder,) = (p for p in (tmp_path / "0").iterdir() if p.is_dir())
    lines = (folder / "metrics" / "train" / "total").read_text().splitlines()
    at, value, step = lines[3].split()
    assert len(lines) == 40 and int(step) == 3 and float(value) == RUN.steps[3].total
    assert int(at) == int(RUN.steps[3].at * 1000)
    assert (folder / "params" / "learning_rate").read_text() == "0.001"


def test_mlflow_itself_reads_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    write_mlflow(tmp_path)
    client = MlflowClient(tracking_uri=tmp_path.as_uri())
    (run,) = client.search_runs(["0"])
    assert run.info.run_name == RUN.run.run_id and run.data.params["num_epochs"] == "20"
    assert [m.step for m in client.get_metric_history(run.info.run_id, "train/total")] == list(range(40))


def records_of(log):
    """Return the records of a LevelDB log after wandb's header of seven bytes, checked by their CRC."""
    assert log[:7] == b":W&B" + struct.pack("<HB", 0xBEE1, 0)
    at, parts, records = 7, b"", []
    while at < len(log):
        if BLOCK_BYTES - at % BLOCK_BYTES < 7:
            at += BLOCK_BYTES - at % BLOCK_BYTES
        crc, size, kind = struct.unpack("<IHB", log[at : at + 7])
        part = log[at + 7 : at + 7 + size]
        assert crc == zlib.crc32(bytes([kind]) + part)
        assert at // BLOCK_BYTES == (at + 6 + size) // BLOCK_BYTES, "no part crosses the end of a block"
        at, parts = at + 7 + size, parts + part
        if kind in (1, 4):  # whole, or the last part
            records, parts = [*records, parts], b""
    assert not parts
    return records


def test_an_offline_run_of_wandb_has_a_record_for_each_step():
    [(path, log)] = wandb_files(fleets.run("demo", steps=400), Path("tb")).items()
    assert re.fullmatch(r"tb/offline-run-\d{8}_\d{6}-demo-\S+/run-demo-\S+\.wandb", str(path))
    records = records_of(log)
    rows = [record for record in records if b'"_step"' not in record and b"_step" in record]
    assert len(log) > 3 * BLOCK_BYTES and len(rows) > 400
    assert sum(b"train/total" in row for row in rows) == 401, "400 steps, and the last values"


def test_wandb_itself_reads_it(tmp_path):
    [(path, log)] = wandb_files(RUN, tmp_path).items()
    path.parent.mkdir()
    path.write_bytes(log)
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", str(path.parent)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert RUN.run.run_id in output and "train/total" in output
