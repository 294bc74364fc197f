"""The register of commands: how a module adds its commands, and how they are found again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

from giblet_tui.cli.commands import COMMANDS

Function = TypeVar("Function", bound=Callable[..., Any])


class Verb(NamedTuple):
    """A command."""

    function: Callable[..., Any]
    """Carries it out; its signature declares the arguments and options."""
    examples: tuple[str, ...]
    """Command lines that its help shows first."""


class VerbGroup:
    """Commands that follow one word, such as `node`, or none.

    Args:
        about: its line in the help.
    """

    def __init__(self, about: str = "") -> None:
        self.about = about
        self.verbs: dict[str, Verb] = {}


app = VerbGroup()
node_app = VerbGroup("Manage the machines that giblet works on.")
data_app = VerbGroup("Check a study before training on it.")
config_app = VerbGroup("List, show, compare, check and convert configurations.")
GROUPS: Mapping[str, VerbGroup] = {"node": node_app, "data": data_app, "config": config_app}
"""The groups by their word."""


def command(parent: VerbGroup, name: str, *examples: str) -> Callable[[Function], Function]:
    """Register a function as the command `name` of `parent`; its help shows `examples`, then its docstring."""

    def register(function: Function) -> Function:
        parent.verbs[name] = Verb(function, examples)
        return function

    return register


def load(name: str) -> Verb | VerbGroup:
    """Return the command or group of a name in COMMANDS; its module is imported now."""
    import_module(f"giblet_tui.cli.{COMMANDS[name].module}")
    return GROUPS.get(name) or app.verbs[name]
