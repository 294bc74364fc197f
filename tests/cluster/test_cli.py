"""The command line against a real sshd named tensor01: set up, launch, watch, stop; and each way it can go wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from giblet_tui.deploy.install import environment_key
from tests.cluster.laptop import GIBLET, Laptop
from tests.cluster.nodes import Cluster, LoopbackNode, make_key, processes, wait_until

pytestmark = pytest.mark.timeout(600)


def test_a_study_is_checked_where_it_lies(laptop: Laptop, tensor01: LoopbackNode) -> None:
    laptop.name_nodes(f"tensor01:\n  python: {sys.executable}\n")
    page = laptop.folder / "pages" / "check.html"
    page.parent.mkdir()
    stores = tensor01.home / "giblet" / "stores"
    before = set(stores.glob("*/manifest.json"))
    # A frame rate that no other test has, so that the node holds no store of it whichever test comes first.
    own = ("--set", "data.fps=1.5")
    result = laptop.giblet("data", "check", "tensor01", "./small.yaml", *own, "--json", "--html", str(page))
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["schema"], report["ok"]) == (1, True)
    assert "the study is prepared" in result.stderr
    assert page.read_text().startswith("<!doctype html>")
    assert len(set(stores.glob("*/manifest.json")) - before) == 1

    refusal = laptop.giblet("data", "lag", "tensor01", "./small.yaml", "--set", "data.simulate=null")
    assert (refusal.returncode, refusal.stdout) == (2, "")
    assert "film.mp4 does not exist" in refusal.stderr


def test_the_walk(laptop: Laptop, tensor01: LoopbackNode, multiplexer: str) -> None:
    """setup, launch, ps, logs -f, stop on a host that only the ssh config knows, but for its interpreter."""
    laptop.name_nodes(f"tensor01:\n  python: {sys.executable}\n  multiplexer: {multiplexer}\n")
    ready = laptop.giblet("setup", "tensor01")
    assert ready.returncode == 0, ready.stderr
    assert sys.executable in ready.stdout

    launch = laptop.giblet("launch", "tensor01", "./small.yaml", "--note", "a walk")
    assert launch.returncode == 0, launch.stderr
    run_id = launch.stdout.strip()
    assert f"giblet logs {run_id} -f" in launch.stderr
    # The first look finds steps of the first epoch, or an epoch that has ended already: so short is one here.
    assert re.search(r"^(step \d+/2400 epoch \d+/400 \||epoch \d+ train) total \d", launch.stderr, re.M)
    run_dir = tensor01.home / "giblet" / "runs" / run_id
    assert (run_dir / "run.json").is_file()
    assert any(run_id in command for _, _, command in processes())

    run = laptop.run(run_id)
    assert (run["node"], run["state"], run["multiplexer"]) == ("tensor01", "running", multiplexer)
    assert run["step"] is not None and run["lr"] == run["lr_planned"]

    log, talk = laptop.folder / "log", laptop.folder / "talk"
    with log.open("w") as out, talk.open("w") as err:
        follower = subprocess.Popen([GIBLET, "logs", "@last", "-f"], env=laptop.environment, stdout=out, stderr=err)
    wait_until(lambda: "Epoch 2/" in log.read_text(), 120.0, "a second epoch in the log")

    stop = laptop.giblet("stop", "@last")
    assert stop.returncode == 0, stop.stderr
    assert "no process, no session and no GPU memory of it is left on tensor01" in stop.stdout
    assert follower.wait(60) == 0
    assert f"{run_id} stopped" in talk.read_text()
    assert log.read_text().splitlines() == (run_dir / "train.log").read_text().splitlines()

    assert laptop.run(run_id)["state"] == "stopped"
    assert not [command for _, _, command in processes() if run_id in command]
    [again] = json.loads(laptop.giblet("stop", run_id, "--json").stdout)["runs"]
    assert (again["run_id"], again["already"], again["survivors"]) == (run_id, True, [])
    wait = laptop.giblet("--quiet", "wait", run_id, "--json")
    assert [run["state"] for run in json.loads(wait.stdout)["runs"]] == ["stopped"] and wait.stderr == ""
    [copy_path] = json.loads(laptop.giblet("pull", run_id, "--logs", "--json", "--to", "copy").stdout)["paths"][:1]
    assert (laptop.folder / copy_path).is_file()
    (laptop.folder / "full").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(laptop.folder / "full")]
    if os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0:
        full = laptop.giblet("pull", run_id, "--logs", "--to", "full")
        subprocess.run(["umount", "-l", str(laptop.folder / "full")], check=True)
        assert full.returncode == 2 and "full cannot be written: No space left on device" in full.stderr
    assert "tensor01: connected by ssh" in laptop.giblet("--verbose", "ps", "tensor01").stderr
    removal = json.loads(laptop.giblet("rm", run_id, "--yes", "--json").stdout)
    assert list(removal["removed"]) == [run_id] and not run_dir.exists()


def test_a_host_of_the_ssh_config_is_remembered_once_used(laptop: Laptop, tensor01: LoopbackNode) -> None:
    assert laptop.giblet("node", "check", "tensor01").returncode == 0
    refusal = laptop.giblet("launch", "tensor01", "demo")
    assert refusal.returncode == 5
    assert "does not have this version of giblet" in refusal.stderr and "giblet setup tensor01" in refusal.stderr
    assert not (laptop.folder / "config").exists()

    own = tensor01.home / "giblet" / "envs" / environment_key() / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    own.chmod(0o755)
    assert "tensor01, a host of" in laptop.giblet("setup", "tensor01").stderr
    nodes = json.loads(laptop.giblet("node", "ls", "--json").stdout)["nodes"]
    assert [node["name"] for node in nodes] == ["local", "tensor01"]
    assert "tensor01, a host of" not in laptop.giblet("setup", "tensor01").stderr
    shutil.rmtree(own.parent.parent)


def test_ps_names_a_node_that_is_down_and_shows_the_others(
    laptop: Laptop, cluster: Cluster, tensor01: LoopbackNode
) -> None:
    cluster.add_host("dark", "127.0.0.9", 9)
    laptop.name_nodes("tensor01:\ndark:\n")
    result = laptop.giblet("ps", "--json")
    reachable = {node["node"]: node["reachable"] for node in json.loads(result.stdout)["nodes"]}
    assert (result.returncode, reachable) == (0, {"local": True, "tensor01": True, "dark": False})
    assert "dark: " in result.stderr
    alone = laptop.giblet("ps", "dark")
    assert alone.returncode == 3
    assert laptop.giblet("node", "check", "dark", "tensor01").returncode == 3


def test_a_changed_host_key_is_refused(laptop: Laptop, cluster: Cluster, tensor01: LoopbackNode) -> None:
    other = laptop.folder / "other_key"
    make_key(other)
    known_hosts = laptop.folder / "known_hosts"
    kind, key = other.with_suffix(".pub").read_text().split()[:2]
    known_hosts.write_text(f"[{tensor01.address}]:{tensor01.port} {kind} {key}\n")
    before = tensor01.logged("Accepted")
    cluster.add_host("imposter", tensor01.address, tensor01.port)
    config = laptop.folder / "ssh_config"
    config.write_text(cluster.ssh_config.read_text().replace(str(cluster.known_hosts), str(known_hosts)))
    laptop.environment["GIBLET_SSH_CONFIG"] = str(config)
    result = laptop.giblet("launch", "tensor01", "demo")
    assert result.returncode == 3
    assert "host key" in result.stderr and "SHA256:" in result.stderr
    assert "Traceback" not in result.stderr and result.stdout == ""
    assert tensor01.logged("Accepted") == before


def test_a_key_that_is_not_let_in_is_refused_once(laptop: Laptop, cluster: Cluster, tensor01: LoopbackNode) -> None:
    stranger = laptop.folder / "stranger"
    make_key(stranger)
    config = laptop.folder / "ssh_config"
    config.write_text(cluster.ssh_config.read_text().replace(str(cluster.key), str(stranger)))
    laptop.environment["GIBLET_SSH_CONFIG"] = str(config)
    result = laptop.giblet("setup", "tensor01")
    assert result.returncode == 3
    assert "tensor01" in result.stderr and "Traceback" not in result.stderr


def test_a_run_that_fails_at_its_start_says_why(laptop: Laptop, tensor01: LoopbackNode) -> None:
    laptop.name_nodes(f"tensor01:\n  python: {sys.executable}\n")
    study = laptop.folder / "damaged"
    study.mkdir()
    files = {"video": "film.mp4", "annotations": "words.csv", "bold": "sub-{subject}.nii.gz"}
    for name in files.values():
        (study / name.format(subject=1)).write_text("damaged")
    names = {"simulate": "null", "data_dir": str(study), **files}
    settings = [word for key, name in names.items() for word in ("--set", f"data.{key}='{name}'")]
    settings[settings.index("data.simulate='null'")] = "data.simulate=null"
    result = laptop.giblet("launch", "tensor01", "demo", *settings)
    assert result.returncode == 1, result.stderr
    assert str(study) in result.stderr or "film.mp4" in result.stderr or "sub-1.nii.gz" in result.stderr
    assert "before its first step" in result.stderr
    run_id = result.stdout.strip()
    assert laptop.run(run_id)["state"] == "failed"
    assert laptop.giblet("status", run_id).returncode == 1


def test_nothing_is_written_when_a_launch_is_refused(laptop: Laptop, tensor01: LoopbackNode) -> None:
    laptop.name_nodes(f"tensor01:\n  python: {sys.executable}\n  workdir: {laptop.folder}/untouched\n")
    for words, code in (("--set nope=1", 2), ("--gpus 2", 5), ("--dry-run", 0)):
        assert laptop.giblet("launch", "tensor01", "demo", *words.split()).returncode == code
    assert not (laptop.folder / "untouched").exists()
    dry = laptop.giblet("launch", "tensor01", "demo", "--dry-run", "--json")
    [plan] = json.loads(dry.stdout)["runs"]
    assert plan["config"]["name"] == "demo" and plan["argv"][2] == "giblet_train"
    assert dry.stderr.rstrip().endswith("Nothing was started. The same command without --dry-run starts it.")


def test_the_doctor_looks_a_node_over(laptop: Laptop, tensor01: LoopbackNode) -> None:
    result = laptop.giblet("doctor", "tensor01")
    assert result.returncode == 5
    assert "✖ engine: tensor01 does not have this version of giblet." in result.stdout
    assert "giblet setup tensor01" in result.stdout
    laptop.name_nodes(f"tensor01:\n  python: {sys.executable}\n")
    assert "✔ engine: giblet " in laptop.giblet("doctor", "tensor01").stdout
    script = tensor01.bin / "giblet-python"  # as containers/giblet-python, without a container
    script.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    laptop.name_nodes("")
    addition = laptop.giblet("node", "add", "tensor01", "--python", str(script))
    assert addition.stderr.rstrip().endswith("Next: giblet doctor tensor01")
    assert f", {script}" in laptop.giblet("doctor", "tensor01").stdout
