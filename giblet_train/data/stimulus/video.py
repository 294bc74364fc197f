"""Read a film's frames at the pace of the scan, and compute low-level visual features from them.

`read_frames(path, tr_s, n_trs, fps, height, width, start_s) -> (T, K, H, W, 3) uint8`, in one pass that ends with
the last frame needed;
`video_features(frames) -> (T, F) float32` without any fitted parameter; `film_seconds(path) -> float`.
T TRs, K frames in a TR, N frames in a row, H W C rows, columns, colours (red, green, blue), I J cells, F features.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import floor
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from giblet_train.schema.errors import DataError

Pictures = NDArray[np.floating[Any]]

LUMA = np.array((0.299, 0.587, 0.114), np.float32)
CELLS = (3, 4)
EDGE_CELLS = (4, 6)
ORIENTATIONS = ("vertical", "rising", "horizontal", "falling")
WHOLE = ("luminance", "contrast", "motion", "saturation", "red_green", "blue_yellow")
CHUNK_TRS = 32
SLACK_S = 0.1
STAMP_ROUNDING_S = 1e-3
"""Containers such as Matroska round time stamps to a millisecond."""

SCALING = Interpolation.AREA | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
"""Means over areas; without the second flag colours would be smeared over two columns."""


def film_seconds(path: Path) -> float:
    """Return the duration of the film's pictures in seconds, of its sound if it has none. Raises DataError."""
    with opened(path) as container:
        return _seconds(container, path)


def read_frames(
    path: Path, tr_s: float, n_trs: int | None, fps: float, height: int, width: int, start_s: float = 0.0
) -> NDArray[np.uint8]:
    """Read (T, K, H, W, 3): the frames on screen at K = round(fps·tr_s) moments of each TR, averaged over areas.

    Frame k of TR t is the one on screen at start_s + (t + (k + ½) / K)·tr_s, upright as a player shows it. Raises
    DataError if the film is shorter than that.

    Args:
        n_trs: None for as many whole TRs as the film has.
        start_s: Film second at which TR 0 begins.
    """
    if n_trs is None:
        n_trs = floor((film_seconds(path) - start_s) / tr_s + 1e-6)
    return next(read_frames_in_parts(path, tr_s, n_trs, fps, height, width, start_s, max(1, n_trs)))


