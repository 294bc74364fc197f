"""The log of an adopted run, followed while it grows: the same epochs as when it is read at once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from giblet_tui.agent import adopted_run, followed_log
from giblet_tui.agent.adopted_run import Metrics
from giblet_tui.agent.followed_log import FollowedLog
from tests.collection.log_ends import SURVIVED, epochs, traceback
from tests.collection.log_formats import LINES, course


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "train.log"
    path.write_text("")
    return path


def follow(path: Path, pieces: list[bytes], log_follower: FollowedLog) -> list[tuple[int, float | None]]:
    """Append pieces to a log; return (epoch, training loss) of the epochs that are returned meanwhile."""
    rows = []
    for piece in pieces:
        with path.open("ab") as file:
            file.write(piece)
        rows += log_follower.new_epochs()
    return [(row.epoch, row.train) for row in rows]


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("size", [37, 4096])
def test_every_layout_is_followed_epoch_by_epoch(log: Path, name: str, size: int) -> None:
    text = "".join(LINES[name](epoch) + "\n" for epoch in course("healthy", 8)).encode()
    log_follower = FollowedLog(log)
    pairs = follow(log, [text[i : i + size] for i in range(0, len(text), size)], log_follower)
    assert len(pairs) >= 6, "all but the epoch that is being read, and one of which a progress bar is held back"
    pairs += [(row.epoch, row.train) for row in log_follower.new_epochs(ended=True)]
    whole = FollowedLog(log)
    rows = [*whole.new_epochs(), *whole.new_epochs(ended=True)]
    first = pairs[0][0]
    assert [epoch for epoch, _ in pairs] == list(range(first, first + 8))
    assert [train for _, train in pairs] == pytest.approx([row.train for row in rows], rel=1e-6)


def test_an_epoch_is_complete_once_the_log_is_silent(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_follower = FollowedLog(log)
    assert follow(log, ["\n".join(epochs(1, 3)).encode() + b"\n"], log_follower) == follow_result(1, 2)
    monkeypatch.setattr(followed_log, "SETTLE_S", 0.0)
    assert [row.epoch for row in log_follower.new_epochs()] == [3]
    assert log_follower.new_epochs() == [] and log_follower.new_epochs(ended=True) == []


def follow_result(first: int, last: int) -> list[tuple[int, float | None]]:
    return [(e, pytest.approx(0.9 + 1.5 * 0.93**e, abs=1e-4)) for e in range(first, last + 1)]


def test_a_replaced_log_is_read_from_its_start(log: Path) -> None:
    log_follower = FollowedLog(log)
    follow(log, ["\n".join(epochs(1, 5)).encode() + b"\n"], log_follower)
    aside = log.with_name("new.log")
    aside.write_text("\n".join(epochs(1, 3)) + "\n")
    os.replace(aside, log)
    assert [row.epoch for row in log_follower.new_epochs()] == [1, 2]


def test_other_numbers_are_appended_once(log: Path, tmp_path: Path) -> None:
    lines = [f"epoch {k} loss: {2 / k:.3f} acc: 0.{k}" for k in (1, 2, 3)]
    log.write_text("\n".join(lines) + "\n")
    for _ in range(2):
        metrics, followed = Metrics(tmp_path / "metrics.jsonl"), FollowedLog(log)
        for is_whole in (False, True):
            metrics.append(followed.new_epochs(ended=is_whole), 0.0)
            metrics.append_values(followed.complete_values(is_whole), 0.0)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert sorted(record["seq"] for record in records) == list(range(6))
    values = [(record["epoch"], record["values"]) for record in records if record["kind"] == "values"]
    assert values == [(1, {"acc": 0.1}), (2, {"acc": 0.2}), (3, {"acc": 0.3})]


def test_a_second_monitor_doubles_nothing(log: Path, tmp_path: Path) -> None:
    log.write_text(
        "\n".join([*epochs(1, 6), *traceback("KeyError: 'a'"), "resumed from epoch 4", *epochs(5, 9)]) + "\n"
    )
    for _ in range(2):
        metrics, log_follower = Metrics(tmp_path / "metrics.jsonl"), FollowedLog(log)
        metrics.append(log_follower.new_epochs(), 0.0)
        metrics.append(log_follower.new_epochs(ended=True), 0.0)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records][-5:] == [5, 6, 7, 8, 9] and [r["seq"] for r in records] == list(
        range(len(records))
    )


def test_components_and_nan_reach_the_records(log: Path, tmp_path: Path) -> None:
    log.write_text("Epoch 1/2 | Train Loss: 2.0 | Val Loss: nan | fmri_loss: 1.5 | video_loss: 0.5\n")
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.append(FollowedLog(log).new_epochs(ended=True), 0.0)
    record = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert record["train"]["total"] == 2.0 and record["validation"]["total"] is None


@pytest.mark.parametrize("kind", ["early_stopping", "complete", "lightning_stopped"])
def test_the_end_of_the_log_is_quoted(log: Path, kind: str) -> None:
    log.write_text("\n".join([*epochs(1, 20), *SURVIVED[kind]]) + "\n")
    log_follower = FollowedLog(log)
    log_follower.new_epochs(ended=True)
    sentence = adopted_run._end_sentence("epoch 50 of 50 has ended, by its log", log_follower)
    assert SURVIVED[kind][-1] in sentence and sentence.endswith("adopted, so its exit code is not known")
