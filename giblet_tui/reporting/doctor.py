"""What a node lacks, each finding with its remedy: a pure judgement of the facts of one round trip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from giblet_train.schema.config import Config
from giblet_train.schema.disk_usage import GIB, checkpoints_at_most
from giblet_train.schema.errors import GibletError
from giblet_tui.connection.sanitize import sanitize_value
from giblet_tui.deploy.install import Environment
from giblet_tui.inventory.nodes import Node
from giblet_tui.launch.plan import ends_at_logout
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting.json_output import SCHEMA

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


def needs(config: Config, probe: Mapping[str, Any], seen: Sequence[RunSnapshot]) -> list[Finding]:
    """Whether the node's disk and memory hold a run of this configuration, by what earlier runs of its name needed.

    seen: runs, newest first. A figure that no run has shown yet is told as such, not guessed.
    """
    own = [run for run in seen if run.run.name == config.name]
    sizes = [max(record.bytes for record in run.checkpoints) for run in own if run.checkpoints]
    memory = [max(s.rss_gib or 0.0 for s in run.steps) for run in own if any(s.rss_gib for s in run.steps)]
    n_files, n_ranks = checkpoints_at_most(config), config.distributed.world_size
    disk = None if not sizes else (n_files * sizes[0] / GIB, f"{n_files} checkpoints of {sizes[0] / GIB:.2f} GiB")
    ram = (
        None
        if not memory
        else (n_ranks * memory[0], f"{n_ranks} process{'es' if n_ranks > 1 else ''} of {memory[0]:.1f} GiB")
    )
    return [
        _room("checkpoints", disk, float(probe.get("disk_free_gib") or 0.0), "Free some: giblet prune NODE --dry-run"),
        _room("memory", ram, float(probe.get("ram_available_gib") or 0.0), "Take fewer processes, or wait."),
    ]


def doctor_json(node: Node, found: Sequence[Finding]) -> dict[str, Any]:
    """`doctor --json`. ok: a launch would not fail for any of this."""
    return {
        "schema": SCHEMA,
        "node": node.name,
        "ok": all(finding.well or not finding.needed for finding in found),
        "findings": [msgspec.to_builtins(replace(f, remedy="") if f.well else f) for f in found],
    }


def data(code: int, said: Sequence[str], again: str) -> Finding:
    """What the engine's check of the study on the node said. said: its lines; again: the command for all of it."""
    if code == 0:
        return Finding(name="data", well=True, sentence="the study is there and fits the configuration")
    complaint = next((line for line in reversed(said) if line.startswith("giblet: ")), "giblet: it has errors")
    return Finding(name="data", well=False, sentence=complaint.removeprefix("giblet: "), remedy=again, needed=True)


def _room(name: str, need: tuple[float, str] | None, there_gib: float, remedy: str) -> Finding:
    if need is None:
        return Finding(name=name, well=True, sentence="what it needs is not known before a first run of it was seen")
    needed_gib, parts = need
    sentence = f"{parts}: {needed_gib:.1f} GiB of {there_gib:.0f} GiB free"
    return Finding(name=name, well=needed_gib <= there_gib, sentence=sentence, remedy=remedy, needed=True)


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
    if not probe.get("writable", True):
        return Finding(
            name="disk",
            well=False,
            sentence=f"{node.workdir} cannot be written",
            remedy="Name another workdir for the node, or ask its administrator for a place to write.",
            needed=True,
        )
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
