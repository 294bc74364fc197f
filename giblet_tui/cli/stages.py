"""`giblet promote` and `ladder`: the next stage for a run that passed, and the table of all that climbed."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from giblet_tui.cli.app import app, verb
from giblet_tui.cli.completion import node_names, stage_names
from giblet_tui.cli.configs import Settings
from giblet_tui.cli.console import ask, next_commands, say, show, show_json
from giblet_tui.cli.runs import Json, RunName

if TYPE_CHECKING:
    from giblet_tui.inventory.nodes import Node
    from giblet_tui.monitor.snapshots import RunSnapshot
    from giblet_tui.reporting.promotion import Ascent


@verb(
    app,
    "promote",
    "giblet promote @last cluster --dry-run",
    "giblet promote test_full_fixes-2026 cluster tensor01",
    "giblet promote @last cluster --accept loss_drop --note 'noise is 90 % of the variance'",
    "giblet promote @last production tensor02 --supersede --yes",
)
def promote(
    name: RunName,
    stage: Annotated[
        str, typer.Argument(metavar="STAGE", help="The next one: cluster, production.", autocompletion=stage_names)
    ],
    node_name: Annotated[
        str | None, typer.Argument(metavar="[NODE]", help="The run's own if not given.", autocompletion=node_names)
    ] = None,
    accept: Annotated[
        list[str] | None, typer.Option(metavar="CRITERION", help="Go on though it was not met; needs --note.")
    ] = None,
    note: Annotated[str, typer.Option(help="Why; kept with the new run, for the notebook.")] = "",
    settings: Settings = None,
    gpus: Annotated[str | None, typer.Option(help="As `giblet launch` takes them.")] = None,
    supersede: Annotated[bool, typer.Option("--supersede", help="Stop what the new run makes pointless.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether to start it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show all; start and stop nothing.")] = False,
) -> None:
    """Start the next stage of the ladder for a run that has passed: its own configuration, grown by the stage's keys.

    Refused (exit code 5) unless the run's verdict is PASS or what it missed is accepted with a reason. What differs and
    what it will cost is shown first; with --dry-run the new configuration is printed, to be kept as a file.
    """
    from giblet_tui.inventory import configs, nodes
    from giblet_tui.monitor import find_run
    from giblet_tui.reporting.promotion import ascend, ascent_lines, superseded

    where, run_id = find_run.locate(name, say)
    run = find_run.fresh(where, run_id)
    ascent = ascend(run, configs.ladder(), stage, configs.parse_settings(settings or ()), accept or (), note)
    for line in ascent_lines(ascent):
        say(line)
    others = superseded(find_run.observe(nodes.known_nodes()).runs(), ascent)
    if dry_run:
        _foretell(ascent, others)
        return
    node = nodes.resolve(node_name) if node_name else where
    _agree(ascent, node.name, yes)
    _stop_pointless(others, supersede)
    _start(node, ascent, gpus, note)


def _start(node: Node, ascent: Ascent, gpus: str | None, note: str) -> None:
    """Launch it, wait for its first step, say how to go on."""
    from msgspec.structs import replace

    from giblet_tui.cli.launch import asked, await_first_step, start
    from giblet_tui.reporting.progress_lines import Narrator

    request = asked(ascent.climb.config, gpus=gpus, note=note, again=False, force=False)
    run_id = start(node, replace(request, promotion=ascent.promotion))
    await_first_step(node, run_id, Narrator())
    say(next_commands(run_id, live=True))


@verb(app, "ladder", "giblet ladder", "giblet ladder --markdown > notebook.md", "giblet ladder --stages")
def ladder(
    markdown: Annotated[bool, typer.Option("--markdown", help="A table for the notebook.")] = False,
    stages: Annotated[bool, typer.Option("--stages", help="The stages themselves: what each asks.")] = False,
    json: Json = False,
) -> None:
    """Show every run by its stage: verdict, what was accepted, cost, the run it climbed from. The lab's notebook.

    The facts are those of the run directories; of runs long ended only what was seen from here is known.
    """
    from giblet_tui.inventory import configs, nodes
    from giblet_tui.monitor import find_run
    from giblet_tui.reporting.formatting import in_yaml, markdown_table, table
    from giblet_tui.reporting.json_output import SCHEMA
    from giblet_tui.reporting.promotion import HEAD, notebook

    rungs = configs.ladder()
    if stages:
        for rung in rungs.stages:
            show(f"{rung.stage}: {rung.title}")
            for key, value in rung.set.items():
                show(f"  {key}: {in_yaml(value)}")
        return
    rows = notebook(find_run.observe(nodes.known_nodes()).runs(), rungs.names)
    if json:
        show_json({"schema": SCHEMA, "runs": [dict(zip(map(str.lower, HEAD), row, strict=True)) for row in rows]})
    elif rows:
        show((markdown_table if markdown else table)(HEAD, rows))
    else:
        say("Nothing has climbed yet. Start at the bottom: giblet launch NODE CONFIG")


def _foretell(ascent: Ascent, others: list[RunSnapshot]) -> None:
    from giblet_train.schema.config import dump

    for other in others:
        say(f"would supersede {other.run.run_id} on {other.run.node} ({other.health.state})")
    show(dump(ascent.climb.config).rstrip())


def _agree(ascent: Ascent, node: str, yes: bool) -> None:
    from giblet_train.schema.errors import PreflightRefused

    if not yes and not ask(f"Start {ascent.climb.config.name} on {node}?"):
        raise PreflightRefused("Nothing was started.", "Answer y, or add --yes.")


def _stop_pointless(others: list[RunSnapshot], supersede: bool) -> None:
    """Offer to stop each; what is kept is said, with the command that ends it."""
    from giblet_tui.cli.stop import stop_run

    for other in others:
        what = f"{other.run.run_id} on {other.run.node} ({other.config.stage if other.config else '?'} stage)"
        if supersede or ask(f"{what} is superseded. Stop it first?"):
            say(f"stopping {what}")
            say(stop_run(other.run.run_id, say))
        else:
            say(f"{what} goes on. Later: {shlex.join(['giblet', 'stop', other.run.run_id])}")
