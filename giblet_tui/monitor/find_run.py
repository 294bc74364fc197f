"""Which run is meant: a unique beginning of its id, or `@last`; looked for in the cache, then on every node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec.structs import replace

from giblet_train.schema.config import nearest
from giblet_train.schema.errors import ConfigError, GibletError
from giblet_train.schema.health import Health
from giblet_tui.errors import NotLetIn
from giblet_tui.inventory import nodes
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import cache, watch
from giblet_tui.monitor.snapshots import Fleet, LinkState, NodeFacts, NodeSnapshot, RunSnapshot, nodes_of, one_run

LAST = "@last"
SHOWN = 8


def observe(which: Sequence[Node]) -> Fleet:
    """Every node as it is now, looked at all at once: the time of the slowest. What was heard goes into the cache."""
    with ThreadPoolExecutor(max_workers=max(1, len(which))) as pool:
        return Fleet(nodes=tuple(pool.map(_observe, which)))


def matching(runs: Sequence[RunSnapshot], text: str) -> list[RunSnapshot]:
    """The runs that a text may mean, newest first as they come."""
    if text == LAST:
        return list(runs[:1])
    exact = [run for run in runs if run.run.run_id == text]
    return exact or [run for run in runs if run.run.run_id.startswith(text)]


def locate(text: str, say: Callable[[str], None]) -> tuple[Node, str]:
    """The node and the id of the run that a text means.

    say: told of nodes that could not be asked. Raises ConfigError naming the candidates, or the nearest id.
    """
    found = matching(cache.load().runs(), text)
    if len(found) != 1:
        fleet = observe(nodes.known_nodes())
        for snapshot in fleet.nodes:
            if snapshot.link != "live":
                say(f"{snapshot.node} was not asked: {snapshot.link_sentence}")
        found = [single_match(fleet.runs(), text)]
    run = found[0].run
    return nodes.resolve(run.node), run.run_id


def locate_on(node: Node, text: str) -> str:
    """The id of the run of this node that a text means. Raises Unreachable; ConfigError as `only`."""
    return single_match(watch.observe_once(node).runs, text).run.run_id


def single_match(runs: Sequence[RunSnapshot], text: str) -> RunSnapshot:
    """The one run that a text means. Raises ConfigError."""
    found = matching(runs, text)
    if len(found) == 1:
        return found[0]
    if found:
        names = "\n  ".join(run.run.run_id for run in found[:SHOWN])
        raise ConfigError(f"{len(found)} runs begin with {text!r}; write more of one:", names)
    if text == LAST:
        raise ConfigError("There is no run yet.", "Start one: giblet launch NODE CONFIG, or giblet demo")
    hint = nearest(text, [LAST, *(r.run.run_id for r in runs)]) or nearest(text, [r.run.name for r in runs])
    raise ConfigError(f"No run begins with {text!r}{hint or '.'}", "`giblet ps -a` lists every run.")


def fetch_run(node: Node, run_id: str) -> RunSnapshot:
    """The run as it is now, whole. Raises Unreachable; ConfigError when the node does not have it (any more)."""
    return fresh_with_node(node, run_id)[0]


def fresh_with_node(node: Node, run_id: str) -> tuple[RunSnapshot, NodeFacts]:
    """The run as it is now, and its node's facts. Raises as `fresh` does."""
    seen = watch.observe_once(node, [run_id])
    if not seen.runs:
        raise ConfigError(f"{node.name} has no run {run_id}.", "`giblet ps -a` lists every run.")
    run = seen.runs[0]
    others = [name for name in nodes_of(run) if name != run.run.node]
    with ThreadPoolExecutor(max_workers=max(1, len(others))) as pool:
        parts = [part for part in pool.map(lambda name: _part_on(name, run_id), others) if part]
    return one_run([(run.run.node, run), *parts]), seen.facts


def all_nodes(run: RunSnapshot) -> list[Node]:
    """Every node that has a part of a run, the one with its records first."""
    return [nodes.resolve(name) for name in nodes_of(run)]


def _part_on(name: str, run_id: str) -> tuple[str, RunSnapshot] | None:
    """A further node's part of a run; None when it cannot be asked."""
    try:
        runs = watch.observe_once(nodes.resolve(name), [run_id]).runs
    except GibletError:
        return None
    return (name, runs[0]) if runs else None


def _observe(node: Node) -> NodeSnapshot:
    try:
        snapshot = watch.observe_once(node)
    except GibletError as error:  # one node that is late or at fault must not hide the others
        known = next((n for n in cache.load().nodes if n.node == node.name), NodeSnapshot(node=node.name, link="lost"))
        return unreachable_nodes(known, error)
    cache.save(snapshot)
    return snapshot


def unreachable_nodes(known: NodeSnapshot, error: GibletError) -> NodeSnapshot:
    """What was last known of a node that cannot be asked: a run that lived then is unknown now, not dead."""
    since = known.observed_at
    runs = tuple(
        replace(run, health=Health(state="unknown", sentence="its node cannot be asked", since=since))
        if run.health.live
        else run
        for run in known.runs
    )
    link: LinkState = "refused" if isinstance(error, NotLetIn | ConfigError) else "lost"
    return replace(known, link=link, link_sentence=f"{error.message} {error.remedy}".strip(), runs=runs)
