"""The wire against a real sshd: who is let in, what is refused before anything is sent, and how stalls end."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from giblet_train.schema.errors import ConfigError, GibletError
from giblet_tui.connection import ssh
from giblet_tui.connection.connect import connect
from giblet_tui.connection.protocol import Done, RunIds, WatchEvent
from giblet_tui.connection.ssh import SSHConnection
from giblet_tui.errors import NotLetIn, TimedOut, Unreachable
from tests.cluster.nodes import Cluster, FaultProxy, LoopbackNode, make_key, read_until, silent_server, wait_until


def test_bytes_arrive_whole(tensor01: LoopbackNode) -> None:
    content = bytes(range(256)) * 4000
    with connect(tensor01.node()) as connection:
        connection.put(content, "~/some folder/päth")
        assert b"".join(connection.get("~/some folder/päth")) == content
        assert b"".join(connection.get("~/some folder/päth", offset=7, limit=300_000)) == content[7:300_007]
        connection.put(b"#!/bin/sh\n", "~/some folder/päth", executable=True)
    path = tensor01.home / "some folder" / "päth"
    assert path.stat().st_mode & 0o777 == 0o700
    assert path.read_bytes() == b"#!/bin/sh\n"
    assert os.listdir(path.parent) == ["päth"], "nothing is left beside it"


def test_the_node_s_refusal_is_the_error(tensor01: LoopbackNode) -> None:
    with connect(tensor01.node()) as connection:
        with pytest.raises(GibletError, match="not an absolute path") as refusal:
            connection.call("read", {"path": "relative"}, Done)
        assert refusal.value.exit_code == 2
        with pytest.raises(GibletError, match="No such file or directory: /not/there"):
            connection.call("read", {"path": "/not/there"}, Done)
        with pytest.raises(GibletError, match="no operation 'nothing'"):
            connection.call("nothing", {}, Done)


def test_an_operation_has_a_deadline(tensor01: LoopbackNode) -> None:
    with connect(tensor01.node()) as connection, pytest.raises(TimedOut):
        connection.call("watch", {"workdir": "~/giblet", "interval_s": 0.2}, Done, timeout_s=0.5)


def test_many_calls_one_connection(tensor01: LoopbackNode) -> None:
    """Beyond MaxSessions (10) in a row, and four at once: every slot is given back."""
    (tensor01.home / "number").write_text("12345")
    before = tensor01.logged("Connection from")

    def ask(_: int) -> bytes:
        return b"".join(connection.get("~/number"))

    with connect(tensor01.node()) as connection, ThreadPoolExecutor(4) as pool:
        assert set(pool.map(ask, range(24))) == {b"12345"}
    assert tensor01.logged("Connection from") == before + 1


def test_connections_leave_nothing_behind(tensor01: LoopbackNode) -> None:
    with connect(tensor01.node()):
        pass
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(8):
        with connect(tensor01.node()) as connection:
            connection.call("runs", {"workdir": "~/giblet"}, RunIds)
    wait_until(lambda: threading.active_count() <= threads, what="the end of every thread")
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_a_server_that_allows_one_session_at_a_time(cluster: Cluster, tensor01: LoopbackNode) -> None:
    """It counts a command until the process has ended, so the next one may come too early."""
    node = LoopbackNode(cluster, "one-session", tensor01.address, "MaxSessions 1")
    try:
        with connect(node.node()) as connection:
            for number in range(8):
                connection.put(b"x" * number, f"{node.home}/file")
                assert b"".join(connection.get(f"{node.home}/file")) == b"x" * number
    finally:
        node.close()


def test_modern_algorithms_and_no_delay(tensor01: LoopbackNode) -> None:
    with ssh.SSHConnection(tensor01.node()) as connection:
        transport = connection._transport
        options = transport.get_security_options()
        names = [transport.remote_cipher, transport.remote_mac, *options.ciphers, *options.digests, *options.kex]
        assert not [name for name in names if any(old in name for old in ("cbc", "md5", "sha1", "arcfour", "group1-"))]
        assert transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert transport.agreed_on_strict_kex, "against truncated handshakes (Terrapin)"


class DroppingProxy(FaultProxy):
    """Drops the first connections before a word is said, as sshd does when too many log in (MaxStartups)."""

    n_dropped = 2

    def _accept(self) -> None:
        for _ in range(self.n_dropped):
            near, _ = self._listener.accept()
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            near.close()
        super()._accept()


def test_a_busy_server_that_drops_connections_is_asked_again(
    tensor01: LoopbackNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "DROPPED_PAUSES_S", (0.01, 0.01))
    proxy = DroppingProxy(tensor01, "tensor01-dropping")
    try:
        with connect(proxy.node()) as connection:
            assert connection.call("runs", {"workdir": "~/none"}, RunIds).runs == ()
    finally:
        proxy.close()
    monkeypatch.setattr(DroppingProxy, "n_dropped", 9)
    proxy = DroppingProxy(tensor01, "tensor01-dropping-always")
    try:
        with pytest.raises(Unreachable, match="drops the connection before") as failure, connect(proxy.node()):
            pass
        assert "MaxStartups" in failure.value.remedy
    finally:
        proxy.close()


def test_through_other_hosts(cluster: Cluster, tensor01: LoopbackNode, tensor02: LoopbackNode) -> None:
    cluster.add_host("by-jump", tensor02.address, tensor02.port, "ProxyJump tensor01")
    command = f"ssh -F {cluster.ssh_config} -o BatchMode=yes -W %h:%p tensor01"
    cluster.add_host("by-command", tensor02.address, tensor02.port, f"ProxyCommand {command}")
    (tensor02.home / "name").write_text("tensor02")
    for name in ("by-jump", "by-command"):
        came = tensor01.logged("Connection from")
        with connect(cluster.node(name, tensor02.home)) as connection:
            assert b"".join(connection.get(f"{tensor02.home}/name")) == b"tensor02"
        assert tensor01.logged("Connection from") == came + 1, name


def test_a_real_terminal(tensor01: LoopbackNode) -> None:
    """`attach`: keys go there, output comes here, the size is this terminal's, the status is the command's."""
    script = 'test -t 0 && echo "size $(stty size)"; read -r word; echo "got $word"; exit 7'
    for transport in ("ssh", "local", "openssh"):
        node = tensor01.node(transport=transport)
        program = (
            "import sys; from giblet_tui.inventory.nodes import Node\n"
            "from giblet_tui.connection.connect import connect\n"
            f"node = Node(name='n', host={node.host!r}, transport={transport!r}, ssh_config={node.ssh_config!r})\n"
            f"with connect(node) as connection: sys.exit(connection.interactive(['/bin/sh', '-c', {script!r}]))\n"
        )
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (33, 101))
        child = subprocess.Popen([sys.executable, "-c", program], stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        output = read_until(ours, b"size 33 101")
        os.write(ours, b"caf\xc3\xa9\r")
        assert b"got caf\xc3\xa9" in output + read_until(ours, b"got caf\xc3\xa9")
        assert child.wait(120) == 7, transport
        os.close(ours)


@pytest.mark.parametrize("transport", ["ssh", "openssh"])
@pytest.mark.parametrize(("terminal", "shown_as"), [("xterm-ghostty-x", "xterm-256color"), ("linux", "linux")])
def test_a_terminal_needs_no_python_and_no_entry_for_an_unknown_one(
    tensor01: LoopbackNode, monkeypatch: pytest.MonkeyPatch, transport: str, terminal: str, shown_as: str
) -> None:
    """A node whose only Python is named by `python:` has none on its PATH."""
    (tensor01.home / ".bashrc").write_text("mkdir -p ~/few; ln -sf /usr/bin/tput /bin/sh ~/few; PATH=~/few\n")
    monkeypatch.setenv("TERM", terminal)
    node = tensor01.node(transport=transport)
    program = (
        "import sys; from giblet_tui.inventory.nodes import Node\n"
        "from giblet_tui.connection.connect import connect\n"
        f"node = Node(name='n', host={node.host!r}, transport={transport!r}, ssh_config={node.ssh_config!r})\n"
        "with connect(node) as connection:"
        " sys.exit(connection.interactive(['sh', '-c', 'command -v python3 || echo term $TERM \"$1\"', 's', 'é x']))\n"
    )
    ours, theirs = pty.openpty()
    child = subprocess.Popen([sys.executable, "-c", program], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        assert f"term {shown_as} é x".encode() in read_until(ours, b"\xa9 x")
        assert child.wait(120) == 0
    finally:
        child.kill()
        os.close(ours)
        (tensor01.home / ".bashrc").unlink()


def test_an_unknown_host_is_refused_before_it_hears_who_we_are(cluster: Cluster, tensor01: LoopbackNode) -> None:
    empty = cluster.root / "known_nobody"
    empty.write_text("# a comment, and nobody\n")
    cluster.add_host("unknown", tensor01.address, tensor01.port)
    replace_in_last_block(cluster, str(cluster.known_hosts), str(empty))
    attempts = tensor01.logged("publickey") + tensor01.logged("Failed") + tensor01.logged("userauth")
    fingerprint = subprocess.run(
        ["ssh-keygen", "-lf", str(tensor01.host_key) + ".pub"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    for _ in range(3):
        with pytest.raises(NotLetIn, match="not a known host") as refusal:
            connect(cluster.node("unknown", tensor01.home))
        assert fingerprint in str(refusal.value)
        assert f"ssh -F {cluster.ssh_config} -o StrictHostKeyChecking=ask unknown true" in refusal.value.remedy
        assert refusal.value.exit_code == 3
    assert tensor01.logged("publickey") + tensor01.logged("Failed") + tensor01.logged("userauth") == attempts
    assert empty.read_text() == "# a comment, and nobody\n"


def test_a_refused_key_is_tried_once(cluster: Cluster, tensor01: LoopbackNode) -> None:
    make_key(stranger := cluster.root / "stranger")
    cluster.add_host("no-entry", tensor01.address, tensor01.port)
    replace_in_last_block(cluster, str(cluster.key), str(stranger))
    failures = tensor01.logged("Failed publickey")
    with pytest.raises(NotLetIn, match=r"does not let us in: it was offered .*stranger") as refusal:
        connect(cluster.node("no-entry", tensor01.home))
    assert refusal.value.remedy.startswith("Put a key of yours there: ssh-copy-id -F ")
    assert tensor01.logged("Failed publickey") == failures + 1


def test_a_locked_key_is_named(cluster: Cluster, tensor01: LoopbackNode) -> None:
    key_file = cluster.root / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret words", "-f", str(key_file)], check=True)
    cluster.add_host("locked-key", tensor01.address, tensor01.port)
    replace_in_last_block(cluster, str(cluster.key), str(key_file))
    with pytest.raises(NotLetIn, match="no key to offer") as refusal:
        connect(cluster.node("locked-key", tensor01.home))
    assert refusal.value.remedy == f"Unlock a key first: ssh-add {key_file}"


def test_a_key_of_the_agent(cluster: Cluster, tensor01: LoopbackNode, tmp_path: Path) -> None:
    key_copy = tmp_path / "key"
    key_copy.write_bytes(cluster.key.read_bytes())
    key_copy.chmod(0o600)
    cluster.add_host("by-agent", tensor01.address, tensor01.port)
    replace_in_last_block(cluster, str(cluster.key), str(tmp_path / "none"))
    where = cluster.root / "agent"
    replace_in_last_block(cluster, "IdentityAgent none", f"IdentityAgent {where}")
    replace_in_last_block(cluster, "IdentitiesOnly yes", "IdentitiesOnly no")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(where)], stdout=subprocess.DEVNULL)
    try:
        wait_until(where.exists, what="the agent")
        subprocess.run(["ssh-add", "-q", str(key_copy)], env={**os.environ, "SSH_AUTH_SOCK": str(where)}, check=True)
        with connect(cluster.node("by-agent", tensor01.home)) as connection:
            connection.call("runs", {"workdir": "~/giblet"}, RunIds)
    finally:
        agent.kill()
        agent.wait()


def test_no_such_host_and_nobody_listening(cluster: Cluster, tensor01: LoopbackNode) -> None:
    cluster.add_host("no-name", "no-such-host.invalid", 22)
    with pytest.raises(Unreachable, match=r"No host is called no-such-host\.invalid"):
        connect(cluster.node("no-name", tensor01.home))
    cluster.add_host("nobody", "127.0.0.4", 1)
    with pytest.raises(Unreachable, match=r"127\.0\.0\.4 port 1 refuses connections"):
        connect(cluster.node("nobody", tensor01.home))


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_server_that_stalls_or_is_none(
    cluster: Cluster, tensor01: LoopbackNode, monkeypatch: pytest.MonkeyPatch, greeting: bytes
) -> None:
    """On a busy machine the timer ends late; paramiko's own must still not end before it."""

    def late_timer(limit_s: float, end: Callable[[], None]) -> threading.Timer:
        return threading.Timer(limit_s + 0.3, end)

    monkeypatch.setattr(ssh, "HANDSHAKE_LIMIT_S", 0.7)
    monkeypatch.setattr(ssh, "threading", SimpleNamespace(**{**vars(threading), "Timer": late_timer}))
    with silent_server(greeting) as port:
        name = f"stall-{len(greeting)}"
        cluster.add_host(name, "127.0.0.1", port)
        with pytest.raises(Unreachable, match="shake hands by SSH"):
            connect(cluster.node(name, tensor01.home))


