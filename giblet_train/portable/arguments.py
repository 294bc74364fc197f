"""Check arguments that users of the Python API give: paths, names, numbers, arrays, and seconds per volume."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
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


def as_number(value: object) -> float:
    """Return a number, also one that is written as text; not a number for anything else, such as True."""
    if isinstance(value, bool | np.bool_):
        return math.nan
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return math.nan


def as_tr_s(value: object) -> float:
    """Return seconds per volume. Raises ConfigError for what cannot be those of fMRI, such as milliseconds."""
    tr_s = as_number(value)
    if not SHORTEST_TR_S <= tr_s <= LONGEST_TR_S:
        text = f"{value!r}" if isinstance(value, str) else str(value) if math.isnan(tr_s) else f"{tr_s:g} s"
        raise ConfigError(
            f"A TR of {text} is not one of fMRI.",
            f"Give {SHORTEST_TR_S:g} to {LONGEST_TR_S:g} s, or leave the TR out.",
        )
    return tr_s


def as_names(value: object, noun: str) -> tuple[str, ...]:
    """Return names: one name, several, or none for None. Raises ConfigError for anything else. noun: what they are."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Iterable):
        raise ConfigError(f"{noun} is a {type(value).__name__}, not a list of names.", "Give a list of texts.")
    return tuple(map(str, value))


def as_array(value: Any, noun: str, remedy: str) -> NDArray[Any]:
    """Return real numbers as an array, also those of a tensor; what a masked array hides is not a number.

    Raises DataError for text, dates, complex numbers and anything else. noun: what they are.
    """
    try:
        array: Any = _tensor_as_array(value) if hasattr(value, "detach") else np.ma.asanyarray(value)
        if array.dtype.kind == "O":
            array = array.astype(np.float64)
        if np.ma.is_masked(array):
            array = array.astype(np.result_type(array.dtype, np.float32)).filled(np.nan)
        values: NDArray[Any] = np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{noun} does not hold numbers: {error}.", remedy) from None
    if values.dtype.kind == "c":
        raise DataError(f"{noun} holds complex numbers.", remedy)
    if values.dtype.kind not in "biuf":
        raise DataError(f"{noun} does not hold numbers: its values are {values.dtype.name}.", remedy)
    return values


def as_singles(value: Any, noun: str, remedy: str) -> NDArray[np.float32]:
    """Return real numbers as float32. Raises what `as_array` raises, and DataError for numbers that are too large."""
    array = as_array(value, noun, remedy)
    with np.errstate(over="ignore"):
        singles = array.astype(np.float32, copy=False)
    if (np.isinf(singles) & np.isfinite(array)).any():
        raise DataError(f"{noun} holds numbers above {np.finfo(np.float32).max:.1e}.", remedy)
    return singles


def _tensor_as_array(tensor: Any) -> NDArray[Any]:
    values = tensor.detach().cpu()
    try:
        return np.asarray(values)
    except TypeError:  # NumPy lacks bfloat16.
        return np.asarray(values.float())
