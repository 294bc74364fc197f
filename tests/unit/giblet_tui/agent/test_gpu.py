"""nvidia-smi's output, recorded and damaged. No GPU is used: a script stands in for nvidia-smi."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from giblet_tui.agent import gpu, gpu_allocation, gpu_slices, gpu_xid, proc
from tests import gpu_recordings
from tests.cluster.nodes import wait_until

UUIDS = ("GPU-6a1b2c3d-0000-1111-2222-333344445555", "GPU-6a1b2c3d-0000-1111-2222-333344445556")
GPUS = f"""\
0, {UUIDS[0]}, NVIDIA RTX A6000, 1234, 49140, 97, 71
1, {UUIDS[1]}, NVIDIA RTX A6000, 4, 49140, [N/A], [Not Supported]
"""
PROCESSES = f"{UUIDS[0]}, 4242, 1200\n{UUIDS[0]}, 4243, [N/A]\n"


def test_gpus() -> None:
    (first, second), other_lines = gpu.parse_gpus(GPUS)
    assert (first["index"], first["uuid"], first["name"]) == (0, UUIDS[0], "NVIDIA RTX A6000")
    assert first["memory_used_gib"] == pytest.approx(1234 / 1024)
    assert first["memory_total_gib"] == pytest.approx(49140 / 1024)
    assert (first["utilisation"], first["temperature"]) == (97.0, 71.0)
    assert (second["utilisation"], second["temperature"]) == (None, None)
    assert first["fault"] == second["fault"] == "" and other_lines == []
    assert gpu.parse_gpus("") == ([], [])


def test_a_name_may_contain_commas() -> None:
    ((card,), _) = gpu.parse_gpus(f"0, {UUIDS[0]}, Quadro, Special, Edition, 4, 49140, 0, 30\n")
    assert card["name"] == "Quadro, Special, Edition" and card["memory_total_gib"] == pytest.approx(49140 / 1024)


@pytest.mark.parametrize("memory", ["[Unknown Error], [Unknown Error]", "[GPU is lost], 49140", "4, [N/A]"])
def test_memory_that_cannot_be_read_makes_a_card_faulty(memory: str) -> None:
    ((card,), _) = gpu.parse_gpus(f"0, {UUIDS[0]}, NVIDIA A100, {memory}, 0, 30\n")
    assert card["fault"].startswith("nvidia-smi reports [") and card["fault"].endswith("for its memory")


def test_processes() -> None:
    assert gpu.parse_processes(PROCESSES) == (
        [
            {"uuid": UUIDS[0], "pid": 4242, "memory_gib": 1200 / 1024},
            {"uuid": UUIDS[0], "pid": 4243, "memory_gib": 0.0},
        ],
        [],
    )
    assert gpu.parse_processes("\n") == ([], [])
    unreadable, _ = gpu.parse_processes(f"{UUIDS[0]}, [Unknown Error], 12\n")
    assert [process["pid"] for process in unreadable] == [0], "somebody holds the card, although nobody knows who"


@pytest.mark.parametrize("output", ["No devices were found\n", "a, b, c, d, e, f, g\n", "0, x\n"])
def test_other_output_is_no_gpu(output: str) -> None:
    gpus, other_lines = gpu.parse_gpus(output)
    assert gpus == [] and other_lines == [output.strip()]


def test_health_names_mode_slices_display_and_errors() -> None:
    health = gpu.parse_health(f"{UUIDS[0]}, Prohibited, Enabled, Disabled, 3\n{UUIDS[1]}, [N/A], [N/A], Enabled, [N/A]")
    assert health[UUIDS[0]] == {"compute_mode": "Prohibited", "mig": True, "display": False, "ecc_errors": 3}
    assert health[UUIDS[1]] == {"compute_mode": "", "mig": False, "display": True, "ecc_errors": None}
    assert gpu.parse_health('Field "mig.mode.current" is not a valid field to query.') == {}


def test_a_gpu_that_is_slowed_down_is_a_warning_and_stays_usable(nvidia_smi: Path) -> None:
    slow = f"{UUIDS[0]}, Not Active, Not Active\n{UUIDS[1]}, Active, Not Active\n"
    script = f"case $1 in *throttle*) printf '{escaped(slow)}';; *=index*) printf '{escaped(GPUS)}';; esac"
    write(nvidia_smi, script)
    answer = gpu.query_gpus()
    assert answer["gpu_warning"].startswith(
        "nvidia-smi: GPU 1 (NVIDIA RTX A6000) is slowed down because of heat or power"
    )
    assert [card["fault"] for card in answer["gpus"]] == ["", ""]
    assert gpu.parse_slowdown('Field "clocks_throttle_reasons.hw_slowdown" is not a valid field to query.') == set()


def test_a_query_joins_all_answers(nvidia_smi: Path) -> None:
    health = f"{UUIDS[0]}, Default, Disabled, Disabled, 0\n{UUIDS[1]}, Prohibited, Disabled, Disabled, 0\n"
    write(
        nvidia_smi,
        f"case $1 in *compute_mode*) printf '{escaped(health)}';;"
        f" *gpu=*) printf '{escaped(GPUS)}';; *) printf '{escaped(PROCESSES)}';; esac",
    )
    state = gpu.query_gpus()
    assert (state["gpu_note"], state["gpu_error"], state["gpu_warning"]) == ("", "", "")
    first, second = state["gpus"]
    assert [process["pid"] for process in first["processes"]] == [4242, 4243] and first["fault"] == ""
    assert second["processes"] == [] and second["fault"] == "compute mode Prohibited"


def test_slices_and_damage_are_seen_as_recorded(nvidia_smi: Path) -> None:
    gpu_recordings.record(nvidia_smi.parent)
    state = gpu.query_gpus()
    assert [gpu_allocation.label(card) for card in state["gpus"]] == ["0", "0:0", "0:1", "1", "2", "3"]
    _, busy, free, fallen_gpu, lost_gpu, damaged_gpu = state["gpus"]
    assert [gpu_allocation.why_not_free(card) for card in state["gpus"]] == [
        "divided into 2 MIG slices",
        "? (pid 424242, 8.8 GiB)",
        "",
        "Xid 79 (fallen off the bus) in the kernel log since the machine started",
        "nvidia-smi reports [GPU is lost] for its memory",
        "2 uncorrectable ECC errors",
    ]
    assert (free["uuid"], free["name"]) == (gpu_recordings.SLICES[1], "MIG 1g.5gb of NVIDIA A100-SXM4-40GB")
    assert busy["memory_total_gib"] == 19.5 and "slice" not in fallen_gpu
    assert lost_gpu["fault"] and not damaged_gpu["fault"], "--force takes a damaged card, but no lost one"


def test_slices_that_cannot_be_read_are_not_free(nvidia_smi: Path) -> None:
    card = {"index": 0, "uuid": gpu_recordings.DIVIDED, "name": "A100", "temperature": None}
    for details in ("", "<nvidia_smi_log/>", gpu_recordings.DETAILS[:700], "Insufficient Permissions"):
        slices = gpu_slices.slices_of(card, gpu_recordings.LISTING, details)
        assert [part["fault"] for part in slices] == ["nvidia-smi reports no memory for it"] * 2
    assert gpu_slices.slices_of(card, "No devices were found", gpu_recordings.DETAILS) == []


def test_the_name_of_a_process_hides_no_slice() -> None:
    card = {"index": 0, "uuid": gpu_recordings.DIVIDED, "name": "A100", "temperature": None}
    details = gpu_recordings.DETAILS.replace(">python<", ">train a&b <run>\n<")
    assert details != gpu_recordings.DETAILS
    slices = gpu_slices.slices_of(card, gpu_recordings.LISTING, details)
    assert slices == gpu_slices.slices_of(card, gpu_recordings.LISTING, gpu_recordings.DETAILS)
    assert [part["fault"] for part in slices] == ["", ""]


def test_slices_that_nvidia_smi_does_not_list_in_time_are_not_called_absent(
    nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu_recordings.record(nvidia_smi.parent)
    run = gpu._run

    def slow(commands: list[list[str]], deadline: float) -> list[tuple[int, str]]:
        if gpu_slices.LIST_OPTIONS[0] in commands[0]:
            raise subprocess.TimeoutExpired(commands[0], 1.0)
        return run(commands, deadline)

    monkeypatch.setattr(gpu, "_run", slow)
    first = gpu.query_gpus()["gpus"][0]
    assert (first["fault"], first["n_slices"]) == ("its MIG slices cannot be listed", 0)


def test_a_programs_own_xid_leaves_the_gpu_well() -> None:
    assert gpu_xid.parse_xids(gpu_recordings.KERNEL_LOG).keys() == {gpu_xid.pci_address("00000000:3B:00.0")}
    assert gpu_xid.parse_xids("dmesg: read kernel buffer failed: Operation not permitted") == {}
    assert gpu_xid.pci_address("[N/A]") == "[n/a]"
    assert list(gpu_xid.parse_xids("NVRM: Xid (PCI::3b:00): 79, cut off")) == [":3b:00"]


@pytest.mark.parametrize(
    ("script", "note"),
    [
        ("echo 'NVIDIA-SMI has failed because it could not talk to the driver'; exit 9", "status 9: NVIDIA-SMI has"),
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "status 18: Failed to init"),
        ("printf '\\377\\376 garbage'", "cannot be read"),
        ("echo 'No devices were found'", "No devices were found"),
        ("exit 0", "it printed ''"),
    ],
)
def test_an_unusable_answer_is_an_error_and_never_an_exception(nvidia_smi: Path, script: str, note: str) -> None:
    write(nvidia_smi, script)
    state = gpu.query_gpus()
    assert state["gpus"] == [] and note in state["gpu_note"] and state["gpu_error"] == state["gpu_note"]


def test_a_warning_next_to_good_rows_is_only_a_warning(nvidia_smi: Path) -> None:
    """Exit code 14: a damaged infoROM, while all rows are good."""
    warning = "WARNING: infoROM is corrupted at gpu 0000:03:00.0"
    write(nvidia_smi, f"case $1 in *gpu=index*) printf '{escaped(GPUS)}'; echo '{warning}'; exit 14;; esac")
    state = gpu.query_gpus()
    assert [card["index"] for card in state["gpus"]] == [0, 1] and state["gpu_error"] == ""
    assert state["gpu_warning"] == f"nvidia-smi: it ended with status 14: {warning}"


def test_an_unreadable_row_hides_one_gpu_only(nvidia_smi: Path) -> None:
    write(nvidia_smi, f"case $1 in *gpu=index*) echo '[Unknown Error], x'; printf '{escaped(GPUS)}';; esac")
    state = gpu.query_gpus()
    assert [card["index"] for card in state["gpus"]] == [0, 1]
    assert "[Unknown Error], x" in state["gpu_warning"]


def test_a_slow_answer_is_a_warning(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SLOW_S", 0.0)
    write(nvidia_smi, f"case $1 in *gpu=index*) printf '{escaped(GPUS)}';; esac")
    state = gpu.query_gpus()
    assert len(state["gpus"]) == 2 and "persistence mode" in state["gpu_warning"]


def test_a_query_never_hangs(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "LIMIT_S", 0.2)
    write(nvidia_smi, "exec sleep 60")
    assert "did not answer" in gpu.query_gpus()["gpu_error"]


def test_a_node_without_nvidia_smi_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    state = gpu.query_gpus()
    assert "no nvidia-smi" in state["gpu_note"] and state["gpu_error"] == ""


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        (None, [0, 1]),
        ("", []),
        ("-1", []),
        ("1", [1]),
        ("1,0", [0, 1]),
        ("1,-1,0", [1]),
        (UUIDS[0], [0]),
        ("NoDevFiles", []),
    ],
)
def test_an_administrators_choice_of_devices_is_respected(visible: str | None, indices: list[int]) -> None:
    cards, _ = gpu.parse_gpus(GPUS)
    assert [card["index"] for card in cards if gpu.is_visible(card, visible)] == indices


XIDS = (
    "[9.1] NVRM: Xid (PCI:0000:07:00): 48, pid=1, DBE (double bit error)\n"
    "[9.2] NVRM: Xid (PCI:0000:3B:00): 119, pid=1, Timeout waiting for RPC from GSP!\n"
)


@pytest.mark.parametrize(
    ("recovery", "ecc_errors", "damages"),
    [
        (("None", "None"), "0", ("", "")),
        (("Reset", "None"), "0", ("its driver asks for: Reset (GPU recovery action)", "")),
        (("None", "None"), "2", ("2 uncorrectable ECC errors", "")),
        (("[N/A]", "[N/A]"), "0", ("", gpu_xid.phrase(119))),  # a reset clears the count, and nothing of a GSP error
        (("[N/A]", "[N/A]"), "[N/A]", (gpu_xid.phrase(48), gpu_xid.phrase(119))),
    ],
)
def test_after_a_reset_the_driver_decides_and_not_the_kernel_log(
    nvidia_smi: Path, recovery: tuple[str, str], ecc_errors: str, damages: tuple[str, str]
) -> None:
    health = f"{UUIDS[0]}, Default, Disabled, Disabled, {ecc_errors}\n{UUIDS[1]}, Default, Disabled, Disabled, [N/A]\n"
    actions = f"{UUIDS[0]}, {recovery[0]}\n{UUIDS[1]}, {recovery[1]}\n"
    if recovery[0] == "[N/A]":
        actions = 'Field "gpu_recovery_action" is not a valid field to query.\n'
    addresses = f"{UUIDS[0]}, 00000000:07:00.0\n{UUIDS[1]}, 00000000:3B:00.0\n"
    answers = {"*recovery*": actions, "*compute_mode*": health, "*pci.bus*": addresses, "*gpu=index*": GPUS}
    write(nvidia_smi, "case $1 in " + " ".join(f"{p}) printf '{escaped(t)}';;" for p, t in answers.items()) + " esac")
    write(nvidia_smi.with_name("dmesg"), f"printf '{escaped(XIDS)}'")
    assert tuple(card["damage"] for card in gpu.query_gpus()["gpus"]) == damages


def test_a_gpu_that_shares_the_nodes_memory_is_usable(nvidia_smi: Path) -> None:
    """A DGX Spark or a Jetson reports no memory of its own; a divided card of an unknown kind does not either."""
    row = f"0, {UUIDS[0]}, NVIDIA GB10, [N/A], [N/A], 3, 41\n"
    for health, fault in ((f"{UUIDS[0]}, Default, [N/A], Disabled, [N/A]\n", ""), ("", "nvidia-smi reports [N/A]")):
        branches = f"*compute_mode*) printf '{escaped(health)}';; *gpu=index*) printf '{escaped(row)}';;"
        write(nvidia_smi, f"case $1 in {branches} *apps*) echo '{UUIDS[0]}, 12, 2048';; esac")
        (card,) = gpu.query_gpus()["gpus"]
        assert card["fault"].startswith(fault) and bool(card["fault"]) == bool(fault)
        assert fault or (card["memory_used_gib"] == 2.0 and card["memory_total_gib"] > 0.1)


def test_units_that_were_not_asked_for_are_read() -> None:
    ((card,), _) = gpu.parse_gpus(f"0, {UUIDS[0]}, NVIDIA A100, 2048 MiB, 40960 MiB, 12 %, 40\n")
    assert (card["memory_used_gib"], card["memory_total_gib"], card["utilisation"]) == (2.0, 40.0, 12.0)
    assert card["fault"] == ""


def test_figures_do_not_depend_on_the_users_language(nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    write(
        nvidia_smi,
        f'[ "$LC_ALL" = C ] && used=2048 || used=2.048; echo "0, {UUIDS[0]}, NVIDIA A100, $used, 40960, 0, 30"',
    )
    assert gpu.query_gpus()["gpus"][0]["memory_used_gib"] == 2.0


def test_nvidia_smi_is_found_beside_the_path_and_its_absence_is_no_cpu_node(
    nvidia_smi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, device = tmp_path / "lib", tmp_path / "nvidia0"
    place.mkdir()
    write(place / "nvidia-smi", f"printf '{escaped(GPUS)}'")
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setattr(gpu, "PLACES", (str(place),))
    assert len(gpu.query_gpus()["gpus"]) == 2
    monkeypatch.setattr(gpu, "PLACES", ())
    monkeypatch.setattr(gpu, "DEVICES", str(tmp_path / "nvidia[0-9]*"))
    assert gpu.query_gpus()["gpu_error"] == ""
    device.touch()
    assert gpu.query_gpus()["gpu_error"] == f"{device} is there, but no nvidia-smi on the node's PATH"


HANGS = """
import os, sys
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 1, sys.argv[-1], os.O_WRONLY, 0o600)])
"""


def test_beside_a_query_that_hangs_in_the_kernel_no_other_is_started(
    nvidia_smi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parent waits for its child as it would for a driver, where the child waits for a reader of a FIFO."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    write(nvidia_smi, f"touch {tmp_path}/asked; printf '{escaped(GPUS)}'")
    monkeypatch.setattr(gpu, "LIMIT_S", 0.0)
    words = ["nvidia-smi", "-S", "-c", HANGS, "--query-gpu=index", str(fifo)]
    query = subprocess.Popen(words, executable=sys.executable, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: proc.hangs_in_kernel(query.pid), what="the hang")
        monkeypatch.setattr(gpu, "_is_suspect", True)
        assert f"hangs in the kernel (pid {query.pid})" in gpu.query_gpus()["gpu_error"]
        assert not (tmp_path / "asked").exists()
        monkeypatch.setattr(proc, "owner", lambda pid: 65534 if os.getuid() == 0 else os.getuid() + 1)
        assert gpu._hung_query() is None, "another user's process of that name is not believed"
    finally:
        with fifo.open("rb"):
            query.wait(10.0)
    monkeypatch.setattr(gpu, "LIMIT_S", 30.0)
    assert len(gpu.query_gpus()["gpus"]) == 2, "once it has ended, the next query is made"


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(gpu, "PLACES", ())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "nvidia-smi"


def write(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def escaped(text: str) -> str:
    return text.replace("\n", "\\n")
