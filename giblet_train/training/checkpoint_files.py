"""Checkpoints: one safetensors file and, written last, a small JSON record that marks it as complete.

A file is written under a temporary name, flushed to disk and renamed; then its record is written in the same way. So a
record never names an incomplete file, and earlier checkpoints survive a crash or a full disk at any moment.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError
from torch import Tensor

from giblet_train.distributed.tensor_file import FileTensors, Series, save_file
from giblet_train.schema.config import Config, diff, to_mapping
from giblet_train.schema.config_loader import from_mapping
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.records import CheckpointRecord, decode
from giblet_train.schema.run_dir import RunDir, write_record

LAST, BEST, PERIODIC = "last", "best", "periodic"
# Keys that do not affect the weights except by rounding: a run may be resumed with other values.
FREE_KEYS = (
    "stage",
    "threads",
    "save_every",
    "keep_checkpoints",
    "resume_from",
    "on_sanity_fail",
    "watch",
    "criteria",
    "distributed",
)


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    tensors: read on access; their prefixes are `model.`, `average.`, `best.`, `optimizer.` and `balance.`.
    """

    path: Path
    record: CheckpointRecord
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]
    config: Config


class CheckpointDir:
    """The checkpoints of one run directory: `last`, `best`, and the newest periodic ones."""

    def __init__(self, folder: Path, keep: int) -> None:
        """Create the folder, and remove temporary files of a crash."""
        self.folder, self.keep = folder, keep
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            # A record that is temporarily unreadable is no reason to remove its checkpoint.
            unrecorded = path.suffix == ".safetensors" and not path.with_suffix(".json").exists()
            if unrecorded or path.name.endswith(".tmp"):
                path.unlink(missing_ok=True)

    def save(
        self,
        series: Series,
        *,
        state: Mapping[str, Any],
        config: Config,
        config_hash: str,
        store_key: str,
        step: int,
        epoch: int,
        validation_total: float | None,
        roles: tuple[str, ...],
    ) -> CheckpointRecord:
        """Write a checkpoint, move its roles from older ones to it, then remove checkpoints without a role.

        An identical checkpoint of the same step keeps its roles and gets these as well. Raises OSError, for example if
        the disk is full; earlier checkpoints are then unchanged.
        """
        path = self.folder / f"step-{step:08d}.safetensors"
        there = next((r for r in records_in(self.folder) if r.file == path.name), None)
        metadata = {
            "config": json.dumps(to_mapping(config)),
            "state": json.dumps(dict(state)),
            "torch": str(torch.__version__),
        }
        aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            save_file(series, aside, metadata)
            _crash_point("checkpoint-written")
            digest, size = _synced_digest(aside)
            _crash_point("checkpoint-synced")
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
            for _ in series.values:
                pass  # other ranks wait until all their tensors are received
        _crash_point("checkpoint-renamed")
        _sync_folder(self.folder)
        if there is not None and there.sha256 == digest:  # a stop request at the end of an epoch saves twice
            roles = (*roles, *(role for role in there.roles if role not in roles))
            validation_total = there.validation_total if validation_total is None else validation_total
        record = CheckpointRecord(
            file=path.name,
            step=step,
            epoch=epoch,
            at=time.time(),
            sha256=digest,
            bytes=size,
            config_hash=config_hash,
            store_key=store_key,
            validation_total=validation_total,
            roles=roles,
        )
        write_record(path.with_suffix(".json"), record, sync=True)
        _crash_point("checkpoint-recorded")
        self._prune(record)
        return record

    def import_best(self, folder: Path, best: CheckpointRecord) -> None:
        """Copy the best checkpoint of the run that this one continues. Raises OSError."""
        path = self.folder / best.file
        aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            shutil.copyfile(folder / best.file, aside)
            _synced_digest(aside)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        best = msgspec.structs.replace(best, roles=(BEST,), refit_trs=None)
        write_record(path.with_suffix(".json"), best, sync=True)

    def _prune(self, newest: CheckpointRecord) -> None:
        """Keep each role for its newest holder, and `keep` periodic ones; remove checkpoints without a role."""
        older = [r for r in records_in(self.folder) if r.file != newest.file]
        periodic = sorted(r.step for r in [*older, newest] if PERIODIC in r.roles)[-self.keep :]
        for record in older:
            roles = tuple(
                role
                for role in record.roles
                if (role == PERIODIC and record.step in periodic) or (role in (LAST, BEST) and role not in newest.roles)
            )
            path = self.folder / record.file
            if not roles:
                # The record goes first: a file without a record is ignored.
                path.with_suffix(".json").unlink(missing_ok=True)
                path.unlink(missing_ok=True)
            elif roles != record.roles:
                write_record(path.with_suffix(".json"), msgspec.structs.replace(record, roles=roles), sync=True)
            _crash_point("checkpoint-retired")


