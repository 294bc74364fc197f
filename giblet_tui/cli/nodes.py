"""`giblet node`, `setup` and `doctor`: which machines there are, and whether they can train."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from giblet_tui.cli.app import app, command, node_app
from giblet_tui.cli.completion import config_names, node_names
from giblet_tui.cli.console import print_data, print_status, show_json, style

if TYPE_CHECKING:
    from giblet_train.schema.config import Config
    from giblet_tui.connection.base import Connection
    from giblet_tui.inventory.nodes import Node
    from giblet_tui.reporting.doctor import Finding

NodeName = Annotated[
    str, typer.Argument(metavar="NODE", help="local, one of nodes.yaml, or a Host.", autocompletion=node_names)
]
NodeNames = Annotated[
    list[str] | None, typer.Argument(metavar="[NODE]...", help="All nodes if none.", autocompletion=node_names)
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@command(
    node_app,
    "add",
    "giblet node add tensor01",
    "giblet node add lab1 --host tensor01.example.org --workdir /data/me/giblet",
    "giblet node add tensor02 --python '~/miniconda3/envs/giblet/bin/python' --session screen",
)
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What you call it.")],
    host: Annotated[str | None, typer.Option(help="The name that ssh knows it by; NAME if not given.")] = None,
    workdir: Annotated[str, typer.Option(help="Where runs and data lie on the node.")] = "~/giblet",
    python: Annotated[str | None, typer.Option(help="An interpreter there that has giblet; else `setup`.")] = None,
    session: Annotated[
        Literal["auto", "tmux", "screen", "process"], typer.Option(help="What holds its runs.")
    ] = "auto",
    transport: Annotated[
        Literal["ssh", "openssh", "local"],
        typer.Option(help="ssh; openssh: by the system's own ssh; local: this machine."),
    ] = "ssh",
) -> None:
    """Write a node into nodes.yaml. A host of ~/.ssh/config works without this."""
    from giblet_tui.inventory import nodes

    values = {
        "host": host or name,
        "workdir": workdir,
        "python": python,
        "multiplexer": session,
        "transport": transport,
    }
    node = nodes.node_from({k: v for k, v in values.items() if v is not None}, name)
    print_status(f"{name} is in {nodes.add(node)}. Next: giblet setup {name}")


@command(node_app, "ls", "giblet node ls", "giblet node ls --json")
def list_nodes(json: Json = False) -> None:
    """List known nodes and how giblet reaches them; no connection is opened."""
    import msgspec

    from giblet_tui.inventory import nodes
    from giblet_tui.inventory.ssh_hosts import hosts_of
    from giblet_tui.reporting.formatting import table
    from giblet_tui.reporting.json_output import SCHEMA

    known = nodes.known_nodes()
    if json:
        show_json({"schema": SCHEMA, "nodes": [msgspec.to_builtins(n) for n in known]})
        return
    rows = [(n.name, n.transport, n.host, n.workdir, n.python or "by setup", n.multiplexer) for n in known]
    print_data(table(("NODE", "BY", "HOST", "WORKDIR", "PYTHON", "SESSIONS"), rows))
    if others := [h for h in hosts_of(nodes.ssh_config_file()) if h not in {n.name for n in known}]:
        print_status(f"Also usable, from {nodes.ssh_config_file()}: {', '.join(others)}")


@command(node_app, "rm", "giblet node rm tensor02")
def remove(name: NodeName) -> None:
    """Take a node out of nodes.yaml. Nothing on the node itself changes."""
    from giblet_tui.inventory import nodes

    print_status(f"{name} is no longer in {nodes.remove(name)}.")


@command(node_app, "check", "giblet node check", "giblet node check tensor01 tensor02 --json")
def check(names: NodeNames = None, json: Json = False) -> None:
    """Reach every node at once: can we log in, what is there. Exit code 3 when one cannot be reached."""
    from concurrent.futures import ThreadPoolExecutor

    from giblet_tui.errors import Unreachable
    from giblet_tui.inventory import nodes
    from giblet_tui.reporting.json_output import SCHEMA

    which = [nodes.resolve(n) for n in names] if names else list(nodes.known_nodes())
    with ThreadPoolExecutor(max_workers=len(which)) as pool:
        answers = list(pool.map(_probe, which))
    if json:
        show_json({"schema": SCHEMA, "nodes": answers})
    for answer in answers if not json else ():
        print_data(_check_line(answer))
    if not all(answer["reachable"] for answer in answers):
        raise typer.Exit(Unreachable.exit_code)


@command(app, "setup", "giblet setup tensor01", "giblet setup tensor01 --wheelhouse ~/wheels")
def setup(
    name: NodeName,
    wheelhouse: Annotated[
        Path | None,
        typer.Option(help="For a node without network: wheels of this folder are sent; a new one is filled first."),
    ] = None,
) -> None:
    """Put this very version of giblet on a node, into an environment of its own; nothing to do is success.

    A node with `python:` in nodes.yaml brings its own environment; its version is then only checked.
    """
    from giblet_tui.connection.connect import connect
    from giblet_tui.deploy.install import setup as make
    from giblet_tui.inventory import nodes

    node = nodes.resolve(name)
    with connect(node) as connection:
        found = make(node, connection, print_status, wheelhouse.expanduser() if wheelhouse else None)
    remember(node)
    print_data(f"{name} has giblet {found.version} ({found.fingerprint}), torch {found.torch}: {found.python}")
    print_status(f"Next: giblet launch {name} demo")


@command(
    app,
    "doctor",
    "giblet doctor tensor01",
    "giblet doctor tensor01 production_500epoch",
    "giblet doctor tensor01 --json | jq '.findings[] | select(.well | not)'",
)
def doctor(
    name: NodeName,
    config: Annotated[
        str | None,
        typer.Argument(metavar="[CONFIG]", help="Also whether a run of it fits.", autocompletion=config_names),
    ] = None,
    json: Json = False,
) -> None:
    """Look a node over in one visit; each line that is not well says what to do. Exit code 5 if a launch would fail.

    With a configuration also: its data there, and room for its checkpoints and processes, by earlier runs of its name.
    """
    from giblet_train.schema.errors import GibletError, PreflightRefused
    from giblet_tui.connection.connect import connect
    from giblet_tui.deploy.install import environment
    from giblet_tui.inventory import configs, nodes
    from giblet_tui.monitor import cache
    from giblet_tui.reporting.doctor import doctor_json, findings, needs

    node = nodes.resolve(name)
    loaded = None if config is None else configs.read(config, ())
    with connect(node) as connection:
        if not json:
            print_data(f"{style('✔', 'green')} reached: {node.name} ({node.host}) by {node.transport}")
        probe = connection.call("probe", {"workdir": node.workdir})
        skew_s = float(probe["now"]) - time.time()
        try:
            engine: Any = environment(node, connection)
        except GibletError as error:
            engine = error
        found = findings(node, probe, engine, skew_s)
        if loaded is not None:
            found += needs(loaded.config, probe, cache.load().runs())
            if not isinstance(engine, GibletError):
                found.append(_data(node, connection, loaded.config))
    if json:
        show_json(doctor_json(node, found))
    for finding in found if not json else ():
        mark = style("✔", "green") if finding.well else style("✖" if finding.needed else "!", "red")
        print_data(
            f"{mark} {finding.name}: {finding.sentence}" + (f"\n    {finding.remedy}" if not finding.well else "")
        )
    if any(finding.needed and not finding.well for finding in found):
        raise typer.Exit(PreflightRefused.exit_code)


def _data(node: Node, connection: Connection, config: Config) -> Finding:
    from giblet_train.schema.config import dump
    from giblet_tui.deploy import engine_command
    from giblet_tui.reporting import doctor

    said: list[str] = []
    argv = ["data", "check", "-", "--workdir", node.workdir, "--json"]
    done = engine_command.run_engine_command(node, connection, argv, dump(config), said.append)
    return doctor.data(done.code, said, f"giblet data check {node.name} {config.name}")


def remember(node: Node) -> None:
    """A host of the ssh config that was used is looked at from now on: it goes into nodes.yaml, and that is said."""
    from giblet_tui.inventory import nodes

    if node.name not in {known.name for known in nodes.known_nodes()}:
        print_status(f"{node.name}, a host of {nodes.ssh_config_file()}, is now in {nodes.add(node)}.")


def _probe(node: Node) -> dict[str, Any]:
    from giblet_train.schema.errors import GibletError
    from giblet_tui.connection.connect import connect
    from giblet_tui.connection.sanitize import sanitize_value

    began = time.monotonic()
    try:
        with connect(node) as connection:
            facts = sanitize_value(connection.call("probe", {"workdir": node.workdir}))
    except GibletError as error:
        return {"node": node.name, "reachable": False, "why": str(error)}
    return {"node": node.name, "reachable": True, "seconds": round(time.monotonic() - began, 3), "facts": facts}


def _check_line(answer: dict[str, Any]) -> str:
    if not answer["reachable"]:
        return f"{style('✖', 'red')} {answer['node']}: {answer['why']}"
    facts = answer["facts"]
    holders = " and ".join(m for m in ("tmux", "screen") if facts.get(m)) or "neither tmux nor screen"
    gpus = len(facts.get("gpus") or [])
    return f"{style('✔', 'green')} {answer['node']}: {answer['seconds']:.2f} s, {holders}, {gpus} GPUs"
