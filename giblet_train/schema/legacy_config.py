"""The lab's older configuration files: each key honoured, migrated, or refused, with a sentence each."""

from __future__ import annotations

import re
from typing import Any

from giblet_train.schema.errors import ConfigError

_PATHS = "a run writes only into its own run directory, <workdir>/runs/<run_id>/"
_RAM = "the data are memory-mapped and shared by all ranks, so there are no loader workers"
_AUDIO = "the audio target is a log-mel spectrogram; its size follows from model.n_mels and data.tr"

# (section, key) -> why the key is gone. What it asked for is met in another way, or was never read.
_DROPPED = {
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
_RENAMED = {("model", "decoder_dropout"): "dropout", ("model", "audio_mels"): "n_mels"}
_FREE = ("master_addr", "master_port")


def migrate(value: dict[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """The mapping in today's vocabulary, and one sentence for each thing that was changed.

    Raises ConfigError where a key asks for something that giblet does not do.
    """
    notes: list[str] = []
    result = {k: dict(v) if isinstance(v, dict) else v for k, v in value.items()}
    sections = {"": result} | {k: v for k, v in result.items() if isinstance(v, dict)}
    for name, section in sections.items():
        _drop_and_rename(name, section, notes)
    _distributed(sections.get("distributed", {}), where)
    _model(sections.get("model", {}), where)
    _splits(result, notes)
    data = sections.get("data", {})
    if "subjects" in data:
        data["subjects"] = _subjects(data["subjects"], where, notes)
    return result, notes


def _drop_and_rename(name: str, section: dict[str, Any], notes: list[str]) -> None:
    prefix = f"{name}." if name else ""
    for key in list(section):
        if (name, key) in _DROPPED:
            section.pop(key)
            notes.append(f"{prefix}{key} is not used: {_DROPPED[name, key]}.")
        elif (name, key) in _RENAMED:
            new = _RENAMED[name, key]
            section.setdefault(new, section[key])
            section.pop(key)
            notes.append(f"{prefix}{key} is now {prefix}{new}.")


def _distributed(section: dict[str, Any], where: str) -> None:
    for key in _FREE:
        if section.pop(key, None) is not None:
            raise ConfigError(
                f'{where}: "distributed.{key}" may only be null.',
                "giblet chooses a free rendezvous port at start, so that two runs never share one.",
            )


def _model(section: dict[str, Any], where: str) -> None:
    if section.pop("use_encodec", False):
        raise ConfigError(
            f'{where}: "model.use_encodec: true" needs EnCodec weights, which no package carries.',
            "Remove the key: the audio target is then a log-mel spectrogram.",
        )


def _splits(result: dict[str, Any], notes: list[str]) -> None:
    data = result.get("data")
    if not isinstance(data, dict):
        return
    dropped = [key for key in ("train_split", "val_split") if data.pop(key, None) is not None]
    if dropped:
        notes.append(
            f"data.{' and data.'.join(dropped)} gave way to contiguous blocks with gaps: see split.n_folds and "
            "split.validation_trs."
        )


def _subjects(value: Any, where: str, notes: list[str]) -> Any:
    """`all`, `3`, `1-17`, `[1-5, 9]` and `[1-17]` as people write them -> "all" or a list of numbers."""
    if value == "all":
        return value
    items = value if isinstance(value, list) else [value]
    numbers: list[int] = []
    for item in items:
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", str(item)) if not isinstance(item, bool) else None
        if found is None or int(found[2] or found[1]) < int(found[1]):
            raise ConfigError(
                f'{where}: "data.subjects" has {item!r}.', "Write all, 3, 1-17, or a list such as [1-5, 9]."
            )
        numbers.extend(range(int(found[1]), int(found[2] or found[1]) + 1))
    if len(set(numbers)) != len(numbers):
        raise ConfigError(f'{where}: "data.subjects" names a subject twice.')
    if numbers != value:
        notes.append(f"data.subjects {value!r} is read as {numbers}.")
    return numbers
