"""A dashboard's watch for a long time: memory, descriptors, threads and CPU of laptop and agent, by quarters."""

from __future__ import annotations

import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.reliability_page import Numbers, Outcome
from giblet_tui.agent.proc import descendants
from giblet_tui.dashboard.model.judgement import JudgementCache
from giblet_tui.monitor.metric_columns import StepColumns
from giblet_tui.monitor.snapshots import NodeSnapshot
from giblet_tui.monitor.watch import NodeWatch
from tests.cluster.nodes import Cluster, processes, wait_until
from tests.liveruns import append, beat, make_run, step_line

N_RUNS, STEPS_PER_S = 8, 14.0
SAMPLE_S = 5.0


class Sample(NamedTuple):
    """What laptop and agent hold at a moment."""

    descriptors: float
    threads: float
    rss_mib: float
    agent_rss_mib: float
    cpu_s: float
    """Of the watch since its start, without this thread, which only takes the samples."""
    n_steps: float
    """Steps of all runs."""


def soak(minutes: int, chance: random.Random, folder: Path) -> Numbers:
    """Watch runs that write all the time; compare the second quarter of the time with the last."""
    cluster = Cluster(("soaked",))
    posts: list[NodeSnapshot] = []
    try:
        node = cluster.nodes["soaked"].node(workdir=str(folder))
        runs = [make_run(folder, f"run{n}", "soaked") for n in range(N_RUNS)]
        watch = NodeWatch(node, _dashboard(posts))
        watch.start()
        wait_until(lambda: posts and len(posts[-1].runs) == N_RUNS, 60.0, "the first snapshot")
        process = os.fork()
        if process == 0:
            _write(runs, minutes * 60.0)
        samples = []
        ends_at = time.monotonic() + minutes * 60.0
        while time.monotonic() < ends_at:
            time.sleep(SAMPLE_S)
            samples.append(_sample(posts[-1]))
        os.waitpid(process, 0)
        watch.stop()
    finally:
        cluster.close()
    return {name: [round(getattr(s, name), 3) for s in samples] for name in Sample._fields}


def _dashboard(posts: list[NodeSnapshot]) -> Callable[[NodeSnapshot], None]:
    """Return what takes each snapshot as the dashboard does: it judges all runs and draws the curves of one."""
    judge, columns = JudgementCache(), StepColumns()

    def take(snapshot: NodeSnapshot) -> None:
        judge.judgements(snapshot)
        for run in snapshot.runs[-1:]:
            columns.curves(run.steps, run.epochs)
        posts[:] = [snapshot]

    return take


def _write(runs: Sequence, seconds: float) -> None:  # type: ignore[type-arg]
    """Append steps and log lines to all runs, in a process of its own; does not return."""
    ends_at = time.monotonic() + seconds
    step = 0
    try:
        while time.monotonic() < ends_at:
            for run_dir in runs:
                append(run_dir.metrics, step_line(step))
                append(run_dir.log, b"step %d\n" % step)
                if step % int(STEPS_PER_S) == 0:
                    beat(run_dir, step=step)
            step += 1
            time.sleep(1.0 / STEPS_PER_S)
    finally:
        os._exit(0)


def _sample(snapshot: NodeSnapshot) -> Sample:
    mine = descendants([os.getpid()])
    agents = [pid for pid, _, command in processes() if pid in mine and " -I -c " in command]
    return Sample(
        len(os.listdir("/proc/self/fd")),
        threading.active_count(),
        _rss_mib(os.getpid()),
        max(map(_rss_mib, agents), default=0.0),
        time.process_time() - time.thread_time(),
        sum(len(run.steps) for run in snapshot.runs),
    )


def _rss_mib(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def judge_soak(numbers: Numbers) -> Outcome:
    """Compare the second quarter of the time with the last."""
    samples = [Sample(*values) for values in zip(*numbers.values(), strict=True)]
    quarter = len(samples) // 4
    second, last = samples[quarter : 2 * quarter], samples[3 * quarter :]
    descriptors = max(s.descriptors for s in last) - max(s.descriptors for s in second)
    threads = max(s.threads for s in last) - max(s.threads for s in second)
    cpu = [(part[-1].cpu_s - part[0].cpu_s) / ((len(part) - 1) * SAMPLE_S) for part in (second, last)]
    rss = [statistics.median(s.rss_mib for s in part) for part in (second, last)]
    agent = [statistics.median(s.agent_rss_mib for s in part) for part in (second, last)]
    n_steps = last[-1].n_steps - second[0].n_steps
    grown_bytes = (rss[1] - rss[0]) * 2**20
    sentence = (
        f"{descriptors:+.0f} descriptors, {threads:+.0f} threads, "
        f"{100 * cpu[0]:.1f} then {100 * cpu[1]:.1f} % of a core; "
        f"{rss[0]:.0f} then {rss[1]:.0f} MiB with {n_steps:,.0f} more steps "
        f"({grown_bytes / max(1, n_steps):.0f} bytes each); "
        f"agent {agent[0]:.0f} then {agent[1]:.0f} MiB"
    )
    is_flat = descriptors <= 0 and threads <= 0 and cpu[1] <= 1.2 * cpu[0] and rss[1] - rss[0] <= 0.1 * rss[0]
    return sentence, is_flat and agent[1] - agent[0] < 2.0
