"""Finding a study's files, and knowing them by content wherever they lie."""

import os
import shutil

import pytest

from giblet_train.data.readers.study_files import digests, find_sources
from giblet_train.schema.errors import ConfigError, DataError
from tests.made_study import made_config


@pytest.fixture
def folder(tmp_path):
    for name in ("film.mp4", "words.csv", *(f"bold/sub-{n:02d}.nii.gz" for n in (1, 2, 10))):
        path = tmp_path / "study" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "study"


def config(**data):
    return made_config(
        data={"video": "film.mp4", "annotations": "words.csv", "bold": "bold/sub-{subject:02d}.nii.gz", **data}
    )


def test_all_subjects_in_the_order_of_their_numbers(folder):
    assert list(find_sources(config(), folder).bold) == ["sub-01", "sub-02", "sub-10"]


def test_chosen_subjects(folder):
    assert list(find_sources(config(subjects=[10, 1]), folder).bold) == ["sub-01", "sub-10"]
    with pytest.raises(DataError, match=r"asks for 3, 4.*exists only for 01, 02, 10"):
        find_sources(config(subjects=[1, 3, 4]), folder)


def test_the_labs_pattern_and_a_folder_per_subject(tmp_path):
    for name in ("nii/movie_s1.nii.gz", "nii/movie_s12.nii.gz", "sub-07/func/sub-07_bold.nii.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    for name in ("film.mp4", "words.csv"):
        (tmp_path / name).write_text("")
    assert list(find_sources(config(bold="nii/movie_s{subject}.nii.gz"), tmp_path).bold) == ["sub-01", "sub-12"]
    pattern = "sub-{subject:02d}/func/sub-{subject:02d}_bold.nii.gz"
    assert list(find_sources(config(bold=pattern), tmp_path).bold) == ["sub-07"]


def test_two_files_of_one_subject_are_refused(folder):
    (folder / "bold" / "sub-1.nii.gz").write_text("")
    with pytest.raises(DataError, match=r"sub-01\.nii\.gz and sub-1\.nii\.gz both are subject 01"):
        find_sources(config(), folder)


def test_what_is_missing_is_named_with_its_nearest(folder):
    with pytest.raises(DataError, match=r'films?\.mp4 does not exist, did you mean "film\.mp4"\?'):
        find_sources(config(video="films.mp4"), folder)
    with pytest.raises(DataError, match="No file matches"):
        find_sources(config(bold="nowhere/s{subject}.nii"), folder)
    with pytest.raises(ConfigError, match=r"no \{subject\}"):
        find_sources(config(bold="bold/sub-01.nii.gz"), folder)


def test_a_file_of_ones_own_next_to_a_made_study_is_asked_for_by_its_whole_path(folder):
    simulated_config = config(simulate="tiny", features={"audio": {"file": "mine.npy"}})
    with pytest.raises(DataError, match=r"data\.features\.audio\.file is looked for in the made study") as error:
        find_sources(simulated_config, folder)
    assert "whole path" in error.value.remedy
    (folder.parent / "mine.npy").touch()
    own_config = config(simulate="tiny", features={"audio": {"file": str(folder.parent / "mine.npy")}})
    assert find_sources(own_config, folder).features == {"audio": folder.parent / "mine.npy"}


def test_no_subject_and_a_folder_for_a_file_are_refused(folder):
    with pytest.raises(ConfigError, match=r"data\.subjects is empty"):
        find_sources(config(subjects=[]), folder)
    (folder / "film2.mp4").mkdir()
    with pytest.raises(DataError, match=r"film2\.mp4 is a folder, not a file"):
        find_sources(config(video="film2.mp4"), folder)


def test_a_link_without_content_is_named_when_files_are_read(folder, tmp_path):
    link = folder / "bold" / "sub-09.nii.gz"
    link.symlink_to("../.git/annex/objects/a/SHA256E-s1--0.nii.gz")
    sources = find_sources(config(), folder)
    with pytest.raises(DataError, match=r"sub-09\.nii\.gz is a link whose content is not on this machine"):
        digests(sources, tmp_path / "digests.json", lambda *_: None)


def test_digests_follow_content_not_path(folder, tmp_path):
    messages = []
    before = digests(find_sources(config(), folder), tmp_path / "cache.json", lambda s, _: messages.append(s))
    assert set(before) == {"film", "annotations", "sub-01", "sub-02", "sub-10"}
    shutil.copytree(folder, tmp_path / "copy")
    quiet = digests(find_sources(config(), tmp_path / "copy"), tmp_path / "other.json", lambda *_: None)
    assert quiet == before
    (folder / "film.mp4").write_text("another film")
    assert digests(find_sources(config(), folder), tmp_path / "cache.json", lambda *_: None)["film"] != before["film"]
    assert "reading film.mp4" in messages


def test_a_known_file_is_not_read_again(folder, tmp_path):
    sources = find_sources(config(), folder)
    before = digests(sources, tmp_path / "cache.json", lambda *_: None)
    stat = sources.film.stat()
    sources.film.write_text("FILM.MP4"[: stat.st_size])
    os.utime(sources.film, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert digests(sources, tmp_path / "cache.json", lambda *_: None) == before
    (tmp_path / "cache.json").write_text("{broken")
    assert digests(sources, tmp_path / "cache.json", lambda *_: None)["film"] != before["film"]
