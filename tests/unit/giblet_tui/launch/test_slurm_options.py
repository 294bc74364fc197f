"""Options of a Slurm job from what a run needs, what the node adds and what a user chooses."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from giblet_train.schema.config import Config
from giblet_train.schema.errors import ConfigError
from giblet_tui.inventory.nodes import Node
from giblet_tui.launch.request import LaunchRequest
from giblet_tui.launch.slurm_options import for_node, sbatch_options

CLUSTER = Node(name="cluster", host="cluster", multiplexer="slurm", sbatch=("partition=gpu", "time=24:00:00"))
REQUEST = LaunchRequest(config=Config(name="demo"), launched_by="me@laptop")


def test_the_users_options_come_after_the_nodes() -> None:
    request = for_node(replace(REQUEST, gpus=4, sbatch=("--time=1:00:00", "mem=64G")), CLUSTER)
    assert request.session == "slurm" and request.is_job
    options = sbatch_options(request)
    assert {"gres=gpu:4", "cpus-per-task=16", "partition=gpu", "time=1:00:00", "mem=64G", "signal=B:TERM@120"} <= {
        *options
    }
    assert "time=24:00:00" not in options


def test_a_named_kind_of_gpu_replaces_the_number() -> None:
    options = sbatch_options(for_node(replace(REQUEST, gpus=2, sbatch=("gres=gpu:a100:2",)), CLUSTER))
    assert [option for option in options if option.startswith("gres")] == ["gres=gpu:a100:2"]
    on_cpu = replace(REQUEST, config=replace(REQUEST.config, device="cpu"))
    assert not [option for option in sbatch_options(for_node(on_cpu, CLUSTER)) if option.startswith("gres")]


def test_several_nodes_get_a_task_each() -> None:
    options = sbatch_options(for_node(replace(REQUEST, gpus=8, sbatch=("nodes=2",)), CLUSTER))
    assert {"nodes=2", "ntasks=2", "ntasks-per-node=1", "gres=gpu:8", "cpus-per-task=32"} <= {*options}
    assert "ntasks-per-node=1" not in sbatch_options(for_node(REQUEST, CLUSTER))
    for number in ("1-2", "0"):
        with pytest.raises(ConfigError, match="fixed number of nodes"):
            sbatch_options(for_node(replace(REQUEST, sbatch=(f"nodes={number}",)), CLUSTER))


@pytest.mark.parametrize("option", ["gres=gpu:a100:4", "gres=nvme:1,gpu:4", "gpus=1g.10gb:4", "gpus-per-node=4"])
def test_gpus_of_another_number_than_processes_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match="ask for 4 GPUs on each node, and the run starts 1 process there") as refusal:
        sbatch_options(for_node(replace(REQUEST, sbatch=(option,)), CLUSTER))
    assert refusal.value.remedy.endswith("--gpus 4")
    assert option in sbatch_options(for_node(replace(REQUEST, gpus=4, sbatch=(option,)), CLUSTER))


@pytest.mark.parametrize(
    ("n_named", "phrase", "remedy"), [(0, "0 GPUs", "--set device=cpu"), (1, "1 GPU on", "--gpus 1")]
)
def test_the_number_of_gpus_that_slurm_is_asked_for_reads_well(n_named: int, phrase: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=f"ask for {phrase}") as refusal:
        sbatch_options(for_node(replace(REQUEST, gpus=4, sbatch=(f"gpus-per-node={n_named}",)), CLUSTER))
    assert refusal.value.remedy.endswith(remedy)


def test_gpus_of_a_whole_job_on_several_nodes_are_refused() -> None:
    options = ("nodes=2", "gpus=a100:4")
    with pytest.raises(ConfigError, match="counts for all 2 nodes together") as refusal:
        sbatch_options(for_node(replace(REQUEST, gpus=2, sbatch=options), CLUSTER))
    assert "gpus-per-node=2" in refusal.value.remedy


@pytest.mark.parametrize("option", ["x=$(touch /tmp/x)", "a b", "-p gpu", "comment=one\n#SBATCH --wrap=x", "X=1", ""])
def test_an_option_that_could_change_the_script_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match="no long option of sbatch"):
        sbatch_options(for_node(replace(REQUEST, sbatch=(option,)), CLUSTER))


def test_options_that_make_no_sense_for_a_job_are_refused() -> None:
    with pytest.raises(ConfigError, match="giblet sets this option itself"):
        sbatch_options(for_node(replace(REQUEST, sbatch=("ntasks=2",)), CLUSTER))
    assert not for_node(replace(REQUEST, when_free=True), CLUSTER).when_free, "Slurm has a queue of its own"
    with pytest.raises(ConfigError, match="Slurm chooses the GPUs"):
        sbatch_options(for_node(replace(REQUEST, gpus=(0, 1)), CLUSTER))
    with pytest.raises(ConfigError, match="no job of Slurm"):
        for_node(replace(REQUEST, session="tmux", sbatch=("partition=gpu",)), CLUSTER)


def test_a_node_without_slurm_is_not_affected() -> None:
    assert for_node(REQUEST, Node(name="tensor01", host="tensor01")) == REQUEST
