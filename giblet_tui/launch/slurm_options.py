"""Options of a Slurm job: what a run needs, what the node's settings add, and what the user chooses. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec.structs import replace

from giblet_train.schema.errors import ConfigError
from giblet_tui.inventory.nodes import Node
from giblet_tui.launch.gpus import number_of_gpus
from giblet_tui.launch.request import LaunchRequest

OPTION_PATTERN = r"^[a-z][a-z-]{0,39}(=[A-Za-z0-9_.,:=@%+/\[\]*-]{1,200})?$"
"""An option without its two dashes. The value becomes part of a line of the job script, so nothing else is allowed."""

CPUS_PER_GPU = 4
_OWN_OPTIONS = {
    "array", "chdir", "error", "job-name", "no-requeue", "ntasks", "ntasks-per-node", "open-mode", "output",
    "parsable", "requeue", "signal", "wrap",
}  # fmt: skip


def for_node(request: LaunchRequest, node: Node) -> LaunchRequest:
    """Return the request with the node's session and Slurm options, if the run becomes a job there.

    Raises ConfigError for options that make no sense for a job.
    """
    session = request.session or ("slurm" if request.sbatch or node.multiplexer == "slurm" else None)
    if session != "slurm":
        if request.sbatch:
            raise ConfigError(f"--session {session} is no job of Slurm.", "Leave out --partition, --time and --sbatch.")
        return request
    # Slurm's own queue takes the place of giblet's, so --when-free asks for nothing more.
    return replace(request, session="slurm", when_free=False, sbatch=(*node.sbatch, *request.sbatch))


def sbatch_options(request: LaunchRequest) -> list[str]:
    """Return the options of the job, the user's last; GPUs and CPUs are those of each node.

    Raises ConfigError for one that giblet sets or cannot pass on."""
    if isinstance(request.gpus, tuple):
        raise ConfigError("Slurm chooses the GPUs of a job.", "Give their number: --gpus 2")
    n_processes = number_of_gpus(request)
    # A command of the user's needs GPUs only if it is given some; giblet's trainer uses what it finds.
    uses_gpus = request.gpus is not None if request.command is not None else request.config.device != "cpu"
    own_options = checked(request.sbatch)
    names_gpus = any(option.startswith(("gres=gpu", "gpus")) for option in own_options)
    n_nodes = job_nodes(request)
    n_named = gpus_per_node(own_options, n_nodes)
    if request.command is None and uses_gpus and n_named not in (None, n_processes):
        raise ConfigError(
            f"The Slurm options ask for {n_named} GPU{'' if n_named == 1 else 's'} on each node, and the run starts"
            f" {n_processes} process{'es' if n_processes > 1 else ''} there.",
            f"Give both the same number: --gpus {n_named}" if n_named else "Train on the CPU: --set device=cpu",
        )
    options = [f"nodes={n_nodes}", f"ntasks={n_nodes}"] + ["ntasks-per-node=1"] * (n_nodes > 1)
    options += [f"cpus-per-task={n_processes * (CPUS_PER_GPU if uses_gpus else 1)}"]
    options += [f"gres=gpu:{n_processes}"] if uses_gpus and not names_gpus else []
    # TERM to the supervisor before the time limit: its trainer saves and ends.
    options += [f"signal=B:TERM@{max(1, round(request.grace_s))}"]
    by_key = {option.partition("=")[0]: option for option in options}
    by_key.update((key, option) for option in own_options if (key := option.partition("=")[0]) != "nodes")
    return list(by_key.values())


def job_nodes(request: LaunchRequest) -> int:
    """Return how many nodes of Slurm the run trains on; 1 if it is no job. Raises ConfigError for what is no number."""
    values = [
        value
        for option in request.sbatch
        for key, _, value in [option.strip().lstrip("-").partition("=")]
        if key == "nodes"
    ]
    if not request.is_job or not values:
        return 1
    if not re.fullmatch(r"[1-9][0-9]{0,4}", values[-1]):
        raise ConfigError(f"--sbatch nodes={values[-1]}: a run has a fixed number of nodes.", "For example: nodes=2")
    return int(values[-1])


def gpus_per_node(options: Iterable[str], n_nodes: int) -> int | None:
    """Return how many GPUs checked options ask for on each node; None if they give no such number.

    Raises ConfigError for a number of the whole job on several nodes, which Slurm may divide unevenly.
    """
    n_gpus = None
    for option in options:
        key, _, value = option.partition("=")
        if key == "gres":
            items = [item for item in value.split(",") if item.split(":")[0] == "gpu"]
        elif key in ("gpus", "gpus-per-node", "gpus-per-task"):  # a node has one task
            items = value.split(",")
        else:
            continue
        counts = [last if (last := item.rpartition(":")[2]).isdigit() else "1" for item in items]
        n_gpus = sum(map(int, counts)) if counts else n_gpus
        if key == "gpus" and n_nodes > 1:
            raise ConfigError(
                f"--sbatch {option} counts for all {n_nodes} nodes together, and Slurm may divide it unevenly.",
                f"Give the number for each node: --sbatch gpus-per-node={max(1, (n_gpus or 0) // n_nodes)}",
            )
    return n_gpus


def checked(options: Iterable[str]) -> list[str]:
    """Return the user's options without leading dashes. Raises ConfigError for the first that cannot be used."""
    bare_options = [option.strip().lstrip("-") for option in options]
    for option in bare_options:
        key = option.partition("=")[0]
        if not re.fullmatch(OPTION_PATTERN, option):
            raise ConfigError(f"--sbatch {option!r} is no long option of sbatch.", "For example: --sbatch mem=64G")
        if key in _OWN_OPTIONS:
            raise ConfigError(f"--sbatch {key}: giblet sets this option itself.", "Leave it out.")
    return bare_options
