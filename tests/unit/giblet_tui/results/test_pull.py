"""Checkpoints brought here: continued where a pull was cut, refused when damaged, never outside the folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.health import Health
from giblet_train.schema.records import Adoption, CheckpointRecord, decode
from giblet_train.schema.run_dir import RunDir
from giblet_tui.connection.base import Connection
from giblet_tui.connection.connect import connect
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.results import pull
from tests import fleets, rundirs

WEIGHTS = os.urandom(700_000)
WAYS = {"best": "pull it --best", "last": "pull it --last"}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(name="local", host="localhost", transport="local", workdir=str(tmp_path / "work"))


@pytest.fixture
def run(tmp_path: Path) -> RunSnapshot:
    """Return a run with one checkpoint, which is its best."""
    record = CheckpointRecord(
        file="step-00000040.safetensors", step=40, epoch=2, at=0.0, sha256=hashlib.sha256(WEIGHTS).hexdigest(),
        bytes=len(WEIGHTS), config_hash="c", store_key="s", roles=("best", "last"),
    )  # fmt: skip
    snapshot = replace(fleets.run(), checkpoints=(record,))
    folder = rundirs.write(tmp_path / "work", snapshot)
    folder.checkpoints.mkdir()
    (folder.checkpoints / record.file).write_bytes(WEIGHTS)
    return snapshot


class Counted:
    """A connection that counts the bytes of `get`."""

    def __init__(self, real: Connection) -> None:
        self.real, self.n_bytes = real, 0

    def get(self, path: str, **limits: int) -> object:
        for piece in self.real.get(path, **limits):
            self.n_bytes += len(piece)
            yield piece


def bring(node: Node, run: RunSnapshot, target: Path) -> tuple[Path, int]:
    with connect(node) as connection:
        counter = Counted(connection)
        record = pull.checkpoint(run, "best", WAYS)
        return pull.weights(counter, node, run, record, target, lambda _: None), counter.n_bytes  # type: ignore[arg-type]


def part_in(target: Path) -> Path:
    folder = target / "checkpoints"
    folder.mkdir()
    return folder / ".step-00000040.safetensors.part"


def test_a_checkpoint_arrives_whole_and_is_not_brought_twice(node: Node, run: RunSnapshot, tmp_path: Path) -> None:
    path, n_bytes = bring(node, run, tmp_path / "here")
    assert (path.read_bytes() == WEIGHTS, n_bytes) == (True, len(WEIGHTS))
    assert bring(node, run, tmp_path / "here") == (path, 0)
    assert path == RunDir(tmp_path / "here").checkpoints / "step-00000040.safetensors"
    assert decode(path.with_suffix(".json").read_bytes(), CheckpointRecord) == run.checkpoints[0]


@pytest.mark.parametrize("here", [0, 1, 262_144, len(WEIGHTS) - 1, len(WEIGHTS)])
def test_a_cut_pull_continues_where_it_was(node: Node, run: RunSnapshot, tmp_path: Path, here: int) -> None:
    part = part_in(tmp_path)
    part.write_bytes(WEIGHTS[:here])
    path, n_bytes = bring(node, run, tmp_path)
    assert (path.read_bytes() == WEIGHTS, n_bytes) == (True, len(WEIGHTS) - here)
    assert not part.exists()


@pytest.mark.parametrize("start", [b"damaged", b"x" * (len(WEIGHTS) + 5)], ids=["shorter", "longer"])
def test_damaged_bytes_are_never_put_in_place(node: Node, run: RunSnapshot, tmp_path: Path, start: bytes) -> None:
    part = part_in(tmp_path)
    part.write_bytes(start)
    if len(start) > len(WEIGHTS):
        assert bring(node, run, tmp_path)[1] == len(WEIGHTS)
        return
    with pytest.raises(DataError, match="arrived damaged"):
        bring(node, run, tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "-rf", ".bashrc", "a/b", "a\nb", "\x1b[2J", "x" * 130])
def test_a_hostile_file_name_is_refused(run: RunSnapshot, name: str) -> None:
    record = replace(run.checkpoints[0], file=name)
    with pytest.raises(DataError, match="not a plain file name"):
        pull.checkpoint(replace(run, checkpoints=(record,)), "best", WAYS)


def test_a_role_that_no_checkpoint_has_is_reported_with_the_words_that_bring_another(run: RunSnapshot) -> None:
    """Of a run that goes on it is not there yet; of one that ended before it saved, the reason is to be looked for."""
    run_id = run.run.run_id
    ended_run = replace(run, checkpoints=(), health=Health(state="failed", sentence="ended with code 1"))
    goes_on = replace(ended_run, health=Health(state="running", sentence="heartbeat now"))
    adoption = Adoption(address="s", mark="STY=1.s", at=0.0, by="ada")
    adopted_run = replace(ended_run, run=replace(run.run, adopted=adoption))
    newest = replace(goes_on, checkpoints=(replace(run.checkpoints[0], roles=("last",)),))
    for snapshot, sentence, remedy in (
        (goes_on, "has no best checkpoint yet.", f"`giblet status {run_id}` shows its state."),
        (newest, "has no best checkpoint yet.", "pull it --last"),
        (ended_run, "has no best checkpoint.", f"It ended before it saved one: giblet why {run_id}"),
        (adopted_run, "has no checkpoints that giblet knows of: it was adopted.", f"giblet pull {run_id} --logs"),
    ):
        with pytest.raises(ConfigError) as error:
            pull.checkpoint(snapshot, "best", WAYS)
        assert (error.value.message, error.value.remedy) == (f"{run_id} {sentence}", remedy)
