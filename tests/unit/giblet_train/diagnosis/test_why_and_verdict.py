"""`why` and `verdict` judge the same records: neither says that a run is well where the other one does not.

A fault that leaves every criterion met, such as a head without a gradient, is no contradiction: users choose criteria.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import msgspec
import pytest

from giblet_train.diagnosis.criteria import verdict_of
from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.rules.registry import RULES
from giblet_train.schema.config import Config, Criterion
from giblet_train.schema.health import BY_SCHEDULER, Health
from giblet_train.schema.records import AnyMetric, StepMetric
from tests.collection.cases import collection
from tests.collection.foreign import records
from tests.collection.foreign_cases import HEALTHY, SICK

CRITERIA = {
    "drop": Criterion(kind="loss_drop", threshold=0.1),
    "peak": Criterion(kind="lr_reaches_peak", threshold=0.9),
    "gap": Criterion(kind="val_gap", threshold=1.5),
    "dominance": Criterion(kind="no_dominance", threshold=0.95),
}
LIKELY = 0.5
NEVER_PASSED = {"nan", "diverging", *(name for name, rule in RULES.items() if rule.group == "ending")}
"""Causes with which no run passes, whatever its criteria."""
LIVE, ENDED = Health(state="training", sentence="It trains."), Health(state="finished", sentence="It has finished.")
Run = tuple[Config, tuple[AnyMetric, ...], Health | None]


def first_collection() -> Iterator[tuple[str, Run]]:
    """Yield a run of every family of the first collection that has a configuration."""
    families = set[str]()
    for case in collection("tuning", 1):
        family = case.name.rpartition("-")[0]
        if case.config is not None and family not in families:
            families.add(family)
            yield family, (case.config, case.metrics, case.health)


FIRST = dict(first_collection())
SECOND = {**HEALTHY, **{name: write for name, (_, write) in SICK.items()}}
"""Families of the second collection. Their runs are made when they are judged: each worker collects these tests."""


@cache
def run_of(family: str) -> Run:
    """Return a run of a family of either collection."""
    if family not in SECOND:
        return FIRST[family]
    study = SECOND[family](0).study
    return study.config, tuple(records(study)), None


def halves(metrics: tuple[AnyMetric, ...]) -> Iterator[tuple[tuple[AnyMetric, ...], Health]]:
    """Yield the first half of a run while it is live, and all of it once it has ended."""
    steps = [i for i, metric in enumerate(metrics) if isinstance(metric, StepMetric)]
    if len(steps) > 1:
        yield metrics[: steps[len(steps) // 2]], LIVE
    yield metrics, ENDED


@pytest.mark.parametrize("family", [*(name for name in FIRST if name not in SECOND), *SECOND])
def test_why_and_verdict_never_contradict_each_other(family: str) -> None:
    config, metrics, health = run_of(family)
    full_config = msgspec.structs.replace(config, criteria={**CRITERIA, **config.criteria})
    for part, state in halves(metrics):
        run_health = health if health is not None and state is ENDED else state
        verdict, diagnosis = verdict_of(full_config, part, run_health), diagnose(full_config, part, health=run_health)
        if verdict.status in ("fail", "at_risk"):
            assert diagnosis.causes, f"verdict {verdict.status}, but nothing is wrong"
        if verdict.status == "pass":
            grave = {c.cause for c in diagnosis.causes if c.confidence > LIKELY} & NEVER_PASSED
            assert not grave, f"verdict pass, but {grave}"


SCHEDULED = {
    "its time limit was reached (TIMEOUT)": "Ask the scheduler for more time",
    "it was preempted (PREEMPTED)": "Submit it again",
    "its node failed (NODE_FAIL)": "Start it on another node",
    "it was cancelled (CANCELLED)": "Ask who cancelled the job",
}
"""How Slurm ends a job -> beginning of the action."""


@pytest.mark.parametrize("sentence", SCHEDULED)
def test_a_run_that_slurm_ended_is_not_said_to_crash_and_fails_its_verdict(sentence: str) -> None:
    config, metrics, _ = run_of("plain")
    half, _ = next(halves(metrics))
    health = Health(state="died", sentence=sentence, reason=BY_SCHEDULER)
    first = diagnose(config, half, health=health).causes[0]
    assert (first.cause, first.sentence) == ("crashed", f"Its scheduler ended it: {sentence}.")
    assert first.action.startswith(SCHEDULED[sentence])
    assert verdict_of(config, half, health).status == "fail"


def test_a_run_that_is_stopped_because_it_is_hopeless_fails_and_why_names_the_criterion() -> None:
    config, metrics, _ = run_of("plain")
    hopeless = msgspec.structs.replace(config, criteria={"drop": Criterion(kind="loss_drop", threshold=0.99)})
    half, _ = next(halves(metrics))
    health = Health(state="stopped", sentence="stopped on request")
    assert verdict_of(hopeless, half, health).status == "fail"
    causes = [cause.cause for cause in diagnose(hopeless, half, health=health).causes]
    assert causes and set(causes) <= {"criterion_missed", "criterion_unreachable"}


@pytest.mark.parametrize(
    ("health", "beginning"),
    [
        (Health(state="failed", sentence="ended with code 3; see `giblet logs`", reason="exit"), "It crashed: "),
        (Health(state="died", sentence="killed by signal 15", reason="signal"), "It crashed: killed by signal 15"),
        (Health(state="finished", sentence="ended with code 0"), ""),
        (Health(state="stopped", sentence="stopped on request"), ""),
    ],
)
def test_a_command_of_the_user_ends_as_its_exit_code_says(health: Health, beginning: str) -> None:
    causes = diagnose(None, (), health=health, run_id="cmd-20260101-080000-aaaa").causes
    assert [c.cause for c in causes] == (["crashed"] if beginning else [])
    assert not causes or causes[0].sentence.startswith(beginning)
