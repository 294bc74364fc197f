"""What the agent answers: one frozen struct per operation, decoded once when the answer arrives.

`Connection.call(operation, arguments, KIND)` returns a KIND; `Connection.stream` returns events of a kind. Strings are
sanitised on the way, except in the fields that hold the content of files (`raw_fields`). The agent itself is standard
library only and builds the same structures as dicts; `tests/unit/giblet_tui/connection/test_protocol.py` compares both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import msgspec

from giblet_tui.connection.sanitize import sanitize_value
from giblet_tui.errors import ProtocolError

Event = dict[str, Any]
"""An event as the node sent it."""

Gpu = dict[str, Any]
"""A GPU as `giblet_tui.agent.gpu_state.observe_gpus` returns it; `gpu_allocation` reads it on both sides."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers and events."""

    raw_fields: ClassVar[frozenset[str]] = frozenset()
    """Names of fields, at any depth, whose strings are the content of files and are not sanitised here."""


A = TypeVar("A", bound=Answer)


def decode(value: Any, kind: type[A]) -> A:
    """Convert an answer of the agent to its struct. Raises ProtocolError."""
    try:
        return msgspec.convert(_sanitized(value, kind.raw_fields), kind)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"The node's answer is not a {kind.__name__}: {error}.") from None


def receive(kind: type[A], handler: Callable[[A], None]) -> Callable[[Event], None]:
    """Return an event handler that decodes each event before it passes it on."""
    return lambda event: handler(decode(event, kind))


def progress_to(handler: Callable[[str], None]) -> Callable[[Event], None]:
    """Return an event handler that passes on what each `Progress` event says."""
    return receive(Progress, lambda progress: handler(progress.text))


def _sanitized(value: Any, raw_fields: frozenset[str]) -> Any:
    if not raw_fields:
        return sanitize_value(value)
    if isinstance(value, dict):
        return {key: item if key in raw_fields else _sanitized(item, raw_fields) for key, item in value.items()}
    if isinstance(value, list):
        return [_sanitized(item, raw_fields) for item in value]
    return sanitize_value(value)


class Done(Answer, frozen=True, kw_only=True):
    """An answer without content (`discard`, `observe`)."""


class Progress(Answer, frozen=True, kw_only=True):
    """An event that reports progress of any operation."""

    step: str = ""
    """Short name of the stage."""
    sentence: str = ""
    """The stage in a sentence."""
    line: str = ""
    """A line that a program printed."""
    say: str = ""
    """A line that an engine command printed on standard error."""

    @property
    def text(self) -> str:
        """Return the text for people."""
        return self.sentence or self.step or self.line or self.say


# --- nodes ---


class NodeProbe(Answer, frozen=True, kw_only=True):
    """Answer to `probe`: what a node is and has."""

    now: float
    """Its clock, in seconds since 1970."""
    boot_id: str = ""
    machine_id: str = ""
    """Hash of the machine's id; empty if it has none."""
    user: str = ""
    home: str = ""
    python: str = ""
    """Version of the interpreter that runs the agent."""
    python_path: str = ""
    system: str = ""
    hostname: str = ""
    tmux: str | None = None
    """Path of tmux, if it is installed."""
    screen: str | None = None
    """Path of screen, if it is installed."""
    session_kinds: tuple[str, ...] = ("process",)
    """Session backends that can be used there, the preferred one first."""
    session_problems: dict[str, str] = {}
    """Session backend -> why its program, though installed, can open no session."""
    has_scheduler: bool = False
    """Jobs of a Slurm cluster can be submitted there."""
    kill_user_processes: bool | None = None
    """Logging out ends what was started; None without systemd-logind."""
    linger: bool | None = None
    """The user's processes outlive the last logout; None without systemd-logind."""
    sessions: tuple[str, ...] = ()
    """Names of giblet's open sessions."""
    waiting: tuple[str, ...] = ()
    """Runs that wait for GPUs, first in line first."""
    workdir_problem: str = ""
    """Why others may have changed the working directory; empty if nobody else can."""
    writable: bool = True
    """The working directory, or the nearest folder above it that exists, can be written."""
    n_cpus: int = 0
    load_1m: float = 0.0
    ram_total_gib: float = 0.0
    ram_available_gib: float = 0.0
    disk_free_gib: float = 0.0
    noexec: bool = False
    """Nothing can be executed in the working directory."""
    cpu_limit_s: float | None = None
    """CPU time after which the system ends a process, in seconds; None: it ends none."""
    n_free_inodes: int | None = None
    """Files that can still be created there; None where the file system sets no limit."""
    gpus: tuple[Gpu, ...] = ()
    gpu_note: str = ""
    """Why there are no GPUs."""
    gpu_error: str = ""
    """Why nvidia-smi cannot be read, or that it is missing although there is a device of a GPU."""
    gpu_warning: str = ""
    """What nvidia-smi complains of although its answer is usable."""


