"""Answers to alerts: written beside the run by the agent, seen by everyone, asked for by `giblet alerts`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from giblet_train.schema.errors import ConfigError
from giblet_train.schema.records import Alert, encode
from giblet_train.schema.run_dir import RunDir
from giblet_tui.cli.parser import program
from giblet_tui.control.alerts import parse_duration
from tests.liveruns import append, beat, make_run

RUNNER = CliRunner()


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunDir]:
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "GIBLET_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    run_dir = make_run(tmp_path / "giblet_home")
    beat(run_dir)
    for seq, name in enumerate(("flat", "plateau")):
        alert = Alert(
            seq=seq,
            at=time.time(),
            step=40,
            name=name,
            level="warning",
            state="raised",
            sentence="It is.",
            action="Do.",
        )
        append(run_dir.alerts, encode(alert) + b"\n")
    yield run_dir


def test_one_is_snoozed_the_other_acknowledged_and_both_are_reported(run_dir: RunDir) -> None:
    assert "▲ flat" in RUNNER.invoke(program, ["alerts", "@last"]).stdout
    snooze = RUNNER.invoke(program, ["alerts", run_dir.run_id, "plateau", "--snooze", "8h", "--json"])
    output = {a["name"]: a["answer"] for a in json.loads(snooze.stdout)["alerts"]}
    assert output["flat"] is None and output["plateau"]["until"] == pytest.approx(time.time() + 8 * 3600, abs=300)
    listing = RUNNER.invoke(program, ["alerts", "@last", "flat", "--ack"]).stdout
    assert (
        "✓ flat" in listing
        and "acknowledged by" in listing
        and re.search("snoozed for another (8h 00m|7h 59m)", listing)
    )
    assert "alert:" not in RUNNER.invoke(program, ["status", "@last"]).stdout
    assert "▲ plateau" in RUNNER.invoke(program, ["alerts", "@last", "plateau", "--snooze", "0"]).stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nope", "--ack"], "has no alert nope"),
        (["--ack", "--snooze", "1h"], "exclude each other"),
        (["flat"], "without an answer to them"),
        (["--snooze", "soon"], "not a length of time"),
    ],
)
def test_what_makes_no_sense_is_reported_and_nothing_is_written(
    run_dir: RunDir, words: list[str], sentence: str
) -> None:
    result = RUNNER.invoke(program, ["alerts", "@last", *words])
    assert isinstance(result.exception, ConfigError) and sentence in str(result.exception)
    assert not run_dir.answers.exists()


def test_lengths_of_time() -> None:
    assert [parse_duration(t) for t in ("90s", "30m", "2h", "1d", "0")] == [90.0, 1800.0, 7200.0, 86400.0, 0.0]
