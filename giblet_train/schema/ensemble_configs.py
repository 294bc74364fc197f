"""The members of an ensemble, as configurations: what they share, and what each has of its own."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from giblet_train.schema.config import Config
from giblet_train.schema.errors import ConfigError

FREE_KEYS = ("seed", "split.fold", "split.validation_block")
"""What members may differ by."""
PLACE_KEYS = ("threads", "device", "resume_from", "distributed.world_size", "distributed.backend")
"""Where and how a run was trained, not what it learnt from: members may differ by them, too."""


def members(config: Config, n_members: int, folds: Iterable[int]) -> list[Config]:
    """n members of each fold, seeds and validation blocks counted upwards from the configuration's own.

    With another validation block each lacks other TRs, so that together they learn from nearly all that is not tested
    on. None resumes.
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
    """Every fold of the configuration's split. Raises ConfigError for scans: only the data know how many there are."""
    if config.split.kind != "blocks":
        raise ConfigError("--all-folds counts blocks; this run leaves out scans.", "Give a run for each scan.")
    return range(config.split.n_folds)
