"""What cluster operations cost and keep, on real sshd nodes of this machine: a page of figures on stdout.

    python -m benchmarks.cluster             the full counts; exit code 1 when a promise broke
    python -m benchmarks.cluster --quick     a twentieth of them

Every sshd, tmux, screen and process is real; there is no GPU, and a network is only a relay on loopback.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.cluster_page import (
    LINES_PER_S,
    OUTAGES_S,
    Cuts,
    Figures,
    Fleet,
    Growth,
    Storm,
    Verb,
    broken_promises,
    page,
)
from giblet_tui.agent import sessions
from giblet_tui.connection.protocol import RunIds
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor.node_state import FROM_THE_START
from giblet_tui.monitor.snapshots import NodeSnapshot
from giblet_tui.monitor.watch import NodeWatch, follow_log
from tests.cluster import trees
from tests.cluster.ground import Ground
from tests.cluster.laptop import GIBLET, Laptop
from tests.cluster.nodes import Cluster, FaultProxy, LoopbackNode, wait_until
from tests.liveruns import append, beat, end, make_run, step_line

STOP_CYCLES, LINK_CUTS, CONNECTS, NODES = 200, 20, 200, 8


class CountingProxy(FaultProxy):
    """A relay that counts how often the laptop speaks after the node did: the round trips, handshakes included."""

    turns = 0
    _node_spoke = True

    def _relay(self, source, sink) -> None:  # type: ignore[no-untyped-def]
        from_laptop = source.getsockname()[1] == self.port
        try:
            while data := source.recv(64 * 1024):
                self.turns += from_laptop and self._node_spoke
                self._node_spoke = not from_laptop
                sink.sendall(data)
            sink.shutdown(1)
        except OSError:
            pass


def verbs(cluster: Cluster, folder: Path) -> Iterator[Verb]:
    """Yield a run's life at the command line, each verb through a relay that counts."""
    node = cluster.nodes["n1"]
    relay = CountingProxy(node, "counted")
    laptop = Laptop(folder, cluster.ssh_config)
    laptop.name_nodes(f"counted:\n  python: {sys.executable}\n  workdir: {folder}/work\n  multiplexer: process\n")
    walk = [
        "setup counted",
        "node check counted",
        "doctor counted",
        "launch counted ./small.yaml",
        "ps counted",
        "status @last",
        "logs @last -n 20",
        "why @last",
        "pull @last --logs --to here",
        "stop @last",
        "logs @last -f",
        "stop --stale counted",
    ]
    for words in walk:
        logins, channels, turns = node.logged("Accepted publickey"), node.logged("Starting session"), relay.turns
        began = time.monotonic()
        result = laptop.giblet(*words.split())
        seconds = time.monotonic() - began
        yield Verb(
            words.split("./")[0].strip(),
            result.returncode,
            node.logged("Accepted publickey") - logins,
            node.logged("Starting session") - channels,
            relay.turns - turns,
            seconds,
        )
    relay.close()


def watching(cluster: Cluster, folder: Path, runs: int = 8, seconds: float = 5.0) -> Verb:
    """Return the dashboard's watch on one node with so many live runs."""
    node = cluster.nodes["n1"]
    relay = CountingProxy(node, "watched")
    run_dirs = [make_run(folder, f"run{n}", "watched") for n in range(runs)]
    before = node.logged("Accepted publickey"), node.logged("Starting session")
    posts: list[NodeSnapshot] = []
    watch = NodeWatch(relay.node(workdir=str(folder)), posts.append)
    watch.start()
    wait_until(lambda: posts and len(posts[-1].runs) == runs, 30.0)
    turns, began, n = relay.turns, time.monotonic(), 0
    while time.monotonic() - began < seconds:
        for run_dir in run_dirs:
            append(run_dir.metrics, step_line(n))
        n += 1
        time.sleep(0.25)
    turns = relay.turns - turns
    watch.stop()
    relay.close()
    logins, channels = node.logged("Accepted publickey") - before[0], node.logged("Starting session") - before[1]
    return Verb(f"dashboard, {runs} live runs, {seconds:.0f} s", 0, logins, channels, turns, seconds)


