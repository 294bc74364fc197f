"""The dashboard in a real terminal: tmux, driven by keys, read as a person would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT

PATIENCE_S = 60.0
PROGRAM = """
from giblet_tui.dashboard import run_dashboard
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import Recorder, Tape

print("left with", run_dashboard(Tape(), Recorder(), fleets.healthy()))
"""


class Terminal:
    """A tmux server of its own with one window, whose screen can be read."""

    def __init__(self, folder: Path, columns: int, rows: int, **variables: str) -> None:
        self._socket = folder / "tmux"
        program = folder / "program.py"
        program.write_text(PROGRAM)
        # Some shells export their size as it was at their start; the dashboard must ignore it.
        extra = " ".join(f"{name}={value}" for name, value in variables.items())
        environment = f"env COLUMNS=80 LINES=24 TERM=tmux-256color PYTHONPATH={ROOT} {extra}"
        command = f"cd {ROOT} && {environment} {sys.executable} {program}; exec cat"
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows), command)

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def screen(self) -> list[str]:
        return self._tmux("capture-pane", "-p").splitlines()

    def wait_for(self, *words: str, without: str = "") -> list[str]:
        """Return the screen once it shows each of the words, and not `without`."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            rows = self.screen()
            text = "\n".join(rows)
            if all(word in text for word in words) and not (without and without in text):
                return rows
            time.sleep(0.1)
        raise AssertionError(f"{words} did not appear:\n" + "\n".join(self.screen()))

    def close(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], capture_output=True, check=False)

    def _tmux(self, *words: str) -> str:
        process = subprocess.run(["tmux", "-S", self._socket, *words], capture_output=True, text=True, check=True)
        return process.stdout


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        pytest.skip("missing: tmux (apt-get install tmux)")
    screen = Terminal(tmp_path, 80, 24)
    yield screen
    screen.close()


def test_a_session_at_eighty_columns(terminal: Terminal) -> None:
    rows = terminal.wait_for(" on tensor01", "data ", "? help", "━━ fMRI")
    assert len(rows) == 24
    assert any("━━ fMRI" in row and "%" in row for row in rows)
    terminal.press("3")
    terminal.wait_for("━━ total", "╍╍ video", "┅┅ audio", "╸╸ text")
    terminal.press("x", "Left")
    terminal.wait_for("unsmoothed", "at step 27")
    terminal.press("Escape")
    terminal.wait_for("━━ total", without="unsmoothed")
    terminal.press("8")
    terminal.wait_for("log  following", "Epoch 14/20", without="╍╍ video")
    terminal.press("/")
    terminal.wait_for("search the log")
    terminal.press("Epoch 3", "Enter")
    terminal.wait_for("“Epoch 3” in 1 lines")
    terminal.press("S")
    terminal.wait_for("Stop demo on tensor01?", "Cancel")
    terminal.press("Enter")
    terminal.wait_for("“Epoch 3”", without="Stop demo")
    terminal.press("C-n")
    terminal.wait_for("Launch a run", "a configuration", "Dry run")
    terminal.press("Escape")
    terminal.wait_for("“Epoch 3”", without="Launch a run")
    terminal.press("?")
    terminal.wait_for("this pane: log")
    terminal.press("Escape")
    terminal.wait_for("“Epoch 3”", without="this pane")
    terminal.press("Escape")
    terminal.wait_for("log  following")
    terminal.press("1")
    terminal.wait_for("balance", "━━ total")
    terminal.press("2", "/")
    terminal.wait_for("filter the runs")
    terminal.press("nothing", "Enter")
    terminal.wait_for("“nothing” 0 runs")
    terminal.press("Escape")
    terminal.wait_for("━━ total", "balance")
    terminal.press("Escape")
    terminal.wait_for("━━ total", "balance")
    terminal.resize(60, 15)
    rows = terminal.wait_for(" demo a1b2", "━━ total", "warm-up done", "? help", without="balance")
    assert len(rows) == 15
    terminal.resize(120, 40)
    terminal.wait_for("runs", "hardware", "verdict", "balance", "learning rate")
    terminal.press("q")
    terminal.wait_for("left with 0", without="balance")


@pytest.mark.parametrize(("terminal", "setting"), [("dumb", "TERM=dumb"), ("", "TERM is not set")])
def test_a_dumb_terminal_is_refused_in_words(tmp_path: Path, terminal: str, setting: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "TERM": terminal, "PYTHONPATH": str(ROOT)}
    process = subprocess.run([sys.executable, program], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 1 and "ConfigError" in process.stderr
    assert f"cannot draw on this terminal ({setting})" in process.stderr and "giblet ps" in process.stderr


def test_a_terminal_without_braille_gets_ascii_only(tmp_path: Path) -> None:
    if shutil.which("tmux") is None:
        pytest.skip("missing: tmux (apt-get install tmux)")
    terminal = Terminal(tmp_path, 120, 40, GIBLET_GLYPHS="ascii")
    try:
        rows = terminal.wait_for("* running demo", "== fMRI", "* live tensor01", "2.0 +")
        assert all(row.isascii() for row in rows)
        (top,) = [row for row in rows if "2.0 +" in row]
        assert set(".:'") & set(top.split("2.0 +")[1]), "the curve is drawn"
    finally:
        terminal.close()
