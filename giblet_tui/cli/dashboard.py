"""`giblet dashboard`: the full-screen monitor, which watches every node."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Sequence
from typing import Annotated, Any, cast

from msgspec.structs import replace

from giblet_train.schema.errors import ConfigError, GibletError
from giblet_tui.cli.alerts import answer_all
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import OptionalNodes
from giblet_tui.cli.command_options import CommandOptions
from giblet_tui.cli.console import redirected_stream
from giblet_tui.cli.launch_steps import build_request, check_lines, config_changes, load_config, plan_only, run_launch
from giblet_tui.cli.palette_commands import argv, output, verbs
from giblet_tui.cli.parameters import Exit, Option
from giblet_tui.cli.stop import find_stale_runs, stop_run
from giblet_tui.connection.connect import unshare
from giblet_tui.connection.login_prompts import set_prompt_handler
from giblet_tui.connection.notices import set_notice_handler
from giblet_tui.dashboard import run_dashboard
from giblet_tui.dashboard.model.interfaces import LaunchChoice, PaletteCommand, StaleRunChoice
from giblet_tui.inventory import configs as catalog
from giblet_tui.inventory import nodes
from giblet_tui.inventory.nodes import Multiplexer, Node
from giblet_tui.launch.ensemble import check_capacity, member_requests
from giblet_tui.launch.request import LaunchOptions, LaunchRequest, check_options
from giblet_tui.monitor import cache
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot
from giblet_tui.monitor.watch import NodeWatch


@command(app, "dashboard", "giblet dashboard", "giblet dashboard tensor01 --readonly")
def dashboard(
    names: OptionalNodes = None,
    readonly: Annotated[bool, Option("--readonly", help="Disable all keys that change something.")] = False,
) -> None:
    """Watch all nodes and runs live, full screen: losses, warm-up, verdicts, GPUs, logs. Also bare `giblet`.

    Closing it does not affect any run.
    """
    if stream := redirected_stream():
        raise ConfigError(
            f"The dashboard needs a terminal, and {stream} is not one.",
            "Remove the redirection, or use giblet ps, giblet status RUN, giblet logs RUN -f.",
        )
    which = [nodes.resolve(name) for name in names] if names else list(nodes.known_nodes())
    raise Exit(open_dashboard(which, readonly=readonly))


def open_dashboard(which: Sequence[Node], *, readonly: bool = False) -> int:
    """Run the dashboard on these nodes until the user closes it; return its exit code."""
    set_prompt_handler(None)  # the dashboard owns the screen: no prompt may appear on it
    set_notice_handler(None)
    unshare()  # each watch keeps its own connection; actions open others
    last_snapshots = {snapshot.node: snapshot for snapshot in cache.load().nodes}
    first = (last_snapshots.get(node.name) or NodeSnapshot(node=node.name, link="connecting") for node in which)
    return run_dashboard(NodeWatchers(which), DashboardActions(), Fleet(nodes=tuple(first)), readonly)


class NodeWatchers:
    """Source of the dashboard's data: one watch per node, each on its own thread."""

    def __init__(self, which: Sequence[Node]) -> None:
        self._nodes = which
        self._watches: list[NodeWatch] = []

    def start(self, post: Callable[[NodeSnapshot], None]) -> None:
        """Start the watches; they call `post` from their threads."""
        self._watches = [NodeWatch(node, post) for node in self._nodes]
        for watch in self._watches:
            watch.start()

    def close(self) -> None:
        """Stop all watches."""
        for watch in self._watches:
            watch.stop()


