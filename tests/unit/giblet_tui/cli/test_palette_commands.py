"""The verbs as the dashboard's palette offers them: each, with the run and node looked at, and what it prints."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from giblet_tui.cli import palette_commands


def test_every_verb_is_offered_with_what_is_looked_at() -> None:
    verbs = {verb.command: verb for verb in palette_commands.verbs("demo-1", "tensor01")}
    assert verbs["giblet why demo-1"].how == "show"
    assert verbs["giblet doctor tensor01"].how == "show"
    assert verbs["giblet attach demo-1"].how == "terminal"
    assert verbs["giblet pull demo-1"].how == "copy", "what writes here or there is for a shell"
    assert verbs["giblet logs demo-1 -n 400"].how == "show"
    assert {"giblet config ls", "giblet node ls", "giblet ps"} <= set(verbs)
    assert not any(verb.words[0] in palette_commands.KEYED for verb in verbs.values())
    assert all(verb.about for verb in verbs.values())


def test_what_is_not_known_stays_for_a_shell_to_fill_in() -> None:
    verbs = {verb.command: verb for verb in palette_commands.verbs(None, None)}
    assert verbs["giblet why 'RUN|LOG'"].how == "copy" and verbs["giblet doctor NODE"].how == "copy"


def test_a_verb_s_lines_and_its_complaint_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "GIBLET_HOME", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert any("demo" in line for line in lines_of(["config", "ls"]))
    assert "no run" in " ".join(lines_of(["verdict", "nothing-there"])).lower()


def lines_of(words: list[str]) -> list[str]:
    lines: list[str] = []
    palette_commands.output(words, lines.append, threading.Event())
    return lines


def test_a_command_ends_when_its_output_is_closed() -> None:
    is_closed = threading.Event()
    lines: list[str] = []

    def show(line: str) -> None:
        lines.append(line)
        is_closed.set()

    program = "import time; print('begun', flush=True); time.sleep(600)"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(palette_commands, "argv", lambda words: [sys.executable, "-c", program])
        palette_commands.output([], show, is_closed)
    assert lines == ["begun"]
