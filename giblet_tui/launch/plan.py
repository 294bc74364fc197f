"""The plan of a launch on one node: pure, complete, and shown as it is by --dry-run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec
from msgspec.structs import replace

import giblet_train
from giblet_train.schema.config import Config, content_hash, dump
from giblet_train.schema.errors import PreflightRefused
from giblet_train.schema.records import Rendezvous, Run, SessionKind, SlotWait
from giblet_train.schema.run_dir import config_name, session_name
from giblet_tui.agent import gpu_allocation, layout, start_run
from giblet_tui.agent.sessions import BACKENDS
from giblet_tui.connection.agent_bundle import command_monitor_script, supervisor_script
from giblet_tui.connection.protocol import Gpu, NodeProbe, Resources
from giblet_tui.inventory.nodes import Node
from giblet_tui.launch.command import command_argv, command_hash, command_record, environment_file
from giblet_tui.launch.command import notes as command_notes
from giblet_tui.launch.finding import Finding
from giblet_tui.launch.gpus import GpuDemand, allocate_or_wait, gpu_demand, number_of_gpus
from giblet_tui.launch.request import LaunchRequest
from giblet_tui.launch.slurm_options import job_nodes, sbatch_options
from giblet_tui.launch.working_tree import Archive


class NodeAssignment(msgspec.Struct, frozen=True, kw_only=True):
    """One node's part in a run."""

    run_id: str
    nodes: tuple[str, ...]
    """All nodes of the run; the first one holds its records."""
    node_rank: int = 0
    """The position of this node among them."""
    rendezvous: Rendezvous | None = None
    """Where the nodes of a multi-node run meet; None for a run on one node."""


class LaunchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a launch will do on one node."""

    run: Run
    config: Config
    workdir: str
    run_dir: str
    files: dict[str, str]
    """File name -> text, written into the run directory."""
    script: str
    archive: Archive | None = None
    """What is sent with a command."""
    notes: tuple[str, ...] = ()
    """What a person should know before it starts: GPUs, session, replaced runs."""
    findings: tuple[Finding, ...] = ()
    """What the checks of the node found; none of them prevents the launch."""
    gpus: GpuDemand | None = None
    """What the run needs; its record names what it would get now. None: it trains on the CPU."""
    again: bool = False
    force: bool = False
    replaces: tuple[str, ...] = ()
    """Live runs that are stopped first."""


class ReplacedRuns(msgspec.Struct, frozen=True, kw_only=True):
    """Live runs that a new run replaces, and their processes."""

    run_ids: tuple[str, ...] = ()
    pids: frozenset[int] = frozenset()


NO_RUNS = ReplacedRuns()


def plan_node(
    request: LaunchRequest,
    node: Node,
    facts: NodeProbe,
    python: str,
    assignment: NodeAssignment,
    replaced_runs: ReplacedRuns = NO_RUNS,
) -> LaunchPlan:
    """Plan a launch on one node.

    Args:
        request: its configuration counts this node's processes only.
        facts: the answer of the node's `probe`.
        python: the interpreter on the node that has giblet; empty if a command does without.
        replaced_runs: runs that will have ended before this one starts.

    Raises ConfigError for a request that makes no sense, PreflightRefused if the node cannot carry it out.
    """
    facts = facts_without(facts, replaced_runs)
    gpus, awaits = allocate_or_wait(request, facts)
    if not request.is_job:
        _refuse_logout(request, node, facts)
    n_gpus = awaits.n_gpus if awaits else len(gpus)
    n_processes = number_of_gpus(request) if request.is_job else n_gpus or request.config.distributed.world_size
    n_nodes = job_nodes(request) if request.is_job else len(assignment.nodes)
    config = with_world_size(request.config, n_processes * n_nodes)
    command = request.command
    workdir = facts.home + node.workdir[1:] if node.workdir.startswith("~/") else node.workdir
    run_dir = f"{workdir}/runs/{assignment.run_id}"
    run = Run(
        run_id=assignment.run_id,
        name=config.name,
        node=node.name,
        session=session_name(assignment.run_id),
        multiplexer=choose_multiplexer(request.session or node.multiplexer, facts),
        argv=_argv(request, assignment, python, run_dir, n_processes),
        watcher_argv=_watcher_argv(request, assignment, facts, python, run_dir),
        config_hash=content_hash(config) if command is None else command_hash(command),
        giblet_version=giblet_train.__version__,
        launched_by=request.launched_by,
        launched_at=facts.now,
        gpus=tuple(device["uuid"] for device in gpus),
        nodes=assignment.nodes,
        node_rank=assignment.node_rank,
        rendezvous=replace(assignment.rendezvous, n_processes=n_processes) if assignment.rendezvous else None,
        note=request.note,
        resumed_from=config.resume_from,
        grace_s=request.grace_s,
        promotion=request.promotion,
        command=command_record(command) if command is not None else None,
        awaits=awaits,
        sbatch=tuple(sbatch_options(request)) if request.is_job else (),
        sweep=request.sweep,
        lab=node.lab or "",
        awaits_slot=_slot_wait(request, n_processes, facts) if gpu_demand(request, facts) is None else None,
    )
    return LaunchPlan(
        run=run,
        config=config,
        workdir=workdir,
        run_dir=run_dir,
        files=_files(request, config, run_dir),
        archive=command.archive if command is not None else None,
        script=start_run.script(facts.python_path, run_dir, run.node_rank, run.sbatch, run.lab),
        notes=(
            *(command_notes(command) if command is not None else ()),
            *_notes(run, gpus, facts),
            *(f"replaces {run_id}" for run_id in replaced_runs.run_ids),
        ),
        gpus=gpu_demand(request, facts),
        again=request.again,
        force=request.force,
        replaces=replaced_runs.run_ids,
    )


def with_world_size(config: Config, world_size: int) -> Config:
    """Return the configuration with this number of processes."""
    return replace(config, distributed=replace(config.distributed, world_size=world_size))


def multi_node_argv(python: str, run_dir: str) -> list[str]:
    """Return the command of each node of a multi-node run: meet the others, then start torchrun."""
    return [python, "-m", "giblet_train", "join", run_dir]


def training_argv(python: str, run_dir: str, world_size: int, drill: str = "") -> list[str]:
    """Return the command that trains on one node: the trainer itself, or torchrun with one process per rank."""
    train = ["-m", "giblet_train", *(("drill", drill) if drill else ("train",)), run_dir]
    if world_size == 1:
        return [python, *train]
    # A name that does not resolve makes torchrun hang without a message; a loopback address always resolves.
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--max-restarts", "0"]
    ranks = ["--nproc-per-node", str(world_size), "--tee", "3", "--log-dir", f"{run_dir}/ranks"]
    return [python, *torchrun, *ranks, *train]


def ends_at_logout(node: Node, facts: NodeProbe) -> bool:
    """Return True if systemd-logind ends a user's tmux and screen at logout; lingering does not prevent it."""
    return bool(facts.kill_user_processes) and facts.user != "root" and node.transport != "local"


def choose_multiplexer(preference: str, facts: NodeProbe) -> SessionKind:
    """Return what the session will run in. Raises PreflightRefused if the preferred one cannot."""
    automatic = [kind for kind in facts.session_kinds if BACKENDS[kind].is_automatic]
    if preference == "auto":
        return cast(SessionKind, automatic[0])
    if preference in facts.session_problems:
        raise PreflightRefused(
            f"{preference} can open no session on this node: {facts.session_problems[preference].rstrip('.')}.",
            f"Use --session {automatic[0]}, or have it repaired.",
        )
    if preference not in facts.session_kinds:
        raise PreflightRefused(
            f"{preference} is not installed on this node.", f"Use --session {automatic[0]}, or have it installed."
        )
    return cast(SessionKind, preference)


def runs_to_replace(name: str, resources: Resources) -> ReplacedRuns:
    """Return the live runs of a configuration's name. resources: the answer of the agent's `remains`."""
    run_ids: list[str] = []
    pids: set[int] = set()
    for run in resources.runs:
        has_ended = run.files.get(layout.EXIT) is not None
        if config_name(run.run_id) == name and not has_ended and (run.supervised or run.processes):
            run_ids.append(run.run_id)
            pids.update(run.processes)
    return ReplacedRuns(run_ids=tuple(run_ids), pids=frozenset(pids))


