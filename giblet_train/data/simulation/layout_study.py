"""Write the simulated study in the layout of a public data set, with the true table of runs.

OUT/study has the files as a lab would share them; OUT/truth.tsv is the true table of runs, and OUT/truth.json says what
else is true of them. Pictures and sound drive the brains; the text does not. T TRs, F features, V brain voxels, R
responsive voxels, X Y Z the grid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, floor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from giblet_train.data.atomic_dir import atomic_directory
from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.readers.lab_workbook import write_annotations
from giblet_train.data.readers.runs_table import Presentation, RunEntry, format_runs_table
from giblet_train.data.simulation.demo_film import Film
from giblet_train.data.simulation.generated_film import SMALL, generated_film, generated_sound
from giblet_train.data.simulation.ground_truth import ground_truth_features
from giblet_train.data.simulation.group import SimulatedGroup, draw_cohort
from giblet_train.data.simulation.layout_files import write_cifti, write_parcels, write_side_files
from giblet_train.data.simulation.noise import draw_noise
from giblet_train.data.simulation.regions import Grid, ellipsoid_brain
from giblet_train.data.simulation.scanner import draw_subject
from giblet_train.data.simulation.study_layouts import LAYOUTS, MadeRun, MadeStimulus, StudyLayout
from giblet_train.data.statistics import hrf
from giblet_train.data.stimulus.audio import read_log_mel
from giblet_train.data.stimulus.video import read_frames
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.progress import ProgressCallback

STUDY, TABLE, TRUTH = "study", "truth.tsv", "truth.json"
GRID = Grid((11, 13, 11), 18.0)
TSNR = 250.0
"""Quieter than a scanner, because the scans are short."""
FRAMES_HZ, HEIGHT, WIDTH, MEL_BANDS = 2.0, 18, 32, 16
NO_TEXT = 4

Clock = tuple[str, float]
"""Stimulus, and its second at which row 0 begins, less than a TR."""
Features = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Response:
    """One run of one subject, before it is written."""

    run: MadeRun
    percent_TV: NDArray[np.float32]
    """Signal and noise in percent of each voxel's mean."""


def simulate_layout(
    out: Path, name: str, *, seed: int = 0, progress: ProgressCallback = lambda _sentence, _share: None
) -> str:
    """Write the study of a layout at `out`; the same seed gives the same study. Returns its true table of runs.

    Raises ConfigError for an unknown layout and for a folder that is not empty.
    """
    if name not in LAYOUTS:
        raise ConfigError(f"There is no layout {name!r}.", f"Layouts are {', '.join(LAYOUTS)}.")
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not empty.", "Choose another folder.")
    with atomic_directory(out) as folder, threadpool_limits(1):
        table = _write(folder, LAYOUTS[name](), seed, progress)
        if out.exists():
            out.rmdir()
        folder.rename(out)
    return table


def describe_layouts() -> str:
    """Return a line for each layout."""
    return "".join(f"{name:14}{make().imitates}\n" for name, make in LAYOUTS.items())


def _write(folder: Path, layout: StudyLayout, seed: int, progress: ProgressCallback) -> str:
    study = folder / STUDY
    study.mkdir()
    progress("drawing the films", 0.0)
    films = {s.name: _write_stimulus(study, s, seed) for s in layout.stimuli}
    _write_annotations(study, layout, {name: film.shots for name, film in films.items()})
    progress("reading what drives the brains", 0.4)
    clocks = _clocks(layout)
    features = _features(layout, {name: film.path for name, film in films.items()}, clocks)
    cohort = draw_cohort(seed, GRID, *ellipsoid_brain(GRID), features, tuple(clocks.values()), layout.tr_s)
    for n, subject in enumerate(dict.fromkeys(run.subject for run in layout.runs), 1):
        progress(f"scanning {subject}", 0.5 + 0.5 * (n - 1) / len({run.subject for run in layout.runs}))
        runs = [run for run in layout.runs if run.subject == subject]
        _scan(study, layout, cohort, runs, _firsts(clocks), n)
    for path, text in layout.texts.items():
        (study / path).parent.mkdir(parents=True, exist_ok=True)
        (study / path).write_text(text)
    table = format_runs_table([_entry(study, run) for run in layout.runs], study)
    (folder / TABLE).write_text(table)
    (folder / TRUTH).write_text(json.dumps(_truth(layout, seed), indent=2) + "\n")
    return table


