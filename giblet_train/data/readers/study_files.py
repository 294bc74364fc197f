"""Find the files of a study and hash their content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from giblet_train.data.readers.atlas import parcel_names_file
from giblet_train.data.readers.bids import BidsRun, bids_runs, events_files
from giblet_train.schema.config import Config, nearest
from giblet_train.schema.errors import ConfigError, DataError, GibletError
from giblet_train.schema.run_dir import replace_file

T = TypeVar("T")

Progress = Callable[[str, float], None]
"""Called with the current activity and the finished share, 0 to 1."""

_missing: ContextVar[list[GibletError] | None] = ContextVar("missing", default=None)

HASH_CHUNK_BYTES = 4 * 1024 * 1024
SUBJECT = re.compile(r"\{subject(?::0?\d*d)?\}")


@dataclass(frozen=True)
class Sources:
    """Files of a study."""

    film: Path
    annotations: tuple[Path, ...]
    """One file, or one per run."""
    bold: Mapping[str, tuple[Path, ...]]
    """Label ("sub-01") -> the file of each run."""
    mask: Path | None = None
    atlas: Path | None = None
    brain_masks: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    """Label -> fMRIPrep's brain mask of each run; no entry for a subject without any."""
    confounds: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    """Label -> fMRIPrep's confounds of each run."""
    features: Mapping[str, Path] = field(default_factory=dict)
    """Modality -> file of external features."""

    def named(self) -> dict[str, Path]:
        """Return every file by its role, whatever its path."""
        roles = {"film": self.film} | _numbered("annotations", self.annotations)
        roles |= {f"{modality} features": path for modality, path in self.features.items()}
        for subject, paths in self.bold.items():
            roles |= _numbered(subject, paths)
            roles |= _numbered(f"{subject} brain mask", self.brain_masks.get(subject, ()))
            roles |= _numbered(f"{subject} confounds", self.confounds.get(subject, ()))
        optional = {"mask": self.mask, "atlas": self.atlas, "parcel names": parcel_names_file(self.atlas)}
        return roles | {role: path for role, path in optional.items() if path}


def find_sources(config: Config, folder: Path) -> Sources:
    """Find the files that the configuration names under `folder`.

    Raises DataError for missing files, ConfigError for a bold pattern without `{subject}`.
    """
    data = config.data
    film = _existing(folder, data.video, "data.video")
    mask = None if data.mask in ("vote", "atlas") else _user_file(config, folder, data.mask, "data.mask")
    atlas = None if data.atlas is None else _existing(folder, data.atlas, "data.atlas")
    features = {
        m: _user_file(config, folder, source.file, f"data.features.{m}.file")
        for m, source in data.features.brought().items()
        if source.file is not None
    }
    if data.layout == "lab":
        annotations = (_existing(folder, data.annotations, "data.annotations"),)
        files = _select_subjects(_all_subjects(folder, data.bold), data.subjects, str(folder / data.bold))
        return Sources(
            film, annotations, {label(n): (path,) for n, path in files.items()}, mask, atlas, features=features
        )
    runs = _select_subjects(bids_runs(folder, data.bids), data.subjects, f"{folder}/sub-*/func")
    named = events_files(folder, data.annotations, next(iter(runs.values())))
    return Sources(
        film=film,
        annotations=tuple(_existing(p.parent, p.name, "data.annotations") for p in dict.fromkeys(named)),
        bold={label(n): tuple(run.bold for run in runs[n]) for n in runs},
        mask=mask,
        atlas=atlas,
        features=features,
        brain_masks={label(n): paths for n in runs if (paths := tuple(r.mask for r in runs[n] if r.mask))},
        confounds={label(n): _confounds(runs[n]) for n in runs} if data.bids.confounds else {},
    )


def label(subject: int) -> str:
    """Return `sub-01` for subject 1."""
    return f"sub-{subject:02d}"


def _user_file(config: Config, folder: Path, name: str, key: str) -> Path:
    """Find a file of the user's own. The folder of a simulated study contains none, so its message says so."""
    try:
        return _existing(folder, name, key)
    except DataError as error:
        if config.data.simulate is None:
            raise
        explanation = f"With data.simulate: {config.data.simulate}, {key} is looked for in the made study's folder."
        raise DataError(f"{error.message} {explanation}", f"Write {key} as a whole path, /…, on the node.") from None


