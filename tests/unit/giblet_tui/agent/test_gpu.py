"""nvidia-smi's output, recorded and damaged. No GPU is used: a script stands in for nvidia-smi."""

from __future__ import annotations

from pathlib import Path

import pytest

from giblet_tui.agent import gpu

UUIDS = ("GPU-6a1b2c3d-0000-1111-2222-333344445555", "GPU-6a1b2c3d-0000-1111-2222-333344445556")
GPUS = f"""\
0, {UUIDS[0]}, NVIDIA RTX A6000, 1234, 49140, 97, 71
1, {UUIDS[1]}, NVIDIA RTX A6000, 4, 49140, [N/A], [Not Supported]
"""
PROCESSES = f"{UUIDS[0]}, 4242, 1200\n{UUIDS[0]}, 4243, [N/A]\n"


def test_gpus() -> None:
    first, second = gpu.parse_gpus(GPUS)
    assert (first["index"], first["uuid"], first["name"]) == (0, UUIDS[0], "NVIDIA RTX A6000")
    assert first["memory_used_gib"] == pytest.approx(1234 / 1024)
    assert first["memory_total_gib"] == pytest.approx(49140 / 1024)
    assert (first["utilisation"], first["temperature"]) == (97.0, 71.0)
    assert (second["utilisation"], second["temperature"]) == (None, None)
    assert gpu.parse_gpus("") == []


def test_processes() -> None:
    assert gpu.parse_processes(PROCESSES) == [
        {"uuid": UUIDS[0], "pid": 4242, "memory_gib": 1200 / 1024},
        {"uuid": UUIDS[0], "pid": 4243, "memory_gib": 0.0},
    ]
    assert gpu.parse_processes("\n") == []


@pytest.mark.parametrize("output", ["No devices were found\n", "a, b, c, d, e, f, g\n", "0, x\n"])
def test_other_output_is_an_error(output: str) -> None:
    with pytest.raises(ValueError):
        gpu.parse_gpus(output)


def test_a_look_joins_both(recorded: Path) -> None:
    write(recorded, f"case $1 in *gpu=*) printf '{escaped(GPUS)}';; *) printf '{escaped(PROCESSES)}';; esac")
    seen = gpu.query_gpus()
    assert seen["gpu_note"] == ""
    assert [p["pid"] for p in seen["gpus"][0]["processes"]] == [4242, 4243]
    assert seen["gpus"][1]["processes"] == []


@pytest.mark.parametrize(
    ("script", "note"),
    [
        ("echo 'NVIDIA-SMI has failed because it could not talk to the driver'; exit 9", "status 9: NVIDIA-SMI has"),
        ("printf '\\377\\376 garbage'", "cannot be read"),
        ("echo 'No devices were found'", "No devices were found"),
    ],
)
def test_a_look_never_fails(recorded: Path, script: str, note: str) -> None:
    write(recorded, script)
    seen = gpu.query_gpus()
    assert seen["gpus"] == [] and note in seen["gpu_note"]


def test_a_look_never_hangs(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "LIMIT_S", 0.2)
    write(recorded, "exec sleep 60")
    assert "did not answer" in gpu.query_gpus()["gpu_note"]


def test_a_node_without_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no nvidia-smi" in gpu.query_gpus()["gpu_note"]


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "nvidia-smi"


def write(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def escaped(text: str) -> str:
    return text.replace("\n", "\\n")


@pytest.mark.parametrize(
    ("ahead", "left"),
    [
        ([], "abc"),
        ([(1, "abc")], "bc"),
        ([(4, "abc")], ""),
        ([(1, "b"), (1, "ab")], "c"),
        ([(2, "de")], "abc"),
    ],
)
def test_who_came_first_keeps_what_it_waits_for(ahead: list[tuple[int, str]], left: str) -> None:
    waiters = [{"n_gpus": n_gpus, "among": list(among)} for n_gpus, among in ahead]
    assert gpu.free_after_queue(list("abc"), waiters) == list(left)
