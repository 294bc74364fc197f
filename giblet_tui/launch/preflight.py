"""Check whether a node can run a configuration: one question to the node, then pure judgement.

`giblet doctor`, `launch`, its dry run, the launch form and `promote` all use these checks, so none approves what
another refuses.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from giblet_train.schema.config import Config, dump
from giblet_train.schema.disk_usage import GIB, checkpoints_at_most
from giblet_train.schema.errors import GibletError, PreflightRefused
from giblet_train.schema.health import duration
from giblet_tui.agent import gpu_allocation
from giblet_tui.agent.sessions import BACKENDS
from giblet_tui.connection.base import Connection
from giblet_tui.connection.protocol import EngineFacts, Gpu, NodeProbe, Preflight, StudyFiles
from giblet_tui.deploy.install import check_engine, engine_location
from giblet_tui.inventory.nodes import Node
from giblet_tui.launch.finding import Finding
from giblet_tui.launch.gpus import choose_gpus, needs_gpus, number_of_gpus
from giblet_tui.launch.plan import ends_at_logout
from giblet_tui.launch.request import LaunchRequest
from giblet_tui.monitor.snapshots import RunSnapshot

PREFLIGHT_LIMIT_S = 150.0
DISK_WANTED_GIB = 20.0
"""Free disk space, in GiB, that a store and its checkpoints usually need."""
FILES_WANTED = 1000
"""A run has about a hundred files, an environment tens of thousands."""
SKEW_LIMIT_S = 2.0
"""Largest difference in seconds between the clocks of node and laptop that is not reported."""
FORCEABLE = ("logout", "memory", "processes")
"""Checks that --force overrules."""
REMEDIES_SHOWN = 12


def observe(node: Node, connection: Connection, config: Config | None) -> tuple[Preflight, float]:
    """Ask the node for everything that the checks need; return its answer and its clock minus ours, in seconds.

    The node reads its clock at some moment of the call, so a difference below the call's duration is not seen.
    """
    arguments = {**engine_location(node), "config": None if config is None else dump(config)}
    began = time.time()
    answer = connection.call("preflight", arguments, Preflight, timeout_s=PREFLIGHT_LIMIT_S)
    now = answer.probe.now
    return answer, now - min(max(now, began), time.time())


def engine_of(node: Node, answer: Preflight) -> EngineFacts | GibletError:
    """Return the node's engine if it is this very version, else the refusal with its remedy."""
    try:
        return check_engine(node, answer.engine)
    except GibletError as error:
        return error


def check_node(
    node: Node,
    probe: NodeProbe,
    engine: EngineFacts | GibletError,
    clock_skew_s: float = 0.0,
    device: str = "auto",
    needs_engine: bool = True,
) -> list[Finding]:
    """Judge a node for any run. Pure.

    Args:
        clock_skew_s: Clock of the node minus clock of the laptop, in seconds.
        device: of the configuration, if there is one; a run on the CPU needs no readable nvidia-smi.
        needs_engine: false for a command of the user's; without an engine its alerts are missing, nothing else.
    """
    own = [_disk(node, probe), _clock(clock_skew_s), _logout(node, probe), *_cpu_time(probe), *_scheduler(node, probe)]
    return [_engine(engine, needs_engine), _sessions(node, probe), *_gpus(probe, device != "cpu"), *own]


def check_run(
    request: LaunchRequest, probe: NodeProbe, files: StudyFiles | None, earlier_runs: Sequence[RunSnapshot]
) -> list[Finding]:
    """Judge a node for one run: processes, data, disk and memory. Pure.

    Args:
        request: its configuration counts this node's processes only.
        files: what the node's engine found of the study; None if it could not be asked.
        earlier_runs: seen from here, newest first. They show what a run of this name needs; nothing is guessed.
    """
    if request.command is not None:
        return [_processes(request, probe)]
    config = request.config
    own = [run for run in earlier_runs if run.run.name == config.name]
    return [
        _processes(request, probe),
        _data(config, files),
        _checkpoint_space(config, probe, own),
        _memory(request, probe, own),
    ]


