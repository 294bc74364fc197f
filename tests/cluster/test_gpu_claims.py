"""GPUs claimed for the whole machine: by any user, in any working directory, for as long as the run lives.

nvidia-smi is a recording on the node's PATH; no GPU is used. The agent, the supervisors and the accounts are real.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from giblet_train.schema.errors import GibletError
from giblet_tui.agent import gpu_claims, gpu_state, proc, start_run
from giblet_tui.agent.main import AgentRefusal
from giblet_tui.connection.protocol import NodeProbe
from tests.cluster.accounts import UserConnection, demand, gpu_users, record_gpus, start_as
from tests.cluster.accounts import gpus_of as gpus_of_run
from tests.cluster.ground import Ground, make_ground  # noqa: F401 - a fixture
from tests.cluster.nodes import Account, wait_until

SLEEPS = "import time; print('up', flush=True); time.sleep(600)"


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_gpus(tmp_path, 2)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def start(ground: Ground, n_gpus: int = 1, **more: Any) -> str:
    record = ground.record([sys.executable, "-c", SLEEPS])
    start_run.start(ground.arguments(record, "process", gpus=demand(n_gpus), **more), lambda event: None)
    return str(record["run_id"])


def gpus_of(ground: Ground, run_id: str) -> list[str]:
    uuids = ground.run(run_id).record("run.json")["gpus"]
    assert isinstance(uuids, list)
    return uuids


def holders() -> dict[str, str]:
    """Return UUID -> the run that claims it."""
    return {uuid: claim["run_id"] for claim in gpu_claims.live_claims() for uuid in claim["gpus"]}


@pytest.mark.usefixtures("two_gpus")
def test_runs_in_a_row_take_one_gpu_each_and_a_third_is_refused(ground: Ground) -> None:
    first, second = start(ground), start(ground)
    assert (gpus_of(ground, first), gpus_of(ground, second)) == (["GPU-0"], ["GPU-1"])
    assert holders() == {"GPU-0": first, "GPU-1": second}
    with pytest.raises(AgentRefusal) as refusal:
        start(ground)
    assert refusal.value.exit_code == 5
    assert f"GPU 0 (A100): claimed by {first} (" in refusal.value.sentence
    assert f"GPU 1 (A100): claimed by {second} (" in refusal.value.sentence
    assert ground.runs() == sorted([first, second])
    forced_run = start(ground, force=True)
    assert gpus_of(ground, forced_run) == ["GPU-0"]


@pytest.mark.usefixtures("two_gpus")
def test_another_working_directory_sees_the_claim(ground: Ground, tmp_path: Path) -> None:
    first = start(ground)
    elsewhere = Ground(tmp_path / "elsewhere")
    try:
        assert gpus_of(elsewhere, start(elsewhere)) == ["GPU-1"]
        with pytest.raises(AgentRefusal, match=f"claimed by {first}"):
            start(elsewhere)
    finally:
        elsewhere.clear()


@pytest.mark.usefixtures("two_gpus")
def test_a_stop_frees_the_gpu_and_a_killed_supervisor_frees_it_with_its_trainer(ground: Ground) -> None:
    run_id = start(ground, 2)
    assert ground.stop(run_id)["survivors"] == []
    assert holders() == {}

    run_id = start(ground, 2)
    run = ground.run(run_id)
    wait_until(lambda: "up" in (run.path / "train.log").read_text(), what="the trainer")
    supervisor = run.supervisor()
    assert supervisor
    trainers = [pid for pid in run.processes() if pid != supervisor]
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: run.supervisor() is None, what="the end of the supervisor")
    assert holders() == {"GPU-0": run_id, "GPU-1": run_id}, "the trainer lives on and may use them"
    for pid in trainers:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: holders() == {}, what="the kernel to drop the lock")


@pytest.mark.usefixtures("two_gpus")
def test_a_start_that_fails_claims_nothing(ground: Ground) -> None:
    record = ground.record([sys.executable, "-c", SLEEPS])
    arguments = ground.arguments(record, "process", gpus=demand())
    arguments["files"]["supervise.py"] = "raise SystemExit('broken')\n"
    with pytest.raises(AgentRefusal, match="broken"):
        start_run.start(arguments, lambda event: None)
    assert holders() == {} and ground.runs() == []


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_fails_between_plan_and_start_is_refused_with_the_reason(ground: Ground, tmp_path: Path) -> None:
    rows = "echo '0, GPU-0, A100, [GPU is lost], [GPU is lost], [N/A], [N/A]'"
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\ncase $1 in *gpu=index*) {rows} ;; esac\n")
    with pytest.raises(AgentRefusal, match=r"GPU 0 \(A100\): nvidia-smi reports \[GPU is lost\]") as refusal:
        start(ground)
    assert refusal.value.exit_code == 5 and ground.runs() == []


def own_claim(**changes: Any) -> dict[str, Any]:
    return {
        "run_id": "demo-20260101-120000-abcd",
        "gpus": ["GPU-0"],
        "processes": [[os.getpid(), proc.start_ticks(os.getpid())]],
        "boot_id": proc.boot_id(),
        "claimed_at": time.time(),
        **changes,
    }


def locked_file(folder: Path, content: bytes) -> int:
    """Write a file that looks like a claim, and hold its lock in another process."""
    path = folder / f"{gpu_claims.PREFIX}{os.getuid()}-{secrets.token_hex(4)}"
    path.write_bytes(content)
    program = "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, 2); print(1, flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline()
    return process.pid


@pytest.mark.parametrize(
    ("content", "counts"),
    [
        (json.dumps(own_claim()).encode(), True),
        (json.dumps(own_claim(boot_id="another")).encode(), False),
        (json.dumps(own_claim(processes=[[os.getpid(), 1]])).encode(), False),
        (json.dumps(own_claim(processes=[[1, proc.start_ticks(1)]])).encode(), os.geteuid() == 0),
        (json.dumps(own_claim(processes=[[999999999, 1]])).encode(), False),
        (json.dumps(own_claim(processes=[["1; rm -rf", {}]])).encode(), False),
        (json.dumps(own_claim(run_id="../../etc/passwd")).encode(), False),
        (json.dumps(own_claim(run_id="\x1b]52;c;x\x07")).encode(), False),
        (json.dumps(own_claim(gpus=["\x1b[2J"])).encode(), False),
        (json.dumps(own_claim(gpus=7)).encode(), False),
        (json.dumps(own_claim(claimed_at="soon")).encode(), False),
        (json.dumps(own_claim(note="x" * gpu_claims.MAX_BYTES)).encode(), False),
        (b"[" * 10_000, False),
        (b"\xff\xfe", False),
        (b"", False),
        (b"[]", False),
        (b"7", False),
    ],
    # Named by hand: the contents hold pids and times, and all workers must collect the same names.
    ids=[
        "whole",
        "another_boot",
        "another_start_time",
        "init",
        "no_process",
        "hostile_process",
        "path_as_id",
        "escapes_in_id",
        "escapes_in_gpu",
        "gpus_a_number",
        "time_a_word",
        "too_long",
        "deep_json",
        "not_utf8",
        "empty",
        "a_list",
        "a_number",
    ],
)
def test_a_claim_counts_only_if_it_is_whole_and_its_process_lives(content: bytes, counts: bool) -> None:
    folder = Path(gpu_claims.directory())
    holder = locked_file(folder, content)
    try:
        claims = gpu_claims.live_claims()
        assert [claim["gpus"] for claim in claims] == ([["GPU-0"]] if counts else [])
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
    assert gpu_claims.live_claims() == [], "nobody holds the lock any more"


def test_other_kinds_of_files_block_nobody(tmp_path: Path) -> None:
    folder = Path(gpu_claims.directory())
    name = f"{gpu_claims.PREFIX}{os.getuid()}-"
    os.mkfifo(folder / f"{name}fifo")
    (folder / f"{name}link").symlink_to("/dev/zero")
    (folder / f"{name}loop").symlink_to(folder / f"{name}loop")
    (folder / f"{name}folder").mkdir()
    (folder / f"{name}text").write_text("no claim")
    os.link(folder / f"{name}text", folder / f"{name}twice")
    claim = gpu_claims.claim("demo-20260101-120000-abcd", ["GPU-0"])
    assert [entry["gpus"] for entry in gpu_claims.live_claims()] == [["GPU-0"]]
    other = gpu_claims.claim("demo-20260101-120000-ffff", ["GPU-0", "GPU-1"])
    assert [entry["run_id"] for entry in gpu_claims.conflicting(other)] == ["demo-20260101-120000-abcd"]
    assert gpu_claims.conflicting(other, ["demo-20260101-120000-abcd"]) == []
    claim.release()
    other.release()
    assert gpu_claims.live_claims() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_user_who_fills_the_directory_hides_no_claim_of_others() -> None:
    folder = Path(gpu_claims.directory())
    claim = gpu_claims.claim("demo-20260101-120000-abcd", ["GPU-0"])
    os.link(claim.path, folder / f"{gpu_claims.PREFIX}-second-name")
    for number in range(2 * gpu_claims.MAX_FILES_PER_USER):
        path = folder / f"{gpu_claims.PREFIX}!{number:05d}"  # listed before any real claim
        path.touch()
        os.chown(path, 65534, 65534)
    assert {entry["run_id"] for entry in gpu_claims.live_claims()} == {"demo-20260101-120000-abcd"}
    claim.release()
    assert gpu_claims.live_claims() == []


def test_a_directory_where_others_can_replace_files_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv(gpu_claims.DIRECTORY_VARIABLE, str(folder))
    assert gpu_claims.directory() in gpu_claims.SHARED_DIRECTORIES
    folder.chmod(0o1777)
    assert gpu_claims.directory() == str(folder)
    monkeypatch.delenv(gpu_claims.DIRECTORY_VARIABLE)
    monkeypatch.setattr(gpu_claims, "SHARED_DIRECTORIES", (str(tmp_path / "none"),))
    with pytest.raises(OSError, match="no sticky directory"):
        gpu_claims.directory()


@pytest.fixture
def users(accounts: list[Account]) -> Iterator[list[UserConnection]]:
    """Yield three real accounts, one recorded nvidia-smi of four GPUs, and one claim directory."""
    with gpu_users(accounts, n_gpus=4) as connections:
        yield connections


def test_real_users_of_one_machine_never_get_the_same_gpu(users: list[UserConnection]) -> None:
    alice, bob, _ = users
    assert gpus_of_run(start_as(alice)) == ["GPU-0"]
    state = bob.call("probe", {"workdir": bob.workdir}, NodeProbe, timeout_s=60.0)
    assert state.gpus[0]["not_free"].startswith("claimed by demo-") and alice.name in state.gpus[0]["not_free"]
    assert [device["not_free"] for device in state.gpus[1:]] == ["", "", ""]
    assert gpus_of_run(start_as(bob)) == ["GPU-1"]

    def attempt(user: UserConnection) -> list[str] | None:
        try:
            return gpus_of_run(start_as(user))
        except GibletError as error:
            assert error.exit_code == 5 and "claimed by demo-" in error.message
            return None

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(attempt, [*users, *users]))
    claimed_uuids = sorted(uuid for uuids in results if uuids for uuid in uuids)
    assert claimed_uuids == ["GPU-2", "GPU-3"], "of six starts at once two get the two free GPUs"


def test_what_people_see_names_the_holder(ground: Ground, two_gpus: None) -> None:
    run_id = start(ground)
    first, second = gpu_state.observe_gpus()["gpus"]
    assert [claim["run_id"] for claim in first["claims"]] == [run_id]
    assert first["not_free"].startswith(f"claimed by {run_id} (") and second["not_free"] == ""
