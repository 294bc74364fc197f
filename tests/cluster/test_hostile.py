"""Hostile and odd surroundings: known_hosts of every shape, names that are commands, shells that are not bash."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from giblet_train.schema.errors import ConfigError, GibletError
from giblet_tui.connection import ssh_config
from giblet_tui.connection.connect import connect
from giblet_tui.connection.host_keys import HostKey, check
from giblet_tui.connection.protocol import RunIds
from giblet_tui.errors import NotLetIn, Unreachable
from tests.cluster.conftest import unavailable
from tests.cluster.nodes import Cluster, LoopbackNode, make_key, which

HOSTILE = [
    "$(touch canary)",
    "`touch canary`",
    "; touch canary",
    "| touch canary",
    "=ls",
    "!!",
    "~root",
    "a'b\"c",
    "\\",
    "{a,b}*?[c]",
    "$HOME %s %(x)s",
    "new\nline",
    "tab\tand \x1b[31m",
    "-rf",
    "--help",
    "#comment",
    "汉语 é 🧠",
]
RC_FILES = {
    "prints": "echo hello; echo '{\"result\": {}}'; seq 2000",
    "prints without a newline": "printf 'no newline'",
    "prints errors": "echo problem >&2; seq 30000 >&2",
    "sleeps": "sleep 0.4",
    "fails": "false; cd /nonexistent 2>/dev/null",
    "aliases": "alias exec='echo no'; alias python3=false; set -f",
}


@pytest.fixture(scope="module")
def other_key(cluster: Cluster) -> str:
    """Return a public key of the same type that is not the node's: `kind encoded`."""
    make_key(path := cluster.root / "other")
    return public(path)


Shape = Callable[[str, str, str], str]
"""(name in known_hosts, the node's key, another key) -> the file."""

