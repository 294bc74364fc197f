"""Write a run's scalars as an offline run of Weights & Biases, which `wandb sync` uploads and `wandb leet` shows.

The file is a log of LevelDB's format whose records are protobuf messages (`wandb_internal.proto`). It is written
directly, so that the program does not have to be installed.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting.trackers import Scalar, parameters_of, protobuf_bytes, protobuf_varint, scalars_of

HEADER = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
BLOCK_BYTES, RECORD_HEADER_BYTES = 32768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
HISTORY, SUMMARY, RUN, EXIT = 2, 3, 17, 18
"""Fields of a record."""
PROJECT = "giblet"


def wandb_files(run: RunSnapshot, folder: Path) -> dict[Path, bytes]:
    """Return path -> content of an offline run in `folder`; the same run always has the same path."""
    start_time = time.strftime("%Y%m%d_%H%M%S", time.gmtime(run.run.launched_at))
    run_id = run.run.run_id
    return {folder / f"offline-run-{start_time}-{run_id}" / f"run-{run_id}.wandb": _log(_records(run))}


def _records(run: RunSnapshot) -> Iterator[bytes]:
    """Yield the records: the run, a row for each step, the last values, and the end of a run that has ended."""
    start_field = _integer(1, int(run.run.launched_at))
    config = b"".join(protobuf_bytes(1, _item(key, value)) for key, value in parameters_of(run).items())
    about = protobuf_bytes(1, run.run.run_id.encode()) + protobuf_bytes(3, PROJECT.encode())
    about += protobuf_bytes(4, config) + protobuf_bytes(8, run.run.run_id.encode()) + protobuf_bytes(17, start_field)
    yield protobuf_bytes(RUN, about)
    last: dict[str, float] = {}
    scalars = sorted(scalars_of(run), key=lambda scalar: scalar.step)
    for step, group in groupby(scalars, key=lambda scalar: scalar.step):
        row = _row(step, list(group), run.run.launched_at)
        last |= row
        items = b"".join(protobuf_bytes(1, _item(key, value)) for key, value in row.items())
        yield protobuf_bytes(HISTORY, items + protobuf_bytes(2, _integer(1, step)))
    yield protobuf_bytes(SUMMARY, b"".join(protobuf_bytes(1, _item(key, value)) for key, value in last.items()))
    if run.exit is not None:
        code = 0 if run.health.state == "finished" else 1
        seconds = max(0, int(run.exit.ended_at - run.run.launched_at))
        yield protobuf_bytes(EXIT, _integer(1, code) + _integer(2, seconds))


def _row(step: int, scalars: list[Scalar], started_at: float) -> dict[str, float]:
    """Return what wandb stores of one step."""
    at = max(scalar.at for scalar in scalars)
    values = {scalar.tag: scalar.value for scalar in scalars}
    return values | {"_step": step, "_timestamp": at, "_runtime": max(0.0, at - started_at)}


def _item(key: str, value: float | str) -> bytes:
    return protobuf_bytes(1, key.encode()) + protobuf_bytes(16, json.dumps(value).encode())


def _integer(field: int, value: int) -> bytes:
    """Return a field of a message that holds a whole number."""
    return bytes([field << 3]) + protobuf_varint(value)


def _log(records: Iterator[bytes]) -> bytes:
    """Return a log of records. A record is split where a block of BLOCK_BYTES ends."""
    log = bytearray(HEADER)
    for number, record in enumerate(records, 1):
        data, first = _integer(1, number) + record, True
        while data or first:
            room = BLOCK_BYTES - len(log) % BLOCK_BYTES
            if room < RECORD_HEADER_BYTES:
                log += bytes(room)
                room = BLOCK_BYTES
            part, data = data[: room - RECORD_HEADER_BYTES], data[room - RECORD_HEADER_BYTES :]
            kind = (LAST if not first else FULL) if not data else (FIRST if first else MIDDLE)
            crc = zlib.crc32(part, zlib.crc32(bytes([kind])))
            log += struct.pack("<IHB", crc, len(part), kind) + part
            first = False
    return bytes(log)
