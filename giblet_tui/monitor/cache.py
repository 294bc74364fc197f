"""Cache of the last snapshot of each node on this machine: a first screen, and names, without a network.

Files that cannot be read are ignored, and long histories are downsampled.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec.structs import replace

from giblet_train.schema.run_dir import replace_file
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot, RunSnapshot
from giblet_tui.monitor.step_history import folder as cache_folder
from giblet_tui.monitor.step_history import thinned

MAX_RUNS = 60
MAX_STEPS = 200
MAX_LOG_LINES = 50

_decoder = msgspec.json.Decoder(NodeSnapshot)


def folder() -> Path:
    """Return `giblet/nodes` under `$XDG_CACHE_HOME` (~/.cache)."""
    return cache_folder() / "nodes"


def save(snapshot: NodeSnapshot) -> None:
    """Save a node's snapshot; a full or read-only disk is ignored."""
    short_snapshot = replace(
        snapshot, link="connecting", runs=tuple(_downsample(run) for run in snapshot.runs[:MAX_RUNS])
    )
    try:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(folder() / f"{snapshot.node}.json", msgspec.json.encode(short_snapshot), private=True)
    except OSError:
        pass


def load() -> Fleet:
    """Load the saved snapshot of every node; `observed_at` is its age, and no link is live."""
    snapshots = []
    for path in sorted(folder().glob("*.json")):
        try:
            snapshot = _decoder.decode(path.read_bytes())
        except (OSError, msgspec.MsgspecError):
            continue
        snapshots.append(replace(snapshot, runs=tuple(replace(run, steps=tuple(run.steps)) for run in snapshot.runs)))
    return Fleet(nodes=tuple(snapshots))


def _downsample(run: RunSnapshot) -> RunSnapshot:
    return replace(run, steps=thinned(run.steps, MAX_STEPS), log_tail=run.log_tail[-MAX_LOG_LINES:])
