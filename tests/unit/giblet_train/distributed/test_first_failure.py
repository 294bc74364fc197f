"""What failed first on a node, out of what torchrun printed; and one run out of what several nodes tell."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from giblet_train.distributed.first_failure import first_failure
from giblet_train.distributed.node_link import SILENCE_S, NodeLink, free_port
from giblet_train.schema.health import Health
from giblet_train.schema.records import Rendezvous, Run
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot, RunSnapshot

SUMMARY = """\
============================================================
giblet_train.train FAILED
------------------------------------------------------------
Failures:
[1]:
  time      : 2026-11-25_18:11:25
  rank      : 2 (local_rank: 0)
  exitcode  : 1 (pid: 20150)
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-25_18:11:23
  host      : vm
  rank      : 3 (local_rank: 1)
  exitcode  : {code} (pid: 20153)
  error_file: <N/A>
============================================================
"""


def ended(ranks: Path, code: int, stderr: str = "", error: str = "") -> str:
    """Write what a failed rank leaves, and return what torchrun printed."""
    folder = ranks / "none_x1" / "attempt_0" / "1"
    folder.mkdir(parents=True)
    (folder / "stderr.log").write_text(stderr)
    if error:
        (folder / "error.json").write_text(json.dumps({"message": {"message": error, "extraInfo": {}}}))
    return "[default1]:giblet: something\n" + SUMMARY.format(code=code)


@pytest.mark.parametrize(
    ("code", "stderr", "error", "sentence", "echo"),
    [
        (-9, "", "", "was killed by signal 9", False),
        (1, "", "", "ended with code 1", False),
        (1, "", "ValueError: no such voxel\n  more", "ValueError: no such voxel", False),
        (1, "", "RuntimeError: [gloo] Connection closed by peer [10.0.0.2]:1", "", True),
        (2, "W1 warning\ngiblet: sub-02.nii.gz is 3-D.\n  mend it\n", "", "sub-02.nii.gz is 3-D.", False),
    ],
)
def test_the_first_failure_is_reported_in_its_own_words(tmp_path, code, stderr, error, sentence, echo):
    failure = first_failure(ended(tmp_path, code, stderr, error), tmp_path)
    assert failure is not None
    assert (failure.local_rank, failure.echo) == (1, echo)
    assert failure.sentence == (sentence or error)


def test_without_torchruns_summary_nothing_is_named(tmp_path):
    assert first_failure("", tmp_path) is None


def test_nodes_meet_by_their_key_and_a_broken_link_is_reported():
    rendezvous = Rendezvous(address="127.0.0.1", port=free_port(), key="ab" * 16)
    first = NodeLink(rendezvous, 0, 2)
    scan = socket.create_connection(("127.0.0.1", rendezvous.port))  # says nothing, and stays
    stranger = NodeLink(replace(rendezvous, key="cd" * 16), 1, 2)
    second = NodeLink(rendezvous, 1, 2)
    second_heard = heard(second, lambda: first.send({"port": 7}))
    assert second_heard == (0, {"port": 7})
    assert first.missing == set() and stranger.missing == {0}
    second.close()
    assert heard(first) == (1, {"gone": "its connection broke"})
    for link in (first, stranger, scan):
        link.close()


def test_silence_is_an_end(monkeypatch):
    first = NodeLink(Rendezvous(address="127.0.0.1", port=free_port(), key="ab" * 16), 0, 2)
    first._heard_at[1] = time.monotonic()
    later = first._heard_at[1] + SILENCE_S + 1.0
    monkeypatch.setattr("giblet_train.distributed.node_link.time.monotonic", lambda: later)
    assert first.receive(0.01) == (1, {"gone": "no message from it for 20 s"})
    assert first.receive(0.01) is None
    first.close()


def heard(meeting: NodeLink, meanwhile=lambda: None):
    deadline = time.monotonic() + 120.0
    while (message := meeting.receive(0.1)) is None:
        meanwhile()
        assert time.monotonic() < deadline
    return message


def snapshot(node: str, rank: int, state: str, launched_at: float = 5.0) -> RunSnapshot:
    run = Run(
        run_id="demo-20261125-101500-3f2a", name="demo", node=node, session="s", multiplexer="tmux", argv=(),
        config_hash="", giblet_version="", launched_by="", launched_at=launched_at, nodes=("a", "b"), node_rank=rank,
    )  # fmt: skip
    return RunSnapshot(run=run, health=Health(state=state, sentence=f"{state} there"))


def test_one_row_of_several_nodes():
    first, second = snapshot("a", 0, "running"), snapshot("b", 1, "running")
    nodes = [NodeSnapshot(node="b", link="live", runs=(second,)), NodeSnapshot(node="a", link="live", runs=(first,))]
    (row,) = Fleet(nodes=tuple(nodes)).runs()
    assert row.run.node == "a" and [(p.node, p.state) for p in row.parts] == [("a", "running"), ("b", "running")]
    (half,) = Fleet(nodes=tuple(nodes[1:])).runs()
    assert [(p.node, p.state) for p in half.parts] == [("a", "running"), ("b", "unknown")]
    finished_run = replace(second, health=Health(state="finished", sentence="ended with code 0"))
    stopped_run = replace(first, health=Health(state="stopped", sentence="stopped on request"))
    both = Fleet(nodes=(replace(nodes[0], runs=(finished_run,)), replace(nodes[1], runs=(stopped_run,))))
    assert [p.state for p in both.runs()[0].parts] == ["stopped", "stopped"]
