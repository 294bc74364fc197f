"""Evaluate a trained run on its node: planned here, run there by the engine in the background, results copied here.

The same request has the same name, so asking again joins a running evaluation or returns its finished results.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from giblet_train.schema.errors import ConfigError, DataError, PreflightRefused, RunFailed
from giblet_train.schema.records import CheckpointRecord
from giblet_tui.agent import layout
from giblet_tui.connection.base import Connection
from giblet_tui.connection.connect import connect
from giblet_tui.connection.protocol import EngineFacts, JobEvent, JobResult, JobState, receive
from giblet_tui.deploy.install import environment, own_environment
from giblet_tui.errors import NotLetIn, TimedOut, Unreachable
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor.snapshots import NodeFacts, RunSnapshot
from giblet_tui.monitor.watch import Pauses
from giblet_tui.results import pull

LIMIT_S = 7 * 24 * 3600.0
KILLED = 128
"""A shell's exit code for a command that a signal ended is this plus the signal's number."""
NO_REGIONS = "This study has no atlas, so no region has a name."
_END_LIMIT_S = 60.0
_INPUT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,120}")
T = TypeVar("T")

Verb = Literal["evaluate", "lesion", "rebuild", "ensemble", "publish"]


class EvaluationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An evaluation of a run's checkpoint, or of several runs', as a person asked for it."""

    verb: Verb
    role: str = "best"
    """best or last."""
    options: tuple[str, ...] = ()
    """Further command-line words for the engine."""
    inputs: dict[str, Path] = {}
    """Option of the engine -> a file on this machine that is sent along."""
    gpu: int | str | None = None
    """A GPU index, "cpu", or None for any free GPU."""


class EvaluationJob(msgspec.Struct, frozen=True, kw_only=True):
    """An evaluation on one node, fully planned."""

    node: Node
    run_id: str
    name: str
    python: str
    argv: tuple[str | list[str], ...]
    """Arguments of the engine; [path] is below the workdir."""
    inputs: dict[str, Path]
    """Path on the node -> the file on this machine that is copied there."""
    gpu: int | str | None

    @property
    def where(self) -> dict[str, Any]:
        return {"workdir": self.node.workdir, "run_id": self.run_id, "name": self.name}


def engine_of(run: RunSnapshot, node: Node, connection: Connection, report: Callable[[str], None]) -> EngineFacts:
    """Return the environment that a run was trained with; if it is gone, report that and return this version's.

    Raises ConfigError for a run that giblet did not train, PreflightRefused if there is neither environment.
    """
    if run.run.foreign or not run.run.argv:
        raise ConfigError(f"{run.run.run_id} was not trained by giblet: giblet cannot read its checkpoints.")
    own = own_environment(node, connection, run.run.argv[0])
    if own is not None:
        return own
    report(f"{run.run.argv[0]}, which {run.run.run_id} was trained with, is gone; this version of giblet is used.")
    return environment(node, connection)


def checkpoint(run: RunSnapshot, role: str) -> CheckpointRecord:
    """Return the checkpoint to evaluate. Raises as `pull.checkpoint`, with the option to type as remedy."""
    ways = {"last": "Add --last to use its newest one.", "best": "Leave --last out to use its best one."}
    return pull.checkpoint(run, role, ways)


def plan(request: EvaluationRequest, runs: Sequence[RunSnapshot], node: Node, engine: EngineFacts) -> EvaluationJob:
    """Plan an evaluation. Raises ConfigError if a run has no such checkpoint or an input file is missing."""
    records = [checkpoint(run, request.role) for run in runs]
    for path in request.inputs.values():
        _check_input(path)
    data = runs[0].config.data if runs[0].config is not None else None
    if request.verb == "lesion" and not request.inputs and data and data.atlas is None and data.simulate is None:
        raise ConfigError(NO_REGIONS, "Give an atlas as --atlas FILE, or voxels as --mask FILE.")
    identity = {
        "node": node.name,
        "question": [request.verb, request.role, request.options],
        "inputs": [[option, path.name, _digest(path)] for option, path in request.inputs.items()],
        "runs": [[run.run.run_id, record.sha256] for run, record in zip(runs, records, strict=True)],
        "engine": [engine.python, engine.fingerprint],
    }
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]
    run_id = runs[0].run.run_id
    name = f"{request.verb}-step{records[0].step}-{digest}"
    folder = f"{layout.INSPECTIONS}/{run_id}/{name}"
    inputs = {option: f"{folder}/in/{path.name}" for option, path in request.inputs.items()}
    argv: list[str | list[str]] = [request.verb, *([f"runs/{run.run.run_id}"] for run in runs)]
    argv += [*([] if request.verb == "rebuild" else ["--out"]), [f"{folder}/out"], "--role", request.role]
    for option, remote in inputs.items():
        argv += [option, [remote]]
    return EvaluationJob(
        node=node,
        run_id=run_id,
        name=name,
        python=engine.python,
        argv=(*argv, *request.options),
        inputs={inputs[option]: path for option, path in request.inputs.items()},
        gpu=_device(request.gpu, runs),
    )


