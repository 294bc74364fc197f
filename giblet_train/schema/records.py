"""Records in the files of a run directory, and how lines of metrics are read and written.

Writers are strict and readers lenient: unknown fields and kinds are skipped, a newer schema is refused.
Numbers that are not finite are `null`. Times (`at`) are seconds since 1970 on the node's clock; `_s` are durations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, TypeVar

import msgspec

from giblet_train.schema.errors import DataError

SCHEMA = 1

TrainerState = Literal["loading", "training", "validating", "saving", "finished", "stopped", "ended", "failed"]
Number = float | None
R = TypeVar("R")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Any fact of a run. Subclasses name the file that holds it."""


class Promotion(Record, frozen=True, kw_only=True):
    """Why a run may be on its stage, as stored in run.json."""

    from_run: str
    """Id of the run that was promoted."""
    from_stage: str
    """Stage of that run."""
    verdict: str
    """Verdict of that run."""
    accepted: dict[str, str] = {}
    """Criterion that was not met but accepted -> its sentence."""
    why: str = ""
    """Reason for accepting them."""
    hours: tuple[float, float] | None = None
    """Estimated GPU-hours (on a CPU: process-hours), lower and upper bound."""


class Rendezvous(Record, frozen=True, kw_only=True):
    """How the nodes of one run find each other."""

    address: str
    """Address of the first node."""
    port: int
    """Port of the first node."""
    key: str
    """Secret of this run only."""
    n_processes: int = 1
    """Processes on each node."""


class GpuWait(Record, frozen=True, kw_only=True):
    """GPUs that a run waits for on its node."""

    n_gpus: int
    """Number of GPUs needed."""
    among: tuple[str, ...]
    """GPUs that may be used."""
    every_s: float = 15.0
    """Seconds between two checks."""


class SlotWait(Record, frozen=True, kw_only=True):
    """What a run of a sweep waits for on a node without GPUs."""

    n_slots: int
    """Runs of the sweep that may train at once."""
    every_s: float = 2.0
    """Seconds between two checks."""


class SweepCell(Record, frozen=True, kw_only=True):
    """One run of a sweep."""

    name: str
    """Name of the sweep."""
    values: dict[str, str]
    """Dotted configuration key, or name of a placeholder of a command -> this run's value."""
    number: int
    """Position of the run in the sweep, from 1."""
    n_runs: int
    """Number of runs of the sweep."""
    stop_hopeless: bool = False
    """The run is stopped as soon as it can no longer pass."""

    @property
    def label(self) -> str:
        """Return the values for people, such as `learning_rate=1e-4 normalize_fmri=true`."""
        return " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in self.values.items())


class Adoption(Record, frozen=True, kw_only=True):
    """The session, started by hand, that a run was adopted from."""

    address: str
    """Address of the session."""
    mark: str
    """Environment variable that its processes have."""
    at: float
    """Time of the adoption."""
    by: str
    """Who adopted it."""
    log: str | None = None
    """Log file whose lines are its metrics."""


class Command(Record, frozen=True, kw_only=True):
    """A program of the user's that a run starts in place of giblet's trainer."""

    words: tuple[str, ...]
    """The command line, as typed."""
    cwd: str = ""
    """Directory on the node in which it starts; empty until the node has made it."""
    environment: tuple[str, ...] = ()
    """Names of the variables that were set for it; the values are in environment.json."""
    commit: str = ""
    """Git commit of the directory that was sent; empty if none was."""
    uncommitted: bool = False
    """The directory differed from that commit; the difference is in uncommitted.patch."""
    pushed: tuple[str, ...] = ()
    """Names of the single files that were sent."""
    log: str = ""
    """File or folder, relative to `cwd`, whose losses are its metrics; empty: its output, or a file that it writes."""


SessionKind = Literal["tmux", "screen", "process", "slurm"]
"""What holds the session of a run; each kind has a `SessionBackend` in the agent."""


