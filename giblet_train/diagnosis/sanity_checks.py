"""Sanity check before step 0: can training work with these data, first losses, schedule and machine? Pure.

`failures` are sentences on which the trainer stops or warns (`on_sanity_fail`). `report_lines` describe everything that
was checked. Shapes and scales are those of the training TRs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from giblet_train.diagnosis.alignment.film import alignment_line, misalignment
from giblet_train.diagnosis.alignment.subjects import agreement_line, find_outlier_subjects
from giblet_train.schema.config import Config
from giblet_train.schema.disk_usage import GIB, RECORD_BYTES, checkpoints_at_most
from giblet_train.schema.health import duration
from giblet_train.schema.records import DataMetric, ModalityFacts, Number
from giblet_train.schema.schedule import LrSchedule, lr_at

START_TOLERANCE = 0.1
SD_TOLERANCE = 0.1
MANY_CONSTANT = 0.5
LEAST_FALL = 0.001
"""Smallest relative decrease when training on one batch repeatedly: a model that learns decreases by far more."""


class OverfitResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of training on one batch repeatedly."""

    first: float
    """Total before the first step."""
    last: float
    """Total after the last step."""
    steps: int
    """Number of steps."""
    seconds: float
    """Seconds per step, without the first."""

    @property
    def fall(self) -> float:
        """Return the relative decrease; NaN if a loss was not finite."""
        return 1.0 - self.last / self.first if self.first else math.nan


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Memory and disk that the run needs and that the node has, in GiB. None where it cannot be measured."""

    own_gib: Number
    """Memory of this process after a step."""
    ram_free_gib: Number
    """Free memory of the node."""
    ram_total_gib: Number
    """Memory of the node."""
    checkpoint_bytes: int
    """Size of a checkpoint."""
    disk_free_gib: float
    """Free disk space."""
    gpu_gib: Number = None
    """Largest GPU memory of a step; None on a CPU."""
    gpu_total_gib: Number = None
    """Memory of the GPU."""


class SanityInputs(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known before step 0."""

    config: Config
    """Configuration of the run."""
    plan: LrSchedule
    """Planned learning rates."""
    data: DataMetric
    """Sizes, scales and split."""
    first: Mapping[str, Number]
    """Component -> loss over all training TRs."""
    machine: Machine
    """Memory and disk."""
    one_batch: OverfitResult | None = None
    """Result of overfitting one batch; None if not tried."""

    @property
    def disk_gib(self) -> float:
        """Return the disk space of all checkpoints (and one more while it is written) and records at the end."""
        n_checkpoints = checkpoints_at_most(self.config)
        return (n_checkpoints * self.machine.checkpoint_bytes + RECORD_BYTES * self.plan.total_steps) / GIB


def failures(inputs: SanityInputs) -> list[str]:
    """Return a sentence for each failed check; empty if the run may start."""
    return [
        *check_split(inputs.data.shared_trs),
        *check_data(inputs.data.components),
        *_of_alignment(inputs.data),
        *check_initial_loss(inputs.config, inputs.first, inputs.data.components),
        *_of_plan(inputs.plan),
        *_of_one_batch(inputs.one_batch),
        *_of_machine(inputs),
    ]


def report_lines(inputs: SanityInputs) -> list[str]:
    """Return one line per check: components, alignment, first total, learning rate, machine, one batch."""
    components = [_component(c, fact, inputs.first.get(c)) for c, fact in inputs.data.components.items()]
    return [
        *components,
        *_alignment(inputs.data),
        *_start(inputs),
        rate_plan(inputs.plan),
        *_machine(inputs),
        *_one_batch(inputs),
    ]


def check_split(n_shared_trs: int) -> list[str]:
    """Check that no TR is both trained on and held out. n_shared_trs: number of TRs that are both."""
    if not n_shared_trs:
        return []
    return [f"{n_shared_trs} TRs are both trained on and held out: validation would use training data."]


