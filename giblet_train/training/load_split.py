"""Load the data split of a configuration from its store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from giblet_train.data.preprocessing.split_data import PreparedSplit, prepare_split
from giblet_train.data.preprocessing.splits import make_split
from giblet_train.data.readers.study_files import study_dir
from giblet_train.data.store.store import build_store, open_store
from giblet_train.schema.config import Config
from giblet_train.schema.errors import DataError


def load_split(config: Config, workdir: Path, progress: Callable[[str, float], None]) -> PreparedSplit:
    """Build the store if it does not exist, and fit a split on its training TRs.

    workdir: folder of the stores, and base of `data.data_dir`. Raises DataError, ConfigError, PreflightRefused.
    """
    path = build_store(config, study_dir(config, workdir), workdir, progress)
    try:
        study = open_store(path)
    except (ValueError, EOFError) as error:
        raise DataError(
            f"An array of the store {path} is damaged: {error}", f"Delete {path}; the next run builds it again."
        ) from None
    progress("fitting scales and masks on the training TRs", 0.0)
    split = make_split(study.scan_lengths_trs, study.border_trs, config.split, study.spans, study.tr_s)
    return prepare_split(study, split, config)
