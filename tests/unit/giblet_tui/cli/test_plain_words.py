"""Plain command lines: read as the command-line library reads them, or left to it."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import typer
from typer.main import get_command

from giblet_tui.cli import parser
from giblet_tui.cli.app import Verb, VerbGroup, load
from giblet_tui.cli.commands import COMMANDS
from giblet_tui.cli.parameters import Argument, Option
from giblet_tui.cli.plain_words import Declaration, declarations, plain_call

N_LINES = 12
"""Command lines that are made for each verb."""
ODD = ("", "-x", "--", "0", "-1", "1e3", "x=y", "ü", "007", "99999999999999999999", "--json", "-n5", "a b")
"""Words that may be mistakes."""


def every_verb() -> Iterator[tuple[str, Verb]]:
    for name in COMMANDS:
        entry = load(name)
        if isinstance(entry, VerbGroup):
            yield from ((f"{name} {word}", verb) for word, verb in entry.verbs.items())
        else:
            yield name, entry


def random_line(parameters: list[Declaration], choice: random.Random) -> list[str]:
    """Return words for some of the parameters, right or not, in any order."""
    parts = []
    for parameter in parameters:
        if parameter.has_default and choice.random() < 0.6:
            continue
        words = [word_for(parameter, choice)]
        if isinstance(parameter.marker, Option):
            names = parameter.marker.names or (f"--{parameter.name.replace('_', '-')}",)
            words = [choice.choice(names), *([] if parameter.type is bool else words)]
        parts.append(words)
    choice.shuffle(parts)
    line = [word for words in parts for word in words]
    if choice.random() < 0.3:
        line.insert(choice.randrange(len(line) + 1), choice.choice(ODD))
    return line


def word_for(parameter: Declaration, choice: random.Random) -> str:
    kind = parameter.single_type
    kind = get_args(kind)[0] if get_origin(kind) is list else kind
    if choice.random() < 0.2:
        return choice.choice(ODD)
    if kind in (int, float):
        return str(choice.randrange(30))
    return str(choice.choice(get_args(kind) or ("demo", "local", "@last", "./a.yaml", "two words", "k=v")))


@pytest.fixture
def library_values(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], Mapping[str, Any] | None]:
    """Return what reads a line by the library alone: the values of the parameters, or None for a mistake."""
    values: list[Mapping[str, Any]] = []
    monkeypatch.setattr(parser, "carry_out", lambda function, arguments: values.append(arguments))
    program = get_command(parser.program)

    def read(words: list[str]) -> Mapping[str, Any] | None:
        values.clear()
        try:
            program.main(args=words, prog_name="giblet", standalone_mode=False)
        except typer.TyperException:
            return None
        return values[0] if values else None

    return read


def test_a_plain_line_means_what_the_library_reads(
    library_values: Callable[[list[str]], Mapping[str, Any] | None], capsys: pytest.CaptureFixture[str]
) -> None:
    choice = random.Random(0)
    n_plain = n_read = 0
    for name, verb in every_verb():
        parameters = list(declarations(verb.function))
        for _ in range(N_LINES):
            words = [*name.split(), *random_line(parameters, choice)]
            call, values = plain_call(words), library_values(words)
            n_read += values is not None
            if call is None:
                continue
            n_plain += 1
            assert values is not None, f"the library refuses {words}"
            defaults = {p.name: p.default for p in parameters if p.has_default}
            assert defaults | call.keywords == defaults | dict(values), words
    assert n_plain > 0.8 * n_read > 100, "most lines without a mistake are plain"


@pytest.mark.parametrize(
    "line",
    ["", "ps --help", "ps -h", "ps --json=1", "ps --jso", "node", "node lst", "-q ps", "launch local -- a b", "status"],
)
def test_what_is_not_plain_is_left_to_the_library(line: str) -> None:
    assert plain_call(line.split()) is None


def test_completion_is_left_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plain_call(["ps"]) is not None
    monkeypatch.setenv("_GIBLET_COMPLETE", "complete_bash")
    assert plain_call(["ps"]) is None


def test_every_parameter_is_declared() -> None:
    for name, verb in every_verb():
        for parameter in declarations(verb.function):
            assert parameter.marker, name
            assert not isinstance(parameter.marker, Argument | Option) or parameter.marker.help, name


METRIC_NAMES = "giblet_train.diagnosis.log_reader.metric_names"
UNUSED = {
    "ps --cached": {"typer", "yaml", "hashlib", "logging", METRIC_NAMES},
    "config ls": {"typer", "giblet_train.diagnosis", "giblet_train.schema.records", "giblet_tui.reporting.formatting"},
}


@pytest.mark.parametrize("words", UNUSED)
def test_listings_import_only_what_they_need(words: str, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.argv[1:] = {words.split()}\nfrom giblet_tui.cli import main\n"
        f"try:\n    main()\nfinally:\n    print(sorted({UNUSED[words]} & set(sys.modules)))"
    )
    folders = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PATH": ""}
    listing = subprocess.run([sys.executable, "-c", code], env=folders, capture_output=True, text=True, timeout=60)
    assert (listing.returncode, listing.stdout.splitlines()[-1]) == (0, "[]"), listing.stderr
