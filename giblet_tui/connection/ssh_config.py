"""Reads the user's ssh configuration for a host from `ssh -G`, in a form that giblet can use.

A directive that giblet cannot honour is rejected by its name: connecting in another way than ssh would is worse.
"""

from __future__ import annotations

import contextlib
import getpass
import ipaddress
import os
import re
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from giblet_train.schema.errors import ConfigError
from giblet_tui.connection.sanitize import sanitize

ZONE_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}"
HOST_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,254}$"
USER_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}$"
MAX_JUMPS = 8
CONNECT_LIMIT_S = 5.0
"""Where the configuration has no ConnectTimeout."""

_LOOKUP_LIMIT_S = 15.0

_REFUSED = {
    "bindinterface": "",
    "certificatefile": "Load the key and its certificate into ssh-agent, and drop the directive;",
    "knownhostscommand": "Put the host's key into known_hosts instead;",
    "proxyusefdpass": "",
    "pkcs11provider": "Load the card's key into ssh-agent (ssh-add -s), and drop the directive;",
    "revokedhostkeys": "Mark the keys @revoked in known_hosts instead;",
}
"""Directives with a value other than `none` or `no` that giblet cannot honour, and what to do instead."""

FORKS = "Cannot fork into background"
"""What ssh says without a command where the configuration has ForkAfterAuthentication, for tunnels."""
STAYS = "-oForkAfterAuthentication=no"
"""Unknown to versions of ssh before 8.7, which do not know the directive either."""

BY_OPENSSH = "Set `transport: openssh` for the node in nodes.yaml: then the system's ssh makes the connection."


class UnsupportedDirective(ConfigError):
    """The ssh configuration asks for something that only the system's ssh can do."""


@dataclass(frozen=True)
class HostConfig:
    """How to reach one host.

    jump: the host to go through first. proxy_command: what to run in place of connecting. identity_agent: a socket,
    `none`, or a variable that names one.
    """

    alias: str
    hostname: str
    port: int
    user: str
    identity_files: tuple[Path, ...]
    identities_only: bool
    offers_keys: bool
    """PubkeyAuthentication and PreferredAuthentications allow keys."""
    identity_agent: str
    known_hosts: tuple[Path, ...]
    host_key_alias: str | None
    connect_timeout_s: float
    asks_for_unknown_hosts: bool
    """StrictHostKeyChecking is not `no` or `accept-new`: an unknown host needs a person's consent."""
    family: socket.AddressFamily
    bind_address: str | None
    proxy_command: str | None
    jump: HostConfig | None

    @property
    def where(self) -> str:
        """Return `user@host` for messages, with the port if it is not 22."""
        return f"{self.user}@{self.hostname}" + (f" port {self.port}" if self.port != 22 else "")


def lookup(host: str, config_file: Path | None = None) -> HostConfig:
    """Return how ssh would reach `host`. config_file: used in place of ~/.ssh/config.

    Raises ConfigError for an invalid host name, a configuration that ssh rejects, and a directive that giblet cannot
    honour.
    """
    return _lookup(host, config_file, (), 0)


def hostname(host: str, config_file: str | None = None) -> str:
    """Return the name or address that ssh would connect to for `host`. Raises ConfigError."""
    path = Path(config_file).expanduser() if config_file else None
    return _host_name(_ask_ssh(_checked(host, HOST_PATTERN, "host"), path, ())["hostname"][0])


def _lookup(host: str, config_file: Path | None, options: tuple[str, ...], depth: int) -> HostConfig:
    if depth > MAX_JUMPS:
        raise ConfigError(f"ProxyJump goes through more than {MAX_JUMPS} hosts, or in a circle, at {host!r}.")
    values = _ask_ssh(_checked(host, HOST_PATTERN, "host"), config_file, options)
    first = {key: entries[0] for key, entries in values.items()}
    for directive, remedy in _REFUSED.items():
        if first.get(directive, "none") not in ("none", "no"):
            raise UnsupportedDirective(
                f"giblet cannot honour {directive} of the ssh config for {host}.",
                f"{remedy} or set `transport: openssh` for the node in nodes.yaml." if remedy else BY_OPENSSH,
            )
    tokens = _tokens(host, first)
    jump = first.get("proxyjump", "none")
    command = first.get("proxycommand", "none")
    timeout = first.get("connecttimeout", "none")
    return HostConfig(
        alias=host,
        hostname=_host_name(first["hostname"]),
        port=int(first["port"]),
        user=_user(first["user"]),
        identity_files=tuple(_path(name, tokens) for name in values.get("identityfile", []) if name != "none"),
        identities_only=first.get("identitiesonly") == "yes",
        offers_keys=first.get("pubkeyauthentication", "yes") not in ("no", "false")
        and "publickey" in first.get("preferredauthentications", "publickey"),
        identity_agent=_expand(first.get("identityagent", "SSH_AUTH_SOCK"), tokens),
        known_hosts=tuple(
            _path(name, tokens)
            for key in ("userknownhostsfile", "globalknownhostsfile")
            for name in _split_paths(first.get(key, ""), tokens)
            if name != "none"
        ),
        host_key_alias=_set_or_none(first.get("hostkeyalias", "none")),
        connect_timeout_s=float(timeout) if timeout.isdigit() and timeout != "0" else CONNECT_LIMIT_S,
        asks_for_unknown_hosts=first.get("stricthostkeychecking", "ask") not in ("no", "off", "false", "accept-new"),
        family={"inet": socket.AF_INET, "inet6": socket.AF_INET6}.get(first.get("addressfamily", ""), socket.AF_UNSPEC),
        bind_address=_set_or_none(first.get("bindaddress", "none")),
        proxy_command=None if command == "none" or jump != "none" else _expand(command, tokens),
        jump=None if jump == "none" else _jump(jump, config_file, depth),
    )


