"""Nodes by name: the built-in one, those of nodes.yaml, hosts of the ssh config; unknown ones get the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from giblet_train.schema.errors import ConfigError
from giblet_tui.inventory import nodes
from giblet_tui.inventory.nodes import Node
from giblet_tui.inventory.ssh_hosts import hosts_of


@pytest.fixture(autouse=True)
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hide nodes.yaml and the ssh config of whoever runs the tests."""
    monkeypatch.setenv("GIBLET_NODES", str(tmp_path / "nodes.yaml"))
    monkeypatch.setenv("GIBLET_SSH_CONFIG", str(tmp_path / "ssh_config"))
    monkeypatch.delenv("GIBLET_HOME", raising=False)
    return tmp_path


def write(folder: Path, text: str) -> None:
    (folder / "nodes.yaml").write_text(text)


def test_local_is_always_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GIBLET_HOME", str(tmp_path / "home"))
    local = nodes.resolve("local")
    assert local == Node(name="local", host="localhost", transport="local", workdir=str(tmp_path / "home"))
    assert nodes.known_nodes() == (local,)


def test_the_file_names_nodes_with_their_defaults(own_files: Path) -> None:
    write(own_files, "tensor01:\nlab:\n  host: tensor02.example.org\n  workdir: /data/g\n  multiplexer: screen\n")
    config = str(own_files / "ssh_config")
    assert nodes.resolve("tensor01") == Node(name="tensor01", host="tensor01", ssh_config=config)
    lab = nodes.resolve("lab")
    assert (lab.host, lab.workdir, lab.multiplexer) == ("tensor02.example.org", "/data/g", "screen")
    assert [n.name for n in nodes.known_nodes()] == ["local", "tensor01", "lab"]


def test_the_file_may_say_how_local_works(own_files: Path) -> None:
    write(own_files, "local:\n  multiplexer: process\n")
    local = nodes.resolve("local")
    assert (local.transport, local.multiplexer) == ("local", "process")


def test_a_host_of_the_ssh_config_just_works(own_files: Path) -> None:
    include_file = own_files / "more"
    include_file.write_text("Host=deep\n  HostName deep.example.org\n")
    (own_files / "ssh_config").write_text(
        f'Include "{include_file}"\nHost tensor01 alias # a remark\n  User me\nhost gpu*\n\nHost *\n  Port 22\n'
    )
    assert hosts_of(own_files / "ssh_config") == ["deep", "tensor01", "alias"]
    for name in ("deep", "tensor01", "alias", "gpu7"):
        node = nodes.resolve(name)
        assert (node.host, node.transport, node.ssh_config) == (name, "ssh", str(own_files / "ssh_config"))


def test_an_include_that_names_itself_ends(own_files: Path) -> None:
    config = own_files / "ssh_config"
    config.write_text(f"Include {config}\nHost once\n")
    assert hosts_of(config) == ["once"]


def test_an_unknown_node_gets_the_nearest_of_all(own_files: Path) -> None:
    write(own_files, "lab:\n")
    (own_files / "ssh_config").write_text("Host tensor01\n")
    with pytest.raises(ConfigError) as refusal:
        nodes.resolve("tensr01")
    assert 'did you mean "tensor01"?' in refusal.value.message
    assert "local, lab, tensor01" in refusal.value.remedy
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lab:\n  wrkdir: /x\n", 'unknown key "lab.wrkdir", did you mean "workdir"?'),
        ("lab: 3\n", "does not consist of `key: value` lines"),
        ("lab:\n  workdir: relative\n", "starts with / or ~/"),
        ("lab:\n  multiplexer: byobu\n", "byobu"),
        ("lab:\n  host: -oProxyCommand=id\n", "host"),
        ("'../lab':\n", "cannot name a node"),
        ("lab:\nlab:\n", "appears twice"),
        ("- lab\n", "does not consist of"),
    ],
)
def test_a_bad_file_is_refused_in_words(own_files: Path, text: str, sentence: str) -> None:
    write(own_files, text)
    with pytest.raises(ConfigError, match=r"nodes\.yaml|cannot name a node") as refusal:
        nodes.known_nodes()
    assert sentence in str(refusal.value)


def test_adding_and_removing_keep_the_rest_of_the_file(own_files: Path) -> None:
    before = "# mine\nlab:   # the big one\n  workdir: /data/g\n\n# below\nother: {host: o.example.org}\n"
    write(own_files, before)
    nodes.add(Node(name="tensor01", host="tensor01", python="~/env/bin/python"))
    assert nodes.resolve("tensor01").python == "~/env/bin/python"
    assert (own_files / "nodes.yaml").read_text().startswith(before)
    nodes.remove("lab")
    text = (own_files / "nodes.yaml").read_text()
    assert "# mine" in text and "# below" in text and "/data/g" not in text
    assert [n.name for n in nodes.known_nodes()] == ["local", "other", "tensor01"]
    nodes.remove("other")
    nodes.remove("tensor01")
    assert [n.name for n in nodes.known_nodes()] == ["local"]


def test_the_first_node_makes_the_file(own_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIBLET_NODES", str(own_files / "deep" / "er" / "nodes.yaml"))
    nodes.add(Node(name="tensor01", host="tensor01"))
    assert nodes.resolve("tensor01").host == "tensor01"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("ada@tensor01:22", "Name it tensor01; user and port belong in a Host block"),
        ("ssh://ada@tensor01/data", "Name it tensor01; "),
        ("-tensor01", "Use at most 63 letters"),
        ("ada@.hidden", "Use at most 63 letters"),
        ("a" * 64, "Give it a shorter one: giblet node add NAME --host aaa"),
        ("a" * 300, "Use at most 63 letters"),
    ],
)
def test_the_advice_for_a_bad_name_is_a_name_that_can_be(name: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a node") as refusal:
        nodes.check_name(name)
    assert refusal.value.remedy.startswith(remedy)


def test_a_name_is_added_once_and_removed_once(own_files: Path) -> None:
    nodes.add(Node(name="lab", host="lab"))
    with pytest.raises(ConfigError, match="already in"):
        nodes.add(Node(name="lab", host="lab"))
    with pytest.raises(ConfigError, match='did you mean "lab"'):
        nodes.remove("labb")
    with pytest.raises(ConfigError, match="cannot name"):
        nodes.add(Node(name="-x", host="lab"))


@pytest.mark.parametrize(
    ("host", "remedy"),
    [
        ("tensor01:2222", "Write tensor01, and `Port 2222` in a block `Host tensor01` of the ssh config."),
        (
            "ada@tensor01:22",
            "Write tensor01, and `User ada` and `Port 22` in a block `Host tensor01` of the ssh config.",
        ),
        ("ssh://tensor01/data", "Write tensor01."),
    ],
)
def test_a_host_with_a_user_or_port_is_refused_with_the_lines_for_ssh(host: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match="is more than the name of a host") as refusal:
        nodes.node_from({"host": host}, "gpu")
    assert refusal.value.remedy == remedy


@pytest.mark.parametrize("host", ["tensor01.example.org", "fe80::1", "10.0.0.7"])
def test_names_and_addresses_are_hosts(host: str) -> None:
    assert nodes.node_from({"host": host}, "gpu").host == host
