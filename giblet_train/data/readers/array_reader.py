"""Volumes of a file whose values are one (T, N) array.

B TRs of one chunk, V positions of a mask, N all positions.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.volumes import CHUNK_BYTES
from giblet_train.schema.errors import DataError

CHUNKS = 16
"""Chunks of CHUNK_BYTES read at once: CIFTI stores time fastest, so that each pass touches the whole file."""


@dataclass(frozen=True)
class ArrayReader:
    """Reads a file as one array, memory-mapped where the format allows it."""

    path: Path
    n_trs: int
    """Volumes of the file."""
    load: Callable[[], NDArray[Any]]
    """Returns (T, N)."""

    def chunks(self, mask: NDArray[np.bool_], first: int, n_trs: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (volumes read before, (B, V) float32) over n_trs volumes from `first` on.

        Raises DataError if the file ends early or is damaged.
        """
        columns_V = np.flatnonzero(mask)
        try:
            values_TN = self.load()
            chunk = max(1, CHUNKS * CHUNK_BYTES // (values_TN.shape[1] * values_TN.dtype.itemsize))
            for start in range(0, n_trs, chunk):
                stop = min(start + chunk, n_trs)
                rows_BN = np.asarray(values_TN[first + start : first + stop])
                yield start, np.take(rows_BN, columns_V, axis=1).astype(np.float32)
        except (EOFError, OSError, zlib.error, ValueError, KeyError) as error:
            raise DataError(
                f"{self.path} is truncated or damaged: {error}.", "Copy it again from its source."
            ) from None
