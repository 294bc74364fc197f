"""List the hosts of an ssh config: its `Host` lines and those of included files. ssh itself resolves them."""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

HOST_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$"
_INCLUDE_DEPTH = 8


def hosts_of(config: Path) -> list[str]:
    """Return the hosts that an ssh config names without wildcards, in its order, included files too."""
    names = [p for p in _host_patterns(config) if re.fullmatch(HOST_PATTERN, p)]
    return list(dict.fromkeys(names))


def names_host(name: str, config: Path) -> bool:
    """Return True if a `Host` line other than a bare `*` matches the name."""
    return any(p != "*" and not p.startswith("!") and fnmatch.fnmatchcase(name, p) for p in _host_patterns(config))


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
