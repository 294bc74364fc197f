"""Short commands on the node: their output, and that none of them keeps giblet waiting."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from giblet_tui.agent import preflight, python_env, run_command


def test_output_and_code() -> None:
    result = run_command.answer(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], 10.0, {"A": "b"})
    assert result is not None and (result.returncode, result.stdout, result.stderr) == (3, "out\n", "err\n")
    assert run_command.answer(["/nonexistent"], 10.0) is None
    echo = run_command.answer(["/bin/sh", "-c", "cat; pwd"], 10.0, text="in\n", folder="/")
    assert echo is not None and echo.stdout == "in\n/\n"


IN_A_CLOSED_FOLDER = """
import os, sys
from giblet_tui.agent.run_command import answer
os.chdir(sys.argv[1])
os.chmod(sys.argv[1], 0)
if os.geteuid() == 0:
    os.setuid(65534)
print(answer(["/bin/sh", "-c", "echo out"], 10.0))
"""


def test_a_command_runs_where_the_current_folder_is_not_searchable(tmp_path: Path) -> None:
    """As after su or sudo -u from a private folder."""
    folder = tmp_path / "private"
    folder.mkdir()
    argv = [sys.executable, "-c", IN_A_CLOSED_FOLDER, str(folder)]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    folder.chmod(0o700)
    assert "stdout='out\\n'" in result.stdout, result.stderr


def test_an_interpreter_that_gives_no_answer_is_a_problem_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one on a network file system that is gone."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nsleep 20\n")
    python.chmod(0o755)
    monkeypatch.setattr(python_env, "ENGINE_LIMIT_S", 0.2)
    monkeypatch.setattr(preflight, "FILES_LIMIT_S", 0.2)
    arguments = {"python": str(python), "workdir": str(tmp_path), "config": "name: demo\n"}
    assert "no answer within 0 s" in python_env.engine(arguments, lambda event: None)["problem"]
    assert "no answer within 0 s" in preflight.study_files(arguments)["unknown"]


def test_a_child_that_holds_the_output_open_is_not_waited_for() -> None:
    began = time.monotonic()
    assert run_command.answer(["/bin/sh", "-c", "sleep 20; echo late"], 0.2) is None
    assert time.monotonic() - began < 5.0


def test_a_program_that_cannot_be_killed_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs in the kernel ignores SIGKILL; here the signal is not sent."""
    monkeypatch.setattr(run_command.os, "killpg", lambda group, number: None)
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        run_command.answers([["/bin/sh", "-c", "exec sleep 6"]] * 2, began + 0.2)
    assert time.monotonic() - began < 5.0
