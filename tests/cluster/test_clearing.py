"""What may be removed from a node, and what never: live, promoted, needed, foreign, not ours."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from giblet_tui.agent import cleanup
from giblet_tui.agent.main import AgentRefusal
from tests.cluster.ground import Ground, make_ground  # noqa: F401 - a fixture
from tests.cluster.nodes import wait_until

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]


def quietly(event: object) -> None:
    """Discard an event."""


def ended(ground: Ground, name: str = "old", days: float = 0.0, **record: object) -> str:
    """Return a run that has ended, `days` ago, with a checkpoint of 1 MB."""
    fields = ground.record(["true"], name=name, **record)
    path = ground.workdir / "runs" / fields["run_id"]
    (path / "checkpoints").mkdir(parents=True)
    (path / "checkpoints" / "last.pt").write_bytes(os.urandom(10**6))
    for file, value in (("run.json", fields), ("exit.json", {"code": 0, "ended_at": 1.0})):
        (path / file).write_text(json.dumps(value))
        os.utime(path / file, (time.time() - days * 86400,) * 2)
    return fields["run_id"]


def environment(ground: Ground, name: str) -> Path:
    path = ground.workdir / "envs" / name
    (path / "bin").mkdir(parents=True)
    (path / "bin" / "python").symlink_to(sys.executable)
    (path / ".ready").touch()
    return path


def test_what_lives_or_is_needed_stays(ground: Ground) -> None:
    old = environment(ground, "0.0.1-aaaa")
    environment(ground, "0.0.2-bbbb")
    environment(ground, "0.1.0-own")
    parent, source, free = ended(ground, "parent"), ended(ground, "source"), ended(ground, "free", days=40)
    ended(ground, "risen", promotion={"from_run": source})
    live = ground.start([str(old / "bin" / "python"), *SLEEPS[1:]], "process", resumed_from=parent)
    (ground.workdir / "runs" / "notes").mkdir()
    arguments = {"workdir": str(ground.workdir), "keep": "0.1.0-own"}
    holdings = cleanup.holdings(arguments, quietly)
    reasons = {entry["name"]: entry["kept"] for entry in [*holdings["runs"], *holdings["environments"]]}
    assert reasons[live] == "it has not ended"
    assert reasons[parent] == f"{live}, which is running, resumes from it"
    assert "was promoted from it" in reasons[source]
    assert reasons["0.0.1-aaaa"] == f"{live} is running in it" and reasons["0.1.0-own"] == "this giblet's own"
    assert (reasons[free], reasons["0.0.2-bbbb"]) == ("", "") and "notes" not in reasons
    (free_run,) = [entry for entry in holdings["runs"] if entry["name"] == free]
    assert free_run["bytes"] >= 10**6 and 39 < free_run["idle_days"] < 41

    everything = {"runs": [live, parent, source, free], "environments": list(reasons)[-3:]}
    result = cleanup.remove({**arguments, **everything}, quietly)
    assert {entry["name"] for entry in result["removed"]} == {free, "0.0.2-bbbb"}
    assert {entry["name"] for entry in result["refused"]} == {live, parent, source, "0.0.1-aaaa"}
    assert ground.run(live).supervisor() and set(ground.runs()) >= {live, parent, source, "notes"}
    assert not list(ground.workdir.glob("*/.*giblet-gone"))


def test_what_giblet_did_not_make_is_refused(ground: Ground) -> None:
    elsewhere = ground.workdir.parent / "precious"
    elsewhere.mkdir(parents=True)
    run_id = ended(ground)
    link = ground.workdir / "runs" / f"{run_id[:-4]}ffff"
    link.symlink_to(elsewhere)
    for name in (link.name, "../../precious", "--help", "a\nb", "x" * 300):
        with pytest.raises(AgentRefusal):
            cleanup.remove({"workdir": str(ground.workdir), "runs": [run_id, name]}, quietly)
    assert elsewhere.is_dir() and run_id in ground.runs()


def test_a_killed_supervisors_workers_keep_their_run(ground: Ground) -> None:
    """Processes, not records, say whether a run lives."""
    run_id = ground.start(SLEEPS, "process")
    supervisor = ground.run(run_id).supervisor()
    assert supervisor
    wait_until(lambda: len(ground.run(run_id).processes()) == 2)
    os.kill(supervisor, 9)
    wait_until(lambda: ground.run(run_id).supervisor() is None)
    result = cleanup.remove({"workdir": str(ground.workdir), "runs": [run_id]}, quietly)
    assert result["removed"] == [] and result["refused"][0]["why"] == "it has not ended"
