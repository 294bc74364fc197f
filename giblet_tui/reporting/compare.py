"""Two runs held side by side: what their configurations differ in, their losses at one epoch, which may be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from giblet_train.schema.config import COMPONENTS, Config, diff
from giblet_train.schema.records import EpochMetric, Number
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting.formatting import diff_lines, number, table

PARTS = ("total", *COMPONENTS)
EVERY_LOSS = ("losses.", "data.", "split.")
ONE_LOSS = {
    "fmri_loss_type": "fmri",
    "model.n_voxels": "fmri",
    "model.video_height": "video",
    "model.video_width": "video",
    "model.n_mels": "audio",
    "model.text_dim": "text",
}
SAME_SCALE = 2.0
ITS_OWN = ("name", "note", "stage", "seed", "resume_from")


@dataclass(frozen=True)
class Comparison:
    """An old run and a new one. changes: every key whose value differs, as old and new.

    doubts: for each loss that cannot be compared, the keys that make it another quantity. Two runs of which one has no
    readable configuration are told apart by nothing: then `unread` names it, and no loss may be compared.
    """

    old: RunSnapshot
    new: RunSnapshot
    changes: dict[str, tuple[Any, Any]]
    doubts: dict[str, tuple[str, ...]]
    unread: str = ""

    @property
    def epoch(self) -> int:
        """The last epoch that both have ended, 0 when there is none."""
        common = {e.epoch for e in self.old.epochs} & {e.epoch for e in self.new.epochs}
        return max(common, default=0)


def compare(old: RunSnapshot, new: RunSnapshot) -> Comparison:
    """Hold two runs side by side; nothing is read anew."""
    if old.config is None or new.config is None:
        unread = (old if old.config is None else new).run.run_id
        return Comparison(old, new, {}, dict.fromkeys(PARTS, ("config.yaml",)), unread)
    changes = {key: pair for key, pair in diff(old.config, new.config).items() if key not in ITS_OWN}
    doubts = doubts_of(changes, old.config, new.config)
    for part in PARTS:
        if _apart(_start(old, part), _start(new, part)):
            doubts[part] = (*doubts.get(part, ()), "the best constant")
    return Comparison(old, new, changes, doubts)


def _start(run: RunSnapshot, part: str) -> Number:
    """What the best constant costs in this loss, as the engine said before the first step."""
    if part == "total":
        return run.plan_record.start_total if run.plan_record else None
    facts = run.data.components.get(part) if run.data else None
    return facts.expected_first_loss if facts else None


def _apart(old: Number, new: Number) -> bool:
    """Are two constants of other scales, so that the losses are other quantities whatever the configurations say?"""
    return bool(old and new) and not 1 / SAME_SCALE < (old or 1.0) / (new or 1.0) < SAME_SCALE


def doubts_of(changes: dict[str, tuple[Any, Any]], old: Config, new: Config) -> dict[str, tuple[str, ...]]:
    """The losses that another configuration makes into another quantity, each with the keys that do so."""
    found: dict[str, list[str]] = {part: [] for part in PARTS}
    for key in changes:
        if key.startswith(EVERY_LOSS):
            touched: tuple[str, ...] = PARTS
        elif key in ONE_LOSS:
            touched = ("total", ONE_LOSS[key])
        elif key.startswith("balance."):
            touched = ("total",)
        else:
            touched = ()
        for part in touched:
            found[part].append(key)
    if old.component_weights() != new.component_weights():
        found["total"] += [key for key in changes if key.endswith("_weight")]
    return {part: tuple(keys) for part, keys in found.items() if keys}


def compare_lines(seen: Comparison) -> list[str]:
    """Names, changed keys, a warning where losses are not comparable, and the losses at the last common epoch."""
    lines = [f"{role} {_title(run)}" for role, run in (("old", seen.old), ("new", seen.new))]
    lines += ["", *change_lines(seen), *doubt_lines(seen), ""]
    return [*lines, *figure_lines(seen)]


def change_lines(seen: Comparison) -> list[str]:
    """A line for each changed key; one sentence where there is none."""
    if seen.unread:
        return [f"The configuration of {seen.unread} was not read: what differs is not known."]
    return [one.strip() for one in diff_lines(seen.changes)] or ["The configurations ask for the same."]


def doubt_lines(seen: Comparison) -> list[str]:
    """A warning for each set of keys that makes losses into other quantities."""
    by_keys: dict[tuple[str, ...], list[str]] = {}
    for part, keys in seen.doubts.items():
        by_keys.setdefault(keys, []).append(part)
    return [f"≠ {', '.join(parts)}: not comparable, for {', '.join(keys)} differs" for keys, parts in by_keys.items()]


def figure_lines(seen: Comparison) -> list[str]:
    """Each loss at the last epoch that both have ended, validation beside training, and the new one's change."""
    if not seen.epoch:
        return ["They have no epoch in common yet."]
    old, new = _at(seen.old, seen.epoch), _at(seen.new, seen.epoch)
    head = (f"EPOCH {seen.epoch}", "TRAIN OLD", "NEW", "VALIDATION OLD", "NEW", "CHANGE")
    rows = []
    for part in PARTS:
        figures = [loss_of(epoch, part, held_out) for held_out in (False, True) for epoch in (old, new)]
        rows.append((part, *map(number, figures), _change(seen, part, figures[2], figures[3])))
    return table(head, rows).split("\n")


def compare_json(seen: Comparison) -> dict[str, Any]:
    """`compare --json`: a loss that may not be compared has no change."""
    old, new = (_at(run, seen.epoch) for run in (seen.old, seen.new)) if seen.epoch else (None, None)
    losses = {
        part: {
            "validation": {"old": loss_of(old, part, True), "new": loss_of(new, part, True)},
            "train": {"old": loss_of(old, part, False), "new": loss_of(new, part, False)},
            "not_comparable_for": list(seen.doubts.get(part, ())),
        }
        for part in PARTS
    }
    return {
        "schema": 1,
        "old": seen.old.run.run_id,
        "new": seen.new.run.run_id,
        "changes": {key: {"old": a, "new": b} for key, (a, b) in seen.changes.items()},
        "epoch": seen.epoch or None,
        "losses": losses,
    }


def loss_of(epoch: EpochMetric | None, part: str, held_out: bool) -> Number:
    """One loss at an epoch's end, None where it was not measured or not finite."""
    side = None if epoch is None else epoch.validation if held_out else epoch.train
    if side is None:
        return None
    return side.total if part == "total" else side.loss.get(part)


def _change(seen: Comparison, part: str, old: Number, new: Number) -> str:
    if part in seen.doubts:
        return "≠"
    return f"{new / old - 1:+.1%}" if old and new is not None else "–"


def _at(run: RunSnapshot, epoch: int) -> EpochMetric:
    return next(e for e in reversed(run.epochs) if e.epoch == epoch)


def _title(run: RunSnapshot) -> str:
    note = f": {run.run.note}" if run.run.note else ""
    return f"{run.run.run_id} on {run.run.node}, {run.health.state}{note}"
