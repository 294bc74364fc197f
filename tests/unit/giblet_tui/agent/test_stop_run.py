"""What a stop says it did."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from giblet_tui.agent.proc import start_ticks
from giblet_tui.agent.run_processes import LocalRun
from giblet_tui.agent.stop_run import _StopProcedure


@pytest.mark.parametrize("n_looks", [2, 3])
def test_a_run_that_term_ended_is_not_reported_as_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_looks: int
) -> None:
    """It ends between two looks: its root is gone, and only the next look finds nothing."""
    process = subprocess.Popen(["sleep", "60"])
    own = {process.pid: start_ticks(process.pid) or 0}
    process.kill()
    process.wait()
    looks = iter([own] * n_looks)
    procedure = _StopProcedure(LocalRun(tmp_path), lambda event: None, processes=own)
    monkeypatch.setattr(procedure, "_at_work", lambda: next(looks, {}))
    procedure._send_signals(0.2)
    assert [step.step for step in procedure.steps] == ["TERM"]
