"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

from giblet_tui.cli.completion import config_names, node_names, run_ids
from giblet_tui.cli.parameters import Argument, Option

RunName = Annotated[
    str, Argument(metavar="RUN", help="A run's name or id, the beginning of one, or @last.", autocompletion=run_ids)
]
NodeName = Annotated[
    str, Argument(metavar="NODE", help="local, a node of nodes.yaml, or an ssh Host.", autocompletion=node_names)
]
OptionalNodes = Annotated[
    list[str] | None, Argument(metavar="[NODE]...", help="Nodes; default: all.", autocompletion=node_names)
]
OptionalConfigName = Annotated[
    str | None, Argument(metavar="[CONFIG]", help="A configuration's name or path.", autocompletion=config_names)
]
ConfigName = Annotated[
    str, Argument(metavar="CONFIG", help="A configuration's name or path.", autocompletion=config_names)
]
Settings = Annotated[
    list[str] | None, Option("--set", metavar="KEY=VALUE", help="Override a configuration key; repeatable.")
]
Json = Annotated[bool, Option("--json", help="Print one JSON object on stdout.")]