def refuse(node: Node, request: LaunchRequest, findings: Sequence[Finding]) -> None:
    """Raise PreflightRefused with every check that the launch would fail, but those that the request overrules."""
    ignored_checks = {*(FORCEABLE if request.force else ()), *(("sessions",) if request.session else ())}
    failures = [f for f in findings if f.needed and not f.well and f.name not in ignored_checks]
    if not failures:
        return
    lines = [line for finding in failures for line in (finding.sentence, *_remedy_lines(finding))]
    if len(failures) == 1:
        sentence, *remedies = lines
        raise PreflightRefused(f"{node.name}: {sentence.rstrip('.')}.", "\n  ".join(remedies))
    raise PreflightRefused(
        f"{node.name} cannot run {request.config.name}: {len(failures)} checks failed.",
        "\n  ".join(line for finding in failures for line in _failure_lines(finding)),
    )


def _failure_lines(finding: Finding) -> list[str]:
    return [f"{finding.name}: {finding.sentence}", *(f"  {line}" for line in _remedy_lines(finding))]


def _remedy_lines(finding: Finding) -> list[str]:
    return [line.strip() for line in finding.remedy.splitlines()]


def _processes(request: LaunchRequest, probe: NodeProbe) -> Finding:
    """Check the number of processes against the GPUs that are free, or on the CPU against the cores."""
    if request.is_job:
        sentence = f"{number_of_gpus(request)} on a machine that Slurm chooses"
        return Finding(name="processes", well=True, known=False, sentence=sentence)
    try:
        if needs_gpus(request, probe):
            return _gpu_processes(request, probe)
    except PreflightRefused as error:
        return Finding(name="processes", well=False, sentence=error.message, remedy=error.remedy, needed=True)
    n_processes = request.config.distributed.world_size
    device = f"{n_processes} process{'es' if n_processes > 1 else ''} on {probe.n_cpus} CPU cores"
    if not probe.n_cpus:
        return Finding(name="processes", well=True, known=False, sentence="the number of CPU cores is not known")
    return Finding(
        name="processes",
        well=n_processes <= probe.n_cpus,
        sentence=device,
        remedy="Take fewer: --set distributed.world_size=1. Or choose a node with GPUs, or insist with --force.",
        needed=True,
    )


def _gpu_processes(request: LaunchRequest, probe: NodeProbe) -> Finding:
    n_gpus = number_of_gpus(request)
    usable = [device for device in gpu_allocation.for_run(probe.gpus, n_gpus) if not device.get("fault")]
    if request.when_free and n_gpus <= len(usable):
        sentence = f"{n_gpus} of {len(usable)} GPUs, when they are free"
        return Finding(name="processes", well=True, sentence=sentence)
    gpus = choose_gpus(request, probe)
    indices = ", ".join(map(gpu_allocation.label, gpus))
    return Finding(name="processes", well=True, sentence=f"{len(gpus)} on GPU {indices}")


def _data(config: Config, files: StudyFiles | None) -> Finding:
    if config.data.simulate is not None:
        return Finding(name="data", well=True, sentence=f"the {config.data.simulate} demo study, made on first use")
    if files is None or files.unknown:
        reason = files.unknown if files else "the node has no engine that could look"
        return Finding(name="data", well=True, known=False, sentence=f"not checked: {reason}")
    if not files.problems:
        return Finding(name="data", well=True, sentence=f"all {files.n_files} files are there")
    sentence = files.problems[0].sentence
    if len(files.problems) > 1:
        sentence = f"{len(files.problems)} files are missing or cannot be used"
    lines = [problem.sentence for problem in files.problems[:REMEDIES_SHOWN]] if len(files.problems) > 1 else []
    lines += [f"and {len(files.problems) - REMEDIES_SHOWN} more"] if len(files.problems) > REMEDIES_SHOWN else []
    remedies = dict.fromkeys(problem.remedy for problem in files.problems if problem.remedy)
    return Finding(name="data", well=False, sentence=sentence, remedy="\n".join([*lines, *remedies]), needed=True)


def _checkpoint_space(config: Config, probe: NodeProbe, earlier_runs: Sequence[RunSnapshot]) -> Finding:
    sizes = [max(record.bytes for record in run.checkpoints) for run in earlier_runs if run.checkpoints]
    n_files = checkpoints_at_most(config)
    need = (n_files * sizes[0] / GIB, f"{n_files} checkpoints of {sizes[0] / GIB:.2f} GiB") if sizes else None
    return _space("checkpoints", need, probe.disk_free_gib, "Free some: giblet prune NODE --dry-run")


