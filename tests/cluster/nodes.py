"""Nodes on one machine: a private real sshd each, with its own address, host key, HOME, tmux and screen sockets.

Nothing in /etc or in the user's ~/.ssh is read or changed, MaxSessions and MaxStartups keep their defaults, and every
process is started here and ended by its own pid. GPUs are recorded, not real: `record_gpus` puts a script that prints a
recording first on the node's PATH.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from giblet_tui.inventory.nodes import Node

PACKAGES = {"sshd": "openssh-server", "ssh": "openssh-client", "ssh-keygen": "openssh-client"}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def which(name: str) -> str | None:
    """Return where a program is; sshd lies in directories that a user's PATH need not have."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


def missing() -> list[str]:
    """Return what this machine lacks for a loopback node, with the Debian package that brings it."""
    return [f"{name} (apt-get install {package})" for name, package in PACKAGES.items() if which(name) is None]


def wait_until(condition: Callable[[], Any], limit_s: float = 120.0, what: str = "the condition") -> Any:
    """Return the first true value of `condition`. Raises AssertionError after `limit_s`.

    A file that it reads may not be there yet. Asking takes at most a third of the time: a condition may start a
    program, which competes with what it waits for.
    """
    deadline = time.monotonic() + limit_s
    while True:
        began = time.monotonic()
        with contextlib.suppress(FileNotFoundError):
            if value := condition():
                return value
        assert time.monotonic() < deadline, f"{what} did not come about within {limit_s:.0f} s"
        time.sleep(max(0.02, 2 * (time.monotonic() - began)))


class Cluster:
    """Some loopback nodes, one key to all of them, one ssh config and one known_hosts file."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="gib-"))
        self.key = self.root / "id_ed25519"
        make_key(self.key)
        self.known_hosts = self.root / "known_hosts"
        self.known_hosts.touch()
        self.ssh_config = self.root / "ssh_config"
        self.ssh_config.touch()
        self.nodes: dict[str, LoopbackNode] = {}
        try:
            for number, name in enumerate(names, start=2):
                self.nodes[name] = LoopbackNode(self, name, f"{worker_network()}.{number}")
        except BaseException:
            self.close()
            raise

    def add_host(self, name: str, address: str, port: int, *extra: str, user: str = "") -> None:
        """Append a Host block that logs in with the cluster's key to the ssh config. user: this one if empty."""
        self.add_block(
            name,
            f"HostName {address}",
            f"Port {port}",
            f"User {user or getpass.getuser()}",
            f"IdentityFile {self.key}",
            "IdentitiesOnly yes",
            "IdentityAgent none",
            f"UserKnownHostsFile {self.known_hosts}",
            "GlobalKnownHostsFile none",
            *extra,
        )

    def add_block(self, name: str, *lines: str) -> None:
        """Append a Host block with exactly these lines to the ssh config.

        Raises ValueError if the name exists: ssh takes the first block of a name, so another test's would count.
        """
        if re.search(rf"^Host {re.escape(name)}$", self.ssh_config.read_text(), re.MULTILINE):
            raise ValueError(f"the ssh config has a host {name} already")
        with self.ssh_config.open("a") as file:
            file.write("\n  ".join([f"Host {name}", *lines]) + "\n")

    def trust(self, address: str, port: int, host_key: Path) -> None:
        """Append a line to known_hosts."""
        kind, encoded = host_key.with_suffix(".pub").read_text().split()[:2]
        with self.known_hosts.open("a") as file:
            file.write(f"[{address}]:{port} {kind} {encoded}\n")

    def node(self, name: str, home: Path, **values: Any) -> Node:
        """Return giblet's view of a host of the ssh config."""
        settings = {"workdir": str(home / "giblet"), "python": sys.executable, "ssh_config": str(self.ssh_config)}
        return Node(name=name, host=name, **{**settings, **values})

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()
        shutil.rmtree(self.root, ignore_errors=True)


class Account(NamedTuple):
    """A user of this machine, made for a test."""

    name: str
    home: Path
    """In a directory that every account may enter."""


