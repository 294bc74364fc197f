"""Check arguments that users of the Python API give: paths, shapes, and seconds per volume."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.schema.errors import ConfigError, DataError

SHORTEST_TR_S, LONGEST_TR_S = 0.1, 20.0


def as_path(value: object, noun: str) -> Path:
    """Return a path with its home folder. Raises ConfigError for what is neither text nor a path. noun: what it is."""
    if isinstance(value, str | os.PathLike):
        return Path(value).expanduser()
    raise ConfigError(f"{noun} is a {type(value).__name__}, not a path.", "Give the path of a file, as text or Path.")


def as_tr_s(value: object) -> float:
    """Return seconds per volume. Raises ConfigError for what cannot be those of fMRI, such as milliseconds."""
    try:
        tr_s = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        tr_s = math.nan
    if not SHORTEST_TR_S <= tr_s <= LONGEST_TR_S:
        text = f"{value:g} s" if isinstance(value, int | float) else repr(value)
        raise ConfigError(
            f"A TR of {text} is not one of fMRI.",
            f"Give {SHORTEST_TR_S:g} to {LONGEST_TR_S:g} s, or leave the TR out.",
        )
    return tr_s


def as_singles(value: Any, noun: str, remedy: str) -> NDArray[np.float32]:
    """Return numbers as float32, also those of a tensor. Raises DataError for anything else. noun: what they are."""
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        if np.iscomplexobj(array):
            raise DataError(f"{noun} holds complex numbers.", remedy)
        return np.asarray(array, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{noun} does not hold numbers: {error}.", remedy) from None
