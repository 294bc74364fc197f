"""Disk usage of a run: number of checkpoints, and bytes per record."""

from __future__ import annotations

from giblet_train.schema.config import Config

GIB = 2**30
RECORD_BYTES = 900
"""Bytes that a step adds to metrics.jsonl."""


def checkpoints_kept(config: Config) -> int:
    """Return the number of checkpoints kept: the periodic ones, `last` and `best`."""
    return config.keep_checkpoints + 2


def checkpoints_at_most(config: Config) -> int:
    """Return the largest number of checkpoints at a time: one more than kept while a new one is written."""
    return checkpoints_kept(config) + 1
