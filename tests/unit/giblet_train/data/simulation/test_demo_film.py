"""The demo film: where it comes from, what is refused, and what we wrote about it."""

import hashlib
import io
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from giblet_train.data.simulation import demo_film
from giblet_train.data.simulation.demo_film import (
    FILM_NAME,
    FILM_SHA256,
    FilmUnreachable,
    demo_shot_list,
    fetch_film,
    user_film,
)
from giblet_train.schema.errors import DataError


@pytest.fixture
def no_index(monkeypatch):
    """Let pip reach no index: nothing listens on the discard port."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)


def test_an_index_out_of_reach_is_reported_and_leaves_nothing(tmp_path, no_index):
    with pytest.raises(FilmUnreachable, match=r"pip could not download moviepy==2\.2\.1, which holds the film: ERROR"):
        fetch_film(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [f"{FILM_NAME}.lock"]


def test_a_damaged_film_in_the_cache_is_not_trusted(tmp_path, no_index):
    (tmp_path / FILM_NAME).write_bytes(b"half a film")
    with pytest.raises(FilmUnreachable):
        fetch_film(tmp_path)


def test_a_cache_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="The film cannot be kept in"):
        fetch_film(tmp_path / "file" / "cache")


FILM_BYTES = b"a very short film"
BACKEND = """
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    import pathlib
    info = pathlib.Path(folder) / "moviepy-2.2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: moviepy\\nVersion: 2.2.1\\n")
    return info.name
"""


@pytest.fixture
def own_index(tmp_path, monkeypatch):
    """Let pip use a folder as its index, with a small archive of the real one's shape."""
    folder = tmp_path / "index"
    folder.mkdir()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as members:
        members.writestr(demo_film.FILM_MEMBER, FILM_BYTES)
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    files = {
        "moviepy-2.2.1/pyproject.toml": project.encode(),
        "moviepy-2.2.1/PKG-INFO": b"Metadata-Version: 2.1\nName: moviepy\nVersion: 2.2.1\n",
        "moviepy-2.2.1/backend.py": BACKEND.encode(),
        demo_film.ZIP_MEMBER: stream.getvalue(),
    }
    with tarfile.open(folder / "moviepy-2.2.1.tar.gz", "w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    archive = (folder / "moviepy-2.2.1.tar.gz").read_bytes()
    hashes = {"ARCHIVE_SHA256": archive, "ZIP_SHA256": stream.getvalue(), "FILM_SHA256": FILM_BYTES}
    for name, data in hashes.items():
        monkeypatch.setattr(demo_film, name, hashlib.sha256(data).hexdigest())
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def test_two_callers_at_once_download_once(tmp_path, own_index, monkeypatch):
    calls = []
    monkeypatch.setattr(
        demo_film, "_pip_download", lambda to, real=demo_film._pip_download: (calls.append(to), real(to))[1]
    )
    with ThreadPoolExecutor(2) as pool:
        films = list(pool.map(fetch_film, [tmp_path / "cache"] * 2))
    assert [f.path.read_bytes() for f in films] == [FILM_BYTES] * 2
    assert len(calls) == 1
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == [FILM_NAME, f"{FILM_NAME}.lock"]


@pytest.mark.parametrize("name", ["ARCHIVE_SHA256", "ZIP_SHA256", "FILM_SHA256"])
def test_what_is_not_the_known_file_is_refused_and_not_kept(tmp_path, own_index, monkeypatch, name):
    monkeypatch.setattr(demo_film, name, "0" * 64)
    with pytest.raises(DataError, match=r"is not the file that giblet knows \(SHA-256 0000000000000000…\)") as error:
        fetch_film(tmp_path / "cache")
    assert not isinstance(error.value, FilmUnreachable)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [f"{FILM_NAME}.lock"]


@pytest.fixture
def no_index_after_first_fetch(monkeypatch):
    try:
        first = fetch_film()
    except FilmUnreachable as error:
        pytest.skip(f"the package index cannot be reached: {error.message}")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    return first, fetch_film()


def test_the_real_film_is_fetched_once(no_index_after_first_fetch):
    first, second = no_index_after_first_fetch
    assert first == second
    assert first.source == "real"
    assert user_film(first.path).sha256 == FILM_SHA256
    assert len(first.shots) >= 127


def test_a_film_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        user_film(tmp_path / "none.mp4")


def test_our_annotations_cover_the_film_with_a_sentence_for_every_stretch():
    shots = demo_shot_list()
    assert len(shots) >= 127
    assert shots[0].start_s == 0.0
    assert shots[-1].end_s == pytest.approx(596.458, abs=0.001)
    assert all(earlier.end_s == later.start_s for earlier, later in pairwise(shots))
    assert max(shot.end_s - shot.start_s for shot in shots) < 8.0
    assert len({shot.detail for shot in shots}) == len(shots)
    assert all(shot.detail.endswith(".") and len(shot.detail.split()) >= 7 for shot in shots)
    assert {shot.music for shot in shots} == {"Yes", "No"}


def test_only_characters_that_are_in_the_film_are_named():
    cast = {"Big Buck Bunny", "Frank", "Rinky", "Gimera", "Bird", "Pink Butterfly", "Purple Butterfly", ""}
    for shot in demo_shot_list():
        assert set(shot.names_all.split(", ")) <= cast, shot
        assert shot.name_focus in shot.names_all, shot
