"""A launch's plan: pure, complete, and refusing in words what the node cannot give."""

from __future__ import annotations

import re

import msgspec
import pytest
from msgspec.structs import replace

from giblet_train.schema import config as configs
from giblet_train.schema import config_loader
from giblet_train.schema.config import Config, DistributedConfig
from giblet_train.schema.errors import ConfigError, PreflightRefused
from giblet_train.schema.records import GpuWait, Run, decode, encode
from giblet_train.schema.run_dir import RUN_ID_PATTERN, new_run_id
from giblet_tui.connection.protocol import NodeProbe, Resources
from giblet_tui.connection.protocol import decode as decode_answer
from giblet_tui.inventory.nodes import Node
from giblet_tui.launch.plan import (
    NO_RUNS,
    LaunchPlan,
    NodeAssignment,
    ReplacedRuns,
    choose_multiplexer,
    plan_node,
    runs_to_replace,
)
from giblet_tui.launch.request import LaunchRequest

NODE = Node(name="tensor01", host="tensor01")
CONFIG = Config(name="demo")


def gpu(index, *pids, used_gib=0.0):
    processes = [{"pid": pid, "user": "bob", "memory_gib": 20.0} for pid in pids]
    return {
        "index": index,
        "uuid": f"GPU-{index}",
        "memory_used_gib": used_gib or 20.0 * len(pids),
        "processes": processes,
    }


def facts(*gpus, **changes):
    answer = {
        "home": "/home/alice", "user": "alice", "now": 1_790_000_000.0, "python_path": "/usr/bin/python3",
        "tmux": "/usr/bin/tmux", "screen": "/usr/bin/screen", "session_kinds": ["tmux", "screen", "process"],
        "kill_user_processes": False, "linger": False,
        "gpus": list(gpus), "gpu_note": "" if gpus else "no nvidia-smi on the node's PATH", **changes,
    }  # fmt: skip
    return decode_answer(answer, NodeProbe)


def planned(node_facts=None, node=NODE, config=CONFIG, **request):
    return plan_for(
        LaunchRequest(config=config, launched_by="alice@laptop", **request), node_facts or facts(), node=node
    )


def plan_for(request: LaunchRequest, node_facts: dict, replaced_runs: ReplacedRuns = NO_RUNS, node=NODE) -> LaunchPlan:
    assignment = NodeAssignment(run_id=new_run_id(request.config.name), nodes=(node.name,))
    return plan_node(request, node, node_facts, "/env/bin/python", assignment, replaced_runs)


def world(size):
    return replace(CONFIG, distributed=DistributedConfig(world_size=size))


def test_a_plan_names_everything_it_will_do():
    plan = planned(note="first")
    assert re.fullmatch(RUN_ID_PATTERN, plan.run.run_id)
    assert plan.run_dir == f"/home/alice/giblet/runs/{plan.run.run_id}"
    assert plan.run.argv == ("/env/bin/python", "-m", "giblet_train", "train", plan.run_dir)
    assert plan.run.watcher_argv == ("/env/bin/python", "-m", "giblet_train", "watch", plan.run_dir)
    assert (plan.run.session, plan.run.multiplexer) == (f"gib-{plan.run.run_id}", "tmux")
    assert (plan.run.node, plan.run.note, plan.run.launched_by) == ("tensor01", "first", "alice@laptop")
    assert plan.run.config_hash == configs.content_hash(CONFIG)
    assert decode(encode(plan.run), Run) == plan.run
    assert set(plan.files) == {"config.yaml", "supervise.py"}
    assert "PR_SET_CHILD_SUBREAPER" in plan.files["supervise.py"]
    assert f"/usr/bin/python3 -I {plan.run_dir}/supervise.py {plan.run_dir}\n" in plan.script
    assert plan.notes == ("on CPU, in a tmux session",)


def test_the_configuration_arrives_resolved(tmp_path):
    (tmp_path / "config.yaml").write_text(planned().files["config.yaml"])
    assert config_loader.read_resolved(tmp_path / "config.yaml") == CONFIG


def test_an_absolute_workdir_stays():
    node = Node(name="a", host="a", workdir="/scratch/my giblet")
    assert planned(node=node).run_dir.startswith("/scratch/my giblet/runs/demo-")