def _existing(folder: Path, name: str, key: str) -> Path:
    path = folder / name
    if path.is_file():
        return path
    there = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    error = DataError(f"{path} does not exist{nearest(path.name, there) or '.'}", f"Set {key} or data.data_dir.")
    collected = _missing.get()
    if collected is None:
        raise error
    collected.append(error)
    return path


@contextmanager
def collect_missing() -> Iterator[list[GibletError]]:
    """Collect the error of each file that does not exist, instead of raising the first one."""
    errors: list[GibletError] = []
    token = _missing.set(errors)
    try:
        yield errors
    finally:
        _missing.reset(token)


def _numbered(role: str, paths: tuple[Path, ...]) -> dict[str, Path]:
    return {role: paths[0]} if len(paths) == 1 else {f"{role} {n}": path for n, path in enumerate(paths, 1)}


def _confounds(runs: Sequence[BidsRun]) -> tuple[Path, ...]:
    missing = next((run.bold for run in runs if run.confounds is None), None)
    if missing is not None:
        raise DataError(f"{missing.name} has no table of confounds next to it.", "Set data.bids.confounds: null.")
    return tuple(run.confounds for run in runs if run.confounds is not None)


def _select_subjects(files: Mapping[int, T], requested: str | tuple[int, ...], where: str) -> dict[int, T]:
    """Select the requested subjects' files, in the order of their numbers."""
    if requested == "all":
        return {n: files[n] for n in sorted(files)}
    missing = [n for n in requested if isinstance(n, int) and n not in files]
    if missing:
        raise DataError(
            f"data.subjects asks for {', '.join(map(str, missing))}, but {where} exists only for "
            f"{', '.join(map(str, sorted(files))) or 'nobody'}.",
            "Correct data.subjects or data.bold.",
        )
    return {n: files[n] for n in sorted(files) if n in requested}


def _all_subjects(folder: Path, pattern: str) -> dict[int, Path]:
    """Return subject number -> file, for every file that matches the pattern."""
    if not SUBJECT.search(pattern):
        raise ConfigError(
            f'data.bold is "{pattern}", which has no {{subject}} in it.', "Write sub-{subject:02d}.nii.gz."
        )
    parts = SUBJECT.split(pattern)
    expression = re.compile(r"(\d+)".join(re.escape(part) for part in parts))
    files: dict[int, Path] = {}
    for path in sorted(folder.glob("*".join(parts))):
        match = expression.fullmatch(path.relative_to(folder).as_posix())
        if not match or len(set(map(int, match.groups()))) != 1:
            continue
        if int(match[1]) in files:
            raise DataError(
                f"{files[int(match[1])].name} and {path.name} both are subject {int(match[1])} of data.bold.",
                "Keep one of them, or write data.bold so that only one fits.",
            )
        files[int(match[1])] = path
    if not files:
        raise DataError(f"No file matches {folder / pattern}.", "Set data.bold or data.data_dir.")
    return files


def digests(sources: Sources, cache: Path, progress: Progress) -> dict[str, str]:
    """Return role -> SHA-256 of the file's bytes, so that the store's key does not depend on paths.

    Args:
        cache: JSON file that remembers digests by path, size and modification time.
    """
    cached = _read_cache(cache)
    result: dict[str, str] = {}
    named = sources.named()
    for n, (role, path) in enumerate(named.items()):
        progress(f"reading {path.name}", n / len(named))
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        entry = cached.get(str(path.resolve()))
        if not entry or entry[:3] != stamp:
            entry = [*stamp, _digest(path)]
            cached[str(path.resolve())] = entry
        result[role] = str(entry[3])
    cache.parent.mkdir(parents=True, exist_ok=True)
    replace_file(cache, json.dumps(cached).encode())
    return result


def _read_cache(cache: Path) -> dict[str, list[object]]:
    """Read the cache: path -> [bytes, modification time, inode, digest]. Empty if the file is missing or unreadable."""
    try:
        return msgspec.json.decode(cache.read_bytes(), type=dict[str, list[object]])
    except (OSError, msgspec.MsgspecError):
        return {}


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(HASH_CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()
