"""Eight layouts in which public data sets share films and scans: who saw what when, and how the files are named.

Each is tiny: minutes of film and a handful of subjects. `simulated_layout` writes one with simulated brains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from giblet_train.data.readers.runs_table import Presentation

StimulusKind = Literal["film", "silent film", "sound"]
SeriesKind = Literal["nifti", "cifti", "parcels"]


@dataclass(frozen=True)
class MadeStimulus:
    """A film or sound of a layout."""

    name: str
    file: str
    """Path in the study."""
    seconds: float
    seed: int
    """Stimuli with one seed are parts of one endless film."""
    kind: StimulusKind = "film"
    first_s: float = 0.0
    """Second of the endless film at which this one begins."""
    annotations: str | None = None
    """Path in the study: .csv, .srt or .tsv; None if there are none, or if a workbook has them."""


@dataclass(frozen=True)
class MadeRun:
    """One continuous scan of one subject."""

    subject: str
    """Label without prefix."""
    bold: str
    """Path in the study."""
    n_trs: int
    presentations: tuple[Presentation, ...] = ()
    session: str = ""
    task: str = ""
    run: str = ""


@dataclass(frozen=True)
class StudyLayout:
    """Content of a study in one layout."""

    name: str
    imitates: str
    """Public data sets that look like this."""
    tr_s: float
    stimuli: tuple[MadeStimulus, ...]
    runs: tuple[MadeRun, ...]
    series: SeriesKind = "nifti"
    workbook: str | None = None
    """Path of one workbook of the lab's 23 columns for all stimuli, whose seconds restart; None without."""
    sidecars: bool = False
    """True if each scan has a .json with its TR."""
    fmriprep: bool = False
    """True if each scan has a brain mask, confounds and a reference volume, as fMRIPrep writes them."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Path -> content of further text files."""


def _shown(stimulus: str, onset_s: float = 0.0) -> tuple[Presentation, ...]:
    return (Presentation(stimulus, onset_s),)


def _described(name: str) -> dict[str, str]:
    return {"dataset_description.json": f'{{"Name": "{name}, simulated", "BIDSVersion": "1.8.0"}}\n'}


def _sherlock() -> StudyLayout:
    """Return two parts of one film in two runs; two subjects were scanned for a shorter time."""
    tr_s, trs = 1.5, {"sherlockPart1": 130, "sherlockPart2": 150}
    onset_trs = {("02", "sherlockPart1"): -6}
    lost_trs = {("04", "sherlockPart2"): 20}
    runs = [
        MadeRun(
            subject,
            f"sub-{subject}/func/sub-{subject}_task-{task}_bold.nii.gz",
            n_trs + onset_trs.get((subject, task), 0) - lost_trs.get((subject, task), 0),
            _shown(task, onset_trs.get((subject, task), 0) * tr_s),
            task=task,
        )
        for subject in ("01", "02", "03", "04")
        for task, n_trs in trs.items()
    ]
    stimuli = [
        MadeStimulus(task, f"stimuli/{task}.mp4", n_trs * tr_s, seed=n) for n, (task, n_trs) in enumerate(trs.items())
    ]
    return StudyLayout(
        "sherlock",
        "Sherlock (Chen et al. 2017): two parts, one workbook of annotations, crops that differ between subjects",
        tr_s,
        tuple(stimuli),
        tuple(runs),
        workbook="stimuli/annotations.xlsx",
        texts=_described("Sherlock"),
    )


def _studyforrest() -> StudyLayout:
    """Return eight short runs whose films overlap by eight seconds."""
    tr_s, segment_s, overlap_s = 2.0, 120.0, 8.0
    stimuli = [
        MadeStimulus(f"fg_av_seg{n}", f"stimuli/fg_av_seg{n}.mkv", segment_s, 11, first_s=n * (segment_s - overlap_s))
        for n in range(8)
    ]
    runs = [
        MadeRun(
            subject,
            f"sub-{subject}/ses-movie/func/sub-{subject}_ses-movie_task-movie_run-{n + 1}_bold.nii.gz",
            round(segment_s / tr_s),
            _shown(f"fg_av_seg{n}"),
            session="movie",
            task="movie",
            run=str(n + 1),
        )
        for subject in ("01", "02", "03")
        for n in range(8)
    ]
    return StudyLayout(
        "studyforrest",
        "StudyForrest (Hanke et al. 2016): one film in eight runs whose parts overlap; no annotations",
        tr_s,
        tuple(stimuli),
        tuple(runs),
        texts=_described("StudyForrest"),
        sidecars=True,
    )


