"""Every command of README and docs is run on a node with a finished run, or is listed here with what runs it."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping

import pytest
from typer._click.exceptions import ClickException, MissingParameter

from tests.cluster.laptop import SMALL_CONFIG, Laptop
from tests.cluster.nodes import LoopbackNode
from tests.paths import ROOT
from tests.unit.test_docs import HISTORY, PAGES, commands, root_command, words_of

pytestmark = pytest.mark.timeout(600)
GENERATED = ("cli.md",)
"""Pages whose commands are examples of `--help`, which name files and nodes of nobody."""
RUN_ELSEWHERE: Mapping[str, tuple[str, str]] = {
    r"giblet( dashboard.*)?": ("it takes a whole terminal", "tests/unit/giblet_tui/dashboard/test_terminal.py"),
    r"giblet demo(?! --list).*": ("it trains for minutes; with a fault as `make drills`", "tests/e2e/test_demo.py"),
    r"giblet setup .*": ("it installs torch", "tests/unit/giblet_tui/deploy/test_install.py"),
    r"giblet launch .* -- .*": ("it sends programs of a lab", "tests/cluster/test_commands.py"),
    r"giblet launch (tensor01 demo|NODE demo)(?!.*--(dry-run|grid)).*": (
        "it trains the demo study for minutes",
        "tests/cluster/test_launch.py",
    ),
    r"giblet launch (?!.* -- ).*--grid .*": ("it trains for minutes", "tests/cluster/test_sweeps.py"),
    r"giblet launch .*(test_50epoch_fixed|production_500epoch).*": (
        "it needs GPUs and the lab's data",
        "tests/cluster/test_gpu_launch.py",
    ),
    r"giblet adopt .*": ("it needs a session that a person started", "tests/cluster/test_adopting.py"),
    r"giblet (mcp|confirm \w+)": ("it answers a program", "tests/unit/giblet_tui/tool_server/test_tool_server.py"),
    r"giblet (evaluate|lesion|rebuild|publish|ensemble) .*": (
        "it computes for a minute",
        "tests/cluster/test_inspecting.py",
    ),
    r"giblet (predict|new-subject|decode) .*": ("it needs a published model", "tests/cluster/test_inspecting.py"),
    r"giblet promote (?!.*--dry-run).*": (
        "it starts the next stage; only its dry run is run here",
        "tests/cluster/test_promoting.py",
    ),
    r"giblet data (discover|show) local .*": (
        "it needs the study of the line before it",
        "tests/unit/giblet_train/data/discover/test_layouts.py",
    ),
    r"giblet data check local demo .*": ("it makes the demo study, for minutes", "tests/e2e/test_demo.py"),
    r"giblet (config|data) check (local )?\./spaces\.yaml": (
        "it needs an extractor",
        "tests/unit/giblet_train/data/test_feature_guide.py",
    ),
    r"giblet data (diagnose|discover) tensor01 .*": (
        "it trains, or reads a whole study",
        "tests/unit/giblet_train/diagnosis/test_diagnose.py",
    ),
    r"giblet node add .*": ("it changes the list of nodes", "tests/unit/giblet_tui/cli/test_app.py"),
    r"giblet sweep": ("it needs a sweep", "tests/cluster/test_sweeps.py"),
    r"giblet stop": ("it is the name of a command, without a run", "tests/unit/giblet_tui/cli/test_app.py"),
    r"giblet init tensor01 .*": ("it needs a folder of scans", "tests/unit/giblet_tui/cli/test_app.py"),
    r"giblet why (?!RUN|@last).*": ("it needs a log of another program", "tests/unit/giblet_tui/cli/test_why.py"),
    r"python -m giblet_train simulate .*": (
        "it makes a study",
        "tests/unit/giblet_train/data/discover/test_layouts.py",
    ),
    r"python -m giblet_train prepare .*": ("it reads a study", "tests/unit/giblet_train/data/store/test_prepare.py"),
    r"python -m giblet_train (evaluate|lesion|rebuild|ensemble) .*": (
        "it is what runs on the node for the command of the same name",
        "tests/cluster/test_inspecting.py",
    ),
}
"""Pattern of commands -> why they are not run here, and the test that runs what they do."""
CODES: Mapping[str, set[int]] = {
    "verdict": {0, 1},
    "logs": {0, 1},
    "status": {0, 1},
    "why": {0, 1},
    "launch": {0, 1},
    "alerts": {0, 2},
    "data": {0, 1},
    "promote": {0, 1, 5},
    "doctor": {0, 5},
    "rm": {5},
    "ladder": {0, 1},
}
"""Exit codes that are right here for a verb; 0 for all others. `rm` asks, and there is nobody to answer."""


LAST = ("launch", "stop", "prune", "rm")
"""Verbs that are run after all others, in this order: what they start or remove would change the results of others."""


def documented() -> list[str]:
    """Return every command of the pages once, without its comment, its pipe and what only names a command."""
    pages = [page for page in PAGES if page.name not in (*HISTORY, *GENERATED)]
    lines = [line for page in pages for line in commands(page) if is_complete(words_of(line))]
    return sorted({shlex.join(shlex.split(line) if " -- " in line else words_of(line)) for line in lines})


def is_complete(words: list[str]) -> bool:
    """Return True if the words are a command with all that it needs, not only its name in a sentence."""
    command = root_command(words[0])
    words = words[1:] if words[0] == "giblet" else words[3:]
    if "--help" in words or not words:
        return False
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        command = command.get_command(None, words.pop(0))
    if hasattr(command, "commands"):
        return False
    try:
        command.make_context(command.name, [word.removesuffix("...") for word in words])
    except MissingParameter:
        return False
    except ClickException:
        return True
    return True


def verb_of(line: str) -> str:
    """Return the first word behind the name of the program, a command or its group; empty for the dashboard."""
    words = [word for word in shlex.split(line)[1 if line.startswith("giblet") else 3 :] if not word.startswith("-")]
    return words[0] if words else ""


def reasons(line: str) -> list[str]:
    """Return the patterns of `RUN_ELSEWHERE` that a command matches."""
    return [pattern for pattern in RUN_ELSEWHERE if re.fullmatch(pattern, line)]


def run_words(line: str, run_id: str) -> list[str]:
    """Return the words to run: placeholders stand for the run, the node and the configuration of this test."""
    words = shlex.split(line)[1:]
    values = {"RUN": run_id, "RUN...": run_id, "NODE": "tensor01", "NAME": "demo"}
    values |= dict.fromkeys(("CONFIG", "./sherlock.yaml"), "./mine.yaml")
    values["FILE"] = "./mine.yaml" if words[0] == "config" else "records.csv"
    return [values.get(word, word) for word in words]


@pytest.fixture
def finished_id(laptop: Laptop, tensor01: LoopbackNode) -> Iterator[str]:
    """Yield the id of a run that has finished, with success criteria; mine.yaml is its study."""
    laptop.name_nodes(f"tensor01:\n  python: {sys.executable}\n")
    text = SMALL_CONFIG.replace("criteria: {}\n", "").replace("num_epochs: 400", "num_epochs: 1")
    text = text.replace("warmup_epochs: 1", "warmup_epochs: 0.5")
    for seed, name in enumerate(("first", "mine")):  # a node refuses what runs there already, by any name
        own = f"name: {name}\nseed: {seed}"
        (laptop.folder / f"{name}.yaml").write_text(text.replace("name: small", own))
    (laptop.folder / "docs").mkdir()
    result = laptop.giblet("launch", "tensor01", "./first.yaml", "--follow")
    assert result.returncode in (0, 1), result.stderr
    yield result.stdout.splitlines()[0]


def test_every_documented_command_is_run_here_or_by_a_named_test() -> None:
    lines = documented()
    assert len(lines) > 100
    assert {line: reasons(line) for line in lines if len(reasons(line)) > 1} == {}
    stale = [p for p in RUN_ELSEWHERE if not any(re.fullmatch(p, line) for line in [*lines, "giblet"])]
    assert stale == [], "no command of the docs is like this any more"
    elsewhere = [(verb_of(line), RUN_ELSEWHERE[pattern][1]) for line in lines for pattern in reasons(line)]
    assert [(verb, test) for verb, test in elsewhere if verb not in (ROOT / test).read_text()] == []


def test_documented_commands_do_what_they_promise(finished_id: str, laptop: Laptop) -> None:
    lines = [line for line in documented() if not reasons(line)]
    assert len(lines) > 40
    faults, commands_run = {}, set()
    for line in sorted(lines, key=lambda line: next((n for n, verb in enumerate(LAST) if f" {verb} " in line), -1)):
        words = run_words(line, finished_id)
        if tuple(words) in commands_run:  # only its placeholders differ from those of another page
            continue
        commands_run.add(tuple(words))
        result = laptop.giblet(*words)
        if result.returncode not in CODES.get(words[0], {0}) or "Traceback" in result.stderr:
            faults[line] = f"exit code {result.returncode}: {result.stderr[-300:]}"
    assert faults == {}
