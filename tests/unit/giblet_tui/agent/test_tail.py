"""Whole lines, each once, from an exact byte, whatever happens to the file."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

from giblet_tui.agent import tail
from giblet_tui.agent.tail import read_new


class Reader:
    """Reads on as a client would, its mark going through JSON each time."""

    def __init__(self, path: Path, mark: dict[str, Any] | None = None) -> None:
        self.path, self.mark, self.skipped, self.resets = path, mark, 0, 0

    def lines(self, last_bytes: int | None = None, ended: bool = False) -> list[bytes]:
        content = b""
        while (piece := read_new(self.path, self.mark, last_bytes, ended)) is not None:
            piece = json.loads(json.dumps(piece))
            self.mark = piece["mark"]
            self.skipped += piece["skipped"]
            self.resets += piece["reset"]
            content = (b"" if piece["reset"] else content) + piece["text"].encode("utf-8", "surrogateescape")
        return content.split(b"\n")[:-1] if content.endswith(b"\n") else content.split(b"\n")


def test_only_whole_lines_and_each_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    reader = Reader(path)
    assert read_new(path, None, None, False) is None
    lines_written, got, draw = [], [], random.Random(3)
    with path.open("ab", buffering=0) as file:
        for number in range(300):
            line = b"%d \xff\xfe %s" % (number, b"x" * draw.randrange(200))
            lines_written.append(line)
            cut = draw.randrange(len(line))
            file.write(line[:cut])
            got += [x for x in reader.lines() if x]
            file.write(line[cut:] + b"\n")
            if draw.random() < 0.3:
                got += [x for x in reader.lines() if x]
    got += [x for x in reader.lines() if x]
    assert got == lines_written
    assert reader.resets == 1


def test_a_huge_line_is_left_out_and_the_next_is_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with path.open("wb") as file:
        file.write(b"first\n")
        for _ in range(12):
            file.write(b"y" * 1024 * 1024)
        file.write(b"\nlast\n")
    reader = Reader(path)
    assert reader.lines() == [b"first", b"last"]
    assert reader.skipped == 1
    assert reader.mark is not None and reader.mark["offset"] == path.stat().st_size


def test_reading_on_inside_a_huge_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"z" * (tail.PIECE_BYTES + 5))
    reader = Reader(path)
    assert reader.lines() == [b""] and reader.skipped == 1
    with path.open("ab") as file:
        file.write(b"zz\nwhole\n")
    later = Reader(path, reader.mark)
    assert later.lines() == [b"whole"] and later.skipped == 0


def test_the_end_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_bytes(b"".join(b"line %04d\n" % n for n in range(1000)))
    assert Reader(path).lines(last_bytes=25) == [b"line 0998", b"line 0999"]
    assert len(Reader(path).lines(last_bytes=10**9)) == 1000


def test_a_last_line_without_newline_counts_once_the_run_ended(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_bytes(b"one\ntwo")
    reader = Reader(path)
    assert reader.lines() == [b"one"]
    assert reader.lines(ended=True) == [b"two"]
    assert reader.lines(ended=True) == [b""]


def test_a_file_that_becomes_another_is_read_again(tmp_path: Path) -> None:
    path, long = tmp_path / "metrics.jsonl", b"old line of many letters, so that the head of the file is known\n" * 3
    for change in (truncated, replaced, rewritten):
        path.write_bytes(long)
        reader = Reader(path)
        assert len(reader.lines()) == 3
        change(path)
        assert reader.lines()[0] == b"new", change.__name__
        assert reader.resets == 2, change.__name__
        path.unlink()


def test_a_mark_of_a_byte_alone(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_bytes(b"one\ntwo\nthree\n")
    assert Reader(path, {"offset": 4, "inode": None, "head": None, "skipping": False}).lines() == [b"two", b"three"]


def truncated(path: Path) -> None:
    path.write_bytes(b"new\n")


def replaced(path: Path) -> None:
    aside = path.with_name("aside")
    aside.write_bytes(b"new\n" + b"another line\n" * 40)
    os.replace(aside, path)


def rewritten(path: Path) -> None:
    """Rewrite the file in place, longer than what was read."""
    path.write_bytes(b"new\n" + b"another line, and the same inode\n" * 40)
