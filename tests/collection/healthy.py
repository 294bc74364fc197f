"""A healthy run, simulated record by record: its noise, warm-up, decay and validation when nothing is wrong.

Losses fall from 1.0 towards a floor that their noise sets; steps are noisy, epochs average them; validation follows
with a floor of its own and rises a little at the end, as it does on honest data.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from giblet_train.schema.config import COMPONENTS, Config
from giblet_train.schema.config_loader import from_mapping
from giblet_train.schema.records import (
    AnyMetric,
    DataMetric,
    EpochMetric,
    ModalityFacts,
    RunMetric,
    SplitLoss,
    StepMetric,
    StepTimes,
)
from giblet_train.schema.schedule import LrSchedule, lr_at, lr_schedule

START = 1_700_000_000.0


@dataclass
class Curves:
    """What one run's numbers are drawn from. A fault changes some of them."""

    config: Config
    steps_per_epoch: int
    rng: random.Random
    floor: dict[str, float]
    held_out_floor: dict[str, float]
    rate_per_epoch: dict[str, float]
    noise: float
    validation_noise: float
    overfit_per_epoch: float
    gradient_norm: float
    step_s: float
    world_size: int = 1
    scale: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COMPONENTS, 1.0))
    facts: dict[str, dict[str, Any]] = field(default_factory=lambda: {c: {} for c in COMPONENTS})

    @property
    def plan(self) -> LrSchedule:
        return lr_schedule(self.config, self.steps_per_epoch)


def draw(seed: int, **changes: Any) -> Curves:
    """Return the curves of a healthy run. changes: configuration keys of the run, with `__` for the dot."""
    rng = random.Random(seed)
    epochs = rng.choice([10, 12, 20, 30, 50, 80, 120])
    mapping: dict[str, Any] = {
        "name": f"run{seed}",
        "num_epochs": epochs,
        "learning_rate": 10 ** rng.uniform(-4, -2.5),
        "warmup_epochs": rng.choice([0.5, 1, 2, 3]),
        "scheduler_type": rng.choice(["cosine", "cosine", "cosine", "none", "step"]),
        "early_stopping_patience": None,
        "criteria": {"drop": {"kind": "loss_drop", "threshold": 0.1}},
    }
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        if section:
            mapping.setdefault(section, {})[name] = value
        else:
            mapping[key] = value
    floor = {"fmri": rng.uniform(0.7, 0.95), **{m: rng.uniform(0.2, 0.75) for m in COMPONENTS[1:]}}
    return Curves(
        config=from_mapping(mapping).config,
        steps_per_epoch=rng.choice([20, 20, 25, 40, 60]),
        rng=rng,
        floor=floor,
        held_out_floor={c: min(0.985, f + rng.uniform(0.01, 0.12)) for c, f in floor.items()},
        rate_per_epoch={c: rng.uniform(2.5, 8) / epochs for c in COMPONENTS},
        noise=rng.uniform(0.01, 0.06),
        validation_noise=rng.uniform(0.001, 0.006),
        overfit_per_epoch=rng.uniform(0, 0.02) / epochs,
        gradient_norm=rng.uniform(0.2, 0.9),
        step_s=10 ** rng.uniform(-1.5, 0.7),
    )


