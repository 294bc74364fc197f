"""A node over SSH, by paramiko: reached as the user's own ssh would, with its host key checked.

Every stage has a deadline, because paramiko's own waits can last for ever when a server freezes; closing the transport
ends them. A silent link is probed, because TCP alone notices a dead peer only after a quarter of an hour.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko

from giblet_train.schema.errors import GibletError
from giblet_tui.connection import host_keys, login_prompts, ssh_auth, ssh_config
from giblet_tui.connection.agent_bundle import AGENT_COMMAND
from giblet_tui.connection.agent_connection import AgentConnection
from giblet_tui.connection.agent_protocol import Pipe
from giblet_tui.connection.sanitize import sanitize
from giblet_tui.connection.ssh_config import HostConfig
from giblet_tui.connection.tcp import open_socket
from giblet_tui.errors import Dropped, SSHMayHelp, Unreachable
from giblet_tui.inventory.nodes import Node

# Without a handler, Python prints paramiko's own complaints over whatever is on the screen.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

HANDSHAKE_LIMIT_S = 10.0
CHANNEL_LIMIT_S = 10.0
PROBE_LIMIT_S = 3.0
SLOT_LIMIT_S = 3.0
"""How long sshd may count a command that has ended: until then it opens no further session."""
SHAKE_HANDS = "shake hands by SSH"
"""Stage of a connection in which both sides introduce themselves."""
OPEN_CHANNEL = "open a channel"
DROPPED_PAUSES_S = (0.3, 0.8, 1.6)
"""sshd drops some of those who arrive while many others are logging in (MaxStartups)."""
_PROHIBITED = 1
_CONNECT_FAILED = 2
"""Reason code of a channel that the server refuses by its configuration (RFC 4254, 5.1)."""

KEX = (
    "mlkem768x25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group14-sha256",
)
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")

_connecting: defaultdict[tuple[str, int], threading.Lock] = defaultdict(threading.Lock)
"""One connect at a time to a host: sshd drops those who arrive in a crowd (MaxStartups)."""


class SSHConnection(AgentConnection):
    """One authenticated connection to a node, and to each host on the way there."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        config = ssh_config.lookup(node.host, Path(node.ssh_config).expanduser() if node.ssh_config else None)
        self._config = config
        self._probe_lock = threading.Lock()
        self._heard_at = time.monotonic()
        with _connecting[config.hostname, config.port]:
            self._transports = _connect_again(config, node)

    @property
    def alive(self) -> bool:
        return all(transport.is_active() for transport in self._transports)

    def interactive(self, argv: list[str]) -> int:
        from giblet_tui.connection.terminal import ATTACH_COMMAND, encoded, join_terminal, size

        with self._within(CHANNEL_LIMIT_S, "open a terminal") as inner_limit_s:
            channel = self._open_session(inner_limit_s)
            width, height = size()
            channel.get_pty(os.environ.get("TERM", "xterm-256color"), width, height)
            channel.exec_command(ATTACH_COMMAND + encoded(argv))
        join_terminal(channel)
        if not channel.status_event.wait(PROBE_LIMIT_S) or not self._transport.is_active():
            raise self._lost()
        return channel.exit_status

    def close(self) -> None:
        for transport in reversed(self._transports):
            transport.close()

    @property
    def _transport(self) -> paramiko.Transport:
        return self._transports[-1]

    def _open(self) -> Pipe:
        with self._within(CHANNEL_LIMIT_S, OPEN_CHANNEL) as inner_limit_s:
            channel = self._open_session(inner_limit_s)
            channel.exec_command(AGENT_COMMAND)
        return _ChannelPipe(channel, self._lost, self._check_link)

    def _open_session(self, limit_s: float) -> paramiko.Channel:
        """Open a channel; wait for a moment if sshd still counts the command before it (MaxSessions)."""
        deadline = time.monotonic() + SLOT_LIMIT_S
        while True:
            try:
                return self._transport.open_session(timeout=limit_s)
            except paramiko.ChannelException as error:
                if error.code != _CONNECT_FAILED or time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def _check_link(self) -> None:
        """Ask sshd itself for an answer. Frozen, cut off or gone, it gives none within PROBE_LIMIT_S."""
        with self._probe_lock:
            if time.monotonic() - self._heard_at < 1.0:
                return
            answer = threading.Event()

            def ask() -> None:
                self._transport.global_request("keepalive@openssh.com", wait=True)
                answer.set()

            threading.Thread(target=ask, daemon=True).start()
            if not answer.wait(PROBE_LIMIT_S) or not self._transport.is_active():
                self.close()
                raise self._lost()
            self._heard_at = time.monotonic()

    def _lost(self) -> Unreachable:
        return Unreachable(f"The connection to {self.node_name} is lost.", "Try again; runs on the node go on.")

    @contextmanager
    def _within(self, limit_s: float, stage: str) -> Iterator[float]:
        with within(self._transport, limit_s, self.node_name, stage) as inner_limit_s:
            yield inner_limit_s


