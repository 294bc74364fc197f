"""Other ways in: the system's own ssh against a real sshd, and questions at the login.

An sshd without PAM asks no questions, so those come from a real SSH server made of paramiko's server half.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from giblet_tui.connection import login_prompts, ssh_auth
from giblet_tui.connection.connect import connect
from giblet_tui.connection.protocol import NodeProbe, RunIds, WatchEvent
from giblet_tui.connection.ssh import SSHConnection
from giblet_tui.errors import NotLetIn, Unreachable
from tests.cluster.nodes import Cluster, LoopbackNode, make_key, processes, wait_until

CODE = "314159"


@pytest.fixture(autouse=True)
def nobody_answers() -> Iterator[None]:
    yield
    login_prompts.set_prompt_handler(None)


def masters(folder_prefix: str = "gib-") -> list[str]:
    return [argv for _, _, argv in processes() if argv.startswith("ssh: ") and folder_prefix in argv]


def test_the_systems_ssh_runs_the_same_agent_on_one_connection(tensor01: LoopbackNode, tmp_path: Path) -> None:
    before = tensor01.logged("Accepted publickey")
    with connect(tensor01.node(transport="openssh")) as connection:
        assert connection.call("probe", {"workdir": str(tmp_path)}, NodeProbe).tmux
        connection.put(b"\x00bytes\xff", str(tmp_path / "there"))
        assert b"".join(connection.get(str(tmp_path / "there"))) == b"\x00bytes\xff"
        connection._check_link()
        assert tensor01.logged("Accepted publickey") == before + 1
        events = connection.stream("watch", {"workdir": str(tmp_path), "interval_s": 0.05}, WatchEvent)
        assert next(events).tick is not None
        tensor01.cut()
        with pytest.raises(Unreachable, match="The connection to tensor01 is lost"):
            list(events)
    wait_until(lambda: not masters(), what="the end of the master connection")


@pytest.mark.skipif(os.environ.get("GIBLET_TEST_CLUSTER") != "1", reason="some seconds of silence: make test-cluster")
def test_a_frozen_server_is_noticed_by_the_systems_ssh_too(tensor01: LoopbackNode, tmp_path: Path) -> None:
    with connect(tensor01.node(transport="openssh")) as connection:
        tensor01.signal_sessions(signal.SIGSTOP)
        try:
            with pytest.raises(Unreachable):
                connection.call("probe", {"workdir": str(tmp_path)}, NodeProbe, timeout_s=30.0)
        finally:
            tensor01.signal_sessions(signal.SIGCONT)


def test_a_master_that_is_up_is_used_and_left_unchanged(
    cluster: Cluster, tensor01: LoopbackNode, tmp_path: Path
) -> None:
    socket_path = cluster.root / "master"
    cluster.add_host("shared", tensor01.address, tensor01.port, f"ControlPath {socket_path}")
    master = subprocess.Popen(["ssh", "-F", str(cluster.ssh_config), "-MN", "shared"], stdin=subprocess.DEVNULL)
    try:
        wait_until(socket_path.exists)
        before = tensor01.logged("Accepted publickey")
        with connect(cluster.node("shared", tensor01.home, transport="openssh")) as connection:
            assert connection.call("runs", {"workdir": str(tmp_path)}, RunIds).runs == ()
        assert tensor01.logged("Accepted publickey") == before and master.poll() is None
    finally:
        master.terminate()
        master.wait()


def test_the_systems_ssh_checks_host_keys_and_asks_nobody(cluster: Cluster, tensor01: LoopbackNode) -> None:
    stranger = cluster.root / "unlisted"
    make_key(stranger)
    cluster.add_host("unlisted", tensor01.address, tensor01.port, f"IdentityFile {stranger}", "HostKeyAlias nowhere")
    host_keys = cluster.known_hosts.read_bytes()
    with pytest.raises(NotLetIn, match="ssh does not reach unlisted: Host key verification failed") as refusal:
        connect(cluster.node("unlisted", tensor01.home, transport="openssh"))
    assert refusal.value.exit_code == 3 and "unlisted true" in refusal.value.remedy
    assert cluster.known_hosts.read_bytes() == host_keys


class AskingServer(paramiko.ServerInterface):
    """Takes the key, then asks for a code."""

    def __init__(self, key_first: bool) -> None:
        self.key_first = key_first
        self.has_key = False
        self.asked = 0

    def get_allowed_auths(self, username: str) -> str:
        return "publickey" if self.key_first and not self.has_key else "keyboard-interactive"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.has_key = True
        return paramiko.AUTH_PARTIALLY_SUCCESSFUL if self.key_first else paramiko.AUTH_FAILED

    def check_auth_interactive(self, username: str, submethods: str) -> paramiko.InteractiveQuery:
        self.asked += 1
        return paramiko.InteractiveQuery("Two factors", "\x1b[2JLook at your token.", ("Code: ", False))

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        return paramiko.AUTH_SUCCESSFUL if responses == [CODE] else paramiko.AUTH_FAILED


class StallingServer(AskingServer):
    """Never says whether it takes the key."""

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        threading.Event().wait(20.0)
        return paramiko.AUTH_FAILED


@contextlib.contextmanager
def asking(
    cluster: Cluster, name: str, key_first: bool = True, kind: type[AskingServer] = AskingServer
) -> Iterator[AskingServer]:
    """Yield a host of the ssh config that asks."""
    host_key = cluster.root / f"{name}-hostkey"
    make_key(host_key)
    server = kind(key_first)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve() -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            transport = paramiko.Transport(listener.accept()[0])
            transport.add_server_key(paramiko.PKey.from_path(host_key))
            transport.start_server(server=server)
            transport.join(30.0)

    threading.Thread(target=serve, daemon=True).start()
    cluster.trust("127.0.0.1", port, host_key)
    cluster.add_host(name, "127.0.0.1", port)
    yield server
    listener.close()


def test_a_login_that_stalls_has_a_deadline(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_auth, "LIMIT_S", 0.7)
    with asking(cluster, "stalls", kind=StallingServer), pytest.raises(Unreachable, match="when asked to log in"):
        connect(cluster.node("stalls", tmp_path))


@pytest.mark.parametrize("key_first", [True, False])
def test_a_question_is_passed_on_once_and_made_harmless(cluster: Cluster, tmp_path: Path, key_first: bool) -> None:
    messages = []
    login_prompts.set_prompt_handler(lambda heading, prompts: messages.append((heading, list(prompts))) or [CODE])
    name = f"asks-{key_first}"
    with asking(cluster, name, key_first) as server, SSHConnection(cluster.node(name, tmp_path)) as connection:
        assert connection._transport.is_authenticated()
    assert server.asked == 1
    ((heading, prompts),) = messages
    assert prompts == [("Code:", False)] or prompts == [("Code: ", False)]
    assert "127.0.0.1" in heading and "Look at your token." in heading and "\x1b" not in heading


def test_a_wrong_answer_is_not_tried_again(cluster: Cluster, tmp_path: Path) -> None:
    login_prompts.set_prompt_handler(lambda heading, prompts: ["0"])
    with asking(cluster, "asks-wrong") as server, pytest.raises(NotLetIn, match="did not take the answer"):
        SSHConnection(cluster.node("asks-wrong", tmp_path))
    assert server.asked == 1


class PasswordServer(AskingServer):
    """Accepts a password and nothing else."""

    def get_allowed_auths(self, username: str) -> str:
        return "password"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_FAILED

    def check_auth_password(self, username: str, password: str) -> int:
        self.asked += 1
        return paramiko.AUTH_SUCCESSFUL if password == CODE else paramiko.AUTH_FAILED


def test_a_password_is_passed_on_once(cluster: Cluster, tmp_path: Path) -> None:
    login_prompts.set_prompt_handler(lambda heading, prompts: [CODE for _ in prompts])
    with (
        asking(cluster, "password", kind=PasswordServer) as server,
        SSHConnection(cluster.node("password", tmp_path)) as connection,
    ):
        assert connection._transport.is_authenticated()
    assert server.asked == 1


def test_a_wrong_password_is_not_tried_again(cluster: Cluster, tmp_path: Path) -> None:
    login_prompts.set_prompt_handler(lambda heading, prompts: ["0" for _ in prompts])
    with (
        asking(cluster, "password-wrong", kind=PasswordServer) as server,
        pytest.raises(NotLetIn, match="did not accept the password"),
    ):
        connect(cluster.node("password-wrong", tmp_path))
    assert server.asked == 1


def test_where_nobody_answers_nothing_is_asked(cluster: Cluster, tmp_path: Path) -> None:
    with asking(cluster, "asks-nobody") as server, pytest.raises(NotLetIn, match="nobody is here") as refusal:
        SSHConnection(cluster.node("asks-nobody", tmp_path))
    assert server.asked == 0 and "`transport: openssh`" in refusal.value.remedy


def test_an_answer_is_typed_unseen_at_a_terminal(cluster: Cluster, laptop) -> None:
    """The whole command line on a real terminal: what is typed is not shown, and stands in no file of giblet's."""
    from tests.cluster.laptop import GIBLET

    with asking(cluster, "asks-tty") as server:
        pid, terminal = os.forkpty()
        if pid == 0:
            os.chdir(laptop.folder)
            os.execve(GIBLET, [str(GIBLET), "node", "check", "asks-tty"], laptop.environment)
        output = bytearray()
        with contextlib.suppress(OSError):
            while b"Code:" not in output:
                output += os.read(terminal, 4096)
            os.write(terminal, CODE.encode() + b"\n")
            while data := os.read(terminal, 4096):
                output += data
        os.waitpid(pid, 0)
        os.close(terminal)
    assert server.asked == 1 and b"Look at your token." in output
    assert CODE.encode() not in output and b"Traceback" not in output
    contents = [file.read_bytes() for file in laptop.folder.rglob("*") if file.is_file()]
    assert not [text for text in contents if CODE.encode() in text]
