"""What is asked of a command: its words, its variables, and exactly the files that one has in front of oneself."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import tarfile
from pathlib import Path

import pytest

from giblet_train.schema.errors import ConfigError, GibletError, PreflightRefused
from giblet_tui.agent import user_command
from giblet_tui.agent.main import AgentRefusal
from giblet_tui.launch import command as commands
from giblet_tui.launch import working_tree
from giblet_tui.launch.command import CommandRequest, build_command, command_argv, default_name


def git(folder: Path, *words: str) -> str:
    own = ["-c", "user.email=a@b", "-c", "user.name=ada", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *own, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with a committed, changed, deleted, new, ignored and untracked file, and a link."""
    top = tmp_path / "study"
    (top / "scripts").mkdir(parents=True)
    for name, text in {"train.py": "print(1)\n", "gone.py": "", "scripts/run.sh": "#!/bin/sh\n"}.items():
        (top / name).write_text(text)
    (top / "scripts" / "run.sh").chmod(0o755)
    (top / "data").symlink_to("/data/sherlock")
    (top / ".gitignore").write_text("*.npy\n")
    git(top, "init", "-q")
    git(top, "config", "color.ui", "always")
    git(top, "config", "diff.noprefix", "true")
    git(top, "add", ".")
    git(top, "commit", "-qm", "first")
    (top / "train.py").write_text("print(2)\n")
    (top / "gone.py").unlink()
    (top / "added.py").write_text("")
    git(top, "add", "added.py")
    (top / "cache.npy").write_text("x")
    (top / "notes.txt").write_text("n")
    return top


def build(words: list[str], here: Path, **options: object) -> CommandRequest:
    defaults = {"cwd": None, "environment": (), "push_paths": (), "with_untracked": False, "log": ""}
    return build_command(words, here=here, **{**defaults, **options})  # type: ignore[arg-type]


def members(request: CommandRequest) -> dict[str, tarfile.TarInfo]:
    assert request.archive is not None
    with tarfile.open(fileobj=io.BytesIO(request.archive.data)) as tar:
        return {member.name: member for member in tar.getmembers()}


def test_what_lies_in_the_repository_is_sent_as_it_is_now(repository: Path, tmp_path: Path) -> None:
    request = build(["python", "train.py"], repository)
    files = members(request)
    names = ("work/.gitignore", "work/added.py", "work/data", "work/scripts/run.sh", "work/train.py")
    assert set(files) == {*names, "uncommitted.patch"}
    assert files["work/data"].linkname == "/data/sherlock" and files["work/scripts/run.sh"].mode & 0o100
    record = commands.command_record(request)
    assert record.commit == git(repository, "rev-parse", "HEAD").strip() and record.uncommitted
    lines = commands.notes(request)
    assert "5 files" in lines[0] and lines[1] == "leaves out 1 untracked file: notes.txt (--untracked sends them)"

    (tmp_path / "a.tar.gz").write_bytes(request.archive.data if request.archive else b"")
    user_command.unpack(str(tmp_path / "a.tar.gz"), tmp_path / "out")
    assert (tmp_path / "out/work/train.py").read_text() == "print(2)\n"
    fresh = tmp_path / "fresh"
    git(tmp_path, "clone", "-q", str(repository), str(fresh))
    git(fresh, "apply", str(tmp_path / "out/uncommitted.patch"))
    assert (fresh / "train.py").read_text() == "print(2)\n" and not (fresh / "gone.py").exists()


def test_the_same_files_are_the_same_archive_and_untracked_ones_are_optional(repository: Path) -> None:
    first, second = build(["ls"], repository), build(["ls"], repository)
    assert first.archive == second.archive and commands.command_hash(first) == commands.command_hash(second)
    with_all = build(["ls"], repository, with_untracked=True)
    assert "work/notes.txt" in members(with_all) and "work/cache.npy" not in members(with_all)
    assert commands.command_hash(with_all) != commands.command_hash(first)
    below = build(["./run.sh"], repository / "scripts")
    assert commands.command_record(below).cwd == "scripts" and "work/train.py" in members(below)


def test_a_repository_that_git_cannot_read_is_named(repository: Path) -> None:
    (repository / ".git" / "index").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"git cannot read .*: .*index file") as refusal:
        build(["ls"], repository)
    assert refusal.value.exit_code == 2 and "--cwd DIR" in refusal.value.remedy


