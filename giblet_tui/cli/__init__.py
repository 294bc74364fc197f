"""The command line: one module per family of commands. `main` is the console script `giblet`.

What it prints for `--help` and `--version` is known without parsing: it is written at once, because importing the
command-line library takes five times as long as starting Python.
"""

from __future__ import annotations

import os
import sys

from giblet_train import __version__
from giblet_train.schema.errors import INTERRUPTED

HELP_FILE = os.path.join(os.path.dirname(__file__), "help.txt")
"""The help of `giblet`, as the command-line library writes it: `python -m tools.help_text`."""
HELP_COLUMNS = 80


def main() -> None:
    """Run the command line; the process ends with the exit code that `giblet --help` documents."""
    try:
        if not _print_known(sys.argv[1:]):
            from giblet_tui.cli.run import run

            run()
    except KeyboardInterrupt:  # anywhere: the imports take most of a short command's time
        sys.exit(INTERRUPTED)


def _print_known(words: list[str]) -> bool:
    """Print what needs no parsing; return False if these words do, or if the output has a problem to report."""
    try:
        if words in (["--version"], ["-V"]):
            text = f"giblet {__version__}\n"
        elif words in (["--help"], ["-h"]) and _columns() >= HELP_COLUMNS:
            with open(HELP_FILE, encoding="utf-8") as file:
                text = file.read()
        else:
            return False
        sys.stdout.write(text)
        sys.stdout.flush()
    except (AttributeError, OSError, ValueError):  # closed, full, no reader, or an encoding without the characters
        return False
    return True


def _columns() -> int:
    """Return the width of the terminal as the command-line library sees it."""
    if os.environ.get("COLUMNS", "").isdecimal():
        return int(os.environ["COLUMNS"])
    try:
        return os.get_terminal_size(1).columns
    except OSError:
        return HELP_COLUMNS
