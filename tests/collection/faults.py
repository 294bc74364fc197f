"""Each fault as it shows in a run's records: a healthy run altered from a known step on.

A fault returns the records and the step at which it began. Its name is the cause that a diagnosis should name first;
`lr_off_plan` also carries the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from giblet_train.schema.config import COMPONENTS
from giblet_train.schema.health import Health
from giblet_train.schema.records import AnyMetric, EventMetric, RunMetric, SplitLoss, StepMetric, StepTimes
from giblet_train.schema.schedule import lr_at
from tests.collection.healthy import Curves, Tape, draw, end_epoch, healthy_run, mean_loss, one_step, open_run


@dataclass(frozen=True)
class Failing:
    """A failing run's records, and what else is known of it. onset: the step from which the fault could be seen."""

    curves: Curves
    metrics: list[AnyMetric]
    onset: int
    reason: str = ""
    health: Health | None = None
    log_tail: tuple[str, ...] = ()


Rate = Callable[[int], float]
StepFields = Callable[[int, Tape], dict[str, Any]]
EpochFields = Callable[[int, Tape], dict[str, Any]]


def play(
    curves: Curves,
    *,
    step_fields: StepFields = lambda step, tape: {},
    epoch_fields: EpochFields = lambda epoch, tape: {},
    progress: Callable[[float], float] = lambda epochs: epochs,
    epochs: int | None = None,
) -> Tape:
    """Play a run with some of its records altered. learnt: epochs gone by -> epochs' worth of learning."""
    tape, n = open_run(curves), curves.steps_per_epoch
    for epoch in range(1, min(epochs or 30, curves.config.num_epochs) + 1):
        for step in range((epoch - 1) * n, epoch * n):
            one_step(tape, step, progress(step / n), **step_fields(step, tape))
        end_epoch(tape, epoch, progress(float(epoch)), **epoch_fields(epoch, tape))
    return tape


def _wrong_rate(curves: Curves, rate: Rate, reason: str) -> Failing:
    """Return a run that uses another rate than planned, and learns in proportion to it."""
    base = curves.config.learning_rate
    speed = [rate(s) / base for s in range(curves.plan.total_steps)]
    total = [0.0]
    for value in speed:
        total.append(total[-1] + value / curves.steps_per_epoch)
    tape = play(
        curves,
        step_fields=lambda step, tape: {"lr": rate(step)},
        progress=lambda epochs: total[min(len(total) - 1, int(epochs * curves.steps_per_epoch))],
    )
    plan = curves.plan
    onset = next(
        s for s in range(plan.total_steps) if abs(rate(s) - lr_at(s, plan)) > 0.02 * max(lr_at(s, plan), 1e-12)
    )
    return Failing(curves, tape.metrics, onset, reason)


