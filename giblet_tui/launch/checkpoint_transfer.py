"""The checkpoint that a run over several nodes goes on from: every process reads it, so it must lie on each node."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from giblet_train.schema.errors import PreflightRefused
from giblet_tui.connection.base import Connection
from giblet_tui.inventory.nodes import Node
from giblet_tui.results.pull import ASK_ABOVE_BYTES

LOOK_LIMIT_S = 60.0


class CheckpointLocation(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint on a node. place: its path below the node's runs, or a whole one; record: its JSON, as it stands."""

    place: str
    bytes: int
    sha256: str
    record: str


class CheckpointTransfer(msgspec.Struct, frozen=True):
    """A checkpoint of the first node, and the nodes that lack it."""

    found: CheckpointLocation
    first: tuple[Node, Connection]
    without: tuple[tuple[Node, Connection], ...]

    def transfer(self, say: Callable[[str], None]) -> None:
        """Copy it there through this machine: whole and compared by SHA-256, its record last."""
        node, connection = self.first
        if not self.without:
            return
        with tempfile.NamedTemporaryFile(prefix="giblet-", suffix=".safetensors") as file:
            for piece in connection.get(_path(node, self.found.place)):
                file.write(piece)
            file.flush()
            for other, to in self.without:
                say(f"{other.name}: copying {self.found.place} from {node.name}, {self.found.bytes / 1e6:.1f} MB")
                to.put(Path(file.name), _path(other, self.found.place))
                to.put(self.found.record.encode(), _path(other, _record_of(self.found.place)))


def plan_transfer(members: Sequence[tuple[Node, Connection]], resume_from: str) -> CheckpointTransfer:
    """The very checkpoint that the run goes on from, as the first node has it, and who has to be brought it.

    Raises PreflightRefused when the first has no such checkpoint, or it is too large to be sent unasked.
    """
    (node, _), *others = members
    first, *seen = [_lying(member, resume_from) for member in members]
    if first is None:
        raise PreflightRefused(
            f"{node.name} has no whole checkpoint of {resume_from}.", "Name the node that has it first, or another run."
        )
    without = [member for member, lies in zip(others, seen, strict=True) if lies is None or lies.sha256 != first.sha256]
    if without and first.bytes > ASK_ABOVE_BYTES:
        names = ", ".join(other.name for other, _ in without)
        commands = [_copy_command(node, other, first.place) for other, _ in without]
        raise PreflightRefused(
            f"Each node needs the checkpoint, and {names} lacks {first.place} ({first.bytes / 1e9:.1f} GB, more than is"
            " sent through this machine unasked).",
            "\n  ".join(["Copy it, then launch again:", *commands]),
        )
    return CheckpointTransfer(first, members[0], tuple(without))


def _lying(member: tuple[Node, Connection], resume_from: str) -> CheckpointLocation | None:
    node, connection = member
    arguments = {"workdir": node.workdir, "resume_from": resume_from}
    told = connection.call("checkpoint", arguments, timeout_s=LOOK_LIMIT_S)
    return msgspec.convert(told, CheckpointLocation) if told else None


def _path(node: Node, place: str) -> str:
    return place if place.startswith("/") else f"{node.workdir}/runs/{place}"


def _record_of(place: str) -> str:
    return place.removesuffix(".safetensors") + ".json"


def _copy_command(node: Node, other: Node, place: str) -> str:
    """What copies weights and record, by way of this machine."""
    source, target = (_path(n, place).removeprefix("~/") for n in (node, other))
    folder = target.rpartition("/")[0]
    made = shlex.join(["ssh", other.host, f"mkdir -p {shlex.quote(folder)}"])
    copied = shlex.join(
        ["scp", "-3", f"{node.host}:{source}", f"{node.host}:{_record_of(source)}", f"{other.host}:{folder}"]
    )
    return f"{made} && {copied}"