SHAPES: dict[str, Shape] = {
    "exact": lambda name, key, other: f"{name} {key}\n",
    "with a comment": lambda name, key, other: f"# nodes\n\n{name} {key} alice@laptop 2026\n",
    "hashed": lambda name, key, other: f"{hashed(name)} {key}\n",
    "hashed, another name": lambda name, key, other: f"{hashed('elsewhere')} {key}\n",
    "several names": lambda name, key, other: f"tensor99,{name},10.0.0.1 {key}\n",
    "wildcard": lambda name, key, other: f"[127.0.*]:* {key}\n",
    "question marks": lambda name, key, other: f"{name.replace('127', '1?7')} {key}\n",
    "upper case": lambda name, key, other: f"{name.upper()} {key}\n",
    "negated": lambda name, key, other: f"*,!{name} {key}\n",
    "negated another": lambda name, key, other: f"*,!tensor99 {key}\n",
    "without the port": lambda name, key, other: f"{address_of(name)} {key}\n",
    "another key": lambda name, key, other: f"{name} {other}\n",
    "another key first": lambda name, key, other: f"{name} {other}\n{name} {key}\n",
    "another key after": lambda name, key, other: f"{name} {key}\n{name} {other}\n",
    "revoked": lambda name, key, other: f"{name} {key}\n@revoked {name} {key}\n",
    "revoked for all": lambda name, key, other: f"@revoked * {key}\n{name} {key}\n",
    "another revoked": lambda name, key, other: f"@revoked {name} {other}\n{name} {key}\n",
    "authority alone": lambda name, key, other: f"@cert-authority {name} {key}\n",
    "authority and key": lambda name, key, other: f"@cert-authority * {other}\n{name} {key}\n",
    "unknown marker": lambda name, key, other: f"@trusted {name} {key}\n",
    "carriage returns": lambda name, key, other: f"{name} {key}\r\n",
    "a bad line first": lambda name, key, other: f"{name} ssh-ed25519 %%%not-base64\n{name} {key}\n",
    "cut key": lambda name, key, other: f"{name} {key[:-8]}\n",
    "no UTF-8": lambda name, key, other: f"caf\udce9 {other}\n{name} {key} \udcff\n",
    "another type": lambda name, key, other: f"{name} {key.replace('ssh-ed25519', 'ssh-rsa')}\n",
    "another host": lambda name, key, other: f"[{address_of(name)}]:1 {key}\n",
    "indented": lambda name, key, other: f"  \t{name}\t{key}\n",
    "no newline at the end": lambda name, key, other: f"{name} {key}",
    "empty": lambda name, key, other: "",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_known_hosts_are_read_as_ssh_reads_them(
    cluster: Cluster, tensor01: LoopbackNode, other_key: str, tmp_path: Path, shape: str
) -> None:
    """The oracle is ssh itself: whom it lets through, so do we; and the file stays as it is."""
    name = f"[{tensor01.address}]:{tensor01.port}"
    content = SHAPES[shape](name, public(tensor01.host_key), other_key).encode("utf-8", "surrogateescape")
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_bytes(content)
    config = tmp_path / "config"
    block = "Host shape" + cluster.ssh_config.read_text().partition("Host tensor01")[2].partition("Host ")[0]
    config.write_text(block.replace(str(cluster.known_hosts), str(known_hosts)))
    argv = ["ssh", "-F", str(config), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "shape", "true"]
    result = subprocess.run(argv, capture_output=True, text=True)
    assert result.returncode in (0, 255), result.stderr
    kind, encoded = public(tensor01.host_key).split()
    key = HostKey(kind, base64.b64decode(encoded))
    finding = check(key, tensor01.address, tensor01.port, [known_hosts, tmp_path / "none"])
    assert (finding.status == "known") == (result.returncode == 0), f"{finding}: {result.stderr}"
    assert known_hosts.read_bytes() == content


def test_a_known_key_is_asked_for_first(cluster: Cluster, tensor01: LoopbackNode) -> None:
    """A host with two keys, of which known_hosts has the one that would not be chosen otherwise."""
    make_key(second := cluster.root / "second", "ecdsa")
    node = LoopbackNode(cluster, "two-keys", tensor01.address, f"HostKey {second}")
    try:
        other_lines = [line for line in cluster.known_hosts.read_text().splitlines() if f":{node.port} " not in line]
        name = f"[{node.address}]:{node.port}"
        cluster.known_hosts.write_text("\n".join([*other_lines, f"{name} {public(second)}\n"]))
        connect(node.node()).close()
    finally:
        node.close()


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [("another key", "changed: it now shows"), ("revoked", "is revoked"), ("authority alone", "certificate authority")],
)
def test_each_refusal_has_its_own_words(
    cluster: Cluster, tensor01: LoopbackNode, other_key: str, tmp_path: Path, shape: str, sentence: str
) -> None:
    known_hosts = tmp_path / "known_hosts"
    name = f"[{tensor01.address}]:{tensor01.port}"
    known_hosts.write_text(SHAPES[shape](name, public(tensor01.host_key), other_key))
    config = tmp_path / "config"
    config.write_text(cluster.ssh_config.read_text().replace(str(cluster.known_hosts), str(known_hosts)))
    with pytest.raises(NotLetIn, match=sentence) as refusal:
        connect(cluster.node("tensor01", tensor01.home, ssh_config=str(config)))
    assert f"{known_hosts}:" in refusal.value.message
    if shape == "another key":
        forget = refusal.value.remedy.partition("Only if it is this one: ")[2].partition(" &&")[0]
        assert subprocess.run(["/bin/sh", "-c", forget], capture_output=True).returncode == 0
        assert known_hosts.read_text() == "", "the remedy's own command forgets the old key"


