"""`giblet version`: the version of giblet on this machine and of the engine on a node."""

from __future__ import annotations

from typing import Annotated

import msgspec

from giblet_train.schema import version as engine_version
from giblet_train.schema.errors import PreflightRefused
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json
from giblet_tui.cli.completion import node_names
from giblet_tui.cli.console import print_data, show_json
from giblet_tui.cli.parameters import Argument, Exit
from giblet_tui.connection.connect import connect
from giblet_tui.connection.protocol import EngineFacts
from giblet_tui.deploy.install import engine_facts
from giblet_tui.inventory import nodes
from giblet_tui.reporting import SCHEMA


@command(app, "version", "giblet version", "giblet version tensor01", "giblet version tensor01 --json")
def version(
    name: Annotated[
        str | None, Argument(metavar="[NODE]", help="Also ask this node.", autocompletion=node_names)
    ] = None,
    json: Json = False,
) -> None:
    """Print the version of giblet here, and of the engine on a node. Include it in bug reports.

    Two machines run the same engine exactly if the engine ids are equal. Exit code 5 if the node has no engine or
    another one.
    """
    here = engine_version.facts()
    there = _ask(name) if name else None
    same = there is None or there.fingerprint == here["fingerprint"]
    if json:
        node = None if there is None else msgspec.to_builtins(there)
        show_json({"schema": SCHEMA, "here": here, "node": node, "same_engine": same})
    else:
        torch = f"torch {here['torch']}" if here["torch"] else "no torch"
        print_data(f"giblet {here['version']}, engine {here['fingerprint']}, Python {here['python']}, {torch}")
        if there is not None:
            print_data(
                f"{name}: {_sentence(there)}" + ("" if same else f"\n  To install this version: giblet setup {name}")
            )
    if not same:
        raise Exit(PreflightRefused.exit_code)


def _ask(name: str) -> EngineFacts:
    node = nodes.resolve(name)
    with connect(node) as connection:
        return engine_facts(node, connection)


def _sentence(engine: EngineFacts) -> str:
    if engine.problem:
        return engine.problem
    torch = f"torch {engine.torch}" if engine.torch else "no torch"
    return f"giblet {engine.version}, engine {engine.fingerprint}, {engine.python}, {torch}"
