"""Every command as the dashboard's palette offers it, read from the command line itself so that none is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from typer.main import get_command

from giblet_tui.cli.parser import program
from giblet_tui.dashboard.model.interfaces import How, PaletteCommand

SHOWN = frozenset({
    "ps", "status", "verdict", "why", "alerts", "report", "logs", "ladder", "doctor", "node ls", "node check",
    "config ls", "version", "evaluate",
})  # fmt: skip
"""Commands that only read: the palette shows their output."""
KEYED = frozenset({"dashboard", "launch", "stop", "compare"})
"""Commands that have their own screen in the dashboard."""
TERMINAL = frozenset({"attach"})
FURTHER = {"logs": ("-n", "400")}
PROGRAM = "import sys; from giblet_tui.cli import main; sys.exit(main())"


def verbs(run_id: str | None, node: str | None) -> Sequence[PaletteCommand]:
    """Return all commands, with the selected run and node as their arguments."""
    values = {"RUN": run_id, "RUN|LOG": run_id, "[NODE] RUN": run_id, "RUN...": run_id, "NODE": node}
    commands = (_verb(words, command, values) for words, command in _commands(get_command(program)))
    return [command for command in commands if command is not None]


def _verb(words: tuple[str, ...], command: Any, values: Mapping[str, str | None]) -> PaletteCommand | None:
    """Return a command with its arguments; unknown ones stay in capitals, to be filled in in a shell."""
    name = " ".join(words)
    if name in KEYED:
        return None
    metavars = [p.metavar for p in command.params if p.param_type_name == "argument" and p.required]
    arguments = tuple(values.get(metavar) or metavar for metavar in metavars)
    complete = all(values.get(metavar) for metavar in metavars)
    how: How = "show" if complete and name in SHOWN else "terminal" if complete and name in TERMINAL else "copy"
    return PaletteCommand((*words, *arguments, *FURTHER.get(name, ())), command.get_short_help_str(200), how)


def argv(words: Sequence[str]) -> list[str]:
    """Return the command line of a command of this giblet."""
    return [sys.executable, "-c", PROGRAM, *words]


def output(words: Sequence[str], show: Callable[[str], None], end: threading.Event) -> None:
    """Run a command and call `show` with each line that it prints, messages and data in their order.

    There is no time limit: an evaluation takes minutes. The command ends early once `end` is set; what it began on a
    node continues there.
    """
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        argv(words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    ) as process:
        assert process.stdout is not None
        threading.Thread(target=_terminate_when, args=(end, process), daemon=True).start()
        for line in process.stdout:
            show(line.decode("utf-8", "replace").rstrip("\r\n"))
    end.set()


def _terminate_when(end: threading.Event, process: subprocess.Popen[bytes]) -> None:
    end.wait()
    if process.poll() is None:
        process.terminate()


def _commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield words and click command of every verb; verbs of `node`, `data` and `config` with both words."""
    names = group.list_commands(None) if not before else sorted(group.list_commands(None))
    for name in names:
        command = group.get_command(None, name)
        if hasattr(command, "commands"):
            yield from _commands(command, (*before, name))
        elif not command.hidden:
            yield (*before, name), command
