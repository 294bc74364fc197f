"""Find the files of a study and hash their content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from giblet_train.data.readers.atlas import parcel_names_file
from giblet_train.data.readers.bids import BidsRun, bids_runs, events_files, select_subjects
from giblet_train.data.readers.model_folder import model_files, model_folder
from giblet_train.data.readers.runs_table import RunEntry, read_runs_table
from giblet_train.data.readers.series_path import SEPARATOR, files_of, split_dataset
from giblet_train.schema.config import Config, DataConfig, FeatureSource, StimulusConfig, nearest
from giblet_train.schema.errors import ConfigError, DataError, GibletError
from giblet_train.schema.progress import ProgressCallback
from giblet_train.schema.run_dir import replace_file

_missing: ContextVar[list[GibletError] | None] = ContextVar("missing", default=None)

HASH_CHUNK_BYTES = 4 * 1024 * 1024
FILM = "film"
"""Name of the stimulus in the short form, for features of a study without film and sound."""
STIMULUS = "{stimulus}"
"""What is replaced by the name of the stimulus in the name of a file of features."""
SUBJECT = re.compile(r"\{subject(?::0?\d*d)?\}")


def study_dir(config: Config, workdir: Path) -> Path:
    """Return the folder of a study's files: relative to the workdir, from / or from ~."""
    return workdir / Path(config.data.data_dir).expanduser()


@dataclass(frozen=True)
class StimulusFiles:
    """Files of one stimulus of a table of runs."""

    film: Path | None
    sound: Path | None
    annotations: Path | None
    features: Mapping[str, FeatureSource]
    """Feature space -> source, of those that are not giblet's own."""
    feature_files: Mapping[str, Path]
    """Feature space -> file of its features, or folder of its model."""
    annotations_scan: int | None = None
    """Part of the annotations that is about this stimulus, from 1; None for all of them."""

    def named(self, name: str) -> dict[str, Path]:
        """Return every file by its role."""
        files = {f"{name} film": self.film, f"{name} sound": self.sound, f"{name} annotations": self.annotations}
        path_by_role = {role: path for role, path in files.items() if path is not None}
        return path_by_role | _named_features(self.feature_files, f"{name} ")


@dataclass(frozen=True)
class Sources:
    """Files of a study."""

    film: Path | None
    """Film or sound of the short form; None without one, and with a table of runs."""
    annotations: tuple[Path, ...]
    """One file, one per run, or none."""
    bold: Mapping[str, tuple[Path, ...]]
    """Label ("sub-01") -> the file of each run."""
    mask: Path | None = None
    atlas: Path | None = None
    brain_masks: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    """Label -> fMRIPrep's brain mask of each run; no entry for a subject without any."""
    confounds: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    """Label -> fMRIPrep's confounds of each run."""
    features: Mapping[str, Path] = field(default_factory=dict)
    """Feature space -> file of its features, or folder of its model."""
    runs: tuple[RunEntry, ...] = ()
    """Runs of the table of runs; empty in the short form."""
    stimuli: Mapping[str, StimulusFiles] = field(default_factory=dict)
    """Stimuli of the table of runs."""
    sound: Path | None = None
    """Sound of the short form, if it is a file of its own."""

    def named(self) -> dict[str, Path]:
        """Return every file by its role, whatever its path."""
        media = {"film": self.film, "sound": self.sound}
        roles = {role: path for role, path in media.items() if path is not None}
        roles |= _numbered("annotations", self.annotations)
        roles |= _named_features(self.features)
        for name, stimulus in self.stimuli.items():
            roles |= stimulus.named(name)
        for subject, paths in self.bold.items():
            roles |= _numbered(subject, paths)
            roles |= _numbered(f"{subject} brain mask", self.brain_masks.get(subject, ()))
            roles |= _numbered(f"{subject} confounds", self.confounds.get(subject, ()))
        optional = {"mask": self.mask, "atlas": self.atlas, "parcel names": parcel_names_file(self.atlas)}
        maps = {role: path for role, path in optional.items() if path}
        return roles | {r: file for role, path in maps.items() for r, file in _numbered(role, (path,)).items()}


