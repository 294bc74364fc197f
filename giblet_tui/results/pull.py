"""Copy files of a run to this machine: resumable, compared by SHA-256, never outside the target folder."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from giblet_train.schema.errors import ConfigError, DataError, GibletError
from giblet_train.schema.records import CheckpointRecord
from giblet_train.schema.run_dir import RunDir, write_record
from giblet_tui.connection.base import Connection
from giblet_tui.errors import TimedOut, Unreachable
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor.snapshots import RunSnapshot

ASK_ABOVE_BYTES = 100_000_000
SMALL_FILES = ("run.json", "config.yaml", "metrics.jsonl", "alerts.jsonl", "answers.jsonl", "exit.json", "train.log")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,120}")
_REPORT_EVERY_S = 2.0


def run_folder(node: Node, run_id: str) -> str:
    """Return a run's directory on the node."""
    return f"{node.workdir}/runs/{run_id}"


def remote_file(node: Node, run_id: str, name: str) -> str:
    """Return the path of a run's file on the node."""
    return f"{run_folder(node, run_id)}/{name}"


def checkpoint(run: RunSnapshot, role: str, ways: Mapping[str, str]) -> CheckpointRecord:
    """Return the run's checkpoint of that role. Raises ConfigError if it has none, DataError for a bad name.

    ways: role (best, last) -> what to type for the checkpoint of that role.
    """
    candidates = [c for c in run.checkpoints if role in c.roles]
    if not candidates:
        raise _no_checkpoint(run, role, ways)
    record = max(candidates, key=lambda c: c.step)
    safe_name(record.file, run.run.run_id)
    return record


def _no_checkpoint(run: RunSnapshot, role: str, ways: Mapping[str, str]) -> ConfigError:
    run_id, live = run.run.run_id, run.health.live
    if run.run.foreign:
        return ConfigError(
            f"{run_id} has no checkpoints that giblet knows of: {run.run.foreign}.",
            f"giblet pull {run_id} --logs",
        )
    there = {other for record in run.checkpoints for other in record.roles}
    other = next((way for other, way in ways.items() if other in there), None)
    if other is not None:
        remedy = other
    elif live:
        remedy = f"`giblet status {run_id}` shows its state."
    else:
        remedy = f"It ended before it saved one: giblet why {run_id}"
    return ConfigError(f"{run_id} has no {role} checkpoint{' yet' if live else ''}.", remedy)


def safe_name(name: str, run_id: str) -> str:
    """Return a file name sent by a node if it is a plain name. Raises DataError for any other."""
    if not _PLAIN_NAME.fullmatch(name):
        raise DataError(f"{run_id} names a file {name!r}, which is not a plain file name.")
    return name


def record_files(
    connection: Connection, node: Node, run: RunSnapshot, target: Path, report: Callable[[str], None]
) -> list[Path]:
    """Copy records, configuration and log, each replaced whole. report: receives the names that could not be copied."""
    target.mkdir(parents=True, exist_ok=True)
    paths = []
    absent = {
        "config.yaml": bool(run.run.foreign),
        "metrics.jsonl": bool(run.run.foreign) and not run.metrics,
        "exit.json": run.exit is None,
        "alerts.jsonl": not run.alerts,
        "answers.jsonl": not run.answers,
    }
    for name in (name for name in SMALL_FILES if not absent.get(name)):
        aside = target / f".{name}.part"
        try:
            with aside.open("wb") as file:
                for piece in connection.get(remote_file(node, run.run.run_id, name)):
                    file.write(piece)
            aside.replace(target / name)
            paths.append(target / name)
        except (Unreachable, TimedOut):
            raise
        except GibletError as error:
            report(f"without {name}: {error.message}")
        finally:
            aside.unlink(missing_ok=True)
    return paths


def weights(
    connection: Connection,
    node: Node,
    run: RunSnapshot,
    record: CheckpointRecord,
    target: Path,
    report: Callable[[str], None],
) -> Path:
    """Copy one checkpoint with its record into `target`, laid out like a run directory so that the engine can read it.

    Continues an earlier, interrupted pull. Raises DataError as `download_file`.
    """
    folder = RunDir(target).checkpoints
    final = folder / record.file
    remote = remote_file(node, run.run.run_id, f"{folder.name}/{record.file}")
    download_file(connection, remote, final, record.bytes, record.sha256, report)
    write_record(final.with_suffix(".json"), record)
    return final


def download_file(
    connection: Connection, remote: str, final: Path, size: int, sha256: str, report: Callable[[str], None]
) -> None:
    """Copy a file of the node to `final`; continue a partial copy, and do nothing if the file is already there.

    Raises DataError if the SHA-256 differs; the partial file is then removed.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.exists() and _sha256(final) == sha256:
        return
    aside = final.with_name(f".{final.name}.part")
    _continue(connection, remote, aside, size, report)
    if _sha256(aside) != sha256:
        aside.unlink()
        raise DataError(f"{final.name} arrived damaged, or was replaced meanwhile.", "Copy it again.")
    aside.replace(final)


def _continue(connection: Connection, remote: str, aside: Path, size: int, report: Callable[[str], None]) -> None:
    here = aside.stat().st_size if aside.exists() else 0
    if here > size:
        aside.unlink()
        here = 0
    began = reported_at = time.monotonic()
    first = here
    with aside.open("ab") as file:
        for piece in connection.get(remote, offset=here, limit=size - here):
            file.write(piece)
            here += len(piece)
            now = time.monotonic()
            if now - reported_at >= _REPORT_EVERY_S:
                reported_at = now
                pace = (here - first) / (now - began)
                report(
                    f"{here / 1e6:.0f}/{size / 1e6:.0f} MB, {pace / 1e6:.1f} MB/s, {(size - here) / pace:.0f} s left"
                )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