def test_several_processes_run_under_torchrun():
    plan = planned(facts(*(gpu(i) for i in range(8))), config=world(4))
    argv = " ".join(plan.run.argv)
    assert argv.startswith("/env/bin/python -m torch.distributed.run --standalone ")
    assert "--nproc-per-node 4" in argv and "--max-restarts 0" in argv and "--tee 3" in argv
    assert argv.endswith(f"--log-dir {plan.run_dir}/ranks -m giblet_train train {plan.run_dir}")
    assert plan.run.gpus == ("GPU-0", "GPU-1", "GPU-2", "GPU-3")


def test_gpus_on_request_beat_the_configurations_processes():
    node_facts = facts(gpu(0, 11), gpu(1), gpu(2), gpu(3))
    by_count, by_index = planned(node_facts, gpus=2), planned(node_facts, gpus=(3, 1, 3))
    assert by_count.run.gpus == ("GPU-1", "GPU-2") and by_index.run.gpus == ("GPU-3", "GPU-1")
    for plan in (by_count, by_index):
        assert plan.config.distributed.world_size == 2 and "world_size: 2" in plan.files["config.yaml"]
    assert planned(node_facts).run.gpus == ("GPU-1",)


def test_a_node_without_gpus_trains_on_its_processors_with_the_configurations_processes():
    plan = planned(config=world(2))
    assert plan.run.gpus == () and "--nproc-per-node 2" in " ".join(plan.run.argv)
    assert planned(facts(gpu(0)), config=replace(CONFIG, device="cpu")).run.gpus == ()


