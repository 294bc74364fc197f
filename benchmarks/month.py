"""How often a healthy month is disturbed, and how often the time left is told right: the figures of docs/plan.md.

python -m benchmarks.month                three months looked at to their end, and the coverage of `eta`: minutes
python -m benchmarks.month --months 1 --runs 100
"""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator

from giblet_train.diagnosis.alerts import LIKELY, AlertState, update
from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.eta import eta
from giblet_train.schema.config import Config
from giblet_train.schema.health import Health
from giblet_train.schema.records import StepMetric
from giblet_train.schema.schedule import lr_schedule
from tests.collection.month import healthy_month

Pace = Callable[[random.Random], Iterator[float]]
STEPS = 1000
RUNNING = Health(state="running", sentence="training")


def month(seed: int, every: int) -> tuple[int, int, Counter[str]]:
    """Return (looks, alerts, causes of single looks) of a healthy month; each `every`th look is diagnosed."""
    curves, metrics, looks = healthy_month(seed)
    state, alerts, causes = AlertState(), 0, Counter[str]()
    for i, look in enumerate(looks):
        causes["stalled"] += look.health.state == "stalled"
        if i % every and look.health.state != "stalled":
            continue
        diagnosis = diagnose(curves.config, metrics[: look.n], health=look.health)
        causes.update(c.cause for c in diagnosis.causes if c.confidence >= LIKELY)
        state, new = update(state, diagnosis, curves.config.watch, i, look.at)
        alerts += len(new)
    return len(looks), alerts, +causes


def steady(rng: random.Random) -> Iterator[float]:
    """Draw steps of one pace, ten percent apart."""
    while True:
        yield math.exp(rng.gauss(0, 0.1))


def loaded(rng: random.Random) -> Iterator[float]:
    """Draw steps next to others' jobs: the pace wanders by a fifth over some fifty steps."""
    load = rng.gauss(0, 0.2)
    while True:
        load += -load / 50 + rng.gauss(0, 0.2 * math.sqrt(2 / 50))
        yield math.exp(load + rng.gauss(0, 0.05))


def nightly(rng: random.Random) -> Iterator[float]:
    """Draw steps that are slower by half for a third of every 300, from a random one on."""
    hour = rng.randrange(300)
    while True:
        yield (1.5 if hour % 300 < 100 else 1.0) * math.exp(rng.gauss(0, 0.1))
        hour += 1


def coverage(pace: Pace, n_done: int, n_runs: int) -> float:
    """Return how many of the intervals that say 80 % hold what the rest of the run then takes."""
    plan = lr_schedule(Config(name="a", num_epochs=STEPS // 20), 20)
    n_within = 0
    for seed in range(n_runs):
        stream = pace(random.Random(seed))
        seconds = [next(stream) for _ in range(STEPS)]
        estimate = eta([_step(i, s) for i, s in enumerate(seconds[:n_done])], plan, RUNNING)
        n_within += estimate is not None and estimate.low_s <= sum(seconds[n_done:]) <= estimate.high_s
    return n_within / n_runs


def _step(i: int, seconds: float) -> StepMetric:
    return StepMetric(
        seq=i, step=i, epoch=1, at=float(i), lr=1e-3, total=1.0, loss={}, weight={}, share={}, step_s=seconds
    )


def main() -> None:
    """Print both tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=3)
    parser.add_argument("--every", type=int, default=8, help="every so many looks are diagnosed in full")
    parser.add_argument("--runs", type=int, default=500, help="runs behind each coverage")
    options = parser.parse_args()
    print("| healthy month | looks | alerts | causes found by a single look |\n| --- | ---: | ---: | --- |")
    for seed in range(options.months):
        n, alerts, causes = month(2 * seed + 1, options.every)
        print(
            f"| {seed + 1} | {n:,} | {alerts} | {', '.join(f'{c} {k}' for c, k in causes.items()) or 'none'} |",
            flush=True,
        )
    print("\n| pace of the node | after 100 of 1,000 steps | 200 | 500 | 800 |\n| --- | ---: | ---: | ---: | ---: |")
    for pace in (steady, loaded, nightly):
        cells = [f"{coverage(pace, n_done, options.runs):.0%}" for n_done in (100, 200, 500, 800)]
        print(f"| {pace.__name__} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
