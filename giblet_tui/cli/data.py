"""`giblet data`: a study looked over on the node where it lies, before anything trains on it."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from giblet_train.schema.config import dump
from giblet_tui.cli.app import command, data_app
from giblet_tui.cli.arguments import ConfigName, Json, NodeName, Settings
from giblet_tui.cli.console import print_data, print_status, show_json
from giblet_tui.connection.connect import connect
from giblet_tui.connection.sanitize import sanitize, sanitize_value
from giblet_tui.deploy import engine_command
from giblet_tui.deploy.engine_command import CommandResult
from giblet_tui.inventory import configs, nodes

FROM_STDIN = "-"


@command(
    data_app,
    "check",
    "giblet data check tensor01 production_500epoch",
    "giblet data check tensor01 demo --html check.html",
    "giblet data check local demo --set data.simulate=tiny --set split.gap_trs=4 --json",
)
def check(
    name: NodeName,
    config: ConfigName,
    settings: Settings = None,
    html: Annotated[Path | None, typer.Option(help="Bring the page with pictures here.")] = None,
    json: Json = False,
) -> None:
    """Find data mistakes where the data lie: files, clocks, scales, annotations, subjects. Exit code 1 on an error.

    The store is built there if it does not exist, as a run would build it.
    """
    options = ["--json"] if json else []
    done = _look("check", name, config, settings, options, html)
    _show(done, json)
    _end(done)


@command(
    data_app,
    "diagnose",
    "giblet data diagnose tensor01 production_500epoch",
    "giblet data diagnose local demo --set data.simulate=tiny --set split.gap_trs=4 --steps 40",
)
def diagnose(
    name: NodeName,
    config: ConfigName,
    settings: Settings = None,
    steps: Annotated[int, typer.Option(min=1, help="How many steps are rehearsed.")] = 20,
    json: Json = False,
) -> None:
    """The check with the network: what each loss begins at, raw and normalised, and whether it falls.

    Exit code 1 on an error. A few steps are rehearsed on the node, on one process, and thrown away.
    """
    options = ["--steps", str(steps), *(["--json"] if json else [])]
    done = _look("diagnose", name, config, settings, options, None)
    _show(done, json)
    _end(done)


@command(data_app, "lag", "giblet data lag tensor01 production_500epoch", "giblet data lag local demo")
def lag(name: NodeName, config: ConfigName, settings: Settings = None) -> None:
    """By how many TRs each brain follows the film, in all and in thirds. Exit code 1 when the thirds disagree."""
    done = _look("lag", name, config, settings, [], None)
    _show(done, json=False)
    _end(done)


def _look(
    what: str, name: str, config: str, settings: list[str] | None, options: list[str], html: Path | None
) -> CommandResult:
    node = nodes.resolve(name)
    loaded = configs.read(config, settings or ())
    for note in loaded.notes:
        print_status(note)
    page = f"{node.workdir}/reports/{loaded.config.name}-check.html"
    argv = ["data", what, FROM_STDIN, "--workdir", node.workdir, *options]
    with connect(node) as connection:
        done = engine_command.run_engine_command(
            node, connection, argv + (["--html", page] if html else []), dump(loaded.config), print_status
        )
        if html and done.printed.strip():
            engine_command.download(connection, page, html)
            print_status(f"the page with pictures is {html}")
    return done


def _show(done: CommandResult, json: bool) -> None:
    if json and done.printed.strip():
        show_json(sanitize_value(jsonlib.loads(done.printed)))
    elif done.printed.strip():
        print_data("\n".join(sanitize(line) for line in done.printed.rstrip("\n").split("\n")))


def _end(done: CommandResult) -> None:
    if done.code:
        raise typer.Exit(done.code if done.code > 0 else 1)
