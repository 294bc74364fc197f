"""What the dashboard costs: a chart frame, a live run, eight busy nodes, the first screen; and the start of commands.

    python -m benchmarks.tui            all of them, in CPU seconds of a process
    python -m benchmarks.tui --json     one JSON object

Wall time depends on who else uses the machine; process time does not, so that is what is reported, with the load.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from giblet_tui.dashboard.app import DashboardApp
from giblet_tui.dashboard.charts import loss_chart
from giblet_tui.dashboard.charts.loss_chart import Chart
from giblet_tui.dashboard.charts.viewport import Viewport
from giblet_tui.monitor import cache
from giblet_tui.monitor.metric_columns import NAMES, Points, Range, Smoother
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot, RunSnapshot
from giblet_tui.monitor.watch import INTERVAL_S
from tests import fleets

POINTS = 500_000
PANEL = (60, 12)
SCREEN = (120, 40)
ROUNDS = 15
LIVE_S = 20.0
START_UP_ROUNDS = 15
BARE = """
import asyncio
from textual.app import App

async def first():
    async with App().run_test(size=(120, 40)) as pilot:
        await pilot.pause()
asyncio.run(first())
"""
FIRST_SCREEN = """
import asyncio, gc
gc.disable()  # as run_dashboard does
from giblet_tui.dashboard import load_numpy
load_numpy()
from giblet_tui.monitor import cache
from giblet_tui.dashboard.app import DashboardApp

class Silent:
    def start(self, post): pass
    def close(self): pass
    def stop(self, run_id, report): return ""

async def first():
    app = DashboardApp(Silent(), Silent(), cache.load())
    assert app.fleet.runs()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
asyncio.run(first())
"""


class Feed:
    """A source that posts on request."""

    def start(self, post: Callable[[NodeSnapshot], None]) -> None:
        self.post = post

    def close(self) -> None:
        pass


def frame() -> dict[str, float]:
    """Return the CPU milliseconds to draw five panels of half a million points: nothing new, and one new point each."""
    random_of = np.random.default_rng(0)
    x_N = np.arange(POINTS, dtype=np.float64)
    y_N = 1 / (1 + x_N / 1e5) + random_of.normal(0, 0.05, POINTS)
    smoothers = {name: Smoother(0.9) for name in NAMES}
    smooth_N = {name: smoother.smoothed(y_N[:-ROUNDS]) for name, smoother in smoothers.items()}
    held_out = Points(x_N[::1000], y_N[::1000] + 0.1)

    def draw(name: str, raw: Points, smooth_N: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
        whole = Range(0, float(raw.x_N[-1]))
        loss_chart.rows(Chart(name, Viewport(), whole, raw, Points(raw.x_N, smooth_N), held_out, 1.0), *PANEL)

    still, growing = [], []
    for size in range(POINTS - ROUNDS, POINTS):
        raw = Points(x_N[:size], y_N[:size])
        began = time.process_time()
        for name in NAMES:
            draw(name, Points(x_N[: POINTS - ROUNDS], y_N[: POINTS - ROUNDS]), smooth_N[name])
        middle = time.process_time()
        for name in NAMES:
            draw(name, raw, smoothers[name].smoothed(raw.y_N))
        still.append(middle - began)
        growing.append(time.process_time() - middle)
    return {"redraw_ms": round(1e3 * median(still), 2), "redraw_with_new_point_ms": round(1e3 * median(growing), 2)}


async def live(n_nodes: int, runs_per_node: int, seconds: float, steps_per_s: int = 1) -> float:
    """Return the percent of a core while every run makes N steps per second, in as many snapshots as a node sends."""
    rounds_per_s = min(steps_per_s, round(1 / INTERVAL_S))
    full = fleets.run(steps=380)
    names = [f"tensor{i:02d}" for i in range(n_nodes)]

    def snapshot(name: str, steps: int) -> NodeSnapshot:
        return fleets.node(name, tuple(_grown(full, name, i, steps) for i in range(runs_per_node)), gpus=8)

    feed = Feed()
    started_at = time.time()
    app = DashboardApp(
        feed,
        None,
        Fleet(nodes=tuple(snapshot(name, 200) for name in names)),
        clock=lambda: fleets.NOW + time.time() - started_at,
    )
    async with app.run_test(size=SCREEN) as pilot:
        await pilot.pause()
        await asyncio.sleep(2)
        cpu_before_s, spent_on_feed, began = time.process_time(), 0.0, time.monotonic()
        for round_ in count(1):
            for name in names:
                before = time.process_time()
                fresh = snapshot(name, 200 + round_ * steps_per_s // rounds_per_s % 180)
                older = msgspec.structs.replace(fresh, observed_at=fleets.NOW + time.time() - started_at)
                spent_on_feed += time.process_time() - before
                feed.post(older)
            await asyncio.sleep(max(0.0, began + round_ / rounds_per_s - time.monotonic()))
            if round_ >= seconds * rounds_per_s:
                break
        busy = time.process_time() - cpu_before_s - spent_on_feed
        return round(100 * busy / (time.monotonic() - began), 2)


def _grown(full: RunSnapshot, node: str, index: int, steps: int) -> RunSnapshot:
    run_id = f"demo{index}-20270115-080000-{index:04x}"
    return msgspec.structs.replace(
        full,
        run=msgspec.structs.replace(full.run, run_id=run_id, name=f"demo{index}", node=node),
        steps=full.steps[:steps],
        epochs=full.epochs[: steps // fleets.STEPS_PER_EPOCH],
        log_tail=(*full.log_tail, f"step {steps}"),
    )


def first_screen_s() -> float:
    """Return the CPU seconds from a new process to the first screen, drawn from the cache of a node with one run."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for node in fleets.healthy().nodes:
            cache.save(node)
        return min(cpu_s(FIRST_SCREEN) for _ in range(3))


