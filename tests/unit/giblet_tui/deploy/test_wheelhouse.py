"""Wheels for a node without an index: what is asked of pip, what is sent, and what an incomplete folder leads to."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from giblet_train.schema.errors import ConfigError, GibletError
from giblet_tui.connection.connect import connect
from giblet_tui.connection.local import LocalConnection
from giblet_tui.connection.protocol import MissingPaths, WheelTarget
from giblet_tui.deploy import install, wheelhouse
from giblet_tui.inventory.nodes import Node


def make_wheel(folder: Path, name: str, content: str = "X = 1\n") -> Path:
    """Return a wheel of one module."""
    folder.mkdir(parents=True, exist_ok=True)
    path, info = folder / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def offline(workdir: Path) -> tuple[Node, LocalConnection]:
    """Return a node that is reached as `local` is, but for which setup has to do what it does on a server."""
    node = Node(name="tensor01", host="tensor01", workdir=str(workdir))
    return node, LocalConnection(node)


def test_pip_is_asked_for_the_node_s_platform(tmp_path: Path) -> None:
    target = WheelTarget(python="/usr/bin/python3", version="3.12", machine="aarch64", glibc_minor=18)
    words = wheelhouse.download_argv(tmp_path, target)
    platforms = [words[n + 1] for n, word in enumerate(words) if word == "--platform"]
    assert platforms == ["manylinux_2_18_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"]
    assert words[words.index("--python-version") + 1] == "3.12" and words[:4] == [
        sys.executable,
        "-m",
        "pip",
        "download",
    ]


def test_wheels_are_sent_by_content_and_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_wheel(tmp_path / "house", name)
    _, connection = offline(tmp_path / "work")
    messages: list[str] = []
    folders = wheelhouse.send(
        connection, str(tmp_path / "work"), wheelhouse.wheels(tmp_path / "house"), messages.append
    )
    assert sorted(p.name for folder in folders for p in Path(folder).iterdir()) == [
        "one-1.0-py3-none-any.whl",
        "two-1.0-py3-none-any.whl",
    ]
    assert len(messages) == 2
    before = (Path(folders[0]) / "one-1.0-py3-none-any.whl").stat().st_mtime_ns
    make_wheel(tmp_path / "house", "two", "X = 2\n")
    again = wheelhouse.send(connection, str(tmp_path / "work"), wheelhouse.wheels(tmp_path / "house"), messages.append)
    assert (again[0], again[1] != folders[1], len(messages)) == (folders[0], True, 3)
    assert (Path(folders[0]) / "one-1.0-py3-none-any.whl").stat().st_mtime_ns == before


def test_a_folder_without_wheels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no wheel"):
        wheelhouse.wheels(tmp_path / "empty")


def test_an_incomplete_wheelhouse_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    for name in install.required_packages():
        if name != "torch":
            make_wheel(tmp_path / "house", name.replace("-", "_"))
    node, connection = offline(tmp_path / "work")
    with pytest.raises(ConfigError, match=r"house holds no wheel of torch\.") as refusal:
        install.setup(node, connection, lambda sentence: None, tmp_path / "house")
    assert refusal.value.exit_code == 2
    assert not (tmp_path / "work" / "envs" / install.environment_key()).exists()


@pytest.mark.skipif(
    "GIBLET_TEST_SETUP" not in os.environ, reason="downloads some packages: run it by `make test-setup`"
)
def test_a_node_without_network_is_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real thing but for torch and its like: the wheel is made to need msgspec alone."""
    whole, own = install.build_wheel(), tmp_path / "own.whl"
    own.write_bytes(whole)
    with zipfile.ZipFile(own) as source, zipfile.ZipFile(tmp_path / "small.whl", "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.endswith("METADATA"):
                lines = [
                    line for line in data.split(b"\n") if not line.startswith(b"Requires-Dist") or b"msgspec" in line
                ]
                data = b"\n".join(lines)
            if not entry.filename.endswith("RECORD"):
                target.writestr(entry, data)
        target.writestr(f"giblet-{install.giblet_train.__version__}.dist-info/RECORD", "")
    monkeypatch.setattr(install, "build_wheel", (tmp_path / "small.whl").read_bytes)
    monkeypatch.setattr(install, "ALONE", ())
    monkeypatch.setattr(install, "needed", lambda: ["msgspec"])
    node, connection = offline(tmp_path / "work")
    messages: list[str] = []
    with pytest.raises(GibletError, match=r"was set up, but .* lacks .*torch"):
        install.setup(node, connection, messages.append, tmp_path / "house")
    assert any(sentence.startswith("downloading wheels for Python 3.") for sentence in messages)
    python = tmp_path / "work" / "envs" / install.environment_key() / "bin" / "python"
    code = "import giblet_train, msgspec; print(giblet_train.__version__)"
    assert subprocess.run([python, "-c", code], capture_output=True, text=True, cwd="/", check=True).stdout.strip()
    with connect(Node(name="local", host="h", transport="local", workdir=str(tmp_path / "work"))) as local:
        assert local.call("lacking", {"paths": [str(python)]}, MissingPaths).paths == ()
