"""If ssh reaches a node, giblet does: configurations that giblet's own client cannot serve by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from giblet_train.schema.errors import ConfigError
from giblet_tui.connection import notices, transport_choice
from giblet_tui.connection.connect import connect
from giblet_tui.connection.protocol import RunIds
from giblet_tui.connection.ssh import SSHConnection
from giblet_tui.errors import NotLetIn, Unreachable
from giblet_tui.inventory import nodes
from tests.cluster.conftest import unavailable
from tests.cluster.nodes import Cluster, LoopbackNode, make_key

ALGORITHMS = [
    ("Ciphers", "chacha20-poly1305@openssh.com"),
    ("MACs", "umac-128-etm@openssh.com"),
    ("MACs", "hmac-sha1"),
    ("KexAlgorithms", "curve25519-sha256"),
    ("KexAlgorithms", "sntrup761x25519-sha512@openssh.com"),
    ("KexAlgorithms", "diffie-hellman-group18-sha512"),
]


@pytest.fixture
def reported() -> Iterator[list[str]]:
    """Collect the notices that a person would read."""
    sentences: list[str] = []
    notices.set_notice_handler(sentences.append)
    yield sentences
    notices.set_notice_handler(None)


@pytest.fixture
def ssh_agent(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield an ssh-agent that holds one encrypted key, which the first node accepts."""
    if shutil.which("ssh-agent") is None:
        unavailable("ssh-agent is not installed")
    folder = Path(subprocess.run(["mktemp", "-d", "/tmp/gib-XXXXXX"], capture_output=True, text=True).stdout.strip())
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(folder / "s")], stdout=subprocess.DEVNULL)
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    authorized = cluster.nodes["tensor01"].directory / "authorized_keys"
    before = authorized.read_text()
    authorized.write_text(before + key.with_suffix(".pub").read_text())
    while not (folder / "s").exists():
        time.sleep(0.01)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(folder / "s"))
    subprocess.run(["ssh-add", "-q", str(key)], check=True)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(key)], check=True)
    yield key
    process.terminate()
    process.wait()
    authorized.write_text(before)
    shutil.rmtree(folder)


def add_host(cluster: Cluster, name: str, *lines: str) -> None:
    """Append a Host block with exactly these lines."""
    node = cluster.nodes["tensor01"]
    cluster.add_block(name, f"HostName {node.address}", f"Port {node.port}", *lines)


def known(cluster: Cluster) -> list[str]:
    return [f"UserKnownHostsFile {cluster.known_hosts}", "GlobalKnownHostsFile none"]


def reaches(cluster: Cluster, name: str, home: Path) -> str:
    """Connect as every command does, run an operation, and return the kind of connection."""
    with connect(cluster.node(name, home)) as connection:
        assert connection.call("runs", {"workdir": str(home / "none")}, RunIds).runs == ()
        return type(connection).__name__


@pytest.mark.parametrize(("directive", "algorithm"), ALGORITHMS)
def test_a_server_with_algorithms_that_only_ssh_has(
    cluster: Cluster, tensor02: LoopbackNode, tmp_path: Path, reported: list[str], directive: str, algorithm: str
) -> None:
    name = f"only-{algorithm.partition('@')[0]}"
    node = LoopbackNode(cluster, name, tensor02.address, f"{directive} {algorithm}")
    try:
        with pytest.raises(Unreachable, match="no algorithm in common"):
            SSHConnection(cluster.node(name, node.home))
        assert reaches(cluster, name, node.home) == "OpenSSHConnection"
        assert len(reported) == 1 and name in reported[0] and "no algorithm in common" in reported[0]
        logins = node.logged("no matching")
        assert reaches(cluster, name, node.home) == "OpenSSHConnection"
        assert len(reported) == 1 and node.logged("no matching") == logins, (
            "remembered: not tried again, not said again"
        )
    finally:
        node.close()


def test_an_agents_key_that_is_named_by_its_public_half(cluster: Cluster, ssh_agent: Path, tmp_path: Path) -> None:
    add_host(cluster, "by-pub", f"IdentityFile {ssh_agent}.pub", "IdentitiesOnly yes", *known(cluster))
    assert reaches(cluster, "by-pub", tmp_path) == "SSHConnection"


def test_an_encrypted_key_without_a_public_file_that_the_agent_holds(
    cluster: Cluster, ssh_agent: Path, tmp_path: Path
) -> None:
    ssh_agent.with_suffix(".pub").unlink()
    add_host(cluster, "embedded", f"IdentityFile {ssh_agent}", "IdentitiesOnly yes", *known(cluster))
    assert reaches(cluster, "embedded", tmp_path) == "SSHConnection"


def test_a_proxy_command_that_is_slow(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("giblet_tui.connection.ssh.HANDSHAKE_LIMIT_S", 1.0)
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import os, socket, sys, threading, time\nprint('tunnel is slow', file=sys.stderr); time.sleep(2.5)\n"
        "line = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def pump():\n    while data := line.recv(65536): os.write(1, data)\n    os._exit(0)\n"
        "threading.Thread(target=pump, daemon=True).start()\n"
        "while data := os.read(0, 65536): line.sendall(data)\n"
    )
    proxy = f"ProxyCommand {sys.executable} {slow} %h %p"
    add_host(cluster, "slow", f"IdentityFile {cluster.key}", "ConnectTimeout 20", proxy, *known(cluster))
    assert reaches(cluster, "slow", tmp_path) == "SSHConnection"
    assert "tunnel" not in "".join(capfd.readouterr())


