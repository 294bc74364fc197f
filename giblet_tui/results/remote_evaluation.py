"""A trained run looked at on its node by the engine: planned here, at work there in the background, its files brought.

The same question has the same name, so whoever asks it again joins what is at work, or gets what it has left.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from giblet_train.schema.errors import ConfigError, DataError, PreflightRefused, RunFailed
from giblet_train.schema.records import CheckpointRecord
from giblet_tui.agent import layout
from giblet_tui.connection.base import Connection
from giblet_tui.connection.connect import connect
from giblet_tui.connection.sanitize import sanitize
from giblet_tui.deploy.install import Environment, environment, own_environment
from giblet_tui.errors import NotLetIn, TimedOut, Unreachable
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor.snapshots import NodeFacts, RunSnapshot
from giblet_tui.monitor.watch import Pauses
from giblet_tui.results import pull

LIMIT_S = 7 * 24 * 3600.0
KILLED = 128
"""A shell's exit code for a command that a signal ended is this and the signal's number."""
_END_LIMIT_S = 60.0
_INPUT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,120}")
T = TypeVar("T")

Verb = Literal["evaluate", "lesion", "rebuild", "ensemble"]


class EvaluationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a person wants to know of a run's checkpoint, or of several runs'.

    role: best or last. options: words for the engine. inputs: an option of the engine -> a file here that goes with it.
    gpu: an index, "cpu", or None for any free one.
    """

    verb: Verb
    role: str = "best"
    options: tuple[str, ...] = ()
    inputs: dict[str, Path] = {}
    gpu: int | str | None = None


class EvaluationJob(msgspec.Struct, frozen=True, kw_only=True):
    """A question about runs of one node, with everything decided.

    argv: the engine's words, where [path] is below the workdir. inputs: such a path -> the file here that it gets.
    """

    node: Node
    run_id: str
    name: str
    python: str
    argv: tuple[str | list[str], ...]
    inputs: dict[str, Path]
    gpu: int | str | None

    @property
    def where(self) -> dict[str, Any]:
        return {"workdir": self.node.workdir, "run_id": self.run_id, "name": self.name}


class OutputFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that an inspection made."""

    name: str
    bytes: int
    sha256: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended, and the files that it left in the folder `out` of its node."""

    code: int | None
    out: str
    files: tuple[OutputFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)


def engine_of(run: RunSnapshot, node: Node, connection: Connection, say: Callable[[str], None]) -> Environment:
    """The environment that a run was trained with; this version's where that is gone, which is said.

    Raises ConfigError for a run that giblet did not train, PreflightRefused where there is neither.
    """
    if run.run.adopted is not None or not run.run.argv:
        raise ConfigError(f"{run.run.run_id} was not trained by giblet: its checkpoints are not known.")
    found = own_environment(node, connection, run.run.argv[0])
    if found is not None:
        return found
    say(f"{run.run.argv[0]}, which {run.run.run_id} was trained with, is gone; this version of giblet looks at it.")
    return environment(node, connection)


def checkpoint(run: RunSnapshot, role: str) -> CheckpointRecord:
    """The checkpoint of a run that is looked at. Raises as `pull.checkpoint`, naming the option to type."""
    ways = {"last": "Add --last to look at its newest one.", "best": "Leave --last out to look at its best one."}
    return pull.checkpoint(run, role, ways)


def plan(question: EvaluationRequest, runs: Sequence[RunSnapshot], node: Node, engine: Environment) -> EvaluationJob:
    """Decide an inspection. Raises ConfigError where a run has no such checkpoint or an input is not here."""
    records = [checkpoint(run, question.role) for run in runs]
    for path in question.inputs.values():
        _check_input(path)
    told = {
        "node": node.name,
        "question": [question.verb, question.role, question.options],
        "inputs": [[option, path.name, _digest(path)] for option, path in question.inputs.items()],
        "runs": [[run.run.run_id, record.sha256] for run, record in zip(runs, records, strict=True)],
        "engine": [engine.python, engine.fingerprint],
    }
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]
    run_id = runs[0].run.run_id
    name = f"{question.verb}-step{records[0].step}-{digest}"
    folder = f"{layout.INSPECTIONS}/{run_id}/{name}"
    inputs = {option: f"{folder}/in/{path.name}" for option, path in question.inputs.items()}
    argv: list[str | list[str]] = [question.verb, *([f"runs/{run.run.run_id}"] for run in runs)]
    argv += [*([] if question.verb == "rebuild" else ["--out"]), [f"{folder}/out"], "--role", question.role]
    for option, remote in inputs.items():
        argv += [option, [remote]]
    return EvaluationJob(
        node=node,
        run_id=run_id,
        name=name,
        python=engine.python,
        argv=(*argv, *question.options),
        inputs={inputs[option]: path for option, path in question.inputs.items()},
        gpu=_device(question.gpu, runs),
    )


