"""What the files of a run directory hold: one frozen record per fact, and how a line of metrics is read and written.

Writers are strict; readers are lenient: unknown fields and kinds are skipped, a higher schema is refused in words.
A number that is not finite is `null`. Times (`at`) are seconds since 1970 on the node's clock, `_s` are durations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, TypeVar

import msgspec

from giblet_train.schema.errors import DataError

SCHEMA = 1

TrainerState = Literal["loading", "training", "validating", "saving", "finished", "stopped", "failed"]
Number = float | None
R = TypeVar("R")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Any fact of a run. Subclasses say which file holds it."""


class Promotion(Record, frozen=True, kw_only=True):
    """Why a run may be on its stage: the run below it, that run's verdict, and what of it was accepted, and why.

    accepted: criterion that was not met -> what was seen of it. hours: GPU-hours (on a CPU: of a process) foretold,
    the lower and the upper bound.
    """

    from_run: str
    from_stage: str
    verdict: str
    accepted: dict[str, str] = {}
    why: str = ""
    hours: tuple[float, float] | None = None


class Rendezvous(Record, frozen=True, kw_only=True):
    """How the nodes of one run meet: at the first node's address and port, with a key that only this run has.

    n_processes: on each node.
    """

    address: str
    port: int
    key: str
    n_processes: int = 1


class GpuWait(Record, frozen=True, kw_only=True):
    """GPUs that a run waits for on its node: how many, which may be among them, how often is looked."""

    n_gpus: int
    among: tuple[str, ...]
    every_s: float = 15.0


class Adoption(Record, frozen=True, kw_only=True):
    """The session that a run was taken in from, which somebody started by hand.

    mark: the environment variable that its processes have; log: the file whose lines are its metrics.
    """

    address: str
    mark: str
    at: float
    by: str
    log: str | None = None


class Run(Record, frozen=True, kw_only=True):
    """run.json: who started what, where, and how. Written once by the launcher, on each node of the run.

    node: what the laptop calls the machine; hostname: what it calls itself (two may share one working directory).
    nodes: all of the run, in order; node_rank: this one's place among them. The first holds the records.
    watcher_argv: a program that the supervisor runs beside the trainer, and ends last.
    """

    run_id: str
    name: str
    node: str
    session: str
    multiplexer: Literal["tmux", "screen", "process"]
    argv: tuple[str, ...]
    config_hash: str
    giblet_version: str
    launched_by: str
    launched_at: float
    gpus: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    node_rank: int = 0
    rendezvous: Rendezvous | None = None
    note: str = ""
    resumed_from: str | None = None
    grace_s: float = 120.0
    hostname: str = ""
    watcher_argv: tuple[str, ...] = ()
    promotion: Promotion | None = None
    adopted: Adoption | None = None
    awaits: GpuWait | None = None
    schema: int = SCHEMA


class Heartbeat(Record, frozen=True, kw_only=True):
    """heartbeat.json: the training loop was here. Replaced atomically from the loop itself, never from a thread."""

    state: TrainerState
    step: int
    epoch: int
    phase: str
    at: float
    pid: int
    boot_id: str
    start_ticks: int
    last_checkpoint: str | None = None
    last_checkpoint_step: int | None = None
    step_s: Number = None
    why: str = ""


class SupervisorRecord(Record, frozen=True, kw_only=True):
    """supervisor.json: the process that is the parent of everything in the run.

    waiting_for: what it waits for before it starts the trainer; gpus: those that it waited for and has now.
    """

    run_id: str
    pid: int
    start_ticks: int
    boot_id: str
    started_at: float
    argv: tuple[str, ...] = ()
    waiting_for: str = ""
    gpus: tuple[str, ...] = ()


class Exit(Record, frozen=True, kw_only=True):
    """exit.json: how the run's process tree ended, written by the supervisor after the last of it is gone.

    by_itself: the trainer had ended, or one of its processes had failed, before anything told its supervisor to end it;
    a stop file alone tells the trainer.
    """

    run_id: str
    ended_at: float
    code: int | None = None
    signal: int | None = None
    killed: tuple[int, ...] = ()
    survivors: tuple[int, ...] = ()
    stop_requested: bool = False
    by_itself: bool = False
    oom_kills: int = 0


