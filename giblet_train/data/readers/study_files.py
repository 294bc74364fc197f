"""The files of a study: found by the configuration, and known by their content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from giblet_train.data.readers.atlas import parcel_names_file
from giblet_train.data.readers.bids import BidsRun, bids_runs, events_files
from giblet_train.schema.config import Config, nearest
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.run_dir import replace_file

Found = TypeVar("Found")

Progress = Callable[[str, float], None]
"""Called with what is being done and how much of the whole, from 0 to 1, is finished."""

HASH_CHUNK_BYTES = 4 * 1024 * 1024
SUBJECT = re.compile(r"\{subject(?::0?\d*d)?\}")


@dataclass(frozen=True)
class Sources:
    """Where a study's files lie.

    annotations: one file, or one for each run. bold: label ("sub-01") -> the file of each run, by subject number.
    features: modality -> the file of features that are brought. brain_masks, confounds: label -> the same of fMRIPrep's
    derivatives; no label for a subject who has none.
    """

    film: Path
    annotations: tuple[Path, ...]
    bold: Mapping[str, tuple[Path, ...]]
    mask: Path | None = None
    atlas: Path | None = None
    brain_masks: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    confounds: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    features: Mapping[str, Path] = field(default_factory=dict)

    def named(self) -> dict[str, Path]:
        """Every file with the role it plays, whatever its path."""
        roles = {"film": self.film} | _numbered("annotations", self.annotations)
        roles |= {f"{modality} features": path for modality, path in self.features.items()}
        for subject, paths in self.bold.items():
            roles |= _numbered(subject, paths)
            roles |= _numbered(f"{subject} brain mask", self.brain_masks.get(subject, ()))
            roles |= _numbered(f"{subject} confounds", self.confounds.get(subject, ()))
        given = {"mask": self.mask, "atlas": self.atlas, "parcel names": parcel_names_file(self.atlas)}
        return roles | {role: path for role, path in given.items() if path}


def find_sources(config: Config, folder: Path) -> Sources:
    """The files that the configuration names under `folder`.

    Raises DataError for what is not there, ConfigError for a bold pattern without `{subject}`.
    """
    data = config.data
    film = _existing(folder, data.video, "data.video")
    mask = None if data.mask in ("vote", "atlas") else _brought(config, folder, data.mask, "data.mask")
    atlas = None if data.atlas is None else _existing(folder, data.atlas, "data.atlas")
    features = {
        m: _brought(config, folder, source.file, f"data.features.{m}.file")
        for m, source in data.features.brought().items()
        if source.file is not None
    }
    if data.layout == "lab":
        annotations = (_existing(folder, data.annotations, "data.annotations"),)
        files = _chosen(_all_subjects(folder, data.bold), data.subjects, str(folder / data.bold))
        return Sources(
            film, annotations, {label(n): (path,) for n, path in files.items()}, mask, atlas, features=features
        )
    runs = _chosen(bids_runs(folder, data.bids), data.subjects, f"{folder}/sub-*/func")
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
    """`sub-01` for subject 1."""
    return f"sub-{subject:02d}"


def _brought(config: Config, folder: Path, name: str, key: str) -> Path:
    """A file of one's own beside the study's. Where the study is made, its folder holds nothing of one's own."""
    try:
        return _existing(folder, name, key)
    except DataError as error:
        if config.data.simulate is None:
            raise
        made = f"With data.simulate: {config.data.simulate}, {key} is looked for in the made study's folder."
        raise DataError(f"{error.message} {made}", f"Write {key} as a whole path, /…, on the node.") from None


def _existing(folder: Path, name: str, key: str) -> Path:
    path = folder / name
    if path.is_file():
        return path
    there = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    raise DataError(f"{path} does not exist{nearest(path.name, there) or '.'}", f"Set {key} or data.data_dir.")


def _numbered(role: str, paths: tuple[Path, ...]) -> dict[str, Path]:
    return {role: paths[0]} if len(paths) == 1 else {f"{role} {n}": path for n, path in enumerate(paths, 1)}


def _confounds(runs: Sequence[BidsRun]) -> tuple[Path, ...]:
    missing = next((run.bold for run in runs if run.confounds is None), None)
    if missing is not None:
        raise DataError(f"{missing.name} has no table of confounds beside it.", "Set data.bids.confounds: null.")
    return tuple(run.confounds for run in runs if run.confounds is not None)


def _chosen(found: Mapping[int, Found], wanted: str | tuple[int, ...], where: str) -> dict[int, Found]:
    """The files of the wanted subjects, in the order of their numbers."""
    if wanted == "all":
        return {n: found[n] for n in sorted(found)}
    missing = [n for n in wanted if isinstance(n, int) and n not in found]
    if missing:
        raise DataError(
            f"data.subjects asks for {', '.join(map(str, missing))}, but {where} exists only for "
            f"{', '.join(map(str, sorted(found))) or 'nobody'}.",
            "Correct data.subjects or data.bold.",
        )
    return {n: found[n] for n in sorted(found) if n in wanted}


def _all_subjects(folder: Path, pattern: str) -> dict[int, Path]:
    """Subject number -> file, for every file that the pattern can name."""
    if not SUBJECT.search(pattern):
        raise ConfigError(
            f'data.bold is "{pattern}", which has no {{subject}} in it.', "Write sub-{subject:02d}.nii.gz."
        )
    parts = SUBJECT.split(pattern)
    expression = re.compile(r"(\d+)".join(re.escape(part) for part in parts))
    found: dict[int, Path] = {}
    for path in sorted(folder.glob("*".join(parts))):
        match = expression.fullmatch(path.relative_to(folder).as_posix())
        if not match or len(set(map(int, match.groups()))) != 1:
            continue
        if int(match[1]) in found:
            raise DataError(
                f"{found[int(match[1])].name} and {path.name} both are subject {int(match[1])} of data.bold.",
                "Keep one of them, or write data.bold so that only one fits.",
            )
        found[int(match[1])] = path
    if not found:
        raise DataError(f"No file matches {folder / pattern}.", "Set data.bold or data.data_dir.")
    return found


def digests(sources: Sources, cache: Path, progress: Progress) -> dict[str, str]:
    """Role -> SHA-256 of the file's bytes, so that a key does not depend on where the files lie.

    cache: a JSON file that remembers the digest of a path whose size and time of change stay the same.
    """
    known = _remembered(cache)
    result: dict[str, str] = {}
    named = sources.named()
    for n, (role, path) in enumerate(named.items()):
        progress(f"reading {path.name}", n / len(named))
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        entry = known.get(str(path.resolve()))
        if not entry or entry[:3] != stamp:
            entry = [*stamp, _digest(path)]
            known[str(path.resolve())] = entry
        result[role] = str(entry[3])
    cache.parent.mkdir(parents=True, exist_ok=True)
    replace_file(cache, json.dumps(known).encode())
    return result


def _remembered(cache: Path) -> dict[str, list[object]]:
    """What the cache file knows: path -> [bytes, time of change, inode, digest]. Without a readable one, nothing."""
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
