"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from giblet_tui.cli.completion import config_names, node_names, run_ids

RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or @last.", autocompletion=run_ids)
]
NodeName = Annotated[
    str, typer.Argument(metavar="NODE", help="local, a node of nodes.yaml, or an ssh Host.", autocompletion=node_names)
]
OptionalNodes = Annotated[
    list[str] | None, typer.Argument(metavar="[NODE]...", help="Nodes; default: all.", autocompletion=node_names)
]
OptionalConfigName = Annotated[
    str | None, typer.Argument(metavar="[CONFIG]", help="A configuration's name or path.", autocompletion=config_names)
]
ConfigName = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A configuration's name or path.", autocompletion=config_names)
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a configuration key; repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
