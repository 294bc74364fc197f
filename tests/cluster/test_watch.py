"""Watching real nodes while connections are cut, silenced and frozen: nothing is lost, nothing comes twice."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from giblet_train.schema.errors import ConfigError
from giblet_tui.connection import agent_protocol, ssh
from giblet_tui.connection.protocol import Mark
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import cache, watch
from giblet_tui.monitor.snapshots import NodeSnapshot
from giblet_tui.monitor.watch import LogChunk, NodeWatch, follow_log, observe_once
from tests.cluster.nodes import Cluster, FaultProxy, LoopbackNode, processes, wait_until
from tests.liveruns import append, beat, end, make_run, step_line

WRITER = """
import os, sys, time
metrics, log = (os.open(p, os.O_WRONLY | os.O_APPEND | os.O_CREAT) for p in sys.argv[1:3])
n, template = 0, open(sys.argv[3], "rb").read()
while not os.path.exists(sys.argv[4]):
    os.write(metrics, template.replace(b'"seq":0,"step":0', b'"seq":%d,"step":%d' % (n, n)))
    line = b"line %d\\n" % n
    os.write(log, line[:4]); os.write(log, line[4:])
    n += 1
    time.sleep(0.004)
print(n)
"""


class SnapshotObserver:
    """Keeps what a NodeWatch posts."""

    def __init__(self, node: Node) -> None:
        self.posts: list[NodeSnapshot] = []
        self.watch = NodeWatch(node, self.posts.append, interval_s=0.1)
        self.watch.start()

    @property
    def last(self) -> NodeSnapshot:
        return self.posts[-1]

    def links(self, since: int = 0) -> list[str]:
        return [link for link, _ in itertools.groupby(post.link for post in self.posts[since:])]


@pytest.fixture
def observe() -> Iterator[Callable[[Node], SnapshotObserver]]:
    observers: list[SnapshotObserver] = []

    def start(node: Node) -> SnapshotObserver:
        observers.append(SnapshotObserver(node))
        return observers[-1]

    yield start
    for observer in observers:
        observer.watch.stop()


def test_one_look(tensor01: LoopbackNode, home: Path) -> None:
    run_dir = make_run(home, "demo", "tensor01")
    beat(run_dir, step=2)
    append(run_dir.metrics, step_line(0) + step_line(1) + b'{"half')
    append(run_dir.log, b"one\n\x1b]52;c;x\x07[@click=app.quit]two\n")
    tensor01.record_gpus("case $1 in *gpu=*) echo '0, GPU-1, RECORDED, 1024, 2048, 50, 60';; *) ;; esac")
    node = tensor01.node(workdir=str(home))
    snapshot = observe_once(node)
    assert (snapshot.link, snapshot.facts.n_cpus > 0, abs(snapshot.facts.clock_skew_s) < 60) == ("live", True, True)
    assert [(gpu.name, gpu.memory_used_gib) for gpu in snapshot.facts.gpus] == [("RECORDED", 1.0)]
    (run,) = snapshot.runs
    assert (run.run.run_id, run.health.state) == (run_dir.run_id, "running")
    assert [step.step for step in run.steps] == [0, 1]
    assert run.config is not None and run.config.name == "demo"
    assert run.log_tail == ("one", "\\x1b]52;c;x\\x07[@click=app.quit]two")
    assert observe_once(node, ["demo-20260101-000000-0000"]).runs == ()


def test_nothing_is_lost_or_doubled_over_cut_connections(
    proxy: FaultProxy,
    tensor02: LoopbackNode,
    home: Path,
    observe: Callable[[Node], SnapshotObserver],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A writer of 250 lines a second; six faults: sessions killed on the server, connections reset, one silence."""
    monkeypatch.setattr(agent_protocol, "SILENCE_S", 0.5)
    monkeypatch.setattr(ssh, "PROBE_LIMIT_S", 1.0)
    run_dir = make_run(home, "demo", "tensor02-by-proxy")
    (template := tmp_path / "line").write_bytes(step_line(0))
    argv = [sys.executable, "-c", WRITER, *map(str, (run_dir.metrics, run_dir.log, template, tmp_path / "enough"))]
    writer = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    observer = observe(proxy.node(workdir=str(home)))
    log: list[LogChunk] = []
    follower = threading.Thread(target=lambda: log.extend(follow_log(proxy.node(workdir=str(home)), run_dir.run_id)))
    follower.start()

    def steps() -> int:
        runs = observer.posts[-1].runs if observer.posts else ()
        return len(runs[0].steps) if runs else 0

    wait_until(lambda: steps() and log, what="the first steps and lines")
    for fault in (tensor02.cut, proxy.cut, tensor02.cut, proxy.cut, tensor02.cut):
        posts = len(observer.posts)
        fault()
        wait_until(lambda: observer.links(posts)[-2:] == ["lost", "live"], what="news after a fault")  # noqa: B023
    before, posts = steps(), len(observer.posts)
    proxy.silence()
    wait_until(lambda: "lost" in observer.links(posts), what="word of the silence")
    proxy.resume()
    wait_until(lambda: steps() > before, what="news after the silence")
    (tmp_path / "enough").touch()
    n_written = int(writer.communicate(timeout=120)[0])
    end(run_dir)
    wait_until(lambda: observer.last.runs[0].exit is not None, what="the run's end")
    follower.join(120)
    assert not follower.is_alive()
    assert [step.seq for step in observer.last.runs[0].steps] == list(range(n_written))
    assert observer.last.runs[0].malformed_lines == 0
    lines = [line for chunk in log for line in chunk.lines]
    assert lines == [f"line {n}" for n in range(int(lines[0].split()[1]), n_written)]
    assert any(chunk.notice for chunk in log)
    assert log[-1].health is not None and log[-1].health.state == "finished"


