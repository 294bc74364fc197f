"""The ladder on real nodes: a run that passed starts the next stage elsewhere, one that did not is refused."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.cluster.laptop import Laptop
from tests.cluster.nodes import LoopbackNode
from tests.marks import can_train

pytestmark = [pytest.mark.timeout(600), can_train]
LADDER = """\
stages:
  - stage: test
    title: two epochs
  - stage: cluster
    title: until it is stopped
    set:
      num_epochs: 400
      criteria: {no_nan: {kind: no_nan, threshold: 0}}
    may_change: [seed, note]
"""


def shown(laptop: Laptop, config: str) -> dict[str, Any]:
    """Return a configuration as `giblet config show` resolves it."""
    values: dict[str, Any] = json.loads(laptop.giblet("config", "show", config, "--json").stdout)["config"]
    return values


def listed(laptop: Laptop) -> set[str]:
    """Return the ids of all runs that `giblet ps` lists: the nodes may hold those of other tests."""
    return {run["run_id"] for run in json.loads(laptop.giblet("ps", "--json").stdout)["runs"]}


def test_a_run_that_passed_is_promoted_to_another_node(
    laptop: Laptop, tensor01: LoopbackNode, tensor02: LoopbackNode
) -> None:
    python = f"\n  python: {sys.executable}\n  multiplexer: process\n"
    laptop.name_nodes(f"tensor01:{python}tensor02:{python}")
    (laptop.folder / "configs").mkdir()
    (laptop.folder / "configs" / "ladder.yaml").write_text(LADDER)
    passing = (laptop.folder / "small.yaml").read_text().replace("epochs: 400", "epochs: 2")
    criteria = "criteria: {no_nan: {kind: no_nan, threshold: 0}}"
    (laptop.folder / "small.yaml").write_text(passing.replace("criteria: {}", criteria))

    launch = laptop.giblet("launch", "tensor01", "./small.yaml", "--follow")
    assert launch.returncode == 0, launch.stderr
    source = launch.stdout.split()[0]
    assert laptop.run(source)["verdict"] == "pass"
    runs_before = listed(laptop)

    question = laptop.giblet("promote", source, "cluster", "tensor02")
    assert question.returncode == 5 and "Nothing was started." in question.stderr, "nobody is there to answer"
    leap = laptop.giblet("promote", source, "production", "tensor02", "--yes")
    assert leap.returncode == 2 and "'production'" in leap.stderr
    other_key = laptop.giblet("promote", source, "cluster", "tensor02", "--yes", "--set", "learning_rate=1")
    assert other_key.returncode == 2 and "learning_rate" in other_key.stderr
    assert source in runs_before and listed(laptop) == runs_before, "a refusal starts nothing"

    promotion = laptop.giblet("promote", source, "cluster", "tensor02", "--yes", "--note", "goes on", "--set", "seed=3")
    assert promotion.returncode == 0, promotion.stderr
    run_id = promotion.stdout.strip()
    record = json.loads((tensor02.home / "giblet" / "runs" / run_id / "run.json").read_text())
    assert record["promotion"]["from_run"] == source and record["promotion"]["verdict"] == "pass"
    assert (record["name"], record["node"], record["note"]) == ("small-cluster", "tensor02", "goes on")
    config = shown(laptop, str(tensor02.home / "giblet" / "runs" / run_id / "config.yaml"))
    assert (config["stage"], config["num_epochs"], config["seed"]) == ("cluster", 400, 3)
    assert config["learning_rate"] == shown(laptop, "./small.yaml")["learning_rate"]
    rows = {row["run"]: row for row in json.loads(laptop.giblet("ladder", "--json").stdout)["runs"]}
    assert rows[run_id]["from"] == source and rows[run_id]["stage"] == "cluster"

    again = laptop.giblet("promote", source, "cluster", "tensor01", "--yes", "--supersede", "--json")
    assert again.returncode == 0, again.stderr
    [second] = json.loads(again.stdout)["runs"]
    assert laptop.run(run_id)["state"] == "stopped" and "is left on tensor02" in again.stderr
    assert second["nodes"] == ["tensor01"] and laptop.run(second["run_id"])["state"] == "running"
    assert laptop.giblet("stop", second["run_id"]).returncode == 0
    removal = laptop.giblet("rm", source, "--yes")
    assert removal.returncode == 5 and "was promoted from it" in removal.stderr

    # The same run as if it had been judged by a criterion that it misses.
    config_file = tensor01.home / "giblet" / "runs" / source / "config.yaml"
    own = "no_nan:\n    kind: no_nan\n    threshold: 0.0"
    missed_criterion = "drop:\n    kind: loss_drop\n    threshold: 0.99"
    assert own in config_file.read_text()
    config_file.write_text(config_file.read_text().replace(own, missed_criterion))
    refusal = laptop.giblet("promote", source, "cluster", "--yes")
    assert refusal.returncode == 5 and "has not passed: 1 of 2 criteria not met" in refusal.stderr
    bare_acceptance = laptop.giblet("promote", source, "cluster", "--yes", "--accept", "drop")
    assert bare_acceptance.returncode == 2 and "--accept needs a reason" in bare_acceptance.stderr
    acceptance = laptop.giblet("promote", source, "cluster", "--yes", "--accept", "drop", "--note", "it is a test")
    assert acceptance.returncode == 0, acceptance.stderr
    run_id = acceptance.stdout.strip()
    record = json.loads((tensor01.home / "giblet" / "runs" / run_id / "run.json").read_text())
    assert record["promotion"]["why"] == "it is a test" and list(record["promotion"]["accepted"]) == ["drop"]
    assert laptop.giblet("stop", run_id).returncode == 0
