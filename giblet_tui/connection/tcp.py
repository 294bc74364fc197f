"""Opens the socket that SSH runs over: TCP or a ProxyCommand."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
from collections.abc import Iterator

from giblet_tui.connection.sanitize import sanitize
from giblet_tui.connection.ssh_config import HostConfig
from giblet_tui.errors import Dropped, Unreachable

_PROXY_END_S = 1.0
"""A ProxyCommand whose connection failed ends within this time, or is still at work."""


@contextlib.contextmanager
def open_socket(config: HostConfig) -> Iterator[socket.socket]:
    """Open a TCP connection to the host, or a socket joined to its ProxyCommand.

    A failure in the block is explained by what the ProxyCommand printed on standard error, which reaches no screen.
    The socket stays open after the block. Raises Unreachable.
    """
    if not config.proxy_command:
        yield _connect(config)
        return
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryFile() as stderr:
        with theirs:
            command = ["/bin/sh", "-c", f"exec {config.proxy_command}"]
            end = theirs.fileno()
            process = subprocess.Popen(command, stdin=end, stdout=end, stderr=stderr, start_new_session=True)
        try:
            yield ours
        except Unreachable as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PROXY_END_S)
            stderr.seek(0)
            lines = sanitize(stderr.read(4096).decode("utf-8", "replace").strip().replace("\n", " / "))
            if process.returncode is None and not lines:
                raise
            reason = lines or f"it ended with code {process.returncode}"
            raise Unreachable(
                f"The ProxyCommand for {config.alias} did not reach it: {reason}.",
                f"See that this works by itself: {config.proxy_command}",
            ) from error


def _connect(config: HostConfig) -> socket.socket:
    try:
        addresses = socket.getaddrinfo(config.hostname, config.port, config.family, socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise Unreachable(
            f"No host is called {config.hostname}: the name does not resolve.",
            f"Look for a typo in `HostName` of {config.alias} in the ssh config; a VPN may have to be up.",
        ) from None
    failure: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(config.connect_timeout_s)
            if config.bind_address:
                sock.bind((config.bind_address, 0))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            sock.close()
            failure = error
    raise _not_connected(config, failure)


def _not_connected(config: HostConfig, failure: OSError | None) -> Unreachable:
    where = f"{config.hostname} port {config.port}"
    if isinstance(failure, ConnectionRefusedError):
        return Unreachable(f"{where} refuses connections: no SSH server listens there.", "Check the port and the host.")
    if isinstance(failure, ConnectionResetError):
        return Dropped(where, "it resets it")
    if isinstance(failure, TimeoutError):
        limit = f"{config.connect_timeout_s:.0f} s"
        return Unreachable(f"{where} did not answer within {limit}.", "Is it up, and are you on its network or VPN?")
    reason = failure.strerror if failure else "no address"
    return Unreachable(f"{where} cannot be reached: {reason}.", "Are you on its network or VPN?")
