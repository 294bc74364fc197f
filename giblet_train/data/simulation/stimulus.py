"""The stimulus side of a demo study: film and annotations put in its folder, and read back as true features.

Shapes: T TRs, F features.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
import msgspec
import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.annotations import Segment, read_annotations
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

Progress = Callable[[str, float], None]

FILM, ANNOTATIONS = "film.mp4", "annotations.xlsx"
CREDIT = "Big Buck Bunny, © 2008 Blender Foundation, www.bigbuckbunny.org, CC BY 3.0"
FRAMES_HZ, FRAME_HEIGHT, FRAME_WIDTH = 2.0, 36, 64
MEL_BANDS = 64
TEXT_MODEL = "all-minilm-l6-v2"
SPARE_S = 1.0


class FilmFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was shown. source: real, given or generated. seconds: of one run. runs: how often it is shown."""

    source: str
    sha256: str
    seconds: float
    runs: int
    credit: str


@dataclass(frozen=True)
class SimulatedStimulus:
    """How a film is shown.

    scan_lengths_trs: TRs of each scan. repeated: it starts again until the scans are over. generated: one made for the
    occasion is enough.
    """

    scan_lengths_trs: tuple[int, ...]
    tr_s: float
    seed: int
    repeated: bool
    generated: bool

    @property
    def n_trs(self) -> int:
        """T: TRs of all scans."""
        return sum(self.scan_lengths_trs)

    @property
    def seconds(self) -> float:
        """How long all scans last."""
        return self.n_trs * self.tr_s


def prepare_stimulus(
    folder: Path, given: Path | None, showing: SimulatedStimulus, progress: Progress
) -> tuple[FilmFacts, dict[str, NDArray[np.float64]]]:
    """Put film and annotations into `folder`. Returns what was shown, and the true features (T, F) of what it holds.

    Raises DataError for a given film that is missing, too short or without annotations.
    """
    film = _chosen_film(folder, given, showing, progress)
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


def _chosen_film(folder: Path, given: Path | None, showing: SimulatedStimulus, progress: Progress) -> Film:
    if given is not None:
        return _with_shots(user_film(given), showing.tr_s)
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
    """A given film with its annotations: ours for the film that we know, else those in the file beside it."""
    if film.sha256 == FILM_SHA256:
        return replace(film, source="real", shots=demo_shot_list())
    beside = film.path.with_suffix(".csv")
    if not beside.is_file():
        raise DataError(
            f"{film.path} has no annotations: there is no {beside.name} beside it.",
            "Describe its shots there: start_s,end_s,detail,names_all,location.",
        )
    return replace(film, shots=read_annotations(beside, tr_s).segments)


def _place(film: Path, to: Path, period_s: float, runs: int) -> None:
    """`film` at `to`: the same file where the disk allows a second name for it, or several runs of it in one file."""
    if runs > 1:
        _run_again(film, to, period_s, runs)
    elif film != to:
        try:
            os.link(film, to)
        except OSError:
            shutil.copyfile(film, to)


def _run_again(film: Path, to: Path, period_s: float, runs: int) -> None:
    """Several runs of a film in one file, each starting period_s after the one before; nothing is encoded anew.

    A packet that would come before the one already written, such as a sound codec's run-in, is left out.
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
    """The shots of every run, those that begin before the scans are over."""
    shifted = [
        replace(shot, start_s=shot.start_s + run * period_s, end_s=shot.end_s + run * period_s)
        for run in range(runs)
        for shot in shots
    ]
    return [shot for shot in shifted if shot.start_s < seconds]


def _read_back(folder: Path, showing: SimulatedStimulus, progress: Progress) -> dict[str, NDArray[np.float64]]:
    """The true features of the files as any reader finds them."""
    film, tr_s, n_trs = folder / FILM, showing.tr_s, showing.n_trs
    progress("reading the film's pictures", 0.05)
    frames_TKHWC = read_frames(film, tr_s, n_trs, FRAMES_HZ, FRAME_HEIGHT, FRAME_WIDTH, 0.0)
    progress("reading the film's sound", 0.35)
    mel_TSM = read_log_mel(film, tr_s, n_trs, MEL_BANDS, 0.0)
    progress("reading the annotations", 0.4)
    segments = read_annotations(folder / ANNOTATIONS, tr_s, showing.scan_lengths_trs).segments
    sentences_TE = embed_timeline(segments, tr_s, n_trs, 0.0, TEXT_MODEL)[:, :-1]
    return ground_truth_features(frames_TKHWC, mel_TSM, sentences_TE, tr_s)
