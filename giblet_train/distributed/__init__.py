"""Processes of a run on one or several nodes: rank communication, rendezvous and the first failure."""
