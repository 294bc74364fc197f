"""Draw a film of moving shapes with matching tones and captions, for use when no real film is available.

`generated_film(path, seconds, seed) -> Film`. Picture, sound and caption match: the caption names shape and colour, the
shape sets the pitch of the tone, the speed its loudness and beat.
Shapes: H W C rows, columns, colours of a frame, N samples of sound.
"""

from __future__ import annotations

import math
import wave
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.simulation.demo_film import Film, file_sha256
from giblet_train.schema.errors import ConfigError

SAMPLE_HZ = 16000
SCENE_S = (2.0, 6.0)
SCENE_GRID_HZ = 12
"""Scenes change at multiples of this, which the frames of each format share."""

COLOURS = {
    "red": (214, 50, 44),
    "orange": (238, 144, 32),
    "yellow": (246, 218, 68),
    "green": (62, 160, 70),
    "blue": (48, 92, 204),
    "violet": (138, 70, 178),
    "white": (240, 240, 236),
    "black": (22, 22, 26),
}
PLACES = {
    "meadow": (96, 150, 64),
    "night sky": (14, 18, 52),
    "desert": (214, 184, 128),
    "sea": (40, 110, 150),
    "snow field": (222, 228, 236),
    "cave": (44, 36, 32),
}
PITCHES_HZ = {"disc": 220.0, "square": 330.0, "ring": 495.0, "cross": 743.0}
SPEEDS = {"rests in": 0.0, "drifts across": 0.12, "runs across": 0.35, "darts across": 0.8}
"""How a shape moves -> the share of the picture's width that it crosses in a second."""


@dataclass(frozen=True)
class Scene:
    """One shot of a generated film."""

    start_s: float
    end_s: float
    place: str
    shape: str
    colour: str
    moves: str
    size: float
    """Radius of the shape, share of the picture's height."""
    heading: float
    """Direction of motion in radians."""
    x: float
    y: float

    def caption(self) -> str:
        """Describe all that is seen and heard in one sentence."""
        large = "large" if self.size > 0.25 else "small"
        beat = "steady" if SPEEDS[self.moves] == 0.0 else "beating"
        pitch = "low" if PITCHES_HZ[self.shape] < 400.0 else "high"
        return f"A {large} {self.colour} {self.shape} {self.moves} a {self.place} while a {pitch} {beat} tone is heard."


@dataclass(frozen=True)
class Format:
    """Size and rate of the pictures of a film, and how its sound is encoded."""

    height: int
    width: int
    frames_hz: int
    sound_codec: str

    @cached_property
    def pixels(self) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
        """Return the row and the column of each pixel, both (H, W)."""
        rows_HW, columns_HW = np.mgrid[0 : self.height, 0 : self.width]
        return rows_HW, columns_HW


USUAL = Format(90, 160, 12, "aac")
SMALL = Format(36, 64, 4, "mp2")
"""A tenth of the work, for studies that must be made in seconds."""


def generated_film(
    path: Path, seconds: float, seed: int = 0, *, form: Format = USUAL, first_s: float = 0.0, silent: bool = False
) -> Film:
    """Write a film of `seconds` to `path` (.mp4), with picture, sound and a caption for every shot.

    The same arguments give the same film. Raises ConfigError for a length below one frame, OSError from writing.

    Args:
        first_s: Second of the seed's endless film at which this one begins, so that parts of it may overlap.
        silent: True for a film without sound.
    """
    if seconds * form.frames_hz < 1.0:
        raise ConfigError(f"A film of {seconds:g} s has no picture.", "Ask for more seconds.")
    scenes = _part(_scenes(first_s + seconds, np.random.default_rng(seed)), first_s)
    aside = path.with_name(f".{path.name}.writing{path.suffix}")
    try:
        _encode(aside, scenes, seconds, form, silent)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return Film(path, "generated", file_sha256(path), _shots(scenes))


def generated_sound(path: Path, seconds: float, seed: int = 0) -> Film:
    """Write the sound of a generated film alone, as uncompressed .wav. Raises OSError."""
    scenes = tuple(_scenes(seconds, np.random.default_rng(seed)))
    wave_N = (32767 * _wave(scenes, 0, round(seconds * SAMPLE_HZ))).astype("<i2")
    with open(path, "wb") as file, wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SAMPLE_HZ)
        sound.writeframes(wave_N.tobytes())
    return Film(path, "generated", file_sha256(path), _shots(scenes))


def _shots(scenes: Sequence[Scene]) -> tuple[Segment, ...]:
    return tuple(
        Segment(s.start_s, s.end_s, s.caption(), f"{s.colour} {s.shape}", s.place, in_outdoor="Outdoor", music="Yes")
        for s in scenes
    )


def _part(scenes: Iterable[Scene], first_s: float) -> tuple[Scene, ...]:
    """Return the scenes from a second on, which becomes second 0. A scene that has begun moves on from where it was."""
    return tuple(replace(s, start_s=s.start_s - first_s, end_s=s.end_s - first_s) for s in scenes if s.end_s > first_s)