def find_sources(config: Config, folder: Path) -> Sources:
    """Find the files that the configuration names under `folder`.

    Raises DataError that names all missing files at once, ConfigError for a bold pattern without `{subject}` and for no
    subject.
    """
    files = _Files(config, folder)
    data = config.data
    if data.subjects == ():
        raise ConfigError("data.subjects is empty.", "Write all, or the subjects: [1, 2].")
    mask = None if data.mask in ("vote", "atlas") else files.of_user(data.mask, "data.mask")
    atlas = None if data.atlas is None else files.of_study(data.atlas, "data.atlas")
    try:
        if data.runs is not None:
            sources = _table_sources(files, data.runs, mask, atlas)
        elif data.layout == "lab":
            sources = _lab_sources(files, mask, atlas)
        else:
            sources = _bids_sources(files, mask, atlas)
    except DataError as error:
        files.require_all(error)
        raise
    files.require_all()
    return sources


class _Files:
    """Files of a configuration; those that are missing are collected, to be reported together."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config, self.folder = config, folder
        self._missing: list[tuple[str, str]] = []

    def of_study(self, name: str | Path, key: str) -> Path:
        """Return a path under the study's folder."""
        path = self.folder / Path(name).expanduser()
        if not path.is_file():
            self._missing.append((_absence(path), f"Set {key} or data.data_dir."))
        return path

    def of_user(self, name: str, key: str) -> Path:
        """Return a file of the user's own. The folder of a simulated study contains none, so the message says so."""
        path = self.folder / Path(name).expanduser()
        size = self.config.data.simulate
        if size is not None and not path.is_file():
            explanation = f"With data.simulate: {size}, {key} is looked for in the made study's folder."
            remedy = f"Write {key} as a whole path, /…, on the node."
            self._missing.append((f"{_absence(path)} {explanation}", remedy))
            return path
        return self.of_study(name, key)

    def features(self, name: str, stimulus: StimulusConfig | None = None) -> dict[str, Path]:
        """Return feature space -> file of its features, with its dataset, or folder of its model.

        Args:
            name: Name of the stimulus.
            stimulus: Stimulus of a table of runs; None in the short form.
        """
        paths: dict[str, Path] = {}
        for space, source in self.config.data.sources_of(stimulus).items():
            is_own = stimulus is not None and space in stimulus.features
            key = f"data.stimuli.{name}.features.{space}" if is_own else f"data.features.{space}"
            if source.file is not None:
                file, separator, dataset = source.file.replace(STIMULUS, name).partition(SEPARATOR)
                paths[space] = Path(f"{self.of_user(file, f'{key}.file')}{separator}{dataset}")
            elif source.model is not None:
                paths[space] = self.of_model(source.model, f"{key}.model")
        return paths

    def of_model(self, name: str, key: str) -> Path:
        """Return the folder of a pretrained model."""
        try:
            return model_folder(name, self.folder, key)
        except DataError as error:
            self._missing.append((error.message, error.remedy))
            return self.folder / name

    def require_all(self, last: DataError | None = None) -> None:
        """Raise DataError if any file is missing; within `collect_missing`, hand each over instead.

        last: the error that ended the search, to be named after the missing files.
        """
        if not self._missing:
            return
        missing_files = _missing.get()
        if missing_files is not None:
            missing_files.extend(DataError(sentence, remedy) for sentence, remedy in self._missing)
            self._missing.clear()
            return
        entries = [*self._missing, *([(last.message, last.remedy)] if last else [])]
        sentences = list(dict.fromkeys(sentence for sentence, _ in entries))
        remedies = " ".join(dict.fromkeys(remedy for _, remedy in entries))
        if len(sentences) > 1:
            sentences.insert(0, f"{len(sentences)} files are missing.")
        raise DataError(" ".join(sentences), remedies)


def _absence(path: Path) -> str:
    if path.is_symlink():
        return f"{path} is a link whose content is not on this machine; for a datalad dataset: datalad get {path}."
    if path.is_dir():
        return f"{path} is a folder, not a file."
    if path.exists():
        return f"{path} is a pipe, socket or device, not a file."
    names = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    return f"{path} does not exist{nearest(path.name, names) or '.'}"


