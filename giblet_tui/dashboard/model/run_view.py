"""One run as the panes see it at one moment. Pure.

A view is replaced whole. Its version says whether a pane has to be drawn again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import msgspec

from giblet_train.diagnosis.log_reader.metric_names import rises
from giblet_train.schema.records import EpochMetric, ValuesMetric
from giblet_tui.dashboard.model.judgement import Judgement
from giblet_tui.monitor.metric_columns import Curves, StepColumns
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot, RunSnapshot

Version = tuple[object, ...]
USUAL_METRICS, USUAL_CURVES = 2, 6
CORRELATION = "fMRI r"
"""Name of the correlation with fMRI on the validation block, as a curve."""


@dataclass(frozen=True, eq=False)
class RunView:
    """A run, the node it was observed on, its columns and its judgement."""

    run: RunSnapshot
    node: NodeSnapshot
    curves: Curves
    judgement: Judgement = field(default_factory=Judgement)
    others: tuple[tuple[RunSnapshot, Curves], ...] = ()
    """Marked runs to draw behind it, each with its columns."""
    previous: RunSnapshot | None = None
    """The run of the same name that was launched before it."""
    gpus: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    """Recent utilisation of each GPU of the node, by uuid."""
    version: Version = ()
    """Equal for two views that show the same, except for the log and for what changes by time alone."""

    @cached_property
    def components(self) -> tuple[str, ...]:
        """Return the names of the loss components, in the order of the configuration."""
        return components_of(self.run)

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Return the names of its numbers that are no losses; those that say whether more is better come first."""
        return tuple(sorted(self.curves.values, key=lambda name: rises(name) is None))

    @property
    def curve_names(self) -> tuple[str, ...]:
        """Return the names of all curves: the total, the components, then the numbers that are no losses."""
        return ("total", *self.components, *self.metrics)

    @cached_property
    def usual_curves(self) -> tuple[str, ...]:
        """Return the curves that are shown until others are chosen."""
        if not self.run.values:
            return ("total", *self.components)
        losses = ("total", *self.components) if self.run.steps or self.run.epochs else ()
        return (*losses, *self.metrics[: max(USUAL_METRICS, USUAL_CURVES - len(losses))])


def version_of(run: RunSnapshot, node: NodeSnapshot, judgement: Judgement, others: tuple[RunSnapshot, ...]) -> Version:
    """Return the version of a view. Records are only ever appended, so their counts identify them.

    Args:
        run: The run that is looked at.
        node: The node it was observed on.
        judgement: Its current judgement.
        others: Runs that are drawn with it: marked ones, and those that it resumed.
    """
    return (
        node.link,
        run.health.state,
        judgement.verdict,
        tuple(judgement.causes.values()),
        _record_counts(run),
        tuple(_record_counts(other) for other in others),
    )


def grew_by_steps(old: RunView, new: RunView) -> bool:
    """Return True if the views differ in the steps of their run alone, and the new one has more of them."""

    def but_steps(view: RunView) -> Version:
        counts = _record_counts(view.run)
        word = view.judgement.verdict.word if view.judgement.verdict is not None else ""
        link, state, _, *others = view.version
        return (link, state, word, view.judgement.causes.keys(), counts[0], counts[2:], others[2:])

    return but_steps(old) == but_steps(new) and len(old.run.steps) < len(new.run.steps)


def components_of(run: RunSnapshot) -> tuple[str, ...]:
    """Return the loss components that the run's newest records name, or before any record those of its configuration.

    A study without annotations has no loss of the text, although the configuration gives it a weight.
    """
    records = [step.loss for step in run.steps[-1:]] + [epoch.train.loss for epoch in run.epochs[-1:]]
    components = dict.fromkeys(name for record in records for name in record)
    weights = run.config.component_weights() if run.config is not None else {}
    return tuple(dict.fromkeys([*(name for name in weights if name in components or not components), *components]))


def previous_run(fleet: Fleet, run: RunSnapshot) -> RunSnapshot | None:
    """Return the newest run of the same name that was launched earlier, on any node; None if there is none."""
    earlier = (
        other
        for other in fleet.runs()
        if other.run.name == run.run.name
        and other.run.run_id != run.run.run_id
        and other.run.launched_at <= run.run.launched_at
        and other.config is not None
    )
    return next(earlier, None)


def curves_of(columns: StepColumns, run: RunSnapshot) -> Curves:
    """Return the columns of a run, with the step of its resume; its beginning may be that of a run that it resumed."""
    started_at = min([run.run.launched_at, *(step.at for step in run.steps[:1])])
    curves = columns.curves(run.steps, run.epochs, started_at, run.values or _correlations(run.epochs))
    step = run.plan_record.resumed_from_step if run.plan_record is not None else None
    steps = curves.resumed if step is None or step in curves.resumed else (*curves.resumed, float(step))
    return replace(curves, resumed=steps)


def _correlations(epochs: Sequence[EpochMetric]) -> list[ValuesMetric]:
    """Return the correlations with fMRI as records of a number that is no loss."""
    return [
        ValuesMetric(seq=e.seq, step=e.step, epoch=e.epoch, at=e.at, validation={CORRELATION: e.fmri_r})
        for e in epochs
        if e.fmri_r is not None
    ]


def merge_snapshot(fleet: Fleet, new: NodeSnapshot) -> NodeSnapshot:
    """Return the new snapshot; while nothing was observed yet, what was cached under the new link."""
    last_node = next((n for n in fleet.nodes if n.node == new.node), None)
    if new.observed_at is not None or last_node is None:
        return new
    return msgspec.structs.replace(last_node, link=new.link, link_sentence=new.link_sentence)


def _record_counts(run: RunSnapshot) -> Version:
    records = (run.steps, run.epochs, run.values, run.events, run.alerts, run.answers)
    return (run.run.run_id, *map(len, records), run.plan_record, run.evaluation is None, run.config is None, run.brain)
