"""Run a job of several Slurm nodes: one task of `srun` per node, each of which meets the others and starts torchrun.

Slurm chooses the nodes, so run.json does not name them. The job's first node, where the supervisor runs, passes their
names to its tasks in the environment. All nodes share the run directory.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from giblet_train.distributed.node_link import free_port
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.records import Record, Rendezvous, Run
from giblet_train.schema.run_dir import RunDir

VARIABLE = "GIBLET_SLURM_NODES"
_LIMIT_S = 60.0


class JobNodes(Record, frozen=True, kw_only=True):
    """The nodes of a job, as its tasks find them in VARIABLE."""

    names: tuple[str, ...]
    """In the order of SLURM_NODEID."""
    port: int
    """Port of the first node."""
    key: str
    """Secret of this start only."""
    n_processes: int
    """Processes on each node."""


def start_tasks(run_dir: RunDir) -> None:
    """Replace this process by srun with one task per node of this job. Raises ConfigError outside of a job."""
    world_size = run_dir.read_config().distributed.world_size
    names = _host_names(os.environ)
    if len(names) < 2 or world_size % len(names):
        raise ConfigError(
            f"distributed.world_size is {world_size}, which {len(names)} node(s) of this job cannot share equally.",
            "Set distributed.world_size to a multiple of the number of nodes, which must be 2 or more.",
        )
    nodes = JobNodes(names=names, port=free_port(), key=secrets.token_hex(16), n_processes=world_size // len(names))
    os.environ[VARIABLE] = msgspec.json.encode(nodes).decode()
    argv = srun_argv(os.environ, len(names), [sys.executable, "-m", "giblet_train", "join", str(run_dir.path)])
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        raise ConfigError(f"srun cannot be started: {error.strerror}.", "See whether `srun hostname` works.") from None


def srun_argv(environment: Mapping[str, str], n_nodes: int, command: list[str]) -> list[str]:
    """Return the command line that starts a command once on each node of the job."""
    # Since Slurm 22.05 a step does not inherit the number of CPUs of its job's tasks.
    n_cpus = environment.get("SLURM_CPUS_PER_TASK")
    cpus = [f"--cpus-per-task={n_cpus}"] if n_cpus else []
    # Without --kill-on-bad-exit the other nodes have time to agree on the first failure.
    tasks = [f"--nodes={n_nodes}", f"--ntasks={n_nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=0", "--mpi=none"]
    return ["srun", *tasks, *cpus, "--unbuffered", *command]


def with_job_nodes(run: Run, environment: Mapping[str, str]) -> Run:
    """Return the run with the nodes of the Slurm step that this process belongs to; as it is outside of one."""
    if VARIABLE not in environment:
        return run
    nodes = msgspec.json.decode(environment[VARIABLE], type=JobNodes)
    # The address of the node where srun runs: the first one.
    address = environment.get("SLURM_LAUNCH_NODE_IPADDR")
    if not address:
        raise ConfigError("Slurm does not state the address of the first node.", "Start it with giblet launch.")
    rendezvous = Rendezvous(address=address, port=nodes.port, key=nodes.key, n_processes=nodes.n_processes)
    return replace(run, nodes=nodes.names, node_rank=int(environment["SLURM_NODEID"]), rendezvous=rendezvous)


def _host_names(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the job's nodes. Raises ConfigError outside of a job, or if Slurm does not answer."""
    nodes = environment.get("SLURM_JOB_NODELIST")
    if not nodes:
        raise ConfigError("This is no job of Slurm.", "giblet launch NODE CONFIG --sbatch nodes=2")
    try:
        result = subprocess.run(
            ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, timeout=_LIMIT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(
            f"scontrol does not name the nodes of this job: {error}.", "See `scontrol show job`."
        ) from None
    return tuple(result.stdout.split())