def refuse_without_memory(run: RunSnapshot, facts: NodeFacts) -> None:
    """Raises PreflightRefused where what the run's training took is more than the node has: others would be killed."""
    needed = max((step.rss_gib or 0.0 for step in run.steps), default=0.0)
    if facts.ram_total_gib and needed > facts.ram_available_gib:
        raise PreflightRefused(
            f"{run.run.run_id} took {needed:.1f} GiB of memory as it trained; its node has "
            f"{facts.ram_available_gib:.1f} GiB free.",
            "Wait until others have ended, or insist with --force.",
        )


def checkpoint_sentence(run: RunSnapshot, record: CheckpointRecord, role: str) -> str:
    """Which checkpoint is looked at, and that a run that goes on is not touched."""
    sentence = f"{run.run.run_id}: {role} checkpoint, step {record.step}, epoch {record.epoch}"
    return f"{sentence}; the run goes on and is not touched" if run.health.live else sentence


def wait_for(inspection: EvaluationJob, say: Callable[[str], None]) -> Result:
    """Have it made, or join it, and tell what it says until it ends, through lost links.

    Raises the node's refusal; Unreachable when the node was not reached at all or lets us in no more.
    """
    asked, mark = secrets.token_hex(8), None
    node = inspection.node.name

    def take(event: Mapping[str, Any]) -> None:
        nonlocal mark
        mark = event.get("mark", mark)
        for line in event.get("said", ()):
            say(sanitize(str(line)))
        if "state" in event:
            on = sanitize(str(event["on"]))
            words = {"begun": f"at work on {node}, on {on}", "joined": f"at work on {node} already, on {on}; joined"}
            say(words.get(str(event["state"]), f"{node} has the answer already"))

    def work(connection: Connection) -> Result:
        for remote, path in inspection.inputs.items():
            connection.put(path, f"{inspection.node.workdir}/{remote}")
        request = {**inspection.where, "python": inspection.python, "argv": list(inspection.argv)}
        request |= {"gpu": inspection.gpu, "asked": asked, "mark": mark}
        told = connection.call("inspect", request, timeout_s=LIMIT_S, on_event=take)
        return msgspec.convert(told, Result)

    return _retry(inspection.node, work, say)


def download(inspection: EvaluationJob, result: Result, target: Path, say: Callable[[str], None]) -> list[Path]:
    """Its files in the folder `target`, each whole, through lost links; their paths. Raises DataError, OSError."""
    names = [pull.safe_name(file.name, inspection.run_id) for file in result.files]

    def work(connection: Connection) -> None:
        for file in result.files:
            pull.download_file(
                connection, f"{result.out}/{file.name}", target / file.name, file.bytes, file.sha256, say
            )

    _retry(inspection.node, work, say)
    return [target / name for name in names]


def cancel(inspection: EvaluationJob) -> bool:
    """End it on its node and remove what it left there; was there anything? Raises the node's refusal."""
    with connect(inspection.node) as connection:
        told = connection.call("end_inspection", inspection.where, timeout_s=_END_LIMIT_S)
    return bool(told["was"] != "none")


def failure(inspection: EvaluationJob, code: int | None) -> RunFailed | None:
    """What ended it that it could not say itself; None where it said so."""
    if code is not None and code <= KILLED:
        return None
    how = "was ended" if code is None else f"was killed by signal {code - KILLED}"
    remedy = "If nobody did that, the kernel did, for want of memory; the same command begins it anew."
    return RunFailed(f"{inspection.name} {how} on {inspection.node.name}.", remedy)


def _retry(node: Node, work: Callable[[Connection], T], say: Callable[[str], None]) -> T:
    """The work done over a connection, begun again after each lost link. It must bear being begun again."""
    pauses, reached = Pauses(), False
    while True:
        try:
            with connect(node) as connection:
                reached = True
                return work(connection)
        except (Unreachable, TimedOut) as error:
            if not reached or isinstance(error, NotLetIn):
                raise
            say(f"{error.message} Connecting again; it goes on there.")
            time.sleep(pauses.next_s(time.monotonic()))


def _device(wanted: int | str | None, runs: Sequence[RunSnapshot]) -> int | str | None:
    """What is wanted; the CPU for runs whose configuration says so. Raises ConfigError when both disagree."""
    on_cpu = any(run.config is not None and run.config.device == "cpu" for run in runs)
    if on_cpu and isinstance(wanted, int):
        raise ConfigError(f"--gpu {wanted}: the run's configuration says device: cpu.", "Leave --gpu out.")
    return "cpu" if on_cpu else wanted


def _check_input(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"There is no file {path} here.", "It is sent to the node from this machine.")
    if not _INPUT.fullmatch(path.name):
        raise ConfigError(f"{path.name!r} is no plain file name.", "Use letters, digits, _ . and - alone.")
    if path.stat().st_size > pull.ASK_ABOVE_BYTES:
        raise DataError(f"{path} has more than {pull.ASK_ABOVE_BYTES / 1e6:.0f} MB; it is not sent.")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