def _argv(
    request: LaunchRequest, assignment: NodeAssignment, python: str, run_dir: str, n_processes: int
) -> tuple[str, ...]:
    if request.command is not None:
        return command_argv(request.command, run_dir)
    if assignment.rendezvous is not None:
        return tuple(multi_node_argv(python, run_dir))
    if job_nodes(request) > 1:
        return python, "-m", "giblet_train", "srun", run_dir
    return tuple(training_argv(python, run_dir, n_processes, request.drill))


def _slot_wait(request: LaunchRequest, n_processes: int, facts: NodeProbe) -> SlotWait | None:
    """Return what a run of a sweep waits for on a node's CPU; None for any other run, and for a scheduler's job.

    A run whose threads are not limited takes all cores.
    """
    if request.sweep is None or request.is_job:
        return None
    threads = request.config.threads
    if request.command is not None:
        limit = request.command.environment.get("OMP_NUM_THREADS", "")
        threads = int(limit) if limit.isdecimal() and int(limit) else None
    n_cpus = max(1, facts.n_cpus)
    per_run = n_processes * (threads or max(1, n_cpus // n_processes))
    return SlotWait(n_slots=max(1, n_cpus // per_run))


def _watcher_argv(
    request: LaunchRequest, assignment: NodeAssignment, facts: NodeProbe, python: str, run_dir: str
) -> tuple[str, ...]:
    """Return what runs next to the trainer: the watcher; next to a command its monitor, which starts the watcher."""
    watcher = (python, "-m", "giblet_train", "watch", run_dir) if python and not assignment.node_rank else ()
    if request.command is None:
        return watcher
    return (facts.python_path, "-I", f"{run_dir}/{layout.COMMAND_MONITOR_SCRIPT}", run_dir, *watcher)


def _files(request: LaunchRequest, config: Config, run_dir: str) -> dict[str, str]:
    """Return the texts that the run directory begins with."""
    if request.command is None:
        return {layout.CONFIG: dump(config), layout.SUPERVISOR_SCRIPT: supervisor_script()}
    return {
        layout.ENVIRONMENT: environment_file(request.command, run_dir),
        layout.SUPERVISOR_SCRIPT: supervisor_script(),
        layout.COMMAND_MONITOR_SCRIPT: command_monitor_script(),
    }


def facts_without(facts: NodeProbe, replaced_runs: ReplacedRuns) -> NodeProbe:
    """Return the facts as they will be once these runs have ended. Their GPUs go to the new run, not to the queue."""
    if not replaced_runs.run_ids:
        return facts
    gpus = gpu_allocation.without_runs(facts.gpus, replaced_runs.run_ids, replaced_runs.pids)
    return replace(facts, gpus=tuple(gpus), waiting=())


def _refuse_logout(request: LaunchRequest, node: Node, facts: NodeProbe) -> None:
    if ends_at_logout(node, facts) and not request.force:
        raise PreflightRefused(
            f"{node.name} ends everything you started when you log out (KillUserProcesses=yes).",
            "Ask its administrator for KillUserProcesses=no in logind.conf, or insist with --force.",
        )


def _notes(run: Run, gpus: Sequence[Gpu], facts: NodeProbe) -> list[str]:
    if run.sbatch:
        return [f"as a Slurm job: {', '.join(run.sbatch)}"]
    if run.awaits is not None:
        n_gpus, n_candidates = run.awaits.n_gpus, len(run.awaits.among)
        behind = f" (behind {', '.join(facts.waiting)})" if facts.waiting else ""
        return [f"waits on the node until {n_gpus} of {n_candidates} GPUs are free{behind}, in {_session_phrase(run)}"]
    if run.awaits_slot is not None and run.sweep is not None:
        n_at_once = min(run.awaits_slot.n_slots, run.sweep.n_runs)
        return [f"on CPU, {n_at_once} of the sweep at once, in {_session_phrase(run)}"]
    where = f"GPU {', '.join(map(gpu_allocation.label, gpus))}" if gpus else "CPU"
    return [f"on {where}, in {_session_phrase(run)}"]


def _session_phrase(run: Run) -> str:
    backend = BACKENDS[run.multiplexer]
    return backend.phrase if backend.has_terminal else f"{backend.phrase}: nothing to attach to"