def check_data(facts: Mapping[str, ModalityFacts]) -> list[str]:
    """Return what is wrong with the components after normalisation."""
    sentences: list[str] = []
    for component, fact in facts.items():
        if fact.looks_categorical:
            sentences.append(
                f"The targets of {component} look like categorical codes ({_number(fact.raw_min)} to "
                f"{_number(fact.raw_max)}); a squared error between codes means nothing."
            )
        if fact.sd is None or fact.mean is None:
            sentences.append(f"{component} holds numbers that are not finite.")
        elif fact.codes is not None:  # shares have no scale of their own, and most codes may be rare
            continue
        elif abs(fact.sd - 1.0) > SD_TOLERANCE and component != "fmri":
            sentences.append(f"{component} has standard deviation {fact.sd:.3g} after normalisation instead of 1.")
        if fact.n_targets and fact.constant_targets > MANY_CONSTANT * fact.n_targets:
            sentences.append(f"{component}: {fact.constant_targets} of {fact.n_targets} targets never change.")
    return sentences


def check_initial_loss(config: Config, first: Mapping[str, Number], facts: Mapping[str, ModalityFacts]) -> list[str]:
    """Check that every loss before step 0 is 1, the loss of the mean; with another losses.scale, that it is finite."""
    if config.losses.scale != "variance":
        return [f"{c} starts at {v}." for c, v in first.items() if v is None or not math.isfinite(v)]
    off = {c: v for c, v in first.items() if v is None or not abs(v - 1.0) <= START_TOLERANCE}
    shares = first_shares(config, first)
    return [
        f"Every component should start at 1.0, the best constant; {c} starts at {_number(v)}"
        + (f": {c} is {shares[c]:.2%} of the first total" if shares.get(c) else "")
        + ("" if v is not None and math.isfinite(v) else ": it is not finite")
        + (", and its targets look like categorical codes." if c in facts and facts[c].looks_categorical else ".")
        for c, v in off.items()
    ]


def first_shares(config: Config, first: Mapping[str, Number]) -> dict[str, float]:
    """Return each component's share of the first weighted total; empty if that is not finite."""
    weights = config.component_weights([c for c in first if c != "fmri"])
    weighted = {c: weights.get(c, 0.0) * v for c, v in first.items() if v is not None and math.isfinite(v)}
    total = sum(weighted.values())
    return {c: w / total for c, w in weighted.items()} if total > 0 and len(weighted) == len(first) else {}


def rate_plan(plan: LrSchedule) -> str:
    """Describe the learning rate from the first step to the last."""
    last = lr_at(plan.total_steps - 1, plan)
    warm = (
        f"{lr_at(0, plan):.2e} → {plan.learning_rate:.2e} at step {plan.warmup_steps}, then "
        if plan.warmup_steps
        else ""
    )
    rest = {"cosine": "a cosine", "step": f"× {plan.step_decay_factor:g} every {plan.step_decay_steps} steps"}
    course = rest.get(plan.scheduler_type, "constant")
    return f"rate: {warm}{course} to {last:.2e} at step {plan.total_steps - 1}"


def _of_plan(plan: LrSchedule) -> list[str]:
    if plan.warmup_steps < plan.total_steps:
        return []
    return [
        f"The warm-up takes {plan.warmup_steps} steps and the run has {plan.total_steps}: the base rate is never "
        "reached; shorten warmup_steps."
    ]


def _component(name: str, fact: ModalityFacts, first: Number) -> str:
    loss = f"; first loss {_number(first)}, expected {_number(fact.expected_first_loss)}" if first is not None else ""
    if fact.codes is not None:
        books = f"{fact.n_targets // fact.codes} book(s) of {fact.codes} codes, {fact.constant_targets} never occur"
        return f"{name}: {books}; the best constant costs {_number(fact.train_variance)} nats per code{loss}"
    raw = f"raw {_number(fact.raw_mean)} ± {_number(fact.raw_sd)} [{_number(fact.raw_min)}, {_number(fact.raw_max)}]"
    constant = f", {fact.constant_targets} constant" if fact.constant_targets else ""
    codes = ", LOOKS CATEGORICAL" if fact.looks_categorical else ""
    return f"{name}: {fact.n_targets} targets{constant}{codes}, {raw} → {_number(fact.mean)} ± {_number(fact.sd)}{loss}"


