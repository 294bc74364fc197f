"""What a node lacks, each finding with its remedy: a pure judgement of the facts of one round trip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from giblet_train.contract.errors import GibletError
from giblet_tui.launch import ends_at_logout
from giblet_tui.nodes import Node
from giblet_tui.remote.sanitize import sanitize_value
from giblet_tui.setup import Environment

DISK_WANTED_GIB = 20.0
SKEW_LIMIT_S = 2.0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the doctor. needed: a launch fails without it. remedy: what to do when it is not well."""

    name: str
    well: bool
    sentence: str
    remedy: str = ""
    needed: bool = False


def findings(
    node: Node, probe: Mapping[str, Any], engine: Environment | GibletError, clock_skew_s: float = 0.0
) -> list[Finding]:
    """Judge what the agent's `probe` saw, and whether the engine is there. Texts of the node are made harmless here.

    clock_skew_s: the node's clock less ours.
    """
    probe = sanitize_value(probe)
    own = [_disk(node, probe), _clock(clock_skew_s), _logout(node, probe)]
    return [_engine(engine), _sessions(node, probe), *_gpus(probe), *own]


def _engine(engine: Environment | GibletError) -> Finding:
    if isinstance(engine, GibletError):
        return Finding(name="engine", well=False, sentence=engine.message, remedy=engine.remedy, needed=True)
    return Finding(name="engine", well=True, sentence=f"giblet {engine.version}, torch {engine.torch}, {engine.python}")


def _sessions(node: Node, probe: Mapping[str, Any]) -> Finding:
    present = [name for name in ("tmux", "screen") if probe.get(name)]
    wanted = node.multiplexer
    if wanted in ("tmux", "screen") and wanted not in present:
        remedy = f"Have {wanted} installed there, or set `multiplexer: auto` for the node."
        return Finding(name="sessions", well=False, sentence=f"{wanted} is missing", remedy=remedy, needed=True)
    if present:
        return Finding(name="sessions", well=True, sentence=" and ".join(present))
    remedy = "Have tmux or screen installed to be able to attach."
    return Finding(
        name="sessions", well=False, sentence="neither tmux nor screen; runs are plain processes", remedy=remedy
    )


def _gpus(probe: Mapping[str, Any]) -> list[Finding]:
    gpus = probe.get("gpus") or []
    if not gpus:
        return [Finding(name="gpus", well=True, sentence=str(probe.get("gpu_note") or "none; runs use the CPU"))]
    return [Finding(name=f"gpu {gpu['index']}", well=True, sentence=_gpu(gpu)) for gpu in gpus]


def _gpu(gpu: Mapping[str, Any]) -> str:
    """Whose processes hold how much of it."""
    held = [f"{p.get('user') or '?'} {p['memory_gib']:.1f} GiB (pid {p['pid']})" for p in gpu["processes"]]
    used = f"{gpu['memory_used_gib']:.1f}/{gpu['memory_total_gib']:.0f} GiB"
    return f"{gpu['name']}, {used}, {', '.join(held) or 'free'}"


def _disk(node: Node, probe: Mapping[str, Any]) -> Finding:
    free = float(probe.get("disk_free_gib") or 0.0)
    return Finding(
        name="disk",
        well=free >= DISK_WANTED_GIB,
        sentence=f"{free:.0f} GiB free at {node.workdir}",
        remedy=f"A store and its checkpoints want about {DISK_WANTED_GIB:.0f} GiB: free some, or name another workdir.",
    )


def _clock(skew_s: float) -> Finding:
    way = "ahead of" if skew_s > 0 else "behind"
    return Finding(
        name="clock",
        well=abs(skew_s) <= SKEW_LIMIT_S,
        sentence=f"{abs(skew_s):.1f} s {way} ours",
        remedy="giblet counts by the node's own clock; files and logs will not agree: have NTP switched on there.",
    )


def _logout(node: Node, probe: Mapping[str, Any]) -> Finding:
    """systemd may end at the last logout all that a login started, tmux and screen too; lingering spares none of it."""
    if ends_at_logout(node, probe):
        remedy = (
            "Ask the administrator for KillUserProcesses=no in logind.conf; `loginctl enable-linger` does not help."
        )
        sentence = "logging out ends what you started (KillUserProcesses=yes)"
        return Finding(name="logout", well=False, sentence=sentence, remedy=remedy, needed=True)
    return Finding(name="logout", well=True, sentence="runs outlive the login")