def _cneuromod() -> StudyLayout:
    """Return means of parcels, all runs of a subject in one file; one subject lacks an episode."""
    tr_s, trs = 1.49, {"s01e01a": 130, "s01e01b": 120, "s01e02a": 125}
    stimuli = [
        MadeStimulus(
            task, f"stimuli/friends_{task}.mkv", n_trs * tr_s + 0.5, 20 + n, annotations=f"stimuli/friends_{task}.srt"
        )
        for n, (task, n_trs) in enumerate(trs.items())
    ]
    runs = [
        MadeRun(
            subject,
            f"fmri/sub-{subject}_task-friends_space-MNI152NLin2009cAsym_atlas-Schaefer18_parcels_bold.h5"
            f"::ses-{'001' if n < 2 else '002'}_task-{task}",
            n_trs + 2,
            _shown(task),
            session="001" if n < 2 else "002",
            task=task,
        )
        for subject in ("01", "02", "03")
        for n, (task, n_trs) in enumerate(trs.items())
        if (subject, task) != ("03", "s01e02a")
    ]
    return StudyLayout(
        "cneuromod",
        "CNeuroMod and Algonauts 2025: parcels in .h5, an episode per task, subtitles, a missing run",
        tr_s,
        tuple(stimuli),
        tuple(runs),
        series="parcels",
        texts={"fmri/task-friends_bold.json": '{"RepetitionTime": 1.49}\n'},
    )


def _hcp7t() -> StudyLayout:
    """Return runs of several clips with rest between them; the last clip of each run is the same."""
    tr_s, rest_s = 1.0, 20.0
    clip_s = {"twomen": 90.0, "bridgeville": 70.0, "pockets": 80.0, "inception": 75.0, "testretest": 60.0}
    clips_of = {
        "MOVIE1_AP": ("twomen", "bridgeville", "testretest"),
        "MOVIE2_PA": ("pockets", "inception", "testretest"),
    }
    stimuli = [MadeStimulus(name, f"clips/{name}.mp4", s, 30 + n) for n, (name, s) in enumerate(clip_s.items())]
    texts, runs = {}, []
    for task, clips in clips_of.items():
        onset_s, presentations = rest_s, []
        for clip in clips:
            presentations.append(Presentation(clip, onset_s))
            onset_s += clip_s[clip] + rest_s
        lines = [f"{p.onset_s:g}\t{clip_s[p.stimulus]:g}\tclips/{p.stimulus}.mp4" for p in presentations]
        texts[f"clips/{task}_events.tsv"] = "\n".join(["onset\tduration\tstim_file", *lines, ""])
        for subject in ("100610", "102311", "104416"):
            name = f"tfMRI_{task[:-3]}_7T{task[-3:]}"
            path = f"{subject}/MNINonLinear/Results/{name}/{name}_Atlas_1.6mm_hp2000_clean.dtseries.nii"
            runs.append(MadeRun(subject, path, round(onset_s / tr_s), tuple(presentations), task=task))
    return StudyLayout(
        "hcp7t",
        "HCP 7T films: grayordinates (CIFTI), clips with rest between them, one clip repeated in each run",
        tr_s,
        tuple(stimuli),
        tuple(runs),
        series="cifti",
        texts=texts,
    )


def _nndb() -> StudyLayout:
    """Return subjects who saw one film each."""
    tr_s, seconds = 1.0, {"500daysofsummer": 170.0, "citizenfour": 210.0}
    stimuli = [
        MadeStimulus(name, f"stimuli/{name}.mp4", s, 40 + n, annotations=f"stimuli/{name}.csv")
        for n, (name, s) in enumerate(seconds.items())
    ]
    film_of = dict(zip(("1", "2", "3", "10", "11", "12"), ("500daysofsummer", "citizenfour") * 3, strict=True))
    runs = [
        MadeRun(
            subject,
            f"sub-{subject}/func/sub-{subject}_task-{film}_bold_blur_censor.nii.gz",
            round(seconds[film] / tr_s),
            _shown(film),
            task=film,
        )
        for subject, film in film_of.items()
    ]
    return StudyLayout(
        "nndb",
        "NNDb (Aliko et al. 2020): each subject saw one film; AFNI's names",
        tr_s,
        tuple(stimuli),
        tuple(runs),
        texts=_described("NNDb"),
    )


