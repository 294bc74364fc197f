"""Colleagues of one Unix group read each other's runs, by real accounts over a real sshd, and change nothing."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cluster.accounts import lacking_for_accounts, made_accounts
from tests.cluster.conftest import unavailable
from tests.cluster.laptop import Laptop
from tests.cluster.nodes import Cluster, LoopbackNode, wait_until

COMMAND = "import time; print('epoch 1 loss 0.5', flush=True); print('epoch 2 loss 0.4', flush=True); time.sleep(600)"


class Lab(NamedTuple):
    """Alice and bob are in the group, carol is not."""

    group: str
    nodes: dict[str, LoopbackNode]
    laptops: dict[str, Laptop]


@pytest.fixture(scope="module")
def lab(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if reason := lacking_for_accounts():
        unavailable(reason)
    with made_accounts(3, n_in_group=2) as (accounts, group):
        people = dict(zip(("alice", "bob", "carol"), accounts, strict=True))
        nodes, laptops = {}, {}
        for number, (person, account) in enumerate(people.items()):
            node = LoopbackNode(cluster, f"lab-of-{person}", f"127.0.0.{20 + number}", account=account)
            laptop = Laptop(tmp_path_factory.mktemp(person), cluster.ssh_config)
            laptop.name_nodes(f"{node.name}:\n  multiplexer: process\n  lab: {group}\n")
            nodes[person], laptops[person] = node, laptop
        yield Lab(group, nodes, laptops)
        for node in nodes.values():
            node.close()


@pytest.fixture(scope="module")
def run_of_alice(lab: Lab) -> str:
    options = ("--cwd", "~", "--name", "shared", "--gpus", "0", "--env", "TOKEN=secret")
    words = (*options, "--", "python3", "-c", COMMAND)
    launch = lab.laptops["alice"].giblet("launch", lab.nodes["alice"].name, *words)
    assert launch.returncode == 0, launch.stderr
    run_id = launch.stdout.strip()
    metrics = lab.nodes["alice"].home / "giblet" / "runs" / run_id / "metrics.jsonl"
    wait_until(lambda: metrics.exists() and b'"epoch"' in metrics.read_bytes(), what="an epoch")
    return run_id


def listed(laptop: Laptop, *options: str) -> dict[str, str | None]:
    """Run id -> owner, as `ps` lists them."""
    answer = laptop.giblet("ps", "--json", *options)
    assert answer.returncode == 0, answer.stderr
    return {run["run_id"]: run["owner"] for run in json.loads(answer.stdout)["runs"]}


def test_a_colleague_reads_a_run_as_its_owner_s(lab: Lab, run_of_alice: str) -> None:
    bob, alice = lab.laptops["bob"], lab.nodes["alice"].home.name
    assert listed(bob) == {}
    assert listed(bob, "--all-users") == {run_of_alice: alice}
    table = bob.giblet("ps", "--all-users").stdout
    assert table.startswith("USER") and alice in table and "running" in table
    assert f"a run of {alice}; you may read it" in bob.giblet("status", run_of_alice).stdout
    assert "epoch 2 loss 0.4" in bob.giblet("logs", run_of_alice).stdout
    causes = bob.giblet("why", run_of_alice)
    assert causes.returncode == 2 and "It cannot be judged yet: only epoch" in causes.stdout, "it printed two epochs"
    assert bob.giblet("alerts", run_of_alice).returncode == 0


def test_a_colleague_reads_an_adopted_run(lab: Lab) -> None:
    alice = lab.nodes["alice"]
    log = alice.home / "by_hand.log"
    program = f"while :; do sleep 1; done & echo 'Epoch 1/9 | Train Loss: 0.5' > {log}; wait"
    session = as_user(alice.home.name, f"tmux new-session -d -s hand {shlex.quote(program)}", alice.environment)
    assert session == 0
    adoption = lab.laptops["alice"].giblet("adopt", alice.name, "hand", "--log", str(log))
    assert adoption.returncode == 0, adoption.stderr
    run_id = adoption.stdout.strip()
    run_dir = alice.home / "giblet" / "runs" / run_id
    wait_until(lambda: (run_dir / "metrics.jsonl").exists(), what="its first epoch")
    assert listed(lab.laptops["bob"], "--all-users")[run_id] == alice.home.name
    assert "epoch 1" in lab.laptops["bob"].giblet("status", run_id).stdout
    assert stat.S_IMODE((run_dir / "metrics.jsonl").stat().st_mode) == 0o640
    assert as_user(lab.nodes["carol"].home.name, f"cat {run_dir}/run.json") != 0
    assert lab.laptops["alice"].giblet("stop", run_id, "--grace", "2").returncode == 0
    assert lab.laptops["alice"].giblet("rm", run_id, "--yes").returncode == 0


@pytest.mark.parametrize("verb", ["stop", "rm", "attach", "alerts --ack", "pull"])
def test_a_colleague_cannot_act_on_it(lab: Lab, run_of_alice: str, verb: str) -> None:
    word, *options = verb.split()
    refusal = lab.laptops["bob"].giblet(word, run_of_alice, *options)
    assert refusal.returncode == 5, refusal.stderr
    assert f"is a run of {lab.nodes['alice'].home.name}" in refusal.stderr


def test_the_newest_run_is_never_a_colleague_s(lab: Lab, run_of_alice: str) -> None:
    assert listed(lab.laptops["bob"], "--all-users")
    answer = lab.laptops["bob"].giblet("status", "@last")
    assert answer.returncode == 2 and "There is no run yet" in answer.stderr


def test_nobody_outside_the_group_sees_it(lab: Lab, run_of_alice: str) -> None:
    assert listed(lab.laptops["carol"], "--all-users") == {}
    launch = lab.laptops["carol"].giblet("launch", lab.nodes["carol"].name, "--cwd", "~", "--", "sleep", "1")
    assert launch.returncode == 5 and f"You are not in the group {lab.group}" in launch.stderr
    assert not list((lab.nodes["carol"].home / "giblet" / "runs").glob("*"))


def test_the_group_can_read_and_not_write(lab: Lab, run_of_alice: str) -> None:
    workdir = lab.nodes["alice"].home / "giblet"
    run_dir = workdir / "runs" / run_of_alice
    paths = [workdir, workdir / "runs", run_dir, *run_dir.rglob("*")]
    writable = [path for path in paths if path.lstat().st_mode & (stat.S_IWGRP | stat.S_IRWXO)]
    assert not writable
    assert stat.S_IMODE((run_dir / "environment.json").stat().st_mode) == 0o600, "it may hold secrets"
    bob = lab.nodes["bob"].home.name
    for attempt in ("touch stop", "echo x >> train.log", "rm run.json", "ls ../..", "cat environment.json"):
        assert as_user(bob, f"cd {run_dir} && {attempt}") != 0, attempt
    assert as_user(bob, f"cat {run_dir}/train.log") == 0


def test_a_link_in_a_colleague_s_runs_is_not_followed(lab: Lab, run_of_alice: str) -> None:
    """It could make another file of the machine appear as a run."""
    runs = lab.nodes["alice"].home / "giblet" / "runs"
    alias = runs / "alias-20260101-120000-abcd"
    alias.symlink_to(run_of_alice)
    try:
        assert set(listed(lab.laptops["bob"], "--all-users")) == {run_of_alice}
    finally:
        alias.unlink()


def test_hostile_files_of_a_colleague_block_and_confuse_nobody(lab: Lab, run_of_alice: str) -> None:
    """A FIFO would block its reader; a record may be endless, name another run, or hold what acts on a terminal."""
    runs = lab.nodes["alice"].home / "giblet" / "runs"
    record = (runs / run_of_alice / "run.json").read_text()
    run_dirs = []
    for number, (name, content) in enumerate({
        "run.json": None, "train.log": None, "heartbeat.json": None, "metrics.jsonl": "x" * 3_000_000,
        "supervisor.json": "[" * 100_000, "exit.json": "7", "alerts.jsonl": "\x1b]52;c;aGFjaw==\x07\n" * 100,
    }.items()):  # fmt: skip
        run_dir = runs / f"hostile-20260101-120000-{number:04x}"
        run_dir.mkdir(mode=0o755)
        (run_dir / "run.json").write_text(record.replace(run_of_alice, run_dir.name).replace("shared", "\\u001b[2J"))
        if content is None:
            (run_dir / name).unlink(missing_ok=True)
            os.mkfifo(run_dir / name, 0o644)
        else:
            (run_dir / name).write_text(content)
        for path in (run_dir, *run_dir.iterdir()):
            shutil.chown(path, lab.nodes["alice"].home.name)
        run_dirs.append(run_dir)
    try:
        listing = lab.laptops["bob"].giblet("ps", "-a", "--all-users", limit_s=60.0)
        assert (
            listing.returncode == 0 and run_of_alice in listing.stdout and "\x1b" not in listing.stdout + listing.stderr
        )
        for run_dir in run_dirs:
            for verb in ("status", "logs", "why"):
                result = lab.laptops["bob"].giblet(verb, run_dir.name, limit_s=60.0)
                assert "Traceback" not in result.stderr and "\x1b" not in result.stdout + result.stderr
    finally:
        for run_dir in run_dirs:
            shutil.rmtree(run_dir)


def test_a_run_of_a_colleague_with_our_id_does_not_hide_ours(lab: Lab, run_of_alice: str) -> None:
    bob = lab.nodes["bob"].home
    copy = bob / "giblet" / "runs" / run_of_alice
    shutil.copytree(lab.nodes["alice"].home / "giblet" / "runs" / run_of_alice, copy)
    for path in (bob / "giblet", bob / "giblet" / "runs", copy):
        shutil.chown(path, bob.name)
        path.chmod(0o755)
    try:
        assert listed(lab.laptops["alice"], "--all-users") == {run_of_alice: None}
    finally:
        shutil.rmtree(copy)


@pytest.mark.parametrize("group", ["no-such-group", "-x", "''", "[a, b]", "7"])
def test_a_group_that_does_not_exist_is_refused(lab: Lab, group: str) -> None:
    laptop, node = lab.laptops["carol"], lab.nodes["carol"]
    path = laptop.folder / "config" / "giblet" / "nodes.yaml"
    before = path.read_text()
    laptop.name_nodes(f"{node.name}:\n  lab: {group}\n")
    try:
        refusal = laptop.giblet("launch", node.name, "--cwd", "~", "--", "sleep", "1")
    finally:
        path.write_text(before)
    assert refusal.returncode == (5 if group == "no-such-group" else 2), refusal.stderr
    assert "lab" in refusal.stderr and "Traceback" not in refusal.stderr


def test_a_closed_home_is_named(lab: Lab) -> None:
    home = lab.nodes["bob"].home
    before = stat.S_IMODE(home.stat().st_mode)
    home.chmod(0o700)
    try:
        refusal = lab.laptops["bob"].giblet("launch", lab.nodes["bob"].name, "--cwd", "~", "--", "sleep", "1")
    finally:
        home.chmod(before)
    assert refusal.returncode == 5 and f"cannot enter {home}" in refusal.stderr and "chmod o+x" in refusal.stderr


def test_a_stop_by_its_owner_is_seen_by_all(lab: Lab, run_of_alice: str) -> None:
    assert lab.laptops["alice"].giblet("stop", run_of_alice).returncode == 0
    answer = json.loads(lab.laptops["bob"].giblet("ps", "-a", "--all-users", "--json").stdout)
    assert [(run["run_id"], run["state"]) for run in answer["runs"]] == [(run_of_alice, "stopped")]


def as_user(name: str, command: str, variables: Mapping[str, str] | None = None) -> int:
    """Run a shell command as an account with its groups; its exit code."""
    argv = ["setpriv", f"--reuid={name}", "--init-groups", f"--regid={name}", "/bin/sh", "-c", command]
    environment = {**os.environ, **(variables or {})}
    return subprocess.run(argv, capture_output=True, cwd=Path("/"), env=environment).returncode
