"""The engine on a node: the wheel is this very version, and a node that has another is refused with what mends it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from giblet_train.schema import version
from giblet_train.schema.errors import GibletError, PreflightRefused
from giblet_tui.connection.connect import connect
from giblet_tui.connection.local import LocalConnection
from giblet_tui.deploy import install
from giblet_tui.inventory.nodes import Node
from tests.marks import can_train
from tests.paths import ROOT


def remote_like(workdir: Path, python: str | None = None) -> tuple[Node, LocalConnection]:
    """Return a node that is reached as `local` is, but for which setup has to do what it does on a server."""
    node = Node(name="tensor01", host="tensor01", workdir=str(workdir), python=python)
    return node, LocalConnection(node)


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a bare environment into which our wheel was installed, without what it depends on."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "env", with_pip=True)
    wheel = folder / install.wheel_name()
    wheel.write_bytes(install.build_wheel())
    python = folder / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run([*pip, wheel], check=True)
    return python


def test_the_wheel_holds_the_engine_byte_for_byte(interpreter: Path) -> None:
    code = "from giblet_train.schema.version import facts; f = facts(); print(f['version'], f['fingerprint'])"
    output = subprocess.run([interpreter, "-c", code], check=True, capture_output=True, text=True, cwd="/").stdout
    assert output.split() == [version.facts()["version"], version.fingerprint()]


def test_the_wheel_brings_configurations_constraints_and_the_command(interpreter: Path) -> None:
    site = next(interpreter.parent.parent.glob("lib/python3*/site-packages"))
    assert (site / "giblet_train" / "configs" / "demo.yaml").is_file()
    assert "torch==" in (site / "giblet_tui" / "constraints.txt").read_text()
    assert os.access(interpreter.with_name("giblet"), os.X_OK)


def test_equal_sources_make_equal_wheels() -> None:
    assert install.build_wheel() == install.build_wheel()


def test_the_fingerprint_is_of_the_engine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import giblet_train

    (tmp_path / "configs").mkdir()
    (tmp_path / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(giblet_train, "__file__", str(tmp_path / "__init__.py"))
    first = version.fingerprint()
    (tmp_path / "configs" / "mine.yaml").write_text("name: mine\n")
    assert version.fingerprint() == first
    (tmp_path / "a.py").write_text("x = 2\n")
    assert version.fingerprint() != first


@can_train
def test_this_machine_needs_no_setup(tmp_path: Path) -> None:
    node = Node(name="local", host="localhost", transport="local", workdir=str(tmp_path))
    with connect(node) as connection:
        environment = install.environment(node, connection)
        assert install.setup(node, connection, lambda sentence: None) == environment
    assert (environment.python, environment.fingerprint) == (sys.executable, version.fingerprint())
    assert environment.torch
    assert not (tmp_path / "envs").exists()


@can_train
def test_python_of_the_node_is_used_when_it_has_this_version(tmp_path: Path) -> None:
    node, connection = remote_like(tmp_path, python=sys.executable)
    environment = install.setup(node, connection, lambda sentence: None)
    assert (environment.python, environment.fingerprint) == (sys.executable, version.fingerprint())
    assert not (tmp_path / "envs").exists()


def test_a_node_without_an_environment_is_told_to_set_up(tmp_path: Path) -> None:
    node, connection = remote_like(tmp_path)
    with pytest.raises(PreflightRefused, match="does not have this version") as refusal:
        install.environment(node, connection)
    assert refusal.value.remedy == "giblet setup tensor01"


def test_what_an_interpreter_lacks_is_named(tmp_path: Path, interpreter: Path) -> None:
    node, connection = remote_like(tmp_path, python=str(interpreter))
    with pytest.raises(PreflightRefused, match=r"lacks .*torch"):
        install.environment(node, connection)


@can_train
def test_another_version_is_refused(tmp_path: Path, interpreter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node, connection = remote_like(tmp_path, python=sys.executable)
    monkeypatch.setattr(version, "fingerprint", lambda: "000000000000")
    with pytest.raises(PreflightRefused, match=r"this is .* \(000000000000\)") as refusal:
        install.environment(node, connection)
    assert "giblet setup tensor01" in refusal.value.remedy


@pytest.mark.parametrize("python", ["/nowhere/bin/python", "/bin/false"])
def test_an_interpreter_that_is_none_is_refused(tmp_path: Path, python: str) -> None:
    node, connection = remote_like(tmp_path)
    node = Node(name=node.name, host=node.host, workdir=node.workdir, python=python)
    with pytest.raises(PreflightRefused, match=python):
        install.environment(node, connection)


def test_a_failed_setup_leaves_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    node, connection = remote_like(tmp_path)
    sentences: list[str] = []
    with pytest.raises(GibletError, match="packages could not be installed") as refusal:
        install.setup(node, connection, sentences.append)
    assert refusal.value.exit_code == 5
    assert any("making an environment" in sentence for sentence in sentences)
    assert not (tmp_path / "envs" / install.environment_key()).exists()


@can_train
def test_an_environment_that_is_there_is_not_touched(tmp_path: Path) -> None:
    own = tmp_path / "envs" / install.environment_key() / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    own.chmod(0o755)
    node, connection = remote_like(tmp_path)
    before = sorted(p.name for p in (tmp_path / "envs").rglob("*"))
    assert install.setup(node, connection, lambda sentence: None).python == str(own)
    assert sorted(p.name for p in (tmp_path / "envs").rglob("*")) == before


@pytest.mark.skipif("GIBLET_TEST_SETUP" not in os.environ, reason="installs torch: run it by `make test-setup`")
@pytest.mark.timeout(1800)
def test_a_real_setup(tmp_path: Path) -> None:
    node, connection = remote_like(tmp_path)
    environment = install.setup(node, connection, print)
    assert environment.fingerprint == version.fingerprint()
    assert environment.python.startswith(str(tmp_path))
    assert install.environment(node, connection) == environment


def lab_wheel(folder: Path, requires: str = "") -> Path:
    """Return the wheel of a lab's package, which may require another one."""
    wheel = folder / "ourlab-1.0-py3-none-any.whl"
    info, metadata = "ourlab-1.0.dist-info", "Metadata-Version: 2.1\nName: ourlab\nVersion: 1.0\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("ourlab.py", "def extract(timeline):\n    return None\n")
        archive.writestr(f"{info}/METADATA", metadata + (f"Requires-Dist: {requires}\n" if requires else ""))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def test_a_lab_adds_its_package_and_no_version_changes(tmp_path: Path, interpreter: Path) -> None:
    node, connection = remote_like(tmp_path)
    environment = tmp_path / "envs" / install.environment_key()
    tmp_path.joinpath("envs").mkdir(mode=0o700)
    environment.symlink_to(interpreter.parent.parent)
    (environment / "constraints.txt").write_text("msgspec==0.0.1\n")
    python, house = environment / "bin" / "python", tmp_path / "house"
    house.mkdir()
    with connection, pytest.raises(GibletError, match="could not be added"):
        install.add_packages(
            node, connection, [str(lab_wheel(tmp_path, "msgspec>=1"))], print, wheelhouse=lab_house(house)
        )
    assert subprocess.run([python, "-c", "import ourlab"], capture_output=True).returncode
    with connection:
        facts = install.add_packages(node, connection, [str(lab_wheel(tmp_path))], print, wheelhouse=house)
    assert facts.fingerprint == version.fingerprint()
    subprocess.run([python, "-c", "import ourlab; ourlab.extract(0)"], check=True, cwd="/")


