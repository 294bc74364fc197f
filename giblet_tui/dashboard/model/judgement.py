"""Judge runs on the threads of the source: the verdict once per epoch, the causes of alerts every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from giblet_train.diagnosis.alert_responses import active_alerts
from giblet_train.diagnosis.criteria import Verdict, verdict_of
from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.rules.case import Finding
from giblet_tui.monitor.snapshots import NodeSnapshot, RunSnapshot

CAUSES_EVERY_S = 5.0


@dataclass(frozen=True)
class Judgement:
    """What the rules say about a run now."""

    verdict: Verdict | None = None
    """None if the run has no criteria."""
    causes: Mapping[str, Finding] = field(default_factory=dict)
    """The causes that the records show now, by name; looked for only while an alert is active."""


class JudgementCache:
    """Judges the runs of a node; safe to call from the threads of several nodes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._verdicts: dict[str, tuple[object, Verdict]] = {}
        self._causes: dict[str, tuple[object, float, Mapping[str, Finding]]] = {}
        self._lock = threading.Lock()
        # The rules read all steps of a run, of which a long watch holds only the newest in memory: one run at a time.
        self._judging = threading.Lock()

    def judgements(self, node: NodeSnapshot) -> dict[str, Judgement]:
        """Return the judgement of every run whose records are on this node, by run id."""
        return {
            run.run.run_id: Judgement(self._verdict(run), self._current_causes(run))
            for run in node.runs
            if not run.run.node_rank
        }

    def _verdict(self, run: RunSnapshot) -> Verdict | None:
        if run.config is None or not run.config.criteria:
            return None
        broken = bool(run.steps) and run.steps[-1].total is None
        key = (len(run.epochs), bool(run.steps), run.health.state, run.evaluation is not None, broken)
        with self._lock:
            entry = self._verdicts.get(run.run.run_id)
        if entry is not None and entry[0] == key:
            return entry[1]
        with self._judging:
            verdict = verdict_of(run.config, run.metrics, run.health)
        with self._lock:
            self._verdicts[run.run.run_id] = (key, verdict)
        return verdict

    def _current_causes(self, run: RunSnapshot) -> Mapping[str, Finding]:
        if not run.health.live or not active_alerts(run.alerts):
            return {}
        key = (len(run.steps), len(run.epochs), len(run.alerts), run.health.state)
        now = self._clock()
        with self._lock:
            entry = self._causes.get(run.run.run_id)
        if entry is not None and (entry[0] == key or now - entry[1] < CAUSES_EVERY_S):
            return entry[2]
        with self._judging:
            diagnosis = diagnose(run.config, run.metrics, health=run.health, log_tail=run.log_tail)
        causes: Mapping[str, Finding] = {finding.cause: finding for finding in diagnosis.causes}
        with self._lock:
            self._causes[run.run.run_id] = (key, now, causes)
        return causes