class DashboardActions:
    """Actions of the dashboard; each calls the function behind the CLI command. Each raises GibletError."""

    def stop(self, run_id: str, report: Callable[[str], None]) -> str:
        """Stop a run and prove that nothing is left."""
        return stop_run(run_id, report)

    def answer(self, run_id: str, snooze_s: float | None) -> str:
        """Acknowledge or snooze all alerts of a run, as `giblet alerts` does."""
        return answer_all(run_id, snooze_s)

    def verbs(self, run_id: str | None, node: str | None) -> Sequence[PaletteCommand]:
        """Return the commands of the palette."""
        return verbs(run_id, node)

    def find_stale(self, report: Callable[[str], None]) -> Sequence[StaleRunChoice]:
        """Return what `giblet stop --stale` would stop on all nodes."""
        return [StaleRunChoice(run.run_id, node.name, run.why) for node, run in find_stale_runs((), report)]

    def output(self, words: Sequence[str], show: Callable[[str], None], end: threading.Event) -> None:
        """Run the command as a process of its own and pass on what it prints."""
        output(words, show, end)

    def argv(self, words: Sequence[str]) -> Sequence[str]:
        """Return the command line of a command."""
        return argv(words)

    def configs(self) -> Sequence[str]:
        """Return the names of all configurations."""
        return sorted(catalog.known())

    def changes(self, choice: LaunchChoice) -> Sequence[str]:
        """Return what `giblet launch --dry-run` prints about the configuration; about a command, what is sent."""
        if choice.command:
            return _sent_lines(_command_request(choice, packs=False))  # asked at each key: packing takes too long
        return config_changes(catalog.read(choice.config, choice.settings))

    def dry_run(self, choice: LaunchChoice) -> Sequence[str]:
        """Return what `giblet launch --dry-run` prints: where it would run, its command line, what changes."""
        node, requests = self._requests(choice)
        (plan,) = plan_only([node], requests[0])
        check_capacity(plan, requests)
        members = [f"and {len(requests) - 1} more with other seeds and validation blocks"] if requests[1:] else []
        changes = [] if choice.command else self.changes(choice)
        return [*plan.notes, *members, shlex.join(plan.run.argv), *check_lines(plan), *changes]

    def launch(self, choice: LaunchChoice, report: Callable[[str], None]) -> str:
        """Launch the run or the members of an ensemble, without waiting for first steps.

        The error of a member that is refused names those that were started before it.
        """
        node, requests = self._requests(choice)
        run_ids: list[str] = []
        for request in requests:
            try:
                run_ids.append(run_launch([node], request, report))
            except GibletError as error:
                if not run_ids:
                    raise
                sentence = f"{', '.join(run_ids)} started; the other members did not"
                raise GibletError(f"{sentence}: {error.message}", error.remedy) from None
        return ", ".join(run_ids)

    def _requests(self, choice: LaunchChoice) -> tuple[Node, Sequence[LaunchRequest]]:
        """Return the node and a request for each run. Raises GibletError for values that exclude each other."""
        node = nodes.resolve(choice.node)
        n_members = _n_members(choice.members)
        options = LaunchOptions(
            nodes=(node.name,),
            when_free=choice.when_free,
            resume=bool(choice.resume),
            ensemble=n_members is not None,
            command=bool(choice.command),
        )
        check_options(options)
        if choice.command:
            return node, [replace(_command_request(choice), when_free=choice.when_free)]
        CommandOptions(cwd=choice.folder or None).refuse()
        config = load_config(node, choice.config, choice.settings, choice.resume or None).config
        request = replace(build_request(config, gpus=choice.gpus, **_common(choice)), when_free=choice.when_free)
        return node, [request] if n_members is None else member_requests(request, n_members, False)


def _n_members(text: str) -> int | None:
    """Return the number of members that the form asks for; None for one run that is no member. Raises ConfigError."""
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"members: {text} is not a number of runs.", "Type 1 or more, or nothing for one run.")
    return int(text)


def _common(choice: LaunchChoice) -> dict[str, Any]:
    """Return the values of the form that every launch has."""
    session = cast("Multiplexer", choice.session) if choice.session else None
    return {"note": choice.note, "session": session, "again": False, "force": False}


def _command_request(choice: LaunchChoice, *, packs: bool = True) -> LaunchRequest:
    """Build the request for the command of the form, with what is sent unless `packs` is False.

    Raises ConfigError, PreflightRefused.
    """
    if choice.config or choice.settings or choice.resume:
        raise ConfigError(
            "A command of your own has no configuration, preset, settings or run to resume.",
            "Clear these fields, or the command.",
        )
    return CommandOptions(cwd=choice.folder or None).request(choice.command, choice.gpus, _common(choice), packs=packs)


def _sent_lines(request: LaunchRequest) -> list[str]:
    """Return what is sent to the node with a command."""
    command = request.command
    assert command is not None
    if command.cwd:
        return [f"starts in {command.cwd} on the node; nothing is sent"]
    if command.tree is None:
        return [
            "starts in an empty directory; nothing is sent, because the dashboard was not opened in a git repository"
        ]
    return [f"sends the git repository {command.tree.root}, uncommitted changes included"]
