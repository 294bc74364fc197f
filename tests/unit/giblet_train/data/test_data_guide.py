"""docs/data.md: its configurations load, its commands exist, the findings that it names are those of the code."""

import re
import shlex

import pytest
import typer

from giblet_train.__main__ import app as engine
from giblet_train.schema.config_loader import from_mapping
from giblet_train.schema.yaml_io import load_text
from giblet_tui.cli import app
from tests.paths import ROOT

GUIDE = (ROOT / "docs" / "data.md").read_text()
COMMANDS = [line.partition("#")[0][2:].strip() for line in GUIDE.splitlines() if line.startswith("$ ")]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.S)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_each_configuration_loads(text):
    from_mapping({"name": "guide", **load_text(text, "docs/data.md")})


@pytest.mark.parametrize("line", [c for c in COMMANDS if not c.startswith("make ")])
def test_each_command_exists_with_its_options(line):
    words = shlex.split(line)
    words = words[3:] if words[:3] == ["python", "-m", "giblet_train"] else words
    command = typer.main.get_command(app if words[0] == "giblet" else engine)
    words = words[1:] if words[0] == "giblet" else words
    while hasattr(command, "commands"):
        command = command.get_command(None, words.pop(0))
    known = {option for parameter in command.params for option in parameter.opts}
    assert {w for w in words if w.startswith("-")} <= known
    assert len(COMMANDS) >= 5


def test_each_make_target_exists():
    makefile = (ROOT / "Makefile").read_text()
    for line in (c for c in COMMANDS if c.startswith("make ")):
        assert re.search(rf"^{line.split()[1]}:", makefile, re.M)


def test_each_finding_that_is_named_is_one_of_the_codes():
    source = "".join(p.read_text() for p in (ROOT / "giblet_train").rglob("*.py"))
    table = GUIDE[GUIDE.index("| planted |") : GUIDE.index("On the demo\nstudy its table")]
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", table))
    assert len(named) > 20
    assert {name for name in named if f'"{name}"' not in source} == set()
