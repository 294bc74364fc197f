"""`giblet` as the fork server runs it: what every start would do again is done once, before the forks."""

from __future__ import annotations

from functools import cache
from importlib import import_module

import typer.main

from giblet_tui import cli
from giblet_tui.cli.commands import COMMANDS
from giblet_tui.cli.parser import program
from giblet_tui.connection.agent_protocol import packed_sources

for command in COMMANDS.values():
    if command.module != "dashboard":
        import_module(f"giblet_tui.cli.{command.module}")
for module in ("cli.run", "connection.agent_connection", "connection.local", "connection.ssh", "connection.terminal"):
    import_module(f"giblet_tui.{module}")

# A started giblet builds the commands of one module for the command-line library. Here all are imported.
typer.main.get_command = cache(typer.main.get_command)
typer.main.get_command(program)
packed_sources()


def main() -> None:
    """Run the command line."""
    cli.main()
