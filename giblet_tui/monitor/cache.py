"""The last snapshot of each node, kept on this machine: for a first screen, and names, without a network.

It holds no truth: what cannot be read is as if it were not there, and long histories are thinned.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from giblet_train.schema.run_dir import replace_file
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot, RunSnapshot

MAX_RUNS = 60
MAX_STEPS = 200
MAX_LOG_LINES = 50

T = TypeVar("T")
_decoder = msgspec.json.Decoder(NodeSnapshot)


def folder() -> Path:
    """`giblet/nodes` under `$XDG_CACHE_HOME` (~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "giblet" / "nodes"


def save(snapshot: NodeSnapshot) -> None:
    """Keep a node's snapshot. A disk that takes none is no reason to stop watching."""
    kept = replace(snapshot, link="connecting", runs=tuple(_downsample(run) for run in snapshot.runs[:MAX_RUNS]))
    try:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(folder() / f"{snapshot.node}.json", msgspec.json.encode(kept))
    except OSError:
        pass


def load() -> Fleet:
    """What is kept of every node; `observed_at` says how old it is, and no link is live."""
    found = []
    for path in sorted(folder().glob("*.json")):
        try:
            found.append(_decoder.decode(path.read_bytes()))
        except (OSError, msgspec.MsgspecError):
            continue
    return Fleet(nodes=tuple(found))


def _downsample(run: RunSnapshot) -> RunSnapshot:
    return replace(run, steps=_evenly_spaced(run.steps, MAX_STEPS), log_tail=run.log_tail[-MAX_LOG_LINES:])


def _evenly_spaced(items: Sequence[T], most: int) -> tuple[T, ...]:
    """At most so many of them, evenly spread, the last among them."""
    stride = -(-len(items) // most) if items else 1
    return tuple(items[::-1][::stride][::-1])
