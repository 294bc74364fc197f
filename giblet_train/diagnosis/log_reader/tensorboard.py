"""Read the scalars of a TensorBoard event file.

The file is a sequence of TFRecords, each with a protobuf `Event`. Only the fields needed here are decoded: step and
summary of an event; tag, simple value and float tensor of a summary value. Checksums are not compared.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Tuple

from giblet_train.diagnosis.log_reader.key_names import quantity_of
from giblet_train.diagnosis.log_reader.reader import LogReader

MAX_RECORD = 64 * 1024 * 1024
_FIRST_RECORD = b"brain.Event:"


class Scalar(NamedTuple):
    """One value of a scalar."""

    tag: str
    step: int
    value: float


def is_event_file(start: bytes) -> bool:
    """Return True if a file begins with the record that every event file has first."""
    return _FIRST_RECORD in start[:64]


def read_events(file: BinaryIO, reader: LogReader) -> None:
    """Read the scalars of an event file, one record per step."""
    by_step: Dict[int, Dict[str, float]] = {}
    tags: Dict[str, List[int]] = {}
    for scalar in scalars(file):
        if scalar.tag.rsplit("/", 1)[-1] == "epoch" or quantity_of(scalar.tag) is not None:
            by_step.setdefault(scalar.step, {})[scalar.tag] = scalar.value
            tags.setdefault(scalar.tag, []).append(scalar.step)
    epoch_tag = next((tag for tag in tags if tag.rsplit("/", 1)[-1] == "epoch"), None)
    counts_epochs = _counts_epochs(tags)
    for step in sorted(by_step):
        values = dict(by_step[step])
        epoch = values.pop(epoch_tag, None) if epoch_tag else None
        position: Dict[str, object] = {"epoch": step} if counts_epochs else {"step": step}
        if epoch is not None and not counts_epochs:
            position["epoch"] = int(epoch) if epoch == int(epoch) else epoch
        if values:
            reader.feed_record({**position, **values})


def scalars(file: BinaryIO) -> Iterator[Scalar]:
    """Yield the scalars of an event file; a record that is cut off ends it."""
    while True:
        header = file.read(12)
        if len(header) < 12:
            return
        (length,) = struct.unpack("<Q", header[:8])
        if length > MAX_RECORD:
            return
        body = file.read(length + 4)
        if len(body) < length + 4:
            return
        try:
            yield from _scalars_of_event(body[:length])
        except (IndexError, struct.error, UnicodeDecodeError):
            continue


def _counts_epochs(tags: Dict[str, List[int]]) -> bool:
    """Return True if the losses are written once per epoch: steps of 1, for every tag of a loss."""
    losses = [steps for tag, steps in tags.items() if (quantity_of(tag) or ("",))[0] == "loss"]
    if not losses or any(tag.endswith("epoch") and tag.rsplit("/", 1)[-1] == "epoch" for tag in tags):
        return False
    return all(sorted(set(steps)) == list(range(min(steps), max(steps) + 1)) for steps in losses) and len(losses) > 1


def _scalars_of_event(event: bytes) -> Iterator[Scalar]:
    step, summaries = 0, []
    for number, _, value in _fields(event):
        if number == 2 and isinstance(value, int):
            step = value if value < 1 << 63 else value - (1 << 64)
        elif number == 5 and isinstance(value, bytes):
            summaries.append(value)
    for summary in summaries:
        for number, _, value in _fields(summary):
            if number == 1 and isinstance(value, bytes):
                scalar = _scalar(value, step)
                if scalar is not None:
                    yield scalar


def _scalar(value: bytes, step: int) -> Optional[Scalar]:
    tag, number = "", None
    for field, wire, content in _fields(value):
        if field == 1 and isinstance(content, bytes):
            tag = content.decode("utf-8")
        elif field == 2 and wire == 5 and isinstance(content, bytes):
            (number,) = struct.unpack("<f", content)
        elif field == 8 and isinstance(content, bytes):
            number = _float_of_tensor(content)
    return Scalar(tag, step, number) if tag and number is not None else None


def _float_of_tensor(tensor: bytes) -> Optional[float]:
    """Return the value of a scalar float tensor (type 1) or double tensor (type 2)."""
    kind, number = 0, None
    for field, _, content in _fields(tensor):
        if field == 1 and isinstance(content, int):
            kind = content
        elif field in (4, 5, 6) and isinstance(content, bytes) and len(content) in (4, 8):
            code = "<d" if len(content) == 8 else "<f"
            (number,) = struct.unpack(code, content)
    return number if kind in (1, 2) else None


def _fields(message: bytes) -> "Iterator[Tuple[int, int, object]]":
    """Yield (field number, wire type, content) of a protobuf message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            content, at = _varint(message, at)
            yield number, wire, content
        elif wire == 2:
            length, at = _varint(message, at)
            yield number, wire, message[at : at + length]
            at += length
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
            yield number, wire, message[at : at + length]
            at += length
        else:
            return


def _varint(message: bytes, at: int) -> Tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