def _scenes(seconds: float, rng: np.random.Generator) -> Iterator[Scene]:
    start_s = 0.0
    while start_s < seconds:
        end_s = min(seconds, start_s + round(float(rng.uniform(*SCENE_S)) * SCENE_GRID_HZ) / SCENE_GRID_HZ)
        yield Scene(
            start_s,
            end_s,
            place=str(rng.choice(list(PLACES))),
            shape=str(rng.choice(list(PITCHES_HZ))),
            colour=str(rng.choice(list(COLOURS))),
            moves=str(rng.choice(list(SPEEDS))),
            size=float(rng.choice([0.12, 0.18, 0.32, 0.42])),
            heading=float(rng.uniform(0.0, 2.0 * math.pi)),
            x=float(rng.uniform(0.2, 0.8)),
            y=float(rng.uniform(0.2, 0.8)),
        )
        start_s = end_s


def _encode(path: Path, scenes: tuple[Scene, ...], seconds: float, form: Format, silent: bool) -> None:
    """Encode as MPEG-4 and AAC or MP2: every FFmpeg writes these, and on one thread the same bytes each time."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        rate, block = form.frames_hz, form.frames_hz // 2
        video = container.add_stream("mpeg4", rate=rate, options={"qscale": "3", "flags": "+bitexact+qscale"})
        video.width, video.height, video.pix_fmt = form.width, form.height, "yuv420p"
        video.codec_context.thread_count = 1
        sounds = () if silent else (form.sound_codec,)
        streams = [
            container.add_stream(codec, rate=SAMPLE_HZ, layout="mono", options={"flags": "+bitexact"})
            for codec in sounds
        ]
        n_frames = math.floor(seconds * rate + 1e-6)
        for first in range(0, n_frames, block):
            stop = min(first + block, n_frames)
            for n in range(first, stop):
                frame = av.VideoFrame.from_ndarray(_drawn(scenes, n / rate, form), format="rgb24")
                frame.pts, frame.time_base = n, Fraction(1, rate)
                container.mux(video.encode(frame))
            for stream in streams:
                container.mux(stream.encode(_sound_frame(scenes, first / rate, stop / rate)))
        for stream in (video, *streams):
            container.mux(stream.encode(None))


def _scene_at(scenes: tuple[Scene, ...], time_s: float) -> Scene:
    return next((s for s in scenes if time_s < s.end_s), scenes[-1])


def _drawn(scenes: tuple[Scene, ...], time_s: float, form: Format) -> NDArray[np.uint8]:
    """Draw the scene, (H, W, C): its place, darker towards the ground, and its shape, which comes back if it leaves."""
    scene = _scene_at(scenes, time_s)
    rows_HW, columns_HW = form.pixels
    distance = SPEEDS[scene.moves] * (time_s - scene.start_s)
    centre_x = (scene.x + distance * math.cos(scene.heading)) % 1.0 * form.width
    centre_y = (scene.y + distance * math.sin(scene.heading)) % 1.0 * form.height
    size = scene.size * form.height
    inside_HW = _inside(scene.shape, np.abs(columns_HW - centre_x), np.abs(rows_HW - centre_y), size)
    shade_HW = 1.0 - 0.4 * rows_HW / form.height
    picture_HWC: NDArray[np.uint8] = (shade_HW[..., None] * PLACES[scene.place]).astype(np.uint8)
    picture_HWC[inside_HW] = COLOURS[scene.colour]
    return picture_HWC


def _inside(shape: str, dx_HW: NDArray[np.float64], dy_HW: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """Return True for each pixel, dx and dy pixels from the centre, that belongs to the shape."""
    distance_HW = np.hypot(dx_HW, dy_HW)
    inside: NDArray[np.bool_] = {
        "disc": distance_HW < radius,
        "square": np.maximum(dx_HW, dy_HW) < 0.85 * radius,
        "ring": (distance_HW < radius) & (distance_HW > 0.6 * radius),
        "cross": (np.minimum(dx_HW, dy_HW) < 0.28 * radius) & (np.maximum(dx_HW, dy_HW) < radius),
    }[shape]
    return inside


def _sound_frame(scenes: tuple[Scene, ...], first_s: float, stop_s: float) -> av.AudioFrame:
    """Return the sound from one second up to another."""
    start, end = (round(second * SAMPLE_HZ) for second in (first_s, stop_s))
    frame = av.AudioFrame.from_ndarray(_wave(scenes, start, end)[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SAMPLE_HZ, start, Fraction(1, SAMPLE_HZ)
    return frame


def _wave(scenes: tuple[Scene, ...], start: int, end: int) -> NDArray[np.float32]:
    """Return the samples from one number up to another, (N,)."""
    time_N = np.arange(start, end) / SAMPLE_HZ
    scene_N = np.array([s.end_s for s in scenes]).searchsorted(time_N, side="right").clip(max=len(scenes) - 1)
    wave_N = np.zeros(end - start, np.float32)
    for n in np.unique(scene_N):
        wave_N[scene_N == n] = _tone(scenes[n], time_N[scene_N == n])
    return wave_N


def _tone(scene: Scene, time_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a pitch with two overtones: the faster the louder and the quicker its beat, the larger the lower."""
    speed = SPEEDS[scene.moves]
    pitch_hz = PITCHES_HZ[scene.shape] * (0.5 if scene.size > 0.25 else 1.0)
    beat_N = 0.5 + 0.5 * np.cos(2.0 * math.pi * 5.0 * speed * (time_N - scene.start_s))
    tone_N = sum(np.sin(2.0 * math.pi * pitch_hz * k * time_N) / k for k in (1, 2, 3))
    return np.asarray((0.08 + 0.3 * speed) * beat_N * tone_N)