class _ChannelPipe:
    """A command on a channel. Standard error is read too, because it would block the command unread."""

    def __init__(
        self, channel: paramiko.Channel, loss_error: Callable[[], Unreachable], check_link: Callable[[], None]
    ) -> None:
        self._channel = channel
        self._lost = loss_error
        self._check_link = check_link
        self._stderr = bytearray()

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        self._channel.settimeout(PROBE_LIMIT_S)
        while view:
            try:
                view = view[self._channel.send(bytes(view[: 256 * 1024])) :]
            except TimeoutError:
                self._check_link()
            except (OSError, EOFError, paramiko.SSHException):
                return  # the command ended, or the link did; reading says which

    def read(self, timeout_s: float) -> bytes | None:
        self._drain()
        self._channel.settimeout(timeout_s)
        try:
            data = self._channel.recv(256 * 1024)
        except TimeoutError:
            return None
        except (OSError, EOFError, paramiko.SSHException):
            raise self._lost() from None
        if not data and not self._channel.get_transport().is_active():
            raise self._lost()
        return data

    def close(self) -> None:
        self._channel.close()

    def await_end(self, limit_s: float) -> None:
        """Wait for the end: sshd counts a session until its command has ended, closed or not, and allows ten."""
        self._channel.status_event.wait(limit_s)

    def exit_reason(self) -> str:
        self._drain()
        if not self._channel.status_event.wait(PROBE_LIMIT_S):
            return ""
        stderr_text = bytes(self._stderr[:400]).decode("utf-8", "replace").strip()
        return f"status {self._channel.exit_status}{stderr_text and f': {stderr_text}'}"

    def _drain(self) -> None:
        while self._channel.recv_stderr_ready():
            piece = self._channel.recv_stderr(64 * 1024)
            if not piece:
                return
            self._stderr += piece[: max(0, 400 - len(self._stderr))]


@contextmanager
def within(transport: paramiko.Transport, limit_s: float, node_name: str, stage: str) -> Iterator[float]:
    """Close the transport if the block takes too long; turn any failure in it into Unreachable that names the stage.

    Yield the limit in seconds for paramiko's own timers. It is longer, so that this timer always ends first: what
    paramiko raises after its own timeout reads as a refusal, and `start_client` even returns as if it had succeeded.
    """
    timeout = threading.Event()

    def end() -> None:
        timeout.set()
        transport.close()

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield 2.0 * limit_s
    except Exception as error:  # paramiko raises many kinds, bare Exception among them
        if timeout.is_set() or isinstance(error, TimeoutError):
            raise Unreachable(
                f"{node_name} did not answer within {limit_s:.0f} s when asked to {stage}.",
                "See whether `ssh` still reaches it, and how loaded it is.",
            ) from None
        if isinstance(error, GibletError):
            raise
        raise _unreachable(error, node_name, stage) from None
    finally:
        timer.cancel()


