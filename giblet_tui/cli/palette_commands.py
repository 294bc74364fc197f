"""Every verb as the dashboard's palette offers it, read from the command line itself, so that none is missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer

from giblet_tui.cli.app import app
from giblet_tui.dashboard.model.interfaces import How, PaletteCommand

SHOWN = frozenset({
    "ps", "status", "verdict", "why", "alerts", "report", "logs", "ladder", "doctor", "node ls", "node check",
    "config ls",
})  # fmt: skip
"""Verbs that only read: the palette shows what they print."""
KEYED = frozenset({"dashboard", "launch", "stop", "compare"})
"""Verbs that have a screen of their own here."""
TERMINAL = frozenset({"attach"})
FURTHER = {"logs": ("-n", "400")}
LIMIT_S = 120.0
PROGRAM = "import sys; from giblet_tui.cli import main; sys.exit(main())"


def verbs(run_id: str | None, node: str | None) -> Sequence[PaletteCommand]:
    """All of them, with the run and the node that are looked at as their arguments."""
    known = {"RUN": run_id, "RUN|LOG": run_id, "[NODE] RUN": run_id, "RUN...": run_id, "NODE": node}
    found = (_verb(words, command, known) for words, command in _commands(typer.main.get_command(app)))
    return [verb for verb in found if verb is not None]


def _verb(words: tuple[str, ...], command: Any, known: Mapping[str, str | None]) -> PaletteCommand | None:
    """One verb with its arguments; those that are not known here stay in capitals, for a shell to fill in."""
    name = " ".join(words)
    if name in KEYED:
        return None
    wanted = [one.metavar for one in command.params if one.param_type_name == "argument" and one.required]
    filled = tuple(known.get(one) or one for one in wanted)
    whole = all(known.get(one) for one in wanted)
    how: How = "show" if whole and name in SHOWN else "terminal" if whole and name in TERMINAL else "copy"
    return PaletteCommand((*words, *filled, *FURTHER.get(name, ())), command.get_short_help_str(200), how)


def argv(words: Sequence[str]) -> list[str]:
    """The command line of a verb of this very giblet."""
    return [sys.executable, "-c", PROGRAM, *words]


def output(words: Sequence[str]) -> list[str]:
    """What a verb prints, talk and data as they come; raises nothing, for its complaint is what there is to show."""
    try:
        done = subprocess.run(
            argv(words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return [f"giblet {' '.join(words)} did not end within {LIMIT_S:.0f} s.", "In a shell it may take its time."]
    return done.stdout.decode("utf-8", "replace").splitlines() or ["(nothing)"]


def _commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield words and click command of every verb; verbs of `node`, `data` and `config` with both words."""
    names = group.list_commands(None) if not before else sorted(group.list_commands(None))
    for name in names:
        command = group.get_command(None, name)
        if hasattr(command, "commands"):
            yield from _commands(command, (*before, name))
        elif not command.hidden:
            yield (*before, name), command
