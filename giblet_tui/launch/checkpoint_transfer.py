"""Bring the checkpoint that a multi-node run resumes from to every node: each process reads it from its own disk."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from giblet_train.schema.errors import PreflightRefused
from giblet_tui.connection.base import Connection
from giblet_tui.connection.protocol import CheckpointFile
from giblet_tui.inventory.nodes import Node
from giblet_tui.results.pull import ASK_ABOVE_BYTES

LOOK_LIMIT_S = 60.0


class CheckpointTransfer(msgspec.Struct, frozen=True):
    """A checkpoint of the first node, and the nodes that lack it."""

    checkpoint: CheckpointFile
    source: tuple[Node, Connection]
    destinations: tuple[tuple[Node, Connection], ...]

    def transfer(self, report: Callable[[str], None]) -> None:
        """Copy the checkpoint through this machine, compare it by SHA-256, and write its record last."""
        node, connection = self.source
        if not self.destinations:
            return
        with tempfile.NamedTemporaryFile(prefix="giblet-", suffix=".safetensors") as file:
            for piece in connection.get(_path(node, self.checkpoint.place)):
                file.write(piece)
            file.flush()
            for other, to in self.destinations:
                megabytes = self.checkpoint.bytes / 1e6
                report(f"{other.name}: copying {self.checkpoint.place} from {node.name}, {megabytes:.1f} MB")
                to.put(Path(file.name), _path(other, self.checkpoint.place))
                to.put(self.checkpoint.record.encode(), _path(other, _record_of(self.checkpoint.place)))


def plan_transfer(targets: Sequence[tuple[Node, Connection]], resume_from: str) -> CheckpointTransfer:
    """Find the checkpoint that the run resumes from on the first node, and the nodes that lack it.

    Raises PreflightRefused if the first node has no such checkpoint, or if it is too large to copy without asking.
    """
    (node, _), *others = targets
    checkpoint, *copies = [_locate(target, resume_from) for target in targets]
    if checkpoint is None:
        raise PreflightRefused(
            f"{node.name} has no whole checkpoint of {resume_from}.", "Name the node that has it first, or another run."
        )
    destinations = [
        target for target, copy in zip(others, copies, strict=True) if copy is None or copy.sha256 != checkpoint.sha256
    ]
    if destinations and checkpoint.bytes > ASK_ABOVE_BYTES:
        names = ", ".join(other.name for other, _ in destinations)
        commands = [_copy_command(node, other, checkpoint.place) for other, _ in destinations]
        raise PreflightRefused(
            f"Each node needs the checkpoint, and {names} lacks {checkpoint.place} ({checkpoint.bytes / 1e9:.1f} GB,"
            " more than is sent through this machine unasked).",
            "\n  ".join(["Copy it, then launch again:", *commands]),
        )
    return CheckpointTransfer(checkpoint, targets[0], tuple(destinations))


def _locate(target: tuple[Node, Connection], resume_from: str) -> CheckpointFile | None:
    node, connection = target
    arguments = {"workdir": node.workdir, "resume_from": resume_from}
    checkpoint = connection.call("checkpoint", arguments, CheckpointFile, timeout_s=LOOK_LIMIT_S)
    return checkpoint if checkpoint.place else None


def _path(node: Node, place: str) -> str:
    return place if place.startswith("/") else f"{node.workdir}/runs/{place}"


def _record_of(place: str) -> str:
    return place.removesuffix(".safetensors") + ".json"


def _copy_command(node: Node, other: Node, place: str) -> str:
    """Return the shell command that copies weights and record by way of this machine."""
    source, target = (_path(n, place).removeprefix("~/") for n in (node, other))
    folder = target.rpartition("/")[0]
    mkdir = shlex.join(["ssh", other.host, f"mkdir -p {shlex.quote(folder)}"])
    copy = shlex.join(
        ["scp", "-3", f"{node.host}:{source}", f"{node.host}:{_record_of(source)}", f"{other.host}:{folder}"]
    )
    return f"{mkdir} && {copy}"