@pytest.mark.parametrize(
    ("node_facts", "request_", "error", "sentence"),
    [
        (facts(), {"gpus": 1}, PreflightRefused, "has no GPU: no nvidia-smi on the node's PATH"),
        (facts(), {"config": replace(CONFIG, device="cuda")}, PreflightRefused, "has no GPU"),
        (facts(gpu(0, 11), gpu(1)), {"gpus": 2}, PreflightRefused, r"2 GPUs .* 1 of 2 are free \(GPU 0: bob \(pid 11"),
        (facts(gpu(0, 11)), {"gpus": (0,)}, PreflightRefused, r"Busy: GPU 0: bob \(pid 11, 20.0 GiB\)"),
        (facts(gpu(0, used_gib=3.0)), {}, PreflightRefused, r"GPU 0: 3.0 GiB in use"),
        (facts(gpu(0)), {"gpus": (4,)}, ConfigError, "has no GPU 4"),
        (facts(gpu(0)), {"gpus": 1, "config": replace(CONFIG, device="cpu")}, ConfigError, "device: cpu"),
        (facts(kill_user_processes=True), {}, PreflightRefused, "when you log out"),
        (facts(session_kinds=["process"]), {"session": "tmux"}, PreflightRefused, "tmux is not installed"),
        (
            facts(session_kinds=["process"], session_problems={"tmux": "it needs UTF-8."}),
            {"session": "tmux"},
            PreflightRefused,
            "tmux can open no session on this node: it needs UTF-8",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(node_facts, request_, error, sentence):
    with pytest.raises(error, match=sentence) as refusal:
        planned(node_facts, **request_)
    assert refusal.value.remedy


DIVIDED = {**gpu(0), "fault": "divided into 2 MIG slices", "n_slices": 2}
LOST = {**gpu(0), "fault": "nvidia-smi reports [GPU is lost] for its memory"}
SLICE = {**gpu(0), "uuid": "MIG-1", "slice": 0}


@pytest.mark.parametrize(
    ("node_facts", "gpus", "remedy"),
    [
        (facts(DIVIDED, SLICE), (0,), "Leave out --gpus, or give a number: runs get its slices."),
        (facts(DIVIDED, SLICE), 2, "Ask for one with --gpus 1: a run of one process gets a slice."),
        (facts(LOST), (0,), "Choose other --gpus, or another node."),
        (facts(LOST), 1, "Choose another node, or ask this one's administrator."),
        (facts(LOST, gpu(1)), 2, "Ask for fewer with --gpus, or choose another node."),
    ],
)
def test_nobody_is_told_to_force_or_await_a_gpu_with_a_fault(node_facts, gpus, remedy):
    for force in (False, True):
        with pytest.raises(PreflightRefused) as refusal:
            planned(node_facts, gpus=gpus, force=force)
        assert refusal.value.remedy.startswith(remedy)


def test_force_takes_busy_gpus_last_and_overrules_the_logout():
    node_facts = facts(gpu(0, 11), gpu(1), kill_user_processes=True)
    assert planned(node_facts, gpus=2, force=True).run.gpus == ("GPU-1", "GPU-0")
    assert planned(node_facts, gpus=(0,), force=True).run.gpus == ("GPU-0",)


def test_a_process_table_of_a_hostile_node_is_made_harmless():
    hostile = gpu(0, 11)
    hostile["processes"][0]["user"] = "\x1b]52;c;x\x07"
    node_facts = facts(hostile)
    with pytest.raises(PreflightRefused) as refusal:
        planned(node_facts, gpus=(0,))
    assert "\x1b" not in str(refusal.value)


@pytest.mark.parametrize(
    ("preference", "programs", "expected"),
    [
        ("auto", ("tmux", "screen", "process"), "tmux"),
        ("auto", ("screen", "process"), "screen"),
        ("auto", ("process",), "process"),
        ("screen", ("tmux", "screen", "process"), "screen"),
        ("process", ("tmux", "screen", "process"), "process"),
    ],
)
def test_the_session_is_tmux_else_screen_else_a_process(preference, programs, expected):
    assert choose_multiplexer(preference, facts(session_kinds=programs)) == expected


def test_a_plan_is_data():
    plan = planned()
    assert msgspec.json.decode(msgspec.json.encode(plan), type=type(plan)) == plan


def test_a_run_that_may_wait_names_what_for_and_brings_what_it_needs():
    node_facts = facts(gpu(0, 7), gpu(1), gpu(2, 8))
    plan = planned(node_facts, config=world(2), when_free=True)
    assert plan.run.awaits == GpuWait(n_gpus=2, among=("GPU-0", "GPU-1", "GPU-2")) and plan.run.gpus == ()
    assert "--nproc-per-node 2" in " ".join(plan.run.argv) and "def query_gpus()" in plan.files["supervise.py"]
    assert plan.notes == ("waits on the node until 2 of 3 GPUs are free, in a tmux session",)
    assert planned(node_facts, when_free=True).run.awaits is None, "one is free: it starts at once"
    behind = planned(replace(node_facts, waiting=("other-20260101-120000-abcd",)), when_free=True)
    assert behind.run.awaits is not None and "free (behind other-20260101-120000-abcd), in" in behind.notes[0]
    waiting_plan = planned(node_facts, gpus=(2,), when_free=True)
    assert waiting_plan.run.awaits == GpuWait(n_gpus=1, among=("GPU-2",))


@pytest.mark.parametrize(
    ("request_", "error"), [({"gpus": 4}, PreflightRefused), ({"gpus": (9,)}, ConfigError), ({"gpus": 3}, None)]
)
def test_no_waiting_fixes_what_the_node_does_not_have(request_, error):
    node_facts = facts(gpu(0, 7), gpu(1), gpu(2, 8))
    if error is None:
        assert planned(node_facts, when_free=True, **request_).run.awaits is not None
    else:
        with pytest.raises(error):
            planned(node_facts, when_free=True, **request_)


def test_what_will_have_been_replaced_is_free():
    live = {"run_id": "demo-20260101-120000-abcd", "files": {"exit.json": None}, "supervised": True, "processes": [7]}
    ended_run = {**live, "run_id": "demo-20260101-120000-abce", "files": {"exit.json": "{}"}}
    other = {**live, "run_id": "demo2-20260101-120000-abcf", "processes": [8]}
    replaced_runs = runs_to_replace("demo", decode_answer({"now": 0.0, "runs": [live, ended_run, other]}, Resources))
    assert replaced_runs == ReplacedRuns(run_ids=(live["run_id"],), pids=frozenset({7}))
    plan = plan_for(LaunchRequest(config=CONFIG, launched_by="a@b"), facts(gpu(0, 7), gpu(1, 8)), replaced_runs)
    assert plan.run.gpus == ("GPU-0",) and plan.replaces == replaced_runs.run_ids
    assert f"replaces {live['run_id']}" in plan.notes