class NodeFailure(Record, frozen=True, kw_only=True):
    """cause.json: where a run over several nodes failed first, and of what; the same on every node that heard of it.

    rank: the process among all of the run; None when the node itself was lost. echo: it only tells of a lost peer.
    """

    node: str
    sentence: str
    at: float
    rank: int | None = None
    echo: bool = False

    @property
    def whole(self) -> str:
        """The sentence with its place."""
        return f"{self.node}{f', rank {self.rank}' if self.rank is not None else ''}: {self.sentence}"


class CheckpointRecord(Record, frozen=True, kw_only=True):
    """checkpoints/<name>.json: written last, so its presence means that the weights beside it are whole.

    step counts the steps taken; epoch is that of the last of them.
    """

    file: str
    step: int
    epoch: int
    at: float
    sha256: str
    bytes: int
    config_hash: str
    store_key: str
    validation_total: Number = None
    roles: tuple[str, ...] = ()


class Metric(Record, frozen=True, kw_only=True, tag_field="kind"):
    """A line of metrics.jsonl. seq counts lines from 0; step is the optimizer step it speaks of, epoch is from 1."""

    seq: int
    step: int
    epoch: int
    at: float


class RunMetric(Metric, frozen=True, kw_only=True, tag="run"):
    """The plan as the engine carries it out, written before the first step (again after a resume).

    start_total is the total if every component were 1.0, the best constant; first_loss is each component as measured
    over all training TRs before step 0. heads: of the subjects, on every rank or each on one of them.
    """

    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    start_total: float
    first_loss: dict[str, Number] = {}
    world_size: int = 1
    threads: int = 1
    device: str = "cpu"
    n_parameters: int = 0
    heads: Literal["replicated", "sharded"] = "replicated"
    scored_trs_per_step: int = 0
    torch_version: str = ""
    resumed_from_step: int | None = None


class ModalityFacts(Record, frozen=True, kw_only=True):
    """One component's input before and after normalisation, over training TRs.

    codes: in a book, where targets are the shares of categories under a cross-entropy. Raw values, mean and sd are then
    the shares'; train_variance is what the loss is divided by, the best constant's cross-entropy in nats; and constant
    targets are codes that training never shows.
    """

    n_targets: int
    raw_mean: Number
    raw_sd: Number
    raw_min: Number
    raw_max: Number
    mean: Number
    sd: Number
    train_variance: Number
    expected_first_loss: Number = 1.0
    constant_targets: int = 0
    looks_categorical: bool = False
    codes: int | None = None


class LagFact(Record, frozen=True, kw_only=True):
    """The lag at which brain and film fit best, positive when the brain follows; answers: it stands out of chance.

    sds: by how many standard deviations of what circular shifts give.
    """

    lag_trs: int
    sds: Number
    answers: bool


class AgreementFact(Record, frozen=True, kw_only=True):
    """Where a subject agrees best with the mean of the others, shift_trs after them, over all circular shifts.

    sds: by how many standard deviations of what the shifts give; in_step_sds: the same where it is not shifted.
    """

    shift_trs: int
    sds: Number
    in_step_sds: Number


class AlignmentFacts(Record, frozen=True, kw_only=True):
    """Film against the mean brain over the training TRs, within ±reach_trs: all of them, and each third.

    speed: how fast film rows must be read for the best fit of all, 1 being their own pace; speed_sds: of that fit;
    speed_lags_trs: the lags that it comes to in the middle of each third. reading: how else the film was read, where it
    gave no answer as it is ("backwards"); reading_sds: of that fit. responsive_part: of the voxels, in which subjects
    agree more than chance; shared: of the variance of the mean brain's leading series there, what halves of the
    subjects share; least_part: how much of what they share a film would have to explain to be answered 39 times in 40;
    foreseen_sds: by how much all features foresee held-out TRs better than at other times, where the film gives no
    answer; None for one subject. subjects: each one against the others.
    """

    whole: LagFact
    thirds: tuple[LagFact, ...]
    reach_trs: int
    speed: Number = 1.0
    speed_sds: Number = None
    speed_lags_trs: tuple[float, ...] = ()
    reading: str = ""
    reading_sds: Number = None
    responsive_part: Number = None
    shared: Number = None
    least_part: Number = None
    foreseen_sds: Number = None
    subjects: dict[str, AgreementFact] = {}


