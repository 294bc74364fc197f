"""A run followed to its end on this machine, over real files that grow."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec
import pytest

from giblet_train.schema.errors import ConfigError
from giblet_train.schema.records import Exit, SupervisorRecord, encode
from giblet_tui.agent.proc import boot_id, start_ticks
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor.follow import follow
from tests import fleets


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Node(name="local", host="localhost", transport="local", workdir=str(tmp_path / "work"))


def write_run(node: Node) -> tuple[Path, str]:
    """Return a run directory as it is once the engine has written some steps."""
    snapshot = fleets.run(steps=30, node="local")
    record = msgspec.structs.replace(snapshot.run, multiplexer="process")
    run_dir = Path(node.workdir) / "runs" / record.run_id
    run_dir.mkdir(parents=True)
    (run_dir / "run.json").write_bytes(encode(record))
    # This process stands for the supervisor: alive as long as the test.
    pid = os.getpid()
    alive = SupervisorRecord(
        run_id=record.run_id, pid=pid, start_ticks=start_ticks(pid) or 0, boot_id=boot_id(), started_at=fleets.NOW
    )
    (run_dir / "supervisor.json").write_bytes(encode(alive))
    lines = [encode(metric) for metric in snapshot.metrics]
    (run_dir / "metrics.jsonl").write_bytes(b"".join(line + b"\n" for line in lines[:20]))
    return run_dir, record.run_id


def test_what_is_written_is_seen_until_the_run_has_ended(node: Node) -> None:
    run_dir, run_id = write_run(node)
    lines = [encode(metric) for metric in fleets.run(steps=30, node="local").metrics]
    events: list[int] = []

    def go_on() -> None:
        with (run_dir / "metrics.jsonl").open("ab") as file:
            file.write(b"".join(line + b"\n" for line in lines[20:]))
        (run_dir / "exit.json").write_bytes(encode(Exit(run_id=run_id, ended_at=fleets.NOW, code=0)))

    for sight in follow(node, run_id):
        if sight.run is not None:
            if not events:
                threading.Thread(target=go_on).start()
            events.append(len(sight.run.steps))
    assert sight.run is not None
    assert (sight.link, sight.run.health.state) == ("live", "finished")
    assert len(sight.run.steps) == 30
    assert events == sorted(events)


def test_a_run_that_is_not_there_is_an_error(node: Node) -> None:
    with pytest.raises(ConfigError, match="has no run demo-20260101-000000-abcd"):
        list(follow(node, "demo-20260101-000000-abcd"))
