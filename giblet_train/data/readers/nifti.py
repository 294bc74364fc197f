"""Stream the volumes of a NIfTI file.

B TRs of one chunk, V voxels of a mask in C order, N voxels of a volume in file order, X Y Z grid.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.volumes import CHUNK_BYTES
from giblet_train.schema.errors import DataError

try:
    from isal.igzip import open as open_gzip
except ImportError:
    open_gzip = gzip.open

GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class NiftiReader:
    """Streams the volumes of one file; memory does not depend on their number."""

    path: Path
    n_voxels: int
    """N: voxels of one volume."""
    n_trs: int
    """Volumes of the file."""
    dtype: np.dtype[Any]
    slope: float
    """value = raw·slope + intercept."""
    intercept: float
    offset_bytes: int
    """Position of the first volume in the file."""

    def chunks(self, mask: NDArray[np.bool_], first: int, n_trs: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (volumes read before, (B, V) float32) over n_trs volumes from `first` on.

        The checksum of a compressed file is verified if its end is read. Raises DataError if the file ends early or is
        damaged.
        """
        columns_V = _file_columns(mask)
        volume_bytes = self.n_voxels * self.dtype.itemsize
        chunk = max(1, CHUNK_BYTES // volume_bytes)
        n_read = 0
        try:
            with _open(self.path) as file:
                _skip(file, self.offset_bytes + first * volume_bytes)
                while n_read < n_trs:
                    raw_BN = np.empty((min(chunk, n_trs - n_read), self.n_voxels), self.dtype)
                    got = _fill(file, raw_BN) // volume_bytes
                    if got < len(raw_BN):
                        raise EOFError
                    yield n_read, self._scaled(np.take(raw_BN, columns_V, axis=1))
                    n_read += len(raw_BN)
                if first + n_trs == self.n_trs:
                    while file.read(1 << 20):
                        pass
        except EOFError:
            start = first + n_read
            raise DataError(
                f"{self.path} is truncated: the header promises {self.n_trs} volumes, "
                f"the file ends inside one of volumes {start + 1} to {min(start + chunk, self.n_trs)}.",
                "Copy it again from its source.",
            ) from None
        except (OSError, zlib.error, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise DataError(f"{self.path} cannot be read: {error.strerror}.") from None
            raise DataError(f"{self.path} is damaged: {error}.", "Copy it again from its source.") from None

    def _scaled(self, raw_BV: NDArray[Any]) -> NDArray[np.float32]:
        bold_BV = raw_BV.astype(np.float32)
        if self.slope != 1.0:
            bold_BV *= np.float32(self.slope)
        if self.intercept != 0.0:
            bold_BV += np.float32(self.intercept)
        return bold_BV


def _file_columns(mask_XYZ: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the positions of the mask's voxels (C order) in a volume that is stored with X running fastest."""
    return np.ravel_multi_index(np.nonzero(mask_XYZ), mask_XYZ.shape, order="F")


def _open(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        zipped = file.read(2) == GZIP_MAGIC
    stream: IO[bytes] = (open_gzip if zipped else open)(path, "rb")
    return stream


def _skip(file: IO[bytes], n_bytes: int) -> None:
    while n_bytes:
        n_read = len(file.read(min(n_bytes, 1 << 20)))
        if not n_read:
            raise EOFError
        n_bytes -= n_read


def _fill(file: Any, array: NDArray[Any]) -> int:
    view = array.view(np.uint8).reshape(-1).data
    n_filled = 0
    while n_filled < len(view):
        n_read = file.readinto(view[n_filled:])
        if not n_read:
            break
        n_filled += n_read
    return n_filled