def record_refit(folder: Path, best: CheckpointRecord, trs: int) -> None:
    """Record that a run ended with this checkpoint, refitted on `trs` TRs. Raises OSError."""
    write_record((folder / best.file).with_suffix(".json"), msgspec.structs.replace(best, refit_trs=trs), sync=True)


def records_in(folder: Path) -> list[CheckpointRecord]:
    """Return the records of complete checkpoints, by step."""
    records = []
    for path in folder.glob("step-*.json"):
        with contextlib.suppress(OSError, DataError):
            record = decode(path.read_bytes(), CheckpointRecord)
            if (folder / record.file).is_file():
                records.append(record)
    return sorted(records, key=lambda r: r.step)


def unread_records_in(folder: Path) -> list[str]:
    """Return a sentence about each checkpoint whose record is damaged or whose file is missing."""
    sentences = []
    for path in sorted(folder.glob("step-*.json")):
        try:
            record = decode(path.read_bytes(), CheckpointRecord)
        except (OSError, DataError) as error:
            sentences.append(f"{path} cannot be read: {str(error).splitlines()[0].rstrip('.')}.")
            continue
        if not (folder / record.file).is_file():
            sentences.append(f"{folder / record.file} is missing.")
    return sentences


def newest(folder: Path, role: str = LAST) -> CheckpointRecord | None:
    """Return the newest checkpoint with a role; any checkpoint counts as `last`."""
    records = records_in(folder)
    return next((r for r in reversed(records) if role == LAST or role in r.roles), None)


def find(name: str, run_dir: RunDir) -> tuple[Path, list[CheckpointRecord]]:
    """Return the folder and records that `resume_from` names: a run id, a run directory, or a checkpoint file.

    At least one record, by step; for a file, its own. Raises ConfigError if there is none.
    """
    for path in (Path(name).expanduser(), run_dir.path.parent / name):
        if path.suffix in (".safetensors", ".json") and path.with_suffix(".json").is_file():
            return path.parent, [decode(path.with_suffix(".json").read_bytes(), CheckpointRecord)]
        if records := records_in(path / "checkpoints"):
            return path / "checkpoints", records
    raise ConfigError(
        f'resume_from "{name}" is neither a run of this node nor a complete checkpoint.',
        "Name a run id of this node, a run directory, or a step-*.safetensors file.",
    )


def read(folder: Path, record: CheckpointRecord) -> Checkpoint:
    """Read a checkpoint and compare its checksum. Raises DataError if it is damaged."""
    path = folder / record.file
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != record.sha256:
                raise DataError(f"{path} is damaged: its checksum differs.", "Resume from an earlier checkpoint.")
        tensors = FileTensors(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None
    config = from_mapping(json.loads(tensors.metadata["config"]), str(path)).config
    return Checkpoint(path, record, tensors, json.loads(tensors.metadata["state"]), config)


def check_fits(checkpoint: Checkpoint, config: Config, store_key: str) -> None:
    """Raise ConfigError naming the keys if a checkpoint belongs to another configuration or to other data."""
    differences = {
        key: values for key, values in diff(checkpoint.config, config).items() if key.split(".")[0] not in FREE_KEYS
    }
    if differences:
        words = "; ".join(f"{key}: {old} there, {new} here" for key, (old, new) in differences.items())
        raise ConfigError(
            f"The checkpoint of step {checkpoint.record.step} is of another configuration ({words}).",
            "Give these keys their old values, or start afresh without resume_from.",
        )
    if checkpoint.record.store_key != store_key:
        raise ConfigError(
            f"The checkpoint was trained on store {checkpoint.record.store_key}, the data here are store {store_key}.",
            "The study's files or their reading changed; start afresh without resume_from.",
        )


def _synced_digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _crash_point(point: str) -> None:
    """Kill this process as a power cut would if a test asks for it: GIBLET_CRASH_AT names the point."""
    if os.environ.get("GIBLET_CRASH_AT") == point:
        os.kill(os.getpid(), signal.SIGKILL)
