"""Measure what giblet promises about reliability, one row at a time; `make storm` measures all and writes the page.

    python -m benchmarks.reliability                    every row, then the page on stdout
    python -m benchmarks.reliability stops-tmux         one row; --count N for fewer, --seed S for other choices
    python -m benchmarks.reliability --page             the page from the rows in build/reliability

Exit code 1 if a promise was not kept.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.cluster import cuts, ground_of_its_own
from benchmarks.reliability_page import Row, load, page, save
from benchmarks.reliability_soak import soak
from benchmarks.reliability_texts import hostile_names, hostile_texts
from benchmarks.reliability_training import kill_points
from giblet_train.schema.errors import GibletError
from giblet_tui.agent import layout, process_list, sessions
from tests.cluster import trees
from tests.cluster.accounts import UserConnection, gpu_users, gpus_of, lacking_for_accounts, made_accounts, start_as
from tests.cluster.ground import Ground
from tests.cluster.nodes import Cluster
from tests.cluster.stalls import STAGES, stall

FOLDER = Path("build/reliability")
_LISTED_S = process_list.EVERY_S + 1.0


Outcome = tuple[str, bool]
"""What was reached, and whether that keeps the promise."""
Measure = Callable[[int, random.Random, Path], Outcome]


class Promise(NamedTuple):
    """A row before it is measured."""

    subject: str
    """With {n} for how often."""
    promised: str
    n_times: int
    measure: Measure


def stops(kind: str, is_supervised: bool, count: int, chance: random.Random, folder: Path) -> Outcome:
    """Stop five kinds of process tree in one kind of session. is_supervised: else the supervisor is killed first."""
    survivors = n_unproved = n_false = 0
    seconds = []
    with ground_of_its_own() as ground:
        for cycle in range(count):
            variant = trees.VARIANTS[cycle % len(trees.VARIANTS)]
            run_id, tag = ground.start_tree(variant, kind)
            if not is_supervised:
                _kill_supervisor(ground, run_id, tag, variant, is_listed=cycle % 2 == 0)
            elif chance.random() < 0.5:
                trees.until(partial(_is_grown, tag, variant), what="the tree")
            else:
                time.sleep(chance.uniform(0.0, 0.3))
            outcome = ground.stop(run_id, grace_s=1.0)
            seconds.append(outcome["seconds"])
            n_left = len(trees.living(tag)) + bool(sessions.find_session(f"gib-{run_id}"))
            survivors += n_left
            n_unproved += bool(outcome["unproved"])
            n_false += bool(n_left and not outcome["unproved"] and not outcome["survivors"])
            ground.clear()
    middle = sorted(seconds)[len(seconds) // 2]
    counts = f"{survivors} survivors, {n_false} false proofs, {n_unproved} called unproved"
    return (f"{counts}; {middle:.1f} s (p50)", n_false == 0 and (survivors == 0 or not is_supervised))


def _is_grown(tag: str, variant: str) -> bool:
    return len(trees.living(tag)) >= trees.SIZE[variant]


def _kill_supervisor(ground: Ground, run_id: str, tag: str, variant: str, *, is_listed: bool) -> None:
    """Kill the supervisor of a grown tree. is_listed: only after its list has had time to name every process."""
    trees.until(partial(_is_grown, tag, variant), what="the tree")
    run = ground.run(run_id)
    supervisor = run.supervisor()
    assert supervisor, "the supervisor of a tree that is growing lives"
    if is_listed:
        grown_at = time.time()
        trees.until(lambda: (run.path / layout.PROCESSES).stat().st_mtime > grown_at, _LISTED_S * 4, "the list")
    os.kill(supervisor, 9)
    trees.until(lambda: run.supervisor() is None, what="its end")


def link_faults(count: int, chance: random.Random, folder: Path) -> Outcome:
    """Cut, kill and silence the link of a watched run."""
    cluster = Cluster(("storm",))
    try:
        figures = cuts(cluster.nodes["storm"], folder, count)
    finally:
        cluster.close()
    slowest = max(figures.fresh_s)
    lines = f"{figures.lost} lost, {figures.doubled} doubled of {figures.written:,} lines"
    return (
        f"{lines}; live again after at most {slowest:.1f} s",
        not (figures.lost or figures.doubled) and slowest < 5.0,
    )


def races(count: int, chance: random.Random, folder: Path) -> Outcome:
    """Start one configuration of each of three users by eight clients at once, on four GPUs."""
    if reason := lacking_for_accounts():
        raise SystemExit(f"races: {reason}")
    n_wrong = 0
    with made_accounts(3) as (accounts, _), gpu_users(accounts, n_gpus=4) as users, ThreadPoolExecutor(8) as pool:
        for race in range(count):
            clients = [users[n % 3] for n in range(8)]
            chance.shuffle(clients)
            started = [run for run in pool.map(partial(_attempt, f"race{race}"), clients) if run]
            owners = sorted(user for user, _, _ in started)
            gpus = [gpu for _, _, gpu in started]
            n_wrong += owners != sorted(user.name for user in users) or len(set(gpus)) != len(gpus)
            for user, run_id, _ in started:
                _stop_as(users, user, run_id)
    return (f"{count - n_wrong} of {count} with one run per user, each on a GPU of its own", n_wrong == 0)


def _attempt(config_hash: str, user: UserConnection) -> tuple[str, str, str] | None:
    try:
        started = start_as(user, config_hash)
    except GibletError as error:
        if error.exit_code != 5:
            raise
        return None
    return user.name, started.run_id, ",".join(gpus_of(started))


def _stop_as(users: list[UserConnection], name: str, run_id: str) -> None:
    from giblet_tui.connection.protocol import StopOutcome

    user = next(user for user in users if user.name == name)
    user.call("stop", {"workdir": user.workdir, "run_id": run_id, "force": True}, StopOutcome, timeout_s=60.0)


def stall_stages(count: int, chance: random.Random, folder: Path) -> Outcome:
    """Let a server stall at each stage of a connection."""
    cluster = Cluster(("stalling",))
    late = []
    try:
        for stage in STAGES[:count]:
            outcome = stall(cluster, cluster.nodes["stalling"], stage)
            print(f"  {stage}: {outcome}", file=sys.stderr, flush=True)
            if not outcome.is_in_time:
                late.append(stage)
    finally:
        cluster.close()
    names = f" (late or unnamed: {', '.join(late)})" if late else ""
    return (f"{min(count, len(STAGES)) - len(late)} of {min(count, len(STAGES))}{names}", not late)


_TREES = "stops of five kinds of process tree"
_KILLED = "whose supervisor was killed before"
PROMISES: dict[str, Promise] = {
    **{
        f"stops-{kind}": Promise(f"{{n}} {_TREES}, {kind}", "0 survivors", 200, partial(stops, kind, True))
        for kind in ("tmux", "screen", "process")
    },
    **{
        f"stops-{kind}-killed": Promise(
            f"{{n}} {_TREES} {_KILLED}, {kind}; half of them sooner than the list of processes is written",
            "0 survivors without a sentence that says what was not proved",
            200,
            partial(stops, kind, False),
        )
        for kind in ("tmux", "screen", "process")
    },
    "kill-points": Promise(
        "{n} kills (-9) of a trainer: at each of five points of writing a checkpoint, and at random moments",
        "resumes; at most 1 epoch lost; result bit-equal to the run that was never killed",
        200,
        kill_points,
    ),
    "link-faults": Promise(
        "{n} faults of the link (reset, killed sshd, silence of 1 and 8 s) of a run that is watched and followed",
        "0 lines lost, 0 doubled; live within 5 s of the link's return",
        20,
        link_faults,
    ),
    "races": Promise(
        "{n} races of 8 clients of 3 users (real accounts), each user's with one configuration, for 4 GPUs",
        "one run per user, no GPU twice",
        100,
        races,
    ),
    "names": Promise(
        "{n} hostile names of nodes, hosts, runs and configurations",
        "all refused, nothing executed",
        1000,
        hostile_names,
    ),
    "texts": Promise(
        "{n} fuzz strings through every text sink",
        "no control or bidi character on a screen",
        100_000,
        hostile_texts,
    ),
    "stalls": Promise(
        "servers that stall at each of {n} stages of a connection",
        "ends with a named timeout, at most 1 s after its deadline; no thread left after 5 s",
        len(STAGES),
        stall_stages,
    ),
    "soak": Promise(
        "{n} minutes of a dashboard's watch on 8 live runs at 14 steps/s each, so 50,000 steps of each in an hour",
        "second to last quarter: no more descriptors or threads; CPU and memory at most 20 % and 10 % higher",
        60,
        soak,
    ),
}


def measured(name: str, count: int | None, seed: int) -> Row:
    """Measure one row."""
    promise = PROMISES[name]
    count = promise.n_times if count is None else count
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gib-", dir="/tmp") as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        reached, is_kept = promise.measure(count, random.Random(seed), Path(folder))
    return Row(
        name=name,
        subject=promise.subject.format(n=f"{count:,}"),
        promised=promise.promised,
        reached=reached,
        is_kept=is_kept,
        seed=seed,
        count=count,
        full_count=promise.n_times,
        seconds=time.monotonic() - began,
        measured_on=time.strftime("%Y-%m-%d"),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[[], *PROMISES], help="rows to measure (default: all)")
    parser.add_argument("--count", type=int, help="how often, in place of the row's own count")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--page", action="store_true", help="only print the page")
    options = parser.parse_args()
    rows = [] if options.page else list(options.rows or PROMISES)
    for name in rows:
        print(name, file=sys.stderr, flush=True)
        row = measured(name, options.count, options.seed)
        save(FOLDER, row)
        print(f"  {row.reached}; kept: {row.is_kept}", file=sys.stderr, flush=True)
    all_rows = load(FOLDER, list(PROMISES))
    if not options.rows:
        print(page(all_rows, list(PROMISES)))
    return int(any(not row.is_kept for row in all_rows if options.page or row.name in rows))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
