"""Resolve what --resume names: a run, a step of the newest run of a configuration, or a path on the node."""

from __future__ import annotations

from collections.abc import Callable

from giblet_train.schema.errors import ConfigError
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import cache, find_run, watch


def resolve_resume(node: Node, text: str, config_name: str, report: Callable[[str], None]) -> str:
    """Return the value of `resume_from`: a path unchanged, a run's full id, or a checkpoint. Raises ConfigError."""
    if "/" in text:
        return text
    if text.isdecimal():
        return _checkpoint_at(node, int(text), config_name)
    run_node, run_id = find_run.locate(text, report)
    if run_node.name != node.name:
        raise ConfigError(f"{run_id} is on {run_node.name}, not on {node.name}.", f"giblet launch {run_node.name} …")
    run = cache.load().run(run_id)
    if run is not None and run.run.foreign:
        raise ConfigError(f"giblet cannot resume {run_id}: {run.run.foreign}.", "Give your program its own checkpoint.")
    return run_id


def _checkpoint_at(node: Node, step: int, config_name: str) -> str:
    """Return the checkpoint at a step of the newest run of that name that has one. Raises ConfigError."""
    steps: list[int] = []
    for run in watch.observe_once(node).runs:
        if run.run.name == config_name:
            for record in run.checkpoints:
                if record.step == step:
                    return f"{run.run.run_id}/checkpoints/{record.file}"
                steps.append(record.step)
    available = ", ".join(map(str, sorted(set(steps)))) or "none"
    raise ConfigError(
        f"No run of {config_name} on {node.name} has a checkpoint at step {step}.", f"There are: {available}"
    )
