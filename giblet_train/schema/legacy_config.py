"""Read the lab's older configuration files: every key is honoured, migrated or refused with a sentence. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from giblet_train.schema.feature_spaces import Problem

_PATHS = "a run writes only into its own run directory, <workdir>/runs/<run_id>/"
_RAM = "the data are memory-mapped and shared by all ranks, so there are no loader workers"
_AUDIO = "the audio target is a log-mel spectrogram; its size follows from model.n_mels and data.tr"

DROPPED = {
    ("", "checkpoint_dir"): _PATHS,
    ("", "log_dir"): _PATHS,
    ("", "num_workers"): _RAM,
    ("", "pin_memory"): _RAM,
    ("data", "frame_skip"): "frames are taken by absolute time; data.fps says how many a second",
    ("data", "max_trs"): "split.usable_trs limits the TRs used",
    ("model", "video_features"): "modality widths follow from model.preset",
    ("model", "audio_features"): "modality widths follow from model.preset",
    ("model", "text_features"): "modality widths follow from model.preset",
    ("model", "decoder_hidden_dim"): "decoder widths follow from model.preset",
    ("model", "audio_frames_per_tr"): _AUDIO,
    ("model", "gradient_checkpointing"): "activations take less than 200 MB at the lab preset",
    ("distributed", "enabled"): "a run is distributed exactly when distributed.world_size is above 1",
}
"""(section, key) -> why the key no longer exists: what it asked for is met in another way, or was never read."""
RENAMED = {("model", "decoder_dropout"): "dropout", ("model", "audio_mels"): "n_mels"}
RENDEZVOUS_KEYS = ("master_addr", "master_port")


class Migration(NamedTuple):
    """An older configuration in today's vocabulary."""

    value: dict[str, Any]
    """The data; a key with a problem is left out."""
    notes: tuple[str, ...]
    """One sentence for each key that was dropped, renamed or read in a special way."""
    problems: tuple[Problem, ...]
    """Keys that ask for something that giblet does not do."""


def migrate(value: Mapping[str, Any]) -> Migration:
    """Return the data in today's vocabulary, what was changed, and what cannot be honoured."""
    notes: list[str] = []
    result = {k: dict(v) if isinstance(v, Mapping) else v for k, v in value.items()}
    sections = {"": result} | {k: v for k, v in result.items() if isinstance(v, dict)}
    for name, section in sections.items():
        _drop_and_rename(name, section, notes)
    _drop_splits(sections.get("data", {}), notes)
    problems = [*_distributed(sections.get("distributed", {})), *_model(sections.get("model", {}))]
    problems += _subjects(sections.get("data", {}), notes)
    return Migration(result, tuple(notes), tuple(problems))


def _drop_and_rename(name: str, section: dict[str, Any], notes: list[str]) -> None:
    prefix = f"{name}." if name else ""
    for key in list(section):
        if (name, key) in DROPPED:
            section.pop(key)
            notes.append(f"{prefix}{key} is not used: {DROPPED[name, key]}.")
        elif (name, key) in RENAMED:
            new_key = RENAMED[name, key]
            section.setdefault(new_key, section[key])
            section.pop(key)
            notes.append(f"{prefix}{key} is now {prefix}{new_key}.")


def _distributed(section: dict[str, Any]) -> Iterator[Problem]:
    for key in RENDEZVOUS_KEYS:
        if section.pop(key, None) is not None:
            yield Problem(
                f"distributed.{key}",
                f'"distributed.{key}" may only be null.',
                "giblet chooses a free rendezvous port at start, so that two runs never share one.",
            )


def _model(section: dict[str, Any]) -> Iterator[Problem]:
    if section.pop("use_encodec", False):
        yield Problem(
            "model.use_encodec",
            '"model.use_encodec: true" needs EnCodec weights, which no package carries.',
            "Remove the key: the audio target is then a log-mel spectrogram.",
        )


def _drop_splits(data: dict[str, Any], notes: list[str]) -> None:
    removed_keys = [key for key in ("train_split", "val_split") if data.pop(key, None) is not None]
    if removed_keys:
        notes.append(
            f"data.{' and data.'.join(removed_keys)} gave way to contiguous blocks with gaps: see split.n_folds and "
            "split.validation_trs."
        )


def _subjects(data: dict[str, Any], notes: list[str]) -> Iterator[Problem]:
    """Replace `3`, `1-17`, `[1-5, 9]` and `[1-17]` as people write them by a list of numbers; `all` stays."""
    value = data.get("subjects", "all")
    if value == "all":
        return
    numbers: list[int | str] = []
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str) and re.fullmatch(r"(sub-)?[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*", item):
            numbers.append(item.removeprefix("sub-"))
            continue
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", str(item)) if not isinstance(item, bool) else None
        if match is None or int(match[2] or match[1]) < int(match[1]):
            del data["subjects"]
            remedy = "Write all, 3, 1-17, a list such as [1-5, 9], or labels such as [sid000005]."
            yield Problem("data.subjects", f'"data.subjects" has {item!r}.', remedy)
            return
        numbers.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    data["subjects"] = numbers
    if len(set(numbers)) != len(numbers):
        yield Problem("data.subjects", '"data.subjects" names a subject twice.')
    if numbers != value:
        notes.append(f"data.subjects {value!r} is read as {numbers}.")
