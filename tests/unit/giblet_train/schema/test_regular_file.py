"""Files that are read to their end are opened without waiting for a writer."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from giblet_train.schema.regular_file import read_regular


def test_a_file_and_a_pipe_of_the_shell_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"text")
    assert read_regular(tmp_path / "a") == b"text"
    reader, writer = os.pipe()
    os.write(writer, b"from a command")
    os.close(writer)
    assert read_regular(Path(f"/dev/fd/{reader}")) == b"from a command"
    os.close(reader)


def test_what_has_no_end_or_no_writer_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "pipe", tmp_path / "socket", tmp_path, Path("/dev/zero"), tmp_path / "none"):
            with pytest.raises(OSError, match=r"not a file|directory|No such"):
                read_regular(path)
