"""A node's shortcomings, each with its remedy."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from giblet_train.schema.errors import PreflightRefused
from giblet_train.schema.records import CheckpointRecord
from giblet_tui.connection.protocol import EngineFacts, NodeProbe, decode
from giblet_tui.inventory.nodes import Node
from giblet_tui.reporting.doctor import data, doctor_json, findings, needs
from tests import fleets

ENGINE = EngineFacts(python="/e/bin/python", version="0.1.0", fingerprint="0" * 12, torch="2.13.0")
GPU = {
    "index": 0, "uuid": "GPU-0", "name": "RTX A6000", "memory_used_gib": 41.5, "memory_total_gib": 48.0,
    "processes": [{"pid": 77, "user": "ada", "memory_gib": 41.0}], "not_free": "ada (pid 77, 41.0 GiB)",
}  # fmt: skip


def probe(**changes: Any) -> NodeProbe:
    well = {"now": 0.0, "session_kinds": ["tmux", "process"], "gpus": [GPU], "gpu_note": "", "disk_free_gib": 900.0}
    return decode(well | {"kill_user_processes": False, "linger": None} | changes, NodeProbe)


def test_a_sound_node_has_no_remedies() -> None:
    found = findings(Node(name="n", host="n"), probe(), ENGINE)
    assert all(f.well for f in found)
    gpu = next(f for f in found if f.name == "gpu 0")
    assert gpu.sentence == "RTX A6000, 41.5/48 GiB, ada (pid 77, 41.0 GiB)"


@pytest.mark.parametrize(
    ("changes", "multiplexer", "name", "needed"),
    [
        ({"session_kinds": ["process"]}, "tmux", "sessions", True),
        ({"session_kinds": ["process"]}, "auto", "sessions", False),
        ({"disk_free_gib": 3.0}, "auto", "disk", False),
        ({"writable": False}, "auto", "disk", True),
        ({"kill_user_processes": True, "linger": False}, "auto", "logout", True),
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


def test_lingering_spares_nothing_and_root_is_not_ended() -> None:
    """As `launch` judges it: tmux and screen go with the last logout, whether the user lingers or not."""
    node = Node(name="n", host="n")
    ended = {f.name: f for f in findings(node, probe(kill_user_processes=True, linger=True, user="ada"), ENGINE)}
    assert not ended["logout"].well and "KillUserProcesses=no" in ended["logout"].remedy
    assert all(f.well for f in findings(node, probe(kill_user_processes=True, user="root"), ENGINE))


def test_findings_are_told_to_programs_too() -> None:
    node = Node(name="n", host="n")
    well = doctor_json(node, findings(node, probe(disk_free_gib=3.0), ENGINE))
    assert (well["schema"], well["node"], well["ok"]) == (1, "n", True)
    assert [(f["name"], f["needed"]) for f in well["findings"] if f["remedy"]] == [("disk", False)]
    assert not doctor_json(node, findings(node, probe(writable=False), ENGINE))["ok"]


@pytest.mark.parametrize(("skew_s", "well"), [(0.4, True), (-0.4, True), (90.0, False), (-90.0, False)])
def test_a_clock_that_is_off_is_told(skew_s: float, well: bool) -> None:
    clock = next(f for f in findings(Node(name="n", host="n"), probe(), ENGINE, skew_s) if f.name == "clock")
    assert clock.well == well
    assert ("ahead of" in clock.sentence) == (skew_s > 0)


def test_what_a_node_says_moves_no_cursor() -> None:
    evil = "\x1b]52;c;ZXZpbA==\x07\u202e"
    gpu = GPU | {"name": f"A6000{evil}", "processes": [{"pid": 77, "user": evil, "memory_gib": 41.0}]}
    for told in (probe(gpus=[gpu]), probe(gpus=[], gpu_note=f"nvidia-smi cannot be read: {evil}")):
        said = "".join(f.name + f.sentence + f.remedy for f in findings(Node(name="n", host="n"), told, ENGINE))
        assert "]52;c;" in said
        assert said.isprintable()


def test_room_is_judged_by_earlier_runs_and_never_guessed() -> None:
    run = fleets.healthy().runs()[0]
    config, fleet_run = run.config, run.run
    assert config is not None
    weights = CheckpointRecord(
        file="last.safetensors", step=9, epoch=1, at=0.0, sha256="0", bytes=2**30, config_hash="0", store_key="0"
    )
    unknown = needs(replace(config, name="other"), probe(), [run])
    assert all(f.well and "not known" in f.sentence for f in unknown)
    steps = tuple(replace(step, rss_gib=2.0) for step in run.steps[:2])
    small = probe(disk_free_gib=0.0, ram_available_gib=1.0)
    named = replace(run, run=replace(fleet_run, name=config.name), steps=steps, checkpoints=(weights,))
    found = {f.name: f for f in needs(config, small, [named])}
    assert (
        not found["checkpoints"].well and f"{config.keep_checkpoints + 3} checkpoints" in found["checkpoints"].sentence
    )
    assert not found["memory"].well and found["memory"].sentence == "1 process of 2.0 GiB: 2.0 GiB of 1 GiB free"
    assert all(f.well for f in needs(config, probe(ram_available_gib=500.0), [named]))


def test_data_that_is_not_there_stops_a_launch() -> None:
    assert data(0, [], "c").well
    bad = data(2, ["scanning", "giblet: film.mp4 does not exist.", "  Name it."], "giblet data check n c")
    assert (bad.sentence, bad.remedy, bad.needed) == ("film.mp4 does not exist.", "giblet data check n c", True)
