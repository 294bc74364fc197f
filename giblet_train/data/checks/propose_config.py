"""Propose a configuration for a folder with scans and a film, a sound or annotations: `giblet init NODE FOLDER`.

What the files determine is filled in; what a person must decide gets a comment. Runs on the node that has the files.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel

from giblet_train.data.discover.inventory import FILMS, SOUNDS
from giblet_train.data.readers.bids import BOLD, CONFOUNDS, FOLDERS
from giblet_train.data.readers.folder import require_folder
from giblet_train.data.readers.sidecar import read_sidecar
from giblet_train.data.stimulus.video import film_seconds
from giblet_train.schema.config import NAME_PATTERN
from giblet_train.schema.config_loader import load
from giblet_train.schema.errors import ConfigError, DataError

ANNOTATIONS = (".xlsx", ".csv", ".srt", ".vtt")
DEEPEST = 5
"""Levels of folders that are searched."""
PREFERRED_SPACE = "MNI152NLin2009cAsym"
GAP_S = 20.0
"""Gap around held-out blocks: longer than the response to an event."""
SHORT_STUDY_TRS = 300
"""Shorter studies get fewer folds and a shorter validation block."""
CRITERIA = """\
criteria:                        # what this run must show; without criteria there is no verdict
  loss_drop: {kind: loss_drop, threshold: 0.05}
  beats_null: {kind: beats_null, threshold: 0.02, split: held-out}
  reconstruction: {kind: reconstruction_skill, threshold: 0.0, split: held-out}
"""


@dataclass(frozen=True)
class Scans:
    """Where the scans of all subjects are."""

    keys: tuple[str, ...]
    """Lines of the `data` section that name them."""
    runs: tuple[Path, ...]
    """Files of the first subject, in the order of the scans."""
    n_subjects: int
    layout: str


@dataclass(frozen=True)
class Stimulus:
    """Film, sound and annotations that a folder contains."""

    kind: str
    """film, sound or none."""
    media: Path | None
    others: tuple[Path, ...]
    """Films or sounds that are not used."""
    annotations: str | None


def propose_config(folder: Path, name: str) -> str:
    """Return a configuration for the study in `folder` as YAML with comments, checked as `config check` would.

    Raises ConfigError for a bad name or folder, DataError if scans or all of film, sound and annotations are missing.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(f"{name!r} cannot name a run.", "Use at most 40 of a-z, 0-9, _ and -.")
    require_folder(folder)
    files = sorted(_files(folder))
    scans = _bids_scans(folder) or _lab_scans(folder, files)
    stimulus = _stimulus(folder, files, scans)
    text = "\n".join(_lines(folder, name, scans, stimulus))
    _check(text, name)
    return text


def _lines(folder: Path, name: str, scans: Scans, stimulus: Stimulus) -> Iterator[str]:
    tr_s, lengths = _timing(scans.runs)
    n_trs = sum(lengths)
    seconds = None if stimulus.media is None else film_seconds(stimulus.media)
    film_trs = n_trs if seconds is None else min(n_trs, math.floor(seconds / tr_s))
    what = "no film and no sound" if seconds is None else f"{stimulus.kind} of {seconds:.0f} s"
    yield f"# {scans.n_subjects} subjects, {n_trs} TRs of {tr_s:g} s, {what}."
    yield from ("extends: base", f"name: {name}", "stage: test", "num_epochs: 20", "", "data:")
    yield f"  data_dir: {_scalar(str(folder))}"
    yield f"  layout: {scans.layout}"
    media = "null" if stimulus.media is None else _scalar(_relative(stimulus.media, folder))
    yield f"  video: {media if stimulus.kind == 'film' else 'null'}"
    if stimulus.kind == "sound":
        yield f"  audio: {media}"
    yield from (f"                                 # not used: {_relative(path, folder)}" for path in stimulus.others)
    yield f"  annotations: {_scalar(stimulus.annotations) if stimulus.annotations else 'null'}"
    yield from scans.keys
    yield f"  tr: {tr_s:g}"
    if len(lengths) > 1:
        yield f"  scan_lengths_trs: {list(lengths)}"
    yield "  stimulus_offset_s: 0.0         # film time of the first volume; or auto, see `giblet data lag`"
    yield from _split_lines(tr_s, n_trs, film_trs)
    yield from ("", CRITERIA)


def _split_lines(tr_s: float, n_trs: int, film_trs: int) -> Iterator[str]:
    yield from ("", "split:")
    if film_trs < n_trs:
        yield f"  usable_trs: {film_trs}               # the film is shorter than the scans"
    yield f"  gap_trs: {math.ceil(GAP_S / tr_s)}"
    if film_trs < SHORT_STUDY_TRS:
        yield "  n_folds: 4                     # a short study"
        yield f"  validation_trs: {max(10, film_trs // 8)}"


def _scalar(text: str) -> str:
    """Return a text as a YAML value, quoted if it must be."""
    return text if re.fullmatch(r"[A-Za-z0-9_./][A-Za-z0-9_./{}-]*", text) else json.dumps(text, ensure_ascii=False)