class FileProblem(Answer, frozen=True, kw_only=True):
    """A file of the study that is missing or cannot be used."""

    sentence: str
    remedy: str = ""


class StudyFiles(Answer, frozen=True, kw_only=True):
    """What the node's engine found of the study of a configuration."""

    n_files: int = 0
    """Number of files that the configuration names."""
    problems: tuple[FileProblem, ...] = ()
    unknown: str = ""
    """Why the engine could not look; empty if it could."""


class FreePort(Answer, frozen=True, kw_only=True):
    """Answer to `free_port`."""

    port: int


class MissingPaths(Answer, frozen=True, kw_only=True):
    """Answer to `lacking`: those of the given paths that do not exist."""

    paths: tuple[str, ...]


class EngineFacts(Answer, frozen=True, kw_only=True):
    """Answer to `engine` and `setup`: what an interpreter has, or why it cannot be used."""

    python: str
    problem: str = ""
    """Why it cannot be used, as a sentence without its full stop."""
    version: str = ""
    fingerprint: str = ""
    """Hash of the engine's source."""
    torch: str | None = None
    missing: tuple[str, ...] = ()
    """Packages that training needs and it lacks."""


class Preflight(Answer, frozen=True, kw_only=True):
    """Answer to `preflight`: everything that decides whether a run can start on the node."""

    probe: NodeProbe
    engine: EngineFacts
    files: StudyFiles | None = None
    """None without a configuration."""


class WheelTarget(Answer, frozen=True, kw_only=True):
    """Answer to `interpreter`: what wheels must fit."""

    python: str
    """The interpreter that `setup` would use."""
    version: str
    """Its version, such as 3.11."""
    machine: str
    """Processor architecture, such as x86_64."""
    glibc_minor: int
    """x of glibc 2.x."""


class CommandOutput(Answer, frozen=True, kw_only=True):
    """Answer to `engine_command`."""

    raw_fields: ClassVar[frozenset[str]] = frozenset({"printed"})
    code: int
    """Exit code."""
    printed: str
    """Standard output, not sanitised."""


# --- launching ---


class StartedRun(Answer, frozen=True, kw_only=True):
    """Answer to `start`."""

    run_id: str
    run_dir: str
    """The run directory's path on the node."""
    session: str
    multiplexer: str
    pid: int = 0
    """Pid of the supervisor; 0 for a job that a scheduler starts later."""


class CheckpointFile(Answer, frozen=True, kw_only=True):
    """Answer to `checkpoint`; all empty if there is none."""

    raw_fields: ClassVar[frozenset[str]] = frozenset({"place", "record"})
    place: str = ""
    """Its path, or where it is below the runs' folder."""
    bytes: int = 0
    sha256: str = ""
    record: str = ""
    """The text of its JSON file."""


class AttachableSession(Answer, frozen=True, kw_only=True):
    """Answer to `uncover`."""

    raw_fields: ClassVar[frozenset[str]] = frozenset({"argv"})
    argv: tuple[str, ...]
    """The command that shows the session on a terminal."""
    again: bool = False
    """Its socket was missing and was recreated."""


# --- stopping ---


class GpuMemory(Answer, frozen=True, kw_only=True):
    """Memory that a process holds on one GPU."""

    index: int
    uuid: str
    memory_gib: float


class GpuProcess(Answer, frozen=True, kw_only=True):
    """A process that nothing ended, or that holds GPU memory."""

    pid: int
    cmdline: str = ""
    uid: int | None = None
    wchan: str = ""
    """What it waits for in the kernel."""
    holds: tuple[GpuMemory, ...] = ()
    gone: bool = False
    """It has ended; only its GPU memory is still counted."""


class StopOutcome(Answer, frozen=True, kw_only=True):
    """Answer to `stop`."""

    seconds: float
    already: bool
    """The run had ended before."""
    steps: tuple[Progress, ...] = ()
    survivors: tuple[GpuProcess, ...] = ()
    unproved: str = ""
    """What could not be verified, as a sentence; empty if the end is proved."""


