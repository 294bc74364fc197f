"""Options of the application that an engine command receives: both command lines define them equally."""

from __future__ import annotations

from typing import Any

import pytest
from typer import Context
from typer.main import get_command

from giblet_train.cli.app import app as engine
from giblet_tui.cli.parser import program as application

PASSED_ON = ("predict", "new-subject", "decode")
"""Commands that only pass their options on to the engine command of the same name."""
FORWARDED = (*PASSED_ON, "publish", "lesion", "data check", "data diagnose", "data discover")
OF_THE_ENGINE = {"--workdir"}
"""The application finds the stores of this machine by its node `local`."""
OF_THE_APPLICATION = {"--node"}
"""Where the engine command runs."""
OF_ONE_SIDE = {"--out", "--role"}
"""Where files go and which checkpoint is read: the application has its own words for both, except in PASSED_ON."""


PROPERTIES = ("required", "nargs", "multiple", "default", "is_flag")


def command_of(app: Any, words: str) -> Any:
    command = get_command(app)
    for word in words.split():
        command = command.get_command(Context(command), word)
    return command


def definitions(app: Any, words: str) -> dict[str, dict[str, Any]]:
    """Return the arguments and options of a command by name, with what a user can notice of each."""
    result = {}
    for parameter in command_of(app, words).params:
        name = max(parameter.opts, key=len) if parameter.param_type_name == "option" else parameter.metavar
        kind = [getattr(parameter.type, key, None) for key in ("name", "choices", "min", "max")]
        facts = {key: getattr(parameter, key, None) for key in PROPERTIES}
        result[name] = {"type": kind, "help": parameter.help, **facts}
    return result


@pytest.mark.parametrize("name", PASSED_ON)
def test_a_command_that_only_passes_its_options_on_has_those_of_the_engine(name: str) -> None:
    ours, theirs = definitions(application, name), definitions(engine, name)
    ours = {option: facts for option, facts in ours.items() if option not in OF_THE_APPLICATION}
    assert ours == {option: facts for option, facts in theirs.items() if option not in OF_THE_ENGINE}


@pytest.mark.parametrize("name", FORWARDED)
def test_an_option_of_both_takes_the_same_values(name: str) -> None:
    ours, theirs = definitions(application, name), definitions(engine, name)
    options = [option for option in ours.keys() & theirs.keys() - OF_ONE_SIDE if option.startswith("--")]
    assert options
    for option in options:
        assert {**ours[option], "help": ""} == {**theirs[option], "help": ""}, option
