"""A folder appears whole or not at all, and one process at a time makes it."""

from __future__ import annotations

import resource
import subprocess
import sys
import textwrap

import pytest

from giblet_train.data.atomic_dir import atomic_directory
from giblet_train.schema.errors import ConfigError, PreflightRefused


def test_it_appears_when_renamed(tmp_path):
    out = tmp_path / "deep" / "study"
    with atomic_directory(out) as folder:
        (folder / "a").write_text("x")
        assert not out.exists()
        folder.rename(out)
    assert [p.name for p in out.parent.iterdir()] == ["study"]
    assert (out / "a").read_text() == "x"


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), atomic_directory(tmp_path / "study") as folder:
        (folder / "bold").mkdir()
        (folder / "bold" / "half").write_text("x")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_cleared(tmp_path):
    program = f"""
        import os, signal
        from pathlib import Path
        from giblet_train.data.atomic_dir import atomic_directory
        with atomic_directory(Path({str(tmp_path)!r}) / "study") as folder:
            (folder / "half").write_text("x")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert (tmp_path / ".study.building" / "half").exists()
    with atomic_directory(tmp_path / "study") as folder:
        assert not list(folder.iterdir())
    assert not list(tmp_path.iterdir())


def test_makers_of_one_folder_take_turns(tmp_path):
    """Each of four processes builds the folder unless it is there; exactly one does."""
    program = f"""
        from pathlib import Path
        from giblet_train.data.atomic_dir import atomic_directory
        out = Path({str(tmp_path)!r}) / "study"
        with atomic_directory(out) as folder:
            if not out.exists():
                (folder / "made").write_text("x")
                folder.rename(out)
                print("built")
    """
    start = [sys.executable, "-c", textwrap.dedent(program)]
    makers = [subprocess.Popen(start, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = [maker.communicate(timeout=300)[0] for maker in makers]
    assert [maker.returncode for maker in makers] == [0] * 4
    assert sum(text == "built\n" for text in outputs) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["study"]


def test_a_place_where_nothing_can_be_made_is_an_error_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"), atomic_directory(tmp_path / "file" / "study"):
        pass


def test_a_disk_that_takes_no_more_is_an_error_in_words_and_leaves_nothing(tmp_path):
    """A limit on the size of files stands in for a full disk: the same write fails with the same kind of error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(PreflightRefused, match="cannot be written"), atomic_directory(tmp_path / "study") as folder:
            (folder / "bold").write_bytes(bytes(8192))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
