"""Launching a run: a plan that is pure and can be shown, its execution on the node, the wait for its first step."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

import giblet_train
from giblet_train.schema.config import Config, content_hash, dump
from giblet_train.schema.errors import ConfigError, PreflightRefused, RunFailed
from giblet_train.schema.records import GpuWait, Promotion, Rendezvous, Run
from giblet_train.schema.run_dir import config_name, new_run_id, session_name
from giblet_tui.agent import gpu_allocation, layout, start_run
from giblet_tui.connection.agent_bundle import supervisor_script
from giblet_tui.connection.base import Connection
from giblet_tui.connection.sanitize import sanitize
from giblet_tui.errors import TimedOut, Unreachable
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor.node_state import NodeState, apply_event, to_snapshot
from giblet_tui.monitor.snapshots import RunSnapshot

START_LIMIT_S = 150.0
STOP_LIMIT_S = 3700.0
"""How long a run that is replaced may take to save and end: the longest grace that one can have."""
FIRST_STEP_LIMIT_S = 600.0
"""How long the first step may take once the data is loaded."""
LOG_LINES_SHOWN = 12
_INTERVAL_S = 0.25
_OF_RANK = re.compile(r"^\[default\d+\]:")
"""What torchrun puts before each line of a process."""

Multiplexer = Literal["tmux", "screen", "process"]


class LaunchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asked for.

    gpus: how many, which (by index), or None: as many free ones as the configuration has processes. session: what holds
    the run, or None: what the node prefers. again: although this very configuration runs there already. force: although
    a GPU is busy, or a logout would end the run. when_free: wait on the node until GPUs are free. replace: stop live
    runs of the same name there, once all else has been checked.
    """

    config: Config
    launched_by: str
    gpus: int | tuple[int, ...] | None = None
    session: Literal["auto", "tmux", "screen", "process"] | None = None
    note: str = ""
    grace_s: float = 120.0
    promotion: Promotion | None = None
    drill: str = ""
    again: bool = False
    force: bool = False
    when_free: bool = False
    replace: bool = False


class NodeAssignment(msgspec.Struct, frozen=True, kw_only=True):
    """A node's place in a run over several: the run's id, its nodes in order, which of them, and where they meet."""

    run_id: str
    nodes: tuple[str, ...]
    node_rank: int
    rendezvous: Rendezvous


class LaunchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """All that a launch would do, decided: nothing more is chosen when it is carried out."""

    run: Run
    config: Config
    workdir: str
    run_dir: str
    files: dict[str, str]
    script: str
    notes: tuple[str, ...] = ()
    again: bool = False
    force: bool = False
    replaces: tuple[str, ...] = ()


class ReplacedRuns(msgspec.Struct, frozen=True, kw_only=True):
    """Live runs whose place a new one takes, and their processes."""

    run_ids: tuple[str, ...] = ()
    pids: frozenset[int] = frozenset()


NO_RUNS = ReplacedRuns()


