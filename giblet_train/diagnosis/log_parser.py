"""The lab's older logs, and giblet's own train.log, as metrics: epoch lines among progress bars, colours and noise.

    Epoch 3/500 | Train Loss: 275941.2031 | Val Loss: 198234.1016 | fMRI Corr: 0.0012 | LR: 1.00e-05

Validation parts may be absent. giblet's own lines go on with each component's loss.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from giblet_train.schema import yaml_io
from giblet_train.schema.config import COMPONENTS, Config
from giblet_train.schema.config_loader import from_mapping
from giblet_train.schema.errors import DataError
from giblet_train.schema.records import EpochMetric, Number, SplitLoss

MAX_BYTES = 1024**3
TAIL_LINES = 200
MAX_LINE = 4000

ESCAPE = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])"
"""What colours and moves the cursor, and is no text."""

_NUMBER = r"([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf))"
EPOCH_LINE = (
    rf"Epoch\s+(\d+)/(\d+)\s*\|\s*Train Loss:\s*{_NUMBER}"
    rf"(?:\s*\|\s*Val Loss:\s*{_NUMBER})?(?:\s*\|\s*fMRI Corr:\s*{_NUMBER})?(?:\s*\|\s*LR:\s*{_NUMBER})?(.*)"
)
"""Epoch, of how many, train loss, validation loss, r, rate, the rest: found whatever the case. Nodes read by it too."""
_EPOCH = re.compile(EPOCH_LINE, re.IGNORECASE)
_ESCAPE = re.compile(ESCAPE)
_COMPONENT = re.compile(rf"\b({'|'.join(COMPONENTS)})\s+{_NUMBER}", re.IGNORECASE)
_BAR = re.compile(r"\d+%\|.*\|\s*(\d+)/(\d+)\s*\[")

_KEPT = (
    *("num_epochs", "learning_rate", "min_lr", "warmup_epochs", "scheduler_type", "gradient_clip_val"),
    *("fmri_weight", "reconstruction_weight", "video_weight", "audio_weight", "text_weight"),
)
"""What a log can be held against, of a configuration that giblet would not train on."""


class LegacyLog(msgspec.Struct, frozen=True, kw_only=True):
    """What a log shows. `step` of its metrics counts epochs. tail: what it printed after its last epoch line.

    n_epochs: as its lines say. steps_per_epoch: as its progress bars say. notes: what was odd, and what
    cannot be known.
    """

    metrics: tuple[EpochMetric, ...]
    n_epochs: int
    steps_per_epoch: int | None
    tail: tuple[str, ...]
    notes: tuple[str, ...]


def read_log(path: Path) -> LegacyLog:
    """A log file. Raises DataError when it cannot be read, or holds no epoch line and no error."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has more than 1 GiB.", "Cut its end off: tail -c 1G LOG > END")
        with path.open("rb") as file:
            log = parse(raw.decode("utf-8", "replace") for raw in file)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if not log.metrics and not log.tail:
        raise DataError(f"{path} is empty.", "Name a log that a training wrote.")
    return log


def parse(lines: Iterable[str]) -> LegacyLog:
    """The metrics in a log's lines. An epoch that is written again (after a restart) replaces its first writing."""
    epochs: dict[int, EpochMetric] = {}
    tail: list[str] = []
    n_epochs, steps, again = 0, None, False
    for line in lines:
        for piece in re.split(r"[\r\n]+", line):
            text = _ESCAPE.sub("", piece).rstrip()[:MAX_LINE]
            found = _EPOCH.search(text)
            if found:
                epoch = int(found[1])
                again = again or epoch in epochs
                epochs = {e: m for e, m in epochs.items() if e < epoch} | {epoch: _metric(epoch, found)}
                n_epochs, tail = int(found[2]), []
            elif bar := _BAR.search(text):
                steps = int(bar[2])
            elif text.strip():
                tail = [*tail[-TAIL_LINES + 1 :], text]
    notes = ["It was restarted: epochs written twice count as last written."] if again else []
    metrics = tuple(epochs.values())
    return LegacyLog(
        metrics=metrics,
        n_epochs=n_epochs,
        steps_per_epoch=steps,
        tail=tuple(tail),
        notes=(*notes, *unavailable_from_log(metrics)),
    )


def unavailable_from_log(metrics: Sequence[EpochMetric]) -> list[str]:
    """What cannot be known of a training whose log shows these epochs, as sentences."""
    if not metrics:
        return ["It has no epoch line: only its end can be read."]
    missing = []
    if not any(m.train.loss for m in metrics):
        missing.append("the components' losses (which one dominates, on what scale)")
    if not any(m.validation for m in metrics):
        missing.append("validation (overfitting, leaks)")
    if not any(m.lr for m in metrics):
        missing.append("the learning rate")
    missing.append("gradients, the seconds of a step, memory")
    return [f"A log cannot show {'; '.join(missing)}."]


def read_plan(mapping: Mapping[str, Any], name: str, where: str) -> Config:
    """The plan in a configuration that giblet cannot train on (other data, other model), to hold its log against.

    Raises ConfigError when not even the plan makes sense.
    """
    return from_mapping({"name": name} | {key: mapping[key] for key in _KEPT if key in mapping}, where).config


def read_plan_file(path: Path) -> Config:
    """`read_plan` of a file, whatever its name. Raises ConfigError."""
    return read_plan(yaml_io.load_file(path), "legacy", str(path))


def _metric(epoch: int, found: re.Match[str]) -> EpochMetric:
    train, held, r, lr, rest = (found[i] for i in range(3, 8))
    components: dict[str, Number] = {c.lower(): _number(v) for c, v in _COMPONENT.findall(rest or "")}
    return EpochMetric(
        seq=epoch,
        step=epoch,
        epoch=epoch,
        at=0.0,
        lr=_number(lr) or 0.0,
        train=SplitLoss(total=_number(train), loss=components),
        validation=SplitLoss(total=_number(held), loss={}) if held is not None else None,
        fmri_r=_number(r),
    )


def _number(text: str | None) -> Number:
    value = float(text) if text is not None else math.nan
    return value if math.isfinite(value) else None
