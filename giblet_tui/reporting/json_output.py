"""Convert snapshots to the JSON objects that scripts rely on. Keys are added, never renamed. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from giblet_train.diagnosis.alert_responses import active_alerts, silenced_by
from giblet_train.diagnosis.criteria import Verdict
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot, RunSnapshot
from giblet_tui.reporting import SCHEMA
from giblet_tui.reporting.formatting import lr_planned, verdict
from giblet_tui.reporting.values import values_json


def fleet_json(fleet: Fleet, runs: Sequence[RunSnapshot], now: float) -> dict[str, Any]:
    """Return the object printed by `ps --json`."""
    return {
        "schema": SCHEMA,
        "at": now,
        "nodes": [_node_json(node) for node in fleet.nodes],
        "runs": [run_json(run) for run in runs],
    }


def run_json(run: RunSnapshot) -> dict[str, Any]:
    """Return one run of `ps --json`, which is also the object of `status --json`."""
    run_verdict = verdict(run)
    last = run.steps[-1] if run.steps else None
    last_epoch = run.epochs[-1] if run.epochs else None
    losses = last or (last_epoch.train if last_epoch else None)
    held_out = last_epoch.validation if last_epoch else None
    newest = last or last_epoch or (run.values[-1] if run.values else None)
    return {
        "run_id": run.run.run_id,
        "name": run.run.name,
        "node": run.run.node,
        "owner": run.owner or None,
        "nodes": [msgspec.to_builtins(part) for part in run.parts],
        "state": run.health.state,
        "evidence": run.health.sentence,
        "step": newest.step if newest and (last or not newest.epoch) else None,
        "epoch": newest.epoch if newest and (last or last_epoch or newest.epoch) else None,
        "lr": last.lr if last else (last_epoch.lr or None) if last_epoch else None,
        "lr_planned": lr_planned(run),
        "loss": {"total": losses.total, **losses.loss} if losses else {},
        "validation_loss": {"total": held_out.total, **held_out.loss} if held_out else {},
        "metrics": values_json(run),
        "verdict": run_verdict.status if run_verdict else None,
        "eta_s": run.eta_s,
        "session": run.run.session,
        "multiplexer": run.run.multiplexer,
        "command": list(run.run.command.words) if run.run.command is not None else None,
        "sweep": run.run.sweep.name if run.run.sweep is not None else None,
    }


def verdict_json(run_id: str, run_verdict: Verdict) -> dict[str, Any]:
    """Return the object printed by `verdict --json`."""
    return {
        "schema": SCHEMA,
        "run_id": run_id,
        "verdict": run_verdict.status,
        "criteria": [nan_to_null(msgspec.to_builtins(c)) for c in run_verdict.criteria],
    }


def alerts_json(run: RunSnapshot, now: float) -> dict[str, Any]:
    """Return the object printed by `alerts --json`: active alerts, each with the answer that silences it, or null."""
    active = [
        {**msgspec.to_builtins(alert), "answer": msgspec.to_builtins(silenced_by(alert, run.answers, now))}
        for alert in active_alerts(run.alerts)
    ]
    return {"schema": SCHEMA, "run_id": run.run.run_id, "alerts": [nan_to_null(alert) for alert in active]}


def nan_to_null(value: Any) -> Any:
    """Replace numbers that JSON cannot represent by None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: nan_to_null(v) for k, v in value.items()}
    return [nan_to_null(v) for v in value] if isinstance(value, list) else value


def _node_json(node: NodeSnapshot) -> dict[str, Any]:
    return {
        "node": node.node,
        "reachable": node.link == "live",
        "since": node.observed_at,
        "why": node.link_sentence,
        "clock_skew_s": node.facts.clock_skew_s,
        "gpus": [msgspec.to_builtins(g) for g in node.facts.gpus],
        "sessions": list(node.facts.sessions),
    }
