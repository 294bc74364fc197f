"""Whom ssh would reach, and how: the same as `ssh -G` after expansion, or refused by name."""

from __future__ import annotations

import getpass
import shutil
import socket
from pathlib import Path

import pytest

from giblet_train.schema.errors import ConfigError
from giblet_tui.connection import ssh_config
from giblet_tui.connection.ssh_config import HostConfig, lookup

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="missing: ssh (apt-get install openssh-client)")


def resolved(tmp_path: Path, text: str, host: str = "gpu1") -> HostConfig:
    config = tmp_path / "config"
    config.write_text(text)
    return lookup(host, config)


def test_a_bare_host(tmp_path: Path) -> None:
    host = resolved(tmp_path, "")
    assert (host.hostname, host.port, host.user) == ("gpu1", 22, getpass.getuser())
    assert (host.jump, host.proxy_command, host.host_key_alias) == (None, None, None)
    assert Path.home() / ".ssh" / "id_ed25519" in host.identity_files
    assert Path.home() / ".ssh" / "known_hosts" in host.known_hosts
    assert not host.identities_only and host.family == socket.AF_UNSPEC


def test_patterns_and_first_value_wins(tmp_path: Path) -> None:
    text = "Host gpu?\n  Port 2201 # the gate\n  User alice\nHost *\n  Port 9\n  HostName %h.cluster.example\n"
    host = resolved(tmp_path, text)
    assert (host.hostname, host.port, host.user) == ("gpu1.cluster.example", 2201, "alice")
    assert host.where == "alice@gpu1.cluster.example port 2201"


def test_include_and_match(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("Match host gpu1 exec true\n  User bob\nMatch host gpu2 exec true\n  User carol\n")
    assert resolved(tmp_path, f"Include {tmp_path}/more\n").user == "bob"
    (tmp_path / "more").write_text("Match host gpu1 exec false\n  User bob\nHost *\n  User dan\n")
    assert resolved(tmp_path, f"Include {tmp_path}/more\n").user == "dan"


def test_tokens_and_variables_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "/keys")
    text = (
        "Host gpu1\n  HostName gpu1.example\n  User alice\n  Port 2200\n"
        "  IdentityFile %d/.ssh/%r@%n\n  IdentityFile ${KEYS}/%h-%p\n  IdentityFile ~/mine\n"
        "  UserKnownHostsFile ~/.ssh/a /b/%k\n  GlobalKnownHostsFile none\n"
        "  ProxyCommand nc -x proxy %h %p %%\n"
    )
    host = resolved(tmp_path, text)
    assert host.identity_files == (
        Path.home() / ".ssh" / "alice@gpu1",
        Path("/keys/gpu1.example-2200"),
        Path.home() / "mine",
    )
    assert host.known_hosts == (Path.home() / ".ssh" / "a", Path("/b/gpu1"))
    assert host.proxy_command == "nc -x proxy gpu1.example 2200 %"


def test_a_file_that_may_not_be_looked_at_counts_as_missing(tmp_path: Path) -> None:
    """A name that is too long fails like one in a folder that may not be searched, for root too."""
    long = "/" + "a" * 300
    assert resolved(tmp_path, f"UserKnownHostsFile {long} /b\n").known_hosts[:2] == (Path(long), Path("/b"))


def test_jumps(tmp_path: Path) -> None:
    text = (
        "Host gpu1\n  ProxyJump first,bob@second:2202\n"
        "Host first\n  HostName first.example\n  User ann\nHost second\n  HostName second.example\n  User ignored\n"
        "  ProxyJump elsewhere\n"
    )
    host = resolved(tmp_path, text)
    assert host.jump is not None and host.jump.jump is not None
    assert (host.jump.hostname, host.jump.user, host.jump.port) == ("second.example", "bob", 2202)
    assert (host.jump.jump.hostname, host.jump.jump.user, host.jump.jump.jump) == ("first.example", "ann", None)
    assert resolved(tmp_path, "Host gpu1\n  ProxyJump none\nHost *\n  ProxyJump gate\n").jump is None
    with pytest.raises(ConfigError, match="in a circle"):
        resolved(tmp_path, "Host gpu1\n  ProxyJump gpu2\nHost gpu2\n  ProxyJump gpu1\n")


def test_other_directives(tmp_path: Path) -> None:
    text = (
        "Host gpu1\n  HostKeyAlias cluster\n  IdentitiesOnly yes\n  ConnectTimeout 4\n  AddressFamily inet\n"
        "  BindAddress 127.0.0.9\n  IdentityAgent /run/%u.sock\n"
    )
    host = resolved(tmp_path, text)
    assert (host.host_key_alias, host.identities_only, host.connect_timeout_s) == ("cluster", True, 4.0)
    assert (host.family, host.bind_address) == (socket.AF_INET, "127.0.0.9")
    assert host.identity_agent == f"/run/{getpass.getuser()}.sock"


@pytest.mark.parametrize(
    "directive",
    ["PKCS11Provider /lib/card.so", "KnownHostsCommand /bin/true", "CertificateFile /c", "RevokedHostKeys /etc/hosts"],
)
def test_what_cannot_be_honoured_is_refused_by_name(tmp_path: Path, directive: str) -> None:
    with pytest.raises(ConfigError, match=directive.split()[0].lower()) as refusal:
        resolved(tmp_path, f"Host gpu1\n  {directive}\n")
    assert "`transport: openssh`" in refusal.value.remedy


@pytest.mark.parametrize("line", ["Portt 22", "Port twenty", "Match shoesize 44"])
def test_what_ssh_does_not_take_is_reported_in_its_words(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match="ssh rejects its configuration for gpu1"):
        resolved(tmp_path, f"{line}\n  User x\n")


def test_names_from_the_configuration_are_checked_too(tmp_path: Path) -> None:
    for text in ("Host gpu1\n  User '-oX'\n", "Host gpu1\n  ProxyJump a;b\n", "Host gpu1\n  HostName -x\n"):
        with pytest.raises(ConfigError):
            resolved(tmp_path, text)


@pytest.mark.parametrize("address", ["::1", "2001:db8::17", "fe80::1%%eth0"])
def test_an_ipv6_address_is_a_host_name(tmp_path: Path, address: str) -> None:
    assert resolved(tmp_path, f"Host gpu1\n  HostName {address}\n").hostname == address.replace("%%", "%")
    with pytest.raises(ConfigError, match="not a host name"):
        resolved(tmp_path, "Host gpu1\n  HostName fe80::1%%-x;y\n")


def test_a_machine_without_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no `ssh` on this machine"):
        lookup("gpu1")


def test_a_match_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_config, "_LOOKUP_LIMIT_S", 0.3)
    with pytest.raises(ConfigError, match="did not answer"):
        resolved(tmp_path, """Match exec "exec sleep 3"\n  User x\n""")