def test_odd_file_names_arrive(tmp_path: Path) -> None:
    top = tmp_path / "odd"
    top.mkdir()
    git(top, "init", "-q")
    names = [b"a b.py", b"line\nbreak", b"\xff\xfe.bin", "größe.txt".encode()]
    for name in names:
        Path(os.fsdecode(bytes(top) + b"/" + name)).write_text("x")
    git(top, "add", "-A")
    request = build(["ls"], top)
    (tmp_path / "a.tar.gz").write_bytes(request.archive.data if request.archive else b"")
    user_command.unpack(str(tmp_path / "a.tar.gz"), tmp_path / "out")
    assert sorted(os.listdir(bytes(tmp_path / "out" / "work"))) == sorted(names)


def test_a_repository_without_a_commit_and_a_place_without_one(tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    git(new, "init", "-q")
    (new / "a.py").write_text("")
    git(new, "add", "a.py")
    request = build(["python", "a.py"], new)
    assert set(members(request)) == {"work/a.py"} and commands.command_record(request).commit == ""
    outside = build(["nvidia-smi"], tmp_path)
    assert outside.archive is None and "no git repository" in commands.notes(outside)[0]


def test_too_much_is_refused_with_the_largest_files(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "weights.bin").write_bytes(b"x" * 30_000)
    git(repository, "add", "weights.bin")
    monkeypatch.setattr(working_tree, "LIMIT_BYTES", 20_000)
    with pytest.raises(PreflightRefused, match="more than 0 MB; the largest") as refusal:
        build(["ls"], repository)
    assert refusal.value.exit_code == 5 and "weights.bin" in refusal.value.remedy and "--cwd" in refusal.value.remedy


def test_a_file_that_would_be_missing_there_is_refused_or_named(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PreflightRefused, match=r"notes\.txt is named by the command, but git does not track it"):
        build(["python", "train.py", "--notes=notes.txt"], repository)
    build(["cat", "notes.txt"], repository, with_untracked=True)
    monkeypatch.chdir(repository)
    build(["cat", "notes.txt"], repository, push_paths=[Path("notes.txt")])
    build(["cat", "notes.txt"], repository, cwd="/data")
    command = build(["python", "train.py", "cache.npy", "x" * 5000], repository)
    assert "cache.npy is not sent: git ignores it, or it is elsewhere (--push cache.npy)" in commands.notes(command)
    (tmp_path / "alone.py").write_text("")
    with pytest.raises(PreflightRefused, match=r"alone\.py is on this machine only") as refusal:
        build(["python", "alone.py"], tmp_path)
    assert refusal.value.exit_code == 5 and "--push alone.py" in refusal.value.remedy


def test_a_pushed_file_is_named_by_its_path_on_the_node(tmp_path: Path) -> None:
    config = tmp_path / "v3.yaml"
    config.write_text("a: 1\n")
    words = ["python", "train.py", str(config), f"--config={config}", "--other=x.yaml"]
    request = build(words, tmp_path, push_paths=[config])
    there = "/w/runs/r/pushed/v3.yaml"
    assert command_argv(request, "/w/runs/r") == ("python", "train.py", there, f"--config={there}", "--other=x.yaml")
    assert set(members(request)) == {"pushed/v3.yaml"}
    command = build(["python"], tmp_path, push_paths=[config])
    assert "$GIBLET_RUN_DIR/pushed/v3.yaml" in commands.notes(command)[1]


@pytest.mark.parametrize(
    ("words", "options", "sentence"),
    [
        ([], {}, "There is no command after --"),
        (["ls"], {"environment": ["1X=2"]}, "--env 1X"),
        (["ls"], {"environment": ["NAME"]}, "is written NAME=VALUE"),
        (["ls"], {"environment": ["CUDA_VISIBLE_DEVICES=0"]}, "choose them with --gpus"),
        (["ls"], {"environment": ["GIBLET_RUN_ID=0"]}, "GIBLET_RUN_ID"),
        (["ls"], {"cwd": "here"}, "is not a full path"),
        (["ls"], {"cwd": "/x", "with_untracked": True}, "--untracked"),
        (["ls"], {"with_untracked": True}, "in no git repository"),
        (["ls"], {"push_paths": [Path("/nowhere.yaml")]}, "there is no such file"),
        (["ls"], {"push_paths": [Path("/etc/hostname"), Path("/etc/hostname")]}, "Two files called hostname"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, words: list[str], options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        build(words, tmp_path, **options)
    assert sentence in refusal.value.message + refusal.value.remedy and refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("program", "sentence"),
    [("./train.py", "may not be executed"), ("./notes.txt", "git does not track it"), ("../up.sh", "in what is sent")],
)
def test_a_program_that_would_be_missing_is_refused_here(repository: Path, program: str, sentence: str) -> None:
    with pytest.raises(GibletError) as refusal:
        commands.check_on_node(None, build([program], repository))  # type: ignore[arg-type]
    assert refusal.value.exit_code == 5 and sentence in refusal.value.message


def test_a_run_is_named_after_the_script() -> None:
    for words, name in {
        "python scripts/train.py --lr 1e-4": "train",
        "torchrun --nproc-per-node 2 fit.py": "fit",
        "python -m lab.train --config x": "lab.train",
        "nvidia-smi": "nvidia-smi",
        "bash -lc true": "true",
        "env A=1 ./Run_All.sh": "Run_All",
        "bash -lc 'conda activate brain && python train.py --lr 1'": "train",
        "python3 'a b.py' '$HOME'": "a b",
    }.items():
        assert default_name(shlex.split(words)) == name


def test_a_member_that_would_lie_elsewhere_is_refused(tmp_path: Path) -> None:
    for name in ("/etc/x", "work/../../x"):
        with tarfile.open(tmp_path / "bad.tar", "w") as tar:
            tar.addfile(tarfile.TarInfo(name))
        with pytest.raises(AgentRefusal, match="may not be in what is sent"):
            user_command.unpack(str(tmp_path / "bad.tar"), tmp_path / "out")


@pytest.mark.parametrize(
    ("line", "script"),
    [
        ("python train.py other.py", "train.py"),
        ("/opt/conda/bin/python3.11 -u -X dev run/train.py", "run/train.py"),
        ("env SEED=1 nice -n 10 torchrun --nproc-per-node 2 train.py", "train.py"),
        ("srun --ntasks=2 python -W ignore train.py", "train.py"),
        ("bash run.sh", "run.sh"),
        ("python -m study.train config.py", ""),
        ("bash -lc 'python train.py'", ""),
        ("apptainer exec image.sif python /opt/train.py", ""),
        ("env X=1 conda run python train.py", ""),
        ("torchrun --no-python run.sh", ""),
        ("torchrun --no_python x out.py", ""),
        ("torchrun --standalone train.py", "train.py"),
        ("python3 train --export model.py", ""),
        ("python a.zip new.py", ""),
        ("python - x.py", ""),
        ("python -Bm pkg out.py", ""),
        ("python -mpkg out.py", ""),
        ("python -Xdev -uW error::DeprecationWarning train.py", "train.py"),
        ("env --chdir=sub python3 train.py", ""),
        ("srun --chdir=/scratch python train.py", ""),
        ("bash run make.sh", ""),
        ("bash -s x.sh", ""),
        ("bash -euo pipefail run.sh", "run.sh"),
        ("bash --rcfile own.sh run.sh", ""),
        ("perl -e 1 out.pl", ""),
        ("perl -ne 'print' out.pl", ""),
        ("Rscript -e 1 out.R", ""),
        ("Rscript --vanilla fit.R", "fit.R"),
        ("julia -E 1 out.jl", ""),
        ("julia -t 4 --project=. fit.jl", "fit.jl"),
        ("./train.py", ""),
        ("python", ""),
    ],
)
def test_the_script_that_an_interpreter_runs(line: str, script: str) -> None:
    assert commands.script_of(shlex.split(line)) == script


class _Node:
    """A connection whose node is this machine."""

    def call(self, operation: str, arguments: dict[str, object], kind: object, **_: object) -> object:
        return user_command.check(arguments, lambda event: None)


def test_a_script_that_does_not_exist_is_refused_before_the_start(repository: Path, tmp_path: Path) -> None:
    outside = tmp_path / "empty"
    outside.mkdir()

    def check(words: list[str], here: Path, **options: object) -> None:
        commands.check_on_node(_Node(), build(words, here, **options))  # type: ignore[arg-type]

    with pytest.raises(PreflightRefused, match=r"no nosuch\.py: the command starts in an empty directory"):
        check(["python3", "nosuch.py"], outside)
    with pytest.raises(PreflightRefused, match=r"no nosuch\.py in what is sent"):
        check(["python3", "-u", "nosuch.py"], repository)
    with pytest.raises(AgentRefusal, match=r"no file nosuch\.py in /") as refusal:
        check(["python3", "nosuch.py"], outside, cwd=str(repository))
    assert refusal.value.exit_code == 5
    with pytest.raises(AgentRefusal, match="no file ~/nosuch") as refusal:
        check(["python3", "~/nosuch.py"], repository)
    assert "only a shell replaces ~" in refusal.value.remedy
    check(["python3", "train.py"], repository)
    check(["python3", "../train.py"], repository / "scripts")
    check(["python3", "data/fit.py"], repository)  # behind a link, whose target the node has
    check(["python3", "train.py"], outside, push_paths=[repository / "train.py"], cwd=str(repository))