def _unreachable(error: Exception, node_name: str, stage: str) -> Unreachable:
    """Return a failure of paramiko as an error with a remedy."""
    reason = sanitize(str(error)) or type(error).__name__
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        failure = SSHMayHelp(f"giblet's own SSH client and {node_name} have no algorithm in common ({reason}).")
        failure.needs_reason_of_ssh = True
        return failure
    if isinstance(error, paramiko.ChannelException) and error.code == _PROHIBITED:
        return Unreachable(
            f"The host before {node_name} forbids forwarding, so nothing can be reached through it.",
            "Ask its administrator for AllowTcpForwarding, or reach the node by another way.",
        )
    if isinstance(error, paramiko.ChannelException):
        return Unreachable(
            f"{node_name} opens no further session on this connection: {reason}.",
            "Wait until other commands have ended, or ask its administrator for a higher MaxSessions.",
        )
    if stage == OPEN_CHANNEL and isinstance(error, (EOFError, ConnectionResetError)):
        return Unreachable(
            f"{node_name} let us in and then closed the connection: {reason}.",
            "See whether this works: ssh NODE true. The account may be for files only (sftp, chroot), or closed.",
        )
    # A connection that is reset while both sides introduce themselves ends in EOFError instead.
    is_dropped = isinstance(error, paramiko.SSHException) and "protocol banner" in str(error)
    if is_dropped or (isinstance(error, EOFError) and stage == SHAKE_HANDS):
        return Dropped(node_name, reason)
    return Unreachable(f"Could not {stage} on {node_name}: {reason}.", "Try again.")


def _connect_again(config: HostConfig, node: Node) -> list[paramiko.Transport]:
    """Connect as `_connect`, again after growing pauses if a busy sshd drops the connection at once."""
    began = time.monotonic()
    for pause_s in DROPPED_PAUSES_S:
        try:
            return _connect(config, node)
        except Dropped:
            if config.proxy_command or time.monotonic() - began > HANDSHAKE_LIMIT_S:
                raise
        time.sleep(pause_s * random.uniform(0.75, 1.25))
    return _connect(config, node)


def _connect(config: HostConfig, node: Node) -> list[paramiko.Transport]:
    """Connect to each host on the way and return their transports, the node's last."""
    transports = _connect(config.jump, node) if config.jump else []
    try:
        if transports:
            transports.append(_handshake(_through(transports[-1], config, node), config, node))
        else:
            with open_socket(config) as line:
                transports.append(_handshake(line, config, node))
    except BaseException:
        for transport in reversed(transports):
            transport.close()
        raise
    return transports


def _handshake(line: socket.socket | paramiko.Channel, config: HostConfig, node: Node) -> paramiko.Transport:
    try:
        transport = paramiko.Transport(line)
        transport.daemon = True
        limit_s = HANDSHAKE_LIMIT_S
        if config.connect_timeout_s > ssh_config.CONNECT_LIMIT_S:  # a ConnectTimeout that a person has set
            limit_s = max(limit_s, config.connect_timeout_s)
        _restrict(transport, config)
        with within(transport, limit_s, node.name, SHAKE_HANDS) as inner_limit_s:
            transport.banner_timeout = transport.handshake_timeout = inner_limit_s
            transport.start_client(timeout=inner_limit_s)
            key = transport.get_remote_server_key()
        ssh_auth.check_host_key(host_keys.HostKey(key.get_name(), key.asbytes()), config, node)
        limit_s = ssh_auth.ANSWER_LIMIT_S if login_prompts.has_prompt_handler() else ssh_auth.LIMIT_S
        with within(transport, limit_s, node.name, "log in") as inner_limit_s:
            transport.auth_timeout = inner_limit_s
            ssh_auth.log_in(transport, config, node)
    except BaseException:
        line.close()
        raise
    return transport


def _restrict(transport: paramiko.Transport, config: HostConfig) -> None:
    """Allow only modern algorithms; request a host's known key types first, as ssh does."""
    options = transport.get_security_options()
    options.kex = [name for name in KEX if name in options.kex]
    options.ciphers = [name for name in CIPHERS if name in options.ciphers]
    options.digests = [name for name in MACS if name in options.digests]
    known_types = host_keys.known_kinds(config.hostname, config.port, config.known_hosts, config.host_key_alias)
    kinds = [kind for kind in options.key_types if "-cert-" not in kind]
    options.key_types = sorted(
        kinds, key=lambda kind: ("ssh-rsa" if kind.startswith("rsa-") else kind) not in known_types
    )


def _through(transport: paramiko.Transport, config: HostConfig, node: Node) -> paramiko.Channel:
    """Open a channel to the host through the host before it."""
    stage = f"go on to {config.hostname} from the host before it"
    with within(transport, CHANNEL_LIMIT_S, node.name, stage) as inner_limit_s:
        return transport.open_channel(
            "direct-tcpip", (config.hostname, config.port), ("127.0.0.1", 0), timeout=inner_limit_s
        )
