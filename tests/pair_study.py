"""Two generated films and brains that saw both; a model is trained on the first film alone."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.simulation import demo_study
from giblet_train.data.simulation.demo_study import TR_S, Size
from giblet_train.data.simulation.generated_film import generated_film
from giblet_train.data.simulation.group import draw_cohort
from giblet_train.data.simulation.regions import COARSE
from giblet_train.data.statistics import hrf
from giblet_train.schema.config import dump
from giblet_train.schema.config_loader import from_mapping
from giblet_train.schema.run_dir import RunDir
from giblet_train.training import process
from giblet_train.training.load_split import load_split

FIRST_TRS, SECOND_TRS = 126, 50
N_SUBJECTS = 3


@dataclass(frozen=True)
class PairStudy:
    """A trained run, and the film that it has not seen."""

    run_dir: Path
    workdir: Path
    folder: Path
    """The study: one film made of both, and scans of both."""
    first: Path
    second: Path
    """Films; a .csv of the same name has the annotations."""

    def truth(self, subject: str) -> NDArray[np.float32]:
        """Return the noiseless response (T, X, Y, Z) of a subject to both films, 0 outside the regions."""
        truth = np.load(self.folder / "truth.npz")
        description = json.loads((self.folder / "truth.json").read_text())
        features = {n[9:-3]: truth[n].astype(float) for n in truth if n.startswith("features_")}
        lengths = (FIRST_TRS, SECOND_TRS)
        size = Size(COARSE, lengths, N_SUBJECTS, generated=True)
        cohort = draw_cohort(0, COARSE, *size.brain(), features, lengths, TR_S)
        prefix = f"{subject}_weights_"
        weights = {n[len(prefix) : -3]: truth[n] for n in truth if n.startswith(prefix)}
        peak_s = description["subjects"][int(subject[-2:]) - 1]["hrf_peak_s"]
        response_TR = cohort.cortex.respond(features, weights, hrf.double_gamma(peak_s, TR_S), lengths)
        grid = np.zeros((len(response_TR), *truth["region_XYZ"].shape), np.float32)
        grid[:, truth["region_XYZ"] > 0] = response_TR
        return grid


def make_pair_study(workdir: Path) -> PairStudy:
    """Simulate the study and train on the first film."""
    first, second = workdir / "first.mp4", workdir / "second.mp4"
    shots: list[Segment] = []
    for path, n_trs, seed, start_s in ((first, FIRST_TRS, 1, 0.0), (second, SECOND_TRS, 2, FIRST_TRS * TR_S)):
        film = generated_film(path, n_trs * TR_S, seed)
        write_shots(path.with_suffix(".csv"), film.shots, 0.0)
        shots += [(s.start_s + start_s, s.end_s + start_s, s.text) for s in film.shots]
    joint_film = workdir / "both.mp4"
    join_films((first, second), joint_film, FIRST_TRS * TR_S)
    with joint_film.with_suffix(".csv").open("w", newline="") as file:
        csv.writer(file).writerows([("start_s", "end_s", "detail"), *shots])
    folder = workdir / "study"
    with pytest.MonkeyPatch.context() as patch:
        size = Size(COARSE, (FIRST_TRS, SECOND_TRS), N_SUBJECTS, generated=True)
        patch.setattr(demo_study, "SIZES", {"tiny": size})
        demo_study.simulate_study(folder, "tiny", film=joint_film)
    run_dir = RunDir(workdir / "runs" / "pair-20261129-120000-0001")
    run_dir.path.mkdir(parents=True)
    run_dir.config.write_text(dump(configuration()))
    assert process.train(run_dir.path, load_split) == 0
    return PairStudy(run_dir.path, workdir, folder, first, second)


def configuration():
    """Return a configuration that trains in seconds."""
    return from_mapping(
        {
            "name": "pair",
            "threads": 1,
            "device": "cpu",
            "num_epochs": 1,
            "steps_per_epoch": 4,
            "warmup_steps": 2,
            "batch_size": 2,
            "weight_decay": 8.0,
            "data": {
                "data_dir": "study",
                "video": "film.mp4",
                "annotations": "annotations.xlsx",
                "bold": "bold/sub-{subject:02d}.nii.gz",
                "tr": TR_S,
                "scan_lengths_trs": [FIRST_TRS, SECOND_TRS],
            },
            "split": {"usable_trs": FIRST_TRS, "validation_trs": 20, "gap_trs": 12},
            "model": {"dropout": 0.5, "start_nonlinear": False},
        }
    ).config


def write_shots(path: Path, shots: Sequence[Segment], start_s: float) -> None:
    """Write annotations as a table."""
    with path.open("w", newline="") as file:
        rows = [(s.start_s + start_s, s.end_s + start_s, s.text) for s in shots]
        csv.writer(file).writerows([("start_s", "end_s", "detail"), *rows])


def join_films(films: Sequence[Path], out: Path, period_s: float) -> None:
    """Put films into one file, the second period_s after the first, without encoding them again."""
    latest: dict[int, float] = {}
    with av.open(str(out), "w", options={"fflags": "+bitexact"}) as output:
        copies = {}
        for n, film in enumerate(films):
            with av.open(str(film)) as source:
                streams = [source.streams.video[0], source.streams.audio[0]]
                for stream in streams:
                    if stream.index not in copies:
                        copies[stream.index] = output.add_stream_from_template(stream)
                for packet in source.demux(streams):
                    if packet.dts is None or packet.pts is None:
                        continue
                    shift, index = round(n * period_s / packet.time_base), packet.stream.index
                    if packet.dts + shift <= latest.get(index, -math.inf):
                        continue
                    latest[index] = packet.dts + shift
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = copies[index]
                    output.mux(packet)
