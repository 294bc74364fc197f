"""Write the help of `giblet` as the command line prints it: `python -m tools.help_text > giblet_tui/cli/help.txt`."""

from __future__ import annotations

import os

from typer.main import get_command

from giblet_tui.cli.parser import program


def main() -> None:
    os.environ["COLUMNS"] = "80"  # the library wraps its text to the terminal
    command = get_command(program)
    print(command.get_help(command.make_context("giblet", [], resilient_parsing=True)))


if __name__ == "__main__":
    main()