def _lab_sources(files: _Files, mask: Path | None, atlas: Path | None) -> Sources:
    data = files.config.data
    film, sound, features = _stimulus_of_short_form(files)
    annotations = () if data.annotations is None else (files.of_study(data.annotations, "data.annotations"),)
    bold = select_subjects(_all_subjects(files.folder, data.bold), _requested(data), str(files.folder / data.bold))
    return Sources(
        film=film,
        annotations=annotations,
        bold={label(subject): (path,) for subject, path in bold.items()},
        mask=mask,
        atlas=atlas,
        features=features,
        sound=sound,
    )


def _stimulus_of_short_form(files: _Files) -> tuple[Path | None, Path | None, dict[str, Path]]:
    """Return the film, the sound, and the files of features. Raises ConfigError if nothing is known of the stimulus."""
    data = files.config.data
    if data.video is None and data.audio is None and data.annotations is None and not data.sources_of():
        raise ConfigError(
            "There is no stimulus: data.video, data.audio, data.annotations and data.features are all empty.",
            "Set one of them, or data.runs and data.stimuli.",
        )
    film = None if data.video is None else files.of_study(data.video, "data.video")
    sound = None if data.audio is None else files.of_study(data.audio, "data.audio")
    media = film or sound
    return film, sound, files.features(FILM if media is None else media.stem)


def _bids_sources(files: _Files, mask: Path | None, atlas: Path | None) -> Sources:
    data = files.config.data
    runs = bids_runs(files.folder, data.bids, _requested(data))
    first = next(iter(runs.values()))
    film, sound, features = _stimulus_of_short_form(files)
    event_files = () if data.annotations is None else events_files(files.folder, data.annotations, first)
    return Sources(
        film=film,
        annotations=tuple(files.of_study(p, "data.annotations") for p in dict.fromkeys(event_files)),
        bold={label(s): tuple(run.bold for run in runs[s]) for s in runs},
        mask=mask,
        atlas=atlas,
        features=features,
        sound=sound,
        brain_masks={label(s): paths for s in runs if (paths := tuple(r.mask for r in runs[s] if r.mask))},
        confounds={label(s): _confounds(runs[s]) for s in runs} if data.bids.confounds else {},
    )


def _table_sources(files: _Files, table: str, mask: Path | None, atlas: Path | None) -> Sources:
    data = files.config.data
    is_text = "\n" in table
    path = Path("data.runs") if is_text else files.of_study(table, "data.runs")
    stimuli = {name: _stimulus_files(files, name, stimulus) for name, stimulus in data.stimuli.items()}
    if not is_text and not path.is_file():
        files.require_all()
    runs = read_runs_table(path, files.folder, list(stimuli), table if is_text else None)
    by_subject: dict[str, list[RunEntry]] = {}
    for run in runs:
        by_subject.setdefault(run.subject.removeprefix("sub-"), []).append(run)
    runs_by_subject = select_subjects(by_subject, _requested(data), str(path))
    return Sources(
        film=None,
        annotations=(),
        bold={label(s): tuple(run.bold for run in entries) for s, entries in runs_by_subject.items()},
        mask=mask,
        atlas=atlas,
        brain_masks={
            label(s): paths
            for s in runs_by_subject
            if (paths := tuple(r.brain_mask for r in runs_by_subject[s] if r.brain_mask))
        },
        confounds={label(s): _confounds(runs_by_subject[s]) for s in runs_by_subject} if data.bids.confounds else {},
        runs=tuple(run for entries in runs_by_subject.values() for run in entries),
        stimuli=stimuli,
    )


def _stimulus_files(files: _Files, name: str, stimulus: StimulusConfig) -> StimulusFiles:
    key = f"data.stimuli.{name}"
    name_by_role = {"video": stimulus.video, "audio": stimulus.audio, "annotations": stimulus.annotations}
    paths = {
        part: None if file is None else files.of_study(file, f"{key}.{part}") for part, file in name_by_role.items()
    }
    sources = files.config.data.sources_of(stimulus)
    return StimulusFiles(
        film=paths["video"],
        sound=paths["audio"],
        annotations=paths["annotations"],
        features=sources,
        feature_files=files.features(name, stimulus),
        annotations_scan=stimulus.annotations_scan,
    )


def _requested(data: DataConfig) -> tuple[int | str, ...] | None:
    return None if data.subjects == "all" else data.subjects


