"""Judge whether a node can run giblet: findings with remedies, from the answers of one round trip. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from giblet_train.schema.config import Config
from giblet_train.schema.disk_usage import GIB, checkpoints_at_most
from giblet_train.schema.errors import GibletError
from giblet_tui.agent.sessions import BACKENDS
from giblet_tui.connection.protocol import EngineFacts, Gpu, NodeProbe
from giblet_tui.inventory.nodes import Node
from giblet_tui.launch.plan import ends_at_logout
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting.json_output import SCHEMA

DISK_WANTED_GIB = 20.0
"""Free disk space, in GiB, that a store and its checkpoints usually need."""
SKEW_LIMIT_S = 2.0
"""Largest difference in seconds between the clocks of node and laptop that is not reported."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line printed by `giblet doctor`."""

    name: str
    well: bool
    """True if nothing has to be done."""
    sentence: str
    remedy: str = ""
    """What to do if it is not well."""
    needed: bool = False
    """True if a launch fails without it."""


def findings(
    node: Node, probe: NodeProbe, engine: EngineFacts | GibletError, clock_skew_s: float = 0.0
) -> list[Finding]:
    """Judge the answer of the agent's `probe` and the state of the engine.

    Args:
        clock_skew_s: Clock of the node minus clock of the laptop, in seconds.
    """
    own = [_disk(node, probe), _clock(clock_skew_s), _logout(node, probe)]
    return [_engine(engine), _sessions(node, probe), *_gpus(probe), *own]


def needs(config: Config, probe: NodeProbe, earlier_runs: Sequence[RunSnapshot]) -> list[Finding]:
    """Check that the node's disk and memory suffice, judged by what earlier runs of the same name needed.

    A need that no earlier run has shown is reported as unknown, never guessed.

    Args:
        earlier_runs: Runs on the node, newest first.
    """
    own = [run for run in earlier_runs if run.run.name == config.name]
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
        _space_finding("checkpoints", disk, probe.disk_free_gib, "Free some: giblet prune NODE --dry-run"),
        _space_finding("memory", ram, probe.ram_available_gib, "Take fewer processes, or wait."),
    ]


def doctor_json(node: Node, node_findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the object printed by `doctor --json`; `ok` is False if a launch would fail."""
    return {
        "schema": SCHEMA,
        "node": node.name,
        "ok": all(finding.well or not finding.needed for finding in node_findings),
        "findings": [msgspec.to_builtins(replace(f, remedy="") if f.well else f) for f in node_findings],
    }


def data(code: int, output_lines: Sequence[str], command: str) -> Finding:
    """Report the result of the engine's study check on the node.

    Args:
        code: Exit code of the check.
        output_lines: Lines that it printed.
        command: Command that shows its whole output.
    """
    if code == 0:
        return Finding(name="data", well=True, sentence="the study is there and fits the configuration")
    complaint = next((line for line in reversed(output_lines) if line.startswith("giblet: ")), "giblet: it has errors")
    return Finding(name="data", well=False, sentence=complaint.removeprefix("giblet: "), remedy=command, needed=True)


def _space_finding(name: str, need: tuple[float, str] | None, there_gib: float, remedy: str) -> Finding:
    if need is None:
        return Finding(name=name, well=True, sentence="what it needs is not known before its first run")
    needed_gib, parts = need
    sentence = f"{parts}: {needed_gib:.1f} GiB of {there_gib:.0f} GiB free"
    return Finding(name=name, well=needed_gib <= there_gib, sentence=sentence, remedy=remedy, needed=True)


def _engine(engine: EngineFacts | GibletError) -> Finding:
    if isinstance(engine, GibletError):
        return Finding(name="engine", well=False, sentence=engine.message, remedy=engine.remedy, needed=True)
    return Finding(name="engine", well=True, sentence=f"giblet {engine.version}, torch {engine.torch}, {engine.python}")


def _sessions(node: Node, probe: NodeProbe) -> Finding:
    present = [kind for kind in probe.session_kinds if BACKENDS[kind].has_terminal]
    multiplexer = node.multiplexer
    if multiplexer != "auto" and multiplexer not in probe.session_kinds:
        remedy = f"Have {multiplexer} installed there, or set `multiplexer: auto` for the node."
        return Finding(name="sessions", well=False, sentence=f"{multiplexer} is missing", remedy=remedy, needed=True)
    if present:
        return Finding(name="sessions", well=True, sentence=" and ".join(present))
    remedy = "Have tmux or screen installed to be able to attach."
    return Finding(
        name="sessions", well=False, sentence="neither tmux nor screen; runs are plain processes", remedy=remedy
    )


def _gpus(probe: NodeProbe) -> list[Finding]:
    gpus = probe.gpus
    if probe.gpu_error:
        remedy = "Have it repaired (after a driver update, reboot), or train on the CPU: --set device=cpu"
        return [Finding(name="gpus", well=False, sentence=probe.gpu_error, remedy=remedy, needed=True)]
    if not gpus:
        return [Finding(name="gpus", well=True, sentence=probe.gpu_note or "none; runs use the CPU")]
    findings = [
        Finding(
            name=f"gpu {gpu['index']}",
            well=not gpu.get("fault"),
            sentence=_gpu(gpu),
            remedy="giblet does not use it. Ask the node's administrator.",
        )
        for gpu in gpus
    ]
    if probe.gpu_warning:
        remedy = "The other values are used. Ask the node's administrator."
        findings.append(Finding(name="nvidia-smi", well=False, sentence=probe.gpu_warning, remedy=remedy))
    return findings


def _gpu(gpu: Gpu) -> str:
    """Describe a GPU's memory use, and who holds it."""
    used = f"{gpu['memory_used_gib']:.1f}/{gpu['memory_total_gib']:.0f} GiB"
    return f"{gpu['name']}, {used}, {gpu['not_free'] or 'free'}"


def _disk(node: Node, probe: NodeProbe) -> Finding:
    free = probe.disk_free_gib
    if not probe.writable:
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


def _logout(node: Node, probe: NodeProbe) -> Finding:
    """Check whether systemd ends runs at logout. It ends tmux and screen too, and lingering does not prevent it."""
    if ends_at_logout(node, probe):
        remedy = (
            "Ask the administrator for KillUserProcesses=no in logind.conf; `loginctl enable-linger` does not help."
        )
        sentence = "logging out ends what you started (KillUserProcesses=yes)"
        return Finding(name="logout", well=False, sentence=sentence, remedy=remedy, needed=True)
    return Finding(name="logout", well=True, sentence="runs outlive the login")
