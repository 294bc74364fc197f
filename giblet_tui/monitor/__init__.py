"""Observation of nodes and runs: watching, log following, snapshots and their cache."""
