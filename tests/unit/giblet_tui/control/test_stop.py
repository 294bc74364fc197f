"""What is stale and why, and what a stop says it reached."""

from __future__ import annotations

import pytest

from giblet_train.schema.config import Config, WatchConfig, dump
from giblet_train.schema.records import Exit, Heartbeat, Run, encode
from giblet_tui.connection.protocol import GpuMemory, GpuProcess, HeldRun, Resources, decode
from giblet_tui.control.stop import (
    StopResult,
    find_stale,
    probe_resources,
    raise_if_survivors,
    stale_reason,
    stop,
    unowned_gpu_processes,
)
from giblet_tui.errors import TargetNotReached, Unreachable
from giblet_tui.inventory.nodes import Node

NOW = 1_790_000_000.0
RUN_ID = "demo-20260101-120000-abcd"
QUICK = WatchConfig(stall_min_s=5, stall_factor=2)
NODE = Node(name="tensor01", host="tensor01")


def run(*, launched_s_ago=3600.0, beat_s_ago=None, step_s=1.0, ended=False, watch=None, supervisor=True, **changes):
    record = Run(
        run_id=RUN_ID, name="demo", node="tensor01", session=f"gib-{RUN_ID}", multiplexer="tmux", argv=(),
        config_hash="0", giblet_version="0", launched_by="x", launched_at=NOW - launched_s_ago,
    )  # fmt: skip
    beat = Heartbeat(
        state="training", step=5, epoch=1, phase="epoch 1", at=NOW - (beat_s_ago or 0), pid=1, boot_id="b",
        start_ticks=1, step_s=step_s,
    )  # fmt: skip
    files = {
        "run.json": encode(record).decode(),
        "supervisor.json": "{}" if supervisor else None,
        "heartbeat.json": None if beat_s_ago is None else encode(beat).decode(),
        "exit.json": encode(Exit(run_id=RUN_ID, ended_at=NOW - 60, code=0)).decode() if ended else None,
        "config.yaml": dump(Config(name="demo", watch=watch or WatchConfig())),
    }
    plain = {"run_id": RUN_ID, "files": files, "supervised": True, "rebooted": False, "processes": [], "sessions": []}
    return {**plain, **changes}


@pytest.mark.parametrize(
    ("held_run", "why"),
    [
        (run(beat_s_ago=2, processes=[7, 8], sessions=["tmux"]), ""),
        (run(beat_s_ago=300, step_s=30.0), ""),
        (run(beat_s_ago=300), "no step for 5m 00s; at its own pace one was due within 2m 00s"),
        (run(beat_s_ago=15, watch=QUICK), "no step for 15s; at its own pace one was due within 5s"),
        (run(launched_s_ago=90.0), ""),
        (run(launched_s_ago=1000.0), "no heartbeat 16m after its launch"),
        (run(ended=True, processes=[7, 8]), "it has ended, but pid 7, 8 is still alive"),
        (run(ended=True, sessions=["screen"]), "it has ended, but its screen session is still open"),
        (run(supervised=False, processes=[7], sessions=["tmux"]), "its supervisor is gone, but pid 7 is still alive"),
        (run(supervised=False, sessions=["tmux"]), "its tmux session is open without a process of it"),
        (run(supervised=False), "its supervisor is gone without an exit record; its record is still open"),
        (run(supervised=False, supervisor=False, launched_s_ago=2), ""),
        (run(supervised=False, rebooted=True), "the node rebooted while it ran; its record is still open"),
    ],
)  # fmt: skip
def test_stale_is_what_holds_on_for_nothing(held_run, why):
    assert stale_reason(decode(held_run, HeldRun), NOW) == why


def test_a_configuration_that_cannot_be_read_is_judged_by_the_defaults():
    snapshot = run(beat_s_ago=300)
    snapshot["files"]["config.yaml"] = "unknown_key: 1"
    assert stale_reason(decode(snapshot, HeldRun), NOW).startswith("no step for 5m")


class Node1:
    """A connection that answers as the agent of a node would."""

    def __init__(self, answer, events=()):
        self.answer, self.events, self.asked = answer, events, []

    def call(self, operation, arguments, kind, *, timeout_s=30.0, on_event=None):
        self.asked.append((operation, dict(arguments), timeout_s))
        for event in self.events:
            on_event(event)
        if isinstance(self.answer, Exception):
            raise self.answer
        return decode(self.answer, kind)


def test_stale_runs_of_a_node():
    connection = Node1(
        {"now": NOW, "runs": [run(beat_s_ago=1), run(supervised=False, processes=[7], sessions=["tmux"])]}
    )
    (stale_run,) = find_stale(NODE, probe_resources(NODE, connection))
    assert (stale_run.node, stale_run.run_id, stale_run.processes, stale_run.sessions) == (
        "tensor01",
        RUN_ID,
        (7,),
        ("tmux",),
    )


