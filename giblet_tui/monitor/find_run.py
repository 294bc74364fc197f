"""Find the run that a text names: its name, a prefix of its id, or `@last`; in the cache first, then on every node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from msgspec.structs import replace

from giblet_train.schema.config import nearest
from giblet_train.schema.errors import ConfigError, GibletError
from giblet_train.schema.health import Health
from giblet_tui.errors import NotLetIn, NotYours
from giblet_tui.inventory import nodes
from giblet_tui.inventory.nodes import Node
from giblet_tui.inventory.user import current_user
from giblet_tui.monitor import cache, watch
from giblet_tui.monitor.resumed import whole_run
from giblet_tui.monitor.snapshots import (
    Fleet,
    LinkState,
    NodeFacts,
    NodeSnapshot,
    RunSnapshot,
    nodes_of,
    one_run,
    own_runs,
)

LAST = "@last"
MAX_SHOWN = 8


def observe(nodes_to_observe: Sequence[Node], *, all_users: bool = False) -> Fleet:
    """Observe all nodes at once and cache the result; takes as long as the slowest node.

    all_users: also the runs of other members of each node's `lab:`.
    """
    with ThreadPoolExecutor(max_workers=max(1, len(nodes_to_observe))) as pool:
        return Fleet(nodes=tuple(pool.map(partial(_observe, all_users=all_users), nodes_to_observe)))


def matching(runs: Sequence[RunSnapshot], text: str) -> list[RunSnapshot]:
    """Return the runs that a text may name, in the given order (newest first); a colleague's only if none of ours."""
    if text == LAST:
        return list(own_runs(runs)[:1])
    exact = [run for run in runs if run.run.run_id == text]
    of_that_name = [run for run in runs if run.run.name == text]
    beginning = [run for run in runs if run.run.run_id.startswith(text)]
    return exact or list(own_runs(of_that_name)) or list(own_runs(beginning)) or beginning


def locate(text: str, report: Callable[[str], None], *, all_users: bool = False) -> tuple[Node, str]:
    """Return the node and the id of the run that a text names.

    report: receives the nodes that could not be asked. all_users: a colleague's run may be named, because it is only
    read. Raises ConfigError with the candidates or the nearest id, or if the run is somebody else's.
    """
    if not text:  # every id begins with it
        remedy = "Is a variable of the shell unset? `giblet ps` lists the runs."
        raise ConfigError("The name of the run is empty.", remedy)
    matches = matching(cache.load().runs(), text)
    if len(matches) != 1:
        fleet = observe(nodes.known_nodes(), all_users=True)
        for snapshot in fleet.nodes:
            if snapshot.link != "live":
                report(f"{snapshot.node} was not asked: {snapshot.link_sentence}")
        matches = [single_match(fleet.runs(), text)]
    [node] = matches
    if text == LAST and node.run.launched_by not in ("", current_user()):
        report(f"@last is {node.run.run_id}, launched by {node.run.launched_by}.")
    if node.owner and not all_users:
        raise NotYours(
            f"{node.run.run_id} is a run of {node.owner}; you may read it, not change it.",
            f"Ask {node.owner}. Reading works: giblet status, logs, why, verdict, report, alerts.",
        )
    return nodes.resolve(node.run.node), node.run.run_id


def locate_all(
    names: Sequence[str], report: Callable[[str], None], *, all_users: bool = False
) -> list[tuple[Node, str]]:
    """Return node and id of each run that the texts name, once; the name of a sweep means all its runs.

    Args and errors as for `locate`.
    """
    targets: list[tuple[Node, str]] = []
    for name in dict.fromkeys(names):
        try:
            targets.append(locate(name, report, all_users=all_users))
        except ConfigError:
            members = _runs_of_sweep(name)  # `locate` has just asked all nodes
            if not members:
                raise
            targets += [(nodes.resolve(run.run.node), run.run.run_id) for run in members]
    return list(dict.fromkeys(targets))


def _runs_of_sweep(name: str) -> list[RunSnapshot]:
    return [run for run in own_runs(cache.load().runs()) if run.run.sweep is not None and run.run.sweep.name == name]


