"""Inspects and creates Python environments on the node, under a lock.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from giblet_tui.agent import layout, private_dirs
from giblet_tui.agent.main import AgentRefusal, Emit, Operation, check_private
from giblet_tui.agent.run_command import answer

REFUSED, USAGE = 5, 2
OLDEST = (3, 11)
CONSTRAINTS = "constraints.txt"
_FACTS = "import json; from giblet_train.schema.version import facts; print(json.dumps(facts()))"
ENGINE_LIMIT_S = 60.0
_VERSION = "import sys; print(*sys.version_info[:2])"


def engine(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Return the facts of `schema.version` for an interpreter, or {python, problem} with a sentence.

    arguments: workdir; python (a path), or else key, the environment's name under <workdir>/envs.
    """
    python = interpreter_path(arguments)
    if not python.exists():
        return {"python": str(python), "problem": f"{python} does not exist"}
    if arguments.get("workdir"):
        check_private(str(python), str(_path(arguments["workdir"])))
    result = answer([str(python), "-c", _FACTS], ENGINE_LIMIT_S, folder="/")
    if result is None:
        sentence = f"{python} cannot be run, or gives no answer within {ENGINE_LIMIT_S:.0f} s"
        return {"python": str(python), "problem": sentence + "; its file system may be slow or gone"}
    if result.returncode or not result.stdout.strip():
        lines = result.stderr.strip().splitlines() or [f"it printed nothing, exit code {result.returncode}"]
        return {"python": str(python), "problem": f"{python} cannot import giblet: {lines[-1]}"}
    return dict(json.loads(result.stdout.splitlines()[-1]), python=str(python))