def _truth(layout: StudyLayout, seed: int) -> dict[str, object]:
    return {
        "layout": layout.name,
        "imitates": layout.imitates,
        "seed": seed,
        "tr_s": layout.tr_s,
        "stimuli": {s.name: {"file": s.file, "seconds": s.seconds, "kind": s.kind} for s in layout.stimuli},
        "runs": [asdict(run) for run in layout.runs],
        "note": "generated films, simulated brains that follow pictures and sound",
    }


def _entry(study: Path, run: MadeRun) -> RunEntry:
    return RunEntry(f"sub-{run.subject}", study / run.bold, run.session, run.task, run.run, run.presentations)


def _write_stimulus(study: Path, stimulus: MadeStimulus, seed: int) -> Film:
    path = study / stimulus.file
    path.parent.mkdir(parents=True, exist_ok=True)
    own_seed = 1000 * seed + stimulus.seed
    if stimulus.kind == "sound":
        return generated_sound(path, stimulus.seconds, own_seed)
    silent = stimulus.kind == "silent film"
    return generated_film(path, stimulus.seconds, own_seed, form=SMALL, first_s=stimulus.first_s, silent=silent)


def _write_annotations(study: Path, layout: StudyLayout, shots: Mapping[str, Sequence[Segment]]) -> None:
    for stimulus in layout.stimuli:
        if stimulus.annotations is not None:
            path = study / stimulus.annotations
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_annotation_text(path.suffix, shots[stimulus.name]), encoding="utf-8")
    if layout.workbook is not None:
        lengths = [round(s.seconds / layout.tr_s) for s in layout.stimuli]
        starts_s = np.cumsum([0, *lengths[:-1]]) * layout.tr_s
        segments = [
            Segment(**(asdict(shot) | {"start_s": shot.start_s + start_s, "end_s": shot.end_s + start_s}))
            for stimulus, start_s in zip(layout.stimuli, starts_s.tolist(), strict=True)
            for shot in shots[stimulus.name]
        ]
        write_annotations(study / layout.workbook, segments, layout.tr_s, lengths)


def _annotation_text(kind: str, shots: Sequence[Segment]) -> str:
    if kind == ".srt":
        return "\n".join(
            f"{n}\n{_clock(s.start_s)} --> {_clock(s.end_s)}\n{s.detail}\n" for n, s in enumerate(shots, 1)
        )
    if kind == ".tsv":
        words = [
            f"{shot.start_s + n * 0.3:.3f}\t0.25\t{word}"
            for shot in shots
            for n, word in enumerate(shot.detail.split())
            if shot.start_s + n * 0.3 < shot.end_s
        ]
        return "\n".join(["onset\tduration\tword", *words, ""])
    rows = [f"{s.start_s:.3f},{s.end_s:.3f},{s.detail},{s.location}" for s in shots]
    return "\n".join(["start_s,end_s,detail,location", *rows, ""])


def _clock(second: float) -> str:
    """Format a second as subtitles do: `01:02:03,500`."""
    milliseconds = round(1000 * second)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d},{milliseconds % 1000:03d}"


def _clocks(layout: StudyLayout) -> dict[Clock, int]:
    """Return the rows of each clock at which a stimulus is shown."""
    seconds = {s.name: s.seconds for s in layout.stimuli}
    clocks = {_clock_of(p, layout.tr_s) for run in layout.runs for p in run.presentations}
    return {clock: floor((seconds[clock[0]] - clock[1]) / layout.tr_s + 1e-6) for clock in sorted(clocks)}


def _clock_of(presentation: Presentation, tr_s: float) -> Clock:
    phase_s = (presentation.start_s - presentation.onset_s) % tr_s
    return presentation.stimulus, round(0.0 if tr_s - phase_s < 1e-6 else phase_s, 6)


def _firsts(clocks: Mapping[Clock, int]) -> dict[Clock, tuple[int, int]]:
    """Return the first row of each clock in the features, and the row after its last."""
    stops = np.cumsum(list(clocks.values())).tolist()
    return {clock: (stop - n, stop) for (clock, n), stop in zip(clocks.items(), stops, strict=True)}