class Run(Record, frozen=True, kw_only=True):
    """run.json: who started what, where, and how. Written once by the launcher, on each node of the run."""

    run_id: str
    """Id of the run."""
    name: str
    """Name of its configuration."""
    node: str
    """The user's name for the machine."""
    session: str
    """Name of the tmux or screen session."""
    multiplexer: SessionKind
    """Kind of session."""
    argv: tuple[str, ...]
    """Command that the supervisor starts."""
    config_hash: str
    """`content_hash` of the configuration."""
    giblet_version: str
    """Version that launched it."""
    launched_by: str
    """User and host that launched it."""
    launched_at: float
    """Time of the launch."""
    gpus: tuple[str, ...] = ()
    """GPUs of the run on this node."""
    nodes: tuple[str, ...] = ()
    """All nodes of the run, in order; the first holds the records."""
    node_rank: int = 0
    """Position of this node among them."""
    rendezvous: Rendezvous | None = None
    """How several nodes find each other."""
    note: str = ""
    """Free text."""
    resumed_from: str | None = None
    """Id of the run that this one continues."""
    grace_s: float = 120.0
    """Seconds between a stop request and a forced end."""
    hostname: str = ""
    """The machine's own name; two nodes may share one working directory."""
    machine_id: str = ""
    """Hash of the machine's id; empty if it has none."""
    watcher_argv: tuple[str, ...] = ()
    """Program that the supervisor runs next to the trainer, and ends last."""
    promotion: Promotion | None = None
    """Why it may be on its stage."""
    adopted: Adoption | None = None
    """Session that it was adopted from."""
    command: Command | None = None
    """Program of the user's that it runs; None for giblet's own trainer."""
    sbatch: tuple[str, ...] = ()
    """Options of its Slurm job, `partition=gpu`."""
    awaits: GpuWait | None = None
    """GPUs that it waits for before training."""
    sweep: SweepCell | None = None
    """The sweep that it belongs to."""
    awaits_slot: SlotWait | None = None
    """Place among the runs of its sweep that it waits for, on a node without GPUs."""
    lab: str = ""
    """Unix group that may read it."""
    schema: int = SCHEMA
    """Version of the run directory."""

    @property
    def foreign(self) -> str:
        """Return why it has no configuration, and no checkpoints that giblet can read; empty for giblet's trainer."""
        if self.adopted is not None:
            return "it was adopted"
        return "it is a command of your own" if self.command is not None else ""


class Heartbeat(Record, frozen=True, kw_only=True):
    """heartbeat.json: last sign of life of the training loop, replaced atomically by the loop, not by a thread."""

    state: TrainerState
    """What the trainer does."""
    step: int
    """Steps taken."""
    epoch: int
    """Current epoch, from 1."""
    phase: str
    """Detail for people."""
    at: float
    """Time of the heartbeat."""
    pid: int
    """Process id of rank 0."""
    boot_id: str
    """Identity of the boot."""
    start_ticks: int
    """Start time of the process in clock ticks since boot."""
    last_checkpoint: str | None = None
    """Name of the newest intact checkpoint."""
    last_checkpoint_step: int | None = None
    """Steps taken at that checkpoint."""
    step_s: Number = None
    """Seconds per step."""
    why: str = ""
    """Reason for the state, such as an error."""


class SupervisorRecord(Record, frozen=True, kw_only=True):
    """supervisor.json: the parent process of everything in the run."""

    run_id: str
    """Id of the run."""
    pid: int
    """Process id of the supervisor."""
    start_ticks: int
    """Start time in clock ticks since boot."""
    boot_id: str
    """Identity of the boot."""
    started_at: float
    """Time of the start."""
    argv: tuple[str, ...] = ()
    """Command of the trainer."""
    waiting_for: str = ""
    """What it waits for before it starts the trainer."""
    gpus: tuple[str, ...] = ()
    """GPUs that it waited for and now uses."""
    has_slot: bool = False
    """It waited for a place among the runs of its sweep, and has it now."""
    code: int | None = None
    """Exit code of the trainer, once it has ended by itself."""
    signal: int | None = None
    """Signal that ended the trainer."""