class HeldRun(Answer, frozen=True, kw_only=True):
    """A run that still holds something on a node, or claims to be alive."""

    raw_fields: ClassVar[frozenset[str]] = frozenset({"files"})
    run_id: str
    files: dict[str, str | None] = {}
    """Texts of its records, by file name."""
    supervised: bool = False
    """Its supervisor lives."""
    pending: str = ""
    """What a scheduled run waits for; empty for other runs."""
    rebooted: bool = False
    """It was started in an earlier boot."""
    processes: tuple[int, ...] = ()
    sessions: tuple[str, ...] = ()
    """Kinds of its open sessions."""
    holds: dict[str, tuple[GpuMemory, ...]] = {}
    """GPU memory by pid."""
    gone: tuple[int, ...] = ()
    """Those of the pids in `holds` that have ended."""


class Resources(Answer, frozen=True, kw_only=True):
    """Answer to `remains`: what runs still hold on a node."""

    raw_fields: ClassVar[frozenset[str]] = frozenset({"files"})
    now: float
    """The node's clock."""
    runs: tuple[HeldRun, ...] = ()
    unclaimed: tuple[GpuProcess, ...] = ()
    """Processes of this user, or ended ones, that hold GPU memory and belong to no run."""


class AdoptedSession(Answer, frozen=True, kw_only=True):
    """Answer to `adopt`."""

    run_id: str
    log: str
    """Where the log is read; empty if none was found."""
    pids: tuple[int, ...]
    again: bool = False
    """It was adopted before; only its monitor was started again."""


class CheckedCommand(Answer, frozen=True, kw_only=True):
    """Answer to `check_command`."""

    program: str
    """Full path of its program; as typed if it is sent with the command."""
    cwd: str
    """Full path of the directory that it would start in; empty for one that is sent."""


class AlertReply(Answer, frozen=True, kw_only=True):
    """Answer to `answer`, in the node's time."""

    at: float
    until: float | None = None


# --- space ---


class DiskUse(Answer, frozen=True, kw_only=True):
    """A run or an environment on a node."""

    name: str
    bytes: int
    idle_days: float
    """Time since it last changed."""
    kept: str = ""
    """Why it must stay; empty if nothing needs it."""


class Holdings(Answer, frozen=True, kw_only=True):
    """Answer to `holdings`."""

    runs: tuple[DiskUse, ...] = ()
    environments: tuple[DiskUse, ...] = ()
    free_bytes: int = 0


class RemovedItem(Answer, frozen=True, kw_only=True):
    """What was removed."""

    name: str
    bytes: int


class RefusedItem(Answer, frozen=True, kw_only=True):
    """What was not removed, and why."""

    name: str
    why: str


class Removal(Answer, frozen=True, kw_only=True):
    """Answer to `remove`."""

    removed: tuple[RemovedItem, ...] = ()
    refused: tuple[RefusedItem, ...] = ()


# --- evaluation jobs ---


class OutputFile(Answer, frozen=True, kw_only=True):
    """A file that an evaluation job wrote."""

    name: str
    bytes: int
    sha256: str


class JobResult(Answer, frozen=True, kw_only=True):
    """Answer to `inspect`."""

    raw_fields: ClassVar[frozenset[str]] = frozenset({"out", "name"})
    code: int | None
    """Exit code; None if its process was ended."""
    out: str
    """Folder of its files on the node."""
    files: tuple[OutputFile, ...] = ()

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(file.bytes for file in self.files)


class JobEvent(Answer, frozen=True, kw_only=True):
    """An event of `inspect`."""

    state: str = ""
    """`begun`, `joined` or `kept`."""
    on: str = ""
    """The device it runs on, in words."""
    said: tuple[str, ...] = ()
    """Lines that it printed."""
    mark: dict[str, Any] | None = None
    """How far its output was read; sent back to continue there."""


class JobState(Answer, frozen=True, kw_only=True):
    """Answer to `end_inspection`."""

    was: str
    """State of the job before: `none`, `at work`, `done` or `failed`."""


# --- watching ---


class Mark(Answer, frozen=True, kw_only=True):
    """How far a file was read, and which file it was."""

    offset: int = 0
    inode: int | None = None
    """None: any file at that path."""
    head: int | None = None
    """Checksum of its first bytes."""
    skipping: bool = False
    """The offset is inside a line that is too long."""


