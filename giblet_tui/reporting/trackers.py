"""Write a run's scalars in the formats of experiment trackers: TensorBoard event files and MLflow's file store.

Both formats are written directly, so that neither program has to be installed.
"""

from __future__ import annotations

import json
import math
import re
import struct
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from giblet_train.schema.records import Number
from giblet_tui.monitor.snapshots import RunSnapshot

CASTAGNOLI = 0x82F63B78
"""Polynomial of CRC-32C, reflected."""
MASK_DELTA = 0xA282EAD8
EXPERIMENT_ID = "0"
MLFLOW_STATUS = {"finished": 3, "failed": 4, "died": 4, "stopped": 5}
"""State of a run -> MLflow's number of it; others are running, 1."""


class Scalar(NamedTuple):
    """A value of a run."""

    tag: str
    step: int
    at: float
    """Seconds since 1970."""
    value: float


def scalars_of(run: RunSnapshot) -> Iterator[Scalar]:
    """Yield every number of a run's steps, epochs and evaluation; a loss that was not finite is NaN."""
    for step in run.steps:
        value_by_name: dict[str, Number] = {"train/total": step.total, "train/lr": step.lr}
        value_by_name |= {f"train/loss/{c}": value for c, value in step.loss.items()}
        value_by_name |= {f"weight/{c}": value for c, value in step.weight.items()}
        value_by_name |= {f"share/{c}": value for c, value in step.share.items()}
        yield from _scalars(value_by_name, step.step, step.at, missing=math.nan)
        optional = {"train/gradient_norm": step.gradient_norm, "train/step_s": step.step_s}
        yield from _scalars(optional, step.step, step.at)
    for epoch in run.epochs:
        yield from _scalars({"epoch": float(epoch.epoch), "validation/fmri_r": epoch.fmri_r}, epoch.step, epoch.at)
        parts = {"epoch_mean": epoch.train, "validation": epoch.validation}
        for part, losses in parts.items():
            if losses is not None:
                value_by_name = {
                    f"{part}/total": losses.total,
                    **{f"{part}/loss/{c}": v for c, v in losses.loss.items()},
                }
                yield from _scalars(value_by_name, epoch.step, epoch.at, missing=math.nan)
    for record in run.values:
        names = {f"metric/{_file_name(name)}": value for name, value in record.values.items()}
        names |= {f"metric_validation/{_file_name(name)}": value for name, value in record.validation.items()}
        yield from _scalars(names, record.step, record.at, missing=math.nan)
    if run.evaluation is not None:
        figures = {f"held_out/{k}": v for k, v in run.evaluation.encoding.items() if isinstance(v, int | float)}
        figures |= {f"held_out/skill/{c}": v for c, v in run.evaluation.skill.items() if v is not None}
        yield from _scalars(figures, run.evaluation.step, run.evaluation.at)


def _file_name(name: str) -> str:
    """Return a name from a log as the name of a file: MLflow has one for each metric."""
    return re.sub(r"[^\w@-]+", "_", name)


def _scalars(
    value_by_name: Mapping[str, Number], step: int, at: float, missing: float | None = None
) -> Iterator[Scalar]:
    for tag, value in value_by_name.items():
        number = missing if value is None else value
        if number is not None:
            yield Scalar(tag, step, at, float(number))


def event_file(run: RunSnapshot) -> bytes:
    """Return the content of a TensorBoard event file: TFRecords of protobuf events."""
    first = _double(1, run.run.launched_at) + protobuf_bytes(3, b"brain.Event:2")
    records = [_tf_record(first)]
    for scalar in scalars_of(run):
        value = protobuf_bytes(1, scalar.tag.encode()) + b"\x15" + struct.pack("<f", scalar.value)
        event = (
            _double(1, scalar.at) + b"\x10" + protobuf_varint(scalar.step) + protobuf_bytes(5, protobuf_bytes(1, value))
        )
        records.append(_tf_record(event))
    return b"".join(records)


def event_file_name(run: RunSnapshot) -> str:
    """Return a name that TensorBoard recognises and that the same run always has."""
    return f"events.out.tfevents.{int(run.run.launched_at)}.{run.run.run_id}"


def mlflow_files(run: RunSnapshot, folder: Path) -> dict[Path, str]:
    """Return path -> content of MLflow's file store in `folder`, as `mlflow ui --backend-store-uri` reads it."""
    run_uuid = uuid.uuid5(uuid.NAMESPACE_URL, run.run.run_id).hex
    base = folder / EXPERIMENT_ID / run_uuid
    started_ms = int(run.run.launched_at * 1000)
    last = max([run.run.launched_at, *(step.at for step in run.steps[-1:]), *(e.at for e in run.epochs[-1:])])
    ended_ms = int((run.exit.ended_at if run.exit else last) * 1000)
    live = run.health.live
    experiment: dict[str, object] = {
        "artifact_location": str(folder.absolute() / EXPERIMENT_ID),
        "creation_time": started_ms,
        "experiment_id": EXPERIMENT_ID,
        "last_update_time": started_ms,
        "lifecycle_stage": "active",
        "name": "giblet",
    }
    meta: dict[str, object] = {
        "artifact_uri": str(base.absolute() / "artifacts"),
        "end_time": None if live else ended_ms,
        "entry_point_name": "",
        "experiment_id": EXPERIMENT_ID,
        "lifecycle_stage": "active",
        "run_id": run_uuid,
        "run_name": run.run.run_id,
        "run_uuid": run_uuid,
        "source_name": "",
        "source_type": 4,
        "source_version": "",
        "start_time": started_ms,
        "status": MLFLOW_STATUS.get(run.health.state, 1),
        "tags": [],
        "user_id": "",
    }
    files = {folder / EXPERIMENT_ID / "meta.yaml": _yaml(experiment), base / "meta.yaml": _yaml(meta)}
    files[base / "tags" / "mlflow.runName"] = run.run.run_id
    files[base / "artifacts" / ".keep"] = ""
    files |= {base / "params" / name: value for name, value in parameters_of(run).items()}
    metrics: dict[str, list[str]] = {}
    for scalar in scalars_of(run):
        metrics.setdefault(scalar.tag, []).append(f"{int(scalar.at * 1000)} {scalar.value!r} {scalar.step}\n")
    return files | {base / "metrics" / tag: "".join(lines) for tag, lines in metrics.items()}


def parameters_of(run: RunSnapshot) -> dict[str, str]:
    """Return the settings of a run that are exported."""
    parameters = {"config_hash": run.run.config_hash, "giblet_version": run.run.giblet_version}
    if run.config is not None:
        parameters |= {
            key: str(getattr(run.config, key)) for key in ("learning_rate", "num_epochs", "batch_size", "seed", "stage")
        }
    return parameters


def _yaml(values: Mapping[str, object]) -> str:
    """Write a flat mapping; JSON scalars are YAML."""
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items())


def _tf_record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (CASTAGNOLI if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC = _table()


def masked_crc(data: bytes) -> int:
    """Return the masked CRC-32C of TFRecords."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF


def _double(field: int, value: float) -> bytes:
    return bytes([field << 3 | 1]) + struct.pack("<d", value)


def protobuf_bytes(field: int, value: bytes) -> bytes:
    """Return a field with bytes, a string or a message."""
    return protobuf_varint(field << 3 | 2) + protobuf_varint(len(value)) + value


def protobuf_varint(value: int) -> bytes:
    """Return a number of variable length."""
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