def plan_launch(
    request: LaunchRequest,
    node: Node,
    facts: Mapping[str, Any],
    python: str,
    place: NodeAssignment | None = None,
    superseded: ReplacedRuns = NO_RUNS,
) -> LaunchPlan:
    """Decide a launch. Pure but for the new run's id, which holds the time and a random tail.

    facts: what the node's `probe` said. python: the interpreter there that has giblet. place: the node's own in a run
    over several, whose configuration then counts one node's processes. superseded: what will have ended by then.
    Raises ConfigError when the request makes no sense, PreflightRefused when the node cannot honour it.
    """
    gpus, awaits = _allocate_or_wait(request, _facts_without(facts, superseded.pids))
    config = _with_world_size(request, awaits.n_gpus if awaits else len(gpus))
    n_here = config.distributed.world_size
    if place is not None:
        config = replace(config, distributed=replace(config.distributed, world_size=n_here * len(place.nodes)))
    _refuse_logout(request, node, facts)
    run_id = place.run_id if place else new_run_id(config.name)
    first = place is None or place.node_rank == 0
    workdir = facts["home"] + node.workdir[1:] if node.workdir.startswith("~/") else node.workdir
    run_dir = f"{workdir}/runs/{run_id}"
    run = Run(
        run_id=run_id,
        name=config.name,
        node=node.name,
        session=session_name(run_id),
        multiplexer=choose_multiplexer(request.session or node.multiplexer, facts),
        argv=tuple(
            multi_node_argv(python, run_dir) if place else training_argv(python, run_dir, n_here, request.drill)
        ),
        watcher_argv=(python, "-m", "giblet_train", "watch", run_dir) if first else (),
        config_hash=content_hash(config),
        giblet_version=giblet_train.__version__,
        launched_by=request.launched_by,
        launched_at=facts["now"],
        gpus=tuple(gpu["uuid"] for gpu in gpus),
        nodes=place.nodes if place else (node.name,),
        node_rank=place.node_rank if place else 0,
        rendezvous=replace(place.rendezvous, n_processes=n_here) if place else None,
        note=request.note,
        resumed_from=config.resume_from,
        grace_s=request.grace_s,
        promotion=request.promotion,
        awaits=awaits,
    )
    files = {layout.CONFIG: dump(config), layout.SUPERVISOR_SCRIPT: supervisor_script()}
    return LaunchPlan(
        run=run,
        config=config,
        workdir=workdir,
        run_dir=run_dir,
        files=files,
        script=start_run.script(facts["python_path"], run_dir, run.node_rank),
        notes=(*_notes(run, gpus, facts), *(f"replaces {run_id}" for run_id in superseded.run_ids)),
        again=request.again,
        force=request.force,
        replaces=superseded.run_ids,
    )


def launch_run(planned: LaunchPlan, connection: Connection, say: Callable[[str], None]) -> str:
    """Start the planned run on its node; its run directory there.

    say: told each stage. Raises the node's refusal with its own exit code (then nothing of the run is left), and
    Unreachable when the link breaks (the run may have started: `giblet ps` tells).
    """
    arguments = {
        "workdir": planned.workdir,
        "record": msgspec.to_builtins(planned.run),
        "files": planned.files,
        "again": planned.again,
        "force": planned.force,
        "replaces": planned.replaces,
    }

    def told(event: Mapping[str, Any]) -> None:
        say(sanitize(str(event.get("sentence") or event.get("step", ""))))

    limit_s = START_LIMIT_S + len(planned.replaces) * STOP_LIMIT_S
    started = connection.call("start", arguments, timeout_s=limit_s, on_event=told)
    return sanitize(str(started["run_dir"]))


def await_first_step(
    node: Node,
    connection: Connection,
    run_id: str,
    on_snapshot: Callable[[RunSnapshot], None],
    limit_s: float = FIRST_STEP_LIMIT_S,
) -> RunSnapshot:
    """Watch a run until it has made a step, has finished without, or waits for GPUs: what is known of it then.

    on_snapshot: told whatever is new. limit_s counts from the end of `loading`, which may build a store for hours.
    Raises RunFailed with the cause when it ends otherwise, TimedOut and Unreachable (the run goes on).
    """
    state = NodeState(node.name)
    loading_until = time.monotonic()
    arguments = {"workdir": node.workdir, "interval_s": _INTERVAL_S, "runs": [run_id]}
    try:
        for event in connection.stream("watch", arguments):
            state = apply_event(state, event, time.time())
            run = to_snapshot(state).runs[0] if "tick" in event and state.runs else None
            if run is None:
                continue
            on_snapshot(run)
            if run.steps or run.health.state in ("finished", "waiting"):
                return run
            if not run.health.live:
                raise failure(run)
            if run.heartbeat is None or run.heartbeat.state == "loading":
                loading_until = time.monotonic()
            if run.health.state == "stalled" or time.monotonic() - loading_until > limit_s:
                raise TimedOut(
                    f"{run_id} has made no step yet: {run.health.sentence.rstrip('.')}.", f"giblet logs {run_id} -f"
                )
    except Unreachable as error:
        raise type(error)(error.message, f"The run goes on. {error.remedy} giblet status {run_id}") from None
    raise Unreachable(f"{node.name} ended the watch of {run_id}.", f"The run goes on. giblet status {run_id}")


