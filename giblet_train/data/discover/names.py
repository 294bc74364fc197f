"""Read subject, session, task and run from the names of scans, in BIDS or in a lab's own way."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from giblet_train.data.readers.bids import natural
from giblet_train.data.readers.series_path import split_dataset

SUBJECT = re.compile(r"(?:sub|subj|subject|sid|s|p|pp|participant|pixar|ndar[a-z]*)[-_]?0*\d+[a-z0-9]*", re.IGNORECASE)
SESSION = re.compile(r"(?:ses|session|visit|day)[-_]?0*(\d+)", re.IGNORECASE)
RUN = re.compile(r"(?:run|r)[-_]?0*(\d+)", re.IGNORECASE)
DATE = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])")
SINGLE_ECHO = re.compile(r"echo[-_]?\d+", re.IGNORECASE)
NAME_OF_RUN = ("ses", "task", "acq", "dir", "run")
"""BIDS entities that distinguish the runs of a subject; the others distinguish versions of a run."""
PREFERRED = ({"space": "MNI152NLin2009cAsym", "desc": "preproc"}, {"desc": "preproc"})
TREE, ECHO, PROCESSING = "tree", "echo", "processing"
"""What else distinguishes versions of a run: the folder above its subject, its echo, words of a lab's own names."""
ORIGINAL_SPACES = ("T1w", "func", "bold", "boldref", "orig", "scanner", "native", "fsnative")
"""Spaces in which each subject has a grid of its own."""
PROCESSED = re.compile(
    r"msmall|msmsulc|hp\d+|r?clean|vn|smooth\w*|s\d+mm|denoised?|crop(?:ped)?|trim(?:med)?|preproc\w*|reg|standard|mni\w*|"
    r"native|filt(?:ered)?|scaled?|blur\d*|censor\w*|raw",
    re.IGNORECASE,
)
"""Words of names that say how a scan was processed, not what it shows."""
STANDARD = re.compile(r"(?:^|_)(?:standard|mni\w*|msmall)(?:_|$)", re.IGNORECASE)
GENERIC = frozenset(
    "movie film video stim stimulus audio task run ses session bold sub part seg segment clip av func".split()  # noqa: SIM905
)
"""Words of names that say nothing about which film or run it is."""
SUFFIXES = (
    *(".dtseries.nii", ".ptseries.nii", ".func.gii", ".nii.gz", ".nii", ".img.gz", ".img", ".gii"),
    *(".npy", ".tsv", ".csv", ".h5", ".hdf5", ".hf5", ".hdf"),
)


@dataclass(frozen=True)
class ScanName:
    """What the path of a scan says about it."""

    path: Path
    subject: str
    """Label without `sub-`."""
    session: str
    task: str
    run: str
    version: tuple[tuple[str, str], ...]
    """Entities that distinguish versions of one run, such as its space."""
    order: str = ""
    """Which of several orders of stimuli its table of events states; empty if all runs of its name have one order."""

    @property
    def group(self) -> tuple[str, str, str]:
        """Return what the runs of all subjects that show the same have in common."""
        return self.session, self.task, " ".join(part for part in (self.run, self.order) if part)

    @property
    def label(self) -> tuple[str, str, str]:
        """Return session, task and run."""
        return self.session, self.task, self.run

    @property
    def text(self) -> str:
        """Return the run's name for messages, such as `sub-01 task-film run-2`."""
        parts = (("ses", self.session), ("task", self.task), ("run", self.run))
        return " ".join([f"sub-{self.subject}", *(f"{key}-{value}" for key, value in parts if value)])


def tokens(text: str) -> tuple[str, ...]:
    """Split a name at punctuation, and between letters and numbers: `filmPart01` gives film, part, 1."""
    spread = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return tuple(str(int(part)) if part.isdigit() else part for part in re.findall(r"[a-z]+|\d+", spread.lower()))


def stem(path: Path) -> str:
    """Return a file's name without its endings, and the dataset in it."""
    file, dataset = split_dataset(path)
    if dataset:
        return f"{stem(file)}_{dataset.replace('/', '_')}"
    lower = path.name.lower()
    ending = next((e for e in SUFFIXES if lower.endswith(e)), path.suffix)
    return path.name[: len(path.name) - len(ending)] if ending else path.name


def scan_names(paths: Sequence[Path], folder: Path) -> list[ScanName]:
    """Return the name of each scan, in natural order."""
    own = [path for path in paths if "sub" not in _entities(path)]
    with_entities = sorted(set(paths) - set(own))
    names = [_bids_name(path, folder) for path in with_entities] + _house_names(own, folder)
    return sorted(names, key=lambda n: (natural(n.subject), natural(n.session), n.task, natural(n.run)))


def chosen_versions(names: Sequence[ScanName]) -> tuple[list[ScanName], list[ScanName]]:
    """Return the scans of one version of the data, and the others.

    Of several versions of a run, such as spaces or levels of preprocessing, the preferred one is taken, else the one
    that most runs have. Runs that lack it are taken from a version that differs in its folder only.
    """
    counts = Counter(name.version for name in names)
    if len(counts) < 2:
        return list(names), []
    order = sorted(counts, key=lambda version: (_rank(dict(version)), -counts[version], version))
    alike = [version for version in order if _without_tree(version) == _without_tree(order[0])]
    versions: dict[tuple[str, tuple[str, str, str]], ScanName] = {}
    for version in reversed(alike):
        versions |= {(n.subject, n.group): n for n in names if n.version == version}
    chosen_names = [n for n in names if versions.get((n.subject, n.group)) is n]
    return chosen_names, [n for n in names if n not in chosen_names]


