"""Compare runs: differing configuration keys, and the losses at the last epoch that all of them completed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from giblet_train.schema.config import COMPONENTS, Config, diff, flatten, to_mapping
from giblet_train.schema.records import EpochMetric, Number
from giblet_tui.monitor.snapshots import RunSnapshot, nodes_of
from giblet_tui.reporting.formatting import number, verdict
from giblet_tui.reporting.tables import as_yaml, diff_lines, table

KEYS_OF_EVERY_LOSS = ("losses.", "data.", "split.")
KEY_TO_COMPONENT = {
    "fmri_loss_type": "fmri",
    "model.n_voxels": "fmri",
    "model.video_height": "video",
    "model.video_width": "video",
    "model.n_mels": "audio",
    "model.text_dim": "text",
}
MAX_SCALE_RATIO = 2.0
"""Largest ratio of two best-constant losses at which the losses still measure the same quantity."""
IGNORED_KEYS = ("name", "note", "stage", "seed", "resume_from")


@dataclass(frozen=True)
class Comparison:
    """Differences between an old and a new run."""

    old: RunSnapshot
    new: RunSnapshot
    changes: dict[str, tuple[Any, Any]]
    """Key -> (old value, new value) for every key that differs."""
    doubts: dict[str, tuple[str, ...]]
    """Loss that cannot be compared -> keys that make it a different quantity."""
    unread: str = ""
    """Id of the run whose configuration cannot be read; no loss can be compared then."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the losses of both runs, the total first."""
        return parts_of(self.old.config, self.new.config)

    @property
    def epoch(self) -> int:
        """Return the last epoch that both runs completed, or 0."""
        common = {e.epoch for e in self.old.epochs} & {e.epoch for e in self.new.epochs}
        return max(common, default=0)


def parts_of(old: Config | None, new: Config | None) -> tuple[str, ...]:
    """Return the losses of two runs, the total first."""
    components = [c for config in (old, new) for c in (COMPONENTS if config is None else config.components)]
    return ("total", *dict.fromkeys(components))


def compare(old: RunSnapshot, new: RunSnapshot) -> Comparison:
    """Compare two runs by their snapshots; no file is read."""
    if old.config is None or new.config is None:
        unread = (old if old.config is None else new).run.run_id
        return Comparison(old, new, {}, dict.fromkeys(parts_of(old.config, new.config), ("config.yaml",)), unread)
    changes = {key: pair for key, pair in diff(old.config, new.config).items() if key not in IGNORED_KEYS}
    doubts = doubts_of(changes, old.config, new.config)
    for part in parts_of(old.config, new.config):
        if _scales_differ(_best_constant_loss(old, part), _best_constant_loss(new, part)):
            doubts[part] = (*doubts.get(part, ()), "the best constant")
    return Comparison(old, new, changes, doubts)


def _best_constant_loss(run: RunSnapshot, part: str) -> Number:
    """Return the loss of the best constant, as the engine recorded it before the first step."""
    if part == "total":
        return run.plan_record.start_total if run.plan_record else None
    facts = run.data.components.get(part) if run.data else None
    return facts.expected_first_loss if facts else None


def _scales_differ(old: Number, new: Number) -> bool:
    """Return True if two best-constant losses differ too much in scale for the losses to be comparable."""
    return bool(old and new) and not 1 / MAX_SCALE_RATIO < (old or 1.0) / (new or 1.0) < MAX_SCALE_RATIO


def doubts_of(changes: dict[str, tuple[Any, Any]], old: Config, new: Config) -> dict[str, tuple[str, ...]]:
    """Return each loss that the configuration change turns into a different quantity, with the keys that do it."""
    parts = parts_of(old, new)
    changed_keys: dict[str, list[str]] = {part: [] for part in parts}
    for key in changes:
        if key.startswith(KEYS_OF_EVERY_LOSS):
            doubt_parts: tuple[str, ...] = parts
        elif key in KEY_TO_COMPONENT:
            doubt_parts = ("total", KEY_TO_COMPONENT[key])
        elif key.startswith("balance."):
            doubt_parts = ("total",)
        else:
            doubt_parts = ()
        for part in doubt_parts:
            changed_keys[part].append(key)
    if old.component_weights() != new.component_weights():
        changed_keys["total"] += [key for key in changes if key.endswith("_weight")]
    return {part: tuple(keys) for part, keys in changed_keys.items() if keys}


def compare_lines(comparison: Comparison) -> list[str]:
    """Format run names, changed keys, comparability warnings, and the losses at the last common epoch."""
    lines = [f"{role} {_title(run)}" for role, run in (("old", comparison.old), ("new", comparison.new))]
    lines += ["", *change_lines(comparison), *doubt_lines(comparison), ""]
    return [*lines, *figure_lines(comparison)]


def change_lines(comparison: Comparison) -> list[str]:
    """Format one line per changed key, or one sentence if no key changed."""
    if comparison.unread:
        return [f"The configuration of {comparison.unread} was not read: what differs is not known."]
    return [line.strip() for line in diff_lines(comparison.changes)] or ["Their configurations are the same."]


def doubt_lines(comparison: Comparison) -> list[str]:
    """Format a warning for each set of keys that makes losses incomparable."""
    by_keys: dict[tuple[str, ...], list[str]] = {}
    for part, keys in comparison.doubts.items():
        by_keys.setdefault(keys, []).append(part)
    return [f"≠ {', '.join(parts)}: not comparable, for {', '.join(keys)} differs" for keys, parts in by_keys.items()]