def test_a_frozen_server_is_lost_and_runs_are_unknown_not_dead(
    proxy: FaultProxy, home: Path, observe: Callable[[Node], SnapshotObserver]
) -> None:
    run_dir = make_run(home, "demo", "tensor02-by-proxy")
    beat(run_dir)
    observer = observe(proxy.node(workdir=str(home)))
    wait_until(lambda: observer.posts and observer.last.runs, what="the run")
    assert observer.last.runs[0].health.state == "running"
    proxy.silence()
    wait_until(lambda: observer.last.link == "lost", what="word of the silence")
    assert "is lost" in observer.last.link_sentence
    assert observer.last.runs[0].health.state == "unknown"
    assert observer.last.observed_at is not None and observer.last.observed_at < time.time() - 2
    proxy.resume()
    wait_until(lambda: observer.last.link == "live", what="the link")
    assert observer.last.runs[0].health.state == "running"


def test_a_refusal_is_not_tried_again_until_asked(
    cluster: Cluster,
    tensor01: LoopbackNode,
    home: Path,
    observe: Callable[[Node], SnapshotObserver],
    tmp_path: Path,
) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text("")
    cluster.add_host("not-yet-trusted", tensor01.address, tensor01.port)
    before, mark, block = cluster.ssh_config.read_text().rpartition("Host ")
    cluster.ssh_config.write_text(before + mark + block.replace(str(cluster.known_hosts), str(known_hosts)))
    came = tensor01.logged("Connection from")
    observer = observe(cluster.node("not-yet-trusted", tensor01.home, workdir=str(home)))
    wait_until(lambda: observer.posts and observer.last.link == "refused", what="the refusal")
    assert "not a known host" in observer.last.link_sentence
    posts = len(observer.posts)
    known_hosts.write_text(cluster.known_hosts.read_text())
    observer.watch.retry()
    wait_until(lambda: observer.last.link == "live", what="the link once it is trusted")
    assert observer.links(posts) in (["live"], ["connecting", "live"])
    assert tensor01.logged("Connection from") == came + 2, "one for the refusal, one when asked again"


def test_readers_end_with_their_client(
    tensor01: LoopbackNode, home: Path, observe: Callable[[Node], SnapshotObserver]
) -> None:
    observer = observe(tensor01.node(workdir=str(home)))
    wait_until(lambda: observer.posts and observer.last.link == "live", what="the link")
    assert readers(tensor01)
    tensor01.cut()
    observer.watch.stop()
    wait_until(lambda: not readers(tensor01), what="the end of the readers")


def test_a_snapshot_is_kept_for_next_time(
    tensor01: LoopbackNode, home: Path, observe: Callable[[Node], SnapshotObserver]
) -> None:
    run_dir = make_run(home, "demo", "tensor01")
    append(run_dir.metrics, b"".join(step_line(n) for n in range(1000)))
    observer = observe(tensor01.node(workdir=str(home)))
    wait_until(
        lambda: observer.posts and observer.last.runs and len(observer.last.runs[0].steps) == 1000, what="the steps"
    )
    observer.watch.stop()
    (cached_node,) = cache.load().nodes
    assert (cached_node.node, cached_node.link, cached_node.observed_at) == (
        "tensor01",
        "connecting",
        observer.last.observed_at,
    )
    steps = [step.step for step in cached_node.runs[0].steps]
    assert len(steps) == cache.MAX_STEPS and steps[-1] == 999 and steps == sorted(steps)


def test_the_log_of_a_run_that_is_not_there(tensor01: LoopbackNode, home: Path) -> None:
    with pytest.raises(ConfigError, match="has no run demo-20260101-000000-0000"):
        list(follow_log(tensor01.node(workdir=str(home)), "demo-20260101-000000-0000"))


def test_a_log_from_a_byte_to_its_end(tensor01: LoopbackNode, home: Path) -> None:
    run_dir = make_run(home, "demo", "tensor01")
    append(run_dir.log, b"first\nsecond\nthird, without a newline")
    beat(run_dir, "finished")
    end(run_dir)
    chunks = list(follow_log(tensor01.node(workdir=str(home)), run_dir.run_id, Mark(offset=6)))
    assert [line for chunk in chunks for line in chunk.lines] == ["second", "third, without a newline"]
    assert chunks[-1].offset == run_dir.log.stat().st_size
    assert chunks[-1].health is not None and chunks[-1].health.state == "finished"


def test_pauses_grow_and_are_jittered() -> None:
    pauses = watch.Pauses()
    delays = [pauses.next_s(now) for now in range(50)]
    assert 0.15 <= delays[0] <= 0.25 and max(delays) <= 3.0 and len(set(delays)) == 50
    assert max(pauses.next_s(100) for _ in range(10)) <= 6.25
    assert min([pauses.next_s(1000) for _ in range(10)][5:]) >= 22.5
    pauses.reset()
    assert pauses.next_s(0.0) <= 0.25


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a working directory for the node, of this test alone."""
    folder = tmp_path / "giblet"
    (folder / "runs").mkdir(parents=True)
    return folder


def readers(node: LoopbackNode) -> list[Any]:
    """Return the agents that run on a node."""
    pids = []
    for pid, _, command in processes():
        if "s.read(int(s.readline()))" in command and "sshd" not in command:
            try:
                environment = Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:
                continue
            if f"HOME={node.home}".encode() in environment:
                pids.append(pid)
    return pids
