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
    ended_job, live = "7|gib-x|CANCELLED|None|n1\n", "8|gib-x|RUNNING|None|n1\n"
    assert parse_jobs(ended_job + live)["gib-x"].job_id == parse_jobs(live + ended_job)["gib-x"].job_id == "8"


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


def test_a_cluster_is_configured_by_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client programs alone may be left from a package."""
    monkeypatch.setattr(slurm, "CONFIGURATIONS", (str(tmp_path / "slurm.conf"),))
    monkeypatch.delenv("SLURM_CONF", raising=False)
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not slurm.is_configured()
    (tmp_path / "slurm.conf").touch()
    assert slurm.is_configured()
    monkeypatch.setenv("PATH", "/nowhere")
    assert not slurm.is_configured()


def test_the_users_variables_neither_hide_jobs_nor_ask_nor_replace_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in ("sbatch", "squeue", "scancel"):
        (tmp_path / program).write_text(
            f'#!/bin/sh\necho "$@" >{tmp_path}/{program}.argv; env >{tmp_path}/{program}.env\n'
        )
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in ("SQUEUE_PARTITION", "SCANCEL_INTERACTIVE", "SBATCH_WAIT", "SBATCH_PARTITION", "SBATCH_ACCOUNT"):
        monkeypatch.setenv(name, "short")
    run_dir = tmp_path / "runs" / "demo"
    run_dir.mkdir(parents=True)
    (run_dir / "launch.sh").write_text("#!/bin/sh\n#SBATCH --partition=gpu\n#SBATCH --signal=B:TERM@120\nexec true\n")
    slurm.Slurm().start("gib-demo", ["/bin/sh", str(run_dir / "launch.sh")])
    slurm.jobs()
    slurm.cancel("12")
    environments = {p.stem: p.read_text() for p in tmp_path.glob("*.env")}
    assert "--partition=gpu --signal=B:TERM@120 " in (tmp_path / "sbatch.argv").read_text()
    assert "SBATCH_ACCOUNT=short" in environments["sbatch"] and "SBATCH_WAIT" not in environments["sbatch"]
    assert "SQUEUE_PARTITION" not in environments["squeue"] and "SCANCEL_INTERACTIVE" not in environments["scancel"]
    slurm.forget_list()
