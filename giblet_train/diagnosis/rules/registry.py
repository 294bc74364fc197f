"""Registry of diagnosis rules. A rule is a function with the decorator `@rule`; its name is the name of its cause.

The decorator holds everything else that other parts need to know about the cause: what follows from it, how severe it
is, and which fault of `giblet demo` produces it. Pure.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any, Literal, get_args

import msgspec

from giblet_train.diagnosis.rules.case import Finding, RunHistory

Group = Literal["ending", "numbers", "plan", "scale", "data", "curve", "speed", "fallback", "verdict"]
"""Groups of causes, in the order in which equally likely causes are reported."""

Evaluate = Callable[[RunHistory], Finding | None]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that `giblet demo NAME` produces in a small real run."""

    name: str
    """Name on the command line."""
    says: str
    """What happens in the run."""
    cause: str | None = None
    """Cause that must be reported; None for the healthy control run."""
    step: int = 0
    """Step at which the fault begins."""
    settings: dict[str, Any] = {}
    """Dotted configuration key -> value, on top of the demo's configuration."""
    processes: int = 1
    """Number of processes that train."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One diagnosis rule."""

    name: str
    """Name of the rule and of the cause that it reports."""
    evaluate: Evaluate
    """Return a finding, or None when the records show nothing of this cause."""
    group: Group
    """Group of causes that this one belongs to."""
    explains: frozenset[str]
    """Names of causes and groups that follow from this cause, and are then reported with half their confidence."""
    level: Literal["error", "warning"]
    """Level of the alert."""
    fault: Fault | None
    """Fault that produces this cause; None for a cause that cannot be produced on any machine, such as broken RAM."""


RULES: dict[str, Rule] = {}
"""Name -> rule, in the order of definition."""


def rule(
    *,
    group: Group,
    explains: Collection[str] = (),
    level: Literal["error", "warning"] = "warning",
    fault: Fault | None = None,
) -> Callable[[Evaluate], Evaluate]:
    """Register a function as a diagnosis rule.

    Args:
        group: group of causes; it decides the order of equally likely causes.
        explains: causes (or whole groups) that follow from this one.
        level: level of the alert that the watcher raises.
        fault: how `giblet demo` produces the cause.
    """

    def register(function: Evaluate) -> Evaluate:
        name = function.__name__

        @functools.wraps(function)
        def evaluate(case: RunHistory) -> Finding | None:
            finding = function(case)
            return msgspec.structs.replace(finding, cause=name) if finding else None

        if name in RULES:
            raise ValueError(f"Two diagnosis rules are called {name}.")
        RULES[name] = Rule(
            name=name,
            evaluate=evaluate,
            group=group,
            explains=frozenset(explains),
            level=level,
            fault=msgspec.structs.replace(fault, cause=name) if fault else None,
        )
        return evaluate

    return register


def fault(name: str, says: str, step: int = 0, processes: int = 1, **settings: Any) -> Fault:
    """Return a fault; `__` in a keyword means the dot in a configuration key."""
    setting_by_key = {key.replace("__", "."): value for key, value in settings.items()}
    return Fault(
        name=name,
        says=says,
        step=step,
        settings={**LEARNING, **UNJUDGED, **setting_by_key, "distributed.world_size": processes},
        processes=processes,
    )


FAULT_STEP = 40
"""First step of faults that need a run under way."""
LEARNING: dict[str, Any] = {"model.start": "zero", "num_epochs": 45}
"""Heads start from zero: a run that starts from ridge has little left to learn, and faults would show late."""
UNJUDGED: dict[str, Any] = {"criteria": {}, "early_stopping_patience": None}
WARN_ONLY: dict[str, Any] = {"on_sanity_fail": "warn"}
SHORT_WARMUP: dict[str, Any] = {"warmup_epochs": 1}
UNREGULARISED: dict[str, Any] = {"weight_decay": 0.0, "model.dropout": 0.0, "model.modality_dropout": 0.0}


def ordered_rules() -> list[Rule]:
    """Return all registered rules, by group and then by definition."""
    groups = get_args(Group)
    return sorted(RULES.values(), key=lambda rule: groups.index(rule.group))


def consequences(name: str) -> frozenset[str]:
    """Return the names of the causes that follow from a cause; a missed criterion follows from every other cause."""
    explains = RULES[name].explains | {"verdict"}
    return frozenset(r.name for r in RULES.values() if r.name != name and (r.name in explains or r.group in explains))