def label(subject: int | str) -> str:
    """Return `sub-01` for subject 1 or "01", and `sub-pixar001` for "pixar001"."""
    return f"sub-{subject:02d}" if isinstance(subject, int) else f"sub-{subject.removeprefix('sub-')}"


@contextmanager
def collect_missing() -> Iterator[list[GibletError]]:
    """Collect the error of each file that does not exist, instead of raising the first one."""
    errors: list[GibletError] = []
    token = _missing.set(errors)
    try:
        yield errors
    finally:
        _missing.reset(token)


def _named_features(features: Mapping[str, Path], prefix: str = "") -> dict[str, Path]:
    """Return every file of feature spaces by its role: arrays, and all files of models."""
    roles: dict[str, Path] = {}
    for space, path in features.items():
        if path.is_dir():
            roles |= {f"{prefix}{space} model {file.name}": file for file in model_files(path)}
        else:
            roles[f"{prefix}{space} features"] = split_dataset(path)[0]
    return roles


def _numbered(role: str, paths: Sequence[Path]) -> dict[str, Path]:
    files = [file for path in paths for file in files_of(path)]
    return {role: files[0]} if len(files) == 1 else {f"{role} {n}": file for n, file in enumerate(files, 1)}


def _confounds(runs: Sequence[BidsRun | RunEntry]) -> tuple[Path, ...]:
    missing = next((run.bold for run in runs if run.confounds is None), None)
    if missing is not None:
        raise DataError(f"{missing.name} has no table of confounds next to it.", "Set data.bids.confounds: null.")
    return tuple(run.confounds for run in runs if run.confounds is not None)


def _all_subjects(folder: Path, pattern: str) -> dict[str, Path]:
    """Return subject's label -> file, for every file that matches the pattern; numbers get two digits."""
    if not SUBJECT.search(pattern):
        raise ConfigError(
            f'data.bold is "{pattern}", which has no {{subject}} in it.', "Write sub-{subject:02d}.nii.gz."
        )
    files_pattern, separator, dataset = pattern.partition(SEPARATOR)
    parts = SUBJECT.split(files_pattern)
    expression = re.compile(r"([A-Za-z0-9]+)".join(re.escape(part) for part in parts))
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("*".join(parts))):
        match = expression.fullmatch(path.relative_to(folder).as_posix())
        if not match or len(set(match.groups())) != 1:
            continue
        subject = f"{int(match[1]):02d}" if match[1].isdigit() else match[1]
        if subject in files:
            raise DataError(
                f"{files[subject].name} and {path.name} both are subject {subject} of data.bold.",
                "Keep one of them, or write data.bold so that only one fits.",
            )
        files[subject] = Path(f"{path}{separator}{SUBJECT.sub(match[1], dataset)}")
    if not files:
        raise DataError(f"No file matches {folder / pattern}.", "Set data.bold or data.data_dir.")
    return files


def digests(sources: Sources, cache: Path, progress: ProgressCallback) -> dict[str, str]:
    """Return role -> SHA-256 of the file's bytes, so that the store's key does not depend on paths.

    Args:
        cache: JSON file that remembers digests by path, size and modification time.
    """
    known_digests = _read_cache(cache)
    result: dict[str, str] = {}
    path_by_role = sources.named()
    missing = [_absence(path) for path in dict.fromkeys(path_by_role.values()) if not path.is_file()]
    if missing:
        raise DataError(" ".join(missing), "Put the files there, or leave the subjects out by data.subjects.")
    for n, (role, path) in enumerate(path_by_role.items()):
        progress(f"reading {path.name}", n / len(path_by_role))
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        entry = known_digests.get(str(path.resolve()))
        if not entry or entry[:3] != stamp:
            entry = [*stamp, file_digest(path)]
            known_digests[str(path.resolve())] = entry
        result[role] = str(entry[3])
    with suppress(OSError):  # a folder that cannot be written may hold the store already
        cache.parent.mkdir(parents=True, exist_ok=True)
        replace_file(cache, json.dumps(known_digests).encode())
    return result


def _read_cache(cache: Path) -> dict[str, list[object]]:
    """Read the cache: path -> [bytes, modification time, inode, digest]. Empty if the file is missing or unreadable."""
    try:
        return msgspec.json.decode(cache.read_bytes(), type=dict[str, list[object]])
    except (OSError, msgspec.MsgspecError):
        return {}


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(HASH_CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()