class Appended(Answer, frozen=True, kw_only=True):
    """New lines of a file."""

    text: str
    """The lines; bytes that are not UTF-8 are surrogate escapes."""
    mark: Mark
    reset: bool = False
    """The lines begin a file from its start."""
    gap: bool = False
    """Lines before these may be missing."""
    skipped: int = 0
    """Number of lines left out because they are too long."""
    more: bool = False
    """Further lines can be read at once."""


class RunNews(Answer, frozen=True, kw_only=True):
    """What changed in a run since it was last read."""

    run_id: str
    files: dict[str, str | None] = {}
    """Texts of changed files; None for a deleted one."""
    checkpoints: tuple[str, ...] | None = None
    """Texts of the JSON files of all checkpoints; None if they did not change."""
    appended: dict[str, Appended] = {}
    process: bool | msgspec.UnsetType | None = msgspec.UNSET
    """Its supervisor lives; None if that is unknown."""
    here: bool | msgspec.UnsetType | None = msgspec.UNSET
    """It was started in this boot of this machine; None if that is unknown."""
    same_machine: bool | msgspec.UnsetType | None = msgspec.UNSET
    """It was started on this machine, in whatever boot."""
    pending: str | msgspec.UnsetType = msgspec.UNSET
    """What a scheduled run waits for; empty once it was started."""
    owner: str = ""
    """Another user whose run it is; empty: the run of the user who asks."""
    job_end: str | msgspec.UnsetType = msgspec.UNSET
    """How a scheduler ended a run; empty while its job lives."""


class Tick(Answer, frozen=True, kw_only=True):
    """The end of a round over all runs."""

    now: float
    """The node's clock."""
    boot_id: str = ""
    present: tuple[str, ...] | None = None
    """Ids of all runs there; None if they did not change."""
    facts: dict[str, Any] = {}
    """Changed facts of the node, as in `NodeProbe`."""


class WatchEvent(Answer, frozen=True, kw_only=True):
    """An event of `watch` and `observe`: news of a run, or the end of a round."""

    raw_fields: ClassVar[frozenset[str]] = frozenset({"files", "checkpoints", "appended"})
    run: RunNews | None = None
    tick: Tick | None = None


class FileBytes(Answer, frozen=True, kw_only=True):
    """An event of `read`."""

    raw_fields: ClassVar[frozenset[str]] = frozenset({"data"})
    data: bytes
    """Base64 on the wire."""


class RunIds(Answer, frozen=True, kw_only=True):
    """Answer to `runs`."""

    runs: tuple[str, ...]


class LogLineAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a log that reports an error."""

    text: str
    rank: int | None = None
    """Rank that printed it, if known."""
    at: str = ""
    """Timestamp as printed."""
    details: str = ""
    """What the lines below add to its message."""
    place: str = ""
    """File and line of the program that raised it."""
    later: str = ""
    """Last exception of the same chain."""
    before: str = ""
    """Line before it about a file, or marked as an error."""


class NamedLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a log that names a cause."""

    cause: str
    line: LogLineAnswer


class FailedRankAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """First failure that torchrun reports."""

    rank: int | None = None
    exit_code: int | None = None
    """Negative for the number of a signal."""
    host: str = ""
    at: str = ""


class LogEndAnswer(Answer, frozen=True, kw_only=True):
    """How a run ended, as far as its whole log shows (`log_end`)."""

    causes: tuple[NamedLine, ...] = ()
    """First line that names each cause, in the order of the log."""
    errors: tuple[LogLineAnswer, ...] = ()
    """First error lines."""
    echoes: tuple[LogLineAnswer, ...] = ()
    """First lines that only report the failure of another process."""
    tail: tuple[str, ...] = ()
    """Last lines."""
    failed: FailedRankAnswer | None = None
    timed_out_ranks: tuple[int, ...] = ()
    """Ranks that reported that a collective operation timed out."""
    missing_ranks: tuple[int, ...] = ()
    """Ranks that did not join that operation."""
    statement: str = ""
    """`complete`, `early_stop` or `interrupted`, if the log states it; else empty."""
    statement_line: str = ""
    killed: str = ""
    """Line that shows an end by SIGKILL."""
    complaint: LogLineAnswer | None = None
    """First line that a logger marked as an error, although its words name none; None if all epochs had ended."""
    remedy: str = ""
    """Remedy printed after an error of giblet's own."""
