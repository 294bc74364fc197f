"""Which hosts an ssh config names: its `Host` lines and those of the files it includes. ssh itself resolves them."""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

HOST_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$"
_INCLUDE_DEPTH = 8


def hosts_of(config: Path) -> list[str]:
    """Hosts that an ssh config names without wildcards, in its order; files that it includes are read too."""
    names = [p for p in _host_patterns(config) if re.fullmatch(HOST_PATTERN, p)]
    return list(dict.fromkeys(names))


def names_host(name: str, config: Path) -> bool:
    """Does a `Host` line other than a bare `*` speak of that name?"""
    return any(p != "*" and not p.startswith("!") and fnmatch.fnmatchcase(name, p) for p in _host_patterns(config))


def _host_patterns(config: Path, depth: int = 0) -> Iterator[str]:
    """The words of every `Host` line. What cannot be read is left to ssh itself to complain about."""
    try:
        lines = config.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        found = re.match(r"\s*(host|include)(?:\s*=\s*|\s+)(.+)$", line, re.IGNORECASE)
        if found is None:
            continue
        try:
            words = shlex.split(found[2], comments=True)
        except ValueError:
            continue
        if found[1].lower() == "host":
            yield from words
        elif depth < _INCLUDE_DEPTH:
            for word in words:
                yield from _included(word, depth)


def _included(word: str, depth: int) -> Iterator[str]:
    """ssh_config(5): relative names are under ~/.ssh, and wildcards expand in lexical order."""
    path = Path("~/.ssh").expanduser() / Path(word).expanduser()
    for file in sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor)))):
        yield from _host_patterns(file, depth + 1)
