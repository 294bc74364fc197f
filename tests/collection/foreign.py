"""A second collection with other dynamics than the first: power laws, two speeds, saddles, correlated noise, bursts.

Nothing of the first generator's curves is used, so that rules tuned on one are tested by the other. Losses have AR(1)
noise, step times have heavy tails, and validation is several percent noisy. Even seeds tune, odd ones test.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from giblet_train.schema.config import COMPONENTS, Config
from giblet_train.schema.config_loader import from_mapping
from giblet_train.schema.records import (
    AnyMetric,
    DataMetric,
    EpochMetric,
    EventMetric,
    ModalityFacts,
    RunMetric,
    SplitLoss,
    StepMetric,
    StepTimes,
)
from giblet_train.schema.schedule import LrSchedule, lr_at, lr_schedule

Course = Callable[[float], float]
"""Epochs passed -> loss relative to the best constant."""


@dataclass
class Study:
    """What a run is drawn from; a family changes some of it."""

    rng: random.Random
    config: Config
    steps_per_epoch: int
    train: Course
    validation: Course
    noise: float
    """Standard deviation of a step's total, relative."""
    memory: float
    """Correlation of the noise of successive steps."""
    validation_noise: float
    learning: dict[str, float]
    """Component -> its share of the decrease."""
    initial: float = 1.0
    """What the initialisation leaves of the best constant's loss."""
    world_size: int = 1
    step_s: float = 0.3
    epochs: int | None = None
    """Epochs that are recorded; all if None."""
    rate: Callable[[int], float] | None = None
    r: Callable[[int], float] | None = None
    first_loss: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COMPONENTS, 1.0))
    scale: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COMPONENTS, 1.0))
    facts: dict[str, dict[str, Any]] = field(default_factory=lambda: {c: {} for c in COMPONENTS})
    gradient: Callable[[int], float | None] = lambda step: 0.5
    pulls: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COMPONENTS, 1.0))
    times: Callable[[int], tuple[StepTimes, int | None]] | None = None
    step_total: Callable[[int, float], float | None] = lambda step, total: total
    skill_of: Callable[[int], dict[str, float]] | None = None
    early_stop: bool = False

    @property
    def plan(self) -> LrSchedule:
        return lr_schedule(self.config, self.steps_per_epoch)

    @property
    def n_epochs(self) -> int:
        return min(self.epochs or self.config.num_epochs, self.config.num_epochs)


def power(floor: float, onset: float, exponent: float) -> Course:
    """Return a power law that starts at 1 and falls towards a floor."""
    return lambda e: floor + (1 - floor) * (1 + e / onset) ** -exponent


def two_speeds(floor: float, fast: float, slow: float, part: float) -> Course:
    """Return a sum of two exponentials: a part falls fast, the rest slowly."""
    return lambda e: floor + (1 - floor) * (part * math.exp(-e / fast) + (1 - part) * math.exp(-e / slow))


def saddle(low: float, middle: float, quick: float, at: float, width: float) -> Course:
    """Return a fall to a saddle, and a second fall to the floor around epoch `at`."""

    def course(e: float) -> float:
        first = middle + (1 - middle) * math.exp(-e / quick)
        return low + (first - low) / (1 + math.exp((e - at) / width))

    return course


def study(seed: int, epochs: int | None = None, **settings: Any) -> Study:
    """Return a healthy study: a power law or two speeds, validation a little above training."""
    rng = random.Random(f"foreign-{seed}")
    n = epochs or rng.choice([16, 24, 40, 60, 100])
    mapping: dict[str, Any] = {
        "name": f"foreign{seed}",
        "num_epochs": n,
        "learning_rate": 10 ** rng.uniform(-4.3, -2.3),
        "warmup_epochs": min(rng.choice([0, 0.5, 1, 2]), n / 2),
        "scheduler_type": rng.choice(["cosine", "cosine", "none"]),
        "early_stopping_patience": None,
    }
    for key, value in settings.items():
        section, _, name = key.rpartition("__")
        (mapping.setdefault(section, {}) if section else mapping)[name] = value
    floor = rng.uniform(0.15, 0.6)
    if rng.random() < 0.5:
        train = power(floor, n * rng.uniform(0.02, 0.15), rng.uniform(0.5, 1.6))
    else:
        train = two_speeds(floor, n * rng.uniform(0.02, 0.06), n * rng.uniform(0.2, 0.5), rng.uniform(0.3, 0.7))
    gap = rng.uniform(0.0, 0.12)
    parts = [rng.uniform(0.5, 1.5) for _ in COMPONENTS]
    return Study(
        rng=rng,
        config=from_mapping(mapping).config,
        steps_per_epoch=rng.choice([20, 30, 45, 80]),
        train=train,
        validation=lambda e: train(e) + gap * (1 - train(e)),
        noise=rng.uniform(0.01, 0.08),
        memory=rng.choice([0.0, 0.3, 0.7]),
        validation_noise=rng.uniform(0.002, 0.012),
        learning={c: 4 * p / sum(parts) * 1.0 for c, p in zip(COMPONENTS, parts, strict=True)},
        step_s=10 ** rng.uniform(-1.3, 0.8),
    )


