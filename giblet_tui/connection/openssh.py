"""A node over the system's `ssh`, for what only it can do: its own multiplexing, GSSAPI, certificates, FIDO keys.

It runs the same constant command as the other transports. If the configuration has a master connection that is up, it
is used, so that one login with a second factor serves everybody. Otherwise this connection opens its own master and
ends it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from giblet_train.schema.errors import ConfigError
from giblet_tui.connection import login_prompts, ssh_config
from giblet_tui.connection.agent_bundle import AGENT_COMMAND
from giblet_tui.connection.agent_connection import AgentConnection
from giblet_tui.connection.agent_protocol import Pipe
from giblet_tui.connection.sanitize import sanitize
from giblet_tui.connection.subprocess_pipe import SSH_FAILED, SubprocessPipe
from giblet_tui.errors import NotLetIn, Unreachable
from giblet_tui.inventory.nodes import Node

LOGIN_LIMIT_S = 30.0
"""Beyond the ConnectTimeout of the configuration."""
ANSWER_LIMIT_S = 150.0
"""Where a person is asked: longer than sshd's own LoginGraceTime."""
PROBE_LIMIT_S = 3.0
CONNECT_LIMIT_S = 10
"""Where the configuration has no ConnectTimeout."""
PERSIST_S = 30
"""A master outlives a killed giblet by so long."""

_ALWAYS = (
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "ServerAliveInterval=2",
    "ServerAliveCountMax=2",
)
_ASK_MASTER = ("-oBatchMode=yes", "-O", "check", "--")
_OF_COMMANDS = {"stdinnull": "no", "sessiontype": "default"}
"""Directives for a command that reads its standard input, as giblet's agent does."""
_REFUSED = ("Permission denied", "Host key verification failed", "HOST IDENTIFICATION HAS CHANGED", "Too many auth")


class OpenSSHConnection(AgentConnection):
    """One master connection of the system's `ssh`; each verb is a session on it."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._host = node.host
        self._folder = Path(tempfile.mkdtemp(prefix="gib-", dir="/tmp"))  # a socket's path must be short
        self._ssh = ["ssh", *_config_option(node), *(f"-o{option}" for option in _ALWAYS)]
        self._connect_timeout_s = self._adapt_options()
        try:
            self._own = not has_master(node)
            if not self._own:
                self._ssh += ["-oBatchMode=yes", "-oControlMaster=no"]
            else:
                self._ssh += [f"-oControlPath={self._folder}/s", f"-oControlPersist={PERSIST_S}"]
                self._log_in()
                self._ssh += ["-oBatchMode=yes", "-oControlMaster=no"]
        except BaseException:
            self._remove()
            raise

    @property
    def alive(self) -> bool:
        return self._folder.exists() and (not self._own or (self._folder / "s").exists())

    def interactive(self, argv: list[str]) -> int:
        from giblet_tui.connection.terminal import ATTACH_COMMAND, encoded

        command = [*self._ssh, "-tt", "-e", "none", "--", self._host, ATTACH_COMMAND + encoded(argv)]
        code = subprocess.run(command, check=False).returncode
        if code == SSH_FAILED:
            raise self._lost()
        return code

    def close(self) -> None:
        """End the master that this connection opened; never one that was there before."""
        if (self._folder / "s").exists():
            _run([*self._ssh, "-O", "exit", "--", self._host], PROBE_LIMIT_S)
        self._remove()

    def _open(self) -> Pipe:
        return SubprocessPipe([*self._ssh, "-T", "--", self._host, AGENT_COMMAND], self._lost)

    def _check_link(self) -> None:
        """Run a command that does nothing. Frozen, cut off or gone, the node gives no answer within PROBE_LIMIT_S."""
        result = _run([*self._ssh, "-T", "--", self._host, "exit 0"], PROBE_LIMIT_S)
        if result is None or result[0] == SSH_FAILED:
            self.close()
            raise self._lost()

    def _adapt_options(self) -> float:
        """Set what a command needs and the configuration lacks or forbids. Returns the ConnectTimeout."""
        answer = subprocess.run([*self._ssh, "-G", "--", self._host], capture_output=True, text=True, check=False)
        if ssh_config.FORKS in answer.stderr:
            self._ssh.append(ssh_config.STAYS)
            return self._adapt_options()
        values = dict(line.partition(" ")[::2] for line in answer.stdout.splitlines())
        # Older versions of ssh do not know these: they are named only where the configuration does.
        self._ssh += [f"-o{name}={value}" for name, value in _OF_COMMANDS.items() if values.get(name, value) != value]
        limit = values.get("connecttimeout", "none")
        if limit.isdigit() and limit != "0":
            return float(limit)
        self._ssh.append(f"-oConnectTimeout={CONNECT_LIMIT_S}")
        return float(CONNECT_LIMIT_S)

    def _log_in(self) -> None:
        """Open the master. ssh itself asks at the terminal if somebody is there. Raises NotLetIn, Unreachable."""
        asking = login_prompts.has_prompt_handler()
        batch = "no" if asking else "yes"
        command = [*self._ssh, "-oControlMaster=yes", f"-oBatchMode={batch}", "-T", "--", self._host, "exit 0"]
        result = _run(
            command, ANSWER_LIMIT_S if asking else self._connect_timeout_s + LOGIN_LIMIT_S, own_session=not asking
        )
        if result is None:
            raise Unreachable(
                f"{self.node_name} did not let us in in time.", f"See that this works: {self._manual_command()}"
            )
        code, stderr_text = result
        if code != SSH_FAILED and (self._folder / "s").exists():
            return
        why = stderr_text.strip().splitlines()[-1] if stderr_text.strip() else f"ssh ended with code {code}"
        kind = NotLetIn if any(word in stderr_text for word in _REFUSED) else Unreachable
        raise kind(f"ssh does not reach {self.node_name}: {why}", f"See that this works: {self._manual_command()}")

    def _manual_command(self) -> str:
        return " ".join([word for word in self._ssh[:3] if not word.startswith("-o")] + [self._host, "true"])

    def _lost(self) -> Unreachable:
        return Unreachable(f"The connection to {self.node_name} is lost.", "Try again; runs on the node go on.")

    def _remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def has_master(node: Node) -> bool:
    """Return True if the configuration of a node names a master connection, and it is up."""
    result = _run(["ssh", *_config_option(node), *_ASK_MASTER, node.host], PROBE_LIMIT_S)
    return result is not None and result[0] == 0


def _config_option(node: Node) -> list[str]:
    return ["-F", str(Path(node.ssh_config).expanduser())] if node.ssh_config else []


def _run(command: list[str], limit_s: float, own_session: bool = True) -> tuple[int, str] | None:
    """Return exit code and sanitised standard error; None if the command did not end in time."""
    # A file, not a pipe: a master that stays in the background would hold a pipe open.
    with tempfile.TemporaryFile() as stderr_file:
        try:
            process = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr_file,
                env={**os.environ, "SSH_ASKPASS_REQUIRE": "never"},
                start_new_session=own_session,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
        except FileNotFoundError:
            raise ConfigError(
                "There is no `ssh` on this machine.",
                "Install the OpenSSH client (Debian, Ubuntu: apt-get install openssh-client).",
            ) from None
        stderr_file.seek(0)
        return process.returncode, sanitize(stderr_file.read(64 * 1024).decode("utf-8", "replace"))