def test_a_frozen_server(tensor02: LoopbackNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a channel is opened, and in the middle of an answer."""
    for stage in ("within 1 s when asked to open a channel", "is lost"):
        with connect(tensor02.node()) as connection, monkeypatch.context() as limits:
            try:
                events = connection.stream("watch", {"workdir": "~/giblet", "interval_s": 0.2}, WatchEvent)
                if stage == "is lost":
                    next(events)
                tensor02.signal_sessions(signal.SIGSTOP)
                limits.setattr(ssh, "CHANNEL_LIMIT_S", 0.7)  # a busy server that is not frozen may take longer
                limits.setattr(ssh, "PROBE_LIMIT_S", 0.7)
                with pytest.raises(Unreachable, match=stage):
                    list(events)
            finally:
                tensor02.signal_sessions(signal.SIGCONT)


def test_a_directive_that_cannot_be_honoured_is_named(cluster: Cluster, tensor01: LoopbackNode) -> None:
    """The system's ssh does honour it, and asks nobody when it gets in without it."""
    cluster.add_host("card", tensor01.address, tensor01.port, "PKCS11Provider /usr/lib/card.so")
    with pytest.raises(ConfigError, match="cannot honour pkcs11provider"):
        SSHConnection(cluster.node("card", tensor01.home))
    with connect(cluster.node("card", tensor01.home)) as connection:
        assert type(connection).__name__ == "OpenSSHConnection"


def replace_in_last_block(cluster: Cluster, old: str, new: str) -> None:
    before, mark, block = cluster.ssh_config.read_text().rpartition("Host ")
    cluster.ssh_config.write_text(before + mark + block.replace(old, new))
