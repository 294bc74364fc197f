"""The engine's command line: a group that imports a command's module when the command runs."""

from __future__ import annotations

import gc
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from giblet_train.cli.commands import COMMANDS, GROUPS


class LazyGroup(TyperGroup):
    """A group whose commands are rows of `COMMANDS`."""

    def list_commands(self, ctx: object) -> list[str]:
        return [name.removeprefix(self._prefix) for name in COMMANDS if self._is_own(name)] + [*self.commands]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        name = self._prefix + cmd_name
        if cmd_name not in self.commands and name in COMMANDS and self._is_own(name):
            # What imports make stays: collections among them would look through it again and again, for a tenth of the
            # time that it takes to import torch, and later ones need not look at it either.
            gc.disable()
            module = import_module(f"giblet_train.cli.{COMMANDS[name].module}")
            gc.freeze()
            gc.enable()
            self.add_command(_command(cmd_name, getattr(module, cmd_name.replace("-", "_"))), cmd_name)
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the table of commands without importing any."""
        rows = [(name.removeprefix(self._prefix), row.about) for name, row in COMMANDS.items() if self._is_own(name)]
        groups = [] if self._prefix else [(name, about.rstrip(".")) for name, about in GROUPS.items()]
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, about in rows + groups if about])

    @property
    def _prefix(self) -> str:
        """Return what the names of this group's commands begin with in the table."""
        return f"{self.name} " if self.name in GROUPS else ""

    def _is_own(self, name: str) -> bool:
        return name.rpartition(" ")[0] == self._prefix.rstrip()


def _group(name: str, about: str) -> typer.Typer:
    """Return a group with plain help; a group without callback would become its only command."""
    group = typer.Typer(
        name=name,
        cls=LazyGroup,
        help=about,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    group.callback()(lambda: None)
    return group


def _command(name: str, function: Any) -> Any:
    """Return the click command of a function."""
    application = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    application.command(name)(function)
    return get_command(application)


app = _group("python -m giblet_train", "giblet's training engine: make a demo study, prepare data, train, evaluate.")
for _name, _about in GROUPS.items():
    app.add_typer(_group(_name, _about), name=_name)