def test_a_stop_reports_its_stages_and_gives_the_grace_time():
    survivor = {
        "pid": 7,
        "cmdline": "python \x1b[2Jx ",
        "uid": 0,
        "wchan": "nfs_wait",
        "holds": [{"index": 3, "uuid": "GPU-3", "memory_gib": 12.0}],
    }
    answer = {
        "seconds": 12.0,
        "already": False,
        "steps": [{"step": "TERM", "sentence": "Sent TERM."}],
        "survivors": [survivor],
    }
    events = [
        {"step": "asked", "sentence": "Asked it."},
        {"step": "waiting", "seconds": 3.2, "sentence": "Waiting for its \x1bend."},
    ]
    sentences, connection = [], Node1(answer, events)
    result = stop(NODE, connection, RUN_ID, sentences.append, grace_s=500.0)
    (operation, arguments, timeout_s), *_ = connection.asked
    assert operation == "stop" and arguments["run_id"] == RUN_ID and timeout_s > 1000
    assert sentences == ["Asked it.", "Waiting for its \\x1bend."]
    assert result.survivors[0].pid == 7 and "\x1b" not in result.survivors[0].cmdline
    with pytest.raises(
        TargetNotReached, match=r"cannot be ended: pid 7 .*waits in nfs_wait, holds 12.0 GiB of GPU 3.* survives"
    ) as failure:
        raise_if_survivors([result])
    assert failure.value.exit_code == 4


def test_a_stop_that_is_not_proved_does_not_claim_that_nothing_is_left():
    answer = {"seconds": 2.0, "already": False, "unproved": "Nothing of it is found. But its supervisor was killed."}
    result = stop(NODE, Node1(answer), RUN_ID, print)
    assert result.sentence == f"{RUN_ID} ended in 2.0 s. Nothing of it is found. But its supervisor was killed."


HOLDS = [{"index": 3, "uuid": "GPU-3", "memory_gib": 12.0}]


def test_gpu_memory_of_a_run_that_ended_is_reported_with_its_card_and_its_process():
    snapshot = run(supervised=False, processes=[7, 8], ended=True)
    snapshot["holds"] = {"7": HOLDS, "8": HOLDS, "9": HOLDS}
    assert (
        stale_reason(decode(snapshot, HeldRun), NOW)
        == "it has ended, but pid 7, 8 (with 24.0 GiB of GPU 3) is still alive"
    )
    snapshot |= {"processes": [], "gone": [9]}
    reason = stale_reason(decode(snapshot, HeldRun), NOW)
    assert reason == "it has ended, but 12.0 GiB of GPU 3 is still counted for pid 9, which has ended"


def test_memory_of_an_ended_process_is_not_called_freed():
    process = GpuProcess(pid=9, gone=True, holds=(GpuMemory(index=3, uuid="GPU-3", memory_gib=12.0),))
    result = StopResult(run_id=RUN_ID, node="tensor01", seconds=1.0, already=True, survivors=(process,))
    assert result.sentence == (
        f"{RUN_ID} has ended, but on tensor01 12.0 GiB of GPU 3 is still counted for pid 9, which has ended."
    )
    with pytest.raises(TargetNotReached) as failure:
        raise_if_survivors([result])
    assert "nvidia-smi --gpu-reset -i 3" in failure.value.remedy and "stuck in the kernel" not in failure.value.remedy


def test_what_is_not_giblets_is_reported_and_left_unchanged():
    mine = {"pid": 5, "cmdline": "python\x1b x.py", "uid": 0, "wchan": "", "holds": HOLDS, "gone": False}
    alive, dead = unowned_gpu_processes(decode({"now": NOW, "unclaimed": [mine, {**mine, "gone": True}]}, Resources))
    assert alive == (
        "pid 5 (python\\x1b x.py, holds 12.0 GiB of GPU 3) is yours, but of no run here: left alone."
        " To end it there: kill 5"
    )
    assert dead.startswith("12.0 GiB of GPU 3 is still counted for pid 5, which is no process there and was of no run")


def test_a_link_lost_meanwhile_says_who_finishes_the_job():
    with pytest.raises(Unreachable) as error:
        stop(NODE, Node1(Unreachable("The link broke.")), RUN_ID, print)
    assert error.value.exit_code == 3 and f"giblet stop {RUN_ID}" in error.value.remedy


def test_nothing_left_is_a_sentence():
    result = StopResult(run_id=RUN_ID, node="tensor01", seconds=2.34)
    raise_if_survivors([result])
    assert result.sentence.startswith(f"{RUN_ID} ended in 2.3 s; no process, no session")
    assert "had ended before" in StopResult(run_id=RUN_ID, node="tensor01", seconds=0.1, already=True).sentence
    assert (
        "pid 5 (no further facts)"
        in StopResult(run_id=RUN_ID, node="t", seconds=1, survivors=(GpuProcess(pid=5),)).sentence
    )
