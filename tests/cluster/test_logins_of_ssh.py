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
from giblet_tui.connection import notices, ssh, transport_choice
from giblet_tui.connection.connect import connect
from giblet_tui.connection.protocol import NodeProbe, RunIds
from giblet_tui.connection.ssh import SSHConnection
from giblet_tui.errors import NotLetIn, Unreachable
from giblet_tui.inventory import nodes
from tests.cluster.conftest import unavailable
from tests.cluster.nodes import Cluster, LoopbackNode, make_key, wait_until

ALGORITHMS = [
    ("Ciphers", "chacha20-poly1305@openssh.com"),
    ("MACs", "umac-128-etm@openssh.com"),
    ("MACs", "hmac-sha1"),
    ("KexAlgorithms", "curve25519-sha256"),
    ("KexAlgorithms", "sntrup761x25519-sha512@openssh.com"),
    ("KexAlgorithms", "diffie-hellman-group18-sha512"),
]


@pytest.fixture
def notice_texts() -> Iterator[list[str]]:
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
    keys_file = cluster.nodes["tensor01"].directory / "authorized_keys"
    before = keys_file.read_text()
    keys_file.write_text(before + key.with_suffix(".pub").read_text())
    while not (folder / "s").exists():
        time.sleep(0.01)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(folder / "s"))
    subprocess.run(["ssh-add", "-q", str(key)], check=True)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(key)], check=True)
    yield key
    process.terminate()
    process.wait()
    keys_file.write_text(before)
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
    cluster: Cluster, tensor02: LoopbackNode, tmp_path: Path, notice_texts: list[str], directive: str, algorithm: str
) -> None:
    name = f"only-{algorithm.partition('@')[0]}"
    node = LoopbackNode(cluster, name, tensor02.address, f"{directive} {algorithm}")
    try:
        with pytest.raises(Unreachable, match="no algorithm in common"):
            SSHConnection(cluster.node(name, node.home))
        assert reaches(cluster, name, node.home) == "OpenSSHConnection"
        assert len(notice_texts) == 1 and name in notice_texts[0] and "no algorithm in common" in notice_texts[0]
        logins = node.logged("no matching")
        assert reaches(cluster, name, node.home) == "OpenSSHConnection"
        assert len(notice_texts) == 1 and node.logged("no matching") == logins, (
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


def test_a_host_whose_key_ssh_does_not_check(cluster: Cluster, tmp_path: Path, notice_texts: list[str]) -> None:
    lines = ["StrictHostKeyChecking no", "UserKnownHostsFile /dev/null", "GlobalKnownHostsFile none"]
    add_host(cluster, "container", f"IdentityFile {cluster.key}", *lines)
    assert reaches(cluster, "container", tmp_path) == "OpenSSHConnection"
    assert "is not a known host" in notice_texts[0]


def test_a_directive_that_only_ssh_honours(cluster: Cluster, tmp_path: Path, notice_texts: list[str]) -> None:
    add_host(cluster, "listed", f"IdentityFile {cluster.key}", f"RevokedHostKeys {os.devnull}", *known(cluster))
    assert reaches(cluster, "listed", tmp_path) == "OpenSSHConnection"
    assert "revokedhostkeys" in notice_texts[0]


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
        ('[ -n "$TMUX" ] || exec cat', "reads the standard input that belongs to giblet's agent"),
        ("exec sh", "reads the standard input that belongs to giblet's agent"),
        ("read project", "reads the standard input that belongs to giblet's agent"),
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
        assert "python3" not in refusal.value.message
    finally:
        (tensor01.home / ".bashrc").unlink()


def test_a_login_whose_path_lacks_the_systems_programs(cluster: Cluster, tensor01: LoopbackNode) -> None:
    (tensor01.home / ".bashrc").write_text("PATH=/opt/lab\n")
    try:
        with connect(cluster.node("tensor01", tensor01.home, python=None)) as connection:
            probe = connection.call("probe", {"workdir": str(tensor01.home)}, NodeProbe)
        assert probe.tmux, "programs of the system are used although PATH does not name their folder"
    finally:
        (tensor01.home / ".bashrc").unlink()


@pytest.mark.parametrize("number", [6, 7])
def test_all_keys_are_offered_as_ssh_does_until_the_server_hangs_up(
    cluster: Cluster, tmp_path: Path, number: int
) -> None:
    """sshd allows six tries (MaxAuthTries)."""
    others = [tmp_path / f"key{n}" for n in range(number - 1)]
    for key in others:
        make_key(key)
    lines = [f"IdentityFile {key}" for key in [*others, cluster.key]]
    name = f"key-number-{number}"
    add_host(cluster, name, *lines, "IdentitiesOnly yes", "IdentityAgent none", *known(cluster))
    if number == 6:
        assert reaches(cluster, name, tmp_path) == "SSHConnection"
        return
    with pytest.raises(NotLetIn, match="hung up after it was offered 6 keys") as refusal:
        connect(cluster.node(name, tmp_path))
    assert "IdentitiesOnly yes" in refusal.value.remedy


def test_known_hosts_in_a_folder_with_a_space(cluster: Cluster, tmp_path: Path) -> None:
    hosts = tmp_path / "my hosts"
    hosts.write_bytes(cluster.known_hosts.read_bytes())
    lines = [f"IdentityFile {cluster.key}", f'UserKnownHostsFile {tmp_path}/none "{hosts}"']
    add_host(cluster, "spaced", *lines, "GlobalKnownHostsFile none")
    assert reaches(cluster, "spaced", tmp_path) == "SSHConnection"


PASSES_A_DESCRIPTOR = """
import array, os, socket, sys
line = socket.create_connection((sys.argv[1], int(sys.argv[2])))
ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [line.fileno()]))]
socket.socket(fileno=os.dup(1)).sendmsg([b"x"], ancillary)
"""


def test_a_proxy_command_that_passes_a_descriptor(cluster: Cluster, tmp_path: Path, notice_texts: list[str]) -> None:
    (tmp_path / "pass.py").write_text(PASSES_A_DESCRIPTOR)
    proxy = [f"ProxyCommand {sys.executable} {tmp_path}/pass.py %h %p", "ProxyUseFdpass yes"]
    add_host(cluster, "passing", f"IdentityFile {cluster.key}", *proxy, *known(cluster))
    assert reaches(cluster, "passing", tmp_path) == "OpenSSHConnection"
    assert "proxyusefdpass" in notice_texts[0]


@pytest.mark.parametrize("directive", ["StdinNull", "ForkAfterAuthentication"])
def test_directives_for_tunnels_do_not_reach_commands(cluster: Cluster, tmp_path: Path, directive: str) -> None:
    lines = [f"IdentityFile {cluster.key}", f"{directive} yes", *known(cluster)]
    add_host(cluster, f"{directive}-own", *lines)
    assert reaches(cluster, f"{directive}-own", tmp_path) == "SSHConnection"
    add_host(cluster, f"{directive}-ssh", *lines, f"RevokedHostKeys {os.devnull}")
    assert reaches(cluster, f"{directive}-ssh", tmp_path) == "OpenSSHConnection"


def test_a_master_that_a_person_opened_serves_where_keys_do_not(cluster: Cluster, tensor02: LoopbackNode) -> None:
    """As after a login with a second factor, which giblet cannot repeat."""
    name, path = "by-master", cluster.root / "by-master.socket"
    cluster.add_host(name, tensor02.address, tensor02.port, f"ControlPath {path}")
    keys_file = tensor02.directory / "authorized_keys"
    keys = keys_file.read_text()
    master = subprocess.Popen(["ssh", "-F", str(cluster.ssh_config), "-MN", name], stdin=subprocess.DEVNULL)
    try:
        wait_until(path.exists, what="the master")
        keys_file.write_text("")
        assert reaches(cluster, name, tensor02.home) == "OpenSSHConnection"
        assert transport_choice.recall(cluster.node(name, tensor02.home)) is None, "it will close"
        master.terminate()
        master.wait()
        with pytest.raises(NotLetIn, match="does not let us in"):
            connect(cluster.node(name, tensor02.home))
    finally:
        keys_file.write_text(keys)
        master.kill()
        master.wait()


def test_a_host_to_which_no_keys_may_be_offered(cluster: Cluster, tensor01: LoopbackNode, tmp_path: Path) -> None:
    logins = tensor01.logged("Accepted publickey")
    add_host(cluster, "no-keys", f"IdentityFile {cluster.key}", "PubkeyAuthentication no", *known(cluster))
    with pytest.raises(NotLetIn, match="no key to offer") as refusal:
        connect(cluster.node("no-keys", tmp_path))
    assert "PubkeyAuthentication" in refusal.value.remedy and tensor01.logged("Accepted publickey") == logins


def test_a_host_certificate_is_checked_by_the_systems_ssh(cluster: Cluster, tensor02: LoopbackNode) -> None:
    authority = cluster.root / "host-authority"
    make_key(authority)
    node = LoopbackNode(cluster, "certified", tensor02.address)
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "h", "-h", "-n", node.address, f"{node.host_key}.pub"]
    subprocess.run(sign, check=True)
    node.stop()
    with (node.directory / "sshd_config").open("a") as file:
        file.write(f"HostCertificate {node.host_key}-cert.pub\n")
    node.start()
    hosts = cluster.root / "authorities"
    hosts.write_text(f"@cert-authority * {authority.with_suffix('.pub').read_text()}")
    lines = [
        f"HostName {node.address}",
        f"Port {node.port}",
        f"IdentityFile {cluster.key}",
        "GlobalKnownHostsFile none",
    ]
    cluster.add_block("by-authority", *lines, f"HostKeyAlias {node.address}", f"UserKnownHostsFile {hosts}")
    try:
        assert reaches(cluster, "by-authority", node.home) == "OpenSSHConnection"
    finally:
        node.close()


def test_a_server_that_lets_us_in_and_then_closes_is_not_called_busy() -> None:
    """sshd does so where its ChrootDirectory is wrong; root's own session ends in another way."""
    failure = ssh._unreachable(ConnectionResetError(104, "Connection reset by peer"), "n1", ssh.OPEN_CHANNEL)
    assert "n1 let us in and then closed the connection" in failure.message and "for files only" in failure.remedy
