"""What reaches the terminal: data on stdout, talk on stderr, made harmless, coloured only where a person looks."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from giblet_train.schema.errors import GibletError

_COLOURS = {"green": 32, "yellow": 33, "red": 31, "blue": 36, "dim": 2, "bold": 1}


def print_data(text: str) -> None:
    """Data, on stdout."""
    print(text, flush=True)


def show_json(value: Mapping[str, Any]) -> None:
    """One JSON object on one line of stdout; a number that JSON cannot say is null."""
    from giblet_tui.reporting.json_output import nan_to_null

    print(json.dumps(nan_to_null(dict(value)), ensure_ascii=True, allow_nan=False), flush=True)


def print_status(sentence: str) -> None:
    """Talk, on stderr."""
    from giblet_tui.connection.sanitize import sanitize

    for line in sentence.split("\n"):
        print(sanitize(line), file=sys.stderr, flush=True)


def print_error(error: GibletError) -> None:
    """An error as its sentence and its remedy, on stderr."""
    print_status(f"giblet: {error}")


def style(text: str, colour: str) -> str:
    """The text in a colour of stdout's terminal; the bare text off a terminal, under NO_COLOR or on a dumb one."""
    if not colour or not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def columns() -> int | None:
    """How wide the terminal is that stdout goes to; None off a terminal, where nothing is cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def current_user() -> str:
    """Who is at this terminal: `user@machine`."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def confirm(question: str) -> bool:
    """A yes or no from the person at the terminal; no when nobody is there. Only `y` or `yes` is yes."""
    return prompt_line(f"{question} [y/N]").lower() in ("y", "yes")


def prompt_line(question: str) -> str:
    """A line from the person at the terminal; empty when nobody is there."""
    if not sys.stdin.isatty():
        return ""
    print(f"{question} ", end="", file=sys.stderr, flush=True)
    typed = ""
    try:
        typed = sys.stdin.readline()
    finally:
        if not typed.endswith("\n"):  # Ctrl-C or Ctrl-D: what comes next begins a line of its own
            print(file=sys.stderr, flush=True)
    return typed.strip()


def answer_login_prompt(heading: str, prompts: Sequence[tuple[str, bool]]) -> list[str]:
    """What a server asks at a login, answered at this terminal; unseen, unless the server says it may be seen."""
    print_status(heading)
    answers = []
    for prompt, echo in prompts:
        try:
            answers.append(prompt_line(prompt) if echo else getpass.getpass(f"{prompt.rstrip()} ", stream=sys.stderr))
        except EOFError:
            answers.append("")
    return answers


def next_commands(run_id: str, *, live: bool) -> str:
    """The three commands that one wants next."""
    last = f"giblet stop {run_id}" if live else f"giblet pull {run_id}"
    follow = f"giblet logs {run_id}{' -f' if live else ''}"
    return f"next:\n  {follow}\n  giblet status {run_id}\n  {last}"
