"""Checks a host key against every line of the user's known_hosts files, which are only read.

The rules are those of OpenSSH (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): names plain, hashed, with wildcards or negated,
several keys for one host, revoked keys. Host certificates are not supported; the verdict "certified" reports them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

KeyStatus = Literal["known", "unknown", "changed", "revoked", "certified"]


@dataclass(frozen=True)
class HostKey:
    """A public host key: its type as in known_hosts (`ssh-ed25519`), and its wire bytes."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint as ssh prints it: SHA256:... without padding."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode("ascii").rstrip("=")


@dataclass(frozen=True)
class HostKeyVerdict:
    """The status of a key, and the line that decided it (`file:line`, or empty)."""

    status: KeyStatus
    place: str = ""


@dataclass(frozen=True)
class _Line:
    place: str
    marker: str
    key: HostKey


def check(key: HostKey, host: str, port: int, files: Sequence[Path], alias: str | None = None) -> HostKeyVerdict:
    """Look up the status of `key` for `host`. alias: HostKeyAlias, used in place of host and port.

    A host on another port than 22 is looked up as `[host]:port`; like ssh, a key that is known for the host without the
    port is accepted too.
    """
    finding = _check_name(key, _name(host, port, alias), files)
    if finding.status in ("unknown", "certified") and alias is None and port != 22:
        plain = _check_name(key, host, files)
        if plain.status in ("known", "revoked"):
            return plain
    return finding


def known_kinds(host: str, port: int, files: Sequence[Path], alias: str | None = None) -> list[str]:
    """Return the key types on record for a host. Requested first, a known key is not mistaken for a new one."""
    names = [_name(host, port, alias)] + ([host] if alias is None else [])
    return list(dict.fromkeys(line.key.kind for name in names for line in _lines_for(name, files) if not line.marker))


def lookup_name(host: str, port: int, alias: str | None = None) -> str:
    """Return the name of a host in known_hosts, as `ssh-keygen -R` takes it."""
    return _name(host, port, alias)


def _name(host: str, port: int, alias: str | None) -> str:
    if alias is not None:
        return alias.lower()
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def _check_name(key: HostKey, name: str, files: Sequence[Path]) -> HostKeyVerdict:
    lines = list(_lines_for(name.lower(), files))
    for line in lines:
        if line.marker == "@revoked" and line.key == key:
            return HostKeyVerdict("revoked", line.place)
    plain = [line for line in lines if not line.marker]
    for line in plain:
        if line.key == key:
            return HostKeyVerdict("known", line.place)
    for line in plain:
        if line.key.kind == key.kind:
            return HostKeyVerdict("changed", line.place)
    for line in lines:
        if line.marker == "@cert-authority":
            return HostKeyVerdict("certified", line.place)
    return HostKeyVerdict("unknown", plain[0].place if plain else "")


def _lines_for(name: str, files: Sequence[Path]) -> Iterator[_Line]:
    for path in files:
        try:
            content = path.read_bytes()
        except OSError:
            continue  # as for ssh: a file that is not there knows nobody
        for number, raw in enumerate(content.split(b"\n"), start=1):
            line = _parsed(raw, name, f"{path}:{number}")
            if line is not None:
                yield line


def _parsed(raw: bytes, name: str, place: str) -> _Line | None:
    """Parse a line of known_hosts; None if it is malformed or about another host."""
    words = raw.decode("utf-8", "surrogateescape").split()
    if not words or words[0].startswith("#"):
        return None
    marker = words.pop(0) if words[0].startswith("@") else ""
    if marker not in ("", "@revoked", "@cert-authority") or len(words) < 3:
        return None
    hosts, kind, encoded = words[:3]
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    size = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + size] != kind.encode("utf-8", "surrogateescape") or not _matches(name, hosts):
        return None
    return _Line(place, marker, HostKey(kind, blob))


def _matches(name: str, hosts: str) -> bool:
    if hosts.startswith("|"):
        return _matches_hash(name, hosts)
    matches = False
    for pattern in hosts.lower().split(","):
        is_exception = pattern.startswith("!")
        if _pattern(pattern[is_exception:]).fullmatch(name):
            if is_exception:
                return False
            matches = True
    return matches


def _matches_hash(name: str, hosts: str) -> bool:
    """Compare a name with `|1|salt|hash`: HMAC-SHA1 of the name, both in base64."""
    parts = hosts.split("|")
    if len(parts) != 4 or parts[1] != "1":
        return False
    try:
        salt, digest = base64.b64decode(parts[2], validate=True), base64.b64decode(parts[3], validate=True)
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), "sha1").digest(), digest)


def _pattern(text: str) -> re.Pattern[str]:
    """Compile a pattern in which only * and ? are special; brackets are literal, as in [host]:port."""
    return re.compile("".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in text), re.DOTALL)