def stepped_per_epoch(seed: int) -> Failing:
    curves = draw(seed)
    return _wrong_rate(curves, lambda s: lr_at(s // curves.steps_per_epoch, curves.plan), "stepped_per_epoch")


def wrong_world_size(seed: int) -> Failing:
    """Use a schedule for another number of ranks, which runs too fast or too slowly by that factor."""
    curves = draw(seed, distributed__world_size=[2, 4, 6, 8][seed // 2 % 4], warmup_epochs=2)
    ranks = curves.config.distributed.world_size
    curves.world_size = ranks
    slow = curves.rng.random() < 0.5
    return _wrong_rate(curves, lambda s: lr_at(s // ranks if slow else s * ranks, curves.plan), "wrong_world_size")


def resumed_without_state(seed: int) -> Failing:
    """Start the schedule again at step 0 after a resume."""
    curves = draw(seed, warmup_epochs=2)
    n = curves.steps_per_epoch
    resume_step = n * curves.rng.randint(4, 8)
    tape = open_run(curves)
    for epoch in range(1, min(curves.config.num_epochs, resume_step // n + 8) + 1):
        for step in range((epoch - 1) * n, epoch * n):
            if step == resume_step:
                first = next(m for m in tape.metrics if isinstance(m, RunMetric))
                same = {
                    f: getattr(first, f) for f in first.__struct_fields__ if f not in ("seq", "step", "epoch", "at")
                }
                tape.add(RunMetric, step, **{**same, "resumed_from_step": step})
            rate = lr_at(step - resume_step if step >= resume_step else step, curves.plan)
            one_step(tape, step, step / n, lr=rate)
        end_epoch(tape, epoch, float(epoch))
    return Failing(curves, tape.metrics, resume_step, "resumed_without_state")


def never_reaches_peak(seed: int) -> Failing:
    curves = draw(seed)
    ceiling = curves.rng.uniform(0.2, 0.7) * curves.config.learning_rate
    return _wrong_rate(curves, lambda s: min(ceiling, lr_at(s, curves.plan)), "never_reaches_peak")


def component_dominates(seed: int) -> Failing:
    component = COMPONENTS[seed // 2 % 4]
    heavy = 10 ** (1.7 + (seed % 7) / 5)
    weights = (
        {"fmri_weight": heavy} if component == "fmri" else {f"{component}_weight": heavy * 40, "fmri_weight": 0.02}
    )
    curves = draw(seed, **weights)
    others = [c for c in COMPONENTS if c != component]
    for other in others:  # what gets no gradient does not learn
        curves.rate_per_epoch[other] /= 50
    return Failing(curves, play(curves).metrics, curves.plan.warmup_steps)


def scale_mismatch(seed: int) -> Failing:
    """Simulate raw scanner units against z-scored other terms, with no division by the variance."""
    curves = draw(seed, losses__scale="none", data__normalize_fmri=False)
    sd = curves.rng.uniform(30, 2000)
    curves.scale["fmri"] = sd**2
    curves.facts["fmri"] = {"mean": curves.rng.uniform(500, 9000), "sd": sd, "train_variance": sd**2,
                            "expected_first_loss": sd**2}  # fmt: skip
    for other in COMPONENTS[1:]:
        curves.rate_per_epoch[other] /= 50
    return Failing(curves, play(curves).metrics, 0)


def categorical_targets(seed: int) -> Failing:
    """Simulate integer codes regressed with a squared error."""
    curves = draw(seed, losses__scale="none")
    sd = curves.rng.uniform(280, 380)
    curves.scale["audio"] = sd**2
    curves.facts["audio"] = {"raw_mean": 511.0, "raw_sd": sd, "raw_max": 1023.0, "mean": 511.0, "sd": sd,
                             "train_variance": sd**2, "expected_first_loss": sd**2,
                             "looks_categorical": True}  # fmt: skip
    for other in ("fmri", "video", "text"):
        curves.rate_per_epoch[other] /= 50
    curves.rate_per_epoch["audio"] /= 20
    return Failing(curves, play(curves).metrics, 0)


def loss_not_unit_free(seed: int) -> Failing:
    """Simulate MSE over the standard deviation, which still has a unit: terms start at their sd, not at 1."""
    curves = draw(seed, losses__scale="std")
    for c in COMPONENTS:
        sd = 10 ** curves.rng.uniform(-0.6, 1.0)
        curves.scale[c] = sd
        curves.facts[c] = {"sd": sd, "train_variance": sd**2, "expected_first_loss": sd}
    curves.scale["text"] = curves.facts["text"]["sd"] = curves.rng.uniform(4, 8)
    curves.facts["text"] |= {"train_variance": curves.scale["text"] ** 2, "expected_first_loss": curves.scale["text"]}
    return Failing(curves, play(curves).metrics, 0)


def flat(seed: int) -> Failing:
    """Learn nothing from the first step on, although the rate follows its plan and gradients arrive."""
    curves = draw(seed)
    return Failing(curves, play(curves, progress=lambda e: 0.002 * e).metrics, 0)


def plateau(seed: int) -> Failing:
    """Learn, then stop far from where it could be while the rate is still high."""
    curves = draw(seed, num_epochs=[60, 80, 120][seed % 3], scheduler_type="none")
    curves.rate_per_epoch = dict.fromkeys(COMPONENTS, 0.15)
    stop = curves.rng.uniform(2.5, 5)
    tape = play(curves, progress=lambda e: min(e, stop), epochs=40)
    return Failing(curves, tape.metrics, math.ceil(stop * curves.steps_per_epoch))


def diverging(seed: int) -> Failing:
    curves = draw(seed)
    n = curves.steps_per_epoch
    onset = curves.rng.randint(3 * n, 6 * n)
    growth = curves.rng.uniform(0.02, 0.1)

    def blow_up(step: int, tape: Tape) -> dict[str, Any]:
        if step < onset:
            return {}
        factor = math.exp(min(20.0, growth * (step - onset)))
        loss = {c: mean_loss(curves, c, onset / n) * factor * curves.rng.uniform(0.95, 1.05) for c in COMPONENTS}
        return {"loss": loss, "gradient_norm": curves.gradient_norm * factor, "clipped": True}

    return Failing(curves, play(curves, step_fields=blow_up, epochs=onset // n + 6).metrics, onset)


def nan(seed: int) -> Failing:
    """Let a component become NaN from one step to the next."""
    curves = draw(seed)
    n = curves.steps_per_epoch
    onset = curves.rng.randint(n, 5 * n)
    component = curves.rng.choice(COMPONENTS)

    def break_it(step: int, tape: Tape) -> dict[str, Any]:
        if step < onset:
            return {}
        loss: dict[str, float | None] = {c: mean_loss(curves, c, step / n) for c in COMPONENTS}
        loss = dict.fromkeys(COMPONENTS) if step > onset + 1 else {**loss, component: None}
        return {"loss": loss, "gradient_norm": None}

    return Failing(curves, play(curves, step_fields=break_it, epochs=onset // n + 2).metrics, onset)


def overfit(seed: int) -> Failing:
    """Let validation rise far above its best while training continues to fall."""
    curves = draw(seed, num_epochs=[30, 50, 80][seed % 3])
    curves.floor = dict.fromkeys(COMPONENTS, 0.05)
    turn = curves.rng.randint(4, 8)
    slope = curves.rng.uniform(0.02, 0.06)
    weights = curves.config.component_weights()

    def rise(epoch: int, tape: Tape) -> dict[str, Any]:
        low = {c: mean_loss(curves, c, min(epoch, turn), held_out=True) for c in COMPONENTS}
        validation_loss = {
            c: v * (1 + slope * max(0, epoch - turn)) * (1 + curves.rng.gauss(0, 0.004)) for c, v in low.items()
        }
        total = sum(weights[c] * v for c, v in validation_loss.items())
        return {
            "validation": SplitLoss(
                total=total, loss=dict(validation_loss), skill={c: 1 - v for c, v in validation_loss.items()}
            )
        }

    tape = play(curves, epoch_fields=rise)
    return Failing(curves, tape.metrics, turn * curves.steps_per_epoch)


def leak(seed: int) -> Failing:
    """Validate on the training data: the loss equals training's, without the regularisation."""
    curves = draw(seed)
    weights = curves.config.component_weights()
    exact = seed // 2 % 2 == 0

    def copied(epoch: int, tape: Tape) -> dict[str, Any]:
        off = 0.0 if exact else 2e-4
        loss = {c: mean_loss(curves, c, epoch) * (1 + curves.rng.gauss(0, off)) for c in COMPONENTS}
        total = sum(weights[c] * v for c, v in loss.items())
        part = SplitLoss(total=total, loss=dict(loss), skill={c: 1 - v for c, v in loss.items()})
        same = (
            {"train": part}
            if exact
            else {"train": SplitLoss(total=total * (1 + curves.rng.gauss(0, off)), loss=dict(loss))}
        )
        return {"validation": part, **same, "fmri_r": curves.rng.uniform(0.6, 0.95)}

    return Failing(curves, play(curves, epoch_fields=copied).metrics, curves.steps_per_epoch)


def clipping_always(seed: int) -> Failing:
    """Clip every step by a factor of ten or more, so the limit sets the size of a step."""
    curves = draw(seed)
    curves.gradient_norm = curves.rng.uniform(10, 200)
    tape = play(curves, progress=lambda e: 0.3 * e)
    return Failing(curves, tape.metrics, 0)


def frozen_parameters(seed: int) -> Failing:
    """Let no gradient arrive: its norm is zero, and the losses keep their first value except for noise."""
    curves = draw(seed)
    tape = play(
        curves,
        step_fields=lambda s, t: {"gradient_norm": 0.0, "clipped": False, "gradient_share": None},
        progress=lambda e: 0.0,
    )
    return Failing(curves, tape.metrics, 0)


def no_better_than_mean(seed: int) -> Failing:
    """Let training fall, but no held-out skill ever rises above that of the training mean."""
    curves = draw(seed, num_epochs=[20, 30, 50][seed % 3])
    curves.held_out_floor = {c: 1 + curves.rng.uniform(0.005, 0.08) for c in COMPONENTS}
    curves.overfit_per_epoch = 0.0
    tape = play(curves, epoch_fields=lambda e, t: {"fmri_r": curves.rng.gauss(0, 0.01)})
    return Failing(curves, tape.metrics, curves.plan.warmup_steps)


def brain_unexplained(seed: int) -> Failing:
    """Learn the film but not the scans: fMRI is fitted a little, and never predicted on held-out data."""
    curves = draw(seed, num_epochs=[20, 30, 50][seed % 3])
    curves.floor["fmri"] = curves.rng.uniform(0.93, 0.99)
    curves.held_out_floor["fmri"] = 1 + curves.rng.uniform(0.002, 0.08)
    chance = curves.rng.gauss(0, 0.008)
    tape = play(curves, epoch_fields=lambda e, t: {"fmri_r": chance + curves.rng.gauss(0, 0.003)})
    return Failing(curves, tape.metrics, curves.plan.warmup_steps)


def loader_bound(seed: int) -> Failing:
    curves = draw(seed)

    def waits(step: int, tape: Tape) -> dict[str, Any]:
        s = curves.step_s * curves.rng.uniform(3, 6)
        rest = 0.2 * curves.step_s
        return {"step_s": s, "times": StepTimes(data_s=s - 3 * rest, forward_s=rest, backward_s=rest, optimizer_s=rest)}

    return Failing(curves, play(curves, step_fields=waits).metrics, 0)


def communication_bound(seed: int) -> Failing:
    curves = draw(seed, distributed__world_size=[2, 4, 6][seed % 3])
    curves.world_size = curves.config.distributed.world_size

    def waits(step: int, tape: Tape) -> dict[str, Any]:
        s = curves.step_s * curves.rng.uniform(4, 15)
        rest = 0.2 * curves.step_s
        times = StepTimes(communication_s=s - 3 * rest, forward_s=rest, backward_s=rest, optimizer_s=rest)
        return {"step_s": s, "times": times, "slowest_rank": curves.rng.randrange(curves.world_size)}

    return Failing(curves, play(curves, step_fields=waits).metrics, 0)


def straggler(seed: int) -> Failing:
    """Let all ranks wait for one: their time is communication, and the slowest rank is nearly always the same."""
    curves = draw(seed, distributed__world_size=[4, 6, 8][seed % 3])
    curves.world_size = curves.config.distributed.world_size
    slow = curves.rng.randrange(curves.world_size)

    def waits(step: int, tape: Tape) -> dict[str, Any]:
        s = curves.step_s * curves.rng.uniform(2, 3)
        rest = 0.25 * curves.step_s
        times = StepTimes(communication_s=s - 3 * rest, forward_s=rest, backward_s=rest, optimizer_s=rest)
        rank = slow if curves.rng.random() < 0.97 else curves.rng.randrange(curves.world_size)
        return {"step_s": s, "times": times, "slowest_rank": rank}

    return Failing(curves, play(curves, step_fields=waits).metrics, 0)


def criterion_unreachable(seed: int) -> Failing:
    """Require a decrease of 50 % of a loss that can decrease by a tenth."""
    drop = {"drop": {"kind": "loss_drop", "threshold": 0.5}}
    curves = draw(seed, num_epochs=[30, 50, 80][seed % 3], criteria=drop, reconstruction_weight=0.0)
    curves.floor = dict.fromkeys(COMPONENTS, curves.rng.uniform(0.85, 0.93))
    curves.held_out_floor = {c: f + 0.02 for c, f in curves.floor.items()}
    curves.rate_per_epoch = dict.fromkeys(COMPONENTS, 8 / curves.config.num_epochs)
    curves.overfit_per_epoch = 0.0
    tape = play(curves)
    return Failing(curves, tape.metrics, 3 * curves.steps_per_epoch)


def _cut(seed: int, **facts: Any) -> Failing:
    """Return a healthy beginning that is ended from outside."""
    curves = draw(seed)
    epochs = curves.rng.randint(2, 8)
    metrics = healthy_run(curves, min(epochs, curves.config.num_epochs - 1))
    return Failing(curves, metrics, metrics[-1].step, **facts)


def stalled(seed: int) -> Failing:
    health = Health(state="stalled", sentence="no step for 40m; at its own pace one was due within 2m 00s",
                    reason="no heartbeat")  # fmt: skip
    return _cut(seed, health=health)


def oom_host(seed: int) -> Failing:
    health = Health(state="died", sentence="killed by the node for want of memory", reason="oom")
    return _cut(seed, health=health)


def oom_gpu(seed: int) -> Failing:
    line = (
        f"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {seed % 17 + 1}.50 GiB. GPU 0 has a total"
        " capacity of 47.54 GiB of which 1.20 GiB is free."
    )
    log = ("Traceback (most recent call last):", '  File "trainer.py", line 90, in train_step', line)
    return _cut(seed, health=Health(state="failed", sentence="ended with code 1", reason="exit"), log_tail=log)


def disk_full(seed: int) -> Failing:
    failing = _cut(seed, health=Health(state="failed", sentence="ended with code 1", reason="exit"),
                   log_tail=("OSError: [Errno 28] No space left on device",))  # fmt: skip
    last = failing.metrics[-1]
    event = EventMetric(seq=last.seq + 1, step=last.step, epoch=last.epoch, at=last.at + 1, name="checkpoint_failed",
                        level="error", sentence="No space left on device: the checkpoint was not written.")  # fmt: skip
    failing.metrics.append(event)
    return failing


def crashed(seed: int) -> Failing:
    word = ["KeyError: 'sub-04'", "RuntimeError: shapes cannot be multiplied", "AssertionError"][seed % 3]
    log = ("Traceback (most recent call last):", '  File "dataset.py", line 12, in __getitem__', word)
    return _cut(seed, health=Health(state="failed", sentence="ended with code 1", reason="exit"), log_tail=log)


FAULTS: dict[str, tuple[str, Callable[[int], Failing]]] = {
    name: (cause, fault)
    for cause, faults in {
        "lr_off_plan": (stepped_per_epoch, wrong_world_size, resumed_without_state, never_reaches_peak),
        "component_dominates": (component_dominates,),
        "scale_mismatch": (scale_mismatch,),
        "categorical_targets": (categorical_targets,),
        "loss_not_unit_free": (loss_not_unit_free,),
        "flat": (flat,),
        "plateau": (plateau,),
        "diverging": (diverging,),
        "nan": (nan,),
        "overfit": (overfit,),
        "leak": (leak,),
        "clipping_always": (clipping_always,),
        "frozen_parameters": (frozen_parameters,),
        "no_better_than_mean": (no_better_than_mean,),
        "loader_bound": (loader_bound,),
        "communication_bound": (communication_bound,),
        "straggler": (straggler,),
        "criterion_unreachable": (criterion_unreachable,),
        "stalled": (stalled,),
        "oom_host": (oom_host,),
        "oom_gpu": (oom_gpu,),
        "disk_full": (disk_full,),
        "crashed": (crashed,),
        "brain_unexplained": (brain_unexplained,),
    }.items()
    for fault in faults
    for name in (fault.__name__,)
}
"""Name -> (the cause to be named first, the maker of a run that has it)."""


def steps_of(metrics: list[AnyMetric]) -> list[StepMetric]:
    """Return the step records."""
    return [m for m in metrics if isinstance(m, StepMetric)]
