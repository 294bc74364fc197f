"""What the dashboard's keys cause, as the verbs do it, on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from giblet_train.schema.errors import ConfigError
from giblet_tui.cli.dashboard import DashboardActions
from giblet_tui.dashboard.model.interfaces import LaunchChoice
from giblet_tui.monitor import cache
from tests import fleets
from tests.marks import can_train


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "GIBLET_HOME", "HOME"):
        monkeypatch.setenv(key, str(tmp_path / key))


def test_changes_are_reported_against_the_base_and_the_last_run_of_that_name() -> None:
    assert "demo" in DashboardActions().configs()
    cache.save(fleets.healthy().nodes[0])
    report = "\n".join(DashboardActions().changes(LaunchChoice("local", "demo", settings=("num_epochs=7",))))
    assert "different from demo-20270115-080000-a1b2:" in report and "num_epochs: 20 → 7" in report
    assert "# num_epochs: from" in report


def test_a_mistake_in_the_form_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="no_such_key"):
        DashboardActions().changes(LaunchChoice("local", "demo", settings=("no_such_key=1",)))
    with pytest.raises(ConfigError, match="--gpus"):
        DashboardActions().dry_run(LaunchChoice("local", "demo", gpus="many"))


@can_train
def test_a_dry_run_asks_the_node_and_starts_nothing(tmp_path: Path) -> None:
    report = DashboardActions().dry_run(LaunchChoice("local", "demo", settings=("device=cpu",)))
    assert "on CPU" in report[0] and "giblet_train train" in report[1]
    assert any(line.startswith("✔ data: the small demo study") for line in report)
    assert "? memory: what it needs is not known before its first run" in report
    assert not list((tmp_path / "GIBLET_HOME").glob("runs/*"))
