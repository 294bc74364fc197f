"""Show the held-out film next to its reconstructions as a short clip with sound, for a page.

T TRs of the clip, P panels, H W C rows, columns and colours, S samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from giblet_train.analysis.load_run import LoadedRun
from giblet_train.analysis.reconstruct import Film, argmax_codes, decoded_sounds, has_pictures, pictures_at
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.pages.film import add_sound, encode_sound
from giblet_train.schema.progress import ProgressCallback

CLIP_S = 30.0
PANEL_PIXELS = 256
"""Width of a panel."""
STRIP_PIXELS = 24
"""Height of the strip with the film time above the panels."""
DIGITS = {
    "0": "111101101101111", "1": "010110010010111", "2": "111001111100111", "3": "111001111001111",
    "4": "101101111001001", "5": "111100111001111", "6": "111100111101111", "7": "111001010010010",
    "8": "111101111101111", "9": "111101111001111", ":": "000010000010000",
}  # fmt: skip
"""Glyphs of 3 by 5 pixels."""


@dataclass(frozen=True)
class FilmClip:
    """A clip of the held-out film and its reconstructions."""

    stimulus: str
    """Name of the film, or `the film` if there is one only."""
    mp4: bytes
    """Panels two by two, with the sound reconstructed from predicted brains if there is one."""
    panels: tuple[str, ...]
    """What the panels show, row by row."""
    film_sound_mp4: bytes
    """Sound of the film's own audio features, for comparison; empty without sound."""
    poster: NDArray[np.uint8]
    """A frame from the middle of the clip."""
    film_s: tuple[float, float]
    """Film time at which the clip begins and ends."""


def film_clip(run: LoadedRun, films: Mapping[str, Film], report_progress: ProgressCallback) -> FilmClip | None:
    """Return the first CLIP_S seconds of the test block; None if the video features cannot be shown.

    films: source of the brains -> reconstructed film.
    """
    data = run.data
    if not has_pictures(data):
        return None
    tr_s = data.study.tr_s
    first_block = data.split.test_blocks[0]
    n_trs = max(1, min(round(CLIP_S / tr_s), _stop_of_stimulus(data, first_block) - first_block[0]))
    position_T = np.arange(n_trs)
    rows = pictures_at(data, films, position_T)
    stimulus, start_s = data.study.shown_at(first_block[0])
    frames = [_frame([row_THWC[t] for row_THWC in rows.values()], start_s + t * tr_s) for t in position_T]
    truth = {m: target_TF[data.split.test[:n_trs]] for m, target_TF in data.targets.items()}
    audible = {"film": truth, "predicted": {m: x_TF[:n_trs] for m, x_TF in films["predicted"].items()}}
    codes = {name: argmax_codes(data, film) for name, film in audible.items()}
    waves, rate_hz = decoded_sounds(run, audible, codes, report_progress)
    return FilmClip(
        stimulus=stimulus if len({span.stimulus for span in data.study.spans}) > 1 else "the film",
        mp4=encode_clip(frames, tr_s, waves.get("predicted"), rate_hz),
        panels=tuple(rows),
        film_sound_mp4=encode_sound(waves["film"], rate_hz) if waves else b"",
        poster=frames[n_trs // 2],
        film_s=(start_s, start_s + n_trs * tr_s),
    )


def _stop_of_stimulus(data: PreparedSplit, block: tuple[int, int]) -> int:
    """Return the row after the last one of a block that shows the same stimulus as its first."""
    ends = [span.stop for span in data.study.spans if span.first <= block[0] < span.stop]
    return min([block[1], *ends])


def _frame(panels: list[NDArray[np.uint8]], film_s: float) -> NDArray[np.uint8]:
    """Return the panels two by two, with the film time above."""
    width = panels[0].shape[1]
    scale = max(1, PANEL_PIXELS // width)
    large = [panel.repeat(scale, axis=0).repeat(scale, axis=1) for panel in panels]
    large += [np.zeros_like(large[0])] * (len(large) % 2)
    pairs = [np.concatenate(large[n : n + 2], axis=1) for n in range(0, len(large), 2)]
    picture = np.concatenate([np.zeros((STRIP_PIXELS, 2 * width * scale, 3), np.uint8), *pairs])
    _write_time(picture, film_s)
    # The encoder halves the colour planes, so both sides are even.
    return picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]


def _write_time(picture: NDArray[np.uint8], film_s: float) -> None:
    """Write minutes and seconds into the strip at the top."""
    whole_s, scale = max(0, int(film_s)), 3
    x, y = 6, 4
    for sign in f"{whole_s // 60:02d}:{whole_s % 60:02d}":
        glyph = np.array([*DIGITS[sign]], int).reshape(5, 3).repeat(scale, axis=0).repeat(scale, axis=1)
        picture[y : y + 5 * scale, x : x + 3 * scale] = 255 * glyph[..., None]
        x += 4 * scale


def encode_clip(
    frames: list[NDArray[np.uint8]], frame_s: float, wave_S: NDArray[np.float32] | None, rate_hz: int
) -> bytes:
    """Encode frames (H, W, 3) that last `frame_s` each, and one channel of sound, as MP4."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
            # All streams are added before the first packet, because the header lists them.
            video: Any = container.add_stream("libx264", rate=Fraction(1 / frame_s).limit_denominator(1000))
            sound: Any = None if wave_S is None else container.add_stream("aac", rate=rate_hz, layout="mono")
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt, video.options = "yuv420p", {"crf": "24"}
            for frame in frames:
                container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(video.encode(None))
            if wave_S is not None:
                add_sound(container, sound, wave_S, rate_hz)
        return path.read_bytes()
