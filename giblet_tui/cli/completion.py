"""What the shell offers at a tab: names from files of this machine, never from a network."""

from __future__ import annotations

from collections.abc import Callable

from giblet_train.diagnosis.fault_catalog import FAULTS
from giblet_train.schema.errors import GibletError
from giblet_tui.inventory import configs, nodes
from giblet_tui.inventory.ssh_hosts import hosts_of
from giblet_tui.monitor import cache


def config_names(incomplete: str) -> list[str]:
    """Configurations with a name here."""
    return _starting(incomplete, lambda: list(configs.known()))


def node_names(incomplete: str) -> list[str]:
    """Known nodes and the hosts of the ssh config."""
    return _starting(incomplete, lambda: [*(n.name for n in nodes.known_nodes()), *hosts_of(nodes.ssh_config_file())])


def run_ids(incomplete: str) -> list[str]:
    """Runs that were seen from here."""
    return _starting(incomplete, lambda: ["@last", *(run.run.run_id for run in cache.load().runs())])


def nodes_and_runs(incomplete: str) -> list[str]:
    """Nodes, and runs that were seen from here: where a node may come before the run."""
    return [*run_ids(incomplete), *node_names(incomplete)]


def stage_names(incomplete: str) -> list[str]:
    """Stages of the ladder."""
    return _starting(incomplete, lambda: list(configs.ladder().names))


def fault_names(incomplete: str) -> list[str]:
    """Faults that a demo can make."""
    return _starting(incomplete, lambda: list(FAULTS))


def _starting(incomplete: str, names: Callable[[], list[str]]) -> list[str]:
    try:
        return sorted({n for n in names() if n.startswith(incomplete)})
    except GibletError:
        return []