class Exit(Record, frozen=True, kw_only=True):
    """exit.json: how the process tree of a run ended. Written by the supervisor after the last process is gone."""

    run_id: str
    """Id of the run."""
    ended_at: float
    """Time of the end."""
    code: int | None = None
    """Exit code of the trainer."""
    signal: int | None = None
    """Signal that ended it."""
    killed: tuple[int, ...] = ()
    """Processes that had to be killed."""
    survivors: tuple[int, ...] = ()
    """Processes that could not be ended."""
    stop_requested: bool = False
    """A stop was requested."""
    by_itself: bool = False
    """The trainer ended or failed before its supervisor was asked to end it (a stop file alone asks the trainer)."""
    oom_kills: int = 0
    """Processes that the kernel killed because memory was full."""


class NodeFailure(Record, frozen=True, kw_only=True):
    """cause.json: where a run over several nodes failed first, and why. The same on every node that was informed."""

    node: str
    """Node of the first failure."""
    sentence: str
    """What failed."""
    at: float
    """Time of the failure."""
    rank: int | None = None
    """Rank of the process in the whole run; None if the node itself was lost."""
    echo: bool = False
    """The sentence only reports a lost peer."""

    @property
    def whole(self) -> str:
        """Return the sentence with node and rank."""
        return f"{self.node}{f', rank {self.rank}' if self.rank is not None else ''}: {self.sentence}"


class CheckpointRecord(Record, frozen=True, kw_only=True):
    """checkpoints/<name>.json: written last, so its presence means that the weights next to it are complete."""

    file: str
    """Name of the weights file."""
    step: int
    """Steps taken."""
    epoch: int
    """Epoch of the last of them."""
    at: float
    """Time of the save."""
    sha256: str
    """Checksum of the weights."""
    bytes: int
    """Size of the weights."""
    config_hash: str
    """`content_hash` of the configuration."""
    store_key: str
    """Key of the data store."""
    validation_total: Number = None
    """Validation loss at that step."""
    roles: tuple[str, ...] = ()
    """Roles such as `last` and `best`."""
    refit_trs: int | None = None
    """Training and validation TRs on which the initialisation of these weights was fitted again when the run ended."""


class Metric(Record, frozen=True, kw_only=True, tag_field="kind"):
    """A line of metrics.jsonl."""

    seq: int
    """Number of the line, from 0."""
    step: int
    """Optimizer step that the line is about."""
    epoch: int
    """Epoch, from 1."""
    at: float
    """Time of the line."""


class RunMetric(Metric, frozen=True, kw_only=True, tag="run"):
    """Plan of the run as the engine executes it, written before the first step and again after a resume."""

    steps_per_epoch: int
    """Optimizer steps per epoch."""
    total_steps: int
    """Optimizer steps of the whole run."""
    warmup_steps: int
    """Optimizer steps of the warm-up."""
    start_total: float
    """Total of the best constant prediction: the total if every component were 1.0."""
    first_loss: dict[str, Number] = {}
    """Each component measured over all training TRs before step 0."""
    world_size: int = 1
    """Number of ranks."""
    threads: int = 1
    """CPU threads per rank."""
    device: str = "cpu"
    """cpu or cuda."""
    n_parameters: int = 0
    """Number of trained parameters."""
    heads: Literal["replicated", "sharded"] = "replicated"
    """Subjects' heads are on every rank, or each on one rank."""
    scored_trs_per_step: int = 0
    """TRs that a step scores."""
    fir_trs: int = 0
    """TRs of the causal FIR kernel; 0 in records of older versions."""
    context_trs: int = 0
    """TRs at the beginning of a window that are not scored."""
    torch_version: str = ""
    """Version of torch."""
    resumed_from_step: int | None = None
    """Step at which this start of the run resumed; None for a fresh start."""