def _jump(spec: str, config_file: Path | None, depth: int) -> HostConfig:
    """Parse `[user@]host[:port]`, or several with commas: the last is reached through those before it, as in ssh."""
    before, _, last = spec.rpartition(",")
    last = last.removeprefix("ssh://")
    user, _, address = last.rpartition("@")
    match = re.fullmatch(r"\[(.+)\](?::(\d+))?|([^:]+)(?::(\d+))?", address)
    if match is None:
        raise ConfigError(f"ProxyJump of the ssh config names {last!r}, which is not a host.")
    port = match[2] or match[4]
    options: list[str] = []
    if user:
        options += ["-l", _checked(user, USER_PATTERN, "user")]
    if port:
        options += ["-p", port]
    if before:
        options += ["-J", before]
    return _lookup(match[1] or match[3], config_file, tuple(options), depth + 1)


def _ask_ssh(host: str, config_file: Path | None, options: tuple[str, ...]) -> dict[str, list[str]]:
    """Return every value that `ssh -G` prints, by directive in lower case."""
    config_option = ("-F", str(config_file)) if config_file else ()
    try:
        result = subprocess.run(
            ["ssh", "-G", *config_option, *options, "--", host],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LOOKUP_LIMIT_S,
            check=False,
        )
    except FileNotFoundError:
        raise ConfigError(
            "There is no `ssh` on this machine, which giblet asks how to reach a host.",
            "Install the OpenSSH client (Debian, Ubuntu: apt-get install openssh-client).",
        ) from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"`ssh -G {host}` did not answer within {_LOOKUP_LIMIT_S:.0f} s.") from None
    if FORKS in result.stderr.decode("utf-8", "replace") and STAYS not in options:
        return _ask_ssh(host, config_file, (*options, STAYS))
    if result.returncode != 0:
        error_lines = result.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = sanitize(error_lines[0]) if error_lines else "no reason given"
        option = f"-F {config_file} " if config_file else ""
        raise ConfigError(
            f"ssh rejects its configuration for {host}: {reason.rstrip('.')}.", f"See the same: ssh -G {option}{host}"
        )
    values: dict[str, list[str]] = {}
    for line in result.stdout.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition(" ")
        values.setdefault(key.lower(), []).append(value)
    return values


def _checked(name: str, pattern: str, what: str) -> str:
    if not re.fullmatch(pattern, name):
        raise ConfigError(
            f"{name[:80]!r} is not a {what} name that giblet will use.",
            "Letters, digits, _ . : - are taken; give the host such a name with a `Host` block in ~/.ssh/config.",
        )
    return name


def _host_name(name: str) -> str:
    """Return the value of HostName: a name, or an address (IPv6 with its zone too). Raises ConfigError."""
    address, _, zone = name.partition("%")
    with contextlib.suppress(ValueError):
        ipaddress.IPv6Address(address)
        if not zone or re.fullmatch(ZONE_PATTERN, zone):
            return name
    return _checked(name, HOST_PATTERN, "host")


def _user(name: str) -> str:
    """Return the user's name. Raises UnsupportedDirective for one with other characters, such as LAB\\ada."""
    if not re.fullmatch(USER_PATTERN, name):
        raise UnsupportedDirective(f"{name[:80]!r} is not a user name that giblet will use.", BY_OPENSSH)
    return name


def _tokens(host: str, first: Mapping[str, str]) -> dict[str, str]:
    """Return the tokens of ssh_config(5) that need no connection."""
    local = socket.gethostname()
    return {
        "%": "%",
        "d": str(Path.home()),
        "h": first["hostname"],
        "i": str(os.getuid()),
        "k": _set_or_none(first.get("hostkeyalias", "none")) or host,
        "L": local.partition(".")[0],
        "l": local,
        "n": host,
        "p": first["port"],
        "r": first["user"],
        "u": getpass.getuser(),
    }


def _expand(value: str, tokens: Mapping[str, str]) -> str:
    def token(match: re.Match[str]) -> str:
        if match[1] not in tokens:
            raise UnsupportedDirective(f"giblet cannot expand %{match[1]} in the ssh config: {value!r}.", BY_OPENSSH)
        return tokens[match[1]]

    return re.sub("%(.)", token, value)


def _path(value: str, tokens: Mapping[str, str]) -> Path:
    with_variables = re.sub(r"\$\{(\w+)\}", lambda match: os.environ.get(match[1], ""), value)
    return Path(_expand(with_variables, tokens)).expanduser()


def is_file(path: Path) -> bool:
    """Return True if there is such a file; False also where this user may not look, as for ssh."""
    try:
        return path.is_file()
    except OSError:
        return False


def _split_paths(value: str, tokens: Mapping[str, str]) -> list[str]:
    """Split the paths that `ssh -G` prints in one line, spaces of a path unquoted: files that exist decide."""
    words, paths = value.split(" "), list[str]()
    while words:
        n_words = next((n for n in range(len(words), 1, -1) if is_file(_path(" ".join(words[:n]), tokens))), 1)
        paths.append(" ".join(words[:n_words]))
        words = words[n_words:]
    return [path for path in paths if path]


def _set_or_none(value: str) -> str | None:
    return None if value in ("", "none") else value
