"""`giblet node`, `setup` and `doctor`: which machines there are, and whether they can train."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import msgspec

from giblet_train.schema.config import Config
from giblet_train.schema.errors import GibletError, PreflightRefused
from giblet_tui.agent.sessions import BACKENDS
from giblet_tui.cli.app import app, command, node_app
from giblet_tui.cli.arguments import Json, NodeName, OptionalNodes
from giblet_tui.cli.completion import config_names
from giblet_tui.cli.console import print_data, print_status, show_json, style
from giblet_tui.cli.parameters import Argument, Exit, Option
from giblet_tui.connection.base import Connection
from giblet_tui.connection.connect import connect
from giblet_tui.connection.protocol import NodeProbe
from giblet_tui.deploy import install
from giblet_tui.errors import Unreachable
from giblet_tui.inventory import configs, nodes
from giblet_tui.inventory.nodes import Multiplexer, Node, Transport
from giblet_tui.inventory.ssh_hosts import hosts_of
from giblet_tui.inventory.user import current_user
from giblet_tui.launch import preflight
from giblet_tui.launch.finding import Finding
from giblet_tui.launch.request import LaunchRequest
from giblet_tui.monitor import cache
from giblet_tui.reporting import SCHEMA
from giblet_tui.reporting.doctor import doctor_json, finding_lines
from giblet_tui.reporting.tables import table

MARK_COLORS = {"✔": "green", "?": "yellow", "!": "red", "✖": "red"}


@command(
    node_app,
    "add",
    "giblet node add tensor01",
    "giblet node add lab1 --host tensor01.example.org --workdir /data/me/giblet",
    "giblet node add tensor02 --python '~/miniconda3/envs/giblet/bin/python' --session screen",
)
def add(
    name: Annotated[str, Argument(metavar="NAME", help="Your name for the node.")],
    host: Annotated[str | None, Option(help="Its name for ssh; default: NAME.")] = None,
    workdir: Annotated[str, Option(help="The directory on the node for runs and data.")] = "~/giblet",
    python: Annotated[
        str | None, Option(help="A Python interpreter there that has giblet; default: the one `setup` makes.")
    ] = None,
    session: Annotated[Multiplexer, Option(help="What its runs live in.")] = "auto",
    transport: Annotated[
        Transport, Option(help="ssh, openssh (the system's own ssh), or local (this machine).")
    ] = "ssh",
    json: Json = False,
) -> None:
    """Add a node to nodes.yaml. A host of ~/.ssh/config works without this."""
    values = {
        "host": host or name,
        "workdir": workdir,
        "python": python,
        "multiplexer": session,
        "transport": transport,
    }
    node = nodes.node_from({key: value for key, value in values.items() if value is not None}, name)
    path = nodes.add(node)
    print_status(f"{name} is in {path}. Next: giblet {'doctor' if python else 'setup'} {name}")
    if json:
        show_json({"schema": SCHEMA, "path": str(path), "node": msgspec.to_builtins(node)})


@command(node_app, "ls", "giblet node ls", "giblet node ls --json")
def list_nodes(json: Json = False) -> None:
    """List nodes and how giblet reaches them; opens no connection."""
    known_nodes = nodes.known_nodes()
    if json:
        show_json({"schema": SCHEMA, "nodes": [msgspec.to_builtins(node) for node in known_nodes]})
        return
    rows = [(n.name, n.transport, n.host, n.workdir, n.python or "by setup", n.multiplexer) for n in known_nodes]
    print_data(table(("NODE", "BY", "HOST", "WORKDIR", "PYTHON", "SESSIONS"), rows))
    names = {node.name for node in known_nodes}
    if others := [host for host in hosts_of(nodes.ssh_config_file()) if host not in names]:
        print_status(f"Also usable, from {nodes.ssh_config_file()}: {', '.join(others)}")


@command(node_app, "rm", "giblet node rm tensor02")
def remove(name: NodeName, json: Json = False) -> None:
    """Remove a node from nodes.yaml. Nothing on the node itself changes."""
    path = nodes.remove(name)
    print_status(f"{name} is no longer in {path}.")
    if json:
        show_json({"schema": SCHEMA, "path": str(path), "node": name})


@command(node_app, "check", "giblet node check", "giblet node check tensor01 tensor02 --json")
def check(names: OptionalNodes = None, json: Json = False) -> None:
    """Connect to all nodes at once and list what they have. Exit code 3 if one cannot be reached."""
    selection = [nodes.resolve(name) for name in names] if names else list(nodes.known_nodes())
    with ThreadPoolExecutor(max_workers=len(selection)) as pool:
        answers = list(pool.map(_probe, selection))
    if json:
        show_json({"schema": SCHEMA, "nodes": answers})
    for answer in answers if not json else ():
        print_data(_check_line(answer))
    if not all(answer["reachable"] for answer in answers):
        raise Exit(Unreachable.exit_code)


@command(
    app,
    "setup",
    "giblet setup tensor01",
    "giblet setup tensor01 --wheelhouse ~/wheels",
    "giblet setup tensor01 --with transformers --with ./ourlab",
)
def setup(
    name: NodeName,
    wheelhouse: Annotated[
        Path | None,
        Option(help="For a node without network: send the wheels of this folder; if it is new, fill it first."),
    ] = None,
    packages: Annotated[
        list[str] | None,
        Option("--with", metavar="PACKAGE", help="Also install a package there: a name, a folder, a wheel."),
    ] = None,
    json: Json = False,
) -> None:
    """Install this version of giblet on a node, in an environment of its own; does nothing if it is there.

    A node with `python:` in nodes.yaml has its own environment; setup only checks its version. `--with` adds packages,
    such as transformers or a lab's extractor of features; those that giblet needs keep their versions.
    """
    node = nodes.resolve(name)
    with connect(node) as connection:
        folder = wheelhouse.expanduser() if wheelhouse else None
        environment = install.setup(node, connection, print_status, folder)
        if packages:
            environment = install.add_packages(node, connection, packages, print_status, folder)
    remember(node)
    if json:
        show_json({"schema": SCHEMA, "node": name, **msgspec.to_builtins(environment)})
    else:
        print_data(
            f"{name} has giblet {environment.version} ({environment.fingerprint}), torch {environment.torch}:"
            f" {environment.python}"
        )
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
        Argument(metavar="[CONFIG]", help="Check for a run of this too.", autocompletion=config_names),
    ] = None,
    json: Json = False,
) -> None:
    """Check a node in one connection; each problem comes with its remedy. Exit code 5 if a launch would fail.

    With a configuration, also check its data there, and the space for its checkpoints and processes, judged by earlier
    runs of its name.
    """
    node = nodes.resolve(name)
    source = None if config is None else configs.read(config, ())
    with connect(node) as connection:
        if not json:
            print_data(f"{style('✔', 'green')} reached: {node.name} ({node.host}) by {node.transport}")
        findings = _findings(node, connection, None if source is None else source.config)
    if json:
        show_json(doctor_json(node, findings))
    else:
        print_findings(findings, print_data)
    if any(finding.needed and not finding.well for finding in findings):
        raise Exit(PreflightRefused.exit_code)


def _findings(node: Node, connection: Connection, config: Config | None) -> list[Finding]:
    answer, skew_s = preflight.observe(node, connection, config)
    engine = preflight.engine_of(node, answer)
    device = "auto" if config is None else config.device
    findings = preflight.check_node(node, answer.probe, engine, skew_s, device)
    if config is not None:
        request = LaunchRequest(config=config, launched_by=current_user())
        findings += preflight.check_run(request, answer.probe, answer.files, cache.load().runs())
    return findings


def print_findings(findings: Sequence[Finding], write: Callable[[str], None]) -> None:
    """Print each finding with its mark, and its remedy if it is not well."""
    for finding in findings:
        line, remedy = finding_lines(finding)
        write("\n".join([f"{style(finding.mark, MARK_COLORS[finding.mark])} {line}", *remedy]))


def remember(node: Node) -> None:
    """Add a host of the ssh config that was used to nodes.yaml, and print that."""
    if node.name not in {known_node.name for known_node in nodes.known_nodes()}:
        print_status(f"{node.name}, a host of {nodes.ssh_config_file()}, is now in {nodes.add(node)}.")


def _probe(node: Node) -> dict[str, Any]:
    began = time.monotonic()
    try:
        with connect(node) as connection:
            probe = connection.call("probe", {"workdir": node.workdir}, NodeProbe)
    except GibletError as error:
        return {"node": node.name, "reachable": False, "why": str(error)}
    seconds = round(time.monotonic() - began, 3)
    return {"node": node.name, "reachable": True, "seconds": seconds, "facts": msgspec.to_builtins(probe)}


def _check_line(answer: dict[str, Any]) -> str:
    if not answer["reachable"]:
        return f"{style('✖', 'red')} {answer['node']}: {answer['why']}"
    facts = answer["facts"]
    terminals = [kind for kind in facts["session_kinds"] if BACKENDS[kind].has_terminal]
    multiplexers = " and ".join(terminals) or "neither tmux nor screen"
    n_gpus = len(facts.get("gpus") or [])
    return f"{style('✔', 'green')} {answer['node']}: {answer['seconds']:.2f} s, {multiplexers}, {n_gpus} GPUs"
