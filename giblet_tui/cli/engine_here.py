"""Run an engine command on files of one machine, and show what it prints."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Collection, Sequence
from pathlib import Path

from giblet_tui.cli.console import print_data, print_status, show_json
from giblet_tui.cli.parameters import Exit
from giblet_tui.connection.connect import connect
from giblet_tui.connection.sanitize import sanitize, sanitize_value
from giblet_tui.deploy import engine_command
from giblet_tui.inventory import nodes

LOCAL = "local"


def run_here(argv: Sequence[str], json: bool, paths: Collection[int], node_name: str = LOCAL) -> None:
    """Run `python -m giblet_train ARGV` on a machine; exit with its code if that is not 0.

    Args:
        argv: words of the engine's command line.
        json: print its output as one JSON object.
        paths: positions in argv of files: relative to the current folder here, to the node's workdir on another.
        node_name: machine that has the files and runs the command.
    """
    node = nodes.resolve(node_name)
    words = list(argv)
    if node_name == LOCAL:
        words = [str(Path(word).expanduser().absolute()) if n in paths else word for n, word in enumerate(argv)]
    with connect(node) as connection:
        result = engine_command.run_engine_command(
            node, connection, [*words, *(["--json"] if json else [])], "", print_status
        )
    if result.printed.strip():
        if json:
            show_json(sanitize_value(jsonlib.loads(result.printed)))
        else:
            print_data("\n".join(sanitize(line) for line in result.printed.rstrip("\n").split("\n")))
    if result.code:
        raise Exit(result.code if result.code > 0 else 1)