def _narratives() -> StudyLayout:
    """Return stories that are heard, after a silence whose length differs between the stories."""
    tr_s = 1.5
    stories = {"pieman": (190.0, 12.0, 9.0), "tunnel": (216.0, 3.0, 12.0)}
    stimuli = [
        MadeStimulus(name, f"stimuli/{name}_audio.wav", s, 50 + n, "sound", annotations=f"stimuli/{name}_words.tsv")
        for n, (name, (s, _, _)) in enumerate(stories.items())
    ]
    runs = [
        MadeRun(
            subject,
            f"sub-{subject}/func/sub-{subject}_task-{task}_bold.nii.gz",
            round((seconds + before_s + after_s) / tr_s),
            _shown(task, before_s),
            task=task,
        )
        for subject in ("001", "002", "016", "075")
        for task, (seconds, before_s, after_s) in stories.items()
        if (subject, task) != ("075", "tunnel")
    ]
    return StudyLayout(
        "narratives",
        "Narratives (Nastase et al. 2021): stories and words without pictures, silence before each story",
        tr_s,
        tuple(stimuli),
        tuple(runs),
        texts=_described("Narratives"),
    )


def _dartmouth() -> StudyLayout:
    """Return fMRIPrep derivatives with fixation around each run, and subject labels that are text."""
    tr_s = 1.0
    parts = {"1": (150.0, 10.0, 10.0), "2": (160.0, 14.0, 10.0), "3": (140.0, 10.0, 10.0)}
    stimuli = [
        MadeStimulus(
            f"budapest_part{n}",
            f"stimuli/budapest_part{n}.mp4",
            s,
            60 + int(n),
            annotations=f"stimuli/budapest_part{n}.srt",
        )
        for n, (s, _, _) in parts.items()
    ]
    runs = [
        MadeRun(
            subject,
            f"sub-{subject}/func/sub-{subject}_task-movie_run-0{n}_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz",
            round((seconds + before_s + after_s) / tr_s),
            _shown(f"budapest_part{n}", before_s),
            task="movie",
            run=f"0{n}",
        )
        for subject in ("sid000005", "sid000007", "sid000009")
        for n, (seconds, before_s, after_s) in parts.items()
    ]
    return StudyLayout(
        "dartmouth",
        "Budapest and Raiders (Dartmouth): fMRIPrep derivatives, labels such as sid000005, fixation in each run",
        tr_s,
        tuple(stimuli),
        tuple(runs),
        fmriprep=True,
        sidecars=True,
        texts=_described("Budapest"),
    )


def _hbn() -> StudyLayout:
    """Return two short films and a resting run; one subject lacks a film."""
    tr_s, trs = 0.8, {"movieDM": 240, "movieTP": 200, "rest": 120}
    stimuli = [
        MadeStimulus(task, f"stimuli/{task}.mp4", trs[task] * tr_s, 70 + n, "film", annotations=f"stimuli/{task}.csv")
        for n, task in enumerate(("movieDM", "movieTP"))
    ]
    runs = [
        MadeRun(
            subject,
            f"sub-{subject}/func/sub-{subject}_task-{task}_bold.nii.gz",
            n_trs,
            () if task == "rest" else _shown(task),
            task=task,
        )
        for subject in ("NDARAA306NT2", "NDARAB977LP4", "NDARBF805EHN", "NDARCD182XT1")
        for task, n_trs in trs.items()
        if (subject, task) != ("NDARBF805EHN", "movieTP")
    ]
    return StudyLayout(
        "hbn",
        "Healthy Brain Network: labels such as NDARAA306NT2, two films, rest, a missing run",
        tr_s,
        tuple(stimuli),
        tuple(runs),
        sidecars=True,
        texts=_described("HBN"),
    )


LAYOUTS: Mapping[str, Callable[[], StudyLayout]] = {
    "sherlock": _sherlock,
    "studyforrest": _studyforrest,
    "cneuromod": _cneuromod,
    "hcp7t": _hcp7t,
    "nndb": _nndb,
    "narratives": _narratives,
    "dartmouth": _dartmouth,
    "hbn": _hbn,
}
"""Name -> layout."""