def test_a_proxy_command_that_fails_is_quoted_and_reaches_no_screen(
    cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    proxy = "ProxyCommand sh -c 'echo the VPN is down >&2; exit 1'"
    add_host(cluster, "broken-proxy", f"IdentityFile {cluster.key}", proxy, *known(cluster))
    with pytest.raises(Unreachable, match="ProxyCommand for broken-proxy did not reach it: the VPN is down"):
        connect(cluster.node("broken-proxy", tmp_path))
    assert "VPN" not in "".join(capfd.readouterr())


def test_a_host_whose_key_ssh_does_not_check(cluster: Cluster, tmp_path: Path, reported: list[str]) -> None:
    lines = ["StrictHostKeyChecking no", "UserKnownHostsFile /dev/null", "GlobalKnownHostsFile none"]
    add_host(cluster, "container", f"IdentityFile {cluster.key}", *lines)
    assert reaches(cluster, "container", tmp_path) == "OpenSSHConnection"
    assert "is not a known host" in reported[0]


def test_a_directive_that_only_ssh_honours(cluster: Cluster, tmp_path: Path, reported: list[str]) -> None:
    add_host(cluster, "listed", f"IdentityFile {cluster.key}", f"RevokedHostKeys {os.devnull}", *known(cluster))
    assert reaches(cluster, "listed", tmp_path) == "OpenSSHConnection"
    assert "revokedhostkeys" in reported[0]


def test_a_changed_host_key_is_never_passed_on_to_ssh(cluster: Cluster, tmp_path: Path) -> None:
    other = tmp_path / "other"
    make_key(other)
    node = cluster.nodes["tensor01"]
    hosts = tmp_path / "known_hosts"
    hosts.write_text(f"[{node.address}]:{node.port} {' '.join(other.with_suffix('.pub').read_text().split()[:2])}\n")
    add_host(
        cluster, "changed", f"IdentityFile {cluster.key}", f"UserKnownHostsFile {hosts}", "StrictHostKeyChecking no"
    )
    with pytest.raises(NotLetIn, match=r"host key of .* changed"):
        connect(cluster.node("changed", tmp_path))
    assert transport_choice.recall(cluster.node("changed", tmp_path)) is None


def test_where_nobody_gets_in_the_first_advice_stays(cluster: Cluster, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    make_key(stranger)
    add_host(
        cluster, "stranger", f"IdentityFile {stranger}", "IdentitiesOnly yes", "IdentityAgent none", *known(cluster)
    )
    with pytest.raises(NotLetIn, match="does not let us in: it was offered") as refusal:
        connect(cluster.node("stranger", tmp_path))
    assert f"ssh-copy-id -F {cluster.ssh_config} stranger" in refusal.value.remedy
    assert transport_choice.recall(cluster.node("stranger", tmp_path)) is None


@pytest.mark.parametrize("block", ["Match originalhost by-match", "Match host by-match", "Host by-m*"])
def test_a_host_that_only_a_match_block_names(cluster: Cluster, tmp_path: Path, block: str) -> None:
    before = cluster.ssh_config.read_text()
    node = cluster.nodes["tensor01"]
    lines = [f"HostName {node.address}", f"Port {node.port}", f"IdentityFile {cluster.key}", *known(cluster)]
    with cluster.ssh_config.open("a") as file:
        file.write("\n  ".join([block, *lines]) + "\n")
    try:
        with connect(nodes.resolve("by-match")) as connection:
            assert connection.call("runs", {"workdir": str(tmp_path)}, RunIds).runs == ()
        with pytest.raises(ConfigError, match="No node is called 'not-there'"):
            nodes.resolve("not-there")
    finally:
        cluster.ssh_config.write_text(before)


def test_a_host_that_only_the_resolver_knows(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    assert nodes.resolve("localhost").host == "localhost"


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("set -e\nmodule load cuda", "A start-up file of the login shell ends"),
        ("source /opt/miniconda3/bin/activate || exit 1", "A start-up file of the login shell ends"),
        ("exit 3", "The login shell of .* ended before giblet's agent began"),
        ("PATH=/nowhere", "There is no python3"),
    ],
)
def test_a_start_up_file_is_named_as_the_problem(
    cluster: Cluster, tensor01: LoopbackNode, lines: str, sentence: str
) -> None:
    (tensor01.home / ".bashrc").write_text(lines + "\n")
    node = cluster.node("tensor01", tensor01.home, python=None)
    try:
        with connect(node) as connection, pytest.raises(Unreachable, match=sentence) as refusal:
            connection.call("runs", {"workdir": str(tensor01.home)}, RunIds)
        assert ("python3" in refusal.value.message) == lines.startswith("PATH")
    finally:
        (tensor01.home / ".bashrc").unlink()