def _memory(request: LaunchRequest, probe: NodeProbe, earlier_runs: Sequence[RunSnapshot]) -> Finding:
    if request.is_job:
        sentence = "not checked: Slurm chooses the machine"
        return Finding(name="memory", well=True, known=False, sentence=sentence)
    peaks = [max(s.rss_gib or 0.0 for s in run.steps) for run in earlier_runs if any(s.rss_gib for s in run.steps)]
    n_processes = request.config.distributed.world_size
    if isinstance(request.gpus, int | tuple) and request.config.device != "cpu":
        n_processes = number_of_gpus(request)
    words = f"{n_processes} process{'es' if n_processes > 1 else ''}"
    need = (n_processes * peaks[0], f"{words} of {peaks[0]:.1f} GiB") if peaks else None
    remedy = "Take fewer processes, wait, or insist with --force."
    return _space("memory", need, probe.ram_available_gib, remedy)


def _space(name: str, need: tuple[float, str] | None, free_gib: float, remedy: str) -> Finding:
    if need is None:
        sentence = "what it needs is not known before its first run"
        return Finding(name=name, well=True, known=False, sentence=sentence)
    needed_gib, parts = need
    sentence = f"{parts}: {needed_gib:.1f} GiB of {free_gib:.0f} GiB free"
    return Finding(name=name, well=needed_gib <= free_gib, sentence=sentence, remedy=remedy, needed=True)


def _engine(engine: EngineFacts | GibletError, needed: bool) -> Finding:
    if isinstance(engine, GibletError) and not needed:
        sentence = f"no alerts will be raised: {engine.message.rstrip('.')}"
        return Finding(name="engine", well=False, sentence=sentence, remedy=engine.remedy)
    if isinstance(engine, GibletError):
        return Finding(name="engine", well=False, sentence=engine.message, remedy=engine.remedy, needed=True)
    return Finding(name="engine", well=True, sentence=f"giblet {engine.version}, torch {engine.torch}, {engine.python}")


def _sessions(node: Node, probe: NodeProbe) -> Finding:
    present = [kind for kind in probe.session_kinds if BACKENDS[kind].has_terminal]
    multiplexer = node.multiplexer
    if multiplexer == "slurm" and multiplexer in probe.session_kinds:
        return Finding(name="sessions", well=True, sentence="jobs of Slurm")
    if multiplexer != "auto" and multiplexer not in [*probe.session_kinds, *probe.session_problems]:
        remedy = f"Have {multiplexer} installed there, or set `multiplexer: auto` for the node."
        return Finding(name="sessions", well=False, sentence=f"{multiplexer} is missing", remedy=remedy, needed=True)
    problems = [
        f"{kind} cannot open a session: {problem.rstrip('.')}" for kind, problem in probe.session_problems.items()
    ]
    if problems:
        usable = next(kind for kind in probe.session_kinds if BACKENDS[kind].is_automatic)
        form = f"in {usable} sessions" if BACKENDS[usable].has_terminal else "plain processes"
        sentence = "; ".join([*problems, f"runs will be {form}"])
        needed = multiplexer in probe.session_problems
        remedy = "Have it repaired; sockets of tmux are in $TMUX_TMPDIR or /tmp, those of screen in $SCREENDIR."
        return Finding(name="sessions", well=False, sentence=sentence, remedy=remedy, needed=needed)
    if present:
        return Finding(name="sessions", well=True, sentence=" and ".join(present))
    remedy = "Have tmux or screen installed to be able to attach."
    return Finding(
        name="sessions", well=False, sentence="neither tmux nor screen; runs are plain processes", remedy=remedy
    )


def _gpus(probe: NodeProbe, needed: bool) -> list[Finding]:
    if probe.gpu_error:
        remedy = (
            "Have it repaired (after a driver update, reboot) or put on PATH, or train on the CPU: --set device=cpu"
        )
        return [Finding(name="gpus", well=False, sentence=probe.gpu_error, remedy=remedy, needed=needed)]
    if not probe.gpus:
        return [Finding(name="gpus", well=True, sentence=probe.gpu_note or "none; runs use the CPU")]
    findings = [
        Finding(
            name=f"gpu {gpu_allocation.label(gpu)}",
            well=gpu.get("n_slices", 0) > 0 or not (gpu.get("fault") or gpu.get("damage")),
            sentence=_gpu(gpu),
            remedy=_gpu_remedy(gpu),
        )
        for gpu in probe.gpus
    ]
    if probe.gpu_warning:
        remedy = "The other values are used. Ask the node's administrator."
        findings.append(Finding(name="nvidia-smi", well=False, sentence=probe.gpu_warning, remedy=remedy))
    return findings