def lab_house(folder: Path) -> Path:
    """Return a wheelhouse with one wheel, so that pip asks no index."""
    lab_wheel(folder).rename(folder / "other-1.0-py3-none-any.whl")
    return folder


@pytest.mark.parametrize("package", ["--index-url=http://example.org", "a b", "no/such/folder", ""])
def test_what_is_no_package_is_refused(tmp_path: Path, package: str) -> None:
    node, connection = remote_like(tmp_path)
    with connection, pytest.raises(GibletError, match="neither the name of a package nor a folder"):
        install.add_packages(node, connection, [package], print)


def test_an_environment_that_is_not_giblets_is_not_changed(tmp_path: Path) -> None:
    node, connection = remote_like(tmp_path, "/opt/python")
    with connection, pytest.raises(PreflightRefused) as refusal:
        install.add_packages(node, connection, ["ourlab"], print)
    assert refusal.value.remedy == "Install there: /opt/python -m pip install ourlab"


def test_what_counts_as_missing_is_what_training_requires() -> None:
    """Without the conditional ones: a node lacks nothing that its platform does not have."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = map(Requirement, project["optional-dependencies"]["train"])
    train = {r.name.replace("-", "_") for r in requirements if r.marker is None}
    assert train | {"numpy"} == set(version.NEEDED)
