"""The dashboard and `giblet logs` over a loopback sshd, beside toolong and wandb LEET on this machine's own files.

    python -m benchmarks.monitors              giblet alone
    python -m benchmarks.monitors PEERS        and the peers from the virtual environment PEERS, in the same run

All run in terminals of 120 x 40 cells. CPU is that of the program with what it starts here; giblet's agent on the other
side of the connection is told apart. Wall times are of a machine that others use too: read them beside one another.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from msgspec.structs import replace

from benchmarks.terminal import ESCAPE, Terminal
from giblet_train.schema.records import encode
from giblet_train.schema.run_dir import RunDir, write_record
from tests import fleets, rundirs
from tests.cluster.nodes import Cluster, LoopbackNode, processes

NODE = "tensor01"
WRITES = 30
LIVE_S = 15.0
FLOOD_S, FLOOD_PER_S, BATCH = 10.0, 1000, 50
EPOCHS = 500
LOG_BYTES = 1 << 30
DOWN_S, OUTAGES = (3.0, 8.0), 7
FIRST_CURVES, NEW_CURVES = "total fmri", 6
GIBLET = (sys.executable, "-c", "import sys; from giblet_tui.cli import main; sys.exit(main())")
LOGGER = """
import random, sys, wandb
run = wandb.init(mode="offline", dir=sys.argv[1], project="bench", settings=wandb.Settings(silent=True))
print(run.settings.sync_dir, flush=True)
for names in sys.stdin:
    run.log({name: random.random() for name in names.split()})
"""

Figures = dict[str, str]


class Live:
    """A run on the node, going on as this benchmark writes."""

    def __init__(self, node: LoopbackNode, name: str = "live", steps: int = 200) -> None:
        whole = fleets.run(name, steps=steps + 200, config=fleets.demo_config(num_epochs=EPOCHS))
        shift = time.time() - whole.steps[steps - 1].at
        later_steps = [replace(step, at=step.at + shift) for step in whole.steps]
        launch_record = replace(whole.run, launched_at=time.time())
        assert whole.heartbeat is not None
        self._beat = whole.heartbeat
        epochs = tuple(epoch for epoch in whole.epochs if epoch.step <= steps)
        beginning = replace(whole, run=launch_record, steps=tuple(later_steps[:steps]), epochs=epochs)
        self.run_id = beginning.run.run_id
        self.folder: RunDir = rundirs.write(node.home / "giblet", beginning, alive=True)
        self._coming = iter(later_steps[steps:])
        self.beat()

    def beat(self) -> None:
        write_record(self.folder.heartbeat, replace(self._beat, at=time.time()))

    def log(self, *lines: str) -> None:
        _append(self.folder.log, "".join(f"{line}\n" for line in lines).encode())

    def step(self) -> None:
        """Append the next step, as the engine records it."""
        _append(self.folder.metrics, encode(replace(next(self._coming), at=time.time())) + b"\n")
        self.beat()


def _append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        file.write(data)


@contextmanager
def dashboard(environment: Mapping[str, str]) -> Iterator[Terminal]:
    terminal = Terminal([*GIBLET, "dashboard", NODE], environment)
    try:
        yield terminal
    finally:
        terminal.close()


def told(lags: list[float]) -> str:
    sorted_lags = sorted(lags)
    p95 = sorted_lags[int(0.95 * (len(sorted_lags) - 1))]
    return f"p50 {median(sorted_lags):.3f} s, p95 {p95:.3f} s of {len(sorted_lags)}"


def latencies(terminal: Terminal, write: Callable[[str], None], count: int = WRITES) -> list[float]:
    """Measure the seconds from the write of a line until it is drawn, at moments that follow no beat."""
    lags = []
    for number in range(count):
        time.sleep(random.uniform(0.3, 0.9))
        marker = f"marker {number:06d} {random.randrange(10**6):06d}"
        began = time.monotonic()
        write(marker)
        lags.append(terminal.wait(marker, began))
    return lags


def percent_of_core(terminal: Terminal, each_second: Callable[[], None], seconds: float = LIVE_S) -> float:
    cpu_before_s, began = terminal.cpu_s(), time.monotonic()
    while time.monotonic() - began < seconds:
        each_second()
        time.sleep(1.0)
    return 100 * (terminal.cpu_s() - cpu_before_s) / (time.monotonic() - began)


def flood(write: Callable[..., None], stop: threading.Event, written_at: dict[int, float]) -> None:
    """Write FLOOD_PER_S numbered lines a second until `stop` is set; `written_at` has the time of each."""
    number, began = 0, time.monotonic()
    while not stop.is_set():
        fresh = range(number, number + BATCH)
        write(*(f"line {i:07d} loss 0.1234 lr 1e-4 grad 0.8" for i in fresh))
        written_at.update(dict.fromkeys(fresh, time.monotonic()))
        number += BATCH
        time.sleep(max(0.0, began + number / FLOOD_PER_S - time.monotonic()))


def flooded(terminal: Terminal, write: Callable[..., None]) -> tuple[list[float], float]:
    """Measure the lag of each repaint's newest line, and percent of a core, while the log grows fast."""
    stop, written_at = threading.Event(), dict[int, float]()
    writer = threading.Thread(target=flood, args=(write, stop, written_at))
    writer.start()
    time.sleep(1.0)
    cpu_before_s, began = terminal.cpu_s(), time.monotonic()
    time.sleep(FLOOD_S)
    percent, output = 100 * (terminal.cpu_s() - cpu_before_s) / (time.monotonic() - began), terminal.since(began)
    stop.set()
    writer.join()
    newest = ((at, re.findall(rb"line (\d{7})", ESCAPE.sub(b"", data))) for at, data in output)
    return [at - written_at[int(max(lines))] for at, lines in newest if lines], percent