def start_up_ratios() -> dict[str, float]:
    """Return the CPU of commands that reach no node, over that of `python -c pass` in the same environment.

    The cache has one live run of the node `local`. The medians are of rounds in which all programs run in turn, because
    others who use the machine make all of them slower.
    """
    command = "import sys; sys.argv[1:] = {!r}; from giblet_tui.cli import main; main()"
    verbs = ("--help", "ps --cached", "config ls")
    programs = {"pass": "pass", **{verb: command.format(verb.split()) for verb in verbs}}
    full = fleets.run(steps=380)
    run = msgspec.structs.replace(full, run=msgspec.structs.replace(full.run, node="local"))
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"XDG_CACHE_HOME": folder, "XDG_CONFIG_HOME": folder}
        cache.save(fleets.node("local", (run,)))
        rounds = [{name: cpu_s(program) for name, program in programs.items()} for _ in range(START_UP_ROUNDS)]
    costs = {name: median(costs[name] for costs in rounds) for name in programs}
    return {f"{verb}_over_python_pass": round(costs[verb] / costs["pass"], 1) for verb in verbs}


def cpu_s(program: str) -> float:
    """Return the CPU seconds of a new process that runs this program, the interpreter's own start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        cwd=Path(__file__).parents[1],
        env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 4)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments.add_argument("--seconds", type=float, default=LIVE_S, help="how long each live measurement lasts")
    options = arguments.parse_args()
    figures = {
        **frame(),
        "one_run_percent_of_core": asyncio.run(live(1, 1, options.seconds)),
        "one_run_of_ten_steps_per_second_percent_of_core": asyncio.run(live(1, 1, options.seconds, steps_per_s=10)),
        "eight_nodes_of_four_runs_percent_of_core": asyncio.run(live(8, 4, options.seconds)),
        "first_screen_cpu_s": first_screen_s(),
        "bare_textual_first_screen_cpu_s": min(cpu_s(BARE) for _ in range(3)),
        **start_up_ratios(),
        "load_1m": round(os.getloadavg()[0], 1),
    }
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):<44} {value}")


if __name__ == "__main__":
    main()
