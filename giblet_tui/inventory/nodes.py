"""Known nodes: the built-in `local`, those in nodes.yaml, and hosts of the ssh config by their name.

`GIBLET_NODES` names another nodes.yaml, `GIBLET_SSH_CONFIG` another ssh config, `GIBLET_HOME` another working directory
for the node `local`: what tests and shared accounts need.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from giblet_train.schema.config import nearest
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.records import SessionKind
from giblet_train.schema.run_dir import replace_file
from giblet_train.schema.type_errors import type_error_in_words
from giblet_tui.inventory.ssh_hosts import HOST_PATTERN, hosts_of, is_reachable_name, names_host

LOCAL = "local"

_PATH_PATTERN = r"^(?:~/|/)[^\x00-\x1f\x7f]*$(?!\n)"
_HEADER = """\
# Nodes of giblet, in addition to `local` and the hosts of ~/.ssh/config. See configs/nodes.example.yaml for every key.
"""

Transport = Literal["local", "ssh", "openssh"]
Multiplexer = Literal["auto", SessionKind]
_HOST_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,254}$(?!\n)"
_GROUP_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}$(?!\n)"
_PATTERNS_IN_WORDS = {
    _HOST_PATTERN: "the name or address of a host: letters, digits and _ . : -",
    _GROUP_PATTERN: "the name of a Unix group",
}
HostName = Annotated[str, Meta(pattern=_HOST_PATTERN)]
GroupName = Annotated[str, Meta(pattern=_GROUP_PATTERN)]
NodePath = Annotated[str, Meta(pattern=_PATH_PATTERN)]


class Node(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One machine, and how giblet works there."""

    name: str
    host: HostName
    """Its name for ssh."""
    transport: Transport = "ssh"
    """ssh: giblet's own connection; openssh: the system's ssh (a shared master connection, GSSAPI, certificates)."""
    workdir: NodePath = "~/giblet"
    """The directory on the node for runs, data and environments."""
    python: NodePath | None = None
    """An interpreter there with this version of giblet and its [train] extra; None: the one `giblet setup` makes."""
    multiplexer: Multiplexer = "auto"
    """What a run's session lives in; auto: tmux, else screen, else a plain process. slurm: a job of the scheduler."""
    sbatch: tuple[str, ...] = ()
    """Options of every Slurm job from this node: `partition=gpu`, `time=24:00:00`."""
    ssh_config: NodePath | None = None
    """A file to use instead of ~/.ssh/config."""
    lab: GroupName | None = None
    """A Unix group of the node whose members may read your runs, and whose runs you see with `ps --all-users`."""
    address: HostName | None = None
    """Where other nodes of a run reach this one; None: as ssh does."""


def nodes_file() -> Path:
    """Return `$GIBLET_NODES`, else giblet/nodes.yaml under `$XDG_CONFIG_HOME` (~/.config)."""
    if path_text := os.environ.get("GIBLET_NODES"):
        return Path(path_text).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "giblet" / "nodes.yaml"


def ssh_config_file() -> Path:
    """Return `$GIBLET_SSH_CONFIG`, else ~/.ssh/config."""
    return Path(os.environ.get("GIBLET_SSH_CONFIG") or "~/.ssh/config").expanduser().absolute()


def known_nodes() -> tuple[Node, ...]:
    """Return `local`, then the nodes of nodes.yaml in its order: the default of commands. Raises ConfigError."""
    nodes_of_file = _read_file(nodes_file())
    local = nodes_of_file.pop(LOCAL) if LOCAL in nodes_of_file else _local()
    return (local, *nodes_of_file.values())


def resolve(name: str) -> Node:
    """Return the node of that name: `local`, one in nodes.yaml, else a host of the ssh config.

    Raises ConfigError with the nearest names if there is none.
    """
    by_name = {node.name: node for node in known_nodes()}
    if name in by_name:
        return by_name[name]
    config = ssh_config_file()
    if re.fullmatch(HOST_PATTERN, name) and names_host(name, config):
        return _ssh_node(name)
    from giblet_tui.inventory import configs  # only after a mistake: `giblet ps` does not need it

    hosts = hosts_of(config)
    if name in configs.known() and name not in (*by_name, *hosts):
        raise ConfigError(
            f"{name!r} is a configuration; a node is expected here.", "The node comes first: NODE CONFIG."
        )
    if re.fullmatch(HOST_PATTERN, name) and is_reachable_name(name, config):
        return _ssh_node(name)
    check_name(name)
    raise ConfigError(
        f"No node is called {name!r}{nearest(name, [*by_name, *hosts]) or '.'}",
        f"Known: {', '.join([*by_name, *(host for host in hosts if host not in by_name)])}. "
        f"Add a `Host {name}` block to {config}, or: giblet node add {name} --host HOST",
    )


def resolve_all(names: str) -> list[Node]:
    """Return the nodes of `tensor01,tensor02`, in order. Raises ConfigError as `resolve`."""
    return [resolve(name.strip()) for name in names.split(",")]


def add(node: Node) -> Path:
    """Append a node to nodes.yaml and return the file's path; other lines and comments stay unchanged.

    Raises ConfigError if the name is taken or invalid.
    """
    check_name(node.name)
    path = nodes_file()
    if node.name in _read_file(path):
        raise ConfigError(f"The node {node.name} is already in {path}.", f"To replace it: giblet node rm {node.name}")
    old = path.read_text(encoding="utf-8") if path.exists() else _HEADER
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, (old.rstrip("\n") + "\n\n" + _block(node)).encode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.", "Set XDG_CONFIG_HOME to a folder.") from None
    return path