class LoopbackNode:
    """One sshd, as this user or an account. Sessions on it see their own HOME, PATH, TMUX_TMPDIR and SCREENDIR."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        address: str,
        *settings: str,
        variables: Mapping[str, str] | None = None,
        account: Account | None = None,
    ) -> None:
        """variables: more environment variables for sessions on the node. account: who logs in; None: this user."""
        self.cluster, self.name, self.address = cluster, name, address
        self.variables = dict(variables or {})
        self.directory = cluster.root / name
        self.home = account.home if account else self.directory / "home"
        self.bin = self.directory / "bin"
        for folder in (self.home, self.bin, *(self.directory / name for name in ("tmux", "screen", "claims"))):
            folder.mkdir(parents=True, mode=0o700, exist_ok=folder == self.home)
        if account:
            self._give_to(account.name)
        self.host_key = self.directory / "hostkey"
        make_key(self.host_key)
        self.port = free_port(address)
        self.log = self.directory / "sshd.log"
        self._write_config(settings)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        cluster.trust(address, self.port, self.host_key)
        cluster.add_host(name, address, self.port, user=account.name if account else "")

    @property
    def environment(self) -> dict[str, str]:
        """Return what sessions on the node have in their environment beyond the user's own."""
        return {
            "HOME": str(self.home),
            "PATH": f"{self.bin}:{SYSTEM_PATH}",
            "TMUX_TMPDIR": str(self.directory / "tmux"),
            "SCREENDIR": str(self.directory / "screen"),
            "GIBLET_GPU_CLAIMS": str(self.directory / "claims"),
            "OMP_NUM_THREADS": "1",
            **self.variables,
        }

    def node(self, **values: Any) -> Node:
        """Return giblet's view of it."""
        return self.cluster.node(self.name, self.home, **values)

    def start(self) -> None:
        """Start sshd and wait for its banner."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [which("sshd") or "sshd", "-D", "-e", "-f", str(self.directory / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: _answers(self.address, self.port), what=f"sshd on {self.address}:{self.port}")

    def stop(self) -> None:
        """End the listener; sessions go on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def cut(self) -> int:
        """Kill -9 every session's sshd, as a crashing server would; how many there were."""
        sessions = self.sessions()
        for pid in sessions:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(sessions)

    def signal_sessions(self, number: signal.Signals) -> None:
        """Send a signal to every session's sshd: SIGSTOP freezes the server, SIGCONT wakes it."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def sessions(self) -> list[int]:
        """Return the pids of this node's sshd processes that serve a connection."""
        assert self._process is not None
        pids, parents = [], {self._process.pid}
        for pid, parent, command in processes():
            if parent in parents and command.startswith("sshd"):
                parents.add(pid)
                pids.append(pid)
        return pids

    def logged(self, text: str) -> int:
        """Return how many lines of sshd's log hold the text."""
        return sum(text in line for line in self.log.read_text(errors="replace").splitlines())

    def record_gpus(self, *script: str) -> None:
        """Make `nvidia-smi` on the node this shell script: a recording, no GPU."""
        program = self.bin / "nvidia-smi"
        program.write_text("\n".join(["#!/bin/sh", *script]) + "\n")
        program.chmod(0o755)

    def forget_gpus(self) -> None:
        """Remove the recording, so that no later test sees its GPUs."""
        (self.bin / "nvidia-smi").unlink(missing_ok=True)

    def close(self) -> None:
        self.cut()
        self.stop()

    def _give_to(self, user: str) -> None:
        """Let another user enter the node's folders and own what sessions write to."""
        for folder in (self.cluster.root, self.directory):
            folder.chmod(0o711)
        for name in ("bin", "tmux", "screen", "claims"):
            shutil.chown(self.directory / name, user)

    def _write_config(self, settings: tuple[str, ...]) -> None:
        keys_file = self.directory / "authorized_keys"
        keys_file.write_text(self.cluster.key.with_suffix(".pub").read_text())
        lines = [
            f"ListenAddress {self.address}:{self.port}",
            f"HostKey {self.host_key}",
            f"AuthorizedKeysFile {keys_file}",
            "StrictModes no",
            "PermitRootLogin prohibit-password",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PidFile none",
            "LogLevel VERBOSE",
            "SetEnv " + " ".join(f"{key}={value}" for key, value in self.environment.items()),
            *settings,
        ]
        (self.directory / "sshd_config").write_text("\n".join(lines) + "\n")


class FaultProxy:
    """A TCP relay to a node that can fall silent (nothing passes, nothing closes) or cut what passes through it."""

    def __init__(self, node: LoopbackNode, name: str) -> None:
        self.target, self.name = node, name
        self._listener = socket.create_server((node.address, 0))
        self.port: int = self._listener.getsockname()[1]
        self._flowing = threading.Event()
        self._flowing.set()
        self._lines: list[socket.socket] = []
        node.cluster.trust(node.address, self.port, node.host_key)
        node.cluster.add_host(name, node.address, self.port)
        threading.Thread(target=self._accept, daemon=True).start()

    def node(self, **values: Any) -> Node:
        """Return giblet's view of the node through this proxy."""
        return self.target.cluster.node(self.name, self.target.home, **values)

    def silence(self) -> None:
        """Let nothing pass in either direction, and close no connection."""
        self._flowing.clear()

    def resume(self) -> None:
        """Let everything pass again."""
        self._flowing.set()

    def cut(self) -> None:
        """Reset every connection."""
        lines, self._lines = self._lines, []
        for line in lines:
            with contextlib.suppress(OSError):
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                line.shutdown(socket.SHUT_RDWR)
            line.close()

    def close(self) -> None:
        self._listener.close()
        self.resume()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection((self.target.address, self.target.port))
            except OSError:
                return
            self._lines += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=(source, sink), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(64 * 1024):
                self._flowing.wait()
                sink.sendall(data)
        self._flowing.wait()
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def silent_server(greeting: bytes) -> Iterator[int]:
    """Accept connections, greet, and send nothing more."""
    lines = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    line, _ = listener.accept()
                    lines.append(line)
                    line.sendall(greeting)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
    for line in lines:
        line.close()


def worker_network() -> str:
    """Return the first three numbers of this test worker's addresses: workers never compete for a port."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return f"127.0.{worker}"


def make_key(path: Path, kind: str = "ed25519") -> None:
    """Write a new key pair without a passphrase."""
    subprocess.run([which("ssh-keygen") or "ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)


def free_port(address: str) -> int:
    """Return a port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def processes() -> list[tuple[int, int, str]]:
    """Return (pid, parent, command line) of every process, by pid, straight from /proc: the ground truth."""
    rows = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            rows.append((int(entry.name), parent, command))
    return sorted(rows)


def _answers(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1.0) as line:
        line.settimeout(1.0)
        return line.recv(4) == b"SSH-"
    return False


def read_until(descriptor: int, text: bytes) -> bytes:
    """Return what came, once the text is in it."""
    output = b""

    def arrived() -> bool:
        nonlocal output
        if select.select([descriptor], [], [], 0.1)[0]:
            try:
                output += os.read(descriptor, 4096)
            except OSError:  # its last process has closed the terminal
                raise AssertionError(f"{text!r} did not come: {output!r}") from None
        return text in output

    wait_until(arrived, what=repr(text))
    return output
