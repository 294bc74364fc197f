"""Opens the socket that SSH runs over: TCP or a ProxyCommand."""

from __future__ import annotations

import socket
import subprocess

from giblet_tui.connection.ssh_config import HostConfig
from giblet_tui.errors import Unreachable


def open_socket(config: HostConfig) -> socket.socket:
    """Open a TCP connection to the host, or a socket joined to its ProxyCommand. Raises Unreachable."""
    if config.proxy_command:
        ours, theirs = socket.socketpair()
        with theirs:
            end = theirs.fileno()
            subprocess.Popen(
                ["/bin/sh", "-c", f"exec {config.proxy_command}"], stdin=end, stdout=end, start_new_session=True
            )
        return ours
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
    if isinstance(failure, TimeoutError):
        limit = f"{config.connect_timeout_s:.0f} s"
        return Unreachable(f"{where} did not answer within {limit}.", "Is it up, and are you on its network or VPN?")
    reason = failure.strerror if failure else "no address"
    return Unreachable(f"{where} cannot be reached: {reason}.", "Are you on its network or VPN?")
