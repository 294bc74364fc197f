"""A working directory that others can write: nothing in it is executed or trusted."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from giblet_tui.agent import cleanup, private_dirs, python_env, run_processes, start_run, stop_run
from giblet_tui.agent.main import INPUT, AgentRefusal, receive

STRANGER = 65534


def ignore(event):
    """Discard an event."""


@pytest.fixture
def open_umask():
    """Yield the umask of a lab whose members share a group."""
    before = os.umask(0o002)
    yield
    os.umask(before)


def modes(top):
    return {path: stat.S_IMODE(path.stat().st_mode) for path in [top, *top.rglob("*")] if path.is_dir()}


def test_every_new_directory_is_closed_whatever_the_umask(tmp_path, open_umask, monkeypatch):
    lab = tmp_path / "lab"
    lab.mkdir()
    lab.chmod(0o2775)
    private_dirs.make(str(lab / "ada" / "giblet" / "runs"))
    assert all(mode & 0o777 == 0o700 for mode in modes(lab / "ada").values()) and len(modes(lab / "ada")) == 3
    private_dirs.make(str(lab / "ada" / "giblet" / "runs"))


def test_a_file_that_is_sent_opens_no_directory(tmp_path, open_umask, monkeypatch):
    monkeypatch.setattr(INPUT, "file", io.BytesIO())
    path = tmp_path / "giblet" / "envs" / "wheels" / "x.whl"
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    receive({"path": str(path), "size": 0, "sha256": empty, "executable": False}, ignore)
    assert {mode & 0o777 for mode in modes(tmp_path / "giblet").values()} == {0o700}


@pytest.mark.parametrize("open_path", ["", "envs", "envs/key", "envs/key/bin"])
def test_an_interpreter_that_others_could_have_changed_is_never_run(tmp_path, open_path):
    python = tmp_path / "envs" / "key" / "bin" / "python"
    private_dirs.make(str(python.parent))
    tmp_path.chmod(0o700)
    python.write_text(f"#!/bin/sh\ntouch {tmp_path}/executed\n")
    python.chmod(0o755)
    request = {"workdir": str(tmp_path), "key": "key", "python": None}
    python_env.engine(request, ignore)
    assert (tmp_path / "executed").exists(), "closed, it is run"
    (tmp_path / "executed").unlink()
    (tmp_path / open_path).chmod(0o775)
    with pytest.raises(AgentRefusal, match=r"can be written by others \(mode 0775\)") as refusal:
        python_env.engine(request, ignore)
    assert refusal.value.exit_code == 5 and refusal.value.remedy.endswith(f"chmod -R go-w {tmp_path}")
    assert not (tmp_path / "executed").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_what_a_stranger_placed_is_never_run(tmp_path):
    python = tmp_path / "envs" / "key" / "bin" / "python"
    private_dirs.make(str(python.parent))
    python.write_text(f"#!/bin/sh\ntouch {tmp_path}/executed\n")
    python.chmod(0o755)
    os.chown(python, STRANGER, STRANGER)
    with pytest.raises(AgentRefusal, match=f"bin/python belongs to user {STRANGER}"):
        python_env.engine({"workdir": str(tmp_path), "key": "key", "python": None}, ignore)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("open_path", ["envs/wheels", "envs/wheels/ab12"])
@pytest.mark.parametrize("operation", [python_env.setup, python_env.add_packages])
def test_a_wheel_that_others_could_have_changed_is_not_installed(tmp_path, open_path, operation):
    wheel = tmp_path / "envs" / "wheels" / "ab12" / "x.whl"
    private_dirs.make(str(wheel.parent))
    wheel.touch(mode=0o600)
    (tmp_path / open_path).chmod(0o775)
    request = {"workdir": str(tmp_path), "key": "key", "wheel": str(wheel), "packages": [str(wheel)]}
    with pytest.raises(AgentRefusal, match=f"{open_path} can be written by others"):
        operation(request, ignore)
    assert not (tmp_path / "envs" / "key").exists()


def test_a_command_that_others_could_have_changed_is_not_unpacked(tmp_path):
    archive = tmp_path / "sources" / "x.tar"
    private_dirs.make(str(archive.parent))
    archive.touch(mode=0o600)
    archive.parent.chmod(0o777)
    record = {"run_id": "demo-20260101-120000-abcd", "argv": ["train"], "config_hash": "0", "command": {"cwd": ""}}
    files = dict.fromkeys(start_run.COMMAND_FILES, "")
    with pytest.raises(AgentRefusal, match="sources can be written by others"):
        start_run.start({"workdir": str(tmp_path), "record": record, "files": files, "archive": str(archive)}, ignore)
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("open_path", ["runs", "runs/demo-20260101-120000-abcd"])
def test_records_that_others_could_have_changed_end_no_process(tmp_path, open_path):
    """Those of an adopted run name the mark of the processes that a stop ends."""
    run_dir = tmp_path / "runs" / "demo-20260101-120000-abcd"
    private_dirs.make(str(run_dir))
    bystander = subprocess.Popen(["sleep", "60"], env={"MARK": "of-a-shell"})
    try:
        adoption = {"mark": "MARK=of-a-shell", "address": "x"}
        (run_dir / "run.json").write_text(json.dumps({"run_id": run_dir.name, "adopted": adoption}))
        (tmp_path / open_path).chmod(0o775)
        with pytest.raises(AgentRefusal, match="can be written by others") as refusal:
            stop_run.stop({"workdir": str(tmp_path), "run_id": run_dir.name}, ignore)
        assert refusal.value.exit_code == 5 and bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("open_path", ["runs", "runs/demo-20260101-120000-abcd"])
def test_a_run_that_others_could_have_changed_is_listed_and_keeps_its_environment(tmp_path, open_path):
    run_dir, python = tmp_path / "runs" / "demo-20260101-120000-abcd", tmp_path / "envs" / "key" / "bin" / "python"
    private_dirs.make(str(run_dir))
    private_dirs.make(str(python.parent))
    (tmp_path / "envs" / "key" / ".ready").touch()
    (run_dir / "run.json").write_text(json.dumps({"run_id": run_dir.name, "argv": [str(python)]}))
    live = subprocess.Popen(["sleep", "60"], env={"GIBLET_RUN_ID": run_dir.name})
    try:
        (tmp_path / open_path).chmod(0o775)
        assert [run.run_id for run in run_processes.all_runs(str(tmp_path))] == [run_dir.name]
        holdings = cleanup.holdings({"workdir": str(tmp_path)}, ignore)
        assert [entry["kept"] for entry in holdings["environments"]] == [f"{run_dir.name} is running in it"]
        if open_path == "runs":
            with pytest.raises(AgentRefusal, match="can be written by others"):
                cleanup.remove({"workdir": str(tmp_path), "environments": ["key"]}, ignore)
    finally:
        live.kill()
        live.wait()


def test_nothing_starts_below_an_open_directory(tmp_path):
    workdir = tmp_path / "giblet"
    private_dirs.make(str(workdir / "runs"))
    (workdir / "runs").chmod(0o777)
    record = {"run_id": "demo-20260101-120000-abcd", "argv": ["/bin/true"], "config_hash": "0"}
    files = dict.fromkeys(start_run.FILES, "")
    with pytest.raises(AgentRefusal, match="runs can be written by others"):
        start_run.start({"workdir": str(workdir), "record": record, "files": files}, ignore)
    assert list((workdir / "runs").iterdir()) == []


def test_a_link_to_the_working_directory_hides_nothing(tmp_path):
    private_dirs.make(str(tmp_path / "giblet" / "envs"))
    (tmp_path / "link").symlink_to("giblet")
    python = str(tmp_path / "link" / "envs" / "key" / "bin" / "python")
    assert private_dirs.problem(python, str(tmp_path / "link")) == ""
    (tmp_path / "giblet" / "envs").chmod(0o777)
    for workdir in (tmp_path / "link", tmp_path / "giblet"):
        sentence = private_dirs.problem(str(workdir / "envs" / "key" / "bin" / "python"), str(workdir))
        assert sentence == f"{tmp_path}/giblet/envs can be written by others (mode 0777)"


def test_what_lies_outside_is_the_owners_choice(tmp_path):
    (tmp_path / "shared").mkdir(mode=0o777)
    (tmp_path / "shared").chmod(0o777)
    private_dirs.make(str(tmp_path / "giblet"))
    assert private_dirs.problem(str(tmp_path / "shared" / "python"), str(tmp_path / "giblet")) == ""
    assert private_dirs.problem(str(Path("/usr/bin/python3")), str(tmp_path / "giblet")) == ""
