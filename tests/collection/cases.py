"""The collection: labelled cases of records and of the lab's legacy logs, split by seed into tuning and test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from giblet_train.schema.config import Config
from giblet_train.schema.health import Health
from giblet_train.schema.records import AnyMetric
from tests.collection.faults import FAULTS
from tests.collection.healthy import draw, healthy_run
from tests.collection.legacy import LEGACY

Part = Literal["tuning", "test"]


@dataclass(frozen=True)
class Case:
    """One labelled run.

    cause: what a diagnosis should name first, "" for a healthy run. reason: for lr_off_plan, why. onset: the step (for
    a legacy log, the epoch) from which the fault could be seen. config is None where only the log is known.
    """

    name: str
    kind: Literal["records", "log"]
    cause: str
    reason: str
    onset: int
    config: Config | None
    metrics: tuple[AnyMetric, ...] = ()
    log: str = ""
    health: Health | None = None
    log_tail: tuple[str, ...] = ()


def collection(part: Part, n_seeds: int = 8) -> Iterator[Case]:
    """Yield the cases of one part: n_seeds per fault, six times as many healthy ones; even seeds tune, odd test."""
    offset = 0 if part == "tuning" else 1
    for k in range(6 * n_seeds):
        seed = 2 * (1000 + k) + offset
        curves = draw(seed)
        yield Case(f"healthy-{seed}", "records", "", "", 0, curves.config, tuple(healthy_run(curves)))
    for index, (name, (cause, fault)) in enumerate(FAULTS.items()):
        for k in range(n_seeds):
            seed = 2 * (k + 100 * index) + offset
            failing = fault(seed)
            yield Case(
                f"{name}-{seed}", "records", cause, failing.reason, failing.onset, failing.curves.config,
                tuple(failing.metrics), "", failing.health, failing.log_tail,
            )  # fmt: skip
    for index, (name, (cause, reason, write)) in enumerate(LEGACY.items()):
        for k in range(n_seeds):
            seed = 2 * (k + 100 * index) + offset
            log = write(seed)
            yield Case(f"log-{name}-{seed}", "log", cause, reason, log.onset, log.config, log=log.text)
