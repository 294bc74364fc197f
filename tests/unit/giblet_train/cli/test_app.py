"""The engine's commands: what each imports, and that every row of the table is a command."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
from typer.testing import CliRunner

from giblet_train.cli.app import app
from giblet_train.cli.commands import COMMANDS, GROUPS

QUICK = ("monitoring", "join", "files")
"""Modules of commands that a launch waits for, or that run beside the training: none may import torch."""


@pytest.mark.parametrize("name", COMMANDS)
def test_each_row_of_the_table_is_a_command_whose_help_shows_its_docstring(name: str) -> None:
    group, _, verb = name.rpartition(" ")
    module = import_module(f"giblet_train.cli.{COMMANDS[name].module}")
    docstring = getattr(module, verb.replace("-", "_")).__doc__
    result = CliRunner().invoke(app, [*group.split(), verb, "--help"])
    assert result.exit_code == 0
    assert "".join(result.output.split("\n\n")[1].split()) == "".join(docstring.split("\n\n")[0].split())


def test_what_a_command_imports_is_not_searched_for_garbage() -> None:
    code = (
        "import gc, typer; from giblet_train.cli.app import app; group = typer.main.get_command(app); phases = [];"
        " gc.callbacks.append(lambda phase, facts: phases.append(phase)); group.get_command(None, 'evaluate');"
        " print(phases, gc.isenabled(), gc.get_freeze_count() > 10_000)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[] True True\n"


def test_help_lists_every_command_except_hidden_ones_and_imports_none() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from giblet_train.cli.app import app\n"
        "print(CliRunner().invoke(app, sys.argv[1:]).output, {'torch', 'numpy'} & {*sys.modules})"
    )
    for words in ([], *([group] for group in GROUPS)):
        output = subprocess.check_output([sys.executable, "-c", code, *words, "--help"], text=True)
        names = {line.split()[0] for line in output.partition("Commands:")[2].splitlines() if line.startswith("  ")}
        rows = [name.split() for name, row in COMMANDS.items() if row.about]
        expected = {row[-1] for row in rows if row[:-1] == words} | ({*GROUPS} if not words else set())
        assert expected <= names
        assert "files" not in names
        assert output.endswith("set()\n")


def test_commands_that_are_waited_for_or_run_beside_training_import_no_torch() -> None:
    code = "import sys, importlib; [importlib.import_module(f'giblet_train.cli.{m}') for m in sys.argv[1:]]"
    check = "; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code + check, *QUICK], text=True) == "False\n"


@pytest.mark.parametrize("words", [["xx"], ["data", "xx"], ["train"], ["data"], []])
def test_words_that_are_no_command_exit_2(words: list[str]) -> None:
    assert CliRunner().invoke(app, words).exit_code == 2
