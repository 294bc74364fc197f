"""`giblet data`: check a study on the node that has it, before training on it."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

from giblet_train.schema.config import dump, name_from
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.run_dir import replace_file
from giblet_tui.cli.app import command, data_app
from giblet_tui.cli.arguments import ConfigName, Json, NodeName, Settings
from giblet_tui.cli.console import check_parent, path_argument, print_data, print_status, show_json
from giblet_tui.cli.parameters import Argument, Exit, Option
from giblet_tui.connection.connect import connect
from giblet_tui.connection.protocol import CommandOutput
from giblet_tui.connection.sanitize import sanitize, sanitize_table, sanitize_value
from giblet_tui.deploy import engine_command
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
    html: Annotated[Path | None, Option(help="Write the page with pictures to this file.")] = None,
    json: Json = False,
) -> None:
    """Check a study on its node: files, timing, scales, annotations, subjects. Exit code 1 on an error.

    The store is built there if it does not exist, as a run would build it.
    """
    options = ["--json"] if json else []
    result = _check("check", name, config, settings, options, html)
    _show(result, json)
    _end(result)


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
    steps: Annotated[int, Option(min=1, help="Number of training steps.")] = 20,
    json: Json = False,
) -> None:
    """Check a study with the network: where each loss starts, raw and normalised, and whether it falls.

    Exit code 1 on an error. A few training steps run on the node, in one process, and are discarded.
    """
    options = ["--steps", str(steps), *(["--json"] if json else [])]
    result = _check("diagnose", name, config, settings, options, None)
    _show(result, json)
    _end(result)


@command(
    data_app,
    "discover",
    "giblet data discover tensor01 /data/lab/sherlock",
    "giblet data discover local ~/study --write study.yaml",
)
def discover(
    name: NodeName,
    folder: Annotated[str, Argument(metavar="FOLDER", help="Folder on the node: films or sounds, and scans.")],
    write: Annotated[Path | None, Option(help="Save a configuration here; an existing file is kept.")] = None,
    tr: Annotated[float | None, Option(min=0.02, help="TR in seconds, of scans that state none.")] = None,
    json: Json = False,
) -> None:
    """Propose the table of runs of a folder, and report crops, swaps, late runs, copies and files without a place.

    Films and brains are compared: who saw which film from which second on is measured, not asked. Exit code 1 if a file
    had to be left out, or if no run follows a stimulus.
    """
    node = nodes.resolve(name)
    if write is not None:
        check_parent(write)
        if write.expanduser().exists():
            raise ConfigError(f"{write} already exists.", "Choose another file with --write.")
    if node.transport == "local":
        folder = str(Path(folder).expanduser().absolute())
    argv = ["data", "discover", folder, "--json", *([] if tr is None else ["--tr", str(tr)])]
    if write is not None:
        argv += ["--name", name_from(write.stem)]
    with connect(node) as connection:
        result = engine_command.run_engine_command(node, connection, argv, "", print_status)
    if not result.printed.strip():
        raise Exit(result.code if result.code > 0 else 1)
    proposal = jsonlib.loads(result.printed)
    report, config = proposal.pop("report"), proposal.pop("config")
    if json:
        show_json(sanitize_value(proposal))
    else:
        print_data("\n".join(sanitize(line) for line in report))
    if write is not None and config is not None:
        replace_file(write.expanduser(), config.encode())
        print_status(f"written: {write}\nnext:\n  giblet data check {node.name} {path_argument(write)}")
    elif write is not None:
        print_status("Nothing is written: no run follows a stimulus of the folder.")
        raise Exit(result.code or 1)
    _end(result)


@command(data_app, "show", "giblet data show tensor01 production_500epoch", "giblet data show local demo --json")
def show(name: NodeName, config: ConfigName, settings: Settings = None, json: Json = False) -> None:
    """Print the table of runs: who saw which stimulus when. Its lines are a table for data.runs."""
    result = _check("show", name, config, settings, ["--json"] if json else [], None)
    _show(result, json)
    _end(result)


@command(data_app, "lag", "giblet data lag tensor01 production_500epoch", "giblet data lag local demo --json")
def lag(name: NodeName, config: ConfigName, settings: Settings = None, json: Json = False) -> None:
    """Measure by how many TRs each brain follows the film, in all and in thirds. Exit code 1 if the thirds disagree."""
    result = _check("lag", name, config, settings, ["--json"] if json else [], None)
    _show(result, json)
    _end(result)


def _check(
    what: str, name: str, config: str, settings: list[str] | None, options: list[str], html: Path | None
) -> CommandOutput:
    node = nodes.resolve(name)
    if html:
        check_parent(html)
    source = configs.read(config, settings or ())
    for note in source.notes:
        print_status(note)
    page = f"{node.workdir}/reports/{source.config.name}-check.html"
    argv = ["data", what, FROM_STDIN, "--workdir", node.workdir, *options]
    with connect(node) as connection:
        result = engine_command.run_engine_command(
            node, connection, argv + (["--html", page] if html else []), dump(source.config), print_status
        )
        if html and result.printed.strip():
            engine_command.download(connection, page, html)
            print_status(f"page with pictures: {html}")
    return result


def _show(result: CommandOutput, json: bool) -> None:
    if json and result.printed.strip():
        show_json(sanitize_value(jsonlib.loads(result.printed)))
    elif result.printed.strip():
        print_data(sanitize_table(result.printed.rstrip("\n")))


def _end(result: CommandOutput) -> None:
    if result.code:
        raise Exit(result.code if result.code > 0 else 1)
