"""Diagnosis rules: pure functions of one run history that return one finding or None.

Each module holds the rules for one subject: learning rate, loss scale, training curve, held-out data, criteria, step
time, alignment, run end. `giblet_train.diagnosis.diagnose` evaluates all of them and orders the findings.
"""