def setup(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Create <workdir>/envs/<key> with the wheel and its [train] extra, once. Returns what `engine` returns for it.

    An existing environment is never changed. A failed installation is removed.

    arguments: workdir; key; wheel, a path on the node; constraints, a text; alone, requirements to install without
    their dependencies; wheelhouse, folders on the node to use in place of a package index.
    """
    folder = _path(arguments["workdir"]) / layout.ENVIRONMENTS
    private_dirs.make(str(folder))
    for path in (folder / arguments["key"], _path(arguments["wheel"]), *map(_path, arguments.get("wheelhouse") or ())):
        check_private(str(path), str(folder.parent))
    target = folder / arguments["key"]
    with open(folder / (arguments["key"] + ".lock"), "w") as lock:
        _wait_for(lock, emit)
        if not (target / ".ready").exists():
            shutil.rmtree(target, ignore_errors=True)
            try:
                _install(target, arguments, emit)
            except BaseException:
                shutil.rmtree(target, ignore_errors=True)
                raise
    return engine({"workdir": arguments["workdir"], "key": arguments["key"], "python": None}, emit)


def add_packages(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Add packages to an environment; those that giblet needs keep their versions. Returns what `engine` returns.

    arguments: workdir; key; packages, requirements or paths of wheels on the node; wheelhouse, folders on the node to
    use in place of a package index.
    """
    folder = _path(arguments["workdir"]) / layout.ENVIRONMENTS
    target = folder / arguments["key"]
    wheels = [_path(package) for package in arguments["packages"] if package.endswith(".whl")]
    for path in (target, *wheels, *map(_path, arguments.get("wheelhouse") or ())):
        check_private(str(path), str(folder.parent))
    with open(folder / (arguments["key"] + ".lock"), "w") as lock:
        _wait_for(lock, emit)
        emit({"step": "adding " + ", ".join(Path(package).name for package in arguments["packages"])})
        packages = [str(_path(p)) if p.endswith(".whl") else p for p in arguments["packages"]]
        _run([*_pip(target, arguments), "--", *packages], emit, "the packages could not be added")
    return engine({"workdir": arguments["workdir"], "key": arguments["key"], "python": None}, emit)


def interpreter(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Return {python, version, machine, glibc_minor} of the interpreter that `setup` would use."""
    python = _newest_python()
    version = subprocess.run([python, "-c", _VERSION], stdout=subprocess.PIPE, encoding="ascii").stdout.split()
    glibc = platform.libc_ver()[1].split(".")
    minor = int(glibc[1]) if len(glibc) > 1 and glibc[1].isdigit() else 0
    return {"python": python, "version": ".".join(version), "machine": platform.machine(), "glibc_minor": minor}


def missing_paths(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Return those of `paths` that do not exist."""
    return {"paths": [path for path in arguments["paths"] if not _path(path).exists()]}


OPERATIONS: dict[str, Operation] = {
    "engine": engine,
    "setup": setup,
    "add_packages": add_packages,
    "interpreter": interpreter,
    "lacking": missing_paths,
}


def interpreter_path(arguments: dict[str, Any]) -> Path:
    """Return the interpreter that `python` or `key` names, whether it exists or not."""
    if arguments.get("python"):
        return _path(arguments["python"])
    own: str = arguments["key"]
    return _path(arguments["workdir"]) / layout.ENVIRONMENTS / own / "bin" / "python"


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _wait_for(lock: Any, emit: Emit) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        emit({"step": "another setup of this version is at work; waiting for it"})
        fcntl.flock(lock, fcntl.LOCK_EX)


def _install(target: Path, arguments: dict[str, Any], emit: Emit) -> None:
    python = _newest_python()
    emit({"step": f"making an environment with {python}"})
    _run([python, "-m", "venv", str(target)], emit, "the virtual environment could not be made")
    (target / CONSTRAINTS).write_text(arguments["constraints"])
    pip = _pip(target, arguments)
    wheel = _path(arguments["wheel"])
    emit({"step": "installing giblet with what training needs (torch alone is some GB)"})
    _run([*pip, "giblet[train] @ " + wheel.as_uri()], emit, "the packages could not be installed")
    if arguments["alone"]:
        _run([*pip, "--no-deps", *arguments["alone"]], emit, "the packages could not be installed")
    (target / ".ready").touch()


def _pip(target: Path, arguments: dict[str, Any]) -> list[str]:
    """Return the command that installs into an environment, with the versions that giblet needs."""
    pip = [str(target / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    pip += ["--progress-bar", "off", "-c", str(target / CONSTRAINTS)]
    if arguments.get("wheelhouse"):
        pip.append("--no-index")
        pip += [word for folder in arguments["wheelhouse"] for word in ("--find-links", str(_path(folder)))]
    return pip


def _newest_python() -> str:
    """Return a usable interpreter: this one, else the newest on PATH. Raises AgentRefusal if all are too old."""
    candidates: list[str | None] = [sys.executable]
    candidates += [shutil.which(f"python3.{minor}") for minor in (13, 12, 11, 14)]
    for python in filter(None, candidates):
        result = subprocess.run([python, "-c", _VERSION], capture_output=True, text=True)
        if result.returncode == 0 and tuple(map(int, result.stdout.split())) >= OLDEST:
            return python
    raise AgentRefusal(
        "No Python of at least {}.{} is on the node's PATH.".format(*OLDEST),
        "Install one, or name an interpreter that has giblet: `python:` of the node in nodes.yaml.",
        REFUSED,
    )


def _run(argv: list[str], emit: Emit, failure: str) -> None:
    """Run a program with its progress as events. Raises AgentRefusal with its last lines if it fails."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
    )
    last: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        last = [*last[-4:], line.strip()]
        if line.startswith(("Collecting", "Downloading", "Installing", "Building")):
            emit({"line": line.strip()})
    if process.wait():
        raise AgentRefusal(
            "On the node {}: {}".format(failure, " / ".join(last) or "no output"),
            "Fix that there (python3-venv, network, disk). Without a network, bring the packages (giblet setup NODE "
            "--wheelhouse DIR). Or name an interpreter that has giblet: `python:` of the node in nodes.yaml.",
            REFUSED,
        )
