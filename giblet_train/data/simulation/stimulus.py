"""The stimulus side of a demo study: film and annotations put in its folder, and read back as true features.

Shapes: T TRs, F features.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
import msgspec
import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.readers.annotations import read_annotations
from giblet_train.data.readers.lab_workbook import write_annotations
from giblet_train.data.simulation.demo_film import (
    FILM_SHA256,
    Film,
    FilmUnreachable,
    demo_shot_list,
    fetch_film,
    user_film,
)
from giblet_train.data.simulation.generated_film import generated_film
from giblet_train.data.simulation.ground_truth import ground_truth_features
from giblet_train.data.stimulus.audio import read_log_mel
from giblet_train.data.stimulus.text import embed_timeline
from giblet_train.data.stimulus.video import film_seconds, read_frames
from giblet_train.schema.errors import DataError
from giblet_train.schema.progress import ProgressCallback

FILM, ANNOTATIONS = "film.mp4", "annotations.xlsx"
CREDIT = "Big Buck Bunny, © 2008 Blender Foundation, www.bigbuckbunny.org, CC BY 3.0"
FRAMES_HZ, FRAME_HEIGHT, FRAME_WIDTH = 2.0, 36, 64
MEL_BANDS = 64
TEXT_MODEL = "all-minilm-l6-v2"
SPARE_S = 1.0


class FilmFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of the film that was shown."""

    source: str
    """`real`, `given` or `generated`."""
    sha256: str
    seconds: float
    """Duration of one showing."""
    runs: int
    """Number of showings."""
    credit: str


@dataclass(frozen=True)
class SimulatedStimulus:
    """How a film is shown."""

    scan_lengths_trs: tuple[int, ...]
    """TRs of each scan."""
    tr_s: float
    seed: int
    repeated: bool
    """True if the film starts again until the scans are over."""
    generated: bool
    """True if a generated film is enough."""

    @property
    def n_trs(self) -> int:
        """Return T, the TRs of all scans."""
        return sum(self.scan_lengths_trs)

    @property
    def seconds(self) -> float:
        """Return the duration of all scans."""
        return self.n_trs * self.tr_s


def prepare_stimulus(
    folder: Path, user_film_path: Path | None, showing: SimulatedStimulus, progress: ProgressCallback
) -> tuple[FilmFacts, dict[str, NDArray[np.float64]]]:
    """Put film and annotations into `folder`. Returns what was shown, and the true features (T, F) of what it holds.

    Raises DataError for a given film that is missing, too short or without annotations.
    """
    film = _pick_film(folder, user_film_path, showing, progress)
    seconds = film_seconds(film.path)
    period_s = math.ceil(seconds / showing.tr_s) * showing.tr_s
    runs = math.ceil(showing.seconds / period_s) if showing.repeated else 1
    if runs * period_s < showing.seconds:
        raise DataError(
            f"{film.path} lasts {seconds:.1f} s, the scans {showing.seconds:.1f} s.", "Give a longer film with --film."
        )
    _place(film.path, folder / FILM, period_s, runs)
    segments = _repeated(film.shots, period_s, runs, showing.seconds)
    write_annotations(folder / ANNOTATIONS, segments, showing.tr_s, showing.scan_lengths_trs)
    credit = CREDIT if film.source == "real" else ""
    facts = FilmFacts(source=film.source, sha256=film.sha256, seconds=round(seconds, 3), runs=runs, credit=credit)
    return facts, _read_back(folder, showing, progress)


def _pick_film(
    folder: Path, user_film_path: Path | None, showing: SimulatedStimulus, progress: ProgressCallback
) -> Film:
    if user_film_path is not None:
        return _with_shots(user_film(user_film_path), showing.tr_s)
    own, seconds = folder / FILM, showing.seconds + SPARE_S
    if showing.generated:
        return generated_film(own, seconds, showing.seed)
    try:
        progress("fetching the film", 0.0)
        return fetch_film()
    except FilmUnreachable as error:
        progress(f"{error.message} A GENERATED FILM TAKES ITS PLACE: moving shapes, tones and captions.", 0.0)
        return generated_film(own, seconds, showing.seed)


def _with_shots(film: Film, tr_s: float) -> Film:
    """Return a given film with its annotations: ours for the known film, otherwise those in the .csv next to it."""
    if film.sha256 == FILM_SHA256:
        return replace(film, source="real", shots=demo_shot_list())
    annotations = film.path.with_suffix(".csv")
    if not annotations.is_file():
        raise DataError(
            f"{film.path} has no annotations: there is no {annotations.name} next to it.",
            "Describe its shots there: start_s,end_s,detail,names_all,location.",
        )
    return replace(film, shots=read_annotations(annotations, tr_s).segments)


def _place(film: Path, to: Path, period_s: float, runs: int) -> None:
    """Put `film` at `to`: as a hard link if possible, or repeated several times in one file."""
    if runs > 1:
        _run_again(film, to, period_s, runs)
    elif film != to:
        try:
            os.link(film, to)
        except OSError:
            shutil.copyfile(film, to)


def _run_again(film: Path, to: Path, period_s: float, runs: int) -> None:
    """Repeat a film in one file, each repeat starting period_s after the previous; nothing is encoded again.

    A packet that would precede one already written, such as a sound codec's run-in, is left out.
    """
    with av.open(str(to), "w", options={"fflags": "+bitexact"}) as output:
        for run in range(runs):
            with av.open(str(film)) as source:
                streams = [source.streams.video[0], *source.streams.audio[:1]]
                if run == 0:
                    copies = {stream.index: output.add_stream_from_template(stream) for stream in streams}
                    latest = {stream.index: -math.inf for stream in streams}
                for packet in source.demux(streams):
                    if packet.dts is None or packet.pts is None:
                        continue
                    shift, index = round(run * period_s / packet.time_base), packet.stream.index
                    if packet.dts + shift <= latest[index]:
                        continue
                    latest[index] = packet.dts + shift
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = copies[index]
                    output.mux(packet)


def _repeated(shots: Sequence[Segment], period_s: float, runs: int, seconds: float) -> list[Segment]:
    """Return the shots of every repeat, those that begin before the scans are over."""
    repeats = [
        replace(shot, start_s=shot.start_s + run * period_s, end_s=shot.end_s + run * period_s)
        for run in range(runs)
        for shot in shots
    ]
    return [shot for shot in repeats if shot.start_s < seconds]


def _read_back(folder: Path, showing: SimulatedStimulus, progress: ProgressCallback) -> dict[str, NDArray[np.float64]]:
    """Compute the true features from the written files, as any reader sees them."""
    film, tr_s, n_trs = folder / FILM, showing.tr_s, showing.n_trs
    progress("reading the film's pictures", 0.05)
    frames_TKHWC = read_frames(film, tr_s, n_trs, FRAMES_HZ, FRAME_HEIGHT, FRAME_WIDTH, 0.0)
    progress("reading the film's sound", 0.35)
    mel_TSM = read_log_mel(film, tr_s, n_trs, MEL_BANDS, 0.0)
    progress("reading the annotations", 0.4)
    segments = read_annotations(folder / ANNOTATIONS, tr_s, showing.scan_lengths_trs).segments
    sentences_TE = embed_timeline(segments, tr_s, n_trs, 0.0, TEXT_MODEL)[:, :-1]
    return ground_truth_features(frames_TKHWC, mel_TSM, sentences_TE, tr_s)
