"""What a run takes of a node's disk: how many checkpoints, how much a record."""

from __future__ import annotations

from giblet_train.schema.config import Config

GIB = 2**30
RECORD_BYTES = 900
"""What a step adds to metrics.jsonl."""


def checkpoints_kept(config: Config) -> int:
    """The periodic ones, and `last` and `best` beside them."""
    return config.keep_checkpoints + 2


def checkpoints_at_most(config: Config) -> int:
    """Those that are kept, and one more while it is written aside."""
    return checkpoints_kept(config) + 1
