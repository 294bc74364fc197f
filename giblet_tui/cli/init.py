"""`giblet init`: write a configuration for a folder with films and scans, as `giblet data discover` describes it."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path, PurePosixPath
from typing import Annotated

from giblet_train.schema.config import name_from
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.run_dir import replace_file
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json, NodeName
from giblet_tui.cli.console import check_parent, path_argument, print_data, print_status, show_json
from giblet_tui.cli.parameters import Argument, Exit, Option
from giblet_tui.connection.connect import connect
from giblet_tui.connection.sanitize import sanitize
from giblet_tui.deploy.engine_command import run_engine_command
from giblet_tui.inventory import nodes
from giblet_tui.reporting import SCHEMA


@command(
    app,
    "init",
    "giblet init tensor01 /data/lab/sherlock",
    "giblet init local ~/study --name mine --to mine.yaml",
)
def init(
    node_name: NodeName,
    folder: Annotated[str, Argument(metavar="FOLDER", help="Folder on the node: films or sounds, and scans.")],
    name: Annotated[str | None, Option(help="Name of the configuration; default: from the folder.")] = None,
    to: Annotated[Path | None, Option("-o", "--to", help="File to write here; default: ./<name>.yaml.")] = None,
    tr: Annotated[float | None, Option(min=0.02, help="TR in seconds, of scans that state none.")] = None,
    json: Json = False,
) -> None:
    """Write a configuration for a study on a node: who saw what when, and success criteria.

    Films and brains are compared, as `giblet data discover` does. What is unusual is printed and written into the file.
    An existing file is kept. Exit code 1 if a file of the study had to be left out.
    """
    config_name = name or name_from(PurePosixPath(folder).name)
    path = to.expanduser() if to else Path(f"{config_name}.yaml")
    check_parent(path)
    if path.exists():
        raise ConfigError(f"{path} already exists.", "Choose another file with --to.")
    node = nodes.resolve(node_name)
    if node.transport == "local":
        folder = str(Path(folder).expanduser().absolute())
    argv = ["data", "discover", folder, "--json", "--name", config_name, *([] if tr is None else ["--tr", str(tr)])]
    with connect(node) as connection:
        result = run_engine_command(node, connection, argv, "", print_status)
    if not result.printed.strip():
        raise Exit(result.code if result.code > 0 else 1)
    proposal = jsonlib.loads(result.printed)
    if proposal["config"] is None:
        raise DataError(f"No run of {folder} follows a stimulus of it.", f"Look at: giblet data discover {node.name}")
    replace_file(path, proposal["config"].encode())
    print_status("\n".join(sanitize(line) for line in proposal["report"]))
    if json:
        show_json({"schema": SCHEMA, "path": str(path), "name": config_name})
    else:
        print_data(str(path))
    words = path_argument(path)
    print_status(f"next:\n  giblet config check {words}\n  giblet data check {node.name} {words}")
    if result.code:
        raise Exit(result.code)