def _of_alignment(data: DataMetric) -> list[str]:
    """Return misalignments that stop a run; `_alignment` reports the milder ones."""
    if data.alignment is None:
        return []
    wrong = misalignment(data.alignment, data.tr_s, data.stimulus_offset_s)
    film = [f"{wrong.sentence} {wrong.action}"] if wrong and wrong.stops else []
    return film + [
        f"{a.sentence} {a.action}"
        for a in find_outlier_subjects(data.alignment.subjects, data.tr_s)
        if a.kind == "shifted"
    ]


def _alignment(data: DataMetric) -> list[str]:
    if data.alignment is None:
        return []
    wrong = misalignment(data.alignment, data.tr_s, data.stimulus_offset_s)
    line = alignment_line(data.alignment, data.tr_s)
    film = f"{line}. {wrong.sentence} {wrong.action}" if wrong and not wrong.stops else line
    if not data.alignment.subjects:
        return [film]
    alone = [a for a in find_outlier_subjects(data.alignment.subjects, data.tr_s) if a.kind == "alone"]
    return [film, ". ".join([agreement_line(data.alignment.subjects), *(f"{a.sentence} {a.action}" for a in alone)])]


def _start(inputs: SanityInputs) -> list[str]:
    shares = first_shares(inputs.config, inputs.first)
    return [f"first total: {', '.join(f'{c} {share:.0%}' for c, share in shares.items())}"] if shares else []


def _machine(inputs: SanityInputs) -> list[str]:
    machine = inputs.machine
    lines = []
    if machine.own_gib is not None:
        free = (
            f", {machine.ram_free_gib:.1f} of {machine.ram_total_gib:.1f} GiB are free"
            if machine.ram_free_gib and machine.ram_total_gib
            else ""
        )
        lines.append(
            f"memory: {machine.own_gib:.2f} GiB per process after a step, "
            f"× {inputs.config.distributed.world_size}{free}"
        )
    if machine.gpu_gib is not None and machine.gpu_total_gib is not None:
        lines.append(f"GPU memory: {machine.gpu_gib:.2f} of {machine.gpu_total_gib:.1f} GiB at most in a step")
    size = f"{machine.checkpoint_bytes / 1e6:,.0f} MB per checkpoint"
    lines.append(
        f"disk: {inputs.disk_gib:.2f} GiB for the whole run ({size}), {machine.disk_free_gib:.1f} GiB are free"
    )
    return lines


def _one_batch(inputs: SanityInputs) -> list[str]:
    result = inputs.one_batch
    if result is None:
        return []
    total = duration(result.seconds * inputs.plan.total_steps)
    return [
        f"one batch, {result.steps} times: {result.first:.4g} → {result.last:.4g}; {result.seconds:.2g} s per step, "
        f"{total} for all steps"
    ]


def _of_one_batch(result: OverfitResult | None) -> list[str]:
    if result is None or result.fall >= LEAST_FALL:
        return []
    return [
        f"Not even one batch is learnt: after {result.steps} steps on it at the base rate, its loss went from "
        f"{result.first:.6g} to {result.last:.6g}."
    ]


def _of_machine(inputs: SanityInputs) -> list[str]:
    free, need_gib = inputs.machine.disk_free_gib, inputs.disk_gib
    return [f"The whole run needs {need_gib:.2f} GiB of disk; {free:.2f} GiB are free."] if need_gib > free else []


def _number(value: Number) -> str:
    if value is None or not math.isfinite(value):
        return "?"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) >= 5e-3 else "0"
