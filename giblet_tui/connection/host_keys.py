"""Is this the key of that host? Judged against every line of the user's known_hosts files, which are only read.

The rules are those of OpenSSH (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): names plain, hashed, with wildcards or negated,
several keys for one host, revoked keys. Host certificates are not supported, and said so.
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

Standing = Literal["known", "unknown", "changed", "revoked", "certified"]


@dataclass(frozen=True)
class HostKey:
    """A public host key: its type as in known_hosts (`ssh-ed25519`), and its wire bytes."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As ssh prints it: SHA256:… without padding."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode("ascii").rstrip("=")


@dataclass(frozen=True)
class Finding:
    """How a key stands, and the line that decided it (`file:line`, empty when none did)."""

    standing: Standing
    place: str = ""


@dataclass(frozen=True)
class _Line:
    place: str
    marker: str
    key: HostKey


def judge(key: HostKey, host: str, port: int, files: Sequence[Path], alias: str | None = None) -> Finding:
    """How `key` stands for `host`. alias: HostKeyAlias, looked up in place of host and port.

    A host on another port than 22 is looked up as `[host]:port`; like ssh, a key that is known for the host without the
    port is taken too.
    """
    finding = _judge_name(key, _name(host, port, alias), files)
    if finding.standing in ("unknown", "certified") and alias is None and port != 22:
        plain = _judge_name(key, host, files)
        if plain.standing in ("known", "revoked"):
            return plain
    return finding


def known_kinds(host: str, port: int, files: Sequence[Path], alias: str | None = None) -> list[str]:
    """The key types on record for a host: what to ask it for first, so that a known key is not missed for a new one."""
    names = [_name(host, port, alias)] + ([host] if alias is None else [])
    return list(dict.fromkeys(line.key.kind for name in names for line in _lines_for(name, files) if not line.marker))


def lookup_name(host: str, port: int, alias: str | None = None) -> str:
    """The name under which a host stands in known_hosts: what `ssh-keygen -R` takes."""
    return _name(host, port, alias)


def _name(host: str, port: int, alias: str | None) -> str:
    if alias is not None:
        return alias.lower()
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def _judge_name(key: HostKey, name: str, files: Sequence[Path]) -> Finding:
    lines = list(_lines_for(name.lower(), files))
    for line in lines:
        if line.marker == "@revoked" and line.key == key:
            return Finding("revoked", line.place)
    plain = [line for line in lines if not line.marker]
    for line in plain:
        if line.key == key:
            return Finding("known", line.place)
    for line in plain:
        if line.key.kind == key.kind:
            return Finding("changed", line.place)
    for line in lines:
        if line.marker == "@cert-authority":
            return Finding("certified", line.place)
    return Finding("unknown", plain[0].place if plain else "")


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
    """The line, if it is well-formed and speaks of `name`."""
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
    found = False
    for pattern in hosts.lower().split(","):
        negated = pattern.startswith("!")
        if _pattern(pattern[negated:]).fullmatch(name):
            if negated:
                return False
            found = True
    return found


def _matches_hash(name: str, hosts: str) -> bool:
    """`|1|salt|hash`: HMAC-SHA1 of the name, both in base64."""
    parts = hosts.split("|")
    if len(parts) != 4 or parts[1] != "1":
        return False
    try:
        salt, digest = base64.b64decode(parts[2], validate=True), base64.b64decode(parts[3], validate=True)
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), "sha1").digest(), digest)


def _pattern(text: str) -> re.Pattern[str]:
    """Only * and ? are special: brackets stand for themselves, as in [host]:port."""
    return re.compile("".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in text), re.DOTALL)
