"""Supplies a node without a package index: wheels come from a folder here and are sent by content, each only once."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from giblet_train.schema.errors import ConfigError, PreflightRefused
from giblet_tui.connection.base import Connection
from giblet_tui.connection.protocol import MissingPaths, WheelTarget
from giblet_tui.connection.sanitize import sanitize

OLDEST_GLIBC_MINOR = 17
DOWNLOAD_LIMIT_S = 3600.0


def fill(folder: Path, target: WheelTarget, own_wheel: Path, constraints: str, alone: Sequence[str]) -> None:
    """Download what the node needs into the folder, for its platform and not for this one.

    Raises PreflightRefused with pip's message.

    Args:
        alone: requirements whose own dependencies are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    constraints_file = folder / "constraints.txt"
    constraints_file.write_text(constraints)
    pip = download_argv(folder, target)
    _download([*pip, "-c", str(constraints_file), f"giblet[train] @ {own_wheel.resolve().as_uri()}"])
    if alone:
        _download([*pip, "-c", str(constraints_file), "--no-deps", *alone])


def download_argv(folder: Path, target: WheelTarget) -> list[str]:
    """Return pip's command line without the requirements to download."""
    newest = max(target.glibc_minor, OLDEST_GLIBC_MINOR)
    tags = [f"manylinux_2_{minor}_{target.machine}" for minor in range(newest, OLDEST_GLIBC_MINOR - 1, -1)]
    platforms = [word for tag in (*tags, f"manylinux2014_{target.machine}") for word in ("--platform", tag)]
    options = [
        "--disable-pip-version-check",
        "--no-input",
        "--only-binary",
        ":all:",
        "--python-version",
        target.version,
    ]
    return [sys.executable, "-m", "pip", "download", "-q", *options, *platforms, "-d", str(folder)]


def wheels(folder: Path, requirements: Sequence[str] = ()) -> list[Path]:
    """Return the wheels of a folder, by name. Raises ConfigError naming those of `required` that are missing."""
    paths = sorted(folder.glob("*.whl"))
    present = {_normal(wheel.name.partition("-")[0]) for wheel in paths}
    missing = [name for name in requirements if _normal(name) not in present]
    if not paths or missing:
        raise ConfigError(
            f"{folder} holds no wheel of {', '.join(missing)}." if missing else f"{folder} holds no wheel (*.whl).",
            "Name a folder with all wheels, or one that does not exist yet: it is filled here, then sent.",
        )
    return paths


def send(connection: Connection, workdir: str, paths: Sequence[Path], report: Callable[[str], None]) -> list[str]:
    """Send every wheel that the node does not have yet, and return the folders there that hold them.

    A wheel is stored in a folder named after its content, so a wheel that is there is never sent or changed again.
    """
    remote = {f"{workdir}/envs/wheels/{_digest(wheel)[:12]}/{wheel.name}": wheel for wheel in paths}
    missing = connection.call("lacking", {"paths": list(remote)}, MissingPaths).paths
    for n, path in enumerate(missing, start=1):
        size_mb = remote[path].stat().st_size / 1e6
        report(f"sending {remote[path].name} ({size_mb:.1f} MB), {n} of {len(missing)}")
        connection.put(remote[path], path)
    return [path.rpartition("/")[0] for path in remote]


def _download(argv: Sequence[str]) -> None:
    try:
        result = subprocess.run(argv, capture_output=True, text=True, timeout=DOWNLOAD_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise PreflightRefused("pip did not finish downloading within an hour.", "Run the setup again.") from None
    if result.returncode:
        lines = (
            [line for line in result.stderr.splitlines() if "ERROR" in line]
            or result.stderr.splitlines()
            or ["no output"]
        )
        raise PreflightRefused(
            f"The wheels could not be downloaded: {sanitize(lines[-1])}",
            "Run it where a package index can be reached, or name a folder that has the wheels.",
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _normal(name: str) -> str:
    """Normalise a package's name as indexes do."""
    return re.sub(r"[-_.]+", "_", name).lower()
