"""What squeue prints, read without Slurm; tests/cluster/test_slurm.py asks a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from giblet_tui.agent import slurm
from giblet_tui.agent.run_processes import LocalRun
from giblet_tui.agent.slurm import SlurmJob, end_sentence, parse_jobs, pending_sentence

LISTED = """\
12|gib-demo-20261129-101500-3f2a|RUNNING|None|node03
13|someone-else|RUNNING|None|node03
14|gib-old-20261129-101500-3f2b|TIMEOUT|TimeLimit|node04
15|gib-demo-20261129-101500-3f2c|PENDING|JobHeldUser|
a line | of something else
"""


def test_jobs_of_giblet_are_listed_by_the_name_of_their_run() -> None:
    jobs = parse_jobs(LISTED)
    assert [(job.job_id, job.is_live, job.nodes) for job in jobs.values()] == [
        ("12", True, "node03"),
        ("14", False, "node04"),
        ("15", True, ""),
    ]


def test_of_two_jobs_with_one_name_the_live_one_counts() -> None:
    ended, live = "7|gib-x|CANCELLED|None|n1\n", "8|gib-x|RUNNING|None|n1\n"
    assert parse_jobs(ended + live)["gib-x"].job_id == parse_jobs(live + ended)["gib-x"].job_id == "8"


def test_what_a_pending_job_waits_for() -> None:
    jobs = parse_jobs(LISTED)
    sentence = pending_sentence(jobs["gib-demo-20261129-101500-3f2c"])
    assert sentence == "Slurm to start job 15 (JobHeldUser; scontrol release 15)"
    assert pending_sentence(jobs["gib-demo-20261129-101500-3f2a"]) == ""


@pytest.mark.parametrize(
    ("state", "words"),
    [("TIMEOUT", "time limit"), ("OUT_OF_MEMORY", "more memory"), ("NODE_FAIL", "node failed"), ("FAILED", "FAILED")],
)
def test_how_slurm_ended_a_job(state: str, words: str) -> None:
    assert words in end_sentence(SlurmJob("14", "gib-x", state, "None", "node04"))
    assert end_sentence(SlurmJob("14", "gib-x", "RUNNING", "None", "node04")) == ""


def test_without_slurm_on_the_path_a_job_counts_as_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = tmp_path / "demo-20261129-101500-3f2a"
    run_dir.mkdir()
    (run_dir / "run.json").write_text('{"multiplexer": "slurm"}')
    monkeypatch.setenv("PATH", str(tmp_path))
    slurm.forget_list()
    assert slurm.jobs() is None
    assert LocalRun(run_dir).has_job, "so `rm` keeps the run"
    (run_dir / "exit.json").write_text("{}")
    assert not LocalRun(run_dir).has_job