def _features(layout: StudyLayout, files: Mapping[str, Path], clocks: Mapping[Clock, int]) -> Features:
    """Return the true features of all clocks, one after another: group -> (T, F), standardised over all of them."""
    kinds = {s.name: s.kind for s in layout.stimuli}
    frames: list[NDArray[np.uint8]] = []
    sounds: list[NDArray[np.float32]] = []
    per_tr = max(1, round(FRAMES_HZ * layout.tr_s))
    for (name, start_s), n_trs in clocks.items():
        if kinds[name] == "sound":
            frames.append(np.zeros((n_trs, per_tr, HEIGHT, WIDTH, 3), np.uint8))
        else:
            frames.append(read_frames(files[name], layout.tr_s, n_trs, FRAMES_HZ, HEIGHT, WIDTH, start_s))
        if kinds[name] == "silent film":
            sounds.append(np.zeros_like(sounds[0]))
        else:
            sounds.append(read_log_mel(files[name], layout.tr_s, n_trs, MEL_BANDS, start_s))
    text_TE = np.zeros((sum(clocks.values()), NO_TEXT))
    return ground_truth_features(np.concatenate(frames), np.concatenate(sounds), text_TE, layout.tr_s)


def _scan(
    study: Path,
    layout: StudyLayout,
    cohort: SimulatedGroup,
    runs: Sequence[MadeRun],
    rows: Mapping[Clock, tuple[int, int]],
    number: int,
) -> None:
    """Write all runs of one subject."""
    rng = np.random.default_rng([cohort.seed, number])
    subject, tr_s = draw_subject(rng, number), layout.tr_s
    weights_FR = cohort.cortex.own_weights(rng, cohort.responsive_maps)
    kernel_K = hrf.double_gamma(subject.hrf_peak_s, tr_s)
    before = [_trs_before(run, tr_s) for run in runs]
    lengths = tuple(n + run.n_trs for n, run in zip(before, runs, strict=True))
    response_by_group = {
        group: np.concatenate([_seen(x_TF, run, n, rows, tr_s) for n, run in zip(before, runs, strict=True)])
        for group, x_TF in cohort.features_TF.items()
    }
    response_TR = cohort.cortex.respond(response_by_group, weights_FR, kernel_K, lengths)
    parts = np.split(response_TR, np.cumsum(lengths)[:-1])
    head = cohort.scanner.draw_head(rng, subject)
    responses = []
    for run, n, part_TR in zip(runs, before, parts, strict=True):
        percent_TV = draw_noise(rng, cohort.scanner.maps, run.n_trs, tr_s).values_TV * np.float32(100.0 / TSNR)
        percent_TV[:, cohort.region_of_V > 0] += part_TR[n:]
        responses.append(Response(run, percent_TV))
    for response in responses:
        path = study / response.run.bold
        path.parent.mkdir(parents=True, exist_ok=True)
        values_TV = head.mean_V * (1.0 + response.percent_TV / np.float32(100.0))
        if layout.series == "cifti":
            write_cifti(path, values_TV, cohort.scanner.brain_XYZ, GRID, tr_s)
            continue
        if layout.series == "parcels":
            write_parcels(path, values_TV, cohort.region_of_V)
            continue
        cohort.scanner.record(path, rng, subject, head, response.percent_TV)
        write_side_files(path, layout, cohort.scanner.brain_XYZ, GRID, response.run.n_trs, rng)


def _trs_before(run: MadeRun, tr_s: float) -> int:
    """Return how many TRs of its stimulus a subject saw before the scan began."""
    return max(0, *(ceil(-p.onset_s / tr_s - 1e-6) for p in run.presentations), 0)


def _seen(
    x_TF: NDArray[np.float64], run: MadeRun, before: int, rows: Mapping[Clock, tuple[int, int]], tr_s: float
) -> NDArray[np.float64]:
    """Return the features at each TR of a run and the TRs before it; 0, their mean, without a stimulus."""
    seen_TF = np.zeros((before + run.n_trs, x_TF.shape[1]))
    for presentation in run.presentations:
        clock = _clock_of(presentation, tr_s)
        first, stop = rows[clock]
        second_s = presentation.start_s - presentation.onset_s - clock[1]
        start = before - round(second_s / tr_s)
        end = min(start + stop - first, len(seen_TF))
        if presentation.duration_s is not None:
            end = min(end, before + floor((presentation.onset_s + presentation.duration_s) / tr_s + 1e-6))
        begin = max(0, start)
        seen_TF[begin:end] = x_TF[first + begin - start : first + end - start]
    return seen_TF