class ModalityFacts(Record, frozen=True, kw_only=True):
    """Input of one component before and after normalisation, over training TRs."""

    n_targets: int
    """Number of targets."""
    raw_mean: Number
    """Mean of the raw values (of codes: of their shares)."""
    raw_sd: Number
    """Standard deviation of the raw values."""
    raw_min: Number
    """Smallest raw value."""
    raw_max: Number
    """Largest raw value."""
    mean: Number
    """Mean after normalisation."""
    sd: Number
    """Standard deviation after normalisation."""
    train_variance: Number
    """Divisor of the loss: the training variance, or the cross-entropy of the best constant in nats for codes."""
    expected_first_loss: Number = 1.0
    """Loss of the best constant."""
    constant_targets: int = 0
    """Targets that never change (codes that never occur in training)."""
    looks_categorical: bool = False
    """Targets look like category numbers."""
    codes: int | None = None
    """Categories per book, if targets are shares of categories under a cross-entropy."""


class LagFact(Record, frozen=True, kw_only=True):
    """Lag at which brain and film fit best."""

    lag_trs: int
    """Lag in TRs, positive when the brain follows the film."""
    sds: Number
    """Height above circular shifts, in their standard deviations."""
    answers: bool
    """The lag is significant."""


class AgreementFact(Record, frozen=True, kw_only=True):
    """Shift at which a subject agrees best with the mean of the others."""

    shift_trs: int
    """Shift in TRs after the others, over all circular shifts."""
    sds: Number
    """Agreement above all shifts, in standard deviations."""
    in_step_sds: Number
    """The same without a shift."""


class AlignmentFacts(Record, frozen=True, kw_only=True):
    """Film against the mean brain over the training TRs."""

    whole: LagFact
    """Best lag over all training TRs."""
    thirds: tuple[LagFact, ...]
    """Best lag in each third."""
    reach_trs: int
    """Largest lag that was tried, in both directions."""
    speed: Number = 1.0
    """Playback speed with the best fit; 1 is the normal speed."""
    speed_sds: Number = None
    """Height of that fit."""
    speed_lags_trs: tuple[float, ...] = ()
    """Lags of that fit in the middle of each third."""
    reading: str = ""
    """Other order in which the film fits, such as "backwards", where it does not fit as it is."""
    reading_sds: Number = None
    """Height of that fit."""
    responsive_part: Number = None
    """Fraction of voxels in which subjects agree more than by chance."""
    shared: Number = None
    """Shared variance of two halves of the subjects, in the leading series of the mean brain."""
    least_part: Number = None
    """Fraction of the shared variance that a film must explain to be detected 39 times in 40."""
    foreseen_sds: Number = None
    """How much better all features predict held-out TRs than other times; None if not measured."""
    subjects: dict[str, AgreementFact] = {}
    """Each subject against the others."""
    runs: dict[str, LagFact] = {}
    """Lag within each run that is long enough to be measured; empty for a study of one run."""


class DataMetric(Metric, frozen=True, kw_only=True, tag="data"):
    """What the engine was given: sizes, scales and the split."""

    store_key: str
    """Key of the data store."""
    subjects: tuple[str, ...]
    """Subjects in order."""
    n_voxels: int
    """Voxels per subject."""
    tr_s: float
    """Repetition time."""
    n_trs: int
    """TRs of the study."""
    train_trs: int
    """TRs for training."""
    validation_trs: int
    """TRs of the validation block."""
    test_trs: int
    """TRs of the test block."""
    stimulus_offset_s: float
    """Film time of the first volume."""
    shared_trs: int = 0
    """TRs that are held out and trained on: must be 0."""
    components: dict[str, ModalityFacts]
    """Component -> its input."""
    alignment: AlignmentFacts | None = None
    """Film against brain; None where it was not measured."""


