"""Measure what giblet promises about reliability, one row at a time; `make storm` measures all and writes the page.

    python -m benchmarks.reliability                    every row, then the page on stdout
    python -m benchmarks.reliability stops-tmux         one row; --count N for fewer, --seed S adds
    python -m benchmarks.reliability --page             the page from what benchmarks/reliability.jsonl has

Exit code 1 if a promise was not kept.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.cluster import cuts, ground_of_its_own
from benchmarks.reliability_page import Numbers, Outcome, Part, Promise, load, outcome, page, save
from benchmarks.reliability_soak import judge_soak, soak
from benchmarks.reliability_texts import hostile_names, hostile_texts, judge_names, judge_texts
from benchmarks.reliability_training import judge_kills, kill_points
from giblet_train.schema.errors import GibletError
from giblet_tui.agent import layout, process_list, sessions
from tests.cluster import slurm, trees
from tests.cluster.accounts import UserConnection, gpu_users, gpus_of, lacking_for_accounts, made_accounts, start_as
from tests.cluster.ground import Ground
from tests.cluster.nodes import Cluster, wait_until
from tests.cluster.stalls import STAGES, stall

PARTS = Path(__file__).with_name("reliability.jsonl")
_LISTED_S = process_list.EVERY_S + 1.0

Measure = Callable[[int, random.Random, Path], Numbers]


def stops(kind: str, is_supervised: bool, count: int, chance: random.Random, folder: Path) -> Numbers:
    """Stop five kinds of process tree in one kind of session. is_supervised: else the supervisor is killed first."""
    numbers: Numbers = {"survivors": [], "unproved": [], "false": [], "seconds": []}
    with ground_of_its_own() as ground:
        for cycle in range(count):
            variant = trees.VARIANTS[cycle % len(trees.VARIANTS)]
            run_id, tag = ground.start_tree(variant, kind)
            if not is_supervised:
                _kill_supervisor(ground, run_id, tag, variant, is_listed=cycle % 2 == 0)
            elif chance.random() < 0.5:
                wait_until(partial(_is_grown, tag, variant), what="the tree")
            else:
                time.sleep(chance.uniform(0.0, 0.3))
            stop_outcome = ground.stop(run_id, grace_s=1.0)
            n_left = len(trees.living(tag)) + bool(sessions.find_session(f"gib-{run_id}"))
            numbers["survivors"].append(n_left)
            numbers["unproved"].append(bool(stop_outcome["unproved"]))
            numbers["false"].append(bool(n_left and not stop_outcome["unproved"] and not stop_outcome["survivors"]))
            numbers["seconds"].append(round(stop_outcome["seconds"], 2))
            ground.clear()
    return numbers


def stops_of_jobs(count: int, chance: random.Random, folder: Path) -> Numbers:
    """Stop five kinds of process tree that are jobs of a real Slurm: before, while and after they grow."""
    if reason := slurm.lacking():
        raise SystemExit(f"stops-slurm: {reason}")
    cluster = slurm.SlurmCluster()
    try:
        os.environ.update(cluster.environment)
        return stops("slurm", True, count, chance, folder)
    finally:
        for name in cluster.environment:
            os.environ.pop(name, None)
        cluster.close()


def judge_stops_of_jobs(numbers: Numbers) -> Outcome:
    """Check that nothing survives. Slurm is the proof, and each message says so."""
    survivors, n_unproved = (sum(map(int, numbers[name])) for name in ("survivors", "unproved"))
    n_stops, middle = len(numbers["survivors"]), statistics.median_high(numbers["seconds"])
    sentence = f"{survivors} survivors; {n_unproved} of {n_stops} messages name Slurm's state as the proof"
    return f"{sentence}; {middle:.1f} s (p50)", survivors == 0 and n_unproved == n_stops


def judge_stops(is_supervised: bool, numbers: Numbers) -> Outcome:
    """Check that no stop calls proved what is not, and that nothing survives where there is a supervisor."""
    survivors, n_unproved, false = (sum(map(int, numbers[name])) for name in ("survivors", "unproved", "false"))
    middle = statistics.median_high(numbers["seconds"])
    sentence = f"{survivors} survivors, {false} false proofs, {n_unproved} called unproved; {middle:.1f} s (p50)"
    return sentence, false == 0 and (survivors == 0 or not is_supervised)


def _is_grown(tag: str, variant: str) -> bool:
    return len(trees.living(tag)) >= trees.SIZE[variant]


def _kill_supervisor(ground: Ground, run_id: str, tag: str, variant: str, *, is_listed: bool) -> None:
    """Kill the supervisor of a grown tree. is_listed: only after its list has had time to name every process."""
    wait_until(partial(_is_grown, tag, variant), what="the tree")
    run = ground.run(run_id)
    supervisor = run.supervisor()
    assert supervisor, "the supervisor of a tree that is growing lives"
    if is_listed:
        grown_at = time.time()
        wait_until(lambda: (run.path / layout.PROCESSES).stat().st_mtime > grown_at, _LISTED_S * 4, "the list")
    os.kill(supervisor, 9)
    wait_until(lambda: run.supervisor() is None, what="its end")


def link_faults(count: int, chance: random.Random, folder: Path) -> Numbers:
    """Cut, kill and silence the link of a watched run."""
    cluster = Cluster(("storm",))
    try:
        faults = cuts(cluster.nodes["storm"], folder, count)
    finally:
        cluster.close()
    lines = {"lost": [float(faults.lost)], "doubled": [float(faults.doubled)], "written": [float(faults.written)]}
    return {**lines, "live_after_s": [round(seconds, 2) for seconds in faults.fresh_s]}


def judge_link(numbers: Numbers) -> Outcome:
    """Check that every line arrives once, and soon after the link is back."""
    n_lost, n_doubled, n_written = (int(sum(numbers[name])) for name in ("lost", "doubled", "written"))
    slowest = max(numbers["live_after_s"])
    sentence = f"{n_lost} lost, {n_doubled} doubled of {n_written:,} lines; live again after at most {slowest:.1f} s"
    return sentence, not (n_lost or n_doubled) and slowest < 5.0


def races(count: int, chance: random.Random, folder: Path) -> Numbers:
    """Start one configuration of each of three users by eight clients at once, on four GPUs."""
    if reason := lacking_for_accounts():
        raise SystemExit(f"races: {reason}")
    is_right: list[float] = []
    with made_accounts(3) as (accounts, _), gpu_users(accounts, n_gpus=4) as users, ThreadPoolExecutor(8) as pool:
        for race in range(count):
            clients = [users[n % 3] for n in range(8)]
            chance.shuffle(clients)
            runs = [run for run in pool.map(partial(_attempt, f"race{race}"), clients) if run]
            owners = sorted(user for user, _, _ in runs)
            gpus = [gpu for _, _, gpu in runs]
            is_right.append(owners == sorted(user.name for user in users) and len(set(gpus)) == len(gpus))
            for user, run_id, _ in runs:
                _stop_as(users, user, run_id)
    return {"right": is_right}


def judge_races(numbers: Numbers) -> Outcome:
    """Check that each user gets one run, and that no GPU is taken twice."""
    n_right, n_races = int(sum(numbers["right"])), len(numbers["right"])
    return f"{n_right} of {n_races} with one run per user, each on a GPU of its own", n_right == n_races


def _attempt(config_hash: str, user: UserConnection) -> tuple[str, str, str] | None:
    try:
        run = start_as(user, config_hash)
    except GibletError as error:
        if error.exit_code != 5:
            raise
        return None
    return user.name, run.run_id, ",".join(gpus_of(run))


def _stop_as(users: list[UserConnection], name: str, run_id: str) -> None:
    from giblet_tui.connection.protocol import StopOutcome

    user = next(user for user in users if user.name == name)
    user.call("stop", {"workdir": user.workdir, "run_id": run_id, "force": True}, StopOutcome, timeout_s=60.0)


def stall_stages(count: int, chance: random.Random, folder: Path) -> Numbers:
    """Let a server stall at each stage of a connection."""
    cluster = Cluster(("stalling",))
    in_time: Numbers = {}
    try:
        for stage in STAGES[:count]:
            stall_outcome = stall(cluster, cluster.nodes["stalling"], stage)
            print(f"  {stage}: {stall_outcome}", file=sys.stderr, flush=True)
            in_time[stage] = [stall_outcome.is_in_time]
    finally:
        cluster.close()
    return in_time


def judge_stalls(numbers: Numbers) -> Outcome:
    """Check that each stage ends in time, with a timeout that has a name."""
    late = [stage for stage, in_time in numbers.items() if not all(in_time)]
    names = f" (late or unnamed: {', '.join(late)})" if late else ""
    return f"{len(numbers) - len(late)} of {len(numbers)}{names}", not late


_TREES = "stops of five kinds of process tree"
_KILLED = "whose supervisor was killed before"
_SESSIONS = ("tmux", "screen", "process")
MEASURES: dict[str, Measure] = {
    **{f"stops-{kind}": partial(stops, kind, True) for kind in _SESSIONS},
    **{f"stops-{kind}-killed": partial(stops, kind, False) for kind in _SESSIONS},
    "stops-slurm": stops_of_jobs,
    "kill-points": kill_points,
    "link-faults": link_faults,
    "races": races,
    "names": hostile_names,
    "texts": hostile_texts,
    "stalls": stall_stages,
    "soak": soak,
}
PROMISES: dict[str, Promise] = {
    **{
        f"stops-{kind}": Promise(f"{{n}} {_TREES}, {kind}", "0 survivors", 200, partial(judge_stops, True))
        for kind in _SESSIONS
    },
    **{
        f"stops-{kind}-killed": Promise(
            f"{{n}} {_TREES} {_KILLED}, {kind}; half of them sooner than the list of processes is written",
            "0 survivors without a sentence that says what was not proved",
            200,
            partial(judge_stops, False),
        )
        for kind in _SESSIONS
    },
    "stops-slurm": Promise(
        f"{{n}} {_TREES}, jobs of a real Slurm (one controller, two slurmd on one machine)",
        "0 survivors; the message names what Slurm reports",
        30,
        judge_stops_of_jobs,
    ),
    "kill-points": Promise(
        "{n} kills of a trainer: at each of five points of writing a checkpoint, and at random moments of its CPU time",
        "resumes; at most 1 epoch lost; result bit-equal to the run that was never killed",
        200,
        judge_kills,
    ),
    "link-faults": Promise(
        "{n} faults of the link (reset, killed sshd, silence of 1 and 8 s) of a run that is watched and followed",
        "0 lines lost, 0 doubled; live within 5 s of the link's return",
        20,
        judge_link,
    ),
    "races": Promise(
        "{n} races of 8 clients of 3 users (real accounts), each user's with one configuration, for 4 GPUs",
        "one run per user, no GPU twice",
        100,
        judge_races,
    ),
    "names": Promise(
        "{n} hostile names of nodes, hosts, runs and configurations",
        "all refused, nothing executed",
        1000,
        judge_names,
    ),
    "texts": Promise(
        "{n} fuzz strings through every text sink",
        "no control or bidi character on a screen",
        100_000,
        judge_texts,
    ),
    "stalls": Promise(
        "servers that stall at each of {n} stages of a connection",
        "ends with a named timeout, at most 1 s after its deadline; no thread left after 5 s",
        len(STAGES),
        judge_stalls,
        is_summed=False,
    ),
    "soak": Promise(
        "{n} minutes of a dashboard's watch on 8 live runs at 14 steps/s each, so 50,000 steps of each in an hour",
        "second to last quarter: no more descriptors or threads; CPU and memory at most 20 % and 10 % higher",
        60,
        judge_soak,
        is_summed=False,
    ),
}


def measured(name: str, count: int | None, seed: int) -> Part:
    """Measure a row once."""
    count = PROMISES[name].n_times if count is None else count
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gib-", dir="/tmp") as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        numbers = MEASURES[name](count, random.Random(seed), Path(folder))
    return Part(
        name=name,
        seed=seed,
        count=count,
        numbers={key: [float(value) for value in values] for key, values in numbers.items()},
        seconds=round(time.monotonic() - began, 1),
        measured_on=time.strftime("%Y-%m-%d"),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[[], *PROMISES], help="rows to measure (default: all)")
    parser.add_argument("--count", type=int, help="how often, in place of the row's own count")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--page", action="store_true", help="only print the page")
    options = parser.parse_args()
    names = [] if options.page else list(options.rows or PROMISES)
    if names and not options.rows:
        PARTS.unlink(missing_ok=True)
    for name in names:
        print(name, file=sys.stderr, flush=True)
        part = measured(name, options.count, options.seed)
        save(PARTS, part)
        outcome_text, is_kept = outcome(PROMISES[name], [part])
        print(f"  {outcome_text}; kept: {is_kept}", file=sys.stderr, flush=True)
    rows = load(PARTS)
    if not options.rows:
        print(page(rows, PROMISES))
    return int(any(not outcome(PROMISES[name], rows[name])[1] for name in rows if options.page or name in names))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
