"""Families of the second collection: healthy runs that look odd, and faults with other dynamics."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from giblet_train.schema.config import COMPONENTS
from giblet_train.schema.records import StepTimes
from giblet_train.schema.schedule import lr_at
from tests.collection.foreign import Study, power, saddle, study, two_speeds


@dataclass(frozen=True)
class Foreign:
    """One run of the second collection."""

    study: Study
    onset: int = 0
    """Step from which the fault can be seen."""
    reason: str = ""


Family = Callable[[int], Foreign]


def plain(seed: int) -> Foreign:
    return Foreign(study(seed))


def late_drop(seed: int) -> Foreign:
    """Learn, rest on a saddle for a third of the run, then fall again."""
    s = study(seed, epochs=60, scheduler_type="none")
    s.train = saddle(s.rng.uniform(0.2, 0.35), s.rng.uniform(0.6, 0.8), 3.0, s.rng.uniform(25, 40), 1.5)
    s.validation = lambda e: s.train(e) * 1.03
    return Foreign(s)


def double_descent(seed: int) -> Foreign:
    """Let validation rise by a tenth for a while, and fall below its first minimum later."""
    s = study(seed, epochs=80)
    bump, at = s.rng.uniform(0.05, 0.15), s.rng.uniform(20, 30)
    train = s.train
    s.validation = lambda e: 1.02 * train(e) + bump * math.exp(-(((e - at) / 7) ** 2))
    return Foreign(s)


def spikes(seed: int) -> Foreign:
    """Add spikes of 3 to 25 steps to several times the loss, each of which recovers."""
    s = study(seed)
    n, rng = s.plan.total_steps, s.rng
    starts = sorted(rng.sample(range(n // 4, n), 5))
    lengths = {start: (rng.randint(3, 25), rng.uniform(1.5, 5)) for start in starts}

    def spiked(step: int, total: float) -> float:
        for start, (length, height) in lengths.items():
            if start <= step < start + length:
                return total * (1 + (height - 1) * math.exp(-(step - start) / (length / 3)))
        return total

    s.step_total = spiked
    return Foreign(s)


def noisy_validation(seed: int) -> Foreign:
    s = study(seed)
    s.validation_noise = s.rng.uniform(0.02, 0.05)
    return Foreign(s)


def loud_block(seed: int) -> Foreign:
    """Hold out a block that is louder than training: its skill is below 0 for long, and rises."""
    s = study(seed, epochs=40)
    loud, train = s.rng.uniform(1.15, 1.4), s.train
    s.validation = lambda e: loud * (0.75 + 0.25 * train(e))
    return Foreign(s)


def ridge_start(seed: int) -> Foreign:
    s = study(seed)
    s.initial = s.rng.uniform(0.75, 0.9)
    s.train = power(s.rng.uniform(0.8, 0.93), s.config.num_epochs * 0.1, 1.0)
    s.validation = lambda e: s.train(e) * 1.02
    s.noise = min(s.noise, 0.03)
    return Foreign(s)


def stopped_early(seed: int) -> Foreign:
    s = study(seed, epochs=60, early_stopping_patience=8, scheduler_type="none")
    train = s.train = power(s.rng.uniform(0.2, 0.5), 1.5, 1.4)
    s.epochs, s.early_stop = s.rng.randint(25, 45), True
    turn = s.epochs - 8
    s.validation = lambda e: 1.03 * train(min(e, turn)) * (1 + 0.004 * max(0.0, e - turn))
    return Foreign(s)


def long_run(seed: int) -> Foreign:
    s = study(seed, epochs=500)
    s.steps_per_epoch = 20
    return Foreign(s)


def one_epoch(seed: int) -> Foreign:
    s = study(seed, epochs=1, warmup_epochs=0.2)
    s.steps_per_epoch = 300
    s.train = power(0.4, 0.1, 0.8)
    return Foreign(s)


def slightly_slow_rank(seed: int) -> Foreign:
    """Let one of two ranks be slowest in most steps by very little; a quarter of a step is communication."""
    s = study(seed, distributed__world_size=2)
    s.world_size = 2

    def times(step: int) -> tuple[StepTimes, int]:
        t = s.step_s * s.rng.lognormvariate(0, 0.1)
        parts = StepTimes(data_s=0.02 * t, forward_s=0.25 * t, backward_s=0.4 * t, communication_s=0.27 * t)
        return parts, int(s.rng.random() < 0.85)

    s.times = times
    return Foreign(s)


def diverging_slowly(seed: int) -> Foreign:
    s = study(seed)
    onset = s.rng.randint(4 * s.steps_per_epoch, 8 * s.steps_per_epoch)
    growth = s.rng.uniform(0.008, 0.03)
    s.step_total = lambda step, total: total * math.exp(min(12.0, growth * max(0, step - onset)))
    s.epochs = onset // s.steps_per_epoch + 12
    return Foreign(s, onset)


def growing_oscillation(seed: int) -> Foreign:
    s = study(seed)
    onset, period = 5 * s.steps_per_epoch, s.rng.uniform(25, 60)

    def oscillating(step: int, total: float) -> float:
        age = max(0, step - onset)
        return total * (1 + min(8.0, math.expm1(0.02 * age)) * (0.55 + 0.45 * math.sin(6.28 * age / period)))

    s.step_total, s.epochs = oscillating, 5 + 400 // s.steps_per_epoch + 2
    return Foreign(s, onset)


def overfit_noisily(seed: int) -> Foreign:
    s = study(seed, epochs=60)
    train = s.train = two_speeds(0.05, 4.0, 40.0, 0.5)
    turn, slope = s.rng.randint(6, 15), s.rng.uniform(0.008, 0.03)
    s.validation = lambda e: 1.05 * train(min(e, turn)) * (1 + slope * max(0.0, e - turn))
    s.validation_noise = s.rng.uniform(0.003, 0.012)
    return Foreign(s, turn * s.steps_per_epoch)


def plateau_after_power_law(seed: int) -> Foreign:
    s = study(seed, epochs=80, scheduler_type="none")
    course, stop = power(0.1, 6.0, 0.9), s.rng.uniform(4, 8)
    s.train = lambda e: course(min(e, stop))
    s.validation = lambda e: 1.03 * course(min(e, stop))
    s.noise, s.validation_noise, s.epochs = min(s.noise, 0.03), 0.003, 45
    return Foreign(s, math.ceil(stop * s.steps_per_epoch))


def flat_and_noisy(seed: int) -> Foreign:
    s = study(seed)
    n = s.config.num_epochs
    s.train = s.validation = lambda e: 1 - 0.004 * e / n
    s.skill_of = lambda epoch: {c: s.rng.gauss(0, 0.003) for c in COMPONENTS}
    s.r = lambda epoch: s.rng.gauss(0, 0.01)
    return Foreign(s)


def flat_from_ridge(seed: int) -> Foreign:
    """Learn nothing beyond a ridge initialisation."""
    s = flat_and_noisy(seed).study
    s.initial, s.noise = s.rng.uniform(0.75, 0.9), min(s.noise, 0.03)
    s.skill_of = lambda epoch: dict.fromkeys(COMPONENTS, 1 - s.initial)
    s.r = lambda epoch: 0.2 + s.rng.gauss(0, 0.01)
    return Foreign(s)


def never_better_than_mean(seed: int) -> Foreign:
    s = study(seed, epochs=40)
    loud = s.rng.uniform(1.0, 1.3)
    s.validation = lambda e: loud * (1.02 + 0.02 * (1 - math.exp(-e / 5)))
    s.r = lambda epoch: s.rng.gauss(0, 0.012)
    s.skill_of = lambda epoch: {c: 1 - loud * 1.02 + s.rng.gauss(0, 0.003) for c in COMPONENTS}
    return Foreign(s, s.plan.warmup_steps)


def brain_is_noise(seed: int) -> Foreign:
    """Learn the film while r of the brain scatters around 0 by 0.015."""
    s = study(seed, epochs=40)
    s.r = lambda epoch: s.rng.gauss(0, 0.015)
    s.skill_of = lambda epoch: {
        c: -0.004 + s.rng.gauss(0, 0.002) if c == "fmri" else 0.4 * (1 - math.exp(-epoch / 4)) for c in COMPONENTS
    }
    return Foreign(s, s.plan.warmup_steps)


def loader_in_bursts(seed: int) -> Foreign:
    s = study(seed)
    every = s.rng.randint(3, 6)

    def times(step: int) -> tuple[StepTimes, None]:
        t = s.step_s * s.rng.lognormvariate(0, 0.1)
        wait = t * 2.4 * every * s.rng.uniform(0.8, 1.2) if step % every == 0 else 0.02 * t
        return StepTimes(data_s=wait, forward_s=0.35 * t, backward_s=0.5 * t, optimizer_s=0.1 * t), None

    s.times = times
    return Foreign(s)


def straggler_in_spells(seed: int) -> Foreign:
    """Let one rank be late in two of three spells of 20 steps, like a hot GPU."""
    s = study(seed, distributed__world_size=6)
    s.world_size, slow = 6, s.rng.randrange(6)

    def times(step: int) -> tuple[StepTimes, int]:
        t = s.step_s * s.rng.lognormvariate(0, 0.1)
        hot = step // 20 % 3 != 2
        comm = t * (s.rng.uniform(1.2, 2.5) if hot else 0.1)
        rank = slow if hot and s.rng.random() < 0.95 else s.rng.randrange(6)
        return StepTimes(data_s=0.02 * t, forward_s=0.35 * t, backward_s=0.5 * t, communication_s=comm), rank

    s.times = times
    return Foreign(s)


def slow_exchange(seed: int) -> Foreign:
    s = study(seed, distributed__world_size=4)
    s.world_size = 4

    def times(step: int) -> tuple[StepTimes, int]:
        t = s.step_s * s.rng.lognormvariate(0, 0.1)
        comm = t * s.rng.lognormvariate(1.0, 0.6)
        return StepTimes(
            data_s=0.02 * t, forward_s=0.35 * t, backward_s=0.5 * t, communication_s=comm
        ), s.rng.randrange(4)

    s.times = times
    return Foreign(s)


def dead_head(seed: int) -> Foreign:
    """Make the gradient of one component a billionth of the others'."""
    s = study(seed)
    dead = COMPONENTS[seed // 2 % 4]
    s.pulls[dead], s.learning[dead] = 1e-9, 0.0
    return Foreign(s, s.plan.warmup_steps + 3)


def vanishing_gradient(seed: int) -> Foreign:
    s = study(seed)
    onset = 4 * s.steps_per_epoch
    train = s.train
    s.train = s.validation = lambda e: train(min(e, 4.0))
    s.gradient = lambda step: 0.5 if step < onset else 4e-9
    return Foreign(s, onset)


def nan_component(seed: int) -> Foreign:
    s = study(seed)
    onset = s.rng.randint(s.steps_per_epoch, 6 * s.steps_per_epoch)
    s.step_total = lambda step, total: None if step >= onset else total
    s.gradient = lambda step: None if step >= onset else 0.5
    s.epochs = onset // s.steps_per_epoch + 2
    return Foreign(s, onset)


def _with_rate(seed: int, rate: Callable[[Study], Callable[[int], float]], reason: str) -> Foreign:
    s = study(seed, warmup_epochs=2)
    observed, train, base = rate(s), s.train, s.config.learning_rate
    worth = [0.0]
    for step in range(s.plan.total_steps):
        worth.append(worth[-1] + observed(step) / base / s.steps_per_epoch)
    s.rate = observed
    s.train = lambda e: train(worth[min(len(worth) - 1, round(e * s.steps_per_epoch))])
    s.validation = lambda e: 1.03 * s.train(e)
    planned = (lr_at(step, s.plan) for step in range(s.plan.total_steps))
    onset = next(i for i, p in enumerate(planned) if abs(observed(i) - p) > 0.02 * max(p, 1e-12))
    return Foreign(s, onset, reason)


def rate_per_epoch(seed: int) -> Foreign:
    return _with_rate(seed, lambda s: lambda step: lr_at(step // s.steps_per_epoch, s.plan), "stepped_per_epoch")


def rate_of_other_ranks(seed: int) -> Foreign:
    return _with_rate(seed, lambda s: lambda step: lr_at(step * 4, s.plan), "wrong_world_size")


def rate_capped(seed: int) -> Foreign:
    return _with_rate(
        seed, lambda s: lambda step: min(0.4 * s.config.learning_rate, lr_at(step, s.plan)), "never_reaches_peak"
    )


def raw_scanner_units(seed: int) -> Foreign:
    s = study(seed, losses__scale="none", data__normalize_fmri=False)
    sd = s.rng.uniform(50, 900)
    s.scale["fmri"] = sd**2
    s.facts["fmri"] = {"mean": 4000.0, "sd": sd, "train_variance": sd**2, "expected_first_loss": sd**2}
    return Foreign(s)


def one_heavy_weight(seed: int) -> Foreign:
    s = study(seed, fmri_weight=0.004, video_weight=6.0, audio_weight=0.03, text_weight=0.03)
    return Foreign(s, s.plan.warmup_steps)


def limit_too_low(seed: int) -> Foreign:
    s = study(seed)
    norm = s.rng.uniform(15, 100)
    s.gradient = lambda step: norm
    return Foreign(s)


HEALTHY: dict[str, Family] = {
    family.__name__: family
    for family in (
        *(plain, late_drop, double_descent, spikes, noisy_validation, loud_block, ridge_start, stopped_early),
        *(long_run, one_epoch, slightly_slow_rank),
    )
}
"""Name -> a healthy run that looks odd."""

SICK: dict[str, tuple[str, Family]] = {
    family.__name__: (cause, family)
    for cause, family in (
        ("diverging", diverging_slowly),
        ("diverging", growing_oscillation),
        ("overfit", overfit_noisily),
        ("plateau", plateau_after_power_law),
        ("flat", flat_and_noisy),
        ("flat", flat_from_ridge),
        ("no_better_than_mean", never_better_than_mean),
        ("brain_unexplained", brain_is_noise),
        ("loader_bound", loader_in_bursts),
        ("straggler", straggler_in_spells),
        ("communication_bound", slow_exchange),
        ("frozen_parameters", dead_head),
        ("frozen_parameters", vanishing_gradient),
        ("nan", nan_component),
        ("lr_off_plan", rate_per_epoch),
        ("lr_off_plan", rate_of_other_ranks),
        ("lr_off_plan", rate_capped),
        ("scale_mismatch", raw_scanner_units),
        ("component_dominates", one_heavy_weight),
        ("clipping_always", limit_too_low),
    )
}
"""Name -> (the cause to be reported first, a run that has it)."""
