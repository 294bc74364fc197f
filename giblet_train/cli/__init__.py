"""The engine's command line: `python -m giblet_train COMMAND`. Started on nodes by giblet, and by hand.

Data go to stdout, progress to stderr. User errors end with a message and an exit code, never with a traceback.
"""

from __future__ import annotations

import os
import sys

from giblet_train.cli.app import app
from giblet_train.schema.errors import FAILED, GibletError

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line. Exit codes are those of `schema.errors`."""
    try:
        app()
    except GibletError as error:
        print(f"giblet: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
