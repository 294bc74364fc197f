"""`giblet why` of logs, `giblet report` of runs, and what a report must not say."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from giblet_train.schema.errors import ConfigError
from giblet_train.schema.records import CheckpointRecord, EventMetric, Exit
from giblet_tui.cli.parser import program
from giblet_tui.cli.report import moment
from giblet_tui.reporting.markdown import redact, report, report_since
from tests import fleets
from tests.collection.legacy import crashed_log, lab_flat
from tests.collection.legacy import healthy as healthy_log

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "GIBLET_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.chdir(tmp_path)
    yield


def test_why_of_a_log_ends_with_1_when_something_is_wrong_and_0_when_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "flat.log").write_text(lab_flat(2).text)
    (tmp_path / "well.log").write_text(healthy_log(2).text)
    result = RUNNER.invoke(program, ["why", "flat.log", "--json"])
    assert result.exit_code == 1
    shape = json.loads(result.stdout)
    assert (shape["run_id"], shape["healthy"], shape["causes"][0]["cause"]) == ("flat.log", False, "loss_not_unit_free")
    well = RUNNER.invoke(program, ["why", "well.log"])
    assert (well.exit_code, well.stdout) == (0, "Nothing is wrong, as far as the records show.\n")
    assert "does not show the components" in well.stderr


def test_a_log_cannot_play_tricks_on_the_terminal(tmp_path: Path) -> None:
    log = crashed_log(2).text.replace("KeyError: 'sub-04'", "KeyError: '\x1b]0;owned\x07\x1b[2Jsub'")
    (tmp_path / "hostile.log").write_text(log)
    result = RUNNER.invoke(program, ["why", "hostile.log"])
    assert result.exit_code == 1 and "KeyError" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr


def test_config_without_a_log_is_a_usage_error() -> None:
    result = RUNNER.invoke(program, ["why", "nosuch.log", "--config", "demo"])
    assert "--config is for a log" in str(result.exception)


def event(name: str, sentence: str, **facts: object) -> EventMetric:
    return EventMetric(seq=10**6, step=40, epoch=3, at=fleets.NOW - 60, name=name, level="warning", sentence=sentence,
                       facts=facts)  # fmt: skip


def test_a_report_states_what_happened_and_names_nobody() -> None:
    run = fleets.run(steps=120, state="failed", sentence="KeyError in /home/alice/study/sub-04.nii.gz")
    best = CheckpointRecord(file="step-100.safetensors", step=100, epoch=5, at=0, sha256="ab" * 32, bytes=5_000_000,
                            config_hash="0", store_key="0", validation_total=1.2345, roles=("best",))  # fmt: skip
    run = replace(
        run,
        run=replace(run.run, gpus=("GPU-1", "GPU-2"), launched_by="alice@laptop"),
        events=(event("resumed", "Resumed from /home/alice/giblet/runs/x, step 40.", step=40),
                event("failed", "No file /data/lab/bold/sub-04.nii.gz of participant 7.")),
        checkpoints=(best,),
        exit=Exit(run_id=run.run.run_id, ended_at=fleets.NOW, code=1),
    )  # fmt: skip
    text = report(run, fleets.NOW)
    for title in ("What happened", "Verdict", "What is wrong", "Losses", "Checkpoint", "Cost"):
        assert f"\n## {title}\n" in text
    assert "restarts: 1" in text and "resumed from step 40" in text
    assert "best: step 100, epoch 5, validation 1.2345, 5.0 MB" in text
    seconds = sum(s.step_s or 0 for s in run.steps)
    assert f"{2 * seconds / 3600:.2f} GPU-hours in steps, 120 steps" in text
    for secret in ("alice", "/home", "/data", "sub-04", "participant 7"):
        assert secret not in text


def test_a_run_that_continues_says_what_is_to_come() -> None:
    text = report(fleets.run(steps=120), fleets.NOW)
    assert "to go (steps " in text and "best checkpoint yet" in text


def test_since_reports_the_notebook_and_each_run_that_lived_then() -> None:
    old = replace(fleets.run("old", state="finished"), exit=Exit(run_id="x", ended_at=fleets.NOW - 9e5, code=0))
    old = replace(old, run=replace(old.run, launched_at=fleets.NOW - 1e6), steps=(), epochs=())
    text = report_since([fleets.run(steps=280), old], ["test"], fleets.NOW - 60, fleets.NOW)
    assert text.startswith("# Since ") and "| test | demo-20270115-080000-a1b2 |" in text
    assert "old-" not in text and "first step" not in text and "last step known (279)" in text
    assert "Nothing ran" in report_since([old], ["test"], fleets.NOW, fleets.NOW)


def test_a_report_shows_how_the_verdict_changed() -> None:
    config = fleets.demo_config(criteria={"drop": {"kind": "loss_drop", "threshold": 0.2}})
    run = fleets.run(steps=400, state="finished", sentence="finished all its steps", config=config)
    verdict_lines = [line for line in report(run, fleets.NOW).splitlines() if ": verdict " in line]
    assert "verdict ON TRACK" in verdict_lines[0] or "verdict AT RISK" in verdict_lines[0]
    assert verdict_lines[-1].endswith("→ PASS")


def test_moments_are_days_or_lengths_of_time() -> None:
    assert moment("24h", 100_000.0) == 13_600.0
    assert moment("2026-11-20", 0.0) == time.mktime((2026, 11, 20, 0, 0, 0, 0, 0, -1))
    with pytest.raises(ConfigError, match="neither"):
        moment("yesterday", 0.0)


def test_sentences_lose_paths_and_labels_and_nothing_else() -> None:
    assert redact("loss 1/2 at 3 m/s of ~/a/b.txt and sub-01_x") == "loss 1/2 at 3 m/s of (a path) and sub-01_x"
    assert redact("subject 12 lacks /x/y") == "a subject lacks (a path)"


def test_the_report_of_a_command_has_its_other_numbers() -> None:
    text = report(fleets.command_run(), fleets.NOW)
    assert "## Other numbers\n\n- accuracy: train 0.8832 validation 0.7592 (best 0.7617 at epoch 18, higher" in text
    assert "## Other numbers" not in report(fleets.run(), fleets.NOW)
