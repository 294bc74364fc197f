"""Adopt a session that somebody started by hand: the request to the node and its answer."""

from __future__ import annotations

import re

import giblet_train
from giblet_train.schema.run_dir import name_from
from giblet_tui.connection.base import Connection
from giblet_tui.connection.protocol import AdoptedSession
from giblet_tui.inventory.nodes import Node

LIMIT_S = 60.0


def adopt(
    node: Node, connection: Connection, session: str, by: str, *, name: str | None = None, log: str | None = None
) -> AdoptedSession:
    """Adopt a session of the node as a run.

    Args:
        name: the run's name; None: the session's own.
        log: a path on the node; None: the node looks for it.

    Raises ConfigError for a name that no run can have, and the node's refusal; nothing is changed there then.
    """
    arguments = {
        "workdir": node.workdir,
        "session": session,
        "name": run_name(session) if name is None else name_from(name, strict=True),
        "node": node.name,
        "by": by,
        "log": log,
        "version": giblet_train.__version__,
        "lab": node.lab,
    }
    return connection.call("adopt", arguments, AdoptedSession, timeout_s=LIMIT_S)


def run_name(session: str) -> str:
    """Return a run name made from a session's name. Raises ConfigError."""
    return name_from(re.sub(r"^\d+\.", "", session))
