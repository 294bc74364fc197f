"""The agent's names of run files equal those of the engine, which cannot share one module with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from giblet_train.schema import run_dir
from giblet_tui.agent import layout

RUN_ID = "demo-20260101-120000-abcd"
PATHS = sorted(name for name, value in vars(run_dir.RunDir).items() if isinstance(value, property))
DERIVED = {"run_id", "workdir"}


@pytest.mark.parametrize("name", [name for name in PATHS if name not in DERIVED])
def test_each_file_of_a_run_has_the_same_name(name):
    path = getattr(run_dir.RunDir(Path("/w/runs", RUN_ID)), name)
    assert str(path) == f"{layout.run_dir('/w', RUN_ID)}/{getattr(layout, name.upper())}"


def test_run_ids_and_sessions_are_the_same():
    assert layout.RUN_ID_PATTERN == run_dir.RUN_ID_PATTERN
    run_id = run_dir.new_run_id("demo")
    assert layout.is_run_id(run_id) and not layout.is_run_id(run_id + "\n") and not layout.is_run_id("../" + run_id)
    assert layout.session_name(run_id) == run_dir.session_name(run_id)
    assert run_dir.RunDir(Path(layout.run_dir("/w", run_id))).workdir == Path("/w")
