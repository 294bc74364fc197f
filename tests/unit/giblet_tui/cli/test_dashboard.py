"""What the dashboard's keys cause, as the verbs do it, on this machine."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from giblet_train.schema.errors import ConfigError, GibletError, PreflightRefused
from giblet_tui.cli.dashboard import DashboardActions
from giblet_tui.dashboard.model.interfaces import LaunchChoice
from giblet_tui.launch import working_tree
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


@can_train
def test_a_command_of_the_form_is_checked_on_the_node_and_told_what_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    choice = LaunchChoice("local", command=("python3", "-c", "print(1)"), gpus="0")
    assert "nothing is sent" in DashboardActions().changes(choice)[0]
    lines = DashboardActions().dry_run(choice)
    assert any("python3 -c" in line for line in lines)
    (tmp_path / "there").mkdir()
    there = DashboardActions().changes(replace(choice, folder=str(tmp_path / "there")))
    assert there == [f"starts in {tmp_path / 'there'} on the node; nothing is sent"]
    with pytest.raises(GibletError, match="nosuchprogram"):
        DashboardActions().dry_run(replace(choice, command=("nosuchprogram",)))


def test_members_that_were_started_are_named_when_a_later_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["demo-20260101-120000-aaaa", "demo-20260101-120000-bbbb"])

    def launch(*_: object) -> str:
        if run_id := next(answers, ""):
            return run_id
        raise PreflightRefused("No GPU is free.", "Wait with --when-free.")

    monkeypatch.setattr("giblet_tui.cli.dashboard.run_launch", launch)
    choice = LaunchChoice("local", "demo", members="3")
    with pytest.raises(GibletError) as refusal:
        DashboardActions().launch(choice, print)
    assert refusal.value.message == (
        "demo-20260101-120000-aaaa, demo-20260101-120000-bbbb started; the other members did not: No GPU is free."
    )
    assert refusal.value.remedy == "Wait with --when-free."
    with pytest.raises(PreflightRefused):
        DashboardActions().launch(choice, print)


def test_what_would_be_sent_is_shown_without_packing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(working_tree, "pack", None)
    lines = DashboardActions().changes(LaunchChoice("local", command=("true",), gpus="0"))
    assert lines == [f"sends the git repository {tmp_path}, uncommitted changes included"]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (LaunchChoice("local", "demo", command=("true",)), "has no configuration"),
        (LaunchChoice("local", command=("true",), resume="@last"), "cannot resume"),
        (LaunchChoice("local", "demo", folder="~/x"), "--cwd is for a command"),
        (LaunchChoice("local", "demo", members="five"), "members: five is not a number"),
        (LaunchChoice("local", "demo", members="2", resume="@last"), "several new runs"),
    ],
)
def test_fields_that_exclude_each_other_are_refused_before_the_node_is_asked(choice: LaunchChoice, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        DashboardActions().dry_run(choice)
