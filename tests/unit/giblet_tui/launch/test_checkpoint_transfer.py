"""The checkpoint of a run over several nodes: found on the first, brought to those that lack it, or refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from giblet_train.schema.errors import PreflightRefused
from giblet_train.schema.records import CheckpointRecord
from giblet_train.schema.run_dir import RunDir, write_record
from giblet_tui.connection.base import Connection
from giblet_tui.connection.connect import connect
from giblet_tui.inventory.nodes import Node
from giblet_tui.launch import checkpoint_transfer
from giblet_tui.launch.checkpoint_transfer import plan_transfer

RUN_ID = "demo-20260101-120000-abcd"
Members = list[tuple[Node, Connection]]


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    nodes = [Node(name=n, host=n, transport="local", workdir=str(tmp_path / n)) for n in ("one", "two", "three")]
    connections = [connect(node) for node in nodes]
    yield list(zip(nodes, connections, strict=True))
    for connection in connections:
        connection.close()


def save(node: Node, step: int, weights: bytes) -> Path:
    folder = RunDir(Path(node.workdir) / "runs" / RUN_ID).checkpoints
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:08d}.safetensors"
    path.write_bytes(weights)
    record = CheckpointRecord(
        file=path.name, step=step, epoch=1, at=0.0, sha256=hashlib.sha256(weights).hexdigest(), bytes=len(weights),
        config_hash="c", store_key="s",
    )  # fmt: skip
    write_record(path.with_suffix(".json"), record)
    return path


@pytest.mark.parametrize("name_of", [lambda path: f"{RUN_ID}/checkpoints/{path.name}", lambda path: RUN_ID])
def test_a_node_without_it_gets_the_same_one(members: Members, name_of: Callable[[Path], str]) -> None:
    """`two` has a later one of the same run, left from elsewhere: it must not be taken there."""
    path = save(members[0][0], 20, b"weights" * 1000)
    save(members[1][0], 30, b"others")
    transfer = plan_transfer(members, name_of(path))
    assert transfer.checkpoint.place == f"{RUN_ID}/checkpoints/{path.name}"
    reports: list[str] = []
    transfer.transfer(reports.append)
    assert len(reports) == 2 and reports[0].startswith("two: copying ") and reports[0].endswith(" from one, 0.0 MB")
    for node, _ in members:
        there = Path(node.workdir) / "runs" / transfer.checkpoint.place
        assert there.read_bytes() == path.read_bytes()
        assert there.with_suffix(".json").read_bytes() == path.with_suffix(".json").read_bytes()
    assert plan_transfer(members, transfer.checkpoint.place).destinations == ()
    seen_by_all = plan_transfer(members, str(path))
    assert (seen_by_all.checkpoint.place, seen_by_all.destinations) == (str(path), ()), (
        "a whole path means the same everywhere"
    )


def test_what_is_not_there_or_too_large_is_refused_in_words(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PreflightRefused, match=f"one has no whole checkpoint of {RUN_ID}"):
        plan_transfer(members, RUN_ID)
    path = save(members[0][0], 20, b"weights")
    monkeypatch.setattr(checkpoint_transfer, "ASK_ABOVE_BYTES", 6)
    with pytest.raises(PreflightRefused, match=r"two, three lacks demo-.*step-00000020") as refusal:
        plan_transfer(members, RUN_ID)
    assert f"scp -3 one:{path} one:{path.with_suffix('.json')} two:" in refusal.value.remedy
    path.unlink()
    with pytest.raises(PreflightRefused, match="one has no whole checkpoint"):
        plan_transfer(members, RUN_ID)
