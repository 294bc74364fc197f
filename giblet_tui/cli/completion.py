"""Names that the shell offers when the user presses Tab, from files on this machine only.

Every command imports this module for its arguments, so what only a Tab needs is imported in the function.
"""

from __future__ import annotations

from collections.abc import Callable

from giblet_train.schema.errors import GibletError


def config_names(incomplete: str) -> list[str]:
    """Return configurations that can be used by name."""
    from giblet_tui.inventory import configs

    return _matching(incomplete, lambda: list(configs.known()))


def node_names(incomplete: str) -> list[str]:
    """Return known nodes and the hosts of the SSH configuration."""
    from giblet_tui.inventory import nodes
    from giblet_tui.inventory.ssh_hosts import hosts_of

    return _matching(incomplete, lambda: [*(n.name for n in nodes.known_nodes()), *hosts_of(nodes.ssh_config_file())])


def run_ids(incomplete: str) -> list[str]:
    """Return `@last` and the runs in the cache."""
    from giblet_tui.monitor import cache

    return _matching(incomplete, lambda: ["@last", *(run.run.run_id for run in cache.load().runs())])


def nodes_and_runs(incomplete: str) -> list[str]:
    """Return runs and nodes, for arguments where a node may come before the run."""
    return [*run_ids(incomplete), *node_names(incomplete)]


def stage_names(incomplete: str) -> list[str]:
    """Return the stages of the ladder."""
    from giblet_tui.inventory import configs

    return _matching(incomplete, lambda: list(configs.ladder().names))


def fault_names(incomplete: str) -> list[str]:
    """Return the faults that `giblet demo FAULT` can inject."""
    from giblet_train.diagnosis.fault_catalog import FAULTS

    return _matching(incomplete, lambda: list(FAULTS))


def _matching(incomplete: str, names: Callable[[], list[str]]) -> list[str]:
    try:
        return sorted({name for name in names() if name.startswith(incomplete)})
    except GibletError:
        return []