def failure(run: RunSnapshot) -> RunFailed:
    """Why a run ended before its first step, with the remedy that it printed, or else the end of what it printed."""
    printed = [line for line in run.log_tail if line.strip()]
    shown = _remedy(printed) or printed[-LOG_LINES_SHOWN:]
    ended = "was stopped" if run.health.state == "stopped" else run.health.state
    sentence = f"{run.run.run_id} {ended} before its first step: {run.health.sentence.rstrip('.')}."
    return RunFailed(sentence, "\n  ".join([*shown, f"giblet logs {run.run.run_id}"]))


def _remedy(printed: Sequence[str]) -> list[str]:
    """The indented lines below the engine's own last complaint; torchrun, which writes after it, knows no more."""
    said = [_OF_RANK.sub("", line) for line in printed]
    complaints = [i for i, line in enumerate(said) if line.startswith("giblet: ")]
    below = said[complaints[-1] + 1 :] if complaints else []
    return [line.strip() for line in itertools.takewhile(lambda line: line.startswith("  "), below)]


def multi_node_argv(python: str, run_dir: str) -> list[str]:
    """What the supervisor starts on each node of a run over several: it meets the others, then starts torchrun."""
    return [python, "-m", "giblet_train", "join", run_dir]


def training_argv(python: str, run_dir: str, world_size: int, drill: str = "") -> list[str]:
    """What the supervisor starts: the trainer alone, or torchrun with one process for each rank; or a drill of it."""
    train = ["-m", "giblet_train", *(("drill", drill) if drill else ("train",)), run_dir]
    if world_size == 1:
        return [python, *train]
    # A name that does not resolve would make torchrun hang without a word; a loopback address always does.
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--max-restarts", "0"]
    ranks = ["--nproc-per-node", str(world_size), "--tee", "3", "--log-dir", f"{run_dir}/ranks"]
    return [python, *torchrun, *ranks, *train]


def ends_at_logout(node: Node, facts: Mapping[str, Any]) -> bool:
    """Does logging out end the user's tmux, screen and all else there? systemd-logind does, if told to; lingering
    spares none of what a login started."""
    return bool(facts.get("kill_user_processes")) and facts.get("user") != "root" and node.transport != "local"


def choose_multiplexer(wanted: str, facts: Mapping[str, Any]) -> Multiplexer:
    """What will hold the session. Raises PreflightRefused when the one wanted is not installed."""
    present: list[Multiplexer] = [kind for kind in ("tmux", "screen") if facts.get(kind)]
    chosen: list[Multiplexer] = [kind for kind in (*present, "process") if wanted in ("auto", kind)]
    if not chosen:
        other = (*present, "process")[0]
        raise PreflightRefused(
            f"{wanted} is not installed on this node.", f"Use --session {other}, or have {wanted} installed."
        )
    return chosen[0]