def figure_lines(comparison: Comparison) -> list[str]:
    """Format each loss at the last common epoch: training and validation of both runs, and the change."""
    if not comparison.epoch:
        return ["They have no epoch in common yet."]
    old, new = _at(comparison.old, comparison.epoch), _at(comparison.new, comparison.epoch)
    head = (f"EPOCH {comparison.epoch}", "TRAIN OLD", "NEW", "VAL OLD", "NEW", "VAL CHANGE")
    rows = []
    for part in comparison.parts:
        figures = [loss_of(epoch, part, held_out) for held_out in (False, True) for epoch in (old, new)]
        rows.append((part, *map(number, figures), _change(comparison, part, figures[2], figures[3])))
    return table(head, rows).split("\n")


def compare_json(comparison: Comparison) -> dict[str, Any]:
    """Return the object printed by `compare --json`."""
    old, new = (
        (_at(run, comparison.epoch) for run in (comparison.old, comparison.new)) if comparison.epoch else (None, None)
    )
    losses = {
        part: {
            "validation": {"old": loss_of(old, part, True), "new": loss_of(new, part, True)},
            "train": {"old": loss_of(old, part, False), "new": loss_of(new, part, False)},
            "not_comparable_for": list(comparison.doubts.get(part, ())),
        }
        for part in comparison.parts
    }
    return {
        "schema": 1,
        "old": comparison.old.run.run_id,
        "new": comparison.new.run.run_id,
        "changes": {key: {"old": a, "new": b} for key, (a, b) in comparison.changes.items()},
        "epoch": comparison.epoch or None,
        "losses": losses,
    }


def compare_many(runs: Sequence[RunSnapshot]) -> list[Comparison]:
    """Compare each run but the first with the first one."""
    return [compare(runs[0], run) for run in runs[1:]]


def many_lines(runs: Sequence[RunSnapshot]) -> list[str]:
    """Format a column for each of several runs: state, verdict, the keys that differ, and losses at a common epoch.

    Losses that are another quantity in one of the runs have the sign ≠ and a line with the reason.
    """
    comparisons = compare_many(runs)
    epoch = _common_epoch(runs)
    head = ("", *(f"{run.run.name} {run.run.run_id[-4:]}" for run in runs))
    verdicts = [verdict(run) for run in runs]
    rows = [
        ("node", *(",".join(nodes_of(run)) for run in runs)),
        ("state", *(run.health.state for run in runs)),
        ("verdict", *(j.word_for(run.health) if j else "–" for j, run in zip(verdicts, runs, strict=True))),
        ("epochs", *(str(run.epochs[-1].epoch) if run.epochs else "–" for run in runs)),
        *((key, *(_value_of(run, key) for run in runs)) for key in _changed_keys(comparisons)),
    ]
    doubts = {part: keys for comparison in comparisons for part, keys in comparison.doubts.items()}
    for split, held_out in (("training", False), ("validation", True)) if epoch else ():
        for part in dict.fromkeys(part for comparison in comparisons for part in comparison.parts):
            figures = [number(loss_of(_at(run, epoch), part, held_out)) for run in runs]
            rows.append((f"{'≠ ' if part in doubts else ''}{split} {part}", *figures))
    lines = table(head, rows).split("\n")
    lines += [f"losses at epoch {epoch}, the last that all of them completed" if epoch else "no epoch in common yet"]
    reasons = (line for c in comparisons for line in (change_lines(c) if c.unread else doubt_lines(c)))
    return [*lines, *dict.fromkeys(reasons)]


def many_json(runs: Sequence[RunSnapshot]) -> dict[str, Any]:
    """Return the object that `compare --json` prints for more than two runs."""
    comparisons, epoch = compare_many(runs), _common_epoch(runs)
    parts = list(dict.fromkeys(part for comparison in comparisons for part in comparison.parts))
    doubts = {part: list(keys) for comparison in comparisons for part, keys in comparison.doubts.items()}
    return {
        "schema": 1,
        "epoch": epoch or None,
        "not_comparable_for": doubts,
        "runs": [
            {
                "run_id": run.run.run_id,
                "state": run.health.state,
                "values": {key: _raw_value(run, key) for key in _changed_keys(comparisons)},
                "train": {part: loss_of(_at(run, epoch), part, False) for part in parts} if epoch else {},
                "validation": {part: loss_of(_at(run, epoch), part, True) for part in parts} if epoch else {},
            }
            for run in runs
        ],
    }


def _common_epoch(runs: Sequence[RunSnapshot]) -> int:
    """Return the last epoch that all runs completed, or 0."""
    return max(set.intersection(*({epoch.epoch for epoch in run.epochs} for run in runs)), default=0)


def _changed_keys(comparisons: Sequence[Comparison]) -> list[str]:
    return list(dict.fromkeys(key for comparison in comparisons for key in comparison.changes))


def _raw_value(run: RunSnapshot, key: str) -> Any:
    return dict(flatten(to_mapping(run.config))).get(key) if run.config is not None else None


def _value_of(run: RunSnapshot, key: str) -> str:
    return "–" if run.config is None else as_yaml(_raw_value(run, key))


def loss_of(epoch: EpochMetric | None, part: str, held_out: bool) -> Number:
    """Return one loss at the end of an epoch; None if not measured or not finite."""
    side = None if epoch is None else epoch.validation if held_out else epoch.train
    if side is None:
        return None
    return side.total if part == "total" else side.loss.get(part)


def _change(comparison: Comparison, part: str, old: Number, new: Number) -> str:
    if part in comparison.doubts:
        return "≠"
    return f"{new / old - 1:+.1%}" if old and new is not None else "–"


def _at(run: RunSnapshot, epoch: int) -> EpochMetric:
    return next(e for e in reversed(run.epochs) if e.epoch == epoch)


def _title(run: RunSnapshot) -> str:
    note = f": {run.run.note}" if run.run.note else ""
    return f"{run.run.run_id} on {run.run.node}, {run.health.state}{note}"