def records(s: Study) -> list[AnyMetric]:
    """Return the records of a study."""
    metrics: list[AnyMetric] = []
    clock = 1_800_000_000.0

    def add(kind: type[Any], step: int, **fields: Any) -> Any:
        epoch = min(step // s.steps_per_epoch + 1, s.config.num_epochs)
        record = kind(**{"seq": len(metrics), "step": step, "epoch": epoch, "at": clock, **fields})
        metrics.append(record)
        return record

    plan, weights = s.plan, s.config.component_weights()
    add(
        RunMetric, 0, steps_per_epoch=plan.steps_per_epoch, total_steps=plan.total_steps,
        warmup_steps=plan.warmup_steps, start_total=sum(weights.values()),
        first_loss={c: s.first_loss[c] * s.scale[c] for c in COMPONENTS}, world_size=s.world_size,
    )  # fmt: skip
    base = {"n_targets": 64, "raw_mean": 0.0, "raw_sd": 1.0, "raw_min": -4.0, "raw_max": 4.0, "mean": 0.0, "sd": 1.0,
            "train_variance": 1.0}  # fmt: skip
    add(
        DataMetric, 0, store_key="f" * 12, subjects=("1", "2"), n_voxels=900, tr_s=2.0, n_trs=600, train_trs=380,
        validation_trs=60, test_trs=100, stimulus_offset_s=0.0,
        components={c: ModalityFacts(**{**base, **s.facts[c]}) for c in COMPONENTS},
    )  # fmt: skip
    deviation, steps = 0.0, list[StepMetric]()
    for step in range(s.n_epochs * s.steps_per_epoch):
        deviation = s.memory * deviation + math.sqrt(1 - s.memory**2) * s.rng.gauss(0, s.noise)
        record = add(StepMetric, step, **_step(s, step, deviation, weights))
        clock += record.step_s or 0.0
        steps.append(record)
        if (step + 1) % s.steps_per_epoch == 0:
            epoch = (step + 1) // s.steps_per_epoch
            clock += 2 * s.step_s
            add(EpochMetric, step, **_epoch(s, epoch, steps, weights))
            steps = []
    if s.early_stop:
        add(EventMetric, s.n_epochs * s.steps_per_epoch, epoch=s.n_epochs, name="early_stop", level="warning",
            sentence="Early stopping.")  # fmt: skip
    return metrics


def _part(s: Study, component: str, level: float) -> float:
    """Return a component's loss where the mean of all is at a level."""
    return s.scale[component] * s.initial * max(0.02, 1 - s.learning[component] * (1 - level))


def _step(s: Study, step: int, deviation: float, weights: dict[str, float]) -> dict[str, Any]:
    level = s.train(step / s.steps_per_epoch)
    loss: dict[str, float | None] = {
        c: _part(s, c, level) * (1 + deviation + s.rng.gauss(0, s.noise / 3)) for c in COMPONENTS
    }
    weighted = {c: weights[c] * (v or 0.0) for c, v in loss.items()}
    plain = sum(weighted.values())
    total = s.step_total(step, plain)
    if total is None:
        loss["audio"] = None
    else:
        loss = {c: (v or 0.0) * total / plain for c, v in loss.items()}
        weighted = {c: w * total / plain for c, w in weighted.items()}
    pulls = {c: s.pulls[c] * weighted[c] for c in COMPONENTS}
    times, slowest = s.times(step) if s.times else _healthy_times(s)
    norm = s.gradient(step)
    return {
        "lr": (s.rate or (lambda n: lr_at(n, s.plan)))(step),
        "total": total,
        "loss": loss,
        "weight": dict(weights),
        "share": {c: v / sum(weighted.values()) for c, v in weighted.items()},
        "gradient_share": {c: p / sum(pulls.values()) for c, p in pulls.items()}
        if step >= s.plan.warmup_steps
        else None,
        "gradient_norm": None if norm is None else norm * s.rng.lognormvariate(0, 0.2),
        "clipped": norm is not None and norm > (s.config.gradient_clip_val or math.inf),
        "step_s": sum(getattr(times, f) for f in times.__struct_fields__),
        "times": times,
        "slowest_rank": slowest,
    }


def _healthy_times(s: Study) -> tuple[StepTimes, int | None]:
    """Return heavy-tailed times: lognormal, with a pause now and then."""
    t = s.step_s * s.rng.lognormvariate(0, 0.5) * (s.rng.uniform(5, 30) if s.rng.random() < 0.01 else 1.0)
    comm = 0.15 * t if s.world_size > 1 else 0.0
    slowest = s.rng.randrange(s.world_size) if s.world_size > 1 else None
    times = StepTimes(data_s=0.08 * t, forward_s=0.3 * t, backward_s=0.4 * t, communication_s=comm, optimizer_s=0.1 * t)
    return times, slowest


def _epoch(s: Study, epoch: int, steps: list[StepMetric], weights: dict[str, float]) -> dict[str, Any]:
    def mean(values: list[float | None]) -> float | None:
        finite = [v for v in values if v is not None]
        return sum(finite) / len(finite) if len(finite) == len(values) else None

    level = s.validation(float(epoch)) * (1 + s.rng.gauss(0, s.validation_noise))
    validation = {c: _part(s, c, level) for c in COMPONENTS}
    broken = steps[-1].total is None
    skill = s.skill_of(epoch) if s.skill_of else {c: 1 - validation[c] / s.scale[c] for c in COMPONENTS}
    r = s.r(epoch) if s.r else max(0.0, 0.4 * skill["fmri"]) + s.rng.gauss(0, 0.008)
    return {
        "epoch": epoch,
        "lr": steps[-1].lr,
        "train": SplitLoss(
            total=mean([t.total for t in steps]), loss={c: mean([t.loss[c] for t in steps]) for c in COMPONENTS}
        ),
        "validation": SplitLoss(
            total=None if broken else sum(weights[c] * v for c, v in validation.items()),
            loss=dict(validation),
            skill=dict(skill),
        ),
        "fmri_r": r,
        "seconds": sum(t.step_s or 0.0 for t in steps),
    }