def read_frames_in_parts(
    path: Path, tr_s: float, n_trs: int, fps: float, height: int, width: int, start_s: float, part_trs: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of `read_frames` in parts of at most part_trs TRs; the film is decoded once."""
    per_tr = max(1, round(fps * tr_s))
    check_length(path, film_seconds(path), start_s, n_trs * tr_s)
    stamps_N = _stamps_on_screen(path, start_s + (np.arange(n_trs * per_tr) + 0.5) * (tr_s / per_tr))
    decoded = _decoded(path, frozenset(stamps_N.tolist()))
    on_screen: tuple[int, NDArray[np.uint8]] | None = None
    for first in range(0, max(1, len(stamps_N)), part_trs * per_tr):
        part_N = stamps_N[first : first + part_trs * per_tr]
        frames_NHWC = np.empty((len(part_N), height, width, 3), np.uint8)
        missing = set(part_N.tolist())
        while missing:
            # A frame that stays on screen across parts was decoded for the part before.
            if on_screen is None or on_screen[0] not in missing:
                frame = next(decoded, None)
                if frame is None:
                    raise DataError(
                        f"{path} is damaged: {len(missing)} of its frames cannot be decoded.", "Copy it again."
                    )
                on_screen = frame.pts, _upright(frame, height, width)
            stamp, image_HWC = on_screen
            frames_NHWC[np.searchsorted(part_N, stamp, "left") : np.searchsorted(part_N, stamp, "right")] = image_HWC
            missing.discard(stamp)
        yield frames_NHWC.reshape(-1, per_tr, height, width, 3)


def _upright(frame: Any, height: int, width: int) -> NDArray[np.uint8]:
    """Scale a frame to (height, width, 3) and turn it as its rotation metadata say."""
    quarters = round(frame.rotation / 90.0) % 4
    rows, columns = (width, height) if quarters % 2 else (height, width)
    scaled = frame.to_ndarray(format="rgb24", width=columns, height=rows, interpolation=SCALING)
    return np.asarray(np.rot90(scaled, quarters))


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open the film for decoding. Every FFmpeg error becomes a DataError."""
    try:
        with av.open(str(path)) as container:
            yield container
    except av.FFmpegError as error:
        raise DataError(f"{path} cannot be decoded as a film: {error.strerror}.", "Set data.video.") from None


def has_pictures(path: Path) -> bool:
    """Return True if the file has moving pictures. Raises DataError if it cannot be read."""
    with opened(path) as container:
        return bool(_moving_pictures(container))


def _moving_pictures(container: Any) -> list[Any]:
    return [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]


def film_stream(container: Any, path: Path) -> Any:
    """Return the stream of moving pictures: a cover picture is none. Raises DataError if there is none."""
    streams = _moving_pictures(container)
    if not streams:
        raise DataError(f"{path} has no pictures.", "Set data.video to a film.")
    return streams[0]


def origin_s(container: Any) -> float:
    """Return the time stamp at which the file begins, in seconds: 0 in most, not in a transport stream."""
    return float(container.start_time or 0) / 1e6


def check_length(path: Path, film_s: float, start_s: float, needed_s: float) -> None:
    """Raise DataError unless the film covers needed_s seconds from start_s on."""
    if start_s < -SLACK_S or film_s + SLACK_S < start_s + needed_s:
        raise DataError(
            f"{path} lasts {film_s:.1f} s, but {needed_s:.1f} s from {start_s:.1f} s on are needed.",
            "Correct data.stimulus_offset_s, or say with split.usable_trs how much of the scan is to be used.",
        )


def _seconds(container: Any, path: Path) -> float:
    stream = next(iter([*_moving_pictures(container), *container.streams.audio]), None)
    if stream is None:
        raise DataError(f"{path} has neither pictures nor sound.", "Set data.video to a film.")
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return float(container.duration) / 1e6
    if container.format.name.endswith(("_pipe", "image2")):
        raise DataError(f"{path} is one picture, not a film.", "Set data.video to a film.")
    raise DataError(f"{path} does not say how long it is.", f"Rewrite it: ffmpeg -i {path.name} -c copy out.mp4")


def _stamps_on_screen(path: Path, moments_s: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Return (N,) time stamps of the frames on screen at the ascending moments, without decoding.

    A frame is on screen from its stamp until the next one, however long that is. Before the first stamp it is the first
    frame.
    """
    with opened(path) as container:
        stream = film_stream(container, path)
        packets = [p for p in container.demux(stream) if p.size and not p.is_discard]
        stamps = np.array(sorted(p.pts for p in packets if p.pts is not None), np.int64)
        times_s = stamps * float(stream.time_base) - origin_s(container)
    if len(stamps) < len(packets) or not len(stamps):
        raise DataError(
            f"{path} has frames without time stamps.", f"Rewrite it: ffmpeg -fflags +genpts -i {path.name} out.mp4"
        )
    longest_s = float(np.diff(times_s).max(initial=0.0))
    if len(moments_s) and times_s[-1] + longest_s + SLACK_S < moments_s[-1]:
        raise DataError(
            f"{path} breaks off at {times_s[-1]:.1f} s of its {film_seconds(path):.1f} s.", "Copy it again."
        )
    shown_N = np.searchsorted(times_s - STAMP_ROUNDING_S, moments_s, side="right") - 1
    return np.asarray(stamps[shown_N.clip(min=0)])


def _decoded(path: Path, stamps: frozenset[int]) -> Iterator[Any]:
    """Yield the frames with the given stamps, in order. Frames that no one needs are not decoded."""
    with opened(path) as container:
        stream = film_stream(container, path)
        stream.thread_type = "AUTO"
        for packet in container.demux(stream):
            needed = packet.pts is None or packet.pts in stamps
            stream.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"
            yield from (frame for frame in packet.decode() if frame.pts in stamps)


def video_features(frames_TKHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (T, F): one row per TR, the mean over its frames; `feature_names` names the columns.

    Over the whole picture and in 12 cells: luminance, contrast (the standard deviation of luminance), motion (the
    change of luminance since the frame before), saturation, red against green, blue against yellow; edge energy at
    four orientations in 24 cells. Motion and edges in cells are square roots because of their long tails.
    """
    n_trs = len(frames_TKHWC)
    features_TF = np.empty((n_trs, len(feature_names())), np.float32)
    luma_before_HW: Pictures | None = None
    for first in range(0, n_trs, CHUNK_TRS):
        chunk = frames_TKHWC[first : first + CHUNK_TRS]
        light_NHWC = chunk.reshape(-1, *chunk.shape[2:]).astype(np.float32) / np.float32(255.0)
        luma_NHW = light_NHWC @ LUMA
        earlier_NHW = np.concatenate([luma_NHW[:1] if luma_before_HW is None else luma_before_HW[None], luma_NHW[:-1]])
        features_NF = _frame_features(light_NHWC, luma_NHW, np.abs(luma_NHW - earlier_NHW))
        features_TF[first : first + len(chunk)] = features_NF.reshape(*chunk.shape[:2], -1).mean(axis=1)
        luma_before_HW = luma_NHW[-1]
    return features_TF


def feature_names() -> tuple[str, ...]:
    """Return the column names of `video_features`."""
    cells = [f"{i}_{j}" for i in range(CELLS[0]) for j in range(CELLS[1])]
    edge_cells = [f"{i}_{j}" for i in range(EDGE_CELLS[0]) for j in range(EDGE_CELLS[1])]
    local = [f"{name}_{cell}" for name in WHOLE for cell in cells]
    return (*WHOLE, *local, *(f"{name}_edges_{cell}" for name in ORIENTATIONS for cell in edge_cells))


def _frame_features(light_NHWC: Pictures, luma_NHW: Pictures, motion_NHW: Pictures) -> Pictures:
    """Return (N, F) features of single frames, in the order of `feature_names`."""
    red, green, blue = (light_NHWC[..., c] for c in range(3))
    saturation_NHW = light_NHWC.max(axis=-1) - light_NHWC.min(axis=-1)
    opponent = (saturation_NHW, red - green, blue - (red + green) / np.float32(2.0))
    whole = [luma_NHW.mean(axis=(1, 2)), luma_NHW.std(axis=(1, 2)), motion_NHW.mean(axis=(1, 2))]
    whole += [image.mean(axis=(1, 2)) for image in opponent]
    luma_NC = _cell_means(luma_NHW, CELLS)
    contrast_NC = np.sqrt(np.maximum(_cell_means(luma_NHW**2, CELLS) - luma_NC**2, 0.0))
    local = [luma_NC, contrast_NC, np.sqrt(_cell_means(motion_NHW, CELLS))]
    local += [_cell_means(image, CELLS) for image in opponent]
    edges = [np.sqrt(_cell_means(energy, EDGE_CELLS)) for energy in _edge_energies(luma_NHW)]
    return np.concatenate([np.stack(whole, axis=1), *local, *edges], axis=1)


def _edge_energies(luma_NHW: Pictures) -> list[Pictures]:
    """Return the edge strength at each of `ORIENTATIONS`; a gradient is shared between the two nearest orientations."""
    rise_y, rise_x = np.gradient(luma_NHW, axis=(1, 2))
    strength_NHW = np.hypot(rise_x, rise_y)
    step = np.arctan2(rise_y, rise_x) * np.float32(len(ORIENTATIONS) / np.pi)
    energies = []
    for o in range(len(ORIENTATIONS)):
        away = np.abs((step - o + 2.0) % len(ORIENTATIONS) - 2.0)
        energies.append(strength_NHW * np.maximum(1.0 - away, 0.0))
    return energies


def _cell_means(image_NHW: Pictures, cells: tuple[int, int]) -> Pictures:
    """Return (N, I·J) means over a coarse grid of cells."""
    rows = np.array_split(image_NHW, cells[0], axis=1)
    means = [cell.mean(axis=(1, 2)) for row in rows for cell in np.array_split(row, cells[1], axis=2)]
    return np.stack(means, axis=1)
