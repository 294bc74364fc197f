"""Encode pictures as PNG. H W C rows, columns and colours."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}
"""Colours -> colour type of the format: grey, RGB, RGBA."""


def png_bytes(picture: Picture) -> bytes:
    """Encode a grey (H, W), coloured (H, W, 3) or transparent (H, W, 4) picture as a PNG file."""
    pixels_HWC = picture[..., None] if picture.ndim == 2 else picture
    height, width, n_colours = pixels_HWC.shape
    rows = np.zeros((height, 1 + width * n_colours), np.uint8)  # each row opens with its filter, 0: none
    rows[:, 1:] = pixels_HWC.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[n_colours], 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def png_uri(picture: Picture) -> str:
    """Encode a picture as the data URI of a PNG."""
    return data_uri(png_bytes(picture), "image/png")


def data_uri(data: bytes, media_type: str) -> str:
    """Return the data URI of some bytes."""
    return f"data:{media_type};base64,{b64encode(data).decode()}"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
