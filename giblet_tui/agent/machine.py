"""Identifies this machine: by machine id and boot id, whatever name a user has for it.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

from giblet_tui.agent.proc import boot_id

_FILES = ("/etc/machine-id", "/var/lib/dbus/machine-id")


def machine_id() -> str:
    """Return a hash of this machine's id (machine-id(5) asks not to show the id itself); empty if it has none."""
    for path in _FILES:
        try:
            with open(path) as file:
                text = file.read().strip()
        except OSError:
            continue
        if text and text != "uninitialized":
            return hashlib.sha256(b"giblet:" + text.encode()).hexdigest()[:16]
    return ""


def started_here(run: dict[str, Any], supervisor: dict[str, Any]) -> bool:
    """Return True if a run was started on this machine, in this boot or an earlier one.

    The boot decides if it is this one. Else both the machine id, if the run has one, and the host's own name must be
    the same: cloned machines share their id.

    Args:
        run: its run.json.
        supervisor: its supervisor.json, or empty.
    """
    here = boot_id()
    if here and supervisor.get("boot_id") == here:
        return True
    run_machine = str(run.get("machine_id") or "")
    if run_machine and run_machine != machine_id():
        return False
    return str(run.get("hostname") or os.uname().nodename) == os.uname().nodename