def followed(environment: Mapping[str, str], live: Live) -> Figures:
    """Measure `giblet logs -f` of a log that grows fast: order and delay of lines, and CPU of this side."""
    command = [*GIBLET, "logs", live.run_id, "-f", "-n", "0"]
    process = subprocess.Popen(command, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    lags, numbers, stop, written_at = list[float](), list[int](), threading.Event(), dict[int, float]()
    is_attached = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for raw in process.stdout:
            is_attached.set()
            if match := re.match(rb"line (\d{7})", raw):
                numbers.append(int(match[1]))
                lags.append(time.monotonic() - written_at.get(int(match[1]), time.monotonic()))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    while not is_attached.wait(0.5):
        assert process.poll() is None, "giblet logs ended before it followed"
        live.log("is anybody there?")
    writer = threading.Thread(target=flood, args=(live.log, stop, written_at))
    writer.start()
    time.sleep(1.0)
    cpu_before_s, began = _tree_cpu(process.pid), time.monotonic()
    time.sleep(FLOOD_S)
    percent = 100 * (_tree_cpu(process.pid) - cpu_before_s) / (time.monotonic() - began)
    stop.set()
    writer.join()
    deadline = time.monotonic() + 10
    while len(numbers) < len(written_at) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    missing, n_doubled = len(set(written_at) - set(numbers)), len(numbers) - len(set(numbers))
    whole = f"{missing} lost, {n_doubled} doubled{'' if numbers == sorted(numbers) else ', OUT OF ORDER'}"
    return {"giblet logs -f, 1000 lines/s": f"{percent:.1f} % of a core; {told(lags)}; {whole}"}


def _tree_cpu(pid: int) -> float:
    process = Terminal.__new__(Terminal)
    process._pid = pid
    return process.cpu_s()


def reconnected(terminal: Terminal, node: LoopbackNode, live: Live, number: int) -> float:
    """Return the seconds from the moment that sshd listens again until what was written meanwhile is drawn."""
    sessions = node.sessions()
    node.stop()
    for pid in sessions:
        os.kill(pid, signal.SIGKILL)
    terminal.wait("lost", time.monotonic())
    time.sleep(random.uniform(*DOWN_S))
    late_line = f"written while the link was down {number}"
    live.log(late_line)
    node.start()
    back = time.monotonic()
    return terminal.wait(late_line, back, 30.0)


def opened(environment: Mapping[str, str], node: LoopbackNode) -> Figures:
    """Measure the seconds until an unknown run of EPOCHS epochs and LOG_BYTES of log is drawn."""
    live = Live(node, "long", EPOCHS * fleets.STEPS_PER_EPOCH - 20)
    with live.folder.log.open("r+b") as log:
        log.truncate(LOG_BYTES)
        log.seek(0, os.SEEK_END)
        log.write(b"\nmany lines\n" * 1000 + b"the very last line\n")
    with tempfile.TemporaryDirectory() as cache, dashboard({**environment, "XDG_CACHE_HOME": cache}) as terminal:
        seconds = terminal.wait("the very last line", terminal.began, 60.0)
        cpu = terminal.cpu_s()
    megabytes = live.folder.metrics.stat().st_size / 1e6
    name = f"open a {EPOCHS}-epoch run ({megabytes:.0f} MB of records) with a 1 GB log"
    return {name: f"{seconds:.2f} s to its last line, {cpu:.2f} CPU s, start of the program included"}


def giblet(environment: Mapping[str, str], node: LoopbackNode) -> Figures:
    live = Live(node)
    figures: Figures = {}
    with dashboard(environment) as terminal:
        live.log("the beginning")
        terminal.wait("the beginning", terminal.began, 60.0)
        time.sleep(3.0)
        figures["giblet: write on the node to pixel"] = told(latencies(terminal, live.log))
        agent = _agent(node)
        before = _tree_cpu(agent)
        figures["giblet: one live run, a step a second"] = (
            f"{percent_of_core(terminal, live.step):.1f} % of a core; its agent on the node "
            f"{100 * (_tree_cpu(agent) - before) / LIVE_S:.1f} %"
        )
        lags, percent = flooded(terminal, live.log)
        figures["giblet: dashboard, log at 1000 lines/s"] = f"{percent:.1f} % of a core; {told(lags)}"
        outages = [reconnected(terminal, node, live, number) for number in range(OUTAGES)]
        figures["giblet: fresh after sshd is back"] = (
            f"p50 {median(outages):.2f} s, longest {max(outages):.2f} s of {OUTAGES}"
        )
    return figures | followed(environment, live)


def _agent(node: LoopbackNode) -> int:
    """Return the process of this node that observes."""
    sessions = set(node.sessions())
    return next(pid for pid, parent, command in processes() if parent in sessions and "stdin.buffer" in command)


def toolong(peers: Path, folder: Path) -> Figures:
    log = folder / "train.log"
    log.write_text("the beginning\n" * 100)
    terminal = Terminal([str(peers / "bin" / "tl"), str(log)], os.environ)

    def write(*lines: str) -> None:
        _append(log, "".join(f"{line}\n" for line in lines).encode())

    try:
        terminal.wait("the beginning", terminal.began)
        time.sleep(3.0)
        terminal.press("\x1b[F")
        lag = told(latencies(terminal, write))
        lags, percent = flooded(terminal, write)
    finally:
        terminal.close()
    return {
        "toolong: write to pixel, a file here": lag,
        "toolong: log at 1000 lines/s": f"{percent:.1f} % of a core; {told(lags) if lags else 'nothing drawn'}",
    }


def leet(peers: Path, folder: Path) -> Figures:
    """Measure LEET: it draws curves, so the title of a new curve is waited for."""
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    logger = subprocess.Popen(
        [str(peers / "bin" / "python"), "-c", LOGGER, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment, bufsize=1,
    )  # fmt: skip
    assert logger.stdin is not None and logger.stdout is not None
    run = logger.stdout.readline().strip()

    def write(names: str = FIRST_CURVES) -> None:
        assert logger.stdin is not None
        logger.stdin.write(f"{names}\n")
        logger.stdin.flush()

    for _ in range(50):
        write()
    time.sleep(8.0)
    terminal = Terminal([str(peers / "bin" / "wandb"), "leet", run], environment)
    try:
        opened_s = terminal.wait("total", terminal.began, 30.0)
        started_s = terminal.cpu_s()
        time.sleep(5.0)
        lags = []
        for number in range(NEW_CURVES):
            began = time.monotonic()
            write(f"aa{number}")
            lags.append(terminal.wait(f"aa{number}", began, 20.0))
            time.sleep(random.uniform(1.0, 2.0))
        percent = percent_of_core(terminal, write)
    finally:
        terminal.close()
        logger.kill()
    return {
        "LEET: first write of a name to its curve, a file here": told(lags),
        "LEET: one live run, a step a second": f"{percent:.1f} % of a core",
        "LEET: first curve": f"{opened_s:.2f} s, {started_s:.2f} CPU s",
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("peers", nargs="?", type=Path, help="a virtual environment with toolong and wandb")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        settings = {name: str(folder / name) for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "GIBLET_HOME")}
        cluster = Cluster((NODE,))
        try:
            environment = {**os.environ, **settings, "GIBLET_SSH_CONFIG": str(cluster.ssh_config)}
            show(giblet(environment, cluster.nodes[NODE]))
            show(opened(environment, cluster.nodes[NODE]))
        finally:
            cluster.close()
        if options.peers is not None:
            (folder / "toolong").mkdir()
            (folder / "leet").mkdir()
            show(toolong(options.peers, folder / "toolong"))
            show(leet(options.peers, folder / "leet"))
    print(f"{'load of the machine, one minute':<60} {os.getloadavg()[0]:.1f}")


def show(figures: Figures) -> None:
    for name, value in figures.items():
        print(f"{name:<60} {value}", flush=True)


if __name__ == "__main__":
    main()