def locate_on(node: Node, text: str) -> str:
    """Return the id of the run on this node that a text names. Raises Unreachable; ConfigError as `single_match`."""
    return single_match(watch.observe_once(node).runs, text).run.run_id


def single_match(runs: Sequence[RunSnapshot], text: str) -> RunSnapshot:
    """Return the only run that a text names. Raises ConfigError."""
    matches = matching(runs, text)
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = "\n  ".join(run.run.run_id for run in matches[:MAX_SHOWN])
        raise ConfigError(f"{len(matches)} runs begin with {text!r}; write more of one:", names)
    if text == LAST:
        raise ConfigError("There is no run yet.", "Start one: giblet launch NODE CONFIG, or giblet demo")
    if text in {node.name for node in nodes.known_nodes()}:
        raise ConfigError(f"{text} is a node; a run is expected here.", f"giblet ps -a {text} lists its runs.")
    hint = nearest(text, [LAST, *(r.run.run_id for r in runs)]) or nearest(text, [r.run.name for r in runs])
    raise ConfigError(f"No run begins with {text!r}{hint or '.'}", "`giblet ps -a` lists every run.")


def fetch_run(node: Node, run_id: str) -> RunSnapshot:
    """Return the run as it is now, complete. Raises Unreachable; ConfigError if the node does not have it."""
    return fresh_with_node(node, run_id)[0]


def fresh_with_node(node: Node, run_id: str) -> tuple[RunSnapshot, NodeFacts]:
    """Return the run as it is now, with the runs that it resumed, and its node's facts. Raises as `fetch_run`."""
    snapshot = watch.observe_once(node, [run_id])
    run = next((run for run in snapshot.runs if run.run.run_id == run_id), None)
    if run is None:
        raise ConfigError(f"{node.name} has no run {run_id}.", "`giblet ps -a` lists every run.")
    run = whole_run(run, lambda name: _run_on(node, name))
    others = [name for name in nodes_of(run) if name != run.run.node]
    with ThreadPoolExecutor(max_workers=max(1, len(others))) as pool:
        parts = [part for part in pool.map(lambda name: _part_on(name, run_id), others) if part]
    return one_run([(run.run.node, run), *parts]), snapshot.facts


def all_nodes(run: RunSnapshot) -> list[Node]:
    """Return every node of a run, the one with its records first."""
    return [nodes.resolve(name) for name in nodes_of(run)]


def _run_on(node: Node, run_id: str) -> RunSnapshot | None:
    """Return a run of the node; None if it has none of that id."""
    return next((run for run in watch.observe_once(node, [run_id]).runs if run.run.run_id == run_id), None)


def _part_on(name: str, run_id: str) -> tuple[str, RunSnapshot] | None:
    """Return the run as a further node of it sees it; None if it cannot be asked."""
    try:
        runs = watch.observe_once(nodes.resolve(name), [run_id]).runs
    except GibletError:
        return None
    return (name, runs[0]) if runs else None


def _observe(node: Node, all_users: bool) -> NodeSnapshot:
    try:
        snapshot = watch.observe_once(node, all_users=all_users)
    except GibletError as error:  # one node that is late or at fault must not hide the others
        last_snapshot = next(
            (n for n in cache.load().nodes if n.node == node.name), NodeSnapshot(node=node.name, link="lost")
        )
        return unreachable_nodes(last_snapshot, error)
    cache.save(snapshot)
    return snapshot


def unreachable_nodes(last_snapshot: NodeSnapshot, error: GibletError) -> NodeSnapshot:
    """Return the cached snapshot of an unreachable node: a run that was live then is unknown now, not dead."""
    since = last_snapshot.observed_at
    runs = tuple(
        replace(run, health=Health(state="unknown", sentence="its node cannot be asked", since=since))
        if run.health.live
        else run
        for run in last_snapshot.runs
    )
    link: LinkState = "refused" if isinstance(error, NotLetIn | ConfigError) else "lost"
    return replace(last_snapshot, link=link, link_sentence=f"{error.message} {error.remedy}".strip(), runs=runs)
