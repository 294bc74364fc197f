"""`giblet promote` and `ladder`: start the next stage of a run that passed; list all runs by stage."""

from __future__ import annotations

import shlex
from typing import Annotated

from msgspec.structs import replace

from giblet_train.schema.config import dump, to_mapping
from giblet_train.schema.errors import PreflightRefused
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json, RunName, Settings
from giblet_tui.cli.completion import node_names, stage_names
from giblet_tui.cli.console import confirm, next_commands, print_data, print_status, show_json
from giblet_tui.cli.launch_steps import await_first_step, build_request, launch_and_print
from giblet_tui.cli.parameters import Argument, Option
from giblet_tui.cli.stop import stop_run
from giblet_tui.inventory import configs, nodes
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import find_run
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting import SCHEMA
from giblet_tui.reporting.progress_lines import ProgressPrinter
from giblet_tui.reporting.promotion import (
    HEAD,
    PromotionPlan,
    obsolete_runs,
    plan_promotion,
    promotion_lines,
    stage_table,
)
from giblet_tui.reporting.tables import as_yaml, markdown_table, table


@command(
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
        str, Argument(metavar="STAGE", help="The next stage: cluster or production.", autocompletion=stage_names)
    ],
    node_name: Annotated[
        str | None, Argument(metavar="[NODE]", help="Node; default: that of the run.", autocompletion=node_names)
    ] = None,
    accept: Annotated[
        list[str] | None, Option(metavar="CRITERION", help="Accept a criterion that was not met; needs --note.")
    ] = None,
    note: Annotated[str, Option(help="Reason; stored with the new run.")] = "",
    settings: Settings = None,
    gpus: Annotated[str | None, Option(help="GPUs, as for `giblet launch`.")] = None,
    supersede: Annotated[bool, Option("--supersede", help="Stop the runs that the new run replaces.")] = False,
    yes: Annotated[bool, Option("--yes", help="Start without asking.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Show the plan; start and stop nothing.")] = False,
    json: Json = False,
) -> None:
    """Start the next stage of the ladder for a run that passed: its own configuration with the keys of the stage.

    Refused (exit code 5) unless the verdict is PASS or each missed criterion is accepted with a reason. Differences and
    estimated cost are shown first; with --dry-run the new configuration is printed.
    """
    where, run_id = find_run.locate(name, print_status)
    run = find_run.fetch_run(where, run_id)
    plan = plan_promotion(run, configs.ladder(), stage, configs.parse_settings(settings or ()), accept or (), note)
    for line in promotion_lines(plan):
        print_status(line)
    others = obsolete_runs(find_run.observe(nodes.known_nodes()).runs(), plan)
    if dry_run:
        _print_estimate(plan, others, json)
        return
    node = nodes.resolve(node_name) if node_name else where
    _confirm(plan, node.name, yes)
    _offer_to_stop_obsolete(others, supersede)
    _start(node, plan, gpus, note, json)


def _start(node: Node, plan: PromotionPlan, gpus: str | None, note: str, json: bool) -> None:
    """Launch the run, wait for its first step, print the next commands."""

    def print_id(run_id: str) -> None:
        if json:
            runs = [{"run_id": run_id, "nodes": [node.name]}]
            show_json({"schema": SCHEMA, "started": True, "runs": runs})
        else:
            print_data(run_id)

    request = build_request(plan.target.config, gpus=gpus, note=note, again=False, force=False)
    run_id = launch_and_print([node], replace(request, promotion=plan.promotion), print_id)
    await_first_step(node, run_id, ProgressPrinter())
    print_status(next_commands(run_id, live=True))


@command(app, "ladder", "giblet ladder", "giblet ladder --markdown > notebook.md", "giblet ladder --stages")
def ladder(
    markdown: Annotated[bool, Option("--markdown", help="Print the table in Markdown.")] = False,
    stages: Annotated[bool, Option("--stages", help="Print the stages and the keys that they set.")] = False,
    json: Json = False,
) -> None:
    """List every run by stage: verdict, accepted criteria, cost, and the run from which it was promoted.

    The facts come from the run directories; of runs that were removed, only what this machine saw is known.
    """
    rungs = configs.ladder()
    if stages:
        for rung in rungs.stages:
            print_data(f"{rung.stage}: {rung.title}")
            for key, value in rung.set.items():
                print_data(f"  {key}: {as_yaml(value)}")
        return
    rows = stage_table(find_run.observe(nodes.known_nodes()).runs(), rungs.names)
    if json:
        show_json({"schema": SCHEMA, "runs": [dict(zip(map(str.lower, HEAD), row, strict=True)) for row in rows]})
    elif rows:
        print_data((markdown_table if markdown else table)(HEAD, rows))
    else:
        print_status("There is no run yet. Start with the first stage: giblet launch NODE CONFIG")


def _print_estimate(plan: PromotionPlan, others: list[RunSnapshot], json: bool) -> None:
    for other in others:
        print_status(f"would supersede {other.run.run_id} on {other.run.node} ({other.health.state})")
    if json:
        other_ids = [other.run.run_id for other in others]
        config = to_mapping(plan.target.config)
        show_json({"schema": SCHEMA, "started": False, "supersedes": other_ids, "config": config})
    else:
        print_data(dump(plan.target.config).rstrip())


def _confirm(plan: PromotionPlan, node: str, yes: bool) -> None:
    if not yes and not confirm(f"Start {plan.target.config.name} on {node}?"):
        raise PreflightRefused("Nothing was started.", "Answer y, or add --yes.")


def _offer_to_stop_obsolete(others: list[RunSnapshot], supersede: bool) -> None:
    """Offer to stop each run; print how to stop those that continue."""
    for other in others:
        what = f"{other.run.run_id} on {other.run.node} ({other.config.stage if other.config else '?'} stage)"
        if supersede or confirm(f"{what} is superseded. Stop it first?"):
            print_status(f"stopping {what}")
            print_status(stop_run(other.run.run_id, print_status))
        else:
            print_status(f"{what} continues. To stop it later: {shlex.join(['giblet', 'stop', other.run.run_id])}")
