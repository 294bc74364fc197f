"""Load configurations: `extends`, `--set` overrides, older keys, and one refusal that lists everything wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from giblet_train.schema import legacy_config, yaml_io
from giblet_train.schema.config import NAME_PATTERN, Config, flatten, nearest, set_dotted
from giblet_train.schema.config_validation import validate
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.feature_spaces import Problem

BASE = "base"
"""Configuration that spells out the defaults."""
SETTING = "--set"
"""Source of a key that was given on the command line."""


class Loaded(msgspec.Struct, frozen=True):
    """A configuration, and what a person should know about how it was read."""

    config: Config
    """The resolved configuration."""
    notes: tuple[str, ...] = ()
    """One sentence for each key that was changed or dropped."""
    provenance: dict[str, str] = {}
    """Dotted key -> name of the file that sets it, or `--set`."""


class _Sources(msgspec.Struct):
    """Where each key of merged data comes from."""

    files: dict[str, str] = {}
    """Dotted key -> name of its file, or `--set`."""
    places: dict[str, str] = {}
    """Dotted key -> its file and line, or `--set`, for error messages."""


def load(path: Path, overrides: Mapping[str, Any] | None = None, folders: Sequence[Path] = ()) -> Loaded:
    """Read a configuration file, with what it extends and overrides on top.

    Args:
        path: a YAML file; `extends: lab` reads lab.yaml next to it, else in the first of `folders` that has it.
        overrides: dotted key -> value, as from `--set`.
        folders: where to look for the file that is extended.

    Raises ConfigError that lists every problem with its file and line.
    """
    value, sources = _read_chain(path, (), folders)
    value.setdefault("name", path.stem)
    for key, item in (overrides or {}).items():
        set_dotted(value, key, item)
        sources.files[key] = sources.places[key] = SETTING
    return _resolve(value, str(path), sources)


def from_mapping(value: Mapping[str, Any], where: str = "the configuration") -> Loaded:
    """Return a configuration from plain data, checked as a file would be. Raises ConfigError."""
    return _resolve(_copied(value), where, _Sources())


def read_resolved(path: Path) -> Config:
    """Return the configuration in a run directory's `config.yaml`. Raises ConfigError."""
    return _resolve(yaml_io.load_file(path), str(path), _Sources()).config


def refusal(problems: Sequence[Problem], where: str, places: Mapping[str, str]) -> ConfigError:
    """Return the error for one or several problems.

    Args:
        problems: at least one.
        where: name of the configuration.
        places: dotted key -> file and line.
    """
    problems_by_place = [(_place(problem.key, where, places), problem) for problem in problems]
    if len(problems) == 1:
        return ConfigError(f"{problems_by_place[0][0]}: {problems[0].sentence}", problems[0].remedy)
    problems_by_place.sort(key=lambda item: int(item[0].rpartition(", line ")[2]) if ", line " in item[0] else 0)
    lines = [f"{place}: {problem.sentence} {problem.remedy}".rstrip() for place, problem in problems_by_place]
    return ConfigError(f"{where} has {len(problems)} problems.", "\n  ".join(lines))


def _place(key: str, where: str, places: Mapping[str, str]) -> str:
    """Return where a key, or else the group that it belongs to, was written."""
    setting = next((k for k, place in places.items() if place == SETTING and f"{k}.".startswith(f"{key}.")), None)
    if setting is not None and key:
        return SETTING
    parts = re.sub(r"\[\d+\]$", "", key).split(".")
    candidates = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((places[candidate] for candidate in candidates if candidate in places), where)


def _read_chain(path: Path, children: tuple[Path, ...], folders: Sequence[Path]) -> tuple[dict[str, Any], _Sources]:
    """Return a file's data on top of what it extends. children: files that extend this one."""
    if path in children:
        names = " → ".join(p.name for p in children)
        raise ConfigError(f"{path} extends itself by way of {names}.", "Remove `extends` from one of them.")
    value, lines = yaml_io.parse_file(path)
    parent = value.pop("extends", None)
    own = _Sources(
        files={key: path.name for key, _ in flatten(value)},
        places={key: f"{path}, line {line}" for key, line in lines.items()},
    )
    if parent is None:
        return value, own
    parent_path = _parent_path(path, parent, folders)
    if parent_path is None:
        return value, own
    base, base_value = _read_chain(parent_path, (*children, path), folders)
    return _merge(base, value), _Sources(base_value.files | own.files, base_value.places | own.places)


def _parent_path(path: Path, parent: Any, folders: Sequence[Path]) -> Path | None:
    """Return the file that `extends: parent` names; None for `base` without a file, which spells out the defaults.

    Raises ConfigError.
    """
    if not isinstance(parent, str) or not re.fullmatch(NAME_PATTERN, parent):
        raise ConfigError(
            f"{path}: `extends: {parent}` is not the name of a configuration.",
            "Give a name without folder and .yaml, such as `extends: base`; the file's own folder is searched first.",
        )
    candidates = [folder / f"{parent}.yaml" for folder in (path.parent, *folders)]
    parent_path = next((p for p in candidates if p.exists()), None)
    if parent_path is None:
        if parent == BASE:
            return None
        names = sorted({BASE, *(p.stem for folder in (path.parent, *folders) for p in folder.glob("*.yaml"))})
        hint = nearest(parent, names) or "."
        raise ConfigError(
            f'{path}: extends "{parent}", which does not exist{hint}',
            f"Put {parent}.yaml next to it, or remove `extends`.",
        )
    return parent_path


def _resolve(value: dict[str, Any], where: str, sources: _Sources) -> Loaded:
    migration = legacy_config.migrate(value)
    config, problems = validate(migration.value)
    if config is None or migration.problems:
        raise refusal([*migration.problems, *problems], where, sources.places)
    return Loaded(config, migration.notes, sources.files)


def _merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in top.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merge(result[key], value) if both and key != "criteria" else value
    return result


def _copied(value: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in value.items()}