class StepTimes(Record, frozen=True, kw_only=True):
    """Seconds of a step by activity."""

    data_s: float = 0.0
    """Waiting for data."""
    forward_s: float = 0.0
    """Forward pass."""
    backward_s: float = 0.0
    """Backward pass."""
    communication_s: float = 0.0
    """Exchange of gradients between ranks, including waiting for them."""
    optimizer_s: float = 0.0
    """Update of the weights."""


class StepMetric(Metric, frozen=True, kw_only=True, tag="step"):
    """One optimizer step."""

    lr: float
    """Learning rate that this step used."""
    total: Number
    """Weighted total."""
    loss: dict[str, Number]
    """Component -> loss divided by its training variance."""
    weight: dict[str, Number]
    """Component -> weight in the total."""
    share: dict[str, Number]
    """Component -> share of the total."""
    gradient_share: dict[str, Number] | None = None
    """Component -> share of the gradient, where it was measured."""
    gradient_norm: Number = None
    """Gradient norm before clipping."""
    clipped: bool = False
    """The gradient was clipped."""
    step_s: Number = None
    """Seconds of the step."""
    times: StepTimes = StepTimes()
    """Seconds by activity."""
    rss_gib: Number = None
    """Memory of the process."""
    gpu_gib: Number = None
    """GPU memory of the process."""
    slowest_rank: int | None = None
    """Rank that the others waited for."""


class SplitLoss(Record, frozen=True, kw_only=True):
    """Losses over a whole part of the split (training or validation). 1.0 is the best constant."""

    total: Number
    """Weighted total."""
    loss: dict[str, Number]
    """Component -> loss."""
    skill: dict[str, Number] = {}
    """Component -> 1 - MSE / MSE of the training mean."""


class EpochMetric(Metric, frozen=True, kw_only=True, tag="epoch"):
    """End of an epoch."""

    lr: float
    """Learning rate of its last step."""
    train: SplitLoss
    """Mean over its steps."""
    validation: SplitLoss | None = None
    """Losses on the validation block."""
    fmri_r: Number = None
    """Correlation with fMRI over responsive voxels of the validation block."""
    best: bool = False
    """Best validation so far."""
    seconds: Number = None
    """Seconds of its steps."""


class ValuesMetric(Metric, frozen=True, kw_only=True, tag="values"):
    """Named numbers of a command's log that are no losses, at one epoch, or at one step of a log without epochs."""

    values: dict[str, Number] = {}
    """Name as printed, without its split -> number of the training, or of no split."""
    validation: dict[str, Number] = {}
    """The same of the validation."""


class EventMetric(Metric, frozen=True, kw_only=True, tag="event"):
    """Something that happened once: a checkpoint, a warning, a fallback, a stop request, an error."""

    name: str
    """Kind of event."""
    level: Literal["info", "warning", "error"]
    """Level of the event."""
    sentence: str
    """Description for people."""
    facts: dict[str, Any] = {}
    """Details."""


class EvaluationMetric(Metric, frozen=True, kw_only=True, tag="evaluation"):
    """Held-out results of the selected checkpoint on the test block of one fold, or of all folds."""

    folds: tuple[int, ...]
    """Folds that were evaluated."""
    encoding: dict[str, Any]
    """Figures of fMRI prediction."""
    decoding: dict[str, Any]
    """Figures of reconstruction by modality: from `predicted` and from `measured` brains; from measured brains by the
    ridge from which decoders start (`linear`) and by ridge on voxels (`ridge`)."""
    baselines: dict[str, Any] = {}
    """The same figures of baselines."""
    skill: dict[str, Number] = {}
    """Component -> 1 - MSE / MSE of the training mean."""