def test_a_host_name_is_never_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before ssh is asked, since `Match exec` of a configuration hands the name to a shell."""
    canary = tmp_path / "canary"
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\ntouch {canary}\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    names = [*(name for name in HOSTILE), "-oProxyCommand=touch canary", "", "a" * 300, "a b", "../x", "a\0b", "a/b"]
    for name in names:
        with pytest.raises(ConfigError):
            ssh_config.lookup(name)
    assert not canary.exists()


@pytest.mark.parametrize("shell", ["bash", "dash", "zsh", "fish", "tcsh"])
def test_login_shells_find_nothing_to_expand(cluster: Cluster, tensor01: LoopbackNode, shell: str) -> None:
    """sshd hands a command to `SHELL -c`; here ForceCommand does the same with each shell."""
    if which(shell) is None:
        unavailable(f"missing: {shell} (apt-get install {shell})")
    node = LoopbackNode(
        cluster, f"by-{shell}", tensor01.address, f'ForceCommand {which(shell)} -c "$SSH_ORIGINAL_COMMAND"'
    )
    try:
        with connect(node.node()) as connection:
            for name in ("".join(HOSTILE), "--help"):
                connection.put(name.encode(), f"{node.home}/{name}")
                assert (node.home / name).read_bytes() == name.encode()
        assert "canary" not in os.listdir(node.home)
    finally:
        node.close()


@pytest.mark.parametrize("habit", RC_FILES)
def test_start_up_files_do_not_confuse(tensor01: LoopbackNode, habit: str) -> None:
    rc = tensor01.home / ".bashrc"
    rc.write_text(RC_FILES[habit] + "\n")
    try:
        with connect(tensor01.node()) as connection:
            assert connection.call("runs", {"workdir": "~/none"}, RunIds).runs == ()
    finally:
        rc.unlink()


def test_a_start_up_file_that_exits_is_named(tensor01: LoopbackNode) -> None:
    rc = tensor01.home / ".bashrc"
    rc.write_text("echo 'no \x1b[2Jshell for you'; exit 3\n")
    try:
        with connect(tensor01.node()) as connection, pytest.raises(Unreachable, match="status 3") as refusal:
            connection.call("runs", {"workdir": "~/none"}, RunIds)
        assert "no \\x1b[2Jshell for you" in refusal.value.message and "bashrc" in refusal.value.remedy
    finally:
        rc.unlink()


def test_an_interpreter_that_is_missing_or_old(tensor01: LoopbackNode) -> None:
    program = tensor01.bin / "python3"
    node = tensor01.node(python=None)
    older = "import sys; sys.version_info = (3, 6, 9); sys.version = '3.6.9 (old)'; "
    try:
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -c "{older}$3"\n')
        program.chmod(0o755)
        with connect(node) as connection, pytest.raises(GibletError, match=r"Python 3\.6\.9 on the node is too old"):
            connection.call("runs", {"workdir": "~/none"}, RunIds)
        program.write_text("#!/bin/sh\necho python3: not found >&2\nexit 127\n")
        with connect(node) as connection, pytest.raises(Unreachable, match="no python3 on tensor01"):
            connection.call("runs", {"workdir": "~/none"}, RunIds)
        (tensor01.home / "my python").symlink_to(sys.executable)
        with connect(tensor01.node(python="~/my python")) as connection:
            assert connection.call("runs", {"workdir": "~/none"}, RunIds).runs == ()
    finally:
        program.unlink()


def test_an_interpreter_with_a_version_in_its_name_is_enough(tensor01: LoopbackNode, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    (few / "python3.11").symlink_to(sys.executable)
    start_up = tensor01.home / ".bashrc"
    start_up.write_text(f"PATH={few}\n")
    try:
        with connect(tensor01.node(python=None)) as connection:
            assert connection.call("runs", {"workdir": "~/none"}, RunIds).runs == ()
    finally:
        start_up.unlink()


def address_of(name: str) -> str:
    """Return ADDRESS of a name [ADDRESS]:PORT."""
    return name[1:].partition("]")[0]


def public(path: Path) -> str:
    return " ".join(Path(f"{path}.pub").read_text().split()[:2])


def hashed(name: str) -> str:
    salt = b"0123456789abcdefghij"
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