def _rank(version: Mapping[str, str]) -> tuple[int, ...]:
    """Return the key by which versions are in order, the best one first.

    Combined echoes come before single ones, derivatives before raw data, a common space before those of each subject.
    """
    places = (n for n, values in enumerate(PREFERRED) if all(version.get(k) == v for k, v in values.items()))
    is_derived = "derivatives" in version.get(TREE, "").split("/") or bool({"space", "desc"} & set(version))
    processing = version.get(PROCESSING, "")
    return (
        ECHO in version,
        version.get("space") in ORIGINAL_SPACES,
        next(places, len(PREFERRED)),
        not is_derived,
        not STANDARD.search(processing),
        -len(processing.split("_")) if processing else 0,
    )


def _without_tree(version: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple(pair for pair in version if pair[0] != TREE)


def _entities(path: Path) -> dict[str, str]:
    pairs = (part.partition("-") for part in re.split(r"[_\s]+", stem(path)) if "-" in part)
    return {key: value for key, _, value in pairs if key.isalpha() and value}


def entities_of_run(path: Path) -> dict[str, str]:
    """Return what the name of a scan or of a file about it says about its run: sub, ses, task, acq, dir, run."""
    return {key: value for key, value in _entities(path).items() if key in ("sub", *NAME_OF_RUN)}


def _bids_name(path: Path, folder: Path) -> ScanName:
    values = _entities(path)
    session = next((p.name[4:] for p in path.parents if p.name.startswith("ses-")), "")
    rest = [part for part in re.split(r"[_\s]+", stem(path)) if "-" not in part]
    echo = next((part for part in rest if SINGLE_ECHO.fullmatch(part)), "")
    rest = [part for part in rest if part != echo]
    task = "_".join(values[key] for key in ("task", "acq", "dir") if key in values) or _words(rest)
    version = {k: v for k, v in values.items() if k not in (*NAME_OF_RUN, "sub", "hemi")}
    version["suffix"] = "_".join(rest)
    if echo:
        version[ECHO] = echo
    above = path.relative_to(folder).parts[:-1]
    first = next((n for n, part in enumerate(above) if part.startswith("sub-")), len(above))
    version[TREE] = "/".join(above[:first])
    return ScanName(
        path, values["sub"], values.get("ses", session), task, values.get("run", ""), tuple(sorted(version.items()))
    )


def _words(parts: Sequence[str]) -> str:
    return "_".join(part for part in parts if part.lower() not in ("bold", "func"))


def _house_names(paths: Sequence[Path], folder: Path) -> list[ScanName]:
    """Read names without BIDS entities: the subject from a usual prefix, else from the first part that differs."""
    parts = {path: _parts(path, folder) for path in paths}
    position = _subject_position(list(parts.values()))
    names = []
    for path, words in parts.items():
        subject = words[position] if position is not None and position < len(words) else stem(path)
        others = [word for n, word in enumerate(words) if n != position and word != subject]
        processing = [word for word in others if PROCESSED.fullmatch(word)]
        echo = next((word for word in others if SINGLE_ECHO.fullmatch(word)), "")
        others = [word for word in others if word not in processing and word != echo and not DATE.fullmatch(word)]
        varying = [word for word in dict.fromkeys(others) if _varies(word, list(parts.values()))]
        session = next((m[1] for word in varying if (m := SESSION.fullmatch(word))), "")
        run = next((m[1] for word in varying if (m := RUN.fullmatch(word))), "")
        task = "_".join(word for word in varying if not SESSION.fullmatch(word) and not RUN.fullmatch(word))
        label = re.sub(r"^(?:sub|subj|subject|s|participant)[-_]?(?=\d)", "", subject, flags=re.IGNORECASE)
        version = {PROCESSING: "_".join(processing)} | ({ECHO: echo} if echo else {})
        names.append(
            ScanName(
                path,
                re.sub(r"[^A-Za-z0-9]", "", label) or subject,
                session,
                task,
                run,
                tuple(sorted(version.items())),
            )
        )
    return names


def _parts(path: Path, folder: Path) -> list[str]:
    relative = path.relative_to(folder)
    pieces = [*relative.parts[:-1], stem(path)]
    return [word for piece in pieces for word in re.split(r"[_\-. ]+", piece) if word]


def _subject_position(names: Sequence[Sequence[str]]) -> int | None:
    """Return the position of the subject in all names."""
    if not names:
        return None
    width = min(map(len, names))
    usual = [n for n in range(width) if all(SUBJECT.fullmatch(words[n]) for words in names)]
    varying = [
        n
        for n in range(width)
        if len({words[n] for words in names}) > 1 and not all(DATE.fullmatch(words[n]) for words in names)
    ]
    return next((n for n in usual if n in varying), usual[0] if usual else (varying[0] if varying else None))


def _varies(word: str, names: Sequence[Sequence[str]]) -> bool:
    return not all(word in words for words in names)
