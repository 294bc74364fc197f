"""Faults that `giblet demo FAULT` produces, collected from the diagnosis rules.

Each fault really happens in a small real run (`giblet_train.training.fault_injection` produces it). `good` is the
control run, in which no alert may be raised.
"""

from __future__ import annotations

from giblet_train.diagnosis import diagnose  # noqa: F401 - importing it registers all rules
from giblet_train.diagnosis.rules.registry import FAULT_STEP, Fault, fault, ordered_rules

__all__ = ["EVENT", "FAULTS", "STEP", "Fault"]

STEP = FAULT_STEP
EVENT = "drill"
"""Name of the event that marks the step at which the fault of a demo run begins."""

FAULTS: dict[str, Fault] = {
    entry.name: entry
    for entry in (
        fault("good", "nothing is wrong: the control", num_epochs=12),
        *(rule.fault for rule in ordered_rules() if rule.fault),
    )
}
"""Name -> the fault, one for each cause that can be produced."""