def refuse_without_memory(run: RunSnapshot, facts: NodeFacts) -> None:
    """Raise PreflightRefused if the run's training used more memory than the node has free."""
    need_gib = max((step.rss_gib or 0.0 for step in run.steps), default=0.0)
    if facts.ram_total_gib and need_gib > facts.ram_available_gib:
        raise PreflightRefused(
            f"{run.run.run_id} used {need_gib:.1f} GiB of memory in training; its node has "
            f"{facts.ram_available_gib:.1f} GiB free.",
            "Wait until others have ended, or insist with --force.",
        )


def checkpoint_sentence(run: RunSnapshot, record: CheckpointRecord, role: str) -> str:
    """Describe the checkpoint; say that a live run is not touched."""
    sentence = f"{run.run.run_id}: {role} checkpoint, step {record.step}, epoch {record.epoch}"
    return f"{sentence}; the run continues untouched" if run.health.live else sentence


def wait_for(planned_job: EvaluationJob, report: Callable[[str], None]) -> JobResult:
    """Start the evaluation or join it, report its output until it ends, and reconnect after lost connections.

    Raises the node's refusal; Unreachable if the node was never reached or refuses the login.
    """
    request_id, mark = secrets.token_hex(8), None
    node = planned_job.node.name

    def take(event: JobEvent) -> None:
        nonlocal mark
        mark = event.mark or mark
        for line in event.said:
            report(line)
        if event.state:
            words = {
                "begun": f"at work on {node}, on {event.on}",
                "joined": f"already at work on {node}, on {event.on}; joined",
            }
            report(words.get(event.state, f"{node} already has the results"))

    def work(connection: Connection) -> JobResult:
        for remote, path in planned_job.inputs.items():
            connection.put(path, f"{planned_job.node.workdir}/{remote}")
        request = {**planned_job.where, "python": planned_job.python, "argv": list(planned_job.argv)}
        request |= {"gpu": planned_job.gpu, "asked": request_id, "mark": mark}
        return connection.call("inspect", request, JobResult, timeout_s=LIMIT_S, on_event=receive(JobEvent, take))

    return _retry(planned_job.node, work, report)


def download(planned_job: EvaluationJob, result: JobResult, target: Path, report: Callable[[str], None]) -> list[Path]:
    """Copy its files into `target`, across lost connections; return their paths. Raises DataError, OSError."""
    names = [pull.safe_name(file.name, planned_job.run_id) for file in result.files]

    def work(connection: Connection) -> None:
        for file in result.files:
            pull.download_file(
                connection, f"{result.out}/{file.name}", target / file.name, file.bytes, file.sha256, report
            )

    _retry(planned_job.node, work, report)
    return [target / name for name in names]


def cancel(planned_job: EvaluationJob) -> bool:
    """End the evaluation and remove its files on the node; return True if there was one. Raises the node's refusal."""
    with connect(planned_job.node) as connection:
        job = connection.call("end_inspection", planned_job.where, JobState, timeout_s=_END_LIMIT_S)
    return job.was != "none"


def failure(planned_job: EvaluationJob, code: int | None) -> RunFailed | None:
    """Return why it was ended from outside; None if it ended by itself and printed the reason."""
    if code is not None and code <= KILLED:
        return None
    how = "was ended" if code is None else f"was killed by signal {code - KILLED}"
    remedy = "If nobody did that, the kernel did, because memory ran out; the same command starts it again."
    return RunFailed(f"{planned_job.name} {how} on {planned_job.node.name}.", remedy)


def _retry(node: Node, work: Callable[[Connection], T], report: Callable[[str], None]) -> T:
    """Run the work over a connection, and again after each lost connection; it must be repeatable."""
    pauses, was_reached = Pauses(), False
    while True:
        try:
            with connect(node) as connection:
                was_reached = True
                return work(connection)
        except (Unreachable, TimedOut) as error:
            if not was_reached or isinstance(error, NotLetIn):
                raise
            report(f"{error.message} Connecting again; it continues there.")
            time.sleep(pauses.next_s(time.monotonic()))


def _device(device: int | str | None, runs: Sequence[RunSnapshot]) -> int | str | None:
    """Return the requested device; the CPU for runs with device: cpu. Raises ConfigError if both disagree."""
    on_cpu = any(run.config is not None and run.config.device == "cpu" for run in runs)
    if on_cpu and isinstance(device, int):
        raise ConfigError(f"--gpu {device}, but the run's configuration has device: cpu.", "Leave --gpu out.")
    return "cpu" if on_cpu else device


def _check_input(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"There is no file {path} here.", "It is sent to the node from this machine.")
    if not _INPUT.fullmatch(path.name):
        raise ConfigError(f"{path.name!r} is not a plain file name.", "Use only letters, digits, _ . and -.")
    if path.stat().st_size > pull.ASK_ABOVE_BYTES:
        raise DataError(f"{path} has more than {pull.ASK_ABOVE_BYTES / 1e6:.0f} MB; it is not sent.")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