class DataMetric(Metric, frozen=True, kw_only=True, tag="data"):
    """What the engine was given: sizes, scales, the split. shared_trs: held out, and trained on all the same.

    alignment: None where it was not measured, as in older runs.
    """

    store_key: str
    subjects: tuple[str, ...]
    n_voxels: int
    tr_s: float
    n_trs: int
    train_trs: int
    validation_trs: int
    test_trs: int
    stimulus_offset_s: float
    shared_trs: int = 0
    components: dict[str, ModalityFacts]
    alignment: AlignmentFacts | None = None


class StepTimes(Record, frozen=True, kw_only=True):
    """Where a step's seconds went."""

    data_s: float = 0.0
    forward_s: float = 0.0
    backward_s: float = 0.0
    communication_s: float = 0.0
    optimizer_s: float = 0.0


class StepMetric(Metric, frozen=True, kw_only=True, tag="step"):
    """One optimizer step. lr is the rate that this step used; loss is each component divided by its train variance."""

    lr: float
    total: Number
    loss: dict[str, Number]
    weight: dict[str, Number]
    share: dict[str, Number]
    gradient_share: dict[str, Number] | None = None
    gradient_norm: Number = None
    clipped: bool = False
    step_s: Number = None
    times: StepTimes = StepTimes()
    rss_gib: Number = None
    gpu_gib: Number = None
    slowest_rank: int | None = None


class SplitLoss(Record, frozen=True, kw_only=True):
    """Losses over a whole part (train or validation) of the split: 1.0 is the best constant."""

    total: Number
    loss: dict[str, Number]
    skill: dict[str, Number] = {}


class EpochMetric(Metric, frozen=True, kw_only=True, tag="epoch"):
    """The end of an epoch. train averages its steps; validation is the inner block, with r over responsive voxels."""

    lr: float
    train: SplitLoss
    validation: SplitLoss | None = None
    fmri_r: Number = None
    best: bool = False
    seconds: Number = None


class EventMetric(Metric, frozen=True, kw_only=True, tag="event"):
    """Something that happened once: a checkpoint, a warning, a fallback, a stop request, a named failure."""

    name: str
    level: Literal["info", "warning", "error"]
    sentence: str
    facts: dict[str, Any] = {}


class EvaluationMetric(Metric, frozen=True, kw_only=True, tag="evaluation"):
    """Held-out figures of the checkpoint that was chosen, over the test block of one fold (or all)."""

    folds: tuple[int, ...]
    encoding: dict[str, Any]
    decoding: dict[str, Any]
    baselines: dict[str, Any] = {}
    skill: dict[str, Number] = {}


class Alert(Record, frozen=True, kw_only=True):
    """alerts.jsonl: a condition that began or ended, as the watcher beside the run saw it."""

    seq: int
    at: float
    step: int
    name: str
    level: Literal["info", "warning", "error"]
    state: Literal["raised", "cleared"]
    sentence: str
    action: str = ""
    evidence: dict[str, Any] = {}


class AlertResponse(Record, frozen=True, kw_only=True):
    """answers.jsonl: what a person said to an alert, through the agent on the node.

    alert: the number of the alert that was raised. until: snoozed till then, whatever of that name is raised meanwhile;
    None: acknowledged, silent until the same is raised anew.
    """

    at: float
    alert: int
    name: str
    until: Number = None
    by: str = ""


AnyMetric = RunMetric | DataMetric | StepMetric | EpochMetric | EventMetric | EvaluationMetric

_metric_decoder = msgspec.json.Decoder(AnyMetric)


def encode(record: Record) -> bytes:
    """One compact JSON object without a newline; what is not finite becomes null."""
    return msgspec.json.encode(_finite(msgspec.to_builtins(record)))


def decode(data: bytes | str, kind: type[R]) -> R:
    """A record of one of the small files. Raises DataError when it is not one, or is from a newer giblet."""
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
    """The metrics in complete lines, in order, and how many lines were malformed. Unknown kinds are skipped."""
    metrics: list[AnyMetric] = []
    malformed = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            metrics.append(_metric_decoder.decode(line))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as error:
            malformed += "Invalid value" not in str(error) or "$.kind" not in str(error)
    return metrics, malformed


def decode_lines(lines: Iterable[bytes], kind: type[R]) -> list[R]:
    """The records in complete lines of a file that holds one kind; malformed lines are skipped."""
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
