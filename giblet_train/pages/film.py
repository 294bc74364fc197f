"""Pictures and sound of a film for a page. P pictures, H W C rows, columns and colours, S samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from giblet_train.pages.png import Picture, data_uri, png_uri

AUDIO_BITS_PER_S = 48_000
GAP_PIXELS = 1
"""White rows between pictures of one moment."""


def film_time(seconds: float) -> str:
    """Return minutes and seconds, such as 4:07."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def moments(rows: Mapping[str, Picture], film_s: Sequence[float]) -> str:
    """Return the pictures of each moment one above the other, with the film time below.

    rows: what is shown -> (P, H, W, C), from above to below. film_s: (P,) seconds of the moments.
    """
    cells = []
    for n, seconds in enumerate(film_s):
        tiles = [np.pad(row[n], ((0, GAP_PIXELS), (0, 0), (0, 0)), constant_values=255) for row in rows.values()]
        alt = escape(f"Frames at {film_time(seconds)}, from above: {'; '.join(rows)}", quote=True)
        cells.append(f'<div><img alt="{alt}" src="{png_uri(np.concatenate(tiles))}">{film_time(seconds)}</div>')
    return f'<div class="pictures">{"".join(cells)}</div>'


def player(wave_S: NDArray[np.float32], rate_hz: int, label: str) -> str:
    """Return a player of one channel of sound that needs no other file."""
    source = data_uri(encode_sound(wave_S, rate_hz), "audio/mp4")
    name = escape(label, quote=True)
    return f'<p>{name}<br><audio controls preload="metadata" aria-label="{name}" src="{source}"></audio></p>'


def encode_sound(wave_S: NDArray[np.float32], rate_hz: int) -> bytes:
    """Encode one channel of sound as MP4."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "sound.mp4"
        with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
            add_sound(container, container.add_stream("aac", rate=rate_hz, layout="mono"), wave_S, rate_hz)
        return path.read_bytes()


def add_sound(container: Any, stream: Any, wave_S: NDArray[np.float32], rate_hz: int) -> None:
    """Encode one channel of sound into an open stream of a container."""
    stream.bit_rate = AUDIO_BITS_PER_S
    block = 1024
    for start in range(0, len(wave_S), block):
        part_1S = np.ascontiguousarray(np.clip(wave_S[None, start : start + block], -1.0, 1.0), np.float32)
        frame = av.AudioFrame.from_ndarray(part_1S, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, start, Fraction(1, rate_hz)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
