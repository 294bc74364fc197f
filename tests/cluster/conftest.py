"""The test cluster: two nodes of real sshd on loopback, or a skip that names what is missing.

With GIBLET_REQUIRE_CLUSTER=1 (continuous integration sets it) what would be a skip is a failure.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from giblet_tui.agent import kill, run_processes
from tests.cluster.accounts import lacking_for_accounts, made_accounts
from tests.cluster.laptop import SMALL_CONFIG, Laptop
from tests.cluster.nodes import Account, Cluster, FaultProxy, LoopbackNode, missing, which

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)


def unavailable(reason: str) -> None:
    """Skip, or fail where the cluster is required."""
    if os.environ.get("GIBLET_REQUIRE_CLUSTER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Yield two nodes of this worker, tensor01 and tensor02, each with its own address and host key."""
    missing_programs = missing()
    if missing_programs:
        unavailable("the test cluster cannot run here; missing: " + ", ".join(missing_programs))
    servers = Cluster(("tensor01", "tensor02"))
    yield servers
    servers.close()


@pytest.fixture(autouse=True)
def own_settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this test files of giblet's own, and the cluster's ssh config in place of the user's."""
    for variable, folder in (("XDG_CACHE_HOME", "cache"), ("XDG_CONFIG_HOME", "config"), ("GIBLET_HOME", "local")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.delenv("GIBLET_NODES", raising=False)
    if {"cluster", "tensor01", "tensor02", "proxy"} & set(request.fixturenames):
        monkeypatch.setenv("GIBLET_SSH_CONFIG", str(request.getfixturevalue("cluster").ssh_config))


@pytest.fixture
def tensor01(cluster: Cluster) -> Iterator[LoopbackNode]:
    """Yield the first node; a recording of GPUs ends with the test."""
    yield cluster.nodes["tensor01"]
    cluster.nodes["tensor01"].forget_gpus()


@pytest.fixture
def tensor02(cluster: Cluster) -> Iterator[LoopbackNode]:
    """Yield the second node; a recording of GPUs ends with the test."""
    yield cluster.nodes["tensor02"]
    cluster.nodes["tensor02"].forget_gpus()


@pytest.fixture(scope="session")
def _proxy(cluster: Cluster) -> Iterator[FaultProxy]:
    proxy = FaultProxy(cluster.nodes["tensor02"], "tensor02-by-proxy")
    yield proxy
    proxy.close()


@pytest.fixture
def proxy(_proxy: FaultProxy) -> Iterator[FaultProxy]:
    """Yield tensor02 through a relay that can be silenced and cut."""
    yield _proxy
    _proxy.resume()
    _proxy.cut()


@pytest.fixture(params=["tmux", "screen"])
def multiplexer(request: pytest.FixtureRequest) -> str:
    """Return each multiplexer in turn."""
    name: str = request.param
    if which(name) is None:
        unavailable(f"missing: {name} (apt-get install {name})")
    return name


def workdirs(cluster: Cluster) -> list[str]:
    """Return the working directory of each node."""
    return [str(node.home / "giblet") for node in cluster.nodes.values()]


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a working directory that holds the study of small.yaml, prepared. One worker makes it for all."""
    base = tmp_path_factory.getbasetemp()
    workdir = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tiny-study"
    workdir.mkdir(exist_ok=True)
    with (workdir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(workdir.glob("stores/*/manifest.json")):
            (workdir / "small.yaml").write_text(SMALL_CONFIG)
            command = ["-m", "giblet_train", "prepare", str(workdir / "small.yaml"), "--workdir", str(workdir)]
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return workdir


def copy_study(tiny_study: Path, node: LoopbackNode) -> None:
    """Copy the study to a node's working directory, where its first launch would make it."""
    for name in ("studies", "stores"):
        folder = node.home / "giblet" / name
        if not folder.exists():
            folder.parent.mkdir(mode=0o700, exist_ok=True)
            shutil.copytree(tiny_study / name, folder)


@pytest.fixture
def laptop(tmp_path: Path, cluster: Cluster, tiny_study: Path) -> Iterator[Laptop]:
    """Yield a laptop, whose nodes hold the study of small.yaml.

    Its test leaves no run behind, whatever became of the test and of giblet itself.
    """
    laptop = Laptop(tmp_path, cluster.ssh_config)
    for node in cluster.nodes.values():
        copy_study(tiny_study, node)
    earlier_runs = {run.path for workdir in workdirs(cluster) for run in run_processes.all_runs(workdir)}
    yield laptop
    for workdir in [*workdirs(cluster), str(tmp_path / "local")]:
        for run in run_processes.all_runs(workdir):
            if run.path not in earlier_runs:
                kill.kill_tree(run)


@pytest.fixture
def accounts() -> Iterator[list[Account]]:
    """Yield three real accounts of this machine."""
    if reason := lacking_for_accounts():
        unavailable(reason)
    with made_accounts(3) as (users, _):
        yield users
