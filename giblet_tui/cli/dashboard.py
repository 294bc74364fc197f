"""`giblet dashboard`: the full-screen monitor, fed by a watch on every node."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from giblet_train.schema.errors import ConfigError
from giblet_tui.cli.alerts import answer_all
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import OptionalNodes
from giblet_tui.cli.console import redirected_stream
from giblet_tui.cli.launch_steps import build_request, config_changes, plan_only, run_launch
from giblet_tui.cli.palette_commands import argv, output, verbs
from giblet_tui.cli.stop import stop_run
from giblet_tui.connection.connect import unshare
from giblet_tui.connection.login_prompts import set_prompt_handler
from giblet_tui.dashboard import run_dashboard
from giblet_tui.dashboard.model.interfaces import PaletteCommand, Wish
from giblet_tui.inventory import configs as catalog
from giblet_tui.inventory import nodes
from giblet_tui.inventory.nodes import Node
from giblet_tui.launch.request import LaunchRequest
from giblet_tui.monitor import cache
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot
from giblet_tui.monitor.watch import NodeWatch


@command(app, "dashboard", "giblet dashboard", "giblet dashboard tensor01 --readonly")
def dashboard(
    names: OptionalNodes = None,
    readonly: Annotated[bool, typer.Option("--readonly", help="No key can change anything.")] = False,
) -> None:
    """Watch all nodes and runs live, full screen: losses, warm-up, verdicts, GPUs, logs. Also bare `giblet`.

    Leaving it touches no run.
    """
    if elsewhere := redirected_stream():
        raise ConfigError(
            f"The dashboard needs a terminal, and {elsewhere} is none.",
            "Leave out the redirection; or giblet ps, giblet status RUN, giblet logs RUN -f",
        )
    which = [nodes.resolve(name) for name in names] if names else list(nodes.known_nodes())
    raise typer.Exit(open_dashboard(which, readonly=readonly))


def open_dashboard(which: Sequence[Node], *, readonly: bool = False) -> int:
    """Run the dashboard over these nodes until it is left; its exit code."""
    set_prompt_handler(None)  # the screen is the dashboard's: no question may appear on it
    unshare()  # a watch holds its connection for itself; what a key starts runs beside it
    known = {snapshot.node: snapshot for snapshot in cache.load().nodes}
    first = (known.get(node.name) or NodeSnapshot(node=node.name, link="connecting") for node in which)
    return run_dashboard(NodeWatchers(which), DashboardActions(), Fleet(nodes=tuple(first)), readonly)


class NodeWatchers:
    """The dashboard's source: a watch on each node, each on a thread of its own."""

    def __init__(self, which: Sequence[Node]) -> None:
        self._nodes = which
        self._watches: list[NodeWatch] = []

    def start(self, post: Callable[[NodeSnapshot], None]) -> None:
        """Begin; `post` is called from the watches' threads."""
        self._watches = [NodeWatch(node, post) for node in self._nodes]
        for watch in self._watches:
            watch.start()

    def close(self) -> None:
        """End all watches."""
        for watch in self._watches:
            watch.stop()


class DashboardActions:
    """What the dashboard's keys may cause: what the verbs do, by the same functions. Each raises GibletError."""

    def stop(self, run_id: str, say: Callable[[str], None]) -> str:
        """Stop a run and prove it."""
        return stop_run(run_id, say)

    def answer(self, run_id: str, snooze_s: float | None) -> str:
        """`giblet alerts RUN --ack` or `--snooze`."""
        return answer_all(run_id, snooze_s)

    def verbs(self, run_id: str | None, node: str | None) -> Sequence[PaletteCommand]:
        """Read from the command line itself."""
        return verbs(run_id, node)

    def output(self, words: Sequence[str]) -> Sequence[str]:
        """As a process of its own: what it prints is all that it can do here."""
        return output(words)

    def argv(self, words: Sequence[str]) -> Sequence[str]:
        """This very giblet."""
        return argv(words)

    def configs(self) -> Sequence[str]:
        """All names."""
        return sorted(catalog.known())

    def changes(self, wish: Wish) -> Sequence[str]:
        """What `giblet launch --dry-run` says of the configuration alone."""
        return config_changes(catalog.read(wish.config, wish.settings))

    def dry_run(self, wish: Wish) -> Sequence[str]:
        """`giblet launch --dry-run`: where it would run and what the command line would be, then what changes."""
        node, request = self._request(wish)
        (plan,) = plan_only([node], request)
        return [*plan.notes, shlex.join(plan.run.argv), *self.changes(wish)]

    def launch(self, wish: Wish, say: Callable[[str], None]) -> str:
        """`giblet launch`; the first step is seen in the dashboard itself."""
        node, request = self._request(wish)
        return run_launch([node], request, say)

    def _request(self, wish: Wish) -> tuple[Node, LaunchRequest]:
        config = catalog.read(wish.config, wish.settings).config
        request = build_request(config, gpus=wish.gpus, note=wish.note, again=False, force=False)
        return nodes.resolve(wish.node), request