class BrainMap(Record, frozen=True, kw_only=True):
    """A map of the brain, coarse enough to travel with every validation."""

    title: str
    """What the values are."""
    low: float
    """Value of the byte 2."""
    high: float
    """Value of the byte 255."""
    names: tuple[str, ...] = ()
    """Names of categories, of which the byte 2 is the first; empty for a map of values."""
    voxels: str = ""
    """One byte per voxel of the grid in C order, zlib, base64: 0 outside the brain, 1 without a value."""


class BrainRecord(Record, frozen=True, kw_only=True):
    """brain.json: maps for the terminal, replaced at each validation and once more after the evaluation."""

    step: int
    """Optimizer step of the maps of r."""
    at: float
    """Seconds since 1970."""
    held_out: bool
    """True: r on the test block, False: r on the validation block in responsive voxels."""
    shape: tuple[int, int, int]
    """Voxels of the grid along right, anterior, superior."""
    origin_mm: tuple[float, float, float]
    """Centre of its first voxel."""
    step_mm: float
    """Edge length of its voxels."""
    maps: dict[str, BrainMap] = {}
    """Name of a map -> the map: r, ceiling, space, memory, region, and r of a subject as `r:sub-01`."""


class Alert(Record, frozen=True, kw_only=True):
    """alerts.jsonl: a condition that began or ended, as the watcher saw it."""

    seq: int
    """Number of the alert, from 0."""
    at: float
    """Time of the alert."""
    step: int
    """Last step at that time."""
    name: str
    """Name of the cause."""
    level: Literal["info", "warning", "error"]
    """Level of the alert."""
    state: Literal["raised", "cleared"]
    """Whether the condition began or ended."""
    sentence: str
    """Description for people."""
    action: str = ""
    """What to do."""
    evidence: dict[str, Any] = {}
    """Numbers that show it."""


class AlertResponse(Record, frozen=True, kw_only=True):
    """answers.jsonl: a person's response to an alert, written by the agent on the node."""

    at: float
    """Time of the response."""
    alert: int
    """Number of the raised alert."""
    name: str
    """Name of the cause."""
    until: Number = None
    """End of the snooze; None: acknowledged, and silent until the alert is raised again."""
    by: str = ""
    """Who responded."""


AnyMetric = RunMetric | DataMetric | StepMetric | EpochMetric | ValuesMetric | EventMetric | EvaluationMetric

_metric_decoder = msgspec.json.Decoder(AnyMetric)


def encode(record: Record) -> bytes:
    """Return one compact JSON object without a newline; numbers that are not finite become null."""
    return msgspec.json.encode(_finite(msgspec.to_builtins(record)))


def decode(data: bytes | str, kind: type[R]) -> R:
    """Return the record in a small file. Raises DataError if it is not one, or was written by a newer giblet."""
    try:
        value = msgspec.json.decode(data)
        if isinstance(value, dict) and isinstance(value.get("schema"), int) and value["schema"] > SCHEMA:
            raise DataError(
                f"This run directory has schema {value['schema']}; this giblet reads up to {SCHEMA}.",
                "Install the giblet version that run.json names.",
            )
        return msgspec.convert(value, kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"Not a {kind.__name__} record: {error}.") from None


def decode_metrics(lines: Iterable[bytes]) -> tuple[list[AnyMetric], int]:
    """Return the metrics in complete lines, and the number of malformed lines. Unknown kinds are skipped."""
    metrics: list[AnyMetric] = []
    n_malformed = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            metrics.append(_metric_decoder.decode(line))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as error:
            n_malformed += "Invalid value" not in str(error) or "$.kind" not in str(error)
    return metrics, n_malformed


def decode_lines(lines: Iterable[bytes], kind: type[R]) -> list[R]:
    """Return the records in complete lines of a file with one kind of record; malformed lines are skipped."""
    records: list[R] = []
    for line in lines:
        try:
            records.append(msgspec.json.decode(line, type=kind))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError):
            continue
    return records


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value
