"""A node's shortcomings, each with its remedy."""

from __future__ import annotations

from typing import Any

import pytest

from giblet_train.contract.errors import PreflightRefused
from giblet_tui.doctor import findings
from giblet_tui.nodes import Node
from giblet_tui.setup import Environment

ENGINE = Environment(python="/e/bin/python", version="0.1.0", fingerprint="0" * 12, torch="2.13.0")
GPU = {
    "index": 0, "uuid": "GPU-0", "name": "RTX A6000", "memory_used_gib": 41.5, "memory_total_gib": 48.0,
    "processes": [{"pid": 77, "user": "ada", "memory_gib": 41.0}],
}  # fmt: skip


def probe(**changes: Any) -> dict[str, Any]:
    well = {"tmux": "/usr/bin/tmux", "screen": None, "gpus": [GPU], "gpu_note": "", "disk_free_gib": 900.0}
    return well | {"kill_user_processes": False, "linger": None} | changes


def test_a_sound_node_has_no_remedies() -> None:
    found = findings(Node(name="n", host="n"), probe(), ENGINE)
    assert all(f.well for f in found)
    gpu = next(f for f in found if f.name == "gpu 0")
    assert gpu.sentence == "RTX A6000, 41.5/48 GiB, ada 41.0 GiB (pid 77)"


@pytest.mark.parametrize(
    ("changes", "multiplexer", "name", "needed"),
    [
        ({"tmux": None}, "tmux", "sessions", True),
        ({"tmux": None}, "auto", "sessions", False),
        ({"disk_free_gib": 3.0}, "auto", "disk", False),
        ({"kill_user_processes": True, "linger": False}, "auto", "logout", False),
    ],
)
def test_each_shortcoming_has_a_remedy(changes: dict[str, Any], multiplexer: Any, name: str, needed: bool) -> None:
    found = findings(Node(name="n", host="n", multiplexer=multiplexer), probe(**changes), ENGINE)
    unwell = [f for f in found if not f.well]
    assert [(f.name, f.needed) for f in unwell] == [(name, needed)]
    assert unwell[0].remedy


def test_a_missing_engine_stops_a_launch() -> None:
    found = findings(Node(name="n", host="n"), probe(), PreflightRefused("n lacks giblet.", "giblet setup n"))
    assert [(f.name, f.remedy, f.needed) for f in found if not f.well] == [("engine", "giblet setup n", True)]


def test_lingering_users_may_log_out() -> None:
    found = findings(Node(name="n", host="n"), probe(kill_user_processes=True, linger=True), ENGINE)
    assert all(f.well for f in found)
