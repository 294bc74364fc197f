"""Chooses how to reach a node: giblet's own client, or the system's ssh where only that can connect.

If ssh reaches a node, giblet does: after a failure that ssh may overcome (its algorithms, keys, directives), the
system's ssh is tried once. If it connects, that is reported once and remembered for the node, so that later commands
start with it.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from giblet_train.schema.errors import GibletError
from giblet_train.schema.run_dir import replace_file
from giblet_tui.connection.agent_connection import AgentConnection
from giblet_tui.connection.notices import send_notice
from giblet_tui.connection.openssh import OpenSSHConnection, has_master
from giblet_tui.connection.sanitize import sanitize
from giblet_tui.connection.ssh_config import UnsupportedDirective
from giblet_tui.errors import LoginRefused, SSHMayHelp
from giblet_tui.inventory.nodes import Node


class RememberedTransport(msgspec.Struct, frozen=True, kw_only=True):
    """A node that giblet's own client cannot reach and the system's ssh can."""

    host: str
    ssh_config: str | None
    reason: str
    """Why giblet's own client failed."""
    is_reported: bool = False
    """A person has read it."""


def connect_by_ssh(node: Node) -> AgentConnection:
    """Connect with giblet's own client, or with the system's ssh if only that can. Raises as `connect` does.

    A person may have opened a master connection with a code or a password that giblet does not have: where keys are
    refused, it is used, and nothing is remembered, because it will close.
    """
    memory = recall(node)
    if memory is not None:
        try:
            connection = OpenSSHConnection(node)
        except GibletError:
            _path(node).unlink(missing_ok=True)  # what was true may have changed: next time both are tried
            raise
        _report(node, memory)
        return connection
    from giblet_tui.connection.ssh import SSHConnection

    try:
        return SSHConnection(node)
    except (SSHMayHelp, UnsupportedDirective) as error:
        return _fall_back(node, error)
    except LoginRefused:
        if not has_master(node):
            raise
        return OpenSSHConnection(node)


def recall(node: Node) -> RememberedTransport | None:
    """Return what is remembered for the node as it is configured now."""
    try:
        memory = msgspec.json.decode(_path(node).read_bytes(), type=RememberedTransport)
    except (OSError, msgspec.MsgspecError):
        return None
    is_same = (memory.host, memory.ssh_config) == (node.host, node.ssh_config)
    return memory if is_same else None


def _fall_back(node: Node, error: GibletError) -> AgentConnection:
    """Connect with the system's ssh. Raises the first client's error if that fails too, with ssh's reason."""
    try:
        connection = OpenSSHConnection(node)
    except GibletError as second:
        if isinstance(error, SSHMayHelp) and error.needs_reason_of_ssh:
            error.message = f"{error.message} {second.message}"
            error.remedy = second.remedy
        raise error from None
    memory = RememberedTransport(host=node.host, ssh_config=node.ssh_config, reason=error.message)
    _save(node, memory)
    _report(node, memory)
    return connection


def _report(node: Node, memory: RememberedTransport) -> None:
    """Report the choice once."""
    if not memory.is_reported and send_notice(
        f"{node.name} is reached by the system's ssh, since giblet's own client cannot: {sanitize(memory.reason)}"
        " To choose that yourself: `transport: openssh` for the node in nodes.yaml."
    ):
        _save(node, msgspec.structs.replace(memory, is_reported=True))


def _path(node: Node) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "giblet" / "transports" / f"{node.name}.json"


def _save(node: Node, memory: RememberedTransport) -> None:
    """Write the memory; a full or read-only disk is ignored."""
    try:
        _path(node).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(_path(node), msgspec.json.encode(memory), private=True)
    except OSError:
        pass
