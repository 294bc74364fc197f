"""Convert a configuration of the lab's older trainer to today's vocabulary, and point out what changes its meaning.

`legacy_config` names keys that were dropped or renamed; here values are converted too, because a batch size or a frame
rate means something else today. Pure except for reading the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from giblet_train.schema import yaml_io
from giblet_train.schema.config import Config
from giblet_train.schema.config_loader import refusal
from giblet_train.schema.config_validation import validate
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.legacy_config import DROPPED, RENAMED, RENDEZVOUS_KEYS, migrate

NAME_LENGTH = 40
MANY_MELS = 128
"""Mel bands above which most bands of a spectrogram of film sound are empty."""
_SOLVED = ("model.use_encodec", *(f"distributed.{key}" for key in RENDEZVOUS_KEYS))
"""Keys that a migration answers by leaving them out, although a loaded file is refused for them."""


class Note(NamedTuple):
    """Something that changed, or that means something else today."""

    line: int | None
    """Line in the old file; None for what has no line there."""
    sentence: str
    """What changed and why."""


class MigratedConfig(NamedTuple):
    """A converted configuration."""

    text: str
    """The new file."""
    config: Config
    """The configuration that it describes."""
    notes: tuple[Note, ...]
    """Changes, in the order of the old file."""


class _Draft(NamedTuple):
    """A conversion under way."""

    old: dict[str, Any]
    """Data of the old file."""
    new: dict[str, Any]
    """Data of the new file, which conversions change."""

    def group(self, name: str) -> dict[str, Any]:
        """Return a group of the new data, created if it is not there."""
        group: dict[str, Any] = self.new.setdefault(name, {})
        return group


def migrate_file(path: Path) -> MigratedConfig:
    """Convert a file. Raises ConfigError that lists every key that cannot be converted, with its line."""
    old, lines = yaml_io.parse_file(path)
    if not _is_old(old):
        raise ConfigError(
            f"{path} has none of the older trainer's keys, so there is nothing to convert.",
            f"giblet config check {path}",
        )
    result = migrate(old)
    notes = [(sentence.split()[0], sentence) for sentence in result.notes]
    draft = _Draft(old, result.value)
    for convert in _CONVERSIONS:
        notes += convert(draft)
    draft.new.setdefault("name", _name_of(path))
    config, problems = validate(draft.new)
    problems = [*(p for p in result.problems if p.key not in _SOLVED), *problems]
    if config is None or problems:
        raise refusal(problems, str(path), {key: f"{path}, line {line}" for key, line in lines.items()})
    notes_by_line = [Note(_line_of(key, lines), sentence) for key, sentence in notes]
    notes_by_line.sort(key=lambda note: (note.line is None, note.line or 0))
    return MigratedConfig(_text_of(path, draft.new, notes_by_line), config, tuple(notes_by_line))


def _is_old(value: dict[str, Any]) -> bool:
    keys = {(name, key) for name, group in value.items() if isinstance(group, dict) for key in group}
    keys |= {("", key) for key in value}
    old = {*DROPPED, *RENAMED, *(("distributed", key) for key in RENDEZVOUS_KEYS)}
    return bool(keys & (old | {("model", "use_encodec"), ("data", "train_split"), ("data", "val_split")}))


def _name_of(path: Path) -> str:
    """Return a valid name from the name of the file."""
    name = re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower().removesuffix("_config")).strip("-_")
    return name[:NAME_LENGTH].rstrip("-_") or "migrated"


def _line_of(key: str, lines: dict[str, int]) -> int | None:
    return lines.get(key) or lines.get(key.rpartition(".")[2])


def _text_of(path: Path, value: dict[str, Any], notes: list[Note]) -> str:
    """Return the new file, which lists the notes as comments."""
    entries = {"extends": "base", "name": value["name"], **{k: v for k, v in value.items() if v not in ({}, None)}}
    comments = [
        f"# {path.name}, line {note.line}: {note.sentence}" if note.line else f"# {note.sentence}" for note in notes
    ]
    head = [f"# Converted from {path.name} by `giblet config migrate`.", *comments]
    return "\n".join(head) + "\n\n" + yaml_io.dump(entries)


Changes = Iterator[tuple[str, str]]


def _batch_size(draft: _Draft) -> Changes:
    n_ranks = draft.group("distributed").get("world_size", 1)
    size = draft.new.get("batch_size")
    if isinstance(size, int) and isinstance(n_ranks, int):
        draft.new["batch_size"] = size * n_ranks
        yield (
            "batch_size",
            f"batch_size {size} was per GPU and now counts the windows of all ranks: {size * n_ranks} for {n_ranks}.",
        )


def _frame_rate(draft: _Draft) -> Changes:
    data = draft.old.get("data")
    fps = data.get("fps") if isinstance(data, dict) else None
    skip = data.get("frame_skip", 1) if isinstance(data, dict) else 1
    if isinstance(fps, (int, float)) and isinstance(skip, int) and skip > 0:
        draft.group("data")["fps"] = fps / skip
        yield (
            "data.fps",
            f"data.fps {fps:g} was the rate of the film and is now that of the frames used: {fps / skip:g} "
            f"(every frame number divisible by {skip}); giblet's default is 2.",
        )


def _derived_sizes(draft: _Draft) -> Changes:
    for key, source in (("n_voxels", "the data and their mask"), ("text_dim", "data.text_model")):
        if draft.group("model").pop(key, None) is not None:
            yield f"model.{key}", f"model.{key} is left out: it follows from {source}, and a wrong value is refused."


def _preset(draft: _Draft) -> Changes:
    if "preset" not in draft.group("model"):
        draft.group("model")["preset"] = "lab"
        yield (
            "model",
            "model.preset is set to lab, the size nearest to the older network; the network itself is another.",
        )


def _audio_target(draft: _Draft) -> Changes:
    model = draft.old.get("model")
    if isinstance(model, dict) and model.get("use_encodec"):
        yield "model.use_encodec", "model.use_encodec is left out: the audio target is a log-mel spectrogram."
    n_mels = draft.group("model").get("n_mels")
    if isinstance(n_mels, int) and n_mels > MANY_MELS:
        draft.group("model")["n_mels"] = MANY_MELS
        yield (
            "model.audio_mels",
            f"model.n_mels {n_mels} is reduced to {MANY_MELS}: more bands are empty at a film's sound.",
        )


def _rendezvous(draft: _Draft) -> Changes:
    section = draft.old.get("distributed")
    for key in RENDEZVOUS_KEYS:
        if isinstance(section, dict) and section.get(key) is not None:
            yield f"distributed.{key}", f"distributed.{key} is left out: giblet chooses address and port at each start."


def _fmri_loss(draft: _Draft) -> Changes:
    kind = draft.new.get("fmri_loss_type", "mse")
    if kind in ("mae", "correlation"):
        draft.group("model")["compress"] = "none"
        yield "fmri_loss_type", f"model.compress is set to none, because fmri_loss_type {kind} needs every voxel."


def _resume(draft: _Draft) -> Changes:
    if draft.new.pop("resume_from", None) is not None:
        yield "resume_from", "resume_from is left out: checkpoints of the older network do not fit."


def _meanings(draft: _Draft) -> Changes:
    if "weight_decay" in draft.new:
        yield "weight_decay", "weight_decay is AdamW's and applies to matrices only."
    if "warmup_epochs" in draft.new:
        yield (
            "warmup_epochs",
            "warmup_epochs is unchanged, but the warm-up now advances with every step, not every epoch.",
        )
    if draft.new.get("use_mixed_precision"):
        yield "use_mixed_precision", "use_mixed_precision uses bf16 without loss scaling, in the trunk only."
    if any(f"{name}_weight" in draft.new for name in ("fmri", "video", "audio", "text")):
        yield (
            "fmri_weight",
            "Weights now apply to losses divided by their training variance (losses.scale: variance), and those of "
            "video, audio and text are relative to one another: losses of older logs cannot be compared.",
        )


_CONVERSIONS: tuple[Callable[[_Draft], Changes], ...] = (
    *(_batch_size, _frame_rate, _derived_sizes, _preset, _audio_target, _rendezvous, _fmri_loss, _resume, _meanings),
)