def storm(cycles: int) -> Storm:
    """Stop five kinds of trees (trees.py) on tmux and screen in turn, each second one while it still grows."""
    survivors, seconds = 0, []
    with ground_of_its_own() as ground:
        for cycle in range(cycles):
            variant = trees.VARIANTS[cycle % len(trees.VARIANTS)]
            kind = ("tmux", "screen")[cycle // len(trees.VARIANTS) % 2]
            run_id, tag = ground.start_tree(variant, kind)
            if cycle % 2 == 0:
                _await_tree(tag, trees.SIZE[variant])
            else:
                time.sleep(random.uniform(0.0, 0.3))
            result = ground.stop(run_id, grace_s=1.0)
            seconds.append(result["seconds"])
            survivors += len(trees.living(tag)) + bool(sessions.find_session(f"gib-{run_id}"))
    return Storm(cycles, survivors, tuple(seconds))


def _await_tree(tag: str, size: int) -> None:
    wait_until(lambda: len(trees.living(tag)) >= size, what="the tree")


def cuts(node: LoopbackNode, folder: Path, faults: int) -> Cuts:
    """Follow a log of LINES_PER_S while the link is reset, sessions are killed, or nothing passes, in turn."""
    relay = FaultProxy(node, f"cut-{time.time_ns()}")
    run_dir = make_run(folder, "demo", relay.name)
    writing, n_written = threading.Event(), [0]

    def write() -> None:
        while not writing.is_set():
            beat(run_dir, step=n_written[0])
            append(run_dir.metrics, step_line(n_written[0]))
            append(run_dir.log, b"line %d\n" % n_written[0])
            n_written[0] += 1
            time.sleep(1.0 / LINES_PER_S)

    posts: list[tuple[float, NodeSnapshot]] = []
    watch = NodeWatch(relay.node(workdir=str(folder)), lambda snapshot: posts.append((time.monotonic(), snapshot)))
    lines: list[str] = []
    target = relay.node(workdir=str(folder))

    def follow() -> None:
        for chunk in follow_log(target, run_dir.run_id, FROM_THE_START):
            lines.extend(chunk.lines)

    threads = [threading.Thread(target=work) for work in (write, follow)]
    for thread in threads:
        thread.start()
    watch.start()
    wait_until(lambda: posts and posts[-1][1].runs and posts[-1][1].runs[0].steps and lines, 30.0, "the first news")
    fresh, notice_delays_s = [], []
    for fault in range(faults):
        outage_s = OUTAGES_S[fault % len(OUTAGES_S)]
        gone_at = _break(relay, node, fault, outage_s)
        back_at, had = time.monotonic(), n_written[0]
        if outage_s:
            lost_at = [at for at, snapshot in posts if at > gone_at and snapshot.link == "lost"]
            notice_delays_s += [lost_at[0] - gone_at] if lost_at else []
        wait_until(lambda had=had: _newest_step(posts) >= had, 60.0, "news after a fault")  # type: ignore[misc]
        fresh.append(time.monotonic() - back_at)
        time.sleep(random.uniform(0.2, 0.6))
    writing.set()
    threads[0].join()
    end(run_dir)
    threads[1].join(60.0)
    wait_until(lambda: _newest_step(posts) == n_written[0] - 1, 30.0, "the last step")
    watch.stop()
    relay.close()
    seqs = [step.step for step in posts[-1][1].runs[0].steps]
    line_numbers = [int(line.split()[1]) for line in lines if line.startswith("line ")]
    n_lost = sum(n_written[0] - len(set(numbers)) for numbers in (seqs, line_numbers))
    n_doubled = sum(len(numbers) - len(set(numbers)) for numbers in (seqs, line_numbers))
    return Cuts(faults, 2 * n_written[0], n_lost, n_doubled, tuple(fresh), tuple(notice_delays_s))


def fleet(cluster: Cluster, folder: Path, how: str) -> Fleet:
    """Return `ps` over NODES nodes of which one refuses connections, or accepts them and says nothing."""
    relay = FaultProxy(cluster.nodes["n1"], f"dead-{how}")
    relay.silence() if how == "silent" else relay._listener.close()
    laptop = Laptop(folder, cluster.ssh_config)
    well = list(cluster.nodes)[: NODES - 1]
    laptop.name_nodes("".join(f"{name}:\n" for name in [*well, relay.name]))

    def timed(*words: str) -> float:
        began = time.monotonic()
        laptop.giblet("ps", *words)
        return time.monotonic() - began

    single_s = statistics.median(timed(well[0]) for _ in range(3))
    slowest = max(timed(name) for name in [*well, relay.name])
    every = timed(*well, relay.name)
    relay.close()
    return Fleet(NODES, how, every, slowest, single_s)


def growth(node: Node, connects: int) -> Growth:
    """Return file descriptors, threads and memory after many connections, less those after the first ten."""
    from giblet_tui.connection.connect import connect

    def now() -> tuple[int, int, float]:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return len(os.listdir("/proc/self/fd")), threading.active_count(), pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    before = now()
    for n in range(connects + 10):
        with connect(node) as connection:
            connection.call("runs", {"workdir": "/nowhere"}, RunIds)
        if n == 9:
            time.sleep(0.5)
            before = now()
    wait_until(lambda: threading.active_count() <= before[1], 10.0, "the end of the connections' threads")
    after = now()
    return Growth(connects, after[0] - before[0], after[1] - before[1], after[2] - before[2])


def measure(share: float, folder: Path, write_line: Callable[[str], None]) -> Figures:
    """Return all of it. share: of the full counts. write_line: receives what is measured."""
    cluster = Cluster(tuple(f"n{n}" for n in range(1, NODES + 1)))
    try:
        write_line("verbs")
        verb_figures = [*verbs(cluster, _made(folder / "verbs")), watching(cluster, _made(folder / "watch"))]
        write_line("cuts")
        cut = cuts(cluster.nodes["n2"], _made(folder / "cuts"), max(3, round(LINK_CUTS * share)))
        write_line("ps")
        fleets = [fleet(cluster, _made(folder / how), how) for how in ("refusing", "silent")]
        write_line("growth")
        growth_figures = growth(cluster.nodes["n3"].node(), max(10, round(CONNECTS * share)))
    finally:
        cluster.close()
    write_line("stops")
    stop_figures = storm(max(10, round(STOP_CYCLES * share)))
    return Figures(tuple(verb_figures), cut, tuple(fleets), growth_figures, stop_figures)


def _newest_step(posts: list[tuple[float, NodeSnapshot]]) -> int:
    runs = posts[-1][1].runs
    return runs[0].steps[-1].step if runs and runs[0].steps and posts[-1][1].link == "live" else -1


def _break(relay: FaultProxy, node: LoopbackNode, fault: int, outage_s: float) -> float:
    """Break the link, and let it come back: when it broke."""
    gone_at = time.monotonic()
    if outage_s:
        relay.silence()
        time.sleep(outage_s)
        relay.resume()
    elif fault % 2:
        node.cut()
    else:
        relay.cut()
    return gone_at


@contextmanager
def ground_of_its_own() -> Iterator[Ground]:
    """Yield a place for runs with tmux and screen sockets of its own; their paths must be short."""
    with tempfile.TemporaryDirectory(prefix="gib-", dir="/tmp") as folder:
        for variable, name in (("TMUX_TMPDIR", "tmux"), ("SCREENDIR", "screen")):
            Path(folder, name).mkdir(mode=0o700)
            os.environ[variable] = str(Path(folder, name))
        os.environ.pop("GIBLET_RUN_ID", None)
        ground = Ground(Path(folder, "work"))
        try:
            yield ground
        finally:
            ground.clear()
            if tmux := shutil.which("tmux"):
                subprocess.run([tmux, "-L", "giblet", "kill-server"], capture_output=True, check=False)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    assert GIBLET.exists(), f"{GIBLET} is missing: pip install -e ."
    with tempfile.TemporaryDirectory(prefix="gib-", dir="/tmp") as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        figures = measure(0.05 if quick else 1.0, Path(folder), lambda what: print(what, file=sys.stderr, flush=True))
    print(page(figures))
    for promise in (faults := broken_promises(figures)):
        print(f"broken: {promise}", file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
