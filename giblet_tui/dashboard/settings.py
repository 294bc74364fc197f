"""The user's theme and key map: `dashboard.yaml` in giblet's folder of configurations.

theme: giblet-light
keys:
  stop: ctrl+k
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from giblet_train.schema import yaml_io
from giblet_train.schema.config import nearest
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.type_errors import type_error_in_words

FILE = "dashboard.yaml"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file may contain."""

    theme: str = ""
    """Name of a theme of giblet or Textual; giblet-dark if empty."""
    keys: Mapping[str, str] = {}
    """Id of a binding, and the keys that replace its own, separated by commas."""


def settings_path() -> Path:
    """Return `giblet/dashboard.yaml` under `$XDG_CONFIG_HOME` (~/.config)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "giblet" / FILE


def read_settings(path: Path) -> Settings:
    """Return the settings of a file; the defaults if there is none. Raises ConfigError if it cannot be read."""
    if not path.exists():
        return Settings()
    try:
        return msgspec.convert(yaml_io.load_file(path), Settings)
    except msgspec.ValidationError as error:
        remedy = "It has the keys `theme` and `keys`; `keys` maps a name from docs/dashboard.md to a key."
        what, _, place = str(error).partition(" - at `$.")
        key = place.partition("[")[0].strip("`")
        raise ConfigError(f"{path}: {key and key + ': '}{type_error_in_words(what).lower()}.", remedy) from None


def check_theme(name: str, themes: Collection[str]) -> None:
    """Raise ConfigError if there is no theme of this name."""
    if name and name not in themes:
        suggestion = nearest(name, list(themes)) or "."
        raise ConfigError(f"{settings_path()}: there is no theme {name}{suggestion}", f"One of: {', '.join(themes)}")


def check_keys(settings: Settings, binding_ids: frozenset[str]) -> None:
    """Raise ConfigError if the key map names an action that does not exist."""
    unknown = sorted(set(settings.keys) - binding_ids)
    if unknown:
        raise ConfigError(
            f"{settings_path()}: there is no action {', '.join(unknown)}.", f"One of: {', '.join(sorted(binding_ids))}"
        )
