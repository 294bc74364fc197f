"""`giblet logs -f` against a writer that never waits: between any two looks it may write, rotate, or lose the link.

The node's own rounds run in this process, so each seed is one exact interleaving of writer, reader and link.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from giblet_tui.agent import tail
from giblet_tui.agent.watch_runs import RunPoller
from giblet_tui.connection.protocol import Done, WatchEvent, decode
from giblet_tui.errors import Unreachable
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import logs, watch
from tests.liveruns import append, end, make_run

N_LINES = 60
SEEDS = range(20)


class Writer:
    """Numbered lines, some of them long, in pieces; at its end the run ends. `habit` is what it does to its log."""

    def __init__(self, home: Path, draw: random.Random, habit: str) -> None:
        self.run_dir = make_run(home, "demo")
        self.draw, self.habit = draw, habit
        self.log = self.run_dir.log
        self.begun, self.ticks, self.rest = 0, 0, b""

    def act(self) -> None:
        """Do the next piece of work, at random."""
        for _ in range(self.draw.randrange(4)):
            if self.rest:
                self._write(self.rest)
            elif self.begun < N_LINES:
                line = b"line %d %s\n" % (self.begun, b"." * self.draw.choice((0, 3, 900)))
                self.begun += 1
                cut = self.draw.randrange(1, len(line) + 1)
                self.rest = line
                self._write(line[:cut])
            elif not self.run_dir.exit.exists():
                end(self.run_dir)
            if not self.rest and self.log.exists() and self.draw.random() < 0.1:
                self._rotate()

    def _write(self, piece: bytes) -> None:
        append(self.log, piece)
        self.ticks += 1  # what was written later was changed later, however fast this test is
        os.utime(self.log, ns=(self.ticks, self.ticks))
        self.rest = self.rest[len(piece) :]

    def _rotate(self) -> None:
        if self.habit == "renames":
            for n in range(9, 0, -1):
                if (old := self.log.with_name(f"train.log.{n}")).exists():
                    old.rename(self.log.with_name(f"train.log.{n + 1}"))
            self.log.rename(self.log.with_name("train.log.1"))
        elif self.habit == "truncates":
            os.truncate(self.log, 0)


def as_sent(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments as they reach the agent."""
    message: dict[str, Any] = json.loads(json.dumps(arguments, default=msgspec.to_builtins))
    return message


class Node1:
    """A connection to a node in this process, whose link breaks now and then, with what was on its way."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    def stream(self, operation: str, arguments: dict[str, Any], kind: type[WatchEvent]) -> Iterator[WatchEvent]:
        rounds = RunPoller(as_sent(arguments))
        while True:
            for event in self._look(rounds):
                if self.writer.draw.random() < 0.1:
                    raise Unreachable("cut")
                yield decode(event, kind)

    def call(
        self, operation: str, arguments: dict[str, Any], kind: type[Done], *, timeout_s: float, on_event: Any
    ) -> Done:
        for event in self._look(RunPoller(as_sent(arguments))):
            on_event(event)
        return decode({}, kind)

    def _look(self, rounds: RunPoller) -> Iterator[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        self.writer.act()
        rounds.poll(lambda event: (events.append(event), self.writer.act())[0])
        return iter([*events, {"tick": rounds.tick()}])


@pytest.fixture
def follow_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Yield what `giblet logs -f -n N` shows of a run, as numbers of lines and notices between them."""

    def follow(seed: int, habit: str, n_lines: int) -> tuple[list[int | str], Writer]:
        draw = random.Random(seed)
        writer = Writer(tmp_path / str(seed), draw, habit)
        for _ in range(draw.randrange(12)):
            writer.act()

        @contextmanager
        def connect(_node: Node) -> Iterator[Node1]:
            yield Node1(writer)

        monkeypatch.setattr(watch, "connect", connect)
        monkeypatch.setattr(logs, "connect", connect)
        monkeypatch.setattr(watch.time, "sleep", lambda _s: None)
        monkeypatch.setattr(tail, "PIECE_BYTES", 2048)
        node = Node(name="local", host="h", transport="local", workdir=str(tmp_path / str(seed)))
        lines, begin = logs.log_end(node, writer.run_dir.run_id, n_lines)
        for chunk in watch.follow_log(node, writer.run_dir.run_id, begin):
            lines.extend(chunk.lines)
        return [int(line.split()[1]) if line.startswith("line ") else line for line in lines], writer

    return follow


@pytest.mark.parametrize("n_lines", [0, 5, 1000])
@pytest.mark.parametrize("habit", ["appends", "renames"])
def test_nothing_is_lost_or_doubled(follow_log: Any, habit: str, n_lines: int) -> None:
    for seed in SEEDS:
        numbers, writer = follow_log(seed, habit, n_lines)
        first = numbers[0] if numbers else writer.begun
        assert numbers == list(range(first, N_LINES)), f"seed {seed}"


def test_a_log_that_was_cut_short_is_reported(follow_log: Any) -> None:
    """What was written and cut off between two looks, nobody can show."""
    for seed in SEEDS:
        entries, _ = follow_log(seed, "truncates", 5)
        numbers = [entry for entry in entries if isinstance(entry, int)]
        assert numbers == sorted(set(numbers)), f"seed {seed}"
        for before, after in itertools.pairwise(entries):
            assert not (isinstance(before, int) and isinstance(after, int)) or after == before + 1, f"seed {seed}"