def _check(text: str, name: str) -> None:
    """Raise ConfigError if the proposal is not a valid configuration."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        path.write_text(text)
        load(path, folders=(Path(__file__).parents[2] / "configs",))


def _files(folder: Path) -> Iterator[Path]:
    """Yield all files in the folder, without hidden ones and without those too deep."""
    for current, folders, names in os.walk(folder):
        depth = len(Path(current).relative_to(folder).parts)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and depth < DEEPEST)
        yield from (Path(current) / name for name in names if not name.startswith("."))


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _stimulus(folder: Path, files: Sequence[Path], scans: Scans) -> Stimulus:
    """Return the largest film, or the largest sound without a film, and the annotations. Raises DataError."""
    annotations = _annotations(folder, files, scans)
    for kind, endings in (("film", FILMS), ("sound", SOUNDS)):
        media = sorted((p for p in files if p.suffix.lower() in endings), key=lambda p: -p.stat().st_size)
        if media:
            return Stimulus(kind, media[0], tuple(media[1:]), annotations)
    if annotations is None:
        raise DataError(
            "The folder has no film, no sound and no annotations.", f"Put one into it: {', '.join((*FILMS, *SOUNDS))}."
        )
    return Stimulus("none", None, (), annotations)


def _annotations(folder: Path, files: Sequence[Path], scans: Scans) -> str | None:
    """Return the name of the annotation file, relative to the folder; a pattern if there is one per run."""
    if scans.layout == "bids" and (events := _events_pattern(folder, files)):
        return events
    candidates = [p for p in files if p.suffix.lower() in ANNOTATIONS and "participants" not in p.name]
    candidates += [p for p in files if p.name.endswith("_events.tsv")]
    return _relative(candidates[0], folder) if candidates else None


def _events_pattern(folder: Path, files: Sequence[Path]) -> str:
    """Return the events file of a task at the root of the folder, with {run} if there is one per run; or ""."""
    names = [_relative(p, folder) for p in files if re.match(r"task-.*_events\.tsv$", p.name) and p.parent == folder]
    patterns = Counter(re.sub(r"_run-\d+_", "_run-{run}_", name) for name in names)
    return patterns.most_common(1)[0][0] if patterns else ""


def _bids_scans(folder: Path) -> Scans | None:
    """Return the scans of fMRIPrep derivatives under the folder; None if there are none."""
    files = [path for pattern in FOLDERS for path in sorted(folder.glob(f"{pattern}/*{BOLD}*"))]
    if not files:
        return None
    task = Counter(_entity(path, "task") for path in files).most_common(1)[0][0]
    spaces = Counter(_entity(path, "space") for path in files if _entity(path, "task") == task)
    space = PREFERRED_SPACE if PREFERRED_SPACE in spaces else spaces.most_common(1)[0][0]
    scan_files = [p for p in files if (_entity(p, "task"), _entity(p, "space")) == (task, space)]
    subjects = sorted({_entity(path, "sub") for path in scan_files})
    has_confounds = any(list(scan_files[0].parent.glob(f"*task-{task}*{ending}")) for ending in CONFOUNDS)
    confounds = ', confounds: ["trans_*", "rot_*", csf, white_matter]' if has_confounds else ""
    keys = (f"  bids: {{task: {task}, space: {space}{confounds}}}", "  subjects: all")
    runs = tuple(path for path in scan_files if _entity(path, "sub") == subjects[0])
    return Scans(keys, runs, len(subjects), "bids")


def _entity(path: Path, key: str) -> str:
    match = re.search(rf"(?:^|_){key}-([a-zA-Z0-9]+)", path.name)
    return match[1] if match else ""


def _lab_scans(folder: Path, files: Sequence[Path]) -> Scans:
    """Return the scans of a folder with one 4-D NIfTI file per subject."""
    images = [path for path in files if path.name.endswith((".nii", ".nii.gz")) and len(_shape(path)) == 4]
    groups: dict[str, list[Path]] = {}
    for path in images:
        for pattern in _patterns(_relative(path, folder)):
            groups.setdefault(pattern, []).append(path)
    if not groups:
        raise DataError(
            "The folder has no 4-D NIfTI file with the subject's number in its name.",
            "Use names such as bold/sub-01.nii.gz, or fMRIPrep's derivatives.",
        )
    pattern = max(groups, key=lambda pattern: len(groups[pattern]))
    expression = re.escape(pattern).replace(re.escape("{subject}"), r"\d+")
    scan_files = [path for path in images if re.fullmatch(expression, _relative(path, folder))]
    keys = (f"  bold: {_scalar(pattern)}", "  subjects: all")
    return Scans(keys, tuple(scan_files[:1]), len(scan_files), "lab")


def _patterns(name: str) -> set[str]:
    """Return the name with each of its numbers replaced by {subject} wherever that number occurs."""
    numbers: Mapping[str, None] = dict.fromkeys(re.findall(r"\d+", name))
    return {re.sub(rf"(?<!\d){number}(?!\d)", "{subject}", name) for number in numbers}


def _shape(path: Path) -> tuple[int, ...]:
    try:
        return tuple(nibabel.load(path).shape)
    except (OSError, ValueError, nibabel.filebasedimages.ImageFileError):
        return ()


def _timing(runs: Sequence[Path]) -> tuple[float, tuple[int, ...]]:
    """Return the TR in seconds, from the sidecar or the header, and the number of volumes of each run."""
    header = nibabel.load(runs[0]).header
    zoom = float(header.get_zooms()[3])
    seconds = zoom / 1000 if header.get_xyzt_units()[1] == "msec" or zoom > 100 else zoom
    tr_s = float(read_sidecar(runs[0]).get("RepetitionTime") or seconds)
    if not tr_s > 0:
        raise DataError(f"{runs[0]} has no TR in its header.", "Write the TR into data.tr of a configuration by hand.")
    return round(tr_s, 6), tuple(_shape(path)[3] for path in runs)
