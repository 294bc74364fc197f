"""The film of the demo study: fetched once through pip and kept, given by the user, or made here.

`fetch_film(cache_dir) -> Film` is the real one, *Big Buck Bunny* (CC BY 3.0, © 2008 Blender Foundation,
www.bigbuckbunny.org), out of the source archive of moviepy 2.2.1 as the user's own pip downloads it. `given_film(path)`
is any other. Where the index cannot be reached (`FilmUnreachable`) the caller may announce and use
`generated_film.generated_film`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import IO, Literal

from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.readers.annotations import read_annotations
from giblet_train.schema.errors import DataError

ARCHIVE = "moviepy==2.2.1"
ARCHIVE_SHA256 = "c80cb56815ece94e5e3e2d361aa40070eeb30a09d23a24c4e684d03e16deacb1"
ZIP_MEMBER = "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip"
ZIP_SHA256 = "8c22f41b158e40e1b5260f4a8610b05ad909fef9ffe8a375e54023631011f1c9"
FILM_MEMBER = "moviepy_10_minutes/resources/bbb.mp4"
FILM_SHA256 = "475fbbf34c4c367998f80c29ea03b15a743941179b12da3373fc6706e68621d0"
FILM_NAME = "big_buck_bunny.mp4"
SHOTS = "bbb_shots.csv"
DOWNLOAD_LIMIT_S = 900
REMEDY = "Check `pip config list` and the network, or give a film with --film."


class FilmUnreachable(DataError):
    """The package index that holds the real film could not be reached, or refused."""


@dataclass(frozen=True)
class Film:
    """A film on disk, where it came from, and its annotations if those came with it."""

    path: Path
    source: Literal["real", "generated", "given"]
    sha256: str
    shots: tuple[Segment, ...] = ()


def fetch_film(cache_dir: Path | None = None) -> Film:
    """Return the real film with its annotations; download it if it is not in the cache.

    Two callers at once download once. Raises FilmUnreachable if pip cannot get the archive, DataError if the archive is
    not the expected one.

    Args:
        cache_dir: Default $XDG_CACHE_HOME/giblet.
    """
    folder = cache_dir or default_cache_dir()
    path = folder / FILM_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f"{FILM_NAME}.lock"):
            if not path.is_file() or file_sha256(path) != FILM_SHA256:
                _download(path)
    except OSError as error:
        raise DataError(
            f"The film cannot be kept in {folder}: {error.strerror or error}.",
            "Set XDG_CACHE_HOME to a folder with 200 MB of room, or give a film with --film.",
        ) from None
    return Film(path, "real", FILM_SHA256, demo_shot_list())


def user_film(path: Path) -> Film:
    """Return a film of the user. Raises DataError if there is none."""
    if not path.is_file():
        raise DataError(f"{path} does not exist.", "Give a film file with --film.")
    return Film(path, "given", file_sha256(path))


def demo_shot_list() -> tuple[Segment, ...]:
    """Return our annotations of the real film."""
    with as_file(files("giblet_train.data.simulation") / SHOTS) as path:
        return read_annotations(path, tr_s=1.0).segments


def default_cache_dir() -> Path:
    """Return $XDG_CACHE_HOME/giblet, or ~/.cache/giblet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "giblet"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hex. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with open(lock, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(path: Path) -> None:
    """Put the film at `path`, whole, by way of the archive and the zip file inside it."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="fetching-") as name:
        folder = Path(name)
        archive = _pip_download(folder)
        _check(archive, ARCHIVE_SHA256)
        with tarfile.open(archive) as tar:
            zip_path = _extract(tar.extractfile(ZIP_MEMBER), folder / "film.zip", ZIP_SHA256)
        with zipfile.ZipFile(zip_path) as members, members.open(FILM_MEMBER) as member:
            film = _extract(member, folder / FILM_NAME, FILM_SHA256)
        film.replace(path)


def _pip_download(folder: Path) -> Path:
    """Download the archive through the user's pip and its configuration."""
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    argv += ["--no-deps", "--no-binary", "moviepy", "--retries", "1", "--dest", str(folder), ARCHIVE]
    try:
        process = subprocess.run(argv, capture_output=True, text=True, timeout=DOWNLOAD_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise FilmUnreachable(f"pip did not get {ARCHIVE} within {DOWNLOAD_LIMIT_S} s.", REMEDY) from None
    archives = sorted(folder.glob("moviepy-*.tar.gz"))
    if process.returncode or not archives:
        last = (process.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise FilmUnreachable(f"pip could not download {ARCHIVE}, which holds the film: {last}", REMEDY)
    return archives[0]


def _extract(member: IO[bytes] | None, to: Path, sha256: str) -> Path:
    if member is not None:
        with open(to, "wb") as file:
            shutil.copyfileobj(member, file, 1024 * 1024)
    _check(to, sha256)
    return to


def _check(path: Path, sha256: str) -> None:
    if not path.is_file() or file_sha256(path) != sha256:
        raise DataError(
            f"{path.name} out of {ARCHIVE} is not the file that giblet knows (SHA-256 {sha256[:16]}…).",
            "Look at what the package index serves; meanwhile give a film with --film.",
        )
