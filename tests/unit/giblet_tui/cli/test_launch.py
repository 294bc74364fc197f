"""What `giblet launch` does before it plans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from giblet_tui.cli import launch
from giblet_tui.cli.parser import program


def test_the_configuration_is_read_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """--resume asks the node for a checkpoint: reading twice would ask and print twice."""
    monkeypatch.chdir(tmp_path)
    calls: list[Any] = []
    load_config = launch.load_config
    monkeypatch.setattr(launch, "load_config", lambda *arguments: calls.append(arguments) or load_config(*arguments))
    monkeypatch.setattr(launch, "plan_only", lambda nodes, request: [])
    monkeypatch.setattr(launch, "_print_plans", lambda plans, loaded, output: None)
    words = ["launch", "local", "demo", "--dry-run", "--set", "num_epochs=30"]
    assert CliRunner().invoke(program, words).exit_code == 0
    assert [arguments[2] for arguments in calls] == [["num_epochs=30"]]


@pytest.mark.parametrize("time", ["30", "24:00:00", "2-12", "UNLIMITED", "infinite"])
def test_time_limits_are_those_of_slurm(time: str) -> None:
    assert launch._sbatch_options(None, time, ()) == (f"time={time}",)