def remove(name: str) -> Path:
    """Remove a node from nodes.yaml; nothing on the node changes. Raises ConfigError if it is not there."""
    path = nodes_file()
    nodes_of_file = _read_file(path)
    if name not in nodes_of_file:
        raise ConfigError(f"No node {name!r} in {path}{nearest(name, list(nodes_of_file)) or '.'}", "giblet node ls")
    from giblet_train.schema import yaml_io

    text = path.read_text(encoding="utf-8")
    shorter = re.sub(rf"(?m)^(['\"]?){re.escape(name)}\1\s*:.*\n?(?:^[ \t]+.*\n?|^\n(?=[ \t\n]))*", "", text)
    remaining = yaml_io.load_text(shorter, str(path))
    if remaining != {k: v for k, v in yaml_io.load_text(text, str(path)).items() if k != name}:
        raise ConfigError(f"{path} is laid out in a way that giblet cannot edit.", f"Remove {name} from it by hand.")
    replace_file(path, shorter.encode())
    return path


def node_from(value: Any, name: str, where: str = "node") -> Node:
    """Build a node from its mapping in nodes.yaml. Raises ConfigError that begins with `where`."""
    check_name(name)
    value = {} if value is None else value
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: {name} does not consist of `key: value` lines.", "For example: workdir: ~/giblet")
    fields = [f for f in Node.__struct_fields__ if f != "name"]
    for key in value:
        if key not in fields:
            raise ConfigError(
                f'{where}: unknown key "{name}.{key}"{nearest(str(key), fields) or "."}', f"Keys: {', '.join(fields)}."
            )
    _check_host(value.get("host"), f"{where}: {name}")
    try:
        if name == LOCAL or value.get("transport") == "local":
            own = {"host": "localhost", "transport": "local", "workdir": _local_workdir()}
            return msgspec.convert({"name": name, **own, **value}, Node)
        return _ssh_node(name, **value)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {name}: {_in_words(str(error))}") from None


def check_name(name: str) -> None:
    """Raise ConfigError if a node cannot have that name."""
    if not re.fullmatch(HOST_PATTERN, name):
        remedy = "Use at most 63 letters, digits, _ . and -, not starting with . or -."
        if len(name) > 63 and re.fullmatch(_HOST_PATTERN, name):
            remedy = f"Give it a shorter one: giblet node add NAME --host {name}"
        parts = re.fullmatch(r"(?:\w+://)?(?:[^@/]+@)?([A-Za-z0-9_.-]+)(?::.*|/.*)?", name)
        if parts and parts[1] != name and re.fullmatch(HOST_PATTERN, parts[1]):
            remedy = (
                f"Name it {parts[1]}; user and port belong in a Host block of the ssh config, and a folder in the "
                "node's workdir."
            )
        raise ConfigError(f"{name!r} cannot name a node.", remedy)


def _check_host(host: Any, where: str) -> None:
    """Raise ConfigError if a host has a user, a port or a scheme, as in `ada@tensor01:2222`."""
    form = r"(?:\w+://)?(?:(?P<User>[^@:/\s]+)@)?(?P<name>[^@:/\s]+)(?::(?P<Port>\d+))?(?:/.*)?"
    match = re.fullmatch(form, host) if isinstance(host, str) else None
    if match is None or match["name"] == host:
        return
    lines = [f"`{key} {match[key]}`" for key in ("User", "Port") if match[key]]
    block = f", and {' and '.join(lines)} in a block `Host {match['name']}` of the ssh config" if lines else ""
    raise ConfigError(f"{where}: host {host} is more than the name of a host.", f"Write {match['name']}{block}.")


def _local() -> Node:
    return Node(name=LOCAL, host="localhost", transport="local", workdir=_local_workdir())


def _local_workdir() -> str:
    return str(Path(os.environ.get("GIBLET_HOME") or "~/giblet").expanduser().absolute())


def _ssh_node(name: str, **values: Any) -> Node:
    if "GIBLET_SSH_CONFIG" in os.environ:
        values.setdefault("ssh_config", str(ssh_config_file()))
    return msgspec.convert({"name": name, "host": name, **values}, Node)


def _read_file(path: Path) -> dict[str, Node]:
    if not os.path.lexists(path):  # a link to nowhere is an error
        return {}
    from giblet_train.schema import yaml_io  # as expensive as all records, and without the file needless

    values = yaml_io.load_file(path)
    if None in values:
        raise ConfigError(f"{path}: a node has no name before its colon.", "Write its name there, or remove it.")
    return {str(name): node_from(value, str(name), str(path)) for name, value in values.items()}


def _in_words(error: str) -> str:
    what, _, where = error.partition(" - at `$.")
    if f"matching regex {_PATH_PATTERN!r}" in what:
        what = "Expected a path that starts with / or ~/"
    for pattern, words in _PATTERNS_IN_WORDS.items():
        what = what.replace(f"`str` matching regex {pattern!r}", words)
    if choice := re.fullmatch(r"Invalid enum value (.*)", what):
        what = f"{choice[1]} is none of its values"
    what = type_error_in_words(what)
    return f"{where.rstrip('`')}: {what}." if where else f"{what}."


def _block(node: Node) -> str:
    from giblet_train.schema import yaml_io

    values = {field.name: getattr(node, field.name) for field in msgspec.structs.fields(Node)}
    defaults = {field.name: field.default for field in msgspec.structs.fields(Node) if not field.required}
    own = {key: value for key, value in values.items() if key != "name" and defaults.get(key, ...) != value}
    return yaml_io.dump({node.name: own})
