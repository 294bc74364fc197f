"""`giblet mcp` and `giblet confirm`: programs that use tools read runs; changes are confirmed by a person."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from typing import Annotated

import msgspec

import giblet_train
from giblet_train.schema.errors import ConfigError, PreflightRefused
from giblet_tui.cli.app import app, command
from giblet_tui.cli.console import print_data, print_status
from giblet_tui.cli.palette_commands import argv
from giblet_tui.cli.parameters import Argument, Exit
from giblet_tui.connection.sanitize import sanitize
from giblet_tui.tool_server import change_requests
from giblet_tui.tool_server.change_requests import ChangeRequest
from giblet_tui.tool_server.protocol import ToolServer
from giblet_tui.tool_server.tools import INSTRUCTIONS, tools


@command(app, "mcp", "claude mcp add giblet -- giblet mcp", "giblet mcp < requests.jsonl")
def mcp() -> None:
    """Offer runs to a program that speaks the Model Context Protocol, on standard input and output.

    It reads only: runs, states, logs, causes, verdicts, what doctor says. To stop or launch something it leaves a
    request, which you confirm in a terminal with `giblet confirm`. Log texts are marked as data.
    """
    if sys.stdin.isatty():
        raise ConfigError(
            "`giblet mcp` is started by another program.", "For example: claude mcp add giblet -- giblet mcp"
        )
    server = ToolServer(giblet_train.__version__, INSTRUCTIONS)
    server.offer(tools(argv, lambda: server.client))
    server.serve(sys.stdin.buffer, sys.stdout.buffer)


@command(app, "confirm", "giblet confirm", "giblet confirm 3fa9c104")
def confirm(
    request_id: Annotated[str | None, Argument(metavar="[REQUEST]", help="Default: list all that wait.")] = None,
) -> None:
    """Decide on a change that a program asked for through `giblet mcp`; if you agree, it is done here and now.

    Needs a terminal. A request is valid for 10 minutes and is decided on once. Exit code 5 if you refuse.
    """
    now = time.time()
    if request_id is None:
        requests = change_requests.waiting(now)
        for waiting in requests:
            print_data(f"{waiting.request_id}  {_command_of(waiting)}")
        if not requests:
            print_status("No program asks for anything.")
        return
    request = change_requests.find(request_id)
    if request.decision != "waiting" or request.has_expired(now):
        raise ConfigError(f"{request_id} cannot be confirmed.", request.state(now))
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise PreflightRefused(
            "Only a person at a terminal can confirm.", f"In a terminal: giblet confirm {request_id}"
        )
    print_status(f"The program {request.client or 'without a name'} asks to run: {_command_of(request)}")
    print_status(f"Its reason: {sanitize(request.reason)}")
    print("Type yes to run it, anything else to refuse: ", end="", file=sys.stderr, flush=True)
    agreed = sys.stdin.readline().strip().lower() == "yes"
    request = change_requests.decide(request, "confirmed" if agreed else "refused")
    if not agreed:
        raise PreflightRefused("Refused; nothing was done.")
    code = subprocess.run(argv(request.words)).returncode
    change_requests.save(msgspec.structs.replace(request, exit_code=code))
    raise Exit(code)


def _command_of(request: ChangeRequest) -> str:
    return sanitize(shlex.join(("giblet", *request.words)))