@dataclass
class Tape:
    """The records of a run as they come, one after another."""

    curves: Curves
    metrics: list[AnyMetric] = field(default_factory=list)
    at: float = START

    def add(self, kind: type[Any], step: int, **fields: Any) -> Any:
        """Append one record at optimizer step `step`."""
        epoch = min(step // self.curves.steps_per_epoch + 1, self.curves.config.num_epochs)
        record = kind(**{"seq": len(self.metrics), "step": step, "epoch": epoch, "at": self.at, **fields})
        self.metrics.append(record)
        return record


def open_run(curves: Curves) -> Tape:
    """Write the records before the first step."""
    tape, plan = Tape(curves), curves.plan
    weights = curves.config.component_weights()
    tape.add(
        RunMetric,
        0,
        steps_per_epoch=plan.steps_per_epoch,
        total_steps=plan.total_steps,
        warmup_steps=plan.warmup_steps,
        start_total=sum(weights.values()),
        first_loss={c: curves.scale[c] * curves.rng.gauss(1.0, 0.003) for c in COMPONENTS},
        world_size=curves.world_size,
        device="cuda",
        n_parameters=curves.rng.randrange(10**5, 10**7),
    )
    base = {"n_targets": 100, "raw_mean": 0.3, "raw_sd": 0.2, "raw_min": 0.0, "raw_max": 1.0, "mean": 0.0, "sd": 1.0,
            "train_variance": 1.0}  # fmt: skip
    raw_bold = {"raw_mean": curves.rng.uniform(800, 9000), "raw_sd": curves.rng.uniform(20, 200), "raw_max": 12000.0}
    facts = {c: {**base, **(raw_bold if c == "fmri" else {}), **curves.facts[c]} for c in COMPONENTS}
    tape.add(
        DataMetric,
        0,
        store_key="0" * 12,
        subjects=("sub-01", "sub-02", "sub-03"),
        n_voxels=1200,
        tr_s=1.5,
        n_trs=400,
        train_trs=220,
        validation_trs=40,
        test_trs=70,
        stimulus_offset_s=0.0,
        components={c: ModalityFacts(**f) for c, f in facts.items()},
    )
    return tape


def mean_loss(curves: Curves, component: str, epochs: float, *, held_out: bool = False) -> float:
    """Return the expected loss of a component after some epochs' worth of learning."""
    floor = (curves.held_out_floor if held_out else curves.floor)[component]
    value = floor + (1 - floor) * math.exp(-curves.rate_per_epoch[component] * epochs)
    rise = curves.overfit_per_epoch * epochs if held_out else 0.0
    return curves.scale[component] * (value + rise)


def one_step(tape: Tape, step: int, progress: float, **fields: Any) -> StepMetric:
    """Return a step record. learnt: epochs of learning so far; fields: values that differ from a healthy step's."""
    curves, plan, rng = tape.curves, tape.curves.plan, tape.curves.rng
    shared_noise = rng.gauss(0, curves.noise)
    loss = {c: mean_loss(curves, c, progress) * (1 + shared_noise + rng.gauss(0, curves.noise / 2)) for c in COMPONENTS}
    loss = fields.pop("loss", loss)
    weight = curves.config.component_weights()
    weighted = {c: weight[c] * (loss[c] or 0.0) for c in COMPONENTS}
    total = sum(weighted.values())
    share = {c: w / total if total else 0.0 for c, w in weighted.items()}
    warm = step >= plan.warmup_steps and step % curves.config.balance.every_steps == 0
    pulls = {c: (weighted[c] + 1e-12) * rng.uniform(0.5, 1.5) for c in COMPONENTS}
    norm = curves.gradient_norm * math.exp(rng.gauss(0, 0.35)) * (1.5 - 0.5 * min(1.0, progress / 3))
    clip = curves.config.gradient_clip_val
    seconds = curves.step_s * math.exp(rng.gauss(0, 0.08))
    tape.at += seconds
    healthy = {
        "lr": lr_at(step, plan),
        "total": None if None in loss.values() else total,
        "loss": loss,
        "weight": weight,
        "share": share,
        "gradient_share": {c: p / sum(pulls.values()) for c, p in pulls.items()} if warm else None,
        "gradient_norm": norm,
        "clipped": clip is not None and norm > clip,
        "step_s": seconds,
        "times": StepTimes(
            data_s=0.03 * seconds, forward_s=0.35 * seconds, backward_s=0.45 * seconds, optimizer_s=0.1 * seconds
        ),
        "rss_gib": 1.0 + rng.gauss(0, 0.005),
    }
    record: StepMetric = tape.add(StepMetric, step, **{**healthy, **fields})
    return record


def end_epoch(tape: Tape, epoch: int, progress: float, **fields: Any) -> EpochMetric:
    """Write the record of the epoch whose steps were just written."""
    curves, rng = tape.curves, tape.curves.rng
    steps = [m for m in tape.metrics if isinstance(m, StepMetric)][-curves.steps_per_epoch :]
    weights = curves.config.component_weights()
    train = {c: _mean([s.loss[c] for s in steps]) for c in COMPONENTS}
    validation_loss = {
        c: mean_loss(curves, c, progress, held_out=True) * (1 + rng.gauss(0, curves.validation_noise))
        for c in COMPONENTS
    }
    healthy = {
        "lr": steps[-1].lr,
        "train": SplitLoss(total=_weighted(train, weights), loss=train),
        "validation": SplitLoss(
            total=_weighted(validation_loss, weights),
            loss=dict(validation_loss),
            skill={c: 1 - v / curves.scale[c] for c, v in validation_loss.items()},
        ),
        "fmri_r": math.sqrt(max(0.0, 1 - validation_loss["fmri"] / curves.scale["fmri"])) * rng.uniform(0.7, 1.0),
        "seconds": sum(s.step_s or 0.0 for s in steps),
    }
    tape.at += curves.step_s * 2
    step = epoch * curves.steps_per_epoch - 1
    record: EpochMetric = tape.add(EpochMetric, step, **{"epoch": epoch, **healthy, **fields})
    return record


def healthy_run(curves: Curves, epochs: int | None = None) -> list[AnyMetric]:
    """Return all records of the first `epochs` epochs of a run in which nothing is wrong."""
    tape, n = open_run(curves), curves.steps_per_epoch
    for epoch in range(1, (epochs or curves.config.num_epochs) + 1):
        for step in range((epoch - 1) * n, epoch * n):
            one_step(tape, step, step / n)
        end_epoch(tape, epoch, float(epoch))
    return tape.metrics


def _mean(values: list[float | None]) -> float | None:
    numbers = [v for v in values if v is not None]
    return sum(numbers) / len(numbers) if len(numbers) == len(values) else None


def _weighted(loss: Mapping[str, float | None], weights: dict[str, float]) -> float | None:
    finite = {c: v for c, v in loss.items() if v is not None}
    return sum(weights[c] * v for c, v in finite.items()) if len(finite) == len(loss) else None
