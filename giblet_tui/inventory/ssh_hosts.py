"""List the hosts of an ssh config: its `Host` lines and those of included files. ssh itself resolves them."""

from __future__ import annotations

import contextlib
import fnmatch
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

HOST_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$"
_INCLUDE_DEPTH = 8
_UNKNOWN_HOST = "giblet-host-that-no-block-names"


def hosts_of(config: Path) -> list[str]:
    """Return the hosts that an ssh config names without wildcards, in its order, included files too."""
    names = [p for p in _host_patterns(config) if re.fullmatch(HOST_PATTERN, p)]
    return list(dict.fromkeys(names))


def names_host(name: str, config: Path) -> bool:
    """Return True if a `Host` line other than a bare `*` matches the name."""
    return any(p != "*" and not p.startswith("!") and fnmatch.fnmatchcase(name, p) for p in _host_patterns(config))


def is_reachable_name(name: str, config: Path) -> bool:
    """Return True if ssh knows the name in another way: by a `Match` block, or because the name resolves."""
    values, others = _ssh_values(name, config), _ssh_values(_UNKNOWN_HOST, config)
    if values is None or others is None:
        return False
    if _values_apart_from(name, values) != _values_apart_from(_UNKNOWN_HOST, others):
        return True
    import socket  # only for a name that no file has

    with contextlib.suppress(OSError, UnicodeError):
        return bool(socket.getaddrinfo(values["hostname"], None))
    return False


def _values_apart_from(name: str, values: dict[str, str]) -> dict[str, str]:
    """Return the values that do not contain the host's own name, which ssh writes in small letters."""
    return {key: value for key, value in values.items() if name.lower() not in value.lower()}


def _ssh_values(name: str, config: Path) -> dict[str, str] | None:
    """Return what `ssh -G` prints for a host; None if ssh is missing or rejects its configuration."""
    import subprocess  # only for a name that no file has

    option = ["-F", str(config)] if config.exists() else []
    try:
        answer = subprocess.run(
            ["ssh", "-G", *option, "--", name], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=15
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if answer.returncode else dict(line.partition(" ")[::2] for line in answer.stdout.splitlines())


def _host_patterns(config: Path, depth: int = 0) -> Iterator[str]:
    """Yield the words of every `Host` line; ssh itself reports files that cannot be read."""
    try:
        lines = config.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        match = re.match(r"\s*(host|include)(?:\s*=\s*|\s+)(.+)$", line, re.IGNORECASE)
        if match is None:
            continue
        try:
            words = shlex.split(match[2], comments=True)
        except ValueError:
            continue
        if match[1].lower() == "host":
            yield from words
        elif depth < _INCLUDE_DEPTH:
            for word in words:
                yield from _included(word, depth)


def _included(word: str, depth: int) -> Iterator[str]:
    """Yield the patterns of included files; relative names are under ~/.ssh (ssh_config(5))."""
    path = Path("~/.ssh").expanduser() / Path(word).expanduser()
    for file in sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor)))):
        yield from _host_patterns(file, depth + 1)
