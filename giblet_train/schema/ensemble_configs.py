"""Configurations of the members of an ensemble."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from giblet_train.schema.config import Config
from giblet_train.schema.errors import ConfigError

FREE_KEYS = ("seed", "split.fold", "split.validation_block")
"""Keys in which members may differ."""
PLACE_KEYS = ("threads", "device", "resume_from", "distributed.world_size", "distributed.backend")
"""Keys that describe where and how a run was trained, not what it learnt from; members may differ in them."""


def members(config: Config, n_members: int, folds: Iterable[int]) -> list[Config]:
    """Return n members per fold; seeds and validation blocks count upwards from the configuration's own.

    Members have different validation blocks, so together they train on nearly all TRs outside the test block. No member
    resumes another run.
    """
    return [
        replace(
            config,
            seed=config.seed + n,
            split=replace(config.split, fold=fold, validation_block=config.split.validation_block + n),
            resume_from=None,
        )
        for fold in folds
        for n in range(n_members)
    ]


def all_folds(config: Config) -> range:
    """Return all folds of the split. Raises ConfigError for scans, whose number only the data define."""
    if config.split.kind != "blocks":
        raise ConfigError("--all-folds counts blocks; this run leaves out scans.", "Name one run per scan.")
    return range(config.split.n_folds)
