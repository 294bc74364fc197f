"""The one definition of a free GPU, and the choice among them."""

from __future__ import annotations

from typing import Any

import pytest

from giblet_tui.agent import gpu_allocation as allocation


def card(index: int, **changes: Any) -> dict[str, Any]:
    return {
        "index": index, "uuid": f"GPU-{index}", "name": "NVIDIA A100", "memory_used_gib": 0.0, "memory_total_gib": 80.0,
        "utilisation": 0.0, "processes": [], "claims": [], "fault": "", **changes,
    }  # fmt: skip


PROCESS = {"pid": 7, "user": "bob", "memory_gib": 20.0}
CLAIM = {"run_id": "demo-20260101-120000-abcd", "user": "bob"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"memory_used_gib": 1.0}, ""),
        ({"memory_used_gib": 1.1}, "1.1 GiB in use"),
        ({"memory_used_gib": 20.0, "processes": [PROCESS]}, "bob (pid 7, 20.0 GiB)"),
        ({"claims": [CLAIM]}, "claimed by demo-20260101-120000-abcd (bob)"),
        (
            {"fault": "nvidia-smi reports [GPU is lost] for its memory"},
            "nvidia-smi reports [GPU is lost] for its memory",
        ),
        ({"damage": "2 uncorrectable ECC errors"}, "2 uncorrectable ECC errors"),
        ({"memory_total_gib": 2.0}, "a display card of 2 GiB"),
    ],
)
def test_why_a_gpu_is_not_free(changes: dict[str, Any], reason: str) -> None:
    assert allocation.why_not_free(card(0, **changes)) == reason
    assert allocation.mark([card(0, **changes)])[0]["not_free"] == reason


def indices(gpus: list[Any]) -> list[int]:
    return [gpu["index"] for gpu in gpus]


def test_the_least_used_come_first_and_display_cards_last() -> None:
    gpus = [
        card(0, display=True),
        card(1, memory_used_gib=0.9),
        card(2, utilisation=40.0),
        card(3, memory_used_gib=0.004),
        card(4, memory_used_gib=0.003),
    ]
    assert indices(allocation.choose(gpus, 5)) == [3, 4, 2, 1, 0]


def test_busy_cards_need_force_and_faulty_ones_are_never_chosen() -> None:
    gpus = [card(0, processes=[PROCESS]), card(1, fault="lost"), card(2)]
    assert indices(allocation.choose(gpus, 3)) == [2]
    assert indices(allocation.choose(gpus, 3, force=True)) == [2, 0]
    assert indices(allocation.choose(gpus, 2, ["GPU-1", "GPU-0"], force=True)) == [0]


def test_a_mig_slice_serves_runs_of_one_process() -> None:
    gpus = [card(0, fault="divided into 2 MIG slices"), card(0, slice=1), card(0, slice=0), card(1)]
    assert list(map(allocation.label, allocation.choose(allocation.for_run(gpus, 1), 4))) == ["1", "0:0", "0:1"]
    assert list(map(allocation.label, allocation.choose(allocation.for_run(gpus, 2), 4))) == ["1"]
    reasons = allocation.format_not_free(allocation.for_run(gpus, 2))
    assert "GPU 0:1 (NVIDIA A100): a MIG slice, which serves a run of one process only" in reasons


def test_named_gpus_keep_their_order() -> None:
    assert indices(allocation.choose([card(0), card(1), card(2)], 2, ["GPU-2", "GPU-0"])) == [2, 0]


def test_what_ending_runs_hold_is_free() -> None:
    busy_card = card(0, processes=[PROCESS], memory_used_gib=20.3, claims=[CLAIM])
    assert allocation.without_runs([busy_card], [CLAIM["run_id"]], [7])[0]["not_free"] == ""
    assert allocation.without_runs([busy_card], [], [7])[0]["not_free"].startswith("claimed by demo-")
    assert allocation.without_runs([busy_card], [CLAIM["run_id"]], [])[0]["not_free"] == "bob (pid 7, 20.0 GiB)"


def test_gpus_are_named_by_index_and_name() -> None:
    gpus = [card(0, processes=[PROCESS]), card(1), card(2, fault="lost")]
    assert allocation.format_not_free(gpus) == ("GPU 0 (NVIDIA A100): bob (pid 7, 20.0 GiB); GPU 2 (NVIDIA A100): lost")


@pytest.mark.parametrize(
    ("ahead", "remaining"),
    [
        ([], "abc"),
        ([(1, "abc")], "bc"),
        ([(4, "abc")], ""),
        ([(1, "b"), (1, "ab")], "c"),
        ([(2, "de")], "abc"),
    ],
)
def test_runs_that_wait_keep_their_place(ahead: list[tuple[int, str]], remaining: str) -> None:
    waiters = [{"n_gpus": n_gpus, "among": list(among)} for n_gpus, among in ahead]
    assert allocation.free_after_queue(list("abc"), waiters) == list(remaining)