def _gpu_remedy(gpu: Gpu) -> str:
    """Return what to do about a GPU that is not well. A damaged one can be insisted on, one with a fault cannot."""
    use = "does not use it" if gpu.get("fault") else "uses it only with --force"
    return f"giblet {use}. Ask the node's administrator."


def _gpu(gpu: Gpu) -> str:
    """Describe a GPU's memory use, and who holds it."""
    memory = f"{gpu['memory_used_gib']:.1f}/{gpu['memory_total_gib']:.0f} GiB"
    return f"{gpu['name']}, {memory}, {gpu['not_free'] or 'free'}"


def _disk(node: Node, probe: NodeProbe) -> Finding:
    free = probe.disk_free_gib
    if probe.workdir_problem:
        return Finding(
            name="disk",
            well=False,
            sentence=f"{probe.workdir_problem}: others could change what giblet runs there",
            remedy=f"See that everything below it is yours, then close it: chmod -R go-w {node.workdir}",
            needed=True,
        )
    if not probe.writable:
        return Finding(
            name="disk",
            well=False,
            sentence=f"{node.workdir} cannot be written",
            remedy="Name another workdir for the node, or ask its administrator for a place to write.",
            needed=True,
        )
    if probe.n_free_inodes is not None and probe.n_free_inodes < FILES_WANTED:
        return Finding(
            name="disk",
            well=False,
            sentence=f"only {probe.n_free_inodes:,} more files fit at {node.workdir} (inodes)",
            remedy="Delete files that nobody needs (df -i shows the use), or name another workdir.",
            needed=probe.n_free_inodes == 0,
        )
    if probe.noexec:
        return Finding(
            name="disk",
            well=False,
            sentence=f"{node.workdir} is on a file system mounted noexec",
            remedy="Name a workdir elsewhere, or as `python:` one with giblet that is elsewhere.",
        )
    return Finding(
        name="disk",
        well=free >= DISK_WANTED_GIB,
        sentence=f"{free:.0f} GiB free at {node.workdir}",
        remedy=f"A store and its checkpoints want about {DISK_WANTED_GIB:.0f} GiB: free some, or name another workdir.",
    )


def _clock(skew_s: float) -> Finding:
    direction = "ahead of" if skew_s > 0 else "behind"
    return Finding(
        name="clock",
        well=abs(skew_s) <= SKEW_LIMIT_S,
        sentence=f"{abs(skew_s):.1f} s {direction} ours",
        remedy="giblet counts by the node's own clock; files and logs will not agree: have NTP switched on there.",
    )


def _logout(node: Node, probe: NodeProbe) -> Finding:
    """Check whether systemd ends runs at logout. It ends tmux and screen too, and lingering does not prevent it."""
    if ends_at_logout(node, probe):
        remedy = (
            "Ask the administrator for KillUserProcesses=no in logind.conf; `loginctl enable-linger` does not help."
        )
        sentence = "logging out ends what you started (KillUserProcesses=yes)"
        return Finding(name="logout", well=False, sentence=sentence, remedy=remedy, needed=True)
    return Finding(name="logout", well=True, sentence="runs outlive the login")


def _cpu_time(probe: NodeProbe) -> list[Finding]:
    """Check whether the system ends processes after some CPU time, as on login nodes."""
    if probe.cpu_limit_s is None:
        return []
    sentence = f"a process is ended after {duration(probe.cpu_limit_s)} of CPU time (ulimit -t)"
    remedy = "It may be a login node, where nothing should train: use its scheduler, or another node."
    return [Finding(name="CPU time", well=False, sentence=sentence, remedy=remedy)]


def _scheduler(node: Node, probe: NodeProbe) -> list[Finding]:
    """Check whether a run would bypass the scheduler without anybody having decided that."""
    if not probe.has_scheduler or node.multiplexer != "auto":
        return []
    sentence = "Slurm schedules jobs here; a run in a session bypasses it"
    remedy = "Launch with --session slurm, or set `multiplexer:` in nodes.yaml: slurm, or tmux if that is allowed."
    return [Finding(name="scheduler", well=False, sentence=sentence, remedy=remedy)]
