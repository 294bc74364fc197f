"""Diagnosis rules: pure functions of a run history that return a finding or None.

Each module holds the rules for one subject: learning rate, loss scale, training curve, held-out data, criteria, step
time, alignment, run end. `registry` collects them by their decorator; `giblet_train.diagnosis.diagnose` evaluates them
and orders the findings.
"""
