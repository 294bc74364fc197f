"""Judgement of a run from its records: diagnosis rules, criteria, alerts and estimates.

Imports the standard library and `giblet_train.schema` only, so it runs on a laptop without torch or numpy.
"""