def choose_gpus(request: LaunchRequest, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The GPUs for a run, as the probe tells of them: those asked for, else the first free ones; none for the CPU.

    Raises ConfigError for a GPU that there is not, PreflightRefused when too few are free (naming who has the others).
    """
    present = list(facts.get("gpus") or ())
    config, wanted = request.config, request.gpus
    if wanted is None and config.device == "auto" and not present and facts.get("gpu_error"):
        raise PreflightRefused(
            f"{sanitize(str(facts['gpu_error']))}. So giblet cannot tell whether this node has a free GPU.",
            "Have it repaired (after a driver update, a reboot), or train on the CPU: --set device=cpu",
        )
    if wanted is None and (config.device == "cpu" or (config.device == "auto" and not present)):
        return []
    if config.device == "cpu":
        raise ConfigError("--gpus asks for GPUs, the configuration for device: cpu.", "Leave out one of them.")
    if not present:
        raise PreflightRefused(
            f"This node has no GPU: {sanitize(str(facts.get('gpu_note') or 'none was found'))}.",
            "Choose another node, or train on the CPU: --set device=cpu",
        )
    if isinstance(wanted, tuple):
        named = [_by_index(index, present) for index in dict.fromkeys(wanted)]
        chosen = gpu_allocation.choose(named, len(named), [gpu["uuid"] for gpu in named], request.force)
        if len(chosen) < len(named):
            busy = sanitize(gpu_allocation.format_not_free(named))
            raise PreflightRefused(f"Busy: {busy}.", "Choose others, or insist with --force.")
        return chosen
    n_gpus = wanted or config.distributed.world_size
    chosen = gpu_allocation.choose(present, n_gpus, force=request.force)
    if len(chosen) < n_gpus:
        raise _too_few(n_gpus, len(gpu_allocation.choose(present, len(present))), present)
    return chosen


def runs_to_replace(name: str, remains: Mapping[str, Any]) -> ReplacedRuns:
    """The live runs of a configuration's name among the agent's `remains`."""
    run_ids, pids = [], set()
    for run in remains["runs"]:
        ended = run["files"].get("exit.json") is not None
        if config_name(run["run_id"]) == name and not ended and (run["supervised"] or run["processes"]):
            run_ids.append(str(run["run_id"]))
            pids.update(run["processes"])
    return ReplacedRuns(run_ids=tuple(run_ids), pids=frozenset(pids))


def _allocate_or_wait(request: LaunchRequest, facts: Mapping[str, Any]) -> tuple[list[dict[str, Any]], GpuWait | None]:
    """The GPUs for a run, or those that it will wait for, behind runs that wait already.

    Raises as `choose_gpus` for what no waiting mends.
    """
    refusal: PreflightRefused | None = None
    try:
        chosen = choose_gpus(request, facts)
        if not (chosen and request.when_free and facts.get("waiting")) or request.force:
            return chosen, None
    except PreflightRefused as error:
        refusal = error
    present, wanted = list(facts.get("gpus") or ()), request.gpus
    among = [_by_index(i, present) for i in dict.fromkeys(wanted)] if isinstance(wanted, tuple) else present
    n_gpus = len(among) if isinstance(wanted, tuple) else wanted or request.config.distributed.world_size
    if refusal and (not request.when_free or n_gpus > len(among)):
        raise refusal
    return [], GpuWait(n_gpus=n_gpus, among=tuple(gpu["uuid"] for gpu in among))


def _facts_without(facts: Mapping[str, Any], pids: frozenset[int]) -> Mapping[str, Any]:
    """The facts as they will be when these processes have ended: their GPUs go to who replaces them, past any line."""
    if not pids:
        return facts
    return {**facts, "gpus": gpu_allocation.without_runs(facts.get("gpus") or (), (), pids), "waiting": []}


def _with_world_size(request: LaunchRequest, n_gpus: int) -> Config:
    """The configuration with as many processes as there are GPUs for it; on the CPU it keeps its own number."""
    if not n_gpus:
        return request.config
    return replace(request.config, distributed=replace(request.config.distributed, world_size=n_gpus))


def _refuse_logout(request: LaunchRequest, node: Node, facts: Mapping[str, Any]) -> None:
    if ends_at_logout(node, facts) and not request.force:
        raise PreflightRefused(
            f"{node.name} ends what you started when you log out (KillUserProcesses=yes).",
            "Ask its administrator for KillUserProcesses=no in logind.conf, or insist with --force.",
        )


def _notes(run: Run, gpus: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> list[str]:
    if run.awaits is not None:
        n, of = run.awaits.n_gpus, len(run.awaits.among)
        behind = f" (behind {', '.join(facts['waiting'])})" if facts.get("waiting") else ""
        return [f"waits on the node until {n} of {of} GPUs are free{behind}, in {_session_phrase(run)}"]
    where = f"GPU {', '.join(str(gpu['index']) for gpu in gpus)}" if gpus else "CPU"
    return [f"on {where}, in {_session_phrase(run)}"]


def _session_phrase(run: Run) -> str:
    return "a plain process: nothing to attach to" if run.multiplexer == "process" else f"a {run.multiplexer} session"


def _by_index(index: int, present: Sequence[dict[str, Any]]) -> dict[str, Any]:
    for gpu in present:
        if gpu["index"] == index:
            return gpu
    there = ", ".join(str(gpu["index"]) for gpu in present)
    raise ConfigError(f"This node has no GPU {index}.", f"It has {there}.")


def _too_few(wanted: int, free: int, present: Sequence[Mapping[str, Any]]) -> PreflightRefused:
    holders = sanitize(gpu_allocation.format_not_free(present))
    return PreflightRefused(
        f"{wanted} GPUs are wanted, {free} of {len(present)} are free" + (f" ({holders})." if holders else "."),
        "Ask for fewer with --gpus, choose another node, or insist with --force.",
    )
