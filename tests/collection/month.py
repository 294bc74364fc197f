"""A healthy month, as the watcher of a run sees it: slow nights, validation, saving, stops and resumes.

The run is the lab's production: 500 epochs whose steps take over a minute each. Every look has the records so far and
the heartbeat as it is at that moment, the awkward ones included.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from giblet_train.schema.health import Health, Signals, health_of
from giblet_train.schema.records import AnyMetric, Heartbeat, RunMetric, TrainerState
from tests.collection.healthy import Curves, Tape, draw, end_epoch, one_step, open_run

MONTH_S = 30 * 86_400.0
NIGHT = (22, 6)
NIGHT_FACTOR = 2.5
"""How much slower a step is while others' jobs run."""
RESUMES = 4


@dataclass(frozen=True)
class Look:
    """What the watcher has at one moment. n: of the records. what: is going on."""

    at: float
    what: str
    n: int
    health: Health


def healthy_month(seed: int, epochs: int = 500) -> tuple[Curves, list[AnyMetric], list[Look]]:
    """Return the curves of a run, its records, and checks of it in every epoch and interruption."""
    curves = draw(seed, num_epochs=epochs, scheduler_type="cosine")
    curves.steps_per_epoch = 60
    curves.rate_per_epoch = dict.fromkeys(curves.rate_per_epoch, 5 / epochs)
    curves.overfit_per_epoch = 0.01 / epochs
    curves.step_s = MONTH_S * epochs / 500 / (epochs * 60 * (1 + (NIGHT_FACTOR - 1) / 3)) / 1.05
    tape = open_run(curves)
    looks = list(_live(tape, epochs))
    return curves, tape.metrics, looks


def _live(tape: Tape, epochs: int) -> Iterator[Look]:
    curves, n = tape.curves, tape.curves.steps_per_epoch
    day_s = curves.step_s
    resumes = {epochs * k // (RESUMES + 1) for k in range(1, RESUMES + 1)}
    for epoch in range(1, epochs + 1):
        for step in range((epoch - 1) * n, epoch * n):
            curves.step_s = day_s * (NIGHT_FACTOR if _is_night(tape.at) else 1.0)
            one_step(tape, step, step / n)
            if step % n in (10, 35):
                yield _look(tape, "training", "mid-step", 0.9 * curves.step_s)
        yield _look(tape, "validating", "validation", 6 * day_s)
        tape.at += 6 * day_s
        end_epoch(tape, epoch, float(epoch))
        yield _look(tape, "saving", "saving 13 GB on a shared disk", 500.0)
        tape.at += 500.0
        if epoch in resumes:
            yield from _resumed(tape, epoch * n)


def _resumed(tape: Tape, step: int) -> Iterator[Look]:
    """Continue in the morning what was stopped in the evening: the same directory, first losses not measured again."""
    tape.at += 9 * 3600.0
    yield _look(tape, "loading", "loading after a stop", 300.0)
    first = next(m for m in tape.metrics if isinstance(m, RunMetric))
    same = {f: getattr(first, f) for f in first.__struct_fields__ if f not in ("seq", "step", "epoch", "at")}
    tape.add(RunMetric, step, **{**same, "first_loss": {}, "resumed_from_step": step})


def _look(tape: Tape, state: TrainerState, what: str, after_s: float) -> Look:
    """Return a check some seconds after the last heartbeat."""
    config = tape.curves.config
    beat = Heartbeat(
        state=state,
        step=0,
        epoch=1,
        phase=what,
        at=tape.at,
        pid=1,
        boot_id="b",
        start_ticks=1,
        step_s=tape.curves.step_s,
    )
    signals = Signals(now=tape.at + after_s, launched_at=0.0, process=True, heartbeat=beat)
    return Look(tape.at + after_s, what, len(tape.metrics), health_of(signals, config.watch))


def _is_night(at: float) -> bool:
    hour = at / 3600 % 24
    return hour >= NIGHT[0] or hour < NIGHT[1]
